"""What several checks ask at the vantage point is asked once, whatever becomes of it."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import Problem, Unreachable
from orchestrator.inventory.vantagepoint import VantagePoint, parse
from orchestrator.verification.batch import Answers
from orchestrator.verification.shipping import Vantage


class Counting(Vantage):
    """A vantage point that takes a moment and counts; a command called "broken" breaks the way there."""

    def __init__(self, point: VantagePoint) -> None:
        super().__init__(point, "", Path("/nowhere"), {})
        self.asked: list[str] = []
        self._count = threading.Lock()

    def _ask(self, commands: list[str]) -> Answers:
        with self._count:
            self.asked += commands
        time.sleep(0.1)
        if "broken" in commands:
            raise OSError("no way there")
        return {command: (0, command.encode(), b"") for command in commands}


def test_a_question_of_several_checks_is_asked_once() -> None:
    vantage = Counting(parse(""))
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(vantage.ship, [["talk", "a"], ["talk"], ["b", "talk", "talk"], ["a"]]))
    assert sorted(vantage.asked) == ["a", "b", "talk"]
    assert [sorted(answers) for answers in told] == [["a", "talk"], ["talk"], ["b", "talk"], ["a"]]
    assert told[1]["talk"] == (0, b"talk", b"")


def test_a_failure_is_told_to_everybody_who_asked() -> None:
    vantage = Counting(parse(""))

    def ask(commands: list[str]) -> str:
        with pytest.raises(OSError, match="no way there") as caught:
            vantage.ship(commands)
        return str(caught.value)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, [["broken"], ["broken"]])) == ["no way there"] * 2
    assert vantage.asked == ["broken"]


def test_a_vantage_point_that_hangs_costs_its_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vantage = Vantage(VantagePoint("local"), "", Path(), {})
    asked: list[int] = []

    def hang() -> str:
        asked.append(1)
        raise Unreachable([Problem("it hangs")])

    monkeypatch.setattr(vantage, "_bring", hang)
    for command in ("one", "two"):
        with pytest.raises(Unreachable, match="it hangs"):
            vantage.ship([command])
    assert len(asked) == 1


def test_a_vantage_point_that_cannot_be_used_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise OSError("no setpriv")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(Unreachable, match="cannot be used: no setpriv") as caught:
        Vantage(VantagePoint("local"), "", Path(), {})._run("", 1)
    assert "verification_vantage" in caught.value.problems[0].hint


def test_the_control_nodes_own_python_looks_not_the_first_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A version manager's shim may be there, which is slow, or has no version to start."""
    shim = tmp_path / "python3"
    shim.write_text("#!/bin/sh\necho 'no version is set' >&2; exit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    vantage = Vantage(VantagePoint("local"), "", Path(), {})
    try:
        (told,) = vantage.ship(["python3 -c 'import sys; print(sys.prefix)'"]).values()
    finally:
        vantage.close()
    assert told == (0, f"{sys.prefix}\n".encode(), b"")
