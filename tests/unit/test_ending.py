"""SIGTERM, a closed terminal and lost readers: what a command leaves behind, and with which exit code it ends."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from orchestrator.cli import console
from orchestrator.cli.change import converge
from orchestrator.engine import ansible, executor, journal
from orchestrator.engine.events import Event
from orchestrator.engine.executor import Options, Watcher, execute
from orchestrator.errors import Ended, Problem, ProblemsError, TaskFailed, Unreachable, UsageError
from orchestrator.inventory.vault import VAULT, VaultAccess
from orchestrator.operations.converge import converge_plan
from tests.unit.site_cases import Case

# `plan`, which has the vault's password in a file and waits.
WAITING = """
import sys, time
from orchestrator.cli import app
from orchestrator.cli.siteargument import SiteArgument
def load(site, access):
    print(access.ansible_args()[1], flush=True)
    time.sleep(60)
SiteArgument.load = load
sys.argv = ["ratssaal", "plan", "./town", "--vault-password-command", "echo geheim"]
app.main()
"""


def start(folder: Path, *, prefix: tuple[str, ...] = ()) -> tuple[subprocess.Popen[str], Path]:
    """Start it; return it and the file of the password."""
    (folder / "town").mkdir()
    (folder / "runtime").mkdir()
    child = subprocess.Popen(
        # Whoever runs the tests in the background of a shell ignores SIGINT, or SIGHUP by nohup, and so would every child.
        ["env", "--default-signal=INT,HUP", *prefix, sys.executable, "-c", WAITING],
        cwd=folder,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder / "runtime")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    file = Path(child.stdout.readline().strip())
    assert file.parent == folder / "runtime"
    assert file.read_text() == "geheim\n"
    return child, file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_password_does_not_stay_behind(tmp_path: Path, number: signal.Signals) -> None:
    child, file = start(tmp_path)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert not file.exists()
    assert child.returncode == 128 + number
    assert "the same command again goes on" in said
    assert "Traceback" not in said


def test_nohup_goes_on(tmp_path: Path) -> None:
    child, file = start(tmp_path, prefix=("nohup",))
    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.terminate()
    child.communicate(timeout=30)
    assert not file.exists()
    assert child.returncode == 143


class _Lock:
    """A lock that lies on no host; what is done with it is noted."""

    def __init__(self, *_: object) -> None:
        self.kept = ""

    def take(self) -> str:
        DONE.append("taken")
        return ""

    def release(self, text: str) -> None:
        DONE.append(f"released {text.count(chr(10))}")


DONE: list[str] = []


@pytest.fixture
def ended_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose Ansible is ended by SIGTERM."""

    def run(*_: object, **__: object) -> int:
        raise Ended(15, "SIGTERM")

    DONE.clear()
    monkeypatch.setattr(executor, "SiteLock", _Lock)
    monkeypatch.setattr(ansible, "run", run)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.usefixtures("ended_run")
def test_an_ended_run_gives_its_lock_back_and_says_so(case: Case) -> None:
    site = case.load()
    with pytest.raises(Ended), VaultAccess(case.password_file) as access:
        execute(converge_plan(site, "harden"), site, access, Mock(spec=Watcher))
    (record,) = journal.runs(site.name)
    assert (record.state, record.message) == (journal.INTERRUPTED, "SIGTERM")
    assert DONE == ["taken", "released 3"]


FULL = Event("result", "Packages", "h1", "failed", message="the disk is full. Hint: free space, then run again")
GONE = Event("result", "Facts", "h2", "unreachable", message="timed out")


@pytest.mark.usefixtures("ended_run")
@pytest.mark.parametrize(
    ("events", "error", "expected"),
    [
        (
            (FULL, GONE),
            TaskFailed,
            ["h1: Packages: the disk is full. Hint: free space, then run again", "h2: timed out"],
        ),
        ((GONE,), Unreachable, ["h2: timed out"]),
    ],
)
def test_what_fails_in_mid_run_has_a_hint_and_keeps_its_own(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    events: tuple[Event, ...],
    error: type[ProblemsError],
    expected: list[str],
) -> None:
    def run(*_: object, on_event: Callable[[Event], None], **__: object) -> int:
        for event in events:
            on_event(event)
        return 2

    monkeypatch.setattr(ansible, "run", run)
    site = case.load()
    with VaultAccess(case.password_file) as access, pytest.raises(error) as caught:
        execute(converge_plan(site, "harden"), site, access, Mock(spec=Watcher))
    (record,) = journal.runs(site.name)
    assert [str(problem) for problem in caught.value.problems] == expected
    for problem in caught.value.problems:
        assert str(record.path) in problem.hint
        assert "the same command again goes on" in problem.hint
    assert "once the host answers" in caught.value.problems[-1].hint


@pytest.mark.usefixtures("ended_run")
def test_a_full_disk_keeps_no_lock_and_breaks_no_list_of_runs(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal takes half a line, then nothing; later there is room again."""
    site = case.load()

    def full(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 9)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run(*_: object, **__: object) -> int:
        monkeypatch.setattr(os, "fsync", full)
        raise TaskFailed([Problem("no room left", "h1")])

    monkeypatch.setattr(ansible, "run", run)
    with VaultAccess(case.password_file) as access, pytest.raises(TaskFailed, match="no room left") as caught:
        execute(converge_plan(site, "harden"), site, access, Mock(spec=Watcher))
    assert [done.split()[0] for done in DONE] == ["taken", "released"]
    assert console.fail(caught.value) == 5
    assert "note: the journal has no end: the journal cannot be written: No space left" in capsys.readouterr().err


@pytest.mark.usefixtures("ended_run")
def test_a_full_disk_at_the_very_end_keeps_no_lock(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    site = case.load()
    write = journal.Journal.write

    def full(log: journal.Journal, what: str, **fields: object) -> None:
        if what == "run-ended":
            raise UsageError("the journal cannot be written")
        write(log, what, **fields)

    monkeypatch.setattr(ansible, "run", lambda *_, **__: 0)
    monkeypatch.setattr(journal.Journal, "write", full)
    with VaultAccess(case.password_file) as access, pytest.raises(UsageError):
        execute(converge_plan(site, "harden"), site, access, Mock(spec=Watcher))
    assert DONE == ["taken", "released 2"]


@pytest.mark.usefixtures("ended_run")
def test_a_lock_that_stays_is_told(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: object) -> None:
        raise TaskFailed([Problem("the lock cannot be handled", "h1")])

    site = case.load()
    monkeypatch.setattr(_Lock, "release", lost)
    with VaultAccess(case.password_file) as access, pytest.raises(Ended) as caught:
        execute(converge_plan(site, "harden"), site, access, Mock(spec=Watcher))
    console.notes(caught.value)
    assert "note: the lock stays: h1: the lock cannot be handled" in capsys.readouterr().err


@pytest.mark.usefixtures("ended_run")
def test_a_run_that_is_done_stays_done_where_its_lock_stays(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network is gone after the last step."""

    def lost(*_: object) -> None:
        raise Unreachable([Problem("the connection was lost", "h1")])

    site = case.load()
    monkeypatch.setattr(_Lock, "release", lost)
    monkeypatch.setattr(ansible, "run", lambda *_, **__: 0)
    with VaultAccess(case.password_file) as access:
        result = converge(site, access, "harden", Options())
    (record,) = journal.runs(site.name)
    assert (record.state, result.id) == (journal.DONE, record.id)
    said = capsys.readouterr().err
    assert "the run is done, but its lock could not be given back: h1: the connection was lost" in said
    assert "this machine's next run takes it over; on another machine: ratssaal unlock" in said


def test_what_was_written_after_a_torn_line_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = journal.Journal("town", "provision")
    log.write("run-started", verb="provision", owner="a@b")
    with log.file.open("a") as handle:
        handle.write('{"at": "x", "what": "step-en')
    log.write("run-ended", result=journal.FAILED, message="full")
    # As earlier versions left it: two lines in one.
    with log.file.open("a") as handle:
        handle.write('{"at": "x", "wh{"at": "x", "what": "y"}\n')
    (record,) = journal.runs("town")
    assert (record.state, record.message) == (journal.FAILED, "full")


@pytest.mark.parametrize("state", ["file", "file/below", "/dev/null/x"])
def test_a_place_for_the_journal_that_is_none(tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / state))
    with pytest.raises(UsageError, match="the journal cannot be written") as caught:
        journal.Journal("town", "provision")
    assert "XDG_STATE_HOME" in caught.value.problems[0].hint
    assert journal.runs("town") == []


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in which `ratssaal` is this one; the exit code is that of the first in a pipe."""
    tool = f'ratssaal() {{ {sys.executable} -m orchestrator.cli.app "$@"; }}; set -o pipefail; {command}'
    where = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(Path(__file__).parents[2])}
    environment = {**os.environ, **where}
    return subprocess.run(
        ["bash", "-c", tool], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("ratssaal --help | true", 0),
        ("ratssaal plan --help | head -1", 0),
        ("ratssaal plan nowhere --json | true", 2),
        ("ratssaal plan nowhere 2>&1 | true", 2),
        ("ratssaal completion bash >&-", 0),
    ],
)
def test_a_lost_reader_changes_no_exit_code(tmp_path: Path, command: str, code: int) -> None:
    done = shell(tmp_path, command)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


RUN = """
import sys, time
from orchestrator.cli.progress import RunProgress
from orchestrator.cli.streams import forgive
from orchestrator.engine.executor import StepResult
forgive()
with RunProgress() as progress:
    for number in range(20):
        progress.step("Base system", number, 20)
        progress.step_done(StepResult("Base system", 1, 0, 0.1))
        print("answer", flush=True)
        time.sleep(0.02)
open("done", "w").close()
"""


def test_a_run_goes_on_when_nobody_reads_its_progress(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN)
    done = shell(tmp_path, f"{sys.executable} run.py 2>&1 | head -2")
    assert done.returncode == 0, done
    assert "Base system" in done.stdout
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("where", [">/dev/full", "--json >/dev/full", "| true"])
def test_no_account_without_its_password_shown(tmp_path: Path, case: Case, where: str) -> None:
    before = (case.path / VAULT).read_bytes()
    done = shell(tmp_path, f"ratssaal users add anna {case.path} --vault-password-file {case.password_file} {where}")
    assert done.returncode == 2, done
    assert "the password cannot be shown" in done.stderr
    assert (case.path / VAULT).read_bytes() == before


def at_a_terminal(*argv: str, **variables: str) -> str:
    """Run a program at a terminal of its own and return what stands there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, {**os.environ, "TERM": "xterm", **variables})
    shown = b""
    with suppress(OSError):  # EIO: it has ended
        while part := os.read(terminal, 4096):
            shown += part
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode()


COLOURS = """
import click, sys
from orchestrator.cli import app, console
@app.cli.command("colours")
def colours():
    click.echo(click.style("styled", fg="red"), err=True)
    console.answer("answer", colour="red")
    raise app_errors.UsageError("wrong")
from orchestrator import errors as app_errors
app.COMMANDS["colours"] = ("x", "colours", "")
app.LazyGroup.get_command = lambda group, ctx, name: group.commands[name]
sys.argv = ["ratssaal", "colours"]
app.main()
"""


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_only_where_they_are_wanted(variables: dict[str, str], coloured: bool) -> None:
    shown = at_a_terminal(sys.executable, "-c", COLOURS, **variables)
    assert all(word in shown for word in ("styled", "answer", "error: wrong"))
    assert shown.count("\x1b[31m") == (3 if coloured else 0)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path: Path, case: Case, closed: str) -> None:
    done = shell(tmp_path, f"ratssaal plan {case.path} {closed}")
    assert done.returncode == 3, done
    assert "internal" not in done.stderr
