"""A report as a town gets it: the first slice of controls on three hosts, every kind of result, texts of true length."""

from __future__ import annotations

from types import MappingProxyType

from orchestrator.evidence.results import ControlText, Finding, Report, Result
from orchestrator.inventory.loosened import loosened
from orchestrator.verification.catalogue import load_catalogue

HOSTS = ("meet1", "meet2", "recorder-im-keller.verwaltung.example.org")
OUTSIDE = "vantage.example.org (by SSH)"
_FAMILIES = {
    "CRY": (1, 2, 3, 4, 10),
    "NET": (1, 2, 3, 4, 5),
    "TRN": (1, 2, 4),
    "ACC": (1, 5),
    "OS": (1, 2, 3, 4, 5, 8),
    "WEB": (1,),
    "VKS": (1, 2, 3, 6, 8, 9, 11),
    "LOG": (1, 3),
    "BCK": (1,),
    "AVL": (2,),
    "CHG": (1, 2),
}
_FROM_OUTSIDE = {"CRY-02", "CRY-04", "NET-02", "TRN-01", "TRN-02", "WEB-01", "VKS-01", "VKS-02", "VKS-03", "VKS-11"}
_OTHERS = {
    ("CRY-03", "meet2"): Result.FAIL,
    ("NET-01", "meet1"): Result.FAIL,
    ("NET-01", "meet2"): Result.FAIL,
    ("VKS-11", "meet1"): Result.FAIL,
    ("OS-02", "recorder-im-keller.verwaltung.example.org"): Result.ERROR,
    ("LOG-03", "meet1"): Result.WAIVED,
    ("CHG-02", "meet1"): Result.DECLARED,
    ("NET-04", "meet1"): Result.NOT_APPLICABLE,
    ("BCK-01", "meet1"): Result.NOT_TESTED,
}
_SEEN = {
    Result.FAIL: "python3 listens on 0.0.0.0:4712/tcp; start page asks https://brand.example.net/logo.svg (image, stopped by the policy)",
    Result.PASS: "passwordauthentication no (for everybody); permitrootlogin prohibit-password (for root); maxauthtries 4 "
    "(for everybody); allowgroups ratssaal-ssh",
    Result.WAIVED: "/var/log/prosody/prosody.log.43.gz is 43 days old, longer than the 7 days that the site declares",
    Result.DECLARED: "restored on 2026-09-12 by A. Muster",
}


def control(name: str) -> ControlText:
    """Return a control's texts: the catalogue's, or some of the same length where it does not have them."""
    for known in load_catalogue():
        if known.id == name:
            return known.text()
    return ControlText(
        id=name,
        title_en=f"The measure {name} is in effect on every host of the site",
        title_de=f"Die Schutzmaßnahme {name} ist auf jedem Server der Anlage wirksam",
        risk="Whoever finds the way can read, change or end what the council says behind closed doors.",
        remedy="ratssaal provision",
        references=("IT-Grundschutz APP.5.4.A7", "Mindeststandard des BSI für Videokonferenzdienste ?"),
        risk_de="Wer den Weg findet, kann mitlesen, verändern oder beenden, was der Rat hinter verschlossenen Türen bespricht.",
        remedy_de="ratssaal provision",
    )


def town_report(*, standins: bool = True) -> Report:
    """Return a report of all controls of the first slice on HOSTS."""
    names = [f"{family}-{number:02}" for family, numbers in _FAMILIES.items() for number in numbers]
    return Report(
        site="rathaus-musterstadt",
        started="2026-11-05T08:00:00Z",
        finished="2026-11-05T08:00:58Z",
        version="0.1.0",
        standins=standins,
        hosts=HOSTS,
        findings=tuple(_finding(name, host) for name in names for host in HOSTS),
        controls=tuple(control(name) for name in names),
        round_trips=MappingProxyType(dict.fromkeys(HOSTS, 2)),
        seconds=MappingProxyType({**{f"questions to {host}": 1.41 for host in HOSTS}, "together": 57.9}),
        undecided=("web_pages: no imprint", "jitsi_support_contact: nobody can be asked"),
        loosened=loosened(
            {
                "jitsi_p2p": True,
                "jitsi_allowed_origins": ["https://dateien.verwaltung.example.org", "https://karten.example.org"],
                "hardening_skip": {
                    "ACC-08": {"who": "A. Muster", "why": "Konsolen der Leitstelle; Vorgang 17", "until": "2027-03-31"}
                },
            }
        ),
    )


def _finding(name: str, host: str) -> Finding:
    result = _OTHERS.get((name, host)) or _OTHERS.get((name, "meet1"), Result.PASS)
    if result is Result.FAIL and (name, host) not in _OTHERS:
        result = Result.PASS
    reasons = {
        Result.ERROR: "the checks' commands did not run: sudo: a password is required (hint: visudo -f /etc/sudoers.d/ratssaal)",
        Result.NOT_TESTED: "no backup is set up yet, so no restore could be tried",
        Result.NOT_APPLICABLE: "no container runs here",
    }
    return Finding(
        control=name,
        host=host,
        result=result,
        seen=_SEEN.get(result, ""),
        wanted="not declared, closed; own hosts only" if result is Result.FAIL else "",
        remedy=control(name).remedy if result is Result.FAIL else "",
        reason=reasons.get(result, ""),
        vantage=OUTSIDE if name in _FROM_OUTSIDE else "inside",
        waiver="B. Beispiel: Archiv bis zur Revision, until 2027-01-31" if result is Result.WAIVED else "",
    )
