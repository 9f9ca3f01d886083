"""README's ten lines, as they stand there, by somebody who has a machine and a name, and works from a bare Debian 13.

The other tests work from this machine, and `make setup` has run there before them.
"""

from __future__ import annotations

import os
import re
import shlex
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabHost, LabSite
from orchestrator.lab.rootfs import SUDO_USER
from tests.scenarios.conftest import BIN, ROOT, in_room, ssh, throwaway

# The two values, and what cannot be fetched here: the lab's stand-ins in place of Jitsi's own packages.
EDITOR = """\
#!/bin/sh -e
case $1 in
*/hosts.yml) sed -i 's/ansible_host: ""/ansible_host: {address}/' "$1" ;;
*) sed -i 's/^jitsi_domain: ""/jitsi_domain: {domain}/' "$1"; cat "{repository}" >>"$1" ;;
esac
"""
# Keys of their own in an agent, and a name that the resolver knows; a terminal, since nobody else can say yes to a key.
EVENING = """\
set -e
cd {checkout}
export HOME={home} TERM=xterm
echo '{address} {domain} turn.{domain}' >> /etc/hosts
eval "$(ssh-agent)" >&2; trap 'ssh-agent -k >&2' EXIT
ssh-add -q {home}/key
{lines}
"""
HOME, CHECKOUT = "/home/anna", "/home/anna/ratssaal"
# A Debian 13 as its installer leaves it, and what README asks for.
INSTALL = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends"
SETTINGS_OF_PIP = ("index-url", "extra-index-url", "proxy", "trusted-host", "timeout", "default-timeout")


class ControlNode:
    """Somebody's own machine: a lab host of its own on which nothing of ours has been."""

    def __init__(self, site: LabSite, host: LabHost) -> None:
        self._argv = ["ssh", "-i", str(site.key_file), "-o", f"UserKnownHostsFile={site.known_hosts}"]
        self._argv += ["-o", "BatchMode=yes", f"root@{host.address}"]

    def run(self, command: str, given: bytes = b"") -> str:
        """Run a shell command there and return what it printed; it must end well."""
        done = subprocess.run([*self._argv, command], input=given, capture_output=True, timeout=900, check=False)
        told = done.stdout.decode(errors="replace")
        assert done.returncode == 0, told + done.stderr.decode(errors="replace")
        return told

    def write(self, path: str, content: bytes) -> None:
        """Write a file there, and the directories above it."""
        self.run(f"mkdir -p {shlex.quote(str(Path(path).parent))} && umask 077 && cat >{shlex.quote(path)}", content)


def _ten_lines() -> list[str]:
    (block,) = re.findall(
        r"^## A real server in ten lines\n\n```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M
    )
    return str(block).splitlines()


def _pip() -> tuple[bytes, bytes]:
    """Return this machine's way to the registry of Python packages: a configuration of pip's, and whom it trusts."""
    rows = subprocess.run([BIN / "pip", "config", "list"], capture_output=True, text=True, check=True, timeout=60)
    parted = (row.partition("=") for row in rows.stdout.splitlines())
    known = {key.rpartition(".")[2]: value.strip("'") for key, _, value in parted}
    trusted = Path(known.get("cert") or ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    lines = [f"{key} = {known[key]}" for key in SETTINGS_OF_PIP if key in known]
    return "\n".join(["[global]", "cert = /etc/pip-trusts.crt", *lines, ""]).encode(), trusted.read_bytes()


@pytest.fixture(scope="module")
def town() -> Iterator[LabSite]:
    """A hoster's machine, and a second one to work from."""
    with throwaway(f"evening{os.getpid()}", hosts=2) as site:
        yield site


@pytest.fixture(scope="module")
def control_node(town: LabSite) -> ControlNode:
    """A Debian 13 with git and make and a clone, whose `make` has installed the rest."""
    node = ControlNode(town, town.hosts[1])
    settings, trusted = _pip()
    node.write("/etc/pip.conf", settings)
    node.write("/etc/pip-trusts.crt", trusted)
    node.run(f"{INSTALL} git make >&2")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    argv = ["tar", "-cz", "--null", "--verbatim-files-from", "-T", "-"]
    packed = subprocess.run(argv, cwd=ROOT, input=files, capture_output=True, check=True, timeout=60).stdout
    node.run(f"mkdir -p {CHECKOUT} && tar -xz -C {CHECKOUT}", packed)
    node.run(f"make -C {CHECKOUT} setup")
    return node


def test_the_newer_ansible_has_nothing_against_the_playbooks(control_node: ControlNode) -> None:
    """The control node that is recommended has another Ansible than the machine on which all else is tested."""
    told = control_node.run(
        f"cd {CHECKOUT} && export PATH=$PWD/.venv/bin:$PATH && ansible --version | head -n1 && ansible-lint --offline -q && "
        "for each in playbooks/*.yml; do ansible-playbook -i inventories/example-jitsi-single/hosts.yml --syntax-check $each; "
        "done 2>&1"
    )
    assert "[core 2.21." in told
    assert "WARNING" not in told
    assert told.count("playbook: playbooks/") == len(list((ROOT / "playbooks").glob("*.yml")))


def test_ten_lines_make_a_server(town: LabSite, control_node: ControlNode) -> None:
    host, lines = town.hosts[0], _ten_lines()
    assert len(lines) == 10
    # A hoster's machine is opened by its root alone.
    ssh(town, f"rm /etc/sudoers.d/{SUDO_USER} && userdel --remove {SUDO_USER} 2>&1")
    given = (town.path / "group_vars/all/site.yml").read_text()
    repository = "".join(re.findall(r"^(?:vendor_repository_\w+|ratssaal_lab): .*\n", given, re.MULTILINE))
    (key,) = re.findall(r"^vendor_repository_key: (.*)$", repository, re.MULTILINE)
    control_node.write(key, Path(key).read_bytes())
    control_node.write(f"{HOME}/key", town.key_file.read_bytes())
    control_node.write(f"{HOME}/repository", repository.encode())
    editor = EDITOR.format(address=host.address, domain=town.domain, repository=f"{HOME}/repository")
    control_node.write("/usr/local/bin/editor", editor.encode())
    evening = EVENING.format(
        checkout=CHECKOUT, home=HOME, address=host.address, domain=town.domain, lines="\n".join(lines)
    )
    control_node.write(f"{HOME}/evening", evening.encode())
    told = control_node.run(
        f"chmod +x /usr/local/bin/editor; script --quiet --return --command 'bash {HOME}/evening' /dev/null", b"y\n"
    )
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told)
    for said in ("undecided: ", "let in, everything else is dropped:", "jitsi-videobridge2", "STAND-INS"):
        assert said in screen
    (password,) = re.findall(r"shown this once:\s+(\S+)\s", screen)
    entered = in_room(town, ["anna request"], accounts={"anna": password})
    assert entered["anna request"][0]["ready"] is True
