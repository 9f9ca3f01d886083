"""The machinery of verification, without a host: nothing turns into a pass by accident."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.verification.asking import answer, ask
from orchestrator.verification.batch import MAXIMUM_ROUNDS, Answers, BatchBackend, prefetch
from orchestrator.verification.catalogue import load_catalogue, select
from orchestrator.verification.sheet import NothingLookedAt, NotTested, Sheet
from orchestrator.verification.shipping import Vantage


def test_catalogue_is_complete() -> None:
    controls = load_catalogue()
    assert len({control.id for control in controls}) == len(controls)
    for control in controls:
        for words in (control.title, control.risk, control.looked_at, control.remedy):
            assert words.en
            assert words.de
            assert words.en != words.de or words is control.remedy
        assert control.references


def test_unknown_control_is_named() -> None:
    assert [control.id for control in select(("net-01",))] == ["NET-01"]
    with pytest.raises(UsageError, match="no control NET-99"):
        select(("NET-99",))


def test_sheet_turns_notes_into_an_outcome() -> None:
    good, bad, blind, empty = Sheet(), Sheet(), Sheet(), Sheet()
    good.expect(True, "a", "b")
    good.finish()
    bad.expect(True, "a", "b")
    bad.expect(False, "seen", "wanted")
    bad.could_not_look("dark")
    with pytest.raises(AssertionError, match=r"seen \(wanted: wanted\)"):
        bad.finish()
    blind.expect(True, "a", "b")
    blind.could_not_look("dark")
    with pytest.raises(NotTested, match="dark"):
        blind.finish()
    with pytest.raises(NothingLookedAt):
        empty.finish()


class FakeHost:
    """What a check sees of testinfra's host."""

    def __init__(self, backend: BatchBackend) -> None:
        self.backend = backend
        self.run = backend.run


def _backend(shipped: list[list[str]]) -> BatchBackend:
    def ship(commands: list[str]) -> Answers:
        shipped.append(commands)
        return {command: (0, f"<{command}>".encode(), b"") for command in commands}

    return BatchBackend("h1", ship)


def test_independent_questions_take_one_round_trip() -> None:
    shipped: list[list[str]] = []
    backend = _backend(shipped)
    host = FakeHost(backend)

    def first() -> list[Any]:
        return ask(host, "a", "b")

    def second() -> str:
        return answer(host, answer(host, "c"))

    prefetch([first, second], backend)
    assert shipped == [["a", "b", "c"], ["<c>"]]
    assert [result.stdout for result in first()] == ["<a>", "<b>"]
    assert second() == "<<c>>"
    assert backend.round_trips == 2


def test_endless_questions_end_and_are_counted() -> None:
    shipped: list[list[str]] = []
    backend = _backend(shipped)
    host = FakeHost(backend)

    def deep() -> str:
        text = "x"
        for _ in range(6):
            text = answer(host, text)
        return text

    prefetch([deep], backend)
    assert len(shipped) == MAXIMUM_ROUNDS
    assert deep() == "<<<<<<x>>>>>>"
    assert backend.round_trips == 6


def test_failing_command_is_no_empty_answer() -> None:
    backend = BatchBackend("h1", lambda commands: {c: (1, b"", b"boom") for c in commands})
    with pytest.raises(RuntimeError, match="boom"):
        answer(FakeHost(backend), "x")


def test_failed_host_is_not_asked_again_and_answers_may_be_broken() -> None:
    shipped: list[list[str]] = []

    def ship(commands: list[str]) -> Answers:
        shipped.append(commands)
        raise RuntimeError("it hangs")

    backend = BatchBackend("h1", ship)
    host = FakeHost(backend)
    prefetch([lambda: answer(host, "a"), lambda: answer(host, "b")], backend)
    for command in ("a", "b", "c"):
        with pytest.raises(RuntimeError, match="it hangs"):
            answer(host, command)
    assert shipped == [["a", "b"]]
    broken = FakeHost(BatchBackend("h1", lambda commands: {c: (0, b"M\xfcnchen", b"") for c in commands}))
    assert answer(broken, "a") == "M\ufffdnchen"


def test_probes_run_from_one_file_and_get_their_secrets_from_memory(tmp_path: Path) -> None:
    vantage = Vantage(VantagePoint("local"), "", tmp_path, {"account": "anna", "password": "pa55"})
    try:
        show = f"{sys.executable} -c 'import os; print(open(os.environ[\"RATSSAAL_PROBE_SECRETS\"]).read())'"
        imports = "python3 -c 'import sys, os; sys.path.insert(0, os.environ[\"RATSSAAL_PROBES\"]); import aioice, websockets'"
        found = vantage.ship([show, imports, "echo $RATSSAAL_PROBES"])
    finally:
        vantage.close()
    assert json.loads(found[show][1]) == {"account": "anna", "password": "pa55"}
    assert found[imports][0] == 0, found[imports]
    assert not Path(found["echo $RATSSAAL_PROBES"][1].decode().strip()).exists()
