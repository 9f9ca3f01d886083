"""What the roles' tasks applied is noted on the host, and what is left of those that were killed or failed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.applied import HALFWAY, SECRET, UNFINISHED, a_file, apply, code, differences

__all__ = ["code"]


def test_what_was_applied_is_noted_and_no_content(code: Any, tmp_path: Path) -> None:
    step = a_file(tmp_path / "one", SECRET)
    apply(code, step)
    (part,) = code.manifest.read()
    assert (part["role"], part["task"], part["finished"]) == ("web", "T", True)
    assert [item["name"] for item in part["items"]] == [str(tmp_path / "one")]
    files = [path for path in (tmp_path / "manifest").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "manifest", *(p.parent for p in files))} == {0o700}
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in files)


def test_who_has_no_key_cannot_try_out_contents(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(code, a_file(tmp_path / "one", "1234"))
    told = [code.manifest.read()[0]["items"][0]["hash"]]
    monkeypatch.setattr(code.digest, "FOLDER", str(tmp_path / "other"))
    apply(code, a_file(tmp_path / "one", "1234"))
    told.append(code.manifest.read()[0]["items"][0]["hash"])
    assert told[0] != told[1], "the same content has the same hash on two hosts"


def test_check_mode_and_a_task_outside_a_role_note_nothing(code: Any, tmp_path: Path) -> None:
    apply(code, a_file(tmp_path / "one"), check=True)
    code.steps.run({"steps": [a_file(tmp_path / "one")], "check_mode": False, "diff": False, "part": None})
    assert not (tmp_path / "manifest").exists()
    assert code.manifest.read() is None


def test_a_later_run_replaces_its_part_and_nothing_stale_stays(code: Any, tmp_path: Path) -> None:
    apply(
        code, a_file(tmp_path / "one"), a_file(tmp_path / "two"), name="first / of two", tasks=["first / of two", "T"]
    )
    apply(code, a_file(tmp_path / "three"))
    assert [part["task"] for part in code.manifest.read()] == ["T"], "the role has no such task any more"
    apply(code, a_file(tmp_path / "four"))
    assert [item["name"] for part in code.manifest.read() for item in part["items"]] == [str(tmp_path / "four")]


def test_an_unchanged_run_writes_nothing_but_the_time(code: Any, tmp_path: Path) -> None:
    apply(code, a_file(tmp_path / "one"))
    (file,) = (tmp_path / "manifest").rglob("*.json")
    os.utime(file, (1, 1))
    inode = file.stat().st_ino
    assert apply(code, a_file(tmp_path / "one"))["changed"] is False
    assert file.stat().st_ino == inode
    assert file.stat().st_mtime > 1


def test_of_two_tasks_the_later_one_holds(code: Any, tmp_path: Path) -> None:
    """A certificate that was given takes the place of the own CA's, whose task did not run any more."""
    both: dict[str, Any] = {"tasks": ["own", "given"]}
    apply(code, a_file(tmp_path / "key", "given"), name="given", **both)
    apply(code, a_file(tmp_path / "key", "own"), name="own", **both)
    assert differences(code) == []
    for number, name in enumerate(("own", "given")):
        os.utime(tmp_path / f"manifest/web/{name}.json", (number, number))
    assert [row[2] for row in differences(code)] == ["content"]


def test_a_failed_task_keeps_what_it_reached_and_is_told(code: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    assert apply(code, a_file(tmp_path / "one"), a_file(tmp_path / "taken"))["failed"] is True
    assert differences(code) == [
        ("manifest", "web : T", "unfinished", "a task that ended well", "it failed when it ran last")
    ]
    assert [item["name"] for item in code.manifest.read()[0]["items"]] == [str(tmp_path / "one")]


def test_a_failed_task_of_several_phases_keeps_the_part_of_before(code: Any, tmp_path: Path) -> None:
    apply(code, a_file(tmp_path / "one"))
    (tmp_path / "taken").mkdir()
    apply(code, a_file(tmp_path / "taken"), phased=True)
    assert differences(code) == [("manifest", "web : T", *UNFINISHED)]
    assert [item["name"] for item in code.manifest.read()[0]["items"]] == [str(tmp_path / "one")]


def killed_after_writing(code: Any, monkeypatch: pytest.MonkeyPatch, *steps: dict[str, Any]) -> None:
    """Run a task that is killed when its files are written and its part of the manifest is not."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(code.manifest, "write", die)
        with pytest.raises(KeyboardInterrupt):
            apply(code, *steps)


def begun(code: Any) -> list[tuple[str, str]]:
    """Return which tasks have begun and not ended."""
    return [(role, task) for role, task, _, _ in code.manifest.begun()]


def test_what_a_killed_task_left_is_not_taken_for_somebodys_change(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "one", tmp_path / "two"
    apply(code, a_file(file))
    apply(code, a_file(other), name="another", tasks=["another", "T"])
    killed_after_writing(code, monkeypatch, a_file(file, "two\n"))
    other.write_text("by hand")
    assert differences(code) == [
        ("manifest", "web : T", *UNFINISHED),
        ("file", str(file), *HALFWAY),
        ("file", str(other), "content", "as applied", "altered"),
    ]


def test_what_somebody_wrote_long_after_a_kill_is_theirs(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "one"
    apply(code, a_file(file))
    killed_after_writing(code, monkeypatch, a_file(file, "two\n"))
    (mark,) = (tmp_path / "manifest").rglob("*.begun")
    os.utime(mark, (1, 1))
    assert [row[2] for row in differences(code)] == ["unfinished", "content"]


def test_another_task_of_the_role_ends_nothing_but_itself(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both: dict[str, Any] = {"tasks": ["another", "T"]}
    apply(code, a_file(tmp_path / "one"), **both)
    killed_after_writing(code, monkeypatch, a_file(tmp_path / "one", "two\n"))
    apply(code, a_file(tmp_path / "two"), name="another", **both)
    assert begun(code) == [("web", "T")]
    apply(code, a_file(tmp_path / "one"), **both)
    assert begun(code) == []


def test_the_next_run_that_ends_is_answerable_again(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "one"
    apply(code, a_file(file))
    killed_after_writing(code, monkeypatch, a_file(file, "two\n"))
    apply(code, a_file(file))
    assert differences(code) == []
    file.write_text("two\n")
    assert [row[2] for row in differences(code)] == ["content"]


@pytest.mark.parametrize("phased", [False, True])
def test_what_a_failed_task_wrote_is_not_taken_for_somebodys_change(code: Any, tmp_path: Path, phased: bool) -> None:
    apply(code, a_file(tmp_path / "one"))
    (tmp_path / "taken").mkdir()
    steps = [{**a_file(tmp_path / "one", "two\n")}, a_file(tmp_path / "taken")]
    assert apply(code, *steps, phased=phased)["failed"] is True
    assert [row[2] for row in differences(code)] == (["unfinished", "unfinished"] if phased else ["unfinished"])


def test_a_failed_task_forgets_nothing_that_it_had_applied_before(code: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    apply(code, a_file(tmp_path / "one"), a_file(tmp_path / "two"))
    assert apply(code, a_file(tmp_path / "taken"), a_file(tmp_path / "two"))["failed"] is True
    (tmp_path / "two").write_text("by hand")
    (mark,) = (tmp_path / "manifest").rglob("*.begun")
    os.utime(mark, (1, 1))
    assert [row[:3] for row in differences(code)] == [
        ("manifest", "web : T", "unfinished"),
        ("file", str(tmp_path / "two"), "content"),
    ]


def test_a_change_that_is_put_back_has_not_begun(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guarded change whose check refuses the new file."""
    monkeypatch.setattr(code.guard, "_GUARD", str(tmp_path / "guard"))
    monkeypatch.setattr(code.guard.Guard, "arm", lambda self: None)
    wanted = a_file(tmp_path / "one", "two\n")
    files = [entry | {"content_base64": wanted["contents"]["0"]} for entry in wanted["files"]]
    change = {
        "name": "x",
        "files": files,
        "ready": "true",
        "check": "false",
        "apply": "true",
        "undo": "true",
        "effective": "true",
    }
    change |= {"units": [], "rulesets": [], "phase": "apply"}
    apply(code, a_file(tmp_path / "one"))
    seen: list[list[tuple[str, str]]] = []
    save = code.guard.Guard.save

    def note_and_save(guard: Any) -> None:
        seen.append(begun(code))
        save(guard)

    monkeypatch.setattr(code.guard.Guard, "save", note_and_save)
    assert "put back as it was" in apply(code, {"guard": change}, phased=True)["msg"]
    assert seen == [[("web", "T")]]
    assert begun(code) == []
    assert differences(code) == []


def test_a_task_that_changes_nothing_begins_nothing(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(code, a_file(tmp_path / "one"))
    killed_after_writing(code, monkeypatch, a_file(tmp_path / "one"))
    assert begun(code) == []


def test_a_part_that_cannot_be_read_is_told(code: Any, tmp_path: Path) -> None:
    apply(code, a_file(tmp_path / "one"))
    (file,) = (tmp_path / "manifest").rglob("*.json")
    for spoilt in ("{", "[1]", "{}"):
        file.write_text(spoilt)
        assert [row[:3] for row in differences(code)] == [("manifest", "web : T", "unreadable")]


def test_a_lost_key_makes_the_manifest_anew(code: Any, tmp_path: Path) -> None:
    apply(code, a_file(tmp_path / "one"), role="base")
    code.digest._read.clear()
    (tmp_path / "manifest/key").unlink()
    assert code.manifest.read() is None
    apply(code, a_file(tmp_path / "two"))
    assert [part["role"] for part in code.manifest.read()] == ["web"], "hashes with the lost key would all differ"


@pytest.mark.parametrize(("there", "message"), [("one\n", "what was applied"), ("other\n", "what is to change")])
def test_a_disk_that_takes_no_manifest_fails_the_task(code: Any, tmp_path: Path, there: str, message: str) -> None:
    (tmp_path / "manifest").write_text("")
    (tmp_path / "one").write_text(there)
    told = apply(code, a_file(tmp_path / "one"))
    assert told["failed"] is True
    assert f"{message} cannot be noted in {tmp_path}" in told["msg"]
    assert (tmp_path / "one").read_text() == there
