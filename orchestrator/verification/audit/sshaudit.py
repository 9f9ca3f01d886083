"""ssh-audit: by its own standards, and by the site's crypto profile as a policy in its own format.

It runs on the control node, against the address by which Ratssaal logs in: nobody else needs to reach sshd. The test of the
connection rate is left out: sshd would hold it against the operator's address (OpenSSH 9.8 PerSourcePenalties).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.inventory.vantagepoint import VantagePoint
from orchestrator.verification.audit.places import MISSING, Ran, Target, run_here
from orchestrator.verification.audit.policies import ssh_audit_policy
from orchestrator.verification.audit.results import NotHere, Reading, Severity
from orchestrator.verification.crypto import chosen

NAME = "ssh-audit"
SECONDS = 120
VANTAGE = str(VantagePoint("local"))
_HINT = "on the control node: pipx install ssh-audit"
# Its exit codes say how bad it is (ssh-audit:src/ssh_audit/exitcodes.py); what it prints says more.
_SCRIPT = """
command -v ssh-audit >/dev/null || exit {missing}
ssh-audit -h | sed -n 's/^# ssh-audit v\\([0-9.]*\\).*/\\1/p'
policy=$(mktemp) && trap 'rm -f "$policy"' EXIT
cat >"$policy" <<'END'
{policy}
END
for how in "-P $policy" ""; do
    echo '{mark}'
    ssh-audit $how -jj --skip-rate-test -p {port} {address}
done
"""
_MARK = "== ssh-audit =="
_SEVERITIES = {"fail": Severity.HIGH, "warn": Severity.MEDIUM}
_KINDS = ("kex", "key", "enc", "mac")


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Run it twice and return what it says and its raw files; raises NotHere or OutOfTime."""
    policy = ssh_audit_policy(chosen(target.subject.settings))
    script = _SCRIPT.format(
        missing=MISSING,
        mark=_MARK,
        policy=policy,
        port=target.host.port,
        address=shlex.quote(target.host.address),
    )
    ran = run_here(["sh", "-s"], script, seconds=SECONDS)
    if ran.code == MISSING:
        raise NotHere("ssh-audit is not on the control node", _HINT)
    return _judged(ran, target, policy)


def _judged(ran: Ran, target: Target, policy: str) -> tuple[Reading, tuple[str, ...]]:
    version, *told = ran.stdout.split(_MARK)
    kept = [target.keep("ssh-audit.policy.txt", policy)]
    names = ("policy", "standard")
    kept += [target.keep(f"ssh-audit.{name}.json", text) for name, text in zip(names, told, strict=False)]
    if len(told) != 2:
        return Reading(problem=f"ssh-audit did not run: {ran.said}"), tuple(kept)
    return read(*told, version=version.strip()), tuple(kept)


def read(by_policy: str, by_standard: str, *, version: str = "") -> Reading:
    """Read the JSON of both runs; what is none says why, in ssh-audit's own words."""
    try:
        policy, standard = json.loads(by_policy), json.loads(by_standard)
        findings = (*_beyond(policy), *_weak(standard))
        figures = {"policy": "passed" if policy["passed"] else "failed", "server": standard["banner"]["software"]}
    except (ValueError, KeyError, TypeError) as error:
        said = " ".join((by_policy if not by_policy.lstrip().startswith("{") else by_standard).split())[:200]
        return Reading(problem=f"ssh-audit came to no result: {said or error}")
    return Reading(findings, figures, version)


def _beyond(policy: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """Yield each field of the policy that the server does not keep to, with what goes beyond it."""
    for error in policy["errors"]:
        allowed = {*error["expected_required"], *error["expected_optional"]}
        beyond = [name for name in error["actual"] if name not in allowed]
        field = error["mismatched_field"]
        text = (
            f"{field}: {', '.join(beyond) or 'something is missing'} (allowed: {', '.join(error['expected_required'])})"
        )
        yield f"policy:{field}", Severity.HIGH, text
    if not policy["passed"] and not policy["errors"]:
        yield "policy", Severity.HIGH, "the policy is not kept to; ssh-audit does not say where"


def _weak(standard: Mapping[str, Any]) -> Iterator[tuple[str, Severity, str]]:
    """Yield each algorithm that ssh-audit's own standards hold for weak; the gravest note decides."""
    for kind in _KINDS:
        for row in standard[kind]:
            notes = row["notes"]
            grave = next((level for level in _SEVERITIES if notes.get(level)), None)
            if grave:
                texts = [note for level in _SEVERITIES for note in notes.get(level, [])]
                size = f" of {row['keysize']} bit" if "keysize" in row else ""
                yield f"{kind}:{row['algorithm']}", _SEVERITIES[grave], f"{row['algorithm']}{size}: {'; '.join(texts)}"
