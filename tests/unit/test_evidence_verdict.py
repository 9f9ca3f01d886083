"""The verdict: its numbers are the findings' numbers, and it never says more than was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.evidence.results import Finding, Report, Result
from orchestrator.evidence.verdict import mood, verdict
from tests.unit.evidence_cases import finding, report


def of(*results: Result, hosts: tuple[str, ...] = ("meet",)) -> Report:
    found: list[Finding] = [finding(number, result, host) for host in hosts for number, result in enumerate(results, 1)]
    return report(hosts=hosts, findings=tuple(found))


def test_german_counts_every_kind() -> None:
    assert verdict(report(), "de") == (
        "Dieser Server hält 3 von 6 geprüften Anforderungen ein; bei 2 fand sich ein Verstoß, "
        "für eine gilt eine Ausnahme, eine Prüfung blieb ohne Ergebnis, eine weitere ist nur erklärt, "
        "eine weitere wurde nicht geprüft."
    )


def test_english_counts_every_kind() -> None:
    assert verdict(report(), "en") == (
        "This server meets 3 of the 6 requirements that were checked; a violation was found in 2, one is waived, "
        "one check came to no result, one more is only declared, one more was not tested."
    )


def test_several_of_each_are_numbered() -> None:
    several = of(*[kind for kind in Result for _ in range(3)])
    said = verdict(several, "en")
    for part in ("meets 3 of the 9", "found in 3", "3 are waived", "3 checks", "3 more are only", "3 more were not"):
        assert part in said
    assert verdict(several, "de").count("3") == 6


def test_all_passed_says_all_and_nothing_else() -> None:
    assert verdict(of(Result.PASS, Result.PASS), "de") == "Dieser Server hält alle 2 geprüften Anforderungen ein."
    assert verdict(of(Result.PASS, Result.PASS), "en") == "This server meets all 2 requirements that were checked."


def test_a_look_from_inside_only_says_so() -> None:
    def said(language: str, *results: Result) -> str:
        return verdict(replace(of(*results), inside_only=True), language)

    both = (Result.PASS, Result.PASS)
    assert said("de", *both) == "Dieser Server hält alle 2 geprüften Anforderungen ein, nur von innen betrachtet."
    assert said("en", *both, Result.FAIL).startswith(
        "This server meets 2 of the 3 requirements that were checked, seen "
    )
    assert "inside" not in said("en", Result.ERROR)


def test_one_requirement_met_or_not() -> None:
    assert verdict(of(Result.PASS), "de") == "Dieser Server hält die eine geprüfte Anforderung ein."
    assert verdict(of(Result.FAIL), "de").startswith("Dieser Server hält die eine geprüfte Anforderung nicht ein;")
    assert verdict(of(Result.PASS), "en") == "This server meets the one requirement that was checked."
    assert verdict(of(Result.FAIL), "en").startswith("This server does not meet the one requirement")


def test_several_servers_are_counted_by_checks() -> None:
    several = of(Result.PASS, Result.FAIL, hosts=("a", "b", "c"))
    assert verdict(several, "de").startswith("Diese 3 Server bestehen 3 von 6 Prüfungen; bei 3 ")
    assert verdict(several, "en").startswith("These 3 servers pass 3 of 6 checks; ")


def test_one_control_from_two_vantage_points_is_two_checks_not_two_requirements() -> None:
    twice = report(findings=(finding(1, Result.PASS), finding(1, Result.FAIL, vantage="outside")))
    assert verdict(twice, "de").startswith("Dieser Server besteht 1 von 2 Prüfungen;")
    assert verdict(twice, "en").startswith("This server passes 1 of 2 checks;")


@pytest.mark.parametrize("unmeasured", [Result.ERROR, Result.NOT_TESTED, Result.NOT_APPLICABLE, Result.DECLARED])
def test_what_was_not_measured_is_neither_met_nor_checked(unmeasured: Result) -> None:
    assert verdict(of(unmeasured), "de").startswith("Es wurde nichts gemessen, dieser Bericht belegt also nichts")
    assert verdict(of(Result.PASS, Result.PASS, unmeasured), "de").startswith("Dieser Server hält alle 2 geprüften ")


def test_an_empty_report_is_evidence_of_nothing() -> None:
    empty = report(hosts=(), findings=())
    assert verdict(empty, "de") == "Es wurde nichts gemessen, dieser Bericht belegt also nichts."
    assert mood(empty) == "open"


def test_mood_follows_the_exit_code() -> None:
    assert mood(of(Result.PASS, Result.ERROR)) == "bad"
    assert mood(of(Result.PASS, Result.FAIL)) == "bad"
    assert mood(of(Result.PASS, Result.WAIVED, Result.NOT_TESTED)) == "good"
    assert mood(of(Result.WAIVED, Result.NOT_TESTED)) == "open"
