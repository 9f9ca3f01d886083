"""`ratssaal provision` and `ratssaal harden` as a person calls them: hosts that are not fit stay untouched."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import app, console
from orchestrator.cli.siteargument import SiteArgument
from orchestrator.engine import executor
from orchestrator.engine.executor import RunResult
from orchestrator.errors import Problem, Unreachable
from orchestrator.inventory.site import Host, Site
from orchestrator.operations import altered, preflight
from orchestrator.operations.drift import Difference, HostDrift
from tests.unit.test_preflight_checks import facts

VERBS = ("provision", "harden")


@pytest.fixture
def runs(loaded: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verbs that would really have run on the site, which is not read anew; nothing does."""
    began: list[str] = []

    def execute(plan: Any, *_: object) -> RunResult:
        began.append(plan.verb)
        return RunResult("r1", tmp_path, (), 0, 0.0)

    monkeypatch.setattr(SiteArgument, "load", lambda *_: loaded)
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


def a_row(name: str, what: str, role: str, kind: str = "file") -> Difference:
    return Difference(kind, name, what, "as applied", "altered", "a remedy", role, "T")


CONTENT = a_row("/etc/nginx/nginx.conf", "content", "web")
SSHD = a_row("/etc/ssh/sshd_config.d/00-ratssaal.conf", "content", "hardening")


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let preflight pass and the host differ so from what was applied."""
    fit = preflight.Report((), (), (), {}, ())
    monkeypatch.setattr(preflight, "inspect", lambda site, hosts, **options: fit)

    def choose(*rows: Difference, error: str = "") -> None:
        monkeypatch.setattr(altered, "drift", lambda site, hosts: (HostDrift("meet", rows, error=error),))

    return choose


@pytest.mark.parametrize(
    ("row", "asking"),
    [
        (CONTENT, {"provision", "both"}),
        (SSHD, {"harden", "both"}),
        (a_row("/etc/localtime", "link", "base"), {"provision", "both"}),
        (a_row("/etc/prosody/conf.d/localhost.cfg.lua", "present", "prosody"), {"provision", "both"}),
        (a_row("/etc/nginx/nginx.conf", "type", "web"), {"provision", "both"}),
        # No role of a run has to do with it here any more.
        (a_row("/etc/nginx/nginx.conf", "content", "gone"), set()),
        (a_row("/etc/nginx/nginx.conf", "missing", "web"), set()),
        (a_row("/etc/nginx/nginx.conf", "mode", "web"), set()),
        (a_row("/etc/nginx/nginx.conf", "unfinished", "web"), set()),
        (a_row("chrony", "missing", "base", "package"), set()),
    ],
    ids=lambda value: f"{value.kind} {value.what}" if isinstance(value, Difference) else "",
)
def test_only_what_would_be_lost_stops_the_run_that_would_replace_it(
    town: Path,
    runs: list[str],
    compare: Callable[..., None],
    row: Difference,
    asking: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare(row)
    calls = {"provision": ("provision",), "harden": ("harden",), "both": ("provision", "--harden")}
    stopped = {name for name, arguments in calls.items() if call(town, *arguments) == 3}
    said = capsys.readouterr().err
    assert stopped == asking
    assert len(runs) == len(calls) - len(asking)
    assert (f"meet: {row.name} " in said) is bool(asking)
    assert ("then run with --replace-altered" in said) is bool(asking)


@pytest.mark.parametrize("option", ["--replace-altered", "--skip-preflight", "--check"])
def test_who_says_so_replaces_and_a_look_is_never_held_back(
    town: Path, runs: list[str], compare: Callable[..., None], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(CONTENT)
    assert call(town, "provision", option) == 0
    assert runs == ["provision"]
    assert ("nginx.conf was altered since the last run" in capsys.readouterr().err) is (option == "--check")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 3), ("\n", 3)])
def test_at_a_terminal_one_is_asked(
    town: Path,
    runs: list[str],
    compare: Callable[..., None],
    answer: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compare(CONTENT)
    monkeypatch.setattr(console, "interactive", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert call(town, "provision") == code
    assert len(runs) == (code == 0)
    assert "Replace what was altered? [y/N]" in capsys.readouterr().err


def test_a_host_that_cannot_be_compared_is_not_touched(
    town: Path, runs: list[str], compare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    compare(error="the comparison did not run: sudo")
    assert call(town, "provision") == 3
    assert "meet: cannot be compared with what was applied: the comparison did not run" in capsys.readouterr().err
    assert runs == []


def test_a_host_that_is_not_asked_for_holds_nothing_back(
    town: Path, runs: list[str], loaded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = loaded.hosts
    other = replace(host, name="other")
    monkeypatch.setattr(SiteArgument, "load", lambda *_: replace(loaded, hosts=(other, host)))
    monkeypatch.setattr(preflight, "judge_control_node", lambda site: [])
    monkeypatch.setattr(altered, "drift", lambda site, hosts: ())

    def collect(host: Host, site: Site) -> Mapping[str, Any]:
        del site
        if host.name == "other":
            raise Unreachable([Problem("no way there", host.name)])
        return facts()

    monkeypatch.setattr(preflight, "collect_facts", collect)
    assert call(town, "provision", "--limit", "meet") == 0
    assert runs == ["provision"]
    assert call(town, "provision") == 4


def test_json_stays_json_beside_a_difference(
    town: Path, tmp_path: Path, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "console.log").write_text("--- before\n")
    assert call(town, "provision", "--skip-preflight", "--diff", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["id"] == "r1"
    assert "--- before" in said.err
    assert call(town, "provision", "--skip-preflight", "--diff") == 0
    assert "--- before" in capsys.readouterr().out
    assert len(runs) == 2


def test_an_error_is_json_where_json_was_asked_for(
    town: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at(monkeypatch, Unreachable([Problem("no way there", "meet", "look at the cable")]))
    assert call(town, "provision", "--json") == 4
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["exit_code"] == 4
    assert "meet: no way there" in answer["error"]
    message = f"no way there ({town}/hosts.yml:10)"
    assert {"message": message, "where": "meet", "hint": "look at the cable"} in answer["problems"]
    assert "error: meet: no way there" in said.err
    assert call(town, "provision") == 4
    assert capsys.readouterr().out == ""


def test_preflight_answers_once(
    town: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at(monkeypatch, Unreachable([Problem("no way there", "meet")]))
    assert call(town, "preflight", "--json") == 4
    said = capsys.readouterr()
    assert json.loads(said.out)["unreachable"][0]["where"] == "meet"
    assert "error: meet: no way there" in said.err


@pytest.mark.parametrize("arguments", [("plan", "no-such-site"), ("runs", "x", "--limit", "many"), ("plann",)])
def test_a_wrong_call_is_json_where_json_was_asked_for(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run([*arguments, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 2
    assert answer["error"]
    assert answer["problems"][0]["message"] == answer["error"]
