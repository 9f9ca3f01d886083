"""Units on a host: what runs must also call itself healthy, and run by the files that are there."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import content


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The code that handles units on a host."""
    monkeypatch.syspath_prepend(str(content.root() / "playbooks/host"))
    return importlib.import_module("ratssaal_host.units")


@pytest.fixture
def service() -> Iterator[HTTPServer]:
    """A service whose health check answers what `codes` says, one after the other, the last one for ever."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            codes = self.server.codes  # type: ignore[attr-defined]
            self.send_response(codes.pop(0) if len(codes) > 1 else codes[0])
            self.end_headers()
            self.wfile.write(getattr(self.server, "said", b"No operational bridges available"))

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _wait(units: Any, url: str) -> None:
    def fail(**told: Any) -> None:
        raise RuntimeError(told["msg"])

    step = SimpleNamespace(check_mode=False, fail=fail)
    units.Units(step).answer([{"name": "nginx.service"}, {"name": "jicofo.service", "health": url}])


def _url(service: HTTPServer) -> str:
    return f"http://127.0.0.1:{service.server_port}/about/health"


def test_a_service_may_take_its_time(units: Any, service: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    codes = service.codes = [500, 503, 200]  # type: ignore[attr-defined]
    _wait(units, _url(service))
    assert codes == [200]


def test_a_service_that_stays_unhealthy_ends_the_task(
    units: Any, service: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "HEALTH_SECONDS", 1)
    service.codes = [500]  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"jicofo.service: is not healthy after 1 s.* 500 No operational bridges"):
        _wait(units, _url(service))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b'{"bridges": {"count": 1}}', ""),
        (b'{"bridges": {"count": 0}}', "bridges.count is 0"),
        (b'{"bridges": 3}', "bridges.count is None"),
        (b"soon", "Expecting value"),
    ],
)
def test_a_number_in_the_answer_may_be_what_counts(
    units: Any, service: HTTPServer, monkeypatch: pytest.MonkeyPatch, said: bytes, told: str
) -> None:
    """A service may call itself healthy before it has looked for the first time."""
    monkeypatch.setattr(units, "HEALTH_SECONDS", 0)
    service.codes, service.said = [200], said  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=told) if told else nullcontext():
        _wait(units, f"{_url(service)}#bridges.count")


def test_a_service_that_does_not_answer_ends_the_task(units: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "HEALTH_SECONDS", 0)
    with pytest.raises(RuntimeError, match=r"answers nothing: .*refused"):
        _wait(units, "http://127.0.0.1:1/about/health")


@pytest.mark.parametrize("sandboxed", [True, False])
def test_a_service_with_a_sandbox_is_told_how_to_lose_it(
    units: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandboxed: bool
) -> None:
    monkeypatch.setattr(units, "HEALTH_SECONDS", 0)
    monkeypatch.setattr(units, "_SANDBOX", str(tmp_path / "%s.conf"))
    (tmp_path / ("jicofo.service.conf" if sandboxed else "nginx.service.conf")).touch()
    with pytest.raises(RuntimeError) as failure:
        _wait(units, "http://127.0.0.1:1/about/health")
    assert ("hardening_skip with OS-08" in str(failure.value)) is sandboxed


@pytest.mark.parametrize(
    ("read", "outdated"),
    [
        ("", True),
        ("/etc/systemd/system/x.service.d/10-ours.conf", False),
        ("/run/systemd/system/x.service.d/1.conf", True),
    ],
)
def test_a_drop_in_that_systemd_has_not_read_is_noticed(
    units: Any, monkeypatch: pytest.MonkeyPatch, read: str, outdated: bool
) -> None:
    """Debian 12's systemd says that all is read, and would start Prosody without its groups."""
    monkeypatch.setattr(units.glob, "glob", lambda pattern: [pattern.replace("*", "10-ours")])
    state = {"LoadState": "loaded", "NeedDaemonReload": "no", "FragmentPath": "/lib/systemd/system/x.service"}
    assert units._outdated("x.service", state | {"DropInPaths": read}) is outdated
    assert not units._outdated("x.service", state | {"LoadState": "masked", "DropInPaths": read})


def test_a_unit_of_a_timer_is_read_anew_and_left_as_it_is(units: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night's run that is under way when somebody converges is neither ended nor counted as a change."""
    said: list[tuple[str, ...]] = []

    def systemctl(*words: str) -> tuple[int, str]:
        said.append(words)
        return 0, ""

    monkeypatch.setattr(units, "_systemctl", systemctl)
    monkeypatch.setattr(units.os.path, "isdir", lambda _: True)
    for active, reload in (("activating", "no"), ("inactive", "yes")):
        state = {"LoadState": "loaded", "ActiveState": active, "UnitFileState": "static", "NeedDaemonReload": reload}
        monkeypatch.setattr(units, "states_of", lambda names, state=state: dict.fromkeys(names, state))
        step = SimpleNamespace(check_mode=False, params=[{"name": "x.service", "state": "timed"}], settle=0)
        assert units.bring(step) == {"changed": False, "actions": [], "not_settable": []}
    assert said == [("daemon-reload",)]


@pytest.mark.parametrize(
    ("check", "helps", "done", "refused"),
    [
        (False, True, ["restart x.service"], []),
        (True, True, ["restart x.service"], []),
        # What a container's manager does not let it set is told, and counts as no change each time.
        (False, False, [], ["x.service"]),
    ],
)
def test_a_unit_whose_effect_somebody_took_away_is_started_anew(
    units: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    check: bool,
    helps: bool,
    done: list[str],
    refused: list[str],
) -> None:
    """That it ran once, and is active since, says nothing about now."""
    effect = tmp_path / "effect"

    def systemctl(*words: str) -> tuple[int, str]:
        if "restart" in words and helps:
            effect.touch()
        return 0, ""

    monkeypatch.setattr(units, "_systemctl", systemctl)
    monkeypatch.setattr(units.os.path, "isdir", lambda _: True)
    state = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    monkeypatch.setattr(units, "states_of", lambda names: dict.fromkeys(names, state))
    wanted = {"name": "x.service", "enabled": True, "effective": f"test -e {effect}"}
    step = SimpleNamespace(check_mode=check, params=[wanted], settle=0)
    assert units.bring(step) == {"changed": bool(done), "actions": done, "not_settable": refused}
    assert ("effective" in units.applied_units([wanted])[0]) == effect.exists()
    if effect.exists():
        assert units.bring(step) == {"changed": False, "actions": [], "not_settable": []}
