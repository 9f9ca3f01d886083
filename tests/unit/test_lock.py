"""The lock on the site's first host, with the real scripts in a directory of this machine in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator import processes
from orchestrator.engine import lock
from orchestrator.engine.lock import SiteLock
from orchestrator.errors import LockHeld
from orchestrator.inventory.site import Site

SITE = cast(Site, SimpleNamespace(name="town", path=Path("my sites/town")))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that stands for /var/lib/ratssaal."""
    folder = tmp_path / "ratssaal"

    def on_first_host(_: Site, script: str) -> str:
        script = script.replace("/var/lib/ratssaal", str(folder))
        return subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(lock, "_on_first_host", on_first_host)
    return folder


def dead_process() -> tuple[int, str]:
    """A process that is gone, and the token it had."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    token = processes.token(child.pid)
    child.kill()
    child.communicate()
    return child.pid, token


def lay(host: Path, **fields: Any) -> None:
    """Put somebody's lock on the host."""
    held = {"run": "r0", "owner": "b@x", "machine": lock.machine(), "reason": "harden", "since": "now", **fields}
    host.mkdir(exist_ok=True)
    (host / "lock.json").write_text(json.dumps(held, sort_keys=True))


def test_take_release_and_take_again(host: Path) -> None:
    first, second = SiteLock(SITE, "r1", "provision"), SiteLock(SITE, "r2", "harden")
    assert first.take() == ""
    with pytest.raises(LockHeld, match="provision") as held:
        second.take()
    assert "ratssaal unlock 'my sites/town' --reason" in held.value.problems[0].hint
    second.release("not mine")
    assert (host / "lock.json").exists()
    first.release("all of it\n")
    assert not (host / "lock.json").exists()
    assert (host / "journal/r1.jsonl").read_text() == "all of it\n"
    assert second.take() == ""


def test_a_dead_run_of_this_machine_is_taken_over(host: Path) -> None:
    pid, token = dead_process()
    lay(host, pid=pid, process=token)
    assert SiteLock(SITE, "r1", "provision").take() == "r0"


def test_after_a_restart_nobody_of_before_lives(host: Path) -> None:
    lay(host, pid=os.getpid(), process="another-boot:1")
    assert SiteLock(SITE, "r1", "provision").take() == "r0"


def hidden(monkeypatch: pytest.MonkeyPatch, kill: Callable[[int, int], None]) -> None:
    """Let /proc show no process, as hidepid does to other users."""
    monkeypatch.setattr(processes, "fields", lambda pid: [])
    monkeypatch.setattr(os, "kill", kill)


def test_a_run_that_we_may_not_see_is_not_taken_over(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    def gone(*_: int) -> None:
        raise ProcessLookupError

    lay(host, pid=os.getpid(), process=processes.token(os.getpid()))
    hidden(monkeypatch, forbidden)
    with pytest.raises(LockHeld, match="b@x works on this site"):
        SiteLock(SITE, "r1", "provision").take()
    hidden(monkeypatch, gone)
    assert SiteLock(SITE, "r1", "provision").take() == "r0"


def test_a_clone_of_the_machine_is_another_one(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(host, pid=1, process="another-boot:1")
    monkeypatch.setattr("socket.gethostname", lambda: "the-clone")
    with pytest.raises(LockHeld):
        SiteLock(SITE, "r1", "provision").take()


def test_clear_says_what_it_cleared_and_why(host: Path) -> None:
    assert lock.clear(SITE, "x") is None
    lay(host)
    assert (lock.clear(SITE, "it's dead") or {})["run"] == "r0"
    assert not (host / "lock.json").exists()
    note = json.loads((host / "journal/cleared-locks").read_text())
    assert (note["reason"], note["lock"]["run"]) == ("it's dead", "r0")
    (host / "lock.json").write_text("no JSON at all")
    assert lock.clear(SITE, "x") == {}
    assert not (host / "lock.json").exists()


def test_clear_leaves_a_lock_that_was_taken_meanwhile(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(host)
    seen = lock._read(SITE)
    monkeypatch.setattr(lock, "_read", lambda site: seen)
    lay(host, run="r9", owner="c@y")
    with pytest.raises(LockHeld, match="c@y works on this site"):
        lock.clear(SITE, "it is dead")
    assert (host / "lock.json").exists()
    (host / "lock.json").unlink()
    assert lock.clear(SITE, "it is dead") is None
    assert not (host / "journal").exists()
