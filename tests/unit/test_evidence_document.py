"""Canonical JSON: the same bytes for the same report, and all of it."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import pytest

from orchestrator.evidence.document import canonical_json
from orchestrator.evidence.order import findings_in_order
from orchestrator.evidence.results import Result
from tests.unit.evidence_cases import HOSTILE, finding, report


def test_exit_code_is_6_for_fail_and_for_error_only() -> None:
    for result in Result:
        code = report(findings=(finding(1, Result.PASS), finding(2, result))).exit_code
        assert code == (6 if result in (Result.FAIL, Result.ERROR) else 0), result


def test_count_counts_each_kind() -> None:
    assert [report().count(result) for result in Result] == [3, 2, 1, 1, 1, 1, 1]


def test_the_whole_report_is_in_it() -> None:
    original = report()
    document = json.loads(canonical_json(original))
    assert document.keys() == {field.name for field in fields(original)} | {"schema_version", "counts"}
    assert document["findings"] == [asdict(item) for item in findings_in_order(original)]
    assert document["controls"] == [{**asdict(item), "references": list(item.references)} for item in original.controls]
    assert document["loosened"] == [asdict(item) for item in original.loosened]
    assert document["round_trips"] == original.round_trips
    assert document["seconds"] == original.seconds
    assert (document["site"], document["standins"], document["hosts"]) == ("rathaus", False, ["meet"])


def test_the_order_in_which_hosts_answered_does_not_show() -> None:
    found = tuple(finding(number, Result.PASS, host) for host in ("b", "a") for number in (2, 1))
    one = report(hosts=("b", "a"), findings=found, round_trips={"a": 1, "b": 2})
    other = report(hosts=("b", "a"), findings=found[::-1], round_trips={"b": 2, "a": 1})
    assert canonical_json(one) == canonical_json(other)
    assert [(item.control, item.host) for item in findings_in_order(one)] == [
        ("TST-01", "b"),
        ("TST-01", "a"),
        ("TST-02", "b"),
        ("TST-02", "a"),
    ]


def test_every_field_changes_the_bytes() -> None:
    plain = canonical_json(report())
    changes: list[dict[str, Any]] = [
        {"standins": True},
        {"standins": None},
        {"undecided": ()},
        {"loosened": ()},
        {"inside_only": True},
        {"version": "0.1.1"},
        {"seconds": {"inside": 1.6}},
        {"findings": report().findings[1:]},
    ]
    assert len({plain, *(canonical_json(report(**change)) for change in changes)}) == len(changes) + 1


def test_the_text_is_sorted_and_ends_with_one_line_feed() -> None:
    text = canonical_json(report())
    document = json.loads(text)
    assert list(document) == sorted(document)
    assert document["schema_version"] == 1
    assert document["counts"]["fail"] == 2
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")


def test_broken_utf8_from_a_host_can_be_written() -> None:
    text = canonical_json(report(findings=(finding(1, Result.FAIL, seen=HOSTILE),)))
    text.encode("utf-8")
    assert json.loads(text)["findings"][0]["seen"] == HOSTILE.replace("\udcff", "\ufffd")


def test_a_duration_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(report(seconds={"inside": float("nan")}))


def test_findings_follow_the_catalogue_and_not_the_alphabet() -> None:
    turned = report(controls=report().controls[::-1])
    order = [item.control for item in findings_in_order(turned)]
    assert order == [item.id for item in turned.controls]
    assert order != sorted(order)


def test_a_control_without_a_text_comes_last_and_is_kept() -> None:
    known, unknown = finding(1, Result.PASS), finding(2, Result.FAIL, control="AAA-01")
    assert findings_in_order(report(findings=(unknown, known))) == (known, unknown)
