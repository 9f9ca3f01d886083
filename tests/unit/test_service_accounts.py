"""What our roles make of what upstream's packages leave: users with a shell that opens, and answers in debconf."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from orchestrator import content
from tests.unit.applied import SECRET, code

__all__ = ["code"]

CLOSED = "/usr/sbin/nologin"
ANSWER = {"package": "p", "question": "p/turn-secret", "type": "string", "value": SECRET}
STORED = (
    f"Name: p/turn-secret\nTemplate: p/turn-secret\nValue: {SECRET}\nOwners: p\n\nName: p/other\nValue: x\nOwners: p\n"
)


def _steps(role: str) -> list[dict[str, Any]]:
    (task,) = yaml.safe_load((content.root() / f"roles/{role}/tasks/main.yml").read_text())
    steps: list[dict[str, Any]] = task["managed_host"]["steps"]
    return steps


@pytest.mark.parametrize(("role", "name"), [("videobridge", "jvb"), ("jicofo", "jicofo")])
def test_users_that_upstream_makes_are_closed_before_their_service_starts(role: str, name: str) -> None:
    kinds = [next(iter(step)) for step in _steps(role)]
    assert kinds.index("packages") < kinds.index("users") < kinds.index("units")
    assert {"users": [{"name": name, "shell": CLOSED}]} in _steps(role)


def _step(check_mode: bool = False, params: Any = ()) -> Any:
    def fail(**told: Any) -> None:
        raise AssertionError(told["msg"])

    return SimpleNamespace(params=params, check_mode=check_mode, begins=lambda: None, fail=fail)


@pytest.fixture
def shells(code: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The users of a host with their shells; usermod sets them."""
    users: dict[str, str] = {}

    def usermod(argv: list[str], **_: Any) -> Any:
        assert argv[:2] == ["usermod", "--shell"]
        users[argv[3]] = argv[2]
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(code.users.pwd, "getpwnam", lambda name: SimpleNamespace(pw_shell=users[name]))
    monkeypatch.setattr(code.users, "subprocess", SimpleNamespace(run=usermod, PIPE=-1, STDOUT=-2))
    return users


def test_only_a_shell_that_differs_is_set(code: Any, shells: dict[str, str]) -> None:
    wanted = [{"name": "jvb", "shell": CLOSED}]
    shells["jvb"] = "/bin/bash"
    told = {"changed": True, "actions": [f"shell of jvb: {CLOSED}"]}
    assert code.users.bring(_step(check_mode=True, params=wanted)) == told
    assert shells == {"jvb": "/bin/bash"}
    assert code.users.bring(_step(params=wanted)) == told
    assert shells == {"jvb": CLOSED}
    assert code.users.bring(_step(params=wanted)) == {"changed": False, "actions": []}


def test_a_user_whose_package_is_to_come_is_a_fault_only_where_it_should_be_there(
    code: Any, shells: dict[str, str]
) -> None:
    wanted = [{"name": "jvb", "shell": CLOSED}]
    assert code.users.bring(_step(check_mode=True, params=wanted)) == {"changed": False, "actions": []}
    with pytest.raises(AssertionError, match="no user jvb on this host"):
        code.users.bring(_step(params=wanted))


def _packages(code: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, check_mode: bool) -> Any:
    """Return the look at packages with a debconf that does as Debian's: what it replaces becomes its backup."""

    def select(argv: list[str], stdin: bytes, _environment: dict[str, str]) -> tuple[int, str]:
        assert (argv, stdin) == (["debconf-set-selections"], b"p p/turn-secret string \n")
        (folder / "config.dat").rename(folder / "config.dat-old")
        (folder / "config.dat").write_text(STORED.replace(SECRET, ""))
        return 0, ""

    monkeypatch.setattr(code.packages, "_ANSWERS", str(folder / "config.dat"))
    monkeypatch.setattr(code.apt, "started", select)
    made = object.__new__(code.packages.Packages)
    made.step, made.done = _step(check_mode, {"withdrawn": [ANSWER]}), []
    return made


def test_an_answer_that_anybody_can_read_is_forgotten(
    code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.dat").write_text(STORED)
    looked = _packages(code, monkeypatch, tmp_path, check_mode=True)
    looked.withdraw()
    assert looked.done == ["forget the answer to p/turn-secret"]
    assert SECRET in (tmp_path / "config.dat").read_text(), "check mode writes nothing"
    done = _packages(code, monkeypatch, tmp_path, check_mode=False)
    done.withdraw()
    assert done.done == ["forget the answer to p/turn-secret"]
    assert [path.name for path in tmp_path.iterdir()] == ["config.dat"], "neither the answer nor its backup"
    assert SECRET not in (tmp_path / "config.dat").read_text()
    again = _packages(code, monkeypatch, tmp_path, check_mode=False)
    again.withdraw()
    assert (again.given_away(), again.done) == ([], [])


def test_a_secret_is_no_answer_to_a_question_that_anybody_can_read() -> None:
    """Of the questions that upstream's packages ask, the role answers with a secret only those that are passwords."""
    answers = [answer for role in ("prosody", "jicofo", "videobridge") for step in _steps(role)
               for answer in step.get("packages", {}).get("debconf", [])]  # fmt: skip
    secret = [answer for answer in answers if "password" in str(answer["value"]) or "secret" in str(answer["value"])]
    assert {answer["type"] for answer in secret} == {"password"}
