"""The key that signs Jitsi's packages: fetched, shown, pinned after a yes, and refused where it is another one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import app
from orchestrator.cli.preflight import preflight
from orchestrator.errors import PreflightFailed, UsageError
from orchestrator.inventory import openpgp
from orchestrator.inventory.site import Site
from orchestrator.operations import vendor_key
from orchestrator.operations.vendor_key import fetch_vendor_key, judge_vendor_key, pin_vendor_key
from tests.unit.site_cases import Case

KEY = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# A ring of several: apt trusts them all, so all are shown.
KEYS = openpgp.public_keys(KEY.read_bytes())
FINGERPRINT = KEYS[0].fingerprint
NOTHING_GIVEN = "The key that signs Jitsi's packages is not given"


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def upstream(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes) -> Iterator[str]:
    """Let upstream's key be what a server of this test answers."""
    folder.mkdir()
    (folder / "key").write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/key"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(vendor_key, "UPSTREAM_KEY", address)
        yield address
        server.shutdown()


def ask(case: Case, *arguments: str) -> Result:
    password = ("--vault-password-file", str(case.path.parent / "password"))
    return CliRunner().invoke(preflight, [str(case.path), *password, "--accept-keys", *arguments])


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests have no host: its key is pinned, and nobody looks at it."""
    monkeypatch.setattr("orchestrator.cli.preflight._accept_host_keys", lambda site, *, yes: None)
    monkeypatch.setattr("orchestrator.operations.preflight.collect_facts", lambda host, site: {})
    monkeypatch.setattr("orchestrator.operations.preflight.judge_host", lambda *_, **__: [])


def test_pinned_after_a_yes_only(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = case.path / "vendor-key.asc"
    with upstream(monkeypatch, tmp_path / "served", KEY.read_bytes()) as address:
        refused = ask(case)
        assert isinstance(refused.exception, UsageError)
        for key in KEYS:
            shown = f"{address}: {key.fingerprint} of {key.made}, {', '.join(key.users)} (not pinned yet)"
            assert shown in refused.stderr
            assert "Debian" in shown
            assert "20" in key.made[:2]
        assert not kept.exists()
        accepted = ask(case, "--yes")
    assert f"pinned in {kept}" in accepted.stderr
    assert NOTHING_GIVEN not in accepted.stderr, "what it says afterwards is true afterwards"
    assert kept.read_bytes() == KEY.read_bytes()


def test_a_no_pins_nothing(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.preflight.console.interactive", lambda: True)
    monkeypatch.setattr("orchestrator.cli.preflight.click.confirm", _no)
    with upstream(monkeypatch, tmp_path / "served", KEY.read_bytes()):
        assert isinstance(ask(case).exception, click.Abort | SystemExit)
    assert not (case.path / "vendor-key.asc").exists()


def _no(question: str, **_: object) -> None:
    assert "May packages that this signs be installed?" in question
    raise click.Abort


def test_the_site_says_what_it_lacks_until_the_key_is_there(case: Case) -> None:
    before = case.load()
    assert any(line.startswith(NOTHING_GIVEN) for line in before.undecided)
    (remark,) = judge_vendor_key(before)
    assert remark.blocking
    assert "--accept-keys fetches https://download.jitsi.org/jitsi-key.gpg.key" in remark.problem.hint
    pin_vendor_key(before, vendor_key.VendorKey(KEY.read_bytes(), KEYS))
    after = case.load()
    assert list(judge_vendor_key(after)) == []
    assert not any(line.startswith(NOTHING_GIVEN) for line in after.undecided)


def test_a_key_that_is_there_is_never_fetched_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    (case.path / "vendor-key.asc").write_bytes(KEY.read_bytes())
    monkeypatch.setattr("urllib.request.urlopen", _nobody)
    assert fetch_vendor_key(case.load()) is None


def test_nobody_guesses_where_another_owners_key_lies(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    site = case.load()
    other = replace(site, settings={**site.settings, "vendor_repository_url": "https://packages.example.org"})
    monkeypatch.setattr("urllib.request.urlopen", _nobody)
    assert fetch_vendor_key(other) is None
    (remark,) = judge_vendor_key(other)
    assert "fetch it from the owner of https://packages.example.org" in remark.problem.hint


def _nobody(*_: object, **__: object) -> None:
    raise AssertionError("somebody was asked")


def failure(site: Site) -> str:
    with pytest.raises(PreflightFailed) as caught:
        fetch_vendor_key(site)
    (problem,) = caught.value.problems
    assert problem.hint
    return str(problem)


def test_what_is_no_key(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with upstream(monkeypatch, tmp_path / "served", b"<html>please log in</html>"):
        assert "no key could be fetched" in failure(case.load())


def test_upstream_that_does_not_answer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(vendor_key, "UPSTREAM_KEY", "http://127.0.0.1:9/key")
    assert "no key could be fetched" in failure(case.load())
    assert not (case.path / "vendor-key.asc").exists()


def test_another_key_than_the_one_of_the_fingerprint(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = case.load()
    spaced = " ".join(("A" * 40)[at : at + 4] for at in range(0, 40, 4))
    wanted = replace(site, settings={**site.settings, "vendor_repository_fingerprint": spaced})
    with upstream(monkeypatch, tmp_path / "served", KEY.read_bytes()):
        said = failure(wanted)
        assert f"upstream serves {FINGERPRINT}, " in said
        assert f"pinned is {'A' * 40}" in said
    (case.path / "vendor-key.asc").write_bytes(KEY.read_bytes())
    (remark,) = judge_vendor_key(wanted)
    assert "the vendor's key file holds" in remark.problem.message


def test_the_pinned_key_among_others_is_not_enough(case: Case) -> None:
    (case.path / "vendor-key.asc").write_bytes(KEY.read_bytes())
    site = case.load()
    wanted = replace(site, settings={**site.settings, "vendor_repository_fingerprint": FINGERPRINT})
    (remark,) = judge_vendor_key(wanted)
    assert KEYS[1].fingerprint in remark.problem.message


def test_a_site_that_cannot_be_written(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vendor_key, "write_private", full)
    with pytest.raises(PreflightFailed, match="No space left on device"):
        pin_vendor_key(case.load(), vendor_key.VendorKey(b"x", KEYS))


def test_an_answer_from_elsewhere_without_tls_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer:
        url = "http://elsewhere.example/key"

        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_: object) -> None:
            """Close nothing."""

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Answer())
    assert "it is said to lie at http://elsewhere.example/key" in failure(case.load())


def test_a_slash_at_the_end_is_upstream_too(case: Case) -> None:
    site = case.load()
    slashed = replace(site, settings={**site.settings, "vendor_repository_url": "https://download.jitsi.org/"})
    (remark,) = judge_vendor_key(slashed)
    assert "--accept-keys fetches" in remark.problem.hint


def test_the_default_written_out_is_still_only_what_lacks(case: Case) -> None:
    """As site.yml tells: take the `# ` away. The file is fetched later."""
    case.append("vendor_repository_key: vendor-key.asc\n")
    (remark,) = judge_vendor_key(case.load())
    assert "--accept-keys fetches" in remark.problem.hint


def test_a_file_that_is_no_key(case: Case) -> None:
    (case.path / "vendor-key.asc").write_text("<html>not found</html>")
    (remark,) = judge_vendor_key(case.load())
    assert "the vendor's key file cannot be used" in remark.problem.message
    assert remark.blocking


def test_where_upstream_does_not_answer_all_the_rest_is_looked_at(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    password = ("--vault-password-file", str(case.path.parent / "password"))
    monkeypatch.setattr(vendor_key, "UPSTREAM_KEY", "http://127.0.0.1:9/key")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert app.run(["preflight", str(case.path), *password, "--accept-keys", "--yes"]) == 3
    said = capsys.readouterr().err
    assert f"put the file at {case.path}/vendor-key.asc" in said
    assert "meet.example.org" in said
    assert "is not given (vendor_repository_key)" in said
