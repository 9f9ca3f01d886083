"""README's ten lines, as they stand there, by somebody who has a machine and a name."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.lab.lab import LabSite
from orchestrator.lab.rootfs import SUDO_USER
from tests.scenarios.conftest import BIN, ROOT, in_room, ssh

# The two values, and what cannot be fetched here: the lab's stand-ins in place of Jitsi's own packages.
EDITOR = """\
#!/bin/sh -e
case $1 in
*/hosts.yml) sed -i 's/ansible_host: ""/ansible_host: {address}/' "$1" ;;
*) sed -i 's/^jitsi_domain: ""/jitsi_domain: {domain}/' "$1"; cat "{repository}" >>"$1" ;;
esac
"""
# Keys of their own in an agent, a home of their own, and a name that the resolver knows.
EVENING = """\
set -e
mount --bind {folder}/hosts /etc/hosts
eval "$(ssh-agent)" >&2; trap 'ssh-agent -k >&2' EXIT
ssh-add -q {key}
{lines}
"""
PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "xterm", "SHELL": "/bin/bash"}


def _ten_lines() -> list[str]:
    (block,) = re.findall(
        r"^## A real server in ten lines\n\n```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.S | re.M
    )
    return str(block).splitlines()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short name, as people have: sockets of SSH lie below it."""
    with tempfile.TemporaryDirectory(prefix="home") as folder:
        yield Path(folder)


def test_ten_lines_make_a_server(lab_site: LabSite, home: Path) -> None:
    host, lines = lab_site.hosts[0], _ten_lines()
    assert len(lines) == 10
    # A hoster's machine is opened by its root alone.
    ssh(lab_site, f"rm /etc/sudoers.d/{SUDO_USER} && userdel --remove {SUDO_USER} 2>&1")
    (home / ".venv").symlink_to(BIN.parent)
    given = (lab_site.path / "group_vars/all/site.yml").read_text()
    repository = "".join(re.findall(r"^(?:vendor_repository_\w+|ratssaal_lab): .*\n", given, re.MULTILINE))
    (home / "repository").write_text(repository)
    (home / "hosts").write_text(f"127.0.0.1 localhost\n{host.address} {lab_site.domain} turn.{lab_site.domain}\n")
    editor = home / "editor"
    editor.write_text(EDITOR.format(address=host.address, domain=lab_site.domain, repository=home / "repository"))
    editor.chmod(0o755)
    script = EVENING.format(folder=home, key=lab_site.key_file, lines="\n".join(lines))
    done = subprocess.run(
        # A terminal, since nobody else can say yes to the host's key.
        ["unshare", "--mount", "script", "--quiet", "--return", "--command", script, "/dev/null"],
        input="y\n",
        cwd=home,
        env={**PLAIN, "HOME": str(home), "EDITOR": str(editor)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    for said in ("undecided: ", "let in, everything else is dropped:", "jitsi-videobridge2", "STAND-INS"):
        assert said in screen
    (password,) = re.findall(r"shown this once:\s+(\S+)\s", screen)
    told = in_room(lab_site, ["anna request"], accounts={"anna": password})
    assert told["anna request"][0]["ready"] is True
