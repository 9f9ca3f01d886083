"""Canonical JSON: the same bytes for the same report, and nothing altered is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.evidence.document import InvalidReport, canonical_json, read_report
from orchestrator.evidence.order import findings_in_order
from orchestrator.evidence.results import Result
from tests.unit.evidence_cases import HOSTILE, finding, report


def test_exit_code_is_6_for_fail_and_for_error_only() -> None:
    for result in Result:
        code = report(findings=(finding(1, Result.PASS), finding(2, result))).exit_code
        assert code == (6 if result in (Result.FAIL, Result.ERROR) else 0), result


def test_count_counts_each_kind() -> None:
    assert [report().count(result) for result in Result] == [3, 2, 1, 1, 1, 1, 1]


def test_what_was_written_is_read_back_equal() -> None:
    original = report()
    again = read_report(canonical_json(original))
    assert again == replace(
        original,
        findings=findings_in_order(original),
        round_trips=dict(original.round_trips),
        seconds=dict(original.seconds),
    )
    assert canonical_json(again) == canonical_json(original)


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


def test_broken_utf8_from_a_host_can_be_written_and_read() -> None:
    text = canonical_json(report(findings=(finding(1, Result.FAIL, seen=HOSTILE),)))
    text.encode("utf-8")
    assert read_report(text).findings[0].seen == HOSTILE.replace("\udcff", "\ufffd")


def test_a_duration_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(report(seconds={"inside": float("nan")}))


def altered(**changes: Any) -> str:
    return json.dumps({**json.loads(canonical_json(report())), **changes})


def test_all_mistakes_are_told_at_once() -> None:
    document = json.loads(canonical_json(report()))
    document["surplus"] = 1
    document["findings"][0]["result"] = "fine"
    document["findings"][1]["note"] = "x"
    document["round_trips"]["meet"] = "3"
    del document["site"]
    with pytest.raises(InvalidReport) as caught:
        read_report(json.dumps(document))
    where = {problem.where for problem in caught.value.problems}
    assert where == {"surplus", "findings.0.result", "findings.1.note", "round_trips.meet", "site"}
    assert all(problem.hint for problem in caught.value.problems)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        canonical_json(report())[:-20],
        altered(schema_version=2),
        altered(findings=[]),
        altered(started="yesterday"),
        altered(finished="2026-01-05T08:00:42+01:00"),
        altered(finished="2026-01-05T08:00:42"),
        altered(standins="no"),
    ],
    ids=["empty", "no-json", "list", "cut-off", "schema", "removed-findings", "no-time", "not-utc", "naive", "no-bool"],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InvalidReport):
        read_report(text)


def test_the_unaltered_document_is_read() -> None:
    assert read_report(altered()).site == "rathaus"


def test_a_report_from_before_loosened_settings_were_listed_is_read() -> None:
    document = json.loads(canonical_json(report()))
    del document["loosened"]
    assert read_report(json.dumps(document)) == replace(read_report(canonical_json(report())), loosened=())


def test_findings_follow_the_catalogue_and_not_the_alphabet() -> None:
    turned = report(controls=report().controls[::-1])
    order = [item.control for item in findings_in_order(turned)]
    assert order == [item.id for item in turned.controls]
    assert order != sorted(order)


def test_a_control_without_a_text_comes_last_and_is_kept() -> None:
    known, unknown = finding(1, Result.PASS), finding(2, Result.FAIL, control="AAA-01")
    assert findings_in_order(report(findings=(unknown, known))) == (known, unknown)
