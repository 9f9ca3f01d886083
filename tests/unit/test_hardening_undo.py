"""What belongs to a control that the site leaves alone from now on: which of it goes, what runs on, and what was never ours."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from orchestrator import content
from orchestrator.inventory.derivations import steps_or_undo
from tests.unit.applied import a_file, apply, code

__all__ = ["code"]

ANSWER = {"who": "A. Meier", "why": "ticket 17", "until": "2099-12-31"}
_ROLE = yaml.safe_load((content.root() / "roles/hardening/vars/main.yml").read_text())
_HERE = _ROLE["__hardening_sandboxes"]
# As roles/hardening/tasks/main.yml puts them together, where everything is on one host.
PARTS = {
    **_ROLE["__hardening_files"],
    "ACC-04": _ROLE["__hardening_passwords"],
    "OS-06": _ROLE["__hardening_processes"],
    "OS-07": _ROLE["__hardening_apparmor"],
    "OS-08": [{"files": [row["file"] for row in _HERE]}, {"units": [row["unit"] for row in _HERE]}],
    "OS-09": _ROLE["__hardening_mounts"],
    "OS-13": _ROLE["__hardening_integrity"],
}
MARK = "# Kept by Ratssaal (role hardening): words\n"


def _rows(kind: str, *skipped: str) -> list[dict[str, Any]]:
    steps = steps_or_undo(PARTS, dict.fromkeys(skipped, ANSWER))
    return [dict(row) for step in steps for row in step.get(kind, ())]


def test_what_no_control_leaves_alone_is_wanted_as_it_stands() -> None:
    assert steps_or_undo(PARTS, {}) == [step for steps in PARTS.values() for step in steps]
    with pytest.raises(ValueError, match="who leaves OS-08 alone, why and until when"):
        steps_or_undo(PARTS, {"OS-08": {**ANSWER, "who": ""}})


def test_of_all_that_is_left_alone_nothing_is_written_or_started() -> None:
    wanted, left = _rows("files"), {row["dest"]: row["state"] for row in _rows("files", *PARTS)}
    assert set(left.values()) == {"absent", "given_back"}
    # Others' files lie in these directories, too.
    assert {row["dest"] for row in wanted} - set(left) == {"/etc/aide", "/var/lib/aide"}
    assert [dest for dest, state in left.items() if state == "given_back"] == ["/etc/login.defs", "/etc/aide/aide.conf"]
    assert all("ratssaal" in dest for dest, state in left.items() if state == "absent")
    assert {row["state"] for row in _rows("units", *PARTS)} == {"stopped", "kept"}
    assert not any("packages" in step for step in steps_or_undo(PARTS, dict.fromkeys(PARTS, ANSWER)))


def test_the_others_stay_as_they_are() -> None:
    alone = _rows("files", "ACC-08")
    assert [row["dest"] for row in alone if row.get("state") == "absent"] == ["/etc/profile.d/ratssaal-idle.sh"]
    assert [row for row in alone if row.get("state") != "absent"] == [
        row for row in _rows("files") if "idle" not in row["dest"]
    ]
    assert _rows("units", "ACC-08") == _rows("units")


def test_units_of_ours_end_before_their_files_go_and_others_run_on() -> None:
    def undone(control: str) -> list[Any]:
        return steps_or_undo({control: PARTS[control]}, {control: ANSWER})

    ended, files, kept = undone("OS-13")
    # What starts the other is stopped first.
    assert ended["units"] == [
        {"name": "ratssaal-integrity.timer", "state": "stopped", "enabled": False},
        {"name": "ratssaal-integrity.service", "state": "stopped"},
    ]
    assert {"dest": "/etc/systemd/system/ratssaal-integrity.service", "state": "absent"} in files["files"]
    assert {row["state"] for row in kept["units"]} == {"kept"}
    ended, _, kept = undone("OS-06")
    assert [row["name"] for row in ended["units"]] == ["ratssaal-processes.service"]
    assert {"name": "systemd-logind.service", "state": "kept"} in kept["units"]
    files, kept = undone("OS-08")
    assert all(row["state"] == "absent" and row["restarts"] for row in files["files"])
    assert [{**row, "state": "started"} for row in kept["units"]] == PARTS["OS-08"][1]["units"]
    assert undone("OS-07") == [{"units": [{"name": "apparmor.service", "state": "kept"}]}]


def _brought(
    code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unit: dict[str, Any], active: str
) -> tuple[list[str], list[str]]:
    """Bring a unit that is to be restarted into its state; return what was done, and what is still to be restarted."""
    said: list[tuple[str, ...]] = []

    def systemctl(*words: str) -> tuple[int, str]:
        said.append(words)
        return 0, ""

    monkeypatch.setattr(code.pending, "FOLDER", str(tmp_path / "pending"))
    state = {"LoadState": "loaded", "ActiveState": active, "UnitFileState": "enabled", "Result": ""}
    monkeypatch.setattr(code.units, "_systemctl", systemctl)
    monkeypatch.setattr(code.units, "states_of", lambda names: dict.fromkeys(names, state))
    monkeypatch.setattr(code.units.Units, "prove", lambda units, _settle: code.pending.clear("restart", *units.started))
    monkeypatch.setattr(code.units.os.path, "isdir", lambda _: True)
    monkeypatch.setattr(code.units, "HEALTH_SECONDS", 0)
    code.pending.mark("restart", [unit["name"]])
    step = SimpleNamespace(check_mode=False, params=[unit], settle=0)
    actions = code.units.bring(step)["actions"]
    # Else the host would call itself degraded until it boots.
    assert (("reset-failed", unit["name"]) in said) is (unit["state"] == "stopped" and active != "inactive")
    return actions, code.pending.marked("restart")


@pytest.mark.parametrize(
    ("state", "active", "done"),
    [
        ("kept", "active", ["restart x.service"]),
        ("kept", "inactive", []),
        ("kept", "failed", ["start x.service"]),
        ("stopped", "activating", ["stop x.service"]),
        ("stopped", "inactive", []),
        ("stopped", "failed", ["reset-failed x.service"]),
    ],
)
def test_a_service_that_runs_or_failed_is_restarted_and_no_other_started(
    code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, active: str, done: list[str]
) -> None:
    assert _brought(code, monkeypatch, tmp_path, {"name": "x.service", "state": state}, active) == (done, [])


def test_a_service_that_somebody_masked_stays_masked(code: Any) -> None:
    units = code.units.Units(SimpleNamespace(check_mode=True))
    units.link({"name": "x.service", "state": "kept"}, {"LoadState": "masked", "UnitFileState": "masked"})
    assert units.done == []


def test_who_does_not_run_is_not_asked_how_it_is(code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unit = {"name": "x.service", "state": "kept", "health": "http://127.0.0.1:1/about/health"}
    assert _brought(code, monkeypatch, tmp_path, unit, "inactive") == ([], [])


def test_of_a_service_that_is_kept_the_manifest_says_nothing(code: Any) -> None:
    """What the role that brings it says of it holds."""
    ours = {"name": "ratssaal-mounts.service", "state": "stopped", "enabled": False}
    (item,) = code.units.applied_units([{"name": "nginx.service", "state": "kept"}, ours])
    assert (item["name"], item["started"], item["enabled"]) == ("ratssaal-mounts.service", False, False)


_PROGRAMS = {
    "dpkg-query": 'test "$2" = {kept} || exit 1\necho "login: $2"',
    "apt-get": 'test "$*" = "-q download login" && touch login_1_all.deb',
    "dpkg-deb": "mkdir -p .{folder} && echo as packaged > .{kept} && tar -c .{kept}",
}


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a package brings, by programs in place of dpkg and apt."""
    path = tmp_path / "etc/login.defs"
    path.parent.mkdir()
    (tmp_path / "bin").mkdir()
    for name, script in _PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\n" + script.format(kept=path, folder=path.parent))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return path


def _given_back(code: Any, path: Path) -> list[str]:
    """Give a file back; return what differed before, and see that nothing does then, for a converge and for drift."""
    entry = {"dest": str(path), "state": "given_back"}
    found: list[str] = code.files.differences(entry)
    if found:
        code.files.write_entry(entry)
    assert code.files.differences(code.files.applied_file(entry)) == []
    return found


def test_a_file_of_ours_becomes_what_its_package_brings(code: Any, packaged: Path) -> None:
    packaged.write_text(MARK)
    packaged.chmod(0o600)
    assert _given_back(code, packaged) == ["present"]
    assert packaged.read_text() == "as packaged\n"
    assert stat.S_IMODE(packaged.stat().st_mode) == 0o600


def test_a_file_of_ours_that_no_package_brings_goes(code: Any, packaged: Path) -> None:
    other = packaged.with_name("aide.conf")
    other.write_text(MARK)
    assert _given_back(code, other) == ["present"]
    assert not other.exists()


def test_a_file_of_others_stays(code: Any, packaged: Path) -> None:
    assert _given_back(code, packaged) == []
    packaged.write_text(f"mine\n{MARK}")
    assert _given_back(code, packaged) == []
    assert packaged.read_text() == f"mine\n{MARK}"


def test_where_the_package_cannot_be_fetched_ours_stays(code: Any, packaged: Path) -> None:
    packaged.write_text(MARK)
    (packaged.parents[1] / "bin/apt-get").write_text("#!/bin/sh\necho 'Unable to fetch' >&2; exit 100\n")
    with pytest.raises(
        code.files.FileProblem, match=r"login, which brings it, cannot be fetched: .*\n.*apt-get update"
    ):
        _given_back(code, packaged)
    assert packaged.read_text() == MARK


def _wanted(code: Any, path: Path, **more: Any) -> None:
    assert "failed" not in apply(code, a_file(path, MARK + "ours\n", mode="0644", **more))


def test_what_somebody_had_written_is_kept_and_comes_back(code: Any, packaged: Path) -> None:
    packaged.write_text("UMASK 027\n")
    packaged.chmod(0o640)
    _wanted(code, packaged)
    copy = Path(code.originals.kept_at(str(packaged)))
    assert (copy.read_text(), stat.S_IMODE(copy.stat().st_mode)) == ("UMASK 027\n", 0o640)
    assert copy.is_relative_to(packaged.parents[1] / "replaced")
    assert stat.S_IMODE((packaged.parents[1] / "replaced").stat().st_mode) == 0o700
    assert _given_back(code, packaged) == ["present"]
    assert (packaged.read_text(), stat.S_IMODE(packaged.stat().st_mode)) == ("UMASK 027\n", 0o640)
    assert not copy.exists()


def test_a_link_of_somebodys_is_kept_and_comes_back(code: Any, packaged: Path, tmp_path: Path) -> None:
    """As to a file that the town keeps elsewhere, which is there or not."""
    packaged.symlink_to(tmp_path / "the-towns-own")
    _wanted(code, packaged)
    assert not packaged.is_symlink()
    assert _given_back(code, packaged) == ["present"]
    assert packaged.readlink() == tmp_path / "the-towns-own"
    assert not [path for path in (packaged.parents[1] / "replaced").rglob("*") if path.is_symlink()]


def test_what_was_kept_comes_back_though_ours_is_gone(code: Any, packaged: Path) -> None:
    packaged.write_text("mine\n")
    _wanted(code, packaged)
    packaged.unlink()
    assert _given_back(code, packaged) == ["missing"]
    assert packaged.read_text() == "mine\n"


def test_once_given_back_a_file_is_somebodys_again(code: Any, packaged: Path) -> None:
    packaged.write_text("first\n")
    _wanted(code, packaged)
    assert "failed" not in apply(code, {"files": [{"dest": str(packaged), "state": "given_back"}]})
    packaged.write_text("second\n")
    _wanted(code, packaged)
    assert Path(code.originals.kept_at(str(packaged))).read_text() == "second\n"


def test_of_ours_and_of_what_a_package_brings_there_is_no_copy(
    code: Any, packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packaged.parents[1] / "replaced"
    _wanted(code, packaged)
    packaged.write_text("altered since, and replaced on purpose\n")
    _wanted(code, packaged)
    packaged.with_name("marked").write_text(MARK + "of a run whose manifest is gone\n")
    _wanted(code, packaged.with_name("marked"), force=True)
    default = packaged.with_name("default")
    default.write_text("as packaged\n")
    told = hashlib.md5(b"as packaged\n").hexdigest()
    monkeypatch.setattr(code.originals, "_conffiles", lambda: {str(default): told})
    _wanted(code, default)
    assert not folder.exists()
    packaged.with_name("other").write_text("altered\n")
    _wanted(code, packaged.with_name("other"))
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["other"]


def test_a_killed_run_and_one_in_check_mode_leave_the_first_copy(code: Any, packaged: Path) -> None:
    packaged.write_text("mine\n")
    apply(code, a_file(packaged, "ours\n"), check=True)
    assert not (packaged.parents[1] / "replaced").exists()
    code.manifest.begin({"role": "web", "task": "T"}, [str(packaged)])
    packaged.write_text("half of ours\n")
    _wanted(code, packaged)
    assert not (packaged.parents[1] / "replaced").exists(), "what it began with was ours"


def test_what_cannot_be_copied_is_not_replaced(code: Any, packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(packaged))

    packaged.write_text("mine\n")
    monkeypatch.setattr(code.originals.shutil, "copy2", full)
    told = apply(code, a_file(packaged, "ours\n"))
    assert told["failed"] is True
    assert "the disk is full. Hint: " in told["msg"]
    assert packaged.read_text() == "mine\n"


def test_a_file_without_our_mark_is_given_back_as_long_as_it_is_as_we_wrote_it(code: Any, packaged: Path) -> None:
    """A notice has no mark: people read it."""
    apply(code, a_file(packaged, "Keep out.\n"))
    packaged.write_text("Do come in.\n")
    assert code.files.differences({"dest": str(packaged), "state": "given_back"}) == []
    packaged.write_text("Keep out.\n")
    assert _given_back(code, packaged) == ["present"]
    assert packaged.read_text() == "as packaged\n"


def test_every_file_that_may_be_given_back_begins_with_the_mark(code: Any) -> None:
    """It would be taken for somebody else's, and stay for ever."""
    for row in _rows("files"):
        if "ratssaal" in row["dest"] or row.get("state") == "directory":
            continue
        text = (content.root() / "roles/hardening/templates" / row["template"]).read_text()
        assert text.encode().startswith(code.originals.MARK), row["dest"]
