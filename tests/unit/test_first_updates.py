"""A host gets the security updates that are out when it becomes ours; later ones are its nightly run's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.applied import code

__all__ = ["code"]

# What `apt-get -s dist-upgrade` prints on Debian 13.
NOTHING = "Reading package lists...\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n"
PENDING = (
    "Inst login.defs [1:4.17.4-2] (1:4.17.4-2+deb13u1 Debian-Security:13/stable-security [all])\n"
    "Inst tzdata [2025b-4+deb13u1] (2025c-0+deb13u1 Debian:13.2/stable-updates [all])\n"
    "Inst passwd [1:4.17.4-2] (1:4.17.4-2+deb13u1 Debian-Security:13/stable-security [amd64])\n"
    "Conf login.defs (1:4.17.4-2+deb13u1 Debian-Security:13/stable-security [all])\n"
)

Made = Callable[..., Any]


@pytest.fixture
def made(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Return what makes the packages of a host on which `apt-get` says something; its commands are in `ran`."""
    monkeypatch.setattr(code.packages, "_BROUGHT_UP_TO_DATE", str(tmp_path / "state/security-updates"))
    monkeypatch.setattr(code.apt, "lists_are_young", lambda: True)

    def make(said: str, *, wanted: bool = True, check_mode: bool = False, fails: str = "") -> Any:
        def fail(**told: Any) -> None:
            raise RuntimeError(told["msg"])

        def started(argv: list[str], stdin: Any, environment: Any) -> tuple[int, str]:
            packages.ran.append((argv, environment))
            return (1, "no") if argv[0] == fails else (0, said)

        packages = object.__new__(code.packages.Packages)
        params = {"security_updates": wanted}
        packages.step = SimpleNamespace(params=params, check_mode=check_mode, changed=False, fail=fail)
        packages.done, packages.ran = [], []
        monkeypatch.setattr(code.apt, "started", started)
        return packages

    return make


def test_what_is_pending_is_installed_once_and_its_services_restart(made: Made, tmp_path: Path) -> None:
    first = made(PENDING)
    first.catch_up()
    assert first.done == ["security updates: login.defs passwd"]
    # Nothing keeps systemctl from restarting what was replaced.
    assert first.ran[1] == (["unattended-upgrade", "-v"], {})
    again = made(PENDING)
    again.catch_up()
    assert (again.done, again.ran, again.behind()) == ([], [], False)


def test_a_host_without_pending_updates_is_left_alone_and_noted(made: Made) -> None:
    first = made(NOTHING)
    first.catch_up()
    assert (first.done, len(first.ran), first.behind()) == ([], 1, False)


def test_check_mode_tells_and_notes_nothing(made: Made) -> None:
    told = made(PENDING, check_mode=True)
    told.catch_up()
    assert told.done == ["security updates: login.defs passwd"]
    assert [argv[0] for argv, _ in told.ran] == ["apt-get"]
    assert told.behind()


def test_who_does_not_want_updates_gets_none(made: Made) -> None:
    unwanted = made(PENDING, wanted=False)
    unwanted.catch_up()
    assert (unwanted.done, unwanted.ran) == ([], [])


def test_a_run_that_failed_is_tried_again(made: Made) -> None:
    broken = made(PENDING, fails="unattended-upgrade")
    with pytest.raises(RuntimeError, match="unattended-upgrade -v failed"):
        broken.catch_up()
    assert broken.behind()
