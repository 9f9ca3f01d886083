"""How often a password may be guessed, and who can make an account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

import pytest
import testinfra.host

from orchestrator.inventory.derivations import xmpp_domains
from orchestrator.verification import bosh, sshd
from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.catalogue import select
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.prosody import note_unnamed
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

MAXIMUM_TRIES = 6
MAXIMUM_STARTING = 100
MAXIMUM_GRACE = 120
# What a log-in by SSH passes, with what it includes; and what says whether root can be locked out.
_PAM = (
    "cd /etc/pam.d 2>/dev/null && grep -sHE '^[^#]*pam_(faillock|tally2?)\\.so' sshd $(sed -nE "
    "'s/^@include +//p; s/^[a-z]+ +(include|substack) +//p' sshd); echo == next ==; "
    "grep -sE '^[[:space:]]*(even_deny_root|deny[[:space:]]*=)' /etc/security/faillock.conf; true"
)


@pytest.mark.control("ACC-06")
def test_guessing_by_ssh(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """sshd bounds attempts and who has not logged in yet; nobody's attempts lock out root or who automates."""
    effective, further, stacks = ask(host, sshd.EFFECTIVE, sshd.FURTHER, _PAM)
    said = json_of(further)
    for where, rows in sshd.variants(sshd.effective(text(effective)), said, _BOUNDS):
        _judge_bounds(f" ({where})" if where else "", rows, sheet)
    _judge_lockout(text(stacks), subject, sheet)


_BOUNDS = (
    *("maxauthtries", "logingracetime", "maxstartups", "persourcemaxstartups"),
    *("persourcepenalties", "persourcepenaltyexemptlist"),
)


def _judge_bounds(where: str, rows: Mapping[str, str], sheet: Sheet) -> None:
    """Judge what sshd lets a stranger try, for everybody or under a condition."""
    starting, single = rows["maxstartups"], rows.get("persourcemaxstartups", "none")
    numbers = [rows["maxauthtries"], rows["logingracetime"], starting.rpartition(":")[2]]
    if not all(number.isdigit() for number in numbers):
        sheet.could_not_look(f"sshd's bounds{where}: attempts, seconds and connections are {', '.join(numbers)}")
        return
    tries, grace, most = map(int, numbers)
    sheet.expect(tries <= MAXIMUM_TRIES, f"sshd: {tries} attempts a connection{where}", f"at most {MAXIMUM_TRIES}")
    sheet.expect(0 < grace <= MAXIMUM_GRACE, f"sshd: {grace or 'no'} s to log in{where}", f"at most {MAXIMUM_GRACE} s")
    seen = f"sshd: connections without a log-in {starting}{where}"
    sheet.expect(most <= MAXIMUM_STARTING, seen, f"at most {MAXIMUM_STARTING}")
    fits = single.isdigit() and int(single) < most
    sheet.expect(fits, f"sshd: of one address {single}{where}", f"fewer than {most}, or one address takes all places")
    penalties = rows.get("persourcepenalties")
    if penalties is not None:  # OpenSSH 9.8 and later
        counted = penalties == "yes" or re.search(r"\bauthfail:([1-9]\d*)", penalties)
        seen = f"sshd: {'penalties for failed attempts' if counted else f'penalties {penalties[:20]}'}{where}"
        sheet.expect(bool(counted), seen, "a penalty for each failed attempt")
        exempt = _too_many(rows.get("persourcepenaltyexemptlist", "none"))
        seen = f"sshd: no penalty for {', '.join(exempt) or 'at most the networks of a few'}{where}"
        sheet.expect(not exempt, seen, "PerSourcePenaltyExemptList with networks of the own administration only")


def _too_many(exempt: str) -> list[str]:
    """Return of a list of exempted addresses (PATTERNS, ssh_config(5)) what holds a good part of the world, halves together."""
    found, networks = [], []
    for pattern in filter(None, exempt.split(",")):
        if re.match(r"[^.:]*[*?]", pattern):
            found.append(pattern)
        else:
            # Words, patterns and exceptions are none.
            with suppress(ValueError):
                networks.append(ip_network(pattern, strict=False))
    for network in collapse_addresses(each for each in networks if isinstance(each, IPv4Network)):
        found += [str(network)] if network.prefixlen < 8 else []
    for network6 in collapse_addresses(each for each in networks if isinstance(each, IPv6Network)):
        found += [str(network6)] if network6.prefixlen < 16 and network6.overlaps(_GLOBAL) else []
    return found


# The part of IPv6 from which the world comes (RFC 4291 2.5.4); fc00::/7 is a town's own.
_GLOBAL = IPv6Network("2000::/3")


def _judge_lockout(shown: str, subject: Subject, sheet: Sheet) -> None:
    """pam_faillock counts strangers' attempts too, and turns the owner away after them (pam_faillock(8))."""
    stacks, _, settings = shown.partition("== next ==\n")
    lines = stacks.splitlines()
    if not lines:
        sheet.expect(True, "no count of failed attempts locks an account", "")
        return
    root = "even_deny_root" in stacks + settings
    if root:
        sheet.expect(False, "pam_faillock locks root after attempts of strangers", "without even_deny_root")
    elif subject.user not in ("", "root"):
        sheet.expect(False, f"pam_faillock can lock {subject.user}, by whom Ratssaal logs in", "not in sshd's stack")
    else:
        sheet.expect(True, "failed attempts lock accounts, but not root", "")


@pytest.mark.control("ACC-06")
def test_guessing_members_passwords(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Wrong passwords of an account that does not exist, until Prosody refuses to look at more."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    if subject.settings.get("jitsi_auth") == "jwt":
        raise NotApplicable("people log in at the identity provider, which is not looked at")
    (control,) = select(("ACC-06",))
    most = int(control.limits["wrong passwords"])
    (told,) = ask(host, bosh.guesses(str(subject.settings["jitsi_domain"]), most + 1))
    if told.rc != 0:
        sheet.could_not_look("Prosody does not answer on its HTTP port")
        return
    refusals = json_of(told)
    wrong = refusals.count("not-authorized")
    if refusals and refusals[-1] in ("no answer", "closed") and not wrong:
        sheet.could_not_look(f"Prosody takes no password by BOSH ({refusals[-1]})")
        return
    bounded = wrong <= most and refusals[-1] != "not-authorized"
    seen = f"Prosody looked at {wrong} wrong passwords in a row{'' if bounded else ', and at more'}"
    sheet.expect(bounded, seen, f"refused after at most {most}")


@pytest.mark.control("ACC-07")
def test_nobody_makes_an_account(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every domain that Prosody serves is asked for an account, as a stranger would (XEP-0077)."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    names = xmpp_domains(subject.settings)
    domains = [names[role] for role in ("domain", "guest", "auth", "recorder")]
    (told,) = ask(host, bosh.registration(names["domain"], domains))
    if told.rc != 0:
        sheet.could_not_look("Prosody does not answer on its HTTP port")
        return
    facts = json_of(told)
    note_unnamed(facts, sheet)
    for domain, row in facts["domains"].items():
        if not row["session"]:
            sheet.could_not_look(f"{domain} talks to no stranger, so it was not asked for an account")
            continue
        open_ = row["offered"] or row["form"]
        sheet.expect(not open_, f"{domain} {'lets strangers make' if open_ else 'makes nobody'} an account", "refused")


@pytest.mark.control("ACC-07")
def test_second_factor(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No host can tell whether the identity provider asks for more than a password, nor add to Prosody's."""
    if not subject.signalling:
        raise NotApplicable("nobody logs in here")
    tokens = subject.settings.get("jitsi_auth") == "jwt"
    how = (
        "at an identity provider, which is not looked at" if tokens else "with a password alone (jitsi_auth: internal)"
    )
    answered_for(subject, "ACC-07", sheet, f"people log in {how}")
