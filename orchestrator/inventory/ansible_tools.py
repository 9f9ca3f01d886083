"""The one place below the engine that starts Ansible's own tools: `ansible-inventory` and `ansible-vault`.

They read and encrypt, they touch no host. Playbooks are started by `orchestrator/engine/ansible.py` only; it lies above
the inventory in the order of imports, so these two cannot stand there. Neither a password nor a secret is ever an
argument: passwords go by file, contents by standard input and output.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator import content

_TIMEOUT_SECONDS = 120


class ToolFailed(Exception):
    """One of Ansible's tools ended with an error; `str()` is its own message on one line."""


def tool_path(name: str) -> str:
    """Return the path of one of Ansible's programs: beside this Python first, then on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise ToolFailed(f"{name} is not installed beside {sys.executable} nor on PATH")
    return found


def inventory_list(hosts_file: Path, vault_arguments: Sequence[str]) -> dict[str, Any]:
    """Return what Ansible makes of the inventory: groups, and every variable of every host by its precedence."""
    output = _run([tool_path("ansible-inventory"), "-i", str(hosts_file.resolve()), "--list", *vault_arguments])
    parsed: dict[str, Any] = json.loads(output)
    return parsed


def vault_decrypt(path: Path, vault_arguments: Sequence[str]) -> str:
    """Return the plain text of an encrypted file; it is never written to disk."""
    return _run([tool_path("ansible-vault"), "decrypt", "--output", "-", *vault_arguments, str(path.resolve())])


def vault_encrypt(text: str, vault_arguments: Sequence[str]) -> str:
    """Return the encrypted form of a text."""
    return _run([tool_path("ansible-vault"), "encrypt", "--output", "-", *vault_arguments, "-"], text)


def environment() -> dict[str, str]:
    """Return the environment of every program of Ansible that we start.

    The operator's goes on, since a password file may be a program that asks a password store: its session, GnuPG's agent or
    the desktop's bus stand there, under names that we cannot know. What sets up Ansible or Python does not.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHON"))}
    return kept | {
        "ANSIBLE_CONFIG": str(content.root() / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        # ansible-core refuses to start when the locale is not UTF-8.
        "LC_ALL": "C.UTF-8",
    }


def _run(arguments: list[str], text: str | None = None) -> str:
    try:
        result = subprocess.run(
            arguments,
            input=text if text is not None else "",
            capture_output=True,
            # Whatever the caller's locale is: the tools run under one of UTF-8.
            encoding="utf-8",
            env=environment(),
            cwd=content.root(),
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"{Path(arguments[0]).name} did not answer within {_TIMEOUT_SECONDS} s") from error
    except UnicodeDecodeError as error:
        raise ToolFailed(f"what {Path(arguments[0]).name} answers is not UTF-8") from error
    if result.returncode != 0:
        raise ToolFailed(_message(result.stderr) or f"{Path(arguments[0]).name} ended with {result.returncode}")
    return result.stdout


def _message(stderr: str) -> str:
    """Return the error of one of Ansible's tools without its decoration."""
    match = re.search(r"\[?ERROR\]?!?:?\s*(.*)", stderr, re.DOTALL)
    return " ".join((match.group(1) if match else stderr).split())[:600]
