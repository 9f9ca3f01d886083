"""One order of findings and hosts for every form of the report."""

from __future__ import annotations

from orchestrator.evidence.results import Finding, Report


def hosts_in_order(report: Report) -> tuple[str, ...]:
    """Return the report's hosts, then any other name that a finding carries, by name."""
    others = {finding.host for finding in report.findings} - set(report.hosts)
    return (*report.hosts, *sorted(others))


def findings_in_order(report: Report) -> tuple[Finding, ...]:
    """Return the findings by the catalogue's order of controls, then host, then vantage point.

    The order does not depend on which host answered first.
    """
    controls = {control.id: number for number, control in enumerate(report.controls)}
    hosts = {host: number for number, host in enumerate(hosts_in_order(report))}

    def place(finding: Finding) -> tuple[int, str, int, str, str, str, str, str, str, str]:
        return (
            controls.get(finding.control, len(controls)),
            finding.control,
            hosts[finding.host],
            finding.vantage,
            finding.result,
            finding.seen,
            finding.wanted,
            finding.remedy,
            finding.reason,
            finding.waiver,
        )

    return tuple(sorted(report.findings, key=place))
