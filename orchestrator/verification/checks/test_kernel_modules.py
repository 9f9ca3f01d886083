"""Kernel modules that nobody here needs: whether modprobe would load them when a device, a mount or a socket asks for one."""

from __future__ import annotations

import re

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, text
from orchestrator.verification.sheet import Sheet

PROTOCOLS = ("dccp", "rds", "sctp", "tipc")
DEVICES = ("firewire-ohci", "firewire-core", "uas", "usb-storage")
FILE_SYSTEMS = ("cramfs", "freevxfs", "hfs", "hfsplus", "jffs2", "udf")
# modprobe's own answer, by all its files; -b has it keep to blacklists, as the kernel and udev have it do (modprobe(8)).
_QUESTION = (
    "PATH=$PATH:/usr/sbin:/sbin; read -r kind 2>/dev/null </run/systemd/container; echo ${{kind:-none}}; "
    "command -v modprobe || echo missing; for each in {}; do echo == $each; modprobe -D -b $each 2>/dev/null; done; true"
)
_NOTHING = re.compile(r"install (?:/usr)?(?:/bin/)?(?:true|false|:)\s*")


@pytest.mark.control("NET-09")
def test_protocols(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Network protocols that anybody's program gets loaded by asking for a socket."""
    _judge(host, PROTOCOLS, sheet)


@pytest.mark.control("OS-11")
def test_devices_and_file_systems(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Disks that somebody plugs in, what reads memory by a cable, and file systems that the kernel would parse."""
    _judge(host, (*DEVICES, *FILE_SYSTEMS), sheet)


def _judge(host: testinfra.host.Host, names: tuple[str, ...], sheet: Sheet) -> None:
    (shown,) = ask(host, _QUESTION.format(" ".join(names)))
    head, *answers = text(shown).split("== ")
    container, program = head.split()
    if container == "none" or program != "missing":
        if program == "missing":
            raise RuntimeError("there is no modprobe to ask")
        loaded = [name for name, answer in zip(names, answers, strict=True) if _loads(name, answer)]
        told = f"modprobe loads {', '.join(loaded) or 'none of ' + ', '.join(names)}"
        sheet.expect(not loaded, told, "kept out by a file of /etc/modprobe.d")
    if container != "none":
        sheet.could_not_look(f"which modules are loaded belongs to the machine below this container ({container})")


def _loads(name: str, answer: str) -> bool:
    """Say whether modprobe would load a module: itself, by a command of somebody's, or because the kernel has it built in."""
    file = re.compile(rf"insmod \S*/{name.replace('-', '[-_]')}\.ko\b")
    lines = answer.splitlines()[1:]
    commands = (line for line in lines if line.startswith("install "))
    return any(file.match(line) or line.startswith("builtin ") for line in lines) or not all(
        _NOTHING.fullmatch(line) for line in commands
    )
