"""The undo of a change that could lock its administrator out: it can always put back, may run twice, and tells what it could not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import content
from orchestrator.transport import route
from tests.unit.applied import a_file, apply, code

__all__ = ["code"]

OLD, NEW = "old\n", "new\n"


@pytest.fixture
def host(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host whose systemd and log are silent programs, and whose timers never elapse."""
    programs = tmp_path / "bin"
    programs.mkdir()
    _program(programs / "logger", f'echo "$*" >> {tmp_path}/log')
    _program(programs / "systemctl", 'test "$1" != is-active')
    _program(programs / "systemd-run", "exit 0")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(code.guard, "_GUARD", str(tmp_path / "guard"))
    monkeypatch.setattr(code.guard, "_BOOT_UNIT", str(tmp_path / "unit"))
    monkeypatch.setattr(code.guard, "_BOOT_LINK", str(tmp_path / "unit"))
    (tmp_path / "unit").write_text(code.guard._BOOT_TEXT)
    (tmp_path / "etc").mkdir()
    return code


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _change(*wanted: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a step that makes these changes, of files as `a_file` returns them, up to their confirmation."""
    files = [
        entry | ({"content_base64": step["contents"]["0"]} if entry.get("state", "file") == "file" else {})
        for step in wanted
        for entry in step["files"]
    ]
    commands = dict.fromkeys(("ready", "check", "apply", "undo", "effective"), "true")
    return {
        "guard": {
            "name": "x",
            "files": files,
            **commands,
            "confirm_seconds": 60,
            "units": [],
            "rulesets": [],
            "phase": "apply",
        }
        | more
    }


def _phase(step: dict[str, Any], phase: str) -> dict[str, Any]:
    return {"guard": step["guard"] | {"phase": phase}}


def _no_more_moves(tmp_path: Path) -> None:
    _program(tmp_path / "bin/mv", 'echo "mv: no" >&2; exit 1')


def _left(tmp_path: Path) -> list[str]:
    """Return what an undo keeps."""
    return sorted(path.name for path in (*tmp_path.glob("guard/*"), *tmp_path.glob(".*"), *tmp_path.glob("etc/.*")))


def test_an_undo_that_cannot_put_back_keeps_the_old_state_and_says_so(host: Any, tmp_path: Path) -> None:
    (tmp_path / "etc/one").write_text(OLD)
    (tmp_path / "etc/two").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW), a_file(tmp_path / "etc/two", NEW), a_file(tmp_path / "etc/three"))
    assert apply(host, step, phased=True)["changed"] is True
    _no_more_moves(tmp_path)
    told = apply(host, _phase(step, "restore"), phased=True)
    assert (told["failed"], told["not_put_back"]) == (True, True)
    assert (
        told["msg"] == f"mv: no\nmv: no. Hint: repair that on the host, then run there: sh {tmp_path}/guard/x/restore "
        "(the next boot does, too)"
    )
    assert not (tmp_path / "etc/three").exists(), "what can be undone is"
    assert "NOT put back" in (tmp_path / "log").read_text()
    assert host.manifest.begun(), "the files are not as they were"
    told = apply(host, _phase(step, "look"), phased=True)
    assert "an earlier change, which nobody confirmed, could not be undone: mv: no" in told["msg"]

    (tmp_path / "bin/mv").unlink()
    told = apply(host, _phase(step, "restore"), phased=True)
    assert (told["changed"], told["by_timer"]) == (True, False)
    assert [(tmp_path / "etc" / name).read_text() for name in ("one", "two")] == [OLD, OLD]
    assert _left(tmp_path) == []
    assert host.manifest.begun() == []


@pytest.mark.parametrize("failing", ["check", "apply"])
def test_a_refused_change_that_stays_is_not_called_put_back(host: Any, tmp_path: Path, failing: str) -> None:
    (tmp_path / "etc/one").write_text(OLD)
    _no_more_moves(tmp_path)
    step = _change(a_file(tmp_path / "etc/one", NEW), **{failing: "echo refused; false"})
    told = apply(host, step, phased=True)["msg"]
    assert told.startswith("NOT put back as it was, x: mv: no. Hint: ")
    assert told.endswith(f"what went wrong first: {failing} failed: refused")


def test_a_host_that_is_not_ready_is_left_as_it_is(host: Any, tmp_path: Path) -> None:
    (tmp_path / "etc/one").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW), ready="echo 'somebody else is at work'; false")
    told = apply(host, step, phased=True)
    assert (told["failed"], told["msg"]) == (True, "nothing was changed: somebody else is at work")
    assert (tmp_path / "etc/one").read_text() == OLD
    assert _left(tmp_path) == []
    assert host.manifest.begun() == []


@pytest.mark.parametrize(("failing", "undone"), [("check", False), ("apply", True)])
def test_only_what_was_put_to_use_is_taken_out_of_use(host: Any, tmp_path: Path, failing: str, undone: bool) -> None:
    """A reload after a refused check would bring into effect what somebody else has written."""
    (tmp_path / "etc/one").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW), undo=f"touch {tmp_path}/undone", **{failing: "false"})
    assert apply(host, step, phased=True)["msg"].startswith("put back as it was: ")
    assert (tmp_path / "etc/one").read_text() == OLD
    assert (tmp_path / "undone").exists() is undone
    assert _left(tmp_path) == []


def test_what_is_right_already_does_not_look_changed_afterwards(host: Any, tmp_path: Path) -> None:
    (tmp_path / "etc/one").write_text(NEW)
    (tmp_path / "etc/two").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW), a_file(tmp_path / "etc/two", NEW))
    before = (tmp_path / "etc/one").stat()
    apply(host, step, phased=True)
    apply(host, _phase(step, "confirm"), phased=True)
    assert (tmp_path / "etc/one").stat().st_ctime_ns == before.st_ctime_ns


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The control node's side of it."""
    loader = SimpleNamespace(get=lambda *_, **__: object)
    monkeypatch.setattr("ansible.plugins.loader.action_loader", loader)
    monkeypatch.syspath_prepend(str(content.root() / "playbooks/action_plugins"))
    monkeypatch.delitem(sys.modules, "guarded_change", raising=False)
    return __import__("guarded_change")


def _told(guarded: Any, port: int | None, **restored: Any) -> str:
    """Return what is said where no second login was possible."""
    task = SimpleNamespace(_phase=lambda *_: restored, _option=lambda _: port)
    told = guarded.ActionModule._put_back(task, {"name": "x", "confirm_seconds": 9}, {}, ["refused"])
    return str(told["msg"])


def test_the_action_tells_that_the_old_state_did_not_come_back(guarded: Any) -> None:
    assert _told(guarded, None, failed=True, msg="mv: no. Hint: repair", not_put_back=True) == (
        "x: the old state could NOT be put back: mv: no. Hint: repair. This was tried, because no second login was possible "
        "after the change: refused"
    )


@pytest.mark.parametrize(
    ("port", "ports", "hint"), [(2222, [22], True), (22, [22], False), (None, [22], False), (2222, [], False)]
)
def test_the_action_tells_where_sshd_listens_at_another_port(
    guarded: Any, port: int | None, ports: list[int], hint: bool
) -> None:
    """An address translation takes us from one to the other, and the firewall has opened the first."""
    told = _told(guarded, port, sshd_ports=ports)
    assert ("on the host sshd listens at 22, not at 2222" in told) is hint
    assert ("firewall_extra_flows" in told) is hint


def test_sshds_ports_are_read(host: Any) -> None:
    shown = """\
LISTEN 0 128   0.0.0.0:22   0.0.0.0:* users:(("sshd",pid=78,fd=6))
LISTEN 0 128      [::]:22      [::]:* users:(("sshd",pid=78,fd=7))
LISTEN 0 128 127.0.0.1:2022 0.0.0.0:* users:(("sshd",pid=9,fd=6),("systemd",pid=1,fd=80))
LISTEN 0 511   0.0.0.0:80   0.0.0.0:* users:(("nginx",pid=4,fd=5))
"""
    assert host.guard.sshd_ports(shown) == [22, 2022]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], ""),
        (["-o", "ProxyJump=none"], ""),
        (["-J", "jump"], "ssh -F /dev/null -W '[192.0.2.7]:2200' ssh://jump"),
        (
            ["-J", "a,b@[2001:db8::1]:22,c"],
            "ssh -F /dev/null -J 'a,b@[2001:db8::1]:22' -W '[192.0.2.7]:2200' ssh://c",
        ),
        (["-o", "ProxyCommand=nc %h %p | tee /tmp/%%%r"], "nc 192.0.2.7 2200 | tee /tmp/%anna"),
    ],
)
def test_paramiko_goes_the_way_that_openssh_goes(arguments: list[str], command: str) -> None:
    asked = ["ssh", "-G", "-F", "/dev/null", *arguments, "-p", "2200", "-l", "anna", "192.0.2.7"]
    assert route.through(asked, route.settings_of(asked)) == command


def test_the_old_state_comes_back_whole(host: Any, tmp_path: Path) -> None:
    """Without a block of the disk: content, mode, links and what was not there."""
    etc = tmp_path / "etc"
    (etc / "file").write_text(OLD)
    (etc / "file").chmod(0o640)
    (etc / "link").symlink_to("file")
    (etc / "same").write_text(NEW)
    (etc / "same link").symlink_to("file")
    (etc / "folder").mkdir(0o750)
    inode = (etc / "file").stat().st_ino
    wanted = [a_file(etc / name, NEW, mode="0644") for name in ("file", "link", "same", "newcomer")]
    owner = {key: wanted[0]["files"][0][key] for key in ("owner", "group")}
    made = [{"dest": str(etc / name), "state": "directory", "mode": "0755", **owner} for name in ("folder", "new")]
    wanted += [{"files": made}, a_file(etc / "inside", NEW)]
    wanted[-1]["files"][0]["dest"] = str(etc / "new/inside")
    wanted += [{"files": [{"dest": str(etc / "same link"), "state": "link", "link": "file"}]}]
    step = _change(*wanted)
    assert "failed" not in apply(host, step, phased=True)
    assert (etc / "link").read_text() == (etc / "new/inside").read_text() == NEW
    assert apply(host, _phase(step, "restore"), phased=True)["changed"] is True
    assert ((etc / "file").stat().st_ino, (etc / "file").read_text()) == (inode, OLD)
    assert (etc / "file").stat().st_mode & 0o777 == 0o640
    assert (etc / "folder").stat().st_mode & 0o777 == 0o750
    assert os.readlink(etc / "link") == os.readlink(etc / "same link") == "file"
    assert sorted(path.name for path in etc.iterdir()) == ["file", "folder", "link", "same", "same link"]
    assert _left(tmp_path) == []


def test_an_undo_that_was_interrupted_anywhere_can_be_run_again(host: Any, tmp_path: Path) -> None:
    """As at the next boot: each of its lines may have been its last."""
    etc = tmp_path / "etc"
    for cut in range(1, 20):
        (etc / "one").write_text(OLD)
        (etc / "two").write_text(OLD)
        step = _change(*(a_file(etc / name, NEW) for name in ("one", "two", "three")))
        assert "failed" not in apply(host, step, phased=True)
        script = tmp_path / "guard/x/restore"
        lines = script.read_text().splitlines()
        body = lines.index("lost=") + 1
        subprocess.run(["sh", "-c", "\n".join(lines[: body + cut])], check=False)
        if script.exists():
            subprocess.run(["sh", script, "boot"], check=True)
        assert sorted(path.name for path in etc.iterdir()) == ["one", "two"]
        assert (etc / "one").read_text() == (etc / "two").read_text() == OLD
        assert _left(tmp_path) == []
        if body + cut >= len(lines):
            return
    pytest.fail("the script never ended")


def test_what_was_confirmed_leaves_nothing_behind(host: Any, tmp_path: Path) -> None:
    (tmp_path / "etc/one").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW))
    apply(host, step, phased=True)
    assert _left(tmp_path) == [".etc:one.ratssaal-before-x", "x"]
    assert apply(host, _phase(step, "confirm"), phased=True)["changed"] is True
    assert (tmp_path / "etc/one").read_text() == NEW
    assert _left(tmp_path) == []
    assert apply(host, _phase(step, "confirm"), phased=True)["failed"] is True


def test_what_a_killed_confirmation_left_goes_and_undoes_nothing(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc/one").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW))
    apply(host, step, phased=True)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(host.guard.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            apply(host, _phase(step, "confirm"), phased=True)
    assert ".etc:one.ratssaal-before-x" in _left(tmp_path)
    assert apply(host, _phase(step, "look"), phased=True)["changed"] is False
    assert (tmp_path / "etc/one").read_text() == NEW
    assert _left(tmp_path) == []


def test_what_the_timer_put_back_in_part_is_not_confirmed(host: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "etc" / name).write_text(OLD)
    step = _change(*(a_file(tmp_path / "etc" / name, NEW) for name in ("one", "two")))
    apply(host, step, phased=True)
    _program(tmp_path / "bin/mv", 'case "$*" in *two) exec /bin/mv "$@" ;; esac; exit 1')
    assert subprocess.run(["sh", tmp_path / "guard/x/restore"], check=False).returncode == 1
    (tmp_path / "bin/mv").unlink()
    told = apply(host, _phase(step, "confirm"), phased=True)
    assert told["msg"] == "put back as it was: the change was confirmed after its time"
    assert [(tmp_path / "etc" / name).read_text() for name in ("one", "two")] == [OLD, OLD]


@pytest.mark.parametrize("call", ["link", "fsync", "rename", "makedirs"])
def test_what_cannot_be_kept_is_not_changed(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "etc/one").write_text(OLD)
    step = _change(a_file(tmp_path / "etc/one", NEW))
    host.manifest.begin({"role": "web", "task": "T"}, [])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "etc/one"))

    with monkeypatch.context() as patched:
        patched.setattr(host.manifest, "begin", lambda *_: None)
        patched.setattr(host.originals, "keep", lambda *_: None)
        patched.setattr(host.guard.os, call, full)
        told = apply(host, step, phased=True)
    assert told["failed"] is True
    assert told["msg"].startswith("nothing was changed: ")
    assert f"{tmp_path}/etc/one" in told["msg"]
    assert "the disk is full. Hint: " in told["msg"]
    assert (tmp_path / "etc/one").read_text() == OLD
    assert _left(tmp_path) == []
    assert host.manifest.begun() == []


@pytest.mark.parametrize("program", ["systemctl", "systemd-run"])
def test_without_its_timer_and_its_unit_for_the_next_boot_nothing_is_changed(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(host.guard, "_BOOT_LINK", str(tmp_path / "never linked"))
    monkeypatch.setattr(host.guard, "replace", lambda *_: None)
    _program(tmp_path / "bin" / program, "echo no room; exit 1")
    (tmp_path / "etc/one").write_text(OLD)
    told = apply(host, _change(a_file(tmp_path / "etc/one", NEW)), phased=True)
    assert told["msg"].startswith("nothing was changed: the ")
    assert told["msg"].endswith(": no room")
    assert (tmp_path / "etc/one").read_text() == OLD
    assert _left(tmp_path) == []


def test_no_undo_could_put_a_removed_directory_back(host: Any, tmp_path: Path) -> None:
    (tmp_path / "etc/folder").mkdir()
    told = apply(host, _change({"files": [{"dest": str(tmp_path / "etc/folder"), "state": "absent"}]}), phased=True)
    assert told["msg"].startswith("nothing was changed: ")
    assert (tmp_path / "etc/folder").is_dir()


def test_everything_is_on_the_disk_before_the_undo_is_in_place(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave an undo whose old files are empty, or not there."""
    (tmp_path / "etc/one").write_text(OLD)
    synced: list[str] = []
    sync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def note_rename(old: str, new: str) -> None:
        synced.append(f"-> {new}")
        rename(old, new)

    step = _change(a_file(tmp_path / "etc/one", NEW), phase="save")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", note_sync)
        patched.setattr(os, "rename", note_rename)
        host.guard.Guard(SimpleNamespace(params=step["guard"])).save()
    guard, etc = tmp_path / "guard", tmp_path / "etc"
    assert synced == [
        f"{tmp_path}/.etc:one.ratssaal-before-x",
        f"{guard}/x.draft/restore",
        str(tmp_path),
        str(etc),
        f"{guard}/x.draft",
        f"-> {guard}/x",
        str(guard),
    ]


def test_the_boot_unit_fails_where_an_undo_does(host: Any, tmp_path: Path) -> None:
    """And still runs the others."""
    (line,) = [line for line in host.guard._BOOT_TEXT.splitlines() if line.startswith("ExecStart=")]
    command = line.removeprefix("ExecStart=/bin/sh -c '").removesuffix("'").replace("/var/lib/ratssaal", str(tmp_path))
    for name, text in (("a", "exit 1"), ("b", f"echo $1 > {tmp_path}/ran")):
        (tmp_path / "guard" / name).mkdir(parents=True)
        (tmp_path / "guard" / name / "restore").write_text(text)
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 1
    assert (tmp_path / "ran").read_text() == "boot\n"
    (tmp_path / "guard/a/restore").unlink()
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
