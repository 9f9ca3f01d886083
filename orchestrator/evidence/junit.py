"""The report as JUnit XML, for the test page of a CI system."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from orchestrator.evidence.order import findings_in_order, hosts_in_order
from orchestrator.evidence.results import Finding, Report, Result
from orchestrator.evidence.visible import visible

# Only a pass is a pass: what was waived, declared or not looked at is "skipped", never a green test.
_ELEMENTS = {
    Result.FAIL: "failure",
    Result.ERROR: "error",
    Result.WAIVED: "skipped",
    Result.DECLARED: "skipped",
    Result.NOT_APPLICABLE: "skipped",
    Result.NOT_TESTED: "skipped",
}


def junit_xml(report: Report) -> str:
    """Return one test suite per host and one test case per finding, as XML 1.0 with a line feed at the end."""
    findings = findings_in_order(report)
    root = ElementTree.Element("testsuites", {"name": visible(f"ratssaal {report.site}"), **_totals(findings)})
    for host in hosts_in_order(report):
        of_host = [finding for finding in findings if finding.host == host]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            {"name": visible(host), "timestamp": report.started, "hostname": visible(host), **_totals(of_host)},
        )
        _properties(suite, report)
        for finding in of_host:
            _case(suite, report, finding)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _totals(findings: Sequence[Finding]) -> dict[str, str]:
    kinds = [_ELEMENTS.get(finding.result, "") for finding in findings]
    return {
        "tests": str(len(kinds)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
    }


def _properties(suite: ElementTree.Element, report: Report) -> None:
    standins = {True: "yes", False: "no", None: "unknown"}[report.standins]
    values = {"ratssaal": report.version, "site": report.site, "standins": standins}
    values["inside-only"] = "yes" if report.inside_only else "no"
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": visible(value)})


def _case(suite: ElementTree.Element, report: Report, finding: Finding) -> None:
    titles = {control.id: control.title_en for control in report.controls}
    name = " ".join(part for part in (finding.control, titles.get(finding.control, "")) if part)
    if finding.vantage != "inside":
        name += f" (from {finding.vantage})"
    classname = f"ratssaal.{report.site}.{finding.host}"
    case = ElementTree.SubElement(suite, "testcase", {"classname": visible(classname), "name": visible(name)})
    element = _ELEMENTS.get(finding.result)
    if element is None:
        return
    result = ElementTree.SubElement(case, element, {"message": visible(_message(finding))})
    if element != "skipped":
        result.set("type", finding.control)
    told = {name: getattr(finding, name) for name in ("seen", "wanted", "reason", "remedy")}
    result.text = visible("".join(f"{name}: {text}\n" for name, text in told.items() if text))


def _message(finding: Finding) -> str:
    because = {Result.WAIVED: finding.waiver, Result.FAIL: finding.seen}.get(finding.result, finding.reason)
    label = finding.result.value.replace("_", " ")
    return f"{label}: {because or finding.seen}"
