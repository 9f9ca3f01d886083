"""A meeting seen from outside: each control turns when the host is changed, and is repaired. Nothing is mocked."""

from __future__ import annotations

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import Break, Series, controls_of, failed, in_batches
from tests.scenarios.conference_breaks import BREAKS, EVERYTHING, KEEP, NEAR
from tests.scenarios.conftest import load, play, ssh


@pytest.fixture(scope="module")
def series(site: LabSite) -> Series:
    """Breaks that are undone one by one."""
    ssh(site, KEEP)
    return Series(site)


def _named(batch: tuple[Break, ...]) -> str:
    return "+".join(name for name, row in BREAKS.items() if row in batch)


@pytest.mark.parametrize("batch", in_batches(BREAKS.values(), most=2), ids=_named)
def test_controls_turn(series: Series, batch: tuple[Break, ...]) -> None:
    assert series.turn(*batch, controls=NEAR) == controls_of(batch)


def test_one_converge_repairs_it_all(site: LabSite) -> None:
    ssh(site, EVERYTHING)
    assert set(failed(verify(load(site), controls=NEAR))) == set(NEAR)
    play(site)
    assert failed(verify(load(site), controls=NEAR)) == {}


def test_nothing_stays_of_a_conversation(site: LabSite) -> None:
    """The next drain must not wait for people who never were."""
    verify(load(site), controls=("AVL-02",))
    waited = (
        "for i in $(seq 20); do n=$(curl -s http://127.0.0.1:8080/colibri/stats | grep -o 'participants\":[0-9]*');"
    )
    assert (
        ssh(site, f'{waited} test "$n" = "participants\\":0" && break; sleep 1; done; echo "$n"') == 'participants":0'
    )
    rooms = ssh(site, f"prosodyctl shell 'muc:list(\"conference.{site.domain}\")' 2>&1")
    assert "0 rooms" in rooms


def test_without_a_declared_member_half_of_it_is_not_tested(site: LabSite) -> None:
    settings = site.path / "group_vars/all/site.yml"
    declared = settings.read_text()
    settings.write_text(declared.replace("verification_probe_account: rehearsal", 'verification_probe_account: ""'))
    try:
        findings = [f for f in verify(load(site), controls=NEAR).findings if f.vantage != "inside"]
    finally:
        settings.write_text(declared)
    assert {f.control for f in findings} == set(NEAR)
    for finding in findings:
        assert finding.result is Result.NOT_TESTED, finding
        assert "declare verification_probe_account" in finding.reason


def test_a_wrong_password_is_no_vote_on_who_may_open_rooms(site: LabSite) -> None:
    """The meeting does not start, which is a fault; of rooms and lobby nothing is proved."""
    ssh(site, f"prosodyctl passwd rehearsal@{site.domain} <<'END'\nanother\nanother\nEND")
    try:
        found = {f.control: f for f in verify(load(site), controls=NEAR).findings if f.vantage != "inside"}
    finally:
        play(site)
    assert found["AVL-02"].result is Result.FAIL
    assert "the declared member cannot log in: not-authorized" in found["AVL-02"].seen
    assert found["VKS-01"].result is Result.NOT_TESTED
    assert found["VKS-02"].result is Result.NOT_TESTED
