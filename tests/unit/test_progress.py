"""What a person sees of a run while it goes: from the events that Ansible's callback wrote to the lines on the terminal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli import progress
from orchestrator.cli.progress import LookProgress, Phases, RunProgress
from orchestrator.engine import executor, journal
from orchestrator.engine.events import EventReader
from orchestrator.engine.executor import _Recorder
from orchestrator.engine.plan import Plan, Step
from orchestrator.evidence.results import Finding, Result

PLAN = Plan("provision", "town", tuple(Step(name, "site.yml", ("h1", "h2"), ()) for name in ("Base system", "Web")))
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Run:
    """A run whose events are written one by one and read as the executor reads them."""

    def __init__(self, folder: Path, *, terminal: bool, check: bool = False, width: int = 100) -> None:
        self.screen = io.StringIO()
        console = Console(file=self.screen, force_terminal=terminal, width=width, color_system=None, highlight=False)
        self.progress = RunProgress(check=check, console=console)
        self._events = folder / "events"
        self._reader = EventReader(self._events)
        self._recorder = _Recorder(PLAN, journal.Journal("town", "provision"), self.progress)

    def tell(self, event: str, **fields: Any) -> None:
        """Write one event as the callback does, and let it be read."""
        with self._events.open("a") as handle:
            handle.write(json.dumps({"event": event, "at": 1.0, **fields}) + "\n")
        for found in self._reader.read():
            self._recorder(found)

    def result(self, task: str, status: str, host: str = "h1", **fields: Any) -> None:
        """Write how a task ended at a host."""
        self.tell("result", task=task, host=host, status=status, seconds=0.1, **fields)

    def end(self) -> None:
        """End the step that runs, as the executor does at the end."""
        self._recorder.end_step()

    def drawn(self) -> str:
        """Return what the terminal is told to draw now, without colours and movements."""
        self.screen.truncate(0)
        self.screen.seek(0)
        self.progress._live.refresh()
        return _CODES.sub("", self.screen.getvalue())


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds that pass only when the test says so."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm")
    now = SimpleNamespace(seconds=100.0)
    ticking = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr(executor, "time", ticking)
    monkeypatch.setattr(progress, "time", ticking)
    return now


@pytest.mark.usefixtures("clock")
def test_without_a_terminal_each_step_is_one_plain_line(tmp_path: Path, clock: SimpleNamespace) -> None:
    run = Run(tmp_path, terminal=False)
    with run.progress:
        run.tell("play", name="Base system")
        run.tell("task", name="base : Packages and time")
        run.result("base : Packages and time", "changed", changes=["install chrony", "/etc/chrony/chrony.conf"])
        run.result("base : Packages and time", "ok", host="h2")
        assert run.screen.getvalue() == ""
        clock.seconds += 12.3
        run.tell("play", name="Web")
        run.result("web : Web server", "ok")
        clock.seconds += 1
        run.tell("stats", hosts={"h1": {"ok": 2}})
        run.end()
    assert run.screen.getvalue().splitlines() == [
        "  [1/2] Base system            2 changed                 12.3 s",
        "  [2/2] Web                    nothing to do              1.0 s",
    ]


@pytest.mark.usefixtures("clock")
def test_a_look_says_what_would_change(tmp_path: Path) -> None:
    run = Run(tmp_path, terminal=False, check=True)
    with run.progress:
        run.tell("play", name="Base system")
        run.result("base : Packages", "changed")
        run.end()
    assert "1 would change" in run.screen.getvalue()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("status", ["failed", "unreachable"])
def test_a_failure_is_told_at_once_and_its_step_is_no_success(tmp_path: Path, terminal: bool, status: str) -> None:
    run = Run(tmp_path, terminal=terminal)
    with run.progress:
        run.tell("play", name="Base system")
        run.result("base : Packages", status, host="h2", message="no room")
        assert f"  {status} h2: base : Packages\n" in _CODES.sub("", run.screen.getvalue())
        run.end()
        run.tell("play", name="Web")
        run.result("web : Web server", "ok")
        run.end()
    *_, base, web = [
        line for line in _CODES.sub("", run.screen.getvalue()).splitlines() if "/2]" in line and " s" in line
    ]
    assert ("failed" in base, "nothing to do" in base) == (True, False)
    assert ("failed" in web, "nothing to do" in web) == (False, True)


@pytest.mark.usefixtures("clock")
def test_what_a_task_may_fail_at_is_not_told(tmp_path: Path) -> None:
    run = Run(tmp_path, terminal=False)
    with run.progress:
        run.tell("play", name="Base system")
        run.result("base : Packages", "ignored")
        run.result("base : Packages", "skipped")
    assert run.screen.getvalue() == ""


@pytest.mark.usefixtures("clock")
def test_names_are_shown_as_they_are_however_long(tmp_path: Path) -> None:
    name = f"base : [red]Packages[/] :smile: of {'many ' * 30}hosts"
    run = Run(tmp_path, terminal=False, width=80)
    with run.progress:
        run.tell("play", name="Base [system]")
        run.result(name, "failed")
        run.end()
    failed, step = run.screen.getvalue().splitlines()
    assert failed == f"  failed h1: {name}"
    assert step.startswith("  [1/2] Base [system] ")


@pytest.mark.usefixtures("clock")
def test_on_a_terminal_the_task_that_runs_now_is_seen_and_gone_at_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path, terminal=True)
    with run.progress:
        assert " connecting 0:00:0" in run.drawn()
        run.tell("play", name="Base system")
        assert " [1/2] Base system 0:00:0" in run.drawn()
        run.tell("task", name="base : Packages [and] time")
        assert " [1/2] Base system: Packages [and] time 0:00:0" in run.drawn()
        run.tell("task", name="web : Validating arguments against arg spec main")
        assert " [1/2] Base system: Packages [and] time 0:00:0" in run.drawn()
        run.end()
        run.tell("play", name="Web")
        seen = run.drawn()
        assert " [2/2] Web 0:00:0" in seen
        assert "Packages" not in seen
        run.screen.truncate(0)
        run.screen.seek(0)
    last = run.screen.getvalue()
    # One line up, and that line erased: nothing of the task stays on the screen.
    assert last.rstrip("\n").endswith("\x1b[1A\x1b[2K")


@pytest.mark.usefixtures("clock")
def test_without_a_terminal_nothing_moves(tmp_path: Path) -> None:
    run = Run(tmp_path, terminal=False)
    with run.progress:
        run.tell("play", name="Base system")
        run.tell("task", name="base : Packages")
        assert run.drawn() == ""
        run.end()
    assert "\x1b" not in run.screen.getvalue()
    assert "\r" not in run.screen.getvalue()


def test_by_default_it_is_written_to_standard_error(
    clock: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunProgress() as shown:
        shown.step("Base system", 1, 9)
        shown.step_done(executor.StepResult("Base system", 3, 1, 4.2))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.split() == ["[1/9]", "Base", "system", "1", "changed", "4.2", "s"]


def test_phases_take_what_lies_between_them(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    phases = Phases()
    for name, seconds in (("Lab host", 14.0), ("Verify", 2.5)):
        phases.begin(name)
        clock.seconds += seconds
    phases.end()
    clock.seconds += 99
    phases.end()
    assert phases.seconds == {"Lab host": 14.0, "Verify": 2.5}
    assert capsys.readouterr().err.splitlines() == ["Lab host", "Verify"]


FOUND = Finding("NET-02", "h1", Result.PASS, "", "", "", "all ports [closed]", "inside")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_verification_tells_what_it_waits_for_on_a_terminal(terminal: bool) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=100, color_system=None, highlight=False)
    with LookProgress(console) as looks:
        assert ("connecting" in drawn_by(looks, screen)) is terminal
        looks.result("ports", FOUND, ["ports [from outside] (h1)", "turn (h1)"])
        line = "  NET-02   h1         pass           all ports [closed]\n"
        assert line in _CODES.sub("", screen.getvalue())
        awaited = "2 checks to come, among them: ports [from outside] (h1)"
        assert (awaited in drawn_by(looks, screen)) is terminal


def drawn_by(looks: LookProgress, screen: io.StringIO) -> str:
    looks._live.refresh()
    return _CODES.sub("", screen.getvalue())
