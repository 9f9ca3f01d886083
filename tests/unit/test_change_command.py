"""`ratssaal provision` and `ratssaal harden` as a person calls them: hosts that are not fit stay untouched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import app
from orchestrator.engine import executor
from orchestrator.engine.executor import RunResult
from orchestrator.errors import Problem, Unreachable
from orchestrator.inventory.scaffold import create_site
from orchestrator.inventory.site import Host, Site
from orchestrator.operations import preflight
from tests.unit.test_preflight_checks import facts

VERBS = ("provision", "harden")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose host nobody has named the packages' key for: preflight does not let it pass."""
    folder = tmp_path_factory.mktemp("site")
    path = folder / "town"
    create_site(path, domain="meet.example.test", address="192.0.2.10", password_file=folder / "password")
    return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verbs that would really have run; nothing does."""
    began: list[str] = []

    def execute(plan: Any, *_: object) -> RunResult:
        began.append(plan.verb)
        return RunResult("r1", tmp_path, (), 0, 0.0)

    monkeypatch.setattr(executor, "execute", execute)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return began


def call(town: Path, *arguments: str) -> int:
    return app.run([*arguments, str(town), "--vault-password-file", str(town.parent / "password")])


def looked_at(monkeypatch: pytest.MonkeyPatch, seen: Mapping[str, Any] | Exception) -> None:
    """Let every host show these facts, or fail like this."""

    def collect(host: Host, site: Site) -> Mapping[str, Any]:
        del host, site
        if isinstance(seen, Exception):
            raise seen
        return seen

    monkeypatch.setattr(preflight, "collect_facts", collect)


@pytest.mark.parametrize("verb", VERBS)
def test_unfit_hosts_are_not_touched(
    town: Path, runs: list[str], verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at(monkeypatch, facts(memory_mb=500))
    assert call(town, verb) == 3
    said = capsys.readouterr().err
    assert "vendor_repository_key" in said
    assert "memory" in said
    assert "hint:" in said
    assert runs == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_host_that_cannot_be_reached_is_not_touched(
    town: Path, runs: list[str], verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at(monkeypatch, Unreachable([Problem("no way there", "meet", "look at the cable")]))
    assert call(town, verb) == 4
    assert "meet: no way there" in capsys.readouterr().err
    assert runs == []


@pytest.mark.parametrize("verb", VERBS)
def test_who_skips_the_look_is_not_held_back(
    town: Path, runs: list[str], verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(monkeypatch, AssertionError("nobody was to look"))
    assert call(town, verb, "--skip-preflight") == 0
    assert runs == [verb]


def test_a_host_that_the_site_does_not_have(town: Path, runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(town, "provision", "--limit", "mete") == 2
    assert "it has: meet" in capsys.readouterr().err
    assert runs == []
