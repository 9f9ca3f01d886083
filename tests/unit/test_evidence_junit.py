"""JUnit XML: a CI system shows what failed, and nothing that was not measured as passed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from orchestrator.evidence.junit import junit_xml
from orchestrator.evidence.results import Report, Result
from tests.unit.evidence_cases import HOSTILE, finding, report


def parsed(subject: Report) -> ElementTree.Element:
    return ElementTree.fromstring(junit_xml(subject))


def case_of(result: Result) -> ElementTree.Element:
    case = parsed(report(findings=(finding(1, result),))).find("testsuite/testcase")
    assert case is not None
    return case


def test_counts_add_up_per_suite_and_in_all() -> None:
    found = (*report().findings, finding(1, Result.FAIL, "bridge"), finding(2, Result.PASS, "bridge"))
    root = parsed(report(hosts=("meet", "bridge"), findings=found))
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["meet", "bridge"]
    for name, path in (("tests", ""), ("failures", "/failure"), ("errors", "/error"), ("skipped", "/skipped")):
        for suite in suites:
            assert int(suite.get(name, "")) == len(suite.findall(f"testcase{path}")), name
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in suites), name
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["12", "3", "1", "4"]


def test_only_a_pass_is_a_bare_test_case() -> None:
    elements = {result: [child.tag for child in case_of(result)] for result in Result}
    assert elements == {
        Result.PASS: [],
        Result.FAIL: ["failure"],
        Result.ERROR: ["error"],
        Result.WAIVED: ["skipped"],
        Result.DECLARED: ["skipped"],
        Result.NOT_APPLICABLE: ["skipped"],
        Result.NOT_TESTED: ["skipped"],
    }


def test_messages_say_why() -> None:
    assert case_of(Result.WAIVED)[0].get("message") == "waived: A. Person: waiver-1, until 2027-01-31"
    assert case_of(Result.NOT_TESTED)[0].get("message") == "not tested: reason-1"
    assert case_of(Result.NOT_APPLICABLE)[0].get("message") == "not applicable: reason-1"
    assert case_of(Result.DECLARED)[0].get("message") == "declared: seen-1"
    error = case_of(Result.ERROR)[0]
    assert (error.get("message"), error.text) == ("error: reason-1", "reason: reason-1\n")
    failure = case_of(Result.FAIL)[0]
    assert failure.get("message") == "fail: seen-1"
    assert failure.text == "seen: seen-1\nwanted: wanted-1\nremedy: ratssaal repair 1 --host meet\n"


def test_case_names_the_control_the_host_and_a_vantage_point_outside() -> None:
    case = parsed(report(findings=(finding(1, Result.PASS, vantage="192.0.2.7"),))).find(".//testcase")
    assert case is not None
    assert case.get("name") == "TST-01 English title 1 (from 192.0.2.7)"
    assert case.get("classname") == "ratssaal.rathaus.meet"


def test_hostile_text_stays_text_and_the_document_well_formed() -> None:
    root = parsed(report(findings=(finding(1, Result.FAIL, host=HOSTILE, seen=HOSTILE, remedy=HOSTILE),)))
    assert root.findall(".//script") == []
    text = root.findtext("testsuite/testcase/failure") or ""
    assert text.startswith("seen: <script>alert(1)</script>")
    assert "␛[31m\\u202egpj.exe \ufffd␀" in text


def test_the_same_report_gives_the_same_bytes_and_says_when_it_rests_on_standins() -> None:
    assert junit_xml(report()) == junit_xml(report(findings=report().findings[::-1]))
    told = [
        ("standins", report(standins=held), value) for held, value in ((True, "yes"), (False, "no"), (None, "unknown"))
    ]
    told += [("inside-only", report(inside_only=held), value) for held, value in ((True, "yes"), (False, "no"))]
    for name, of, value in told:
        given = parsed(of).find(f"testsuite/properties/property[@name='{name}']")
        assert given is not None
        assert given.get("value") == value
