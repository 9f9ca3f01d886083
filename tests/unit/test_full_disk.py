"""A host whose disk takes nothing: the task fails in words that help, and leaves nothing half-written."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.applied import a_file, apply, code

__all__ = ["code"]

FULL = "the disk is full. Hint: free space or inodes there (df -h, df -i), then run again"


@pytest.fixture
def full(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the disk be full from now on, as a file system tells that writes its blocks late: when they are synced."""
    monkeypatch.setattr(code.pending, "FOLDER", str(tmp_path / "pending"))

    def fill(error: int = errno.ENOSPC) -> None:
        def refuse(_: int) -> None:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(os, "fsync", refuse)

    return fill


def _alone(code: Any, *steps: dict[str, Any]) -> dict[str, Any]:
    """Run a task outside a role: nothing is noted."""
    result: dict[str, Any] = code.steps.run({"steps": steps, "check_mode": False, "diff": False})
    return result


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, "the disk quota is used up. Hint: raise it or free space there, then run again"),
        (errno.EROFS, "the file system is read-only. Hint: dmesg tells whether its disk is damaged"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_file_that_the_disk_does_not_take(
    code: Any, full: Callable[..., None], tmp_path: Path, error: int, told: str
) -> None:
    (tmp_path / "one").write_text("old\n")
    full(error)
    result = _alone(code, a_file(tmp_path / "one", "new\n"))
    assert (result["failed"], result["msg"]) == (True, f"{tmp_path}/one cannot be written: {told}")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert (tmp_path / "one").read_text() == "old\n"


@pytest.mark.parametrize("kind", ["restarts", "reloads"])
def test_a_restart_that_cannot_be_noted_is_not_owed(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[..., None], kind: str
) -> None:
    """The file stays as it is: nobody would restart for it."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "pending"))

    monkeypatch.setattr(code.pending.os, "makedirs", refuse)
    units: dict[str, Any] = {kind: ["tst.service"]}
    step = a_file(tmp_path / "two", **units)
    result = _alone(code, a_file(tmp_path / "one"), step)
    assert (result["failed"], result["msg"]) == (True, f"{tmp_path}/pending: {FULL}")
    assert result["changed_paths"] == [str(tmp_path / "one")]
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("kind", ["accounts", "packages"])
def test_whatever_a_step_cannot_write_fails_the_task_and_is_named(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(_: str, units: list[str]) -> None:
        if units:
            raise OSError(errno.ENOSPC, "No space left on device", "/var/lib/ratssaal/pending/restart/tst.service")

    def read(packages: Any) -> None:
        packages.installed, packages.broken = {}, []

    monkeypatch.setattr(code.packages.Packages, "read", read)
    monkeypatch.setattr(code.packages.Packages, "repair", lambda packages: packages.done.append("repaired"))
    monkeypatch.setattr(code.apt, "wait_for_locks", lambda _: None)
    monkeypatch.setattr(code.apt, "lists_are_young", lambda: True)
    monkeypatch.setattr(code.pending, "mark", refuse)
    watched = [{"jid": "focus@auth.town", "by": "focus.town", "restarts": ["prosody.service"]}]
    nothing: dict[str, Any] = {key: [] for key in ("hold", "absent", "debconf", "withdrawn", "beforehand")}
    wanted: dict[str, Any] = {
        "accounts": {"accounts": [], "absent_others_in": [], "watched": watched},
        "packages": nothing
        | {
            "names": ["tst"],
            "versions": {},
            "update": "missing",
            "security_updates": False,
            "lock_timeout": 1,
            "restarts": ["tst.service"],
        },
    }
    result = _alone(code, a_file(tmp_path / "one"), {kind: wanted[kind]})
    assert (result["failed"], result["msg"]) == (True, f"/var/lib/ratssaal/pending/restart/tst.service: {FULL}")
    assert result["changed_paths"] == [str(tmp_path / "one")]
    assert result.get("actions") == (["repaired"] if kind == "packages" else None)


def test_what_a_killed_run_noted_is_not_lost(code: Any, full: Callable[..., None], tmp_path: Path) -> None:
    part = {"role": "web", "task": "T"}
    code.manifest.begin(part, ["/etc/one"])
    (before,) = (tmp_path / "manifest/web").iterdir()
    assert before.stat().st_mode & 0o777 == 0o600
    full()
    result = apply(code, a_file(tmp_path / "two"))
    assert result["failed"] is True
    assert result["msg"].startswith(f"what is to change cannot be noted in {tmp_path}/manifest: ")
    assert FULL in result["msg"]
    assert list((tmp_path / "manifest/web").iterdir()) == [before]
    assert json.loads(before.read_text()) == ["/etc/one"]
    assert not (tmp_path / "two").exists()


def test_a_key_of_the_manifest_is_there_whole_or_not_at_all(
    code: Any, full: Callable[..., None], tmp_path: Path
) -> None:
    full()
    assert FULL in apply(code, a_file(tmp_path / "one"))["msg"]
    assert not (tmp_path / "manifest").exists()


def _wanted(folder: Path, authority: str) -> dict[str, Any]:
    shared = {"names": ["town.example"], "dest": str(folder), "group": folder.parent.group(), "reloads": []}
    return shared | {"ca_certificate": authority, "renew_days": 1, "phase": "look"}


def test_a_key_that_cannot_be_kept_leaves_nothing(code: Any, full: Callable[..., None], tmp_path: Path) -> None:
    full()
    result = _alone(code, {"certificate": _wanted(tmp_path / "tls", "")})
    assert (result["failed"], result["msg"]) == (True, f"{tmp_path}/tls/key.new.pem cannot be written: {FULL}")
    assert list((tmp_path / "tls").iterdir()) == []


def _signed(folder: Path, name: str) -> str:
    """Make a key and a certificate that is its own authority's, and return that as PEM."""
    folder.mkdir(exist_ok=True)
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]
    argv += [
        "-keyout",
        "key.pem",
        "-out",
        "fullchain.pem",
        "-subj",
        f"/CN={name}",
        "-addext",
        f"subjectAltName=DNS:{name}",
    ]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    return (folder / "fullchain.pem").read_text()


def test_a_certificate_is_judged_without_a_temporary_file(code: Any, tmp_path: Path) -> None:
    certificate = importlib.import_module("ratssaal_host.certificate")
    own, other = _signed(tmp_path / "tls", "town.example"), _signed(tmp_path / "other", "town.example")
    assert certificate.reasons(_wanted(tmp_path / "tls", own)) == []
    assert certificate.reasons(_wanted(tmp_path / "tls", other)) == ["issuer"]
    assert certificate.reasons(_wanted(tmp_path / "tls", "")) == ["issuer"]
    assert not hasattr(certificate, "tempfile")


def test_a_certificate_for_a_group_that_the_host_lacks_is_told(code: Any, tmp_path: Path) -> None:
    wanted = _wanted(tmp_path, _signed(tmp_path, "town.example")) | {"group": "nobody-such"}
    (tmp_path / "ca.pem").write_text(wanted["ca_certificate"])
    told = _alone(code, {"certificate": wanted})["msg"]
    assert told == f"{tmp_path}/key.pem: no group nobody-such on this host"


def test_a_host_on_which_not_even_a_lock_can_be_taken_answers(
    code: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/run/ratssaal/at-work")

    monkeypatch.setattr(code.steps, "_alone", refuse)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"steps": [], "check_mode": false}')))
    code.steps.main()
    told = json.loads(capsys.readouterr().out.partition(code.steps.MARK)[2])
    assert told == {"failed": True, "msg": f"/run/ratssaal/at-work: {FULL}"}


def test_a_new_key_never_stands_beside_an_old_chain(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the three files the disk takes one, and later all."""
    monkeypatch.setattr(code.pending, "FOLDER", str(tmp_path / "pending"))
    certificate = importlib.import_module("ratssaal_host.certificate")
    monkeypatch.setattr(code.files, "owner_id", lambda _: os.getuid())
    monkeypatch.setattr(code.files, "group_id", lambda _: os.getgid())
    folder = tmp_path / "tls"
    own = _signed(folder, "town.example")
    old_key = (folder / "key.pem").read_text()
    new = _signed(tmp_path / "new", "town.example")
    (folder / "key.new.pem").write_text((tmp_path / "new/key.pem").read_text())
    step = {"certificate": _wanted(folder, new) | {"phase": "install", "certificate": new}}
    replace = code.files.replace

    def take_one(path: str, *arguments: Any) -> None:
        if "fullchain" in path:
            raise code.disk.FileProblem(f"{path} cannot be written: {FULL}")
        replace(path, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(code.files, "replace", take_one)
        assert FULL in _alone(code, step)["msg"]
    assert sorted(path.name for path in folder.iterdir()) == ["fullchain.pem", "key.new.pem", "key.pem"]
    assert (folder / "key.pem").read_text() == old_key
    assert certificate.reasons(_wanted(folder, own)) == []

    assert _alone(code, step)["changed"] is True
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "fullchain.pem", "key.pem"]
    assert certificate.reasons(_wanted(folder, new)) == []
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o640


def test_an_account_that_prosody_does_not_remove_is_told(
    code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code.accounts, "_DATA", str(tmp_path))
    monkeypatch.setattr(code.accounts, "_prosodyctl", lambda *_: None)
    file = Path(code.accounts._path("old@town.example"))
    file.parent.mkdir(parents=True)
    file.touch()
    wanted: dict[str, Any] = {"accounts": [], "absent_others_in": ["town.example"], "watched": []}
    assert _alone(code, {"accounts": wanted})["msg"] == "prosodyctl did not remove the account old@town.example"
    monkeypatch.setattr(code.accounts, "_prosodyctl", lambda *_: file.unlink())
    assert _alone(code, {"accounts": wanted})["accounts"] == ["old@town.example"]
