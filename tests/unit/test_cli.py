"""The command line's own promises: help that imports nothing, exit codes, the nearest command, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli import app
from orchestrator.errors import LockHeld, TaskFailed, Unreachable, UsageError


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_imports_click_alone() -> None:
    code = "import sys\nfrom orchestrator.cli import app\ntry:\n app.run(['--help'])\nfinally:\n"
    code += " print(sorted({m.split('.')[0] for m in sys.modules} & {'rich','yaml','pydantic','paramiko','ansible','jinja2'}))"
    assert _python(code).splitlines()[-1] == "[]"


def test_every_command_loads_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in app.COMMANDS:
        assert app.run([name, "--help"]) == 0
        assert f"ratssaal {name}" in capsys.readouterr().out


def test_nearest_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["provison"]) == 2
    assert "Did you mean provision?" in capsys.readouterr().err
    assert app.run(["xyzzy"]) == 2
    assert "ratssaal --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (Unreachable([]), 4),
        (TaskFailed([]), 5),
        (LockHeld("x"), 7),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.BadParameter("x"), 2),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.delenv("RATSSAAL_DEBUG", raising=False)
    monkeypatch.setattr(app.cli, "main", broken)
    assert app.run([]) == code


def test_site_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run(["plan", "town"]) == 2
    shown = capsys.readouterr().err
    assert "there is no site town" in shown
    assert "hint:" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["completion", shell]) == 0
    assert "_RATSSAAL_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ratssaal ve", {"verify"}),
        ("ratssaal verify --c", {"--control", "--converge"}),
        ("ratssaal users r", {"remove"}),
    ],
)
def test_what_is_completed(typed: str, offered: set[str]) -> None:
    """As bash asks the program that `ratssaal completion bash` has registered."""
    asked = {"_RATSSAAL_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    argv = [str(Path(sys.executable).with_name("ratssaal"))]
    told = subprocess.run(argv, env=os.environ | asked, capture_output=True, text=True, check=True).stdout
    assert {line.partition(",")[2] for line in told.splitlines()} == offered


def test_plan_of_a_new_site_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """new, plan: no host is contacted, nothing but the site is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert app.run(["new", "town", "--domain", "meet.example.org", "--address", "192.0.2.10"]) == 0
    capsys.readouterr()
    assert app.run(["plan", "town"]) == 0
    shown = capsys.readouterr()
    assert "443/tcp  web page and signalling, from anywhere" in shown.out
    assert " 9. Hardening" in shown.out
    assert "undecided:" in shown.err
    assert {path.name for path in tmp_path.iterdir()} <= {"inventories", "config", ".config", ".ansible"}
