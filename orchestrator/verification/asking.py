"""How a check asks a host: all its independent commands at once."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, cast

import testinfra.host
from testinfra.backend.base import CommandResult

from orchestrator.verification.batch import BatchBackend


def ask(host: testinfra.host.Host, *commands: str) -> list[CommandResult]:
    """Run commands whose texts do not depend on each other's answers; one round trip where the backend can."""
    if isinstance(host.backend, BatchBackend):
        host.backend.ask(*commands)
    return [host.run(command) for command in commands]


def probe(name: str, job: Mapping[str, Any]) -> str:
    """Return the command that runs a probe at the vantage point (`ask(outside, ...)`); it prints JSON facts."""
    return f'python3 "$RATSSAAL_PROBES" {name} {shlex.quote(json.dumps(job, sort_keys=True))}'


def answer(host: testinfra.host.Host, command: str) -> str:
    """Return what a command printed; a failing one is an error of the check, not an empty answer."""
    (result,) = ask(host, command)
    return text(result)


def text(result: CommandResult) -> str:
    """Return what a command printed; raises RuntimeError where it failed."""
    if result.rc != 0:
        raise RuntimeError(f"`{result.command.decode()[:80]}` ended with {result.rc}: {result.stderr.strip()[:200]}")
    return cast(str, result.stdout)


def json_of(result: CommandResult) -> Any:
    """Return a command's answer as decoded JSON."""
    return json.loads(text(result))
