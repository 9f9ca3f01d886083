"""What the checks of hardening make of clocks, mounts, databases and answers that a lab host cannot give."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.inventory.derivations import security_contact, without_skipped
from orchestrator.verification.checks import (
    test_clock,
    test_disclosure,
    test_integrity,
    test_mounts,
    test_tls_extras,
)
from orchestrator.verification.checks.test_web import Answer
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, sheet_of, subject_of

_TRACKING = "C0000201,192.0.2.1,3,1795600000.0,{offset},0.0,0.0,1.0,0.0,0.0,0.1,0.1,64.0,{state}\n"


def _clock(answer: str, *, container: str = "none", **settings: Any) -> Sheet:
    sources = "== next ==\n^,*,ntp.example.org,2,6,377,1,0.1,0.1,0.1\n"
    said = {"read -r kind": f"{container}\n{answer}{sources}"}
    return sheet_of(test_clock.test_time_sources, said, subject=subject_of(**settings))


def test_the_clock_must_follow_the_declared_servers() -> None:
    good = _TRACKING.format(offset="-0.000012", state="Normal")
    assert _clock(good).faults == []
    assert _clock(good, base_ntp_servers=["ntp.example.org"]).faults == []
    assert faults_of(_clock(good, base_ntp_servers=["ntp.town.example"])) == "time source ntp.example.org"
    assert faults_of(_clock(_TRACKING.format(offset="-3.5", state="Normal"))) == "3.500000 s off"
    assert "Not synchronised" in faults_of(_clock(_TRACKING.format(offset="0.0", state="Not synchronised")))
    silent = "506 Cannot talk to daemon\n"
    assert "chrony does not answer" in faults_of(_clock(silent))
    assert _clock(silent, container="lxc").untested


CLOSED = "nosuid,nodev,noexec"
MOUNTS = {
    **{"/": "relatime", "/dev": "nosuid,noexec", "/home": "nosuid,nodev"},
    **dict.fromkeys(("/tmp", "/var/tmp", "/dev/shm", "/var/log"), CLOSED),
}


def _mounts(
    *, there: str = "", container: str = "", java: str = "", automount: str = "", **changed: str | None
) -> Sheet:
    """Return what is found where these are mounted so, None where a place is no mount (`there` tells whether it is a directory)."""
    wanted = {**MOUNTS, **{f"/{name.replace('__', '/')}": flags for name, flags in changed.items()}}
    rows = {place: f"tmpfs {place} tmpfs rw,{flags} 0 0\n" for place, flags in wanted.items() if flags is not None}
    rows |= {automount: f"systemd-1 {automount} autofs rw 0 0\n"} if automount else {}
    said = {"set -- /dev": "== next ==\n".join(("".join(rows.values()), there, container)), "for each in": java}
    subject = replace(subject_of(), groups=("jitsi_bridges",) if java else ())
    return sheet_of(test_mounts.test_shared_directories, said, subject=subject)


def test_flags_of_shared_directories_and_of_devices() -> None:
    assert _mounts().faults == []
    assert faults_of(_mounts(dev="nosuid")) == "/dev is mounted rw,nosuid"
    assert faults_of(_mounts(tmp="noexec")) == "/tmp is mounted rw,noexec"
    assert faults_of(_mounts(var__log="nosuid,nodev,relatime")) == "/var/log is mounted rw,nosuid,nodev"
    told = "/home is no mount of its own: / is mounted rw"
    assert faults_of(_mounts(home=None, there="/home /home\n")) == told
    # What holds it has the flags, or it is elsewhere.
    assert _mounts(var__tmp=None, there="/var/tmp /tmp\n").faults == []
    assert _mounts(var__log=None, var=CLOSED, there="/var/log /var/log\n").faults == []
    absent = _mounts(home=None)
    assert (absent.faults, "/home is not there" in absent.seen) == ([], True)


def test_mounts_that_are_not_to_be_seen_or_not_the_hosts_own_are_not_tested() -> None:
    refused = _mounts(home=None, there="/home /home\n", container="lxc\n/home\n")
    assert refused.faults == []
    assert refused.untested == [
        "/home is no mount of its own: / is mounted rw; that belongs to the machine below this container (lxc)"
    ]
    assert faults_of(_mounts(tmp="nodev", container="lxc\n/home\n")) == "/tmp is mounted rw,nodev"
    later = _mounts(automount="/home")
    assert (later.faults, len(later.untested)) == ([], 1)


def test_a_bridge_unpacks_nothing_where_nothing_runs() -> None:
    """The last option of a name counts; without one it is /tmp."""
    for arguments in ("java\n", "java\n-Djava.io.tmpdir=/x\n-Djava.io.tmpdir=/var/log/jitsi\n"):
        assert "jitsi-videobridge2 unpacks libraries into /" in faults_of(_mounts(java=f"{arguments}\n"))
    assert _mounts(java="java\n-Djava.io.tmpdir=/var/cache/jitsi-videobridge\n\n").faults == []


def _integrity(
    timer: str = "active",
    service: str = "success inactive",
    database: str = "100000 600 root",
    sure: int = 2,
    told: str = "  Added entries:\t\t2\n  Changed entries:\t1\n",
    begun: str = "86400",
) -> Sheet:
    said = f"{timer}\n{service}\n{100000 + 3600}\n{begun}\n{database}\n{sure}\n{told}"
    return sheet_of(test_integrity.test_changes_are_noted, {"end=": said})


def test_changes_are_noted_where_the_last_comparison_is_young_and_whole() -> None:
    sheet = _integrity()
    assert sheet.faults == []
    sheet.finish()
    assert "last compared 1 hours ago (added entries: 2; changed entries: 1)" in sheet.seen
    assert "(ratssaal-integrity.timer) is inactive" in faults_of(_integrity("inactive"))
    assert faults_of(_integrity(service="exit-code failed")) == "the last comparison failed"
    assert _integrity(service="exec-condition inactive").faults == []
    assert faults_of(_integrity(database="-100000 600 root")) == (
        "last compared 57 hours ago (added entries: 2; changed entries: 1)"
    )
    assert "what it is compared with is 640 root" in faults_of(_integrity(database="100000 640 root"))
    assert "is 600 prosody" in faults_of(_integrity(database="100000 600 prosody"))
    assert "nothing to compare with" in faults_of(_integrity(database="none", sure=0, begun="never"))
    assert "0 of 2 files that every host has" in faults_of(_integrity(sure=0))
    # Of its last two steps, the second may be still to come.
    for first in (
        _integrity(service="success activating", database="none", sure=0, begun="never"),
        _integrity(service="success activating", begun="never"),
    ):
        assert (first.faults, len(first.untested)) == ([], 1)


def test_a_database_that_is_gone_is_told_and_no_new_one_taken_for_it() -> None:
    assert "files are compared since 1970-01-02" in _integrity().seen
    gone = _integrity(service="exit-code failed", database="none", sure=0)
    assert faults_of(gone) == (
        "the last comparison failed; what files were compared with since 1970-01-02 is gone (/var/lib/aide/aide.db)"
    )
    # Before the next night, whose comparison will fail.
    assert "since 1970-01-02 is gone" in faults_of(_integrity(database="none", sure=0))
    assert "since 1970-01-02 is gone" in faults_of(_integrity(service="success activating", database="none", sure=0))
    assert faults_of(_integrity(begun="never")) == "files are compared since an unknown day"


def test_the_first_look_is_not_called_a_comparison() -> None:
    (seen,) = [line for line in _integrity(told="AIDE successfully initialized AIDE database.").seen if "hours" in line]
    assert seen == "looked at for the first time 1 hours ago"


_TLS12 = "Protocol: TLSv1.2\nSecure Renegotiation IS{} supported\nRENEGOTIATING\n{}\n"


def test_renegotiation_and_early_data() -> None:
    def renegotiation(secure: str, after: str) -> Sheet:
        sheet = Sheet()
        test_tls_extras._judge_renegotiation(_TLS12.format(secure, after), sheet)
        return sheet

    assert renegotiation("", "1:error:0A000153:SSL routines:ssl3_read_bytes:no renegotiation:x").faults == []
    assert "taken" in faults_of(renegotiation("", "depth=0 CN = x\nverify return:1"))
    assert "not supported" in faults_of(renegotiation(" NOT", "1:error:x:no renegotiation"))
    assert renegotiation("", "something else").untested
    # What OpenSSL says where the other side babbles: no handshake proves nothing.
    nobody = Sheet()
    babble = "New, (NONE), Cipher is (NONE)\nSecure Renegotiation IS NOT supported\n    Protocol  : TLSv1.2\n    Cipher    : 0000\n"
    test_tls_extras._judge_renegotiation(babble, nobody)
    assert (nobody.faults, nobody.untested) == ([], ["renegotiation: no handshake with TLS 1.2"])
    for size, faults in ((0, 0), (16384, 1)):
        sheet = Sheet()
        test_tls_extras._judge_early_data(f"New, TLSv1.3, Cipher is x\nMax Early Data: {size}\n", sheet)
        assert len(sheet.faults) == faults


def test_security_txt_must_name_somebody_and_end() -> None:
    def look(body: str, kind: str = "text/plain; charset=utf-8") -> Sheet:
        sheet = Sheet()
        test_disclosure._judge_security_txt("x", Answer("200", {"content-type": kind}, body), datetime.now(UTC), sheet)
        return sheet

    day = (datetime.now(UTC) + timedelta(days=200)).strftime("%Y-%m-%dT00:00:00Z")
    good = f"Contact: mailto:holes@example.org\nExpires: {day}\n"
    assert look(good).faults == []
    assert "text/html" in faults_of(look(good, "text/html"))
    assert "contact not named" in faults_of(look(f"Expires: {day}\n"))
    assert "contact somebody" in faults_of(look(f"Contact: somebody\nExpires: {day}\n"))
    for end in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon"):
        assert f"expires {end}" in faults_of(look(f"Contact: tel:+49-391\nExpires: {end}\n"))


@pytest.mark.parametrize(
    ("given", "contact"),
    [
        ({"web_security_contact": "https://town.example/holes"}, "https://town.example/holes"),
        (
            {"web_security_contact": "holes@town.example", "jitsi_support_contact": "x@town.example"},
            "mailto:holes@town.example",
        ),
        ({"jitsi_support_contact": "+49 391 / 540-0"}, "tel:+493915400"),
        ({"jitsi_support_contact": "room 12"}, ""),
        ({}, ""),
    ],
)
def test_contact_as_security_txt_names_it(given: dict[str, str], contact: str) -> None:
    assert security_contact(given) == contact


def test_a_control_is_left_alone_with_a_reason_only() -> None:
    parts = {"OS-06": 1, "OS-08": 2}
    assert without_skipped(parts, {}) == [1, 2]
    decided = {"who": "A. Meier", "why": "a debugger is needed", "until": "2027-03-31"}
    assert without_skipped(parts, {"OS-06": decided}) == [2]
    for nothing in ("", None, True, "a debugger is needed", *({**decided, key: " "} for key in decided)):
        with pytest.raises(ValueError, match="who leaves OS-06 alone, why and until when"):
            without_skipped(parts, {"OS-06": nothing})
