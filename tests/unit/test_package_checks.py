"""What OS-02 and OS-05 make of settings of unattended-upgrades, of sources and of keys that a lab host does not have."""

from __future__ import annotations

import base64
import subprocess
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory import openpgp
from orchestrator.verification.aptsources import Entry, entries
from orchestrator.verification.checks import test_system
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, sheet_of, subject_of

NOW = 1_795_600_000
SETTINGS = """\
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Origins-Pattern:: "origin=Debian,codename=${distro_codename}-security,label=Debian-Security";
Unattended-Upgrade::Package-Blacklist:: "^jitsi-";
Unattended-Upgrade::Package-Blacklist:: "^jicofo$";
Unattended-Upgrade::Package-Blacklist:: "^prosody";
Unattended-Upgrade::Package-Blacklist:: "^openjdk-";
Unattended-Upgrade::Package-Blacklist:: "^ca-certificates-java$";
"""
PACKAGES = ("unattended-upgrades", "jitsi-videobridge2", "jicofo", "prosody", "openjdk-21-jre-headless:amd64", "nginx")


def _listed(codename: str, *, days: float) -> str:
    file = f"mirror.example_{codename}_InRelease"
    day = formatdate(NOW - days * 86400, usegmt=True).replace("GMT", "UTC")
    return f"{file}:Suite: stable\n{file}:Codename: {codename}\n{file}:Date: {day}\n"


LISTS = _listed("trixie", days=60) + _listed("trixie-security", days=1)


def _updates(settings: str = SETTINGS, packages: tuple[str, ...] = PACKAGES, lists: str = LISTS) -> Sheet:
    policy = "".join(f"{name}:\n  Installed: 1\n  Candidate: 1\n  Version table:\n *** 1 100\n" for name in packages)
    said = {
        "apt-config": settings,
        "systemctl": "active\nactive\n",
        "cd /var/lib/apt": lists,
        "LC_ALL=C apt-cache": policy,
        "date": str(NOW),
    }
    return sheet_of(test_system.test_security_updates, said)


def test_updates_that_are_on_and_leave_meetings_alone_pass() -> None:
    assert _updates().faults == []


@pytest.mark.parametrize(
    ("lists", "seen"),
    [
        ("", "apt has no list of a security archive"),
        (_listed("trixie", days=0), "apt has no list of a security archive"),
        (_listed("trixie-security", days=30), "the security archive's list is 30.0 days old"),
        # What else apt has read says nothing of the security archive.
        (
            _listed("trixie-security", days=8) + _listed("trixie", days=0),
            "the security archive's list is 8.0 days old",
        ),
    ],
)
def test_without_the_security_archives_list_of_these_days_nothing_is_known_to_be_pending(lists: str, seen: str) -> None:
    assert faults_of(_updates(lists=lists)) == seen


def test_updates_that_are_switched_off_as_a_whole_or_have_no_program_are_faults() -> None:
    assert faults_of(_updates(f'{SETTINGS}APT::Periodic::Enable "0";\n')) == "APT::Periodic::Enable 0"
    assert _updates(f'{SETTINGS}APT::Periodic::Enable "1";\n').faults == []
    assert faults_of(_updates(packages=PACKAGES[1:])) == "unattended-upgrades is not installed"


@pytest.mark.parametrize(
    ("pattern", "instead", "exposed"),
    [
        ("^jitsi-", "jitsi-videobridge$", "jitsi-videobridge2"),
        ("^prosody", "", "prosody"),
        ("^openjdk-", "openjdk-(", "openjdk-21-jre-headless"),
    ],
)
def test_what_meetings_need_is_excluded_by_patterns_that_fit(pattern: str, instead: str, exposed: str) -> None:
    sheet = _updates(SETTINGS.replace(f'"{pattern}"', f'"{instead or "^x$"}"'))
    assert faults_of(sheet) == f"taken without being asked: {exposed}"


_POLICY = """\
unattended-upgrades:
  Installed: 2
  Candidate: 2
  Version table:
 *** 2 100
libzstd1:
  Installed: 1
  Candidate: 2
  Version table:
     2 500
        500 http://mirror.example/debian-security trixie-security/main amd64 Packages
 *** 1 100
"""
_OLD, _NEW = NOW - 30 * 86400, NOW - 2 * 86400


def _pending(told: str, *, policy: str = _POLICY, asked: str = "apt-get download") -> str:
    """Return what is found wrong where apt knows these versions and the archive tells this of the newer one."""
    said = {
        "apt-config": SETTINGS,
        "systemctl": "active\nactive\n",
        "cd /var/lib/apt": LISTS,
        "LC_ALL=C apt-cache": policy,
        "date": str(NOW),
        asked: "'http://mirror.example/libzstd1_2_amd64.deb' libzstd1_2_amd64.deb 300000 SHA256:0\n",
        "uri=": told,
    }
    return faults_of(sheet_of(test_system.test_security_updates, said))


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (f"{_NEW}\n", ""),
        (f"{_OLD}\n", "libzstd1 is pending for 30 days"),
        (f"last-modified: {formatdate(_NEW, usegmt=True)}\r\n", ""),
        (f"Last-Modified: {formatdate(_OLD, usegmt=True)}\r\n", "libzstd1 is pending for 30 days"),
        ("", "libzstd1 is pending since an unknown day"),
    ],
    ids=["package, new", "package, old", "archive, new", "archive, old", "neither"],
)
def test_a_pending_update_counts_by_its_archives_or_its_own_date(told: str, fault: str) -> None:
    assert _pending(told) == fault


@pytest.mark.parametrize(
    ("settings", "uri", "asked"),
    [
        ("", "http://a/x.deb", "-sL -m 8 -I http://a/x.deb"),
        ("plain='http://p:3128'", "http://a/x.deb", "-sL -m 8 -x http://p:3128 -I http://a/x.deb"),
        ("plain='http://p:3128'", "https://a/x.deb", "-sL -m 8 -x http://p:3128 -I https://a/x.deb"),
        ("plain='http://p:3128'\nsafe='http://s:1'", "https://a/x.deb", "-sL -m 8 -x http://s:1 -I https://a/x.deb"),
        ("plain='http://p:3128'\nsafe='DIRECT'", "https://a/x.deb", "-sL -m 8 -I https://a/x.deb"),
        ("plain='DIRECT'", "http://a/x.deb", "-sL -m 8 -I http://a/x.deb"),
    ],
)
def test_the_archive_is_asked_the_way_that_apt_goes(tmp_path: Path, settings: str, uri: str, asked: str) -> None:
    (tmp_path / "settings").write_text(settings)
    for name, script in (("apt-config", f"cat {tmp_path}/settings"), ("curl", f'echo "$@" >> {tmp_path}/asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    said = test_system._PUBLISHED.format(uri=uri)
    subprocess.run(["sh", "-c", said], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (tmp_path / "asked").read_text().splitlines() == [asked, asked.replace("-I", "-r 0-71")]


@pytest.mark.parametrize("written", ["mirror+file:{}", "mirror+file://{}"])
def test_of_a_file_of_mirrors_the_first_one_is_asked(tmp_path: Path, written: str) -> None:
    """As Debian's images for clouds name the archives; curl knows no such address."""
    mirrors = tmp_path / "security.list"
    mirrors.write_text("# ours\n\nhttps://a/debian-security/ priority:1\nhttps://b/debian-security\n")
    for name, script in (("apt-config", "true"), ("curl", f'echo "$@" >> {tmp_path}/asked')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    said = test_system._PUBLISHED.format(uri=written.format(mirrors) + "/pool/x.deb")
    subprocess.run(["sh", "-c", said], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    asked = (tmp_path / "asked").read_text().splitlines()[0]
    assert asked == "-sL -m 8 -I https://a/debian-security/pool/x.deb"


_SECURE = "        {} http://mirror.example/debian-security trixie-security/main amd64 Packages\n"
_PLAIN = "        500 http://mirror.example/debian trixie/main amd64 Packages\n"


@pytest.mark.parametrize(
    ("table", "pending"),
    [
        # Pinned down as a whole, and one package to its version (apt_preferences(5)).
        (f"     2 -10\n{_SECURE.format(-10)} *** 1 500\n{_PLAIN}", {"x": "2"}),
        (f"     2 500\n{_SECURE.format(500)} *** 1 1001\n{_PLAIN}", {"x": "2"}),
        # What apt would take is not the security archive's.
        (f"     3 500\n{_PLAIN}     2 500\n{_SECURE.format(500)} *** 1 100\n", {"x": "2"}),
        (f" *** 1 500\n{_SECURE.format(500)}{_PLAIN}", {}),
        # What is installed is newer, or of the same version and built here.
        (f" *** 1 500\n{_PLAIN}     0.9 500\n{_SECURE.format(500)}", {}),
        (f"     1 500\n{_SECURE.format(500)} *** 1 100\n        100 /var/lib/dpkg/status\n", {}),
    ],
    ids=["archive pinned", "package pinned", "another newer", "installed", "newer", "built here"],
)
def test_an_update_that_apt_would_not_take_is_pending_too(table: str, pending: dict[str, str]) -> None:
    row = "{}:\n  Installed: 1\n  Candidate: 1\n  Version table:\n{}"
    assert test_system._pending(row.format("x", table) + row.format("nginx", " *** 1 500\n")) == pending


def test_a_pinned_update_is_asked_for_by_its_version() -> None:
    pinned = _POLICY.replace("Candidate: 2\n  Version table:\n     2 500", "Candidate: 1\n  Version table:\n     2 -10")
    assert pinned != _POLICY
    asked = "apt-get download --print-uris libzstd1=2 "
    assert _pending(f"{_OLD}\n", policy=pinned, asked=asked) == "libzstd1 is pending for 30 days"


def test_sources_are_read_from_files_of_both_kinds() -> None:
    shown = """\
== sources.list
# deb http://commented.example trixie main
deb [arch=amd64 signed-by=/a.gpg,/b.gpg] http://one.example/debian trixie main
deb-src http://source.example trixie main
deb cdrom:[Debian] trixie main

== sources.list.d/two.sources
# Kept
Types: deb deb-src
URIs: http://two.example/ http://three.example
Suites: trixie
# within
 trixie-updates
Components: main
Signed-By: /usr/share/keyrings/x.gpg

Enabled: no
Types: deb
URIs: http://off.example
Suites: x

Types: deb
URIs: file:///srv/own
Suites: ./
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----
"""
    ring = ("/usr/share/keyrings/x.gpg",)
    assert list(entries(shown)) == [
        Entry("http://one.example/debian", "trixie", ("/a.gpg", "/b.gpg")),
        Entry("cdrom:[Debian]", "trixie", ()),
        *(Entry(f"http://{host}", suite, ring) for host in ("two.example/", "three.example") for suite in ("trixie", "trixie-updates")),
        Entry("file:///srv/own", "./", ("a key in the file itself",)),
    ]  # fmt: skip


RING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ASC = "/etc/apt/trusted.gpg.d/debian-archive-trixie-stable.asc"
KEYS = f"trusted {ASC}\ndebian {ASC}\ndebian {RING}\n"
DEBIAN = f"deb [signed-by={RING}] http://deb.debian.org/debian trixie main\n"
UNBOUND = "deb http://deb.debian.org/debian trixie main\n"
OURS = "deb [signed-by=/etc/apt/keyrings/ratssaal-vendor.asc] https://download.jitsi.org stable/\n"
ORIGINS = "http://deb.debian.org/debian/|trixie|Debian|Debian|trixie|read\nhttps://download.jitsi.org/|stable/|jitsi.org|x|$(CODENAME)|read\n"


def _key(material: bytes) -> tuple[bytes, str]:
    """Return a key packet of version 4 and its fingerprint."""
    body = b"\x04" + bytes(4) + b"\x16" + material
    packet = b"\xc6" + bytes([len(body)]) + body
    return packet, openpgp.key_fingerprints(packet)[0]


def _sources(
    files: str = DEBIAN + OURS,
    *,
    told: str = ORIGINS,
    keys: str = KEYS,
    ring: bytes = b"",
    config: str = "",
    lists: str = "",
    **settings: Any,
) -> Sheet:
    said: dict[str, Any] = {
        "apt-get indextargets": told,
        "cd /etc/apt; for": f"== sources.list\n{files}\n",
        "for file in /etc/apt/trusted.gpg": keys,
        "apt-config": config,
        "cd /var/lib/apt": lists,
        "date": str(NOW),
        "base64": base64.b64encode(ring).decode() if ring else (1, "No such file"),
    }
    vendor = {"vendor_repository_url": "https://download.jitsi.org", "vendor_repository_suite": "stable/"}
    return sheet_of(test_system.test_package_sources, said, subject=subject_of(**{**vendor, **settings}))


def test_declared_and_bound_sources_pass() -> None:
    assert _sources().faults == []
    assert _sources(UNBOUND + OURS).faults == []


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("deb [signed-by=/x.asc] https://download.jitsi.org.evil.example stable/", "https://download.jitsi.org.evil.example stable/"),
        ("deb [signed-by=/x.asc] https://download.jitsi.org nightly/", "https://download.jitsi.org nightly/"),
        ("deb [signed-by=/x.asc] https://user:pw@packages.example ./", "https://packages.example ./"),
    ],
)  # fmt: skip
def test_a_source_that_only_resembles_the_declared_one_is_a_fault(line: str, seen: str) -> None:
    assert faults_of(_sources(f"{DEBIAN}{OURS}{line}\n")) == f"source {seen} (origin unknown)"


def test_a_repository_is_debians_by_its_keys_not_by_what_it_says() -> None:
    claimed = f"{ORIGINS}https://mirror.example/|trixie|Debian|Debian|trixie|read\n"
    own = f"{DEBIAN}{OURS}deb [signed-by=/etc/apt/keyrings/own.gpg] https://mirror.example trixie main\n"
    assert faults_of(_sources(own, told=claimed)) == (
        "source https://mirror.example trixie is bound to /etc/apt/keyrings/own.gpg, among them /etc/apt/keyrings/own.gpg"
    )
    foreign = f"trusted /etc/apt/trusted.gpg.d/own.asc\n{KEYS}"
    assert "any trusted key, among them /etc/apt/trusted.gpg.d/own.asc" in faults_of(
        _sources(UNBOUND + OURS, keys=foreign)
    )
    assert _sources(keys=foreign).faults == []
    assert f"among them {RING}" in faults_of(_sources(keys=f"{KEYS}altered {RING}\n"))
    chosen = DEBIAN.replace(RING, "A" * 40)
    assert _sources(chosen + OURS).faults == []
    assert faults_of(_sources(chosen + OURS, keys=foreign))


def test_the_vendors_source_is_bound_to_the_declared_key_alone() -> None:
    (packet, mine), (other, theirs) = _key(b"one"), _key(b"two")
    spaced = " ".join(mine[at : at + 4] for at in range(0, 40, 4)).lower()
    assert _sources(ring=packet, vendor_repository_fingerprint=spaced).faults == []
    assert theirs in faults_of(_sources(ring=other, vendor_repository_fingerprint=mine))
    assert theirs in faults_of(_sources(ring=packet + other, vendor_repository_fingerprint=mine))
    assert "no key in /etc/apt/keyrings" in faults_of(_sources(vendor_repository_fingerprint=mine))
    assert "no key in /etc/apt/keyrings" in faults_of(_sources(ring=b"junk", vendor_repository_fingerprint=mine))
    loose = OURS.replace("[signed-by=/etc/apt/keyrings/ratssaal-vendor.asc] ", "")
    assert "bound to any trusted key" in faults_of(_sources(DEBIAN + loose))
    named = OURS.replace("/etc/apt/keyrings/ratssaal-vendor.asc", mine)
    assert _sources(DEBIAN + named, vendor_repository_fingerprint=mine).faults == []


def test_a_host_that_tells_of_no_sources_does_not_pass() -> None:
    assert "0 sources in apt's files" in faults_of(_sources("", told=""))


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (f"trusted=on signed-by={RING}", "trusted=on"),
        ("trusted=enable", "trusted=enable"),
        ("arch=amd64 Trusted=WITH", "trusted=WITH"),
        ("trusted=%79es", "trusted=yes"),
        ('"allow-insecure=on"', "allow-insecure=on"),
        ("allow-downgrade-to-insecure=1", "allow-downgrade-to-insecure=1"),
        ("check-valid-until=no", "check-valid-until=no"),
        ("check-date=disable", "check-date=disable"),
        ("trusted=off allow-weak=without check-valid-until=yes", ""),
    ],
)
def test_options_that_do_without_a_check_are_found_in_all_their_words(options: str, seen: str) -> None:
    fault = f"/etc/apt/sources.list has {seen}" if seen else ""
    bound = options if "signed-by" in options else f"{options} signed-by={RING}"
    assert faults_of(_sources(OURS + DEBIAN.replace(f"signed-by={RING}", bound))) == fault
    key, _, value = seen.partition("=")
    stanza = f"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie\nSigned-By: {RING}\n"
    for form in (
        (f"{key.title()}: {value}\n", f"{key}:\n# so\n {value}\n") if seen else ("Trusted: no\nAllow-Weak: off\n",)
    ):
        files = f"{OURS}\n== sources.list.d/x.sources\n{stanza}{form}"
        assert faults_of(_sources(files)) == fault.replace("sources.list", "sources.list.d/x.sources")


def test_a_source_of_sources_counts_as_well() -> None:
    source = DEBIAN.replace("deb [", "deb-src [trusted=with ")
    assert faults_of(_sources(DEBIAN + OURS + source)) == "/etc/apt/sources.list has trusted=with"
    assert _sources(f"{DEBIAN}{OURS}# {source}").faults == []


@pytest.mark.parametrize(
    ("setting", "fits"),
    [
        ('APT::Get::AllowUnauthenticated "on"', False),
        ('apt::get::allowunauthenticated "Enable"', False),
        ('Acquire::AllowInsecureRepositories "with"', False),
        ('Binary::apt-get::Acquire::AllowWeakRepositories "true"', False),
        ('APT::Get::Force-Yes "1"', False),
        ('Acquire::AllowInsecureRepositories "0"', True),
        ('Acquire::AllowDowngradeToInsecureRepositories "off"', True),
        ('Acquire::AllowInsecureRepositories ""', True),
    ],
)
def test_settings_that_do_without_a_signature_are_found_in_all_their_words(setting: str, fits: bool) -> None:
    faults = faults_of(_sources(config=f'APT "";\n{setting};\n'))
    assert faults == ("" if fits else f"switched off: {setting.split()[0]}")


@pytest.mark.parametrize("setting", ['Acquire::Check-Valid-Until "false"', 'acquire::check-date "no"'])
def test_where_apt_does_not_ask_how_old_a_list_is_none_may_be_out_of_date(setting: str) -> None:
    def listed(days: float) -> str:
        until = formatdate(NOW + days * 86400, usegmt=True).replace("GMT", "UTC")
        return f"m_trixie_InRelease:Codename: trixie\nm_trixie-security_InRelease:Valid-Until: {until}\n"

    off = f"{setting};\n"
    seen = f"{setting.split()[0]} is off; m_trixie-security_InRelease is valid until "
    assert faults_of(_sources(config=off, lists=listed(-1))).startswith(seen)
    assert _sources(config=off, lists=listed(1)).faults == []
    assert _sources(config=off.replace(setting.split()[1], '"1"'), lists=listed(-1)).faults == []
