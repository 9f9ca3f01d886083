"""Asking a web server at a certain address for a file or a list of files, and judging what it answers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from testinfra.backend.base import CommandResult

from orchestrator.verification.asking import text
from orchestrator.verification.sheet import Sheet


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server can be asked: by which name, over which of the host's addresses."""

    scheme: str
    name: str
    port: int
    address: str

    @property
    def base(self) -> str:
        """Return the beginning of each of its addresses; the port that goes without saying is left out."""
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{self.name}{'' if self.port == usual else f':{self.port}'}"

    @property
    def curl(self) -> str:
        """Return the command that asks here; whose certificate it is, other controls look at."""
        return f"curl -sk -m 8 --noproxy '*' --resolve {shlex.quote(f'{self.name}:{self.port}:{self.address}')}"


def fetch(door: Door, path: str, file: str) -> str:
    """Return a command that tells the status, whither it is sent on, and whether the body begins as the file does."""
    quoted = shlex.quote(door.base + path)
    return (
        f"{door.curl} -o /dev/null -w '%{{http_code}}|%{{redirect_url}}|' {quoted}; "
        f'if [ "$({door.curl} -r 0-63 {quoted} | head -c 64 | cksum)" = "$(head -c 64 {shlex.quote(file)} | cksum)" ]; '
        "then echo same; else echo other; fi"
    )


def judge_fetched(door: Door, path: str, result: CommandResult, sheet: Sheet, *, what: str, wanted: str) -> None:
    """Note whether a file was handed out. Who gave no answer, was too busy, or sent us elsewhere has not been asked."""
    where, asked = f"{door.base}{path}", f"asked on {door.address}"
    code, target, body = text(result).strip().split("|")
    if code == "000":
        sheet.could_not_look(f"{where} does not answer, {asked}")
    elif code == "429" or code.startswith("5"):
        sheet.could_not_look(f"{where} answers {code}, {asked}")
    elif code.startswith("3") and _same(door, path, target):
        sheet.expect(True, f"{where} sends on to HTTPS", wanted)
    elif code.startswith("3"):
        sheet.could_not_look(f"{where} answers {code}: whether a login follows was not tried")
    else:
        open_ = code.startswith("2") and body == "same"
        sheet.expect(not open_, f"{where} answers {code}{f' with {what}' if open_ else ''}, {asked}", wanted)


def _same(door: Door, path: str, target: str) -> bool:
    """Say whether one is sent on to the same address by HTTPS, where it is asked for, too."""
    return door.scheme == "http" and target.replace(":443/", "/") == f"https://{door.name}{path}"


def listing(door: Door, path: str) -> str:
    """Return a command that shows what a directory answers, from its status on."""
    return f"{door.curl} -i {shlex.quote(door.base + path)} | head -c 100000; true"


def listed(door: Door, path: str, result: CommandResult, sheet: Sheet) -> str:
    """Return what a directory showed, "" where it did not answer, which is noted."""
    shown = text(result)
    if not shown.startswith("HTTP/"):
        sheet.could_not_look(f"{door.base}{path} does not answer, asked on {door.address}")
        return ""
    return shown
