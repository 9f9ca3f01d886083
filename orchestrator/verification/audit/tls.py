"""sslyze on each TLS service that people reach, by the site's crypto profile in Mozilla's format.

Prosody's client port is none of them: it lets in bridges alone, and verify asks it from inside (CRY-01 to CRY-03). sslyze runs as
a process only: its licence is the AGPL.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Iterator

from orchestrator.verification.audit.places import MISSING, Target
from orchestrator.verification.audit.policies import mozilla_tls_config
from orchestrator.verification.audit.results import NotApplicable, NotHere, Reading, Severity
from orchestrator.verification.crypto import chosen
from orchestrator.verification.subject import Subject

NAME = "sslyze"
SECONDS = 300
VANTAGE = ""
_HINT = "there: pipx install sslyze"
_SCRIPT = """
command -v sslyze >/dev/null || exit {missing}
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
cat >"$folder/profile.json" <<'{mark}'
{profile}
{mark}
cat >"$folder/ca.pem" <<'{mark}'
{authority}
{mark}
timeout {seconds} sslyze --slow_connection --custom_tls_config "$folder/profile.json" --json_out "$folder/out.json" {trust} {servers}
echo '{mark}'
cat "$folder/out.json"
"""
_VERDICT = re.compile(r"^ {4}(\S+): (OK - Compliant|FAILED - Not compliant|ERROR - Scan did not run successfully)")
_ISSUE = re.compile(r"^ {8}\* (\w+): (.*)$")


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Run it at the vantage point; raises NotApplicable, NotHere, OutOfTime or Unreachable."""
    places = servers(target.subject)
    if not places:
        raise NotApplicable("no declared flow of this host is a TLS service")
    profile = mozilla_tls_config(chosen(target.subject.settings))
    authority = target.subject.authority.strip()
    mark = f"== {secrets.token_hex(16)}"
    script = _SCRIPT.format(
        missing=MISSING,
        mark=mark,
        profile=profile,
        authority=authority,
        trust='--certinfo_ca_file "$folder/ca.pem"' if authority else "",
        servers=" ".join(shlex.quote(place) for place in places),
        seconds=SECONDS - 20,
    )
    ran = target.outside.run(script, seconds=SECONDS)
    if ran.code == MISSING:
        raise NotHere(f"sslyze is not at the vantage point ({target.outside.point})", _HINT)
    screen, _, raw = ran.stdout.partition(f"{mark}\n")
    files = {"sslyze.profile.json": profile, "sslyze.txt": screen + ran.stderr, "sslyze.json": raw}
    return read(screen, raw, len(places)), tuple(target.keep(name, text) for name, text in files.items())


def servers(subject: Subject) -> list[str]:
    """Return each TLS service at each address as sslyze takes it: name:port{address}."""
    names = subject.tls_names()
    return [f"{name}:{port}{{{address}}}" for name, port in names for address in subject.addresses]


def read(screen: str, raw: str, wanted: int) -> Reading:
    """Read what sslyze printed, whose verdicts stand nowhere else, and its JSON; one verdict a server is wanted."""
    try:
        told = json.loads(raw)
        version = str(told["sslyze_version"])
        unreached = [
            row["server_location"]["hostname"] for row in told["server_scan_results"] if not row["scan_result"]
        ]
    except (ValueError, KeyError, TypeError):
        return Reading(problem=f"sslyze came to no result: {' '.join(screen.split())[-200:] or 'it printed nothing'}")
    verdicts = list(_verdicts(screen))
    broken = [server for server, word, _ in verdicts if word.startswith("ERROR")]
    if broken or unreached or len(verdicts) != wanted:
        some = ", ".join(sorted({*broken, *unreached})) or f"{wanted - len(verdicts)} of {wanted}"
        return Reading(problem=f"sslyze could not look at every server: {some}", version=version)
    findings = dict.fromkeys(
        (f"{server}:{name}", Severity.HIGH, f"{server}: {text}") for server, _, rows in verdicts for name, text in rows
    )
    good = sum(1 for _, word, _ in verdicts if word.startswith("OK"))
    if good < wanted and not findings:
        return Reading(problem="sslyze does not say what is not compliant", version=version)
    return Reading(tuple(findings), {"compliant": f"{good} of {wanted}"}, version)


def _verdicts(screen: str) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Yield (server, verdict, issues); issues are indented below their server."""
    server, word, issues = "", "", list[tuple[str, str]]()
    for line in screen.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2].splitlines():
        if verdict := _VERDICT.match(line):
            if server:
                yield server, word, issues
            server, word, issues = verdict.group(1), verdict.group(2), []
        elif issue := _ISSUE.match(line):
            issues.append((issue.group(1), issue.group(2)))
    if server:
        yield server, word, issues
