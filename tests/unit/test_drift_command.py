"""What people are told of drift, and what puts it right, from what hosts tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.drift import drift as command
from orchestrator.cli.siteargument import SiteArgument
from orchestrator.inventory.site import Site
from orchestrator.operations import drift as operation
from orchestrator.operations.drift import HostDrift, judge
from orchestrator.transport import ssh
from orchestrator.transport.exchange import Answer
from orchestrator.transport.ssh import ConnectionFailed, Reason
from tests.unit.applied import code
from tests.unit.site_cases import Case

__all__ = ["code"]

SOCKETS = 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
STRANGE = 'tcp LISTEN 0 128 0.0.0.0:4712 0.0.0.0:* users:(("nc",pid=1,fd=3))\n'


@pytest.fixture(scope="module")
def site(original: Case) -> Site:
    """The valid site as it was read."""
    return original.load()


def told(*differences: dict[str, str], sockets: str | None = SOCKETS) -> dict[str, Any]:
    """Return what a host tells."""
    part = {"role": "web", "task": "T", "at": 1790000000, "finished": True}
    return {
        "manifest": True,
        "parts": [part],
        "differences": list(differences),
        "other_tables": ["ip nat"],
        "sockets": sockets,
        "sockets_problem": "",
    }


def row(kind: str, what: str, **more: str) -> dict[str, str]:
    """Return a difference as a host tells it."""
    return {"kind": kind, "name": "n", "what": what, "wanted": "w", "found": "f", "role": "web", "task": "T"} | more


def test_sockets_that_do_not_follow_from_the_topology(site: Site) -> None:
    name = site.hosts[0].name
    assert judge(name, told(), site).clean
    (found,) = judge(name, told(sockets=SOCKETS + STRANGE), site).differences
    assert (found.kind, found.name, found.found) == ("socket", "0.0.0.0:4712/tcp", "nc")
    assert found.remedy.endswith("or declare it in firewall_extra_flows")
    for address in ("127.0.0.1", "[::1]"):
        inner = STRANGE.replace("0.0.0.0:4712", f"{address}:4712")
        (found,) = judge(name, told(sockets=SOCKETS + inner), site).differences
        # Without sources it would be a rule for all the world.
        assert found.remedy.endswith('in firewall_extra_flows with sources: ["127.0.0.0/8"]')
    (unseen,) = judge(name, told(sockets=None), site).differences
    assert unseen.what == "unknown"


def test_remedies(site: Site) -> None:
    rows = [
        row("file", "mode"),
        row("file", "content"),
        row("group", "members added", name="ssh-login", found="eve, mallory"),
        row("unit", "settings added", name="nginx.service", found="/etc/x.conf, /etc/y.conf"),
        row("package file", "content", package="curl"),
    ]
    converge = f"ratssaal provision {site.path} --harden"
    name = site.hosts[0].name
    assert [found.remedy for found in judge(name, told(*rows), site).differences] == [
        converge,
        f"{converge} --replace-altered (with --check --diff --limit {name} it only shows what)",
        "on the host: gpasswd --delete eve ssh-login; gpasswd --delete mallory ssh-login",
        "on the host: systemctl cat nginx.service; what nobody wants there: rm /etc/x.conf /etc/y.conf && systemctl daemon-reload",
        "on the host: apt-get install --reinstall curl",
    ]


Call = Callable[..., Result]


@pytest.fixture
def call(case: Case, site: Site, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command on the site, which is not read anew each time."""
    monkeypatch.setattr(SiteArgument, "load", lambda *_: site)
    argv = [str(case.path), "--vault-password-file", str(case.password_file)]
    return lambda *arguments: CliRunner().invoke(command, [*argv, *arguments], standalone_mode=False)


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], Answer]) -> None:
    """Let every host answer so."""

    class Open:
        def __enter__(self) -> Any:
            return SimpleNamespace(run=lambda script, **_: answer())

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(ssh, "connect", lambda host, known: Open())


@pytest.mark.parametrize(
    ("facts", "code_wanted", "shown"),
    [
        (told(), 0, "no drift since 2026-09-21 14:13 UTC\n  not ours: nftables ip nat"),
        (told(row("file", "mode")), 6, "1 difference since"),
        (told(row("file", "mode")), 6, "file n: mode: f (wanted: w) [web]"),
        ({"manifest": False}, 6, "cannot be compared: nothing was noted there yet"),
    ],
)
def test_what_people_are_told(
    monkeypatch: pytest.MonkeyPatch, call: Call, facts: dict[str, Any], code_wanted: int, shown: str
) -> None:
    answering(monkeypatch, lambda: Answer(0, f"motd\n{operation._MARK}{json.dumps(facts)}\n", ""))
    done = call()
    assert shown in done.output
    assert done.return_value == code_wanted
    rows = json.loads(call("--json").stdout)
    assert rows["clean"] is (code_wanted == 0)
    assert rows["hosts"][0]["manifest"] is facts["manifest"]


@pytest.mark.parametrize("arguments", [(), ("--deep",)])
def test_a_host_is_asked_once_whatever_it_tells(
    monkeypatch: pytest.MonkeyPatch, call: Call, arguments: tuple[str, ...]
) -> None:
    asked: list[str] = []

    def answer() -> Answer:
        asked.append("one round trip")
        return Answer(0, f"{operation._MARK}{json.dumps(told(row('file', 'mode'), row('unit', 'stopped')))}\n", "")

    answering(monkeypatch, answer)
    assert call(*arguments).return_value == 6
    assert len(asked) == 1


def test_a_host_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    def refuse() -> Answer:
        raise ConnectionFailed("meet", Reason.UNREACHABLE, "does not answer", "ssh meet")

    answering(monkeypatch, refuse)
    done = call()
    assert "cannot be looked at: " in done.output
    assert done.return_value == 4
    answering(monkeypatch, lambda: Answer(1, "", "sudo: a password is required\n"))
    done = call("--json")
    assert done.return_value == 4
    assert "visudo" in json.loads(done.stdout)["hosts"][0]["hint"]


def test_the_same_code_goes_to_the_host_and_its_mark_comes_back(code: Any) -> None:
    assert operation._MARK == code.steps.MARK
    assert b"ratssaal_host/drift.py" in operation.host_code()


def test_an_unknown_host_is_named(call: Call) -> None:
    done = call("--host", "nowhere")
    assert "nowhere" in str(done.exception)


def test_empty_host_drift_is_clean() -> None:
    assert HostDrift("h").clean
    assert not HostDrift("h", manifest=False).clean
    assert not HostDrift("h", error="x").clean
