"""Whether the site's own services talk to each other encrypted, and know to whom."""

from __future__ import annotations

import ipaddress

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.javasettings import started_with
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

# Prosody's own list of sessions, without names: how each came, whether it has logged in, and how it is encrypted.
_SESSIONS = "prosodyctl shell 'c2s:show(nil, \"method type secure ip\")' </dev/null 2>&1; true"
# Ports on which nothing but TLS or SSH is spoken; 5222 is looked at in Prosody itself.
ENCRYPTED = (443, 5222, 5349)
_CONNECTIONS = "ss -Htn state established"
_CLIENTS = {"jicofo": "Jicofo", "jitsi-videobridge2": "the bridge"}
# The last is the old name of Jicofo's first (jicofo:jicofo-common/src/main/kotlin/org/jitsi/jicofo/xmpp/XmppConfig.kt).
_CAREFUL = {
    "disable-certificate-verification": "false",
    "use-tls": "true",
    "security-mode": "required",
    "always-trust-mode-enabled": "false",
}
# As HOCON reads them.
_TRUTHS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def _started(unit: str) -> str:
    """Return the command for what a Java service was started with of its connection to Prosody."""
    return started_with(unit, f"^(.*[.])?({'|'.join(name.replace('-', '[-_]') for name in _CAREFUL)})$")


@pytest.mark.control("CRY-08")
def test_sessions_at_prosody(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Every session that did not come through the web server is encrypted: Jicofo's and each bridge's."""
    if not subject.signalling:
        raise NotApplicable("Prosody does not run here")
    (shown,) = ask(host, _SESSIONS)
    told = text(shown)
    if "sessions shown" not in told:
        sheet.could_not_look(f"Prosody does not tell its sessions: {' '.join(told.split())[:120]}")
        return
    rows = [
        [part.strip() for part in line.lstrip("| ").split("|")] for line in told.splitlines() if line.count("|") >= 3
    ]
    # Who has not logged in yet has said nothing that is worth hiding, and may still begin TLS.
    direct = [row for row in rows if row[0] == "TCP" and row[1] != "c2s_unauthed"]
    plain = [row for row in direct if not row[2].startswith("TLS")]
    for _, _, security, address, *_ in plain:
        sheet.expect(False, f"a session from {address} at Prosody is {security}", "encrypted by TLS")
    if direct:
        kinds = ", ".join(sorted({row[2] for row in direct if row not in plain})) or "none"
        sheet.expect(True, f"{len(direct)} sessions of services at Prosody: {kinds}", "")
    else:
        sheet.could_not_look("no service talks to Prosody now")


@pytest.mark.control("CRY-08")
def test_services_know_whom_they_talk_to(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Encryption towards anybody is none: neither Jicofo nor the bridge takes just any certificate."""
    units = subject.java_units
    if not units:
        raise NotApplicable("neither Jicofo nor a bridge runs here")
    for unit, result in zip(units, ask(host, *(_started(unit) for unit in units)), strict=True):
        told = json_of(result)
        if not told["running"]:
            sheet.could_not_look(f"{unit} does not run")
            continue
        loose = []
        for name, value in told["rows"]:
            key = name.rpartition(".")[2].lower().replace("_", "-")
            plain = _TRUTHS.get(value.lower(), value.lower())
            if "${" in value or not value:
                sheet.could_not_look(f"{_CLIENTS[unit]}: {key}, which its settings take from elsewhere")
            elif plain != _CAREFUL[key]:
                loose.append(f"{key} {plain}")
        for reason in told["unknown"]:
            sheet.could_not_look(f"{_CLIENTS[unit]}: {reason}")
        seen = f"{_CLIENTS[unit]} talks to Prosody with {', '.join(loose) or 'verification of its certificate'}"
        sheet.expect(not loose, seen, "encrypted, the certificate verified")


@pytest.mark.control("CRY-08")
def test_connections_between_own_hosts(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """What is open to another host of the site right now, on a port that may be plain."""
    others = {
        str(ipaddress.ip_address(entry[key])): name
        for name, entry in subject.topology["hosts"].items()
        for key in ("address", "address6")
        if entry[key] and name != subject.name
    }
    (shown,) = ask(host, _CONNECTIONS)
    known = {*ENCRYPTED, *(int(entry["ssh_port"]) for entry in subject.topology["hosts"].values())}
    plain: dict[str, int] = {}
    for line in text(shown).splitlines():
        (own, peer) = (_end(part) for part in line.split()[2:4])
        if peer[0] in others and not {own[1], peer[1]} & known:
            where = f"{others[peer[0]]} on port {min(own[1], peer[1])}/tcp"
            plain[where] = plain.get(where, 0) + 1
    for where, count in sorted(plain.items()):
        matter = f"{count} connections to {where}, not known to be encrypted"
        answered_for(subject, "CRY-08", sheet, matter, wanted="TLS")
    sheet.expect(True, f"{len(others)} addresses of other hosts looked for", "")


def _end(shown: str) -> tuple[str, int]:
    address, _, port = shown.rpartition(":")
    return address.strip("[]").partition("%")[0].removeprefix("::ffff:"), int(port)
