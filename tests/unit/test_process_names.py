"""A process may call itself anything, bytes that are no UTF-8 and line ends too: whoever reads /proc copes with all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.lab import machines, processes
from orchestrator.operations import preflight_facts
from orchestrator.processes import token

# prctl(15) is PR_SET_NAME (linux:include/uapi/linux/prctl.h).
_CHILD = r"""
import ctypes, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
ctypes.CDLL(None).prctl(15, b"x) Z 1\n\xff")
print("named", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def child() -> Iterator[int]:
    """A process that listens and calls itself what no text is."""
    argv = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        yield process.pid
        process.communicate()


def test_the_lab_finds_its_parent_and_that_it_lives(child: int) -> None:
    assert processes.parent(child) == os.getpid()
    assert processes.alive(child)


def test_the_lab_finds_its_number_inside(child: int) -> None:
    assert machines._namespaced_pid(child) == child


def test_the_lock_tells_it_from_a_later_one(child: int) -> None:
    assert token(child).count(":") == 1


def test_preflight_names_it_as_the_owner_of_its_port(child: int) -> None:
    assert (child, "x) Z 1\n\ufffd") in preflight_facts.socket_owners().values()


def test_a_process_that_ends_while_it_is_looked_for_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # Larger than any that the kernel gives (linux:include/linux/threads.h, PID_MAX_LIMIT).
    monkeypatch.setattr(processes, "ids", lambda: [2**22 + 1])
    assert list(processes.command_lines()) == []
    assert machines._members("town") == []
    assert processes.parent(2**22 + 1) == 0
