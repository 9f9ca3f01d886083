"""A check, asked of a host that answers what a test says."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.verification.batch import Answers, BatchBackend
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

SETTINGS = {"jitsi_domain": "meet.example.org", "jitsi_local_recording": False}
GROUPS = ["jitsi_signalling", "jitsi_bridges", "turn_servers"]
# An answer that somebody gave, and for how long it holds.
HELD = {"who": "the IT department", "why": "ticket 17", "until": "2999-12-31"}
TOPOLOGY = {
    "hosts": {"h1": {"address": "192.0.2.10", "address6": "", "groups": GROUPS, "ssh_port": 22}},
    "settings": SETTINGS,
}
Said = Mapping[str, str | tuple[int, str]]
"""The beginning of a command to what it prints, or to its exit code and what it says of its fault."""


def subject_of(*, user: str = "", **settings: Any) -> Subject:
    """Return the one host of a site with these settings; it is of all groups."""
    topology = {**TOPOLOGY, "settings": {**SETTINGS, **settings}}
    return Subject("h1", "192.0.2.10", "", tuple(GROUPS), topology, user)


class FakeHost:
    """A host that answers the commands that begin as given; any other question is an error of the test."""

    def __init__(self, said: Said) -> None:
        def ship(commands: list[str]) -> Answers:
            return {command: self._answer(command) for command in commands}

        self._said = said
        self.backend = BatchBackend("h1", ship)
        self.run = self.backend.run

    def _answer(self, command: str) -> tuple[int, bytes, bytes]:
        said = next(text for beginning, text in self._said.items() if command.startswith(beginning))
        code, text = said if isinstance(said, tuple) else (0, said)
        return code, text.encode() if code == 0 else b"", text.encode() if code else b""


def sheet_of(check: Callable[..., None], said: Said, **given: Any) -> Sheet:
    """Return what a check found."""
    sheet = Sheet()
    check(host=FakeHost(said), sheet=sheet, **given)
    return sheet


def printed(command: str, folder: Path | None = None, **programs: str) -> str:
    """Return what a check's command itself prints here, with programs of a test's own, which are put into a folder."""
    path = os.environ["PATH"]
    if folder is not None:
        folder.mkdir(exist_ok=True)
        path = f"{folder}:{path}"
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env={"PATH": path})
    return done.stdout


def set_acl(path: Path, *, user: tuple[int, int], mask: int) -> None:
    """Give a user (number and permissions) an entry in a file's ACL (Linux: posix_acl_xattr.h); owner and group have rw- and r--."""
    entries = ((0x01, 6, 0xFFFFFFFF), (0x02, user[1], user[0]), (0x04, 4, 0xFFFFFFFF), (0x10, mask, 0xFFFFFFFF))
    packed = b"".join(struct.pack("<HHI", *entry) for entry in (*entries, (0x20, 0, 0xFFFFFFFF)))
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


def faults_of(sheet: Sheet) -> str:
    """Return what a check found wrong, in one line."""
    return "; ".join(seen for seen, _ in sheet.faults)


def further_sshd(**further: Any) -> dict[str, str]:
    """Return what sshd's arguments and conditional settings are on an ordinary host, or otherwise as given."""
    ordinary: dict[str, Any] = {"conditional": [], "arguments": "sshd: /usr/sbin/sshd -D", "later": ""}
    asked = "python3 - <<'END'\nimport glob, json, os, re, subprocess\nos.makedirs"
    return {asked: json.dumps({**ordinary, **further})}
