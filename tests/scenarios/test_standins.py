"""The stand-in packages keep their contract: upstream's bad defaults without our roles, upstream's side effects at upgrades."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.evidence.results import Report, Result
from orchestrator.lab.lab import LabSite
from orchestrator.lab.standins import build_repository
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import unexpected
from tests.scenarios.conftest import load, play, ssh, throwaway

_PACKAGES = "jitsi-videobridge2 jicofo jitsi-meet-web jitsi-meet-web-config jitsi-meet-prosody"
_INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold"


def _add_source(site: LabSite) -> None:
    """Add the lab's repository by hand, as upstream's handbook tells."""
    folder = site.path.parent / "repository"
    key = (folder / "key.asc").read_text()
    url = load(site).settings["vendor_repository_url"]
    ssh(site, f"cat > /etc/apt/keyrings/lab.asc <<'END'\n{key}\nEND")
    ssh(site, f"echo 'deb [signed-by=/etc/apt/keyrings/lab.asc] {url} stable/' > /etc/apt/sources.list.d/lab.list")


@pytest.fixture(scope="module")
def plain() -> Iterator[LabSite]:
    """A host with the vendor packages by their defaults: only the name was answered, no role of ours ran."""
    with throwaway("plain13") as site:
        _add_source(site)
        answer = f"jitsi-videobridge2 jitsi-videobridge/jvb-hostname string {site.domain}"
        ssh(
            site,
            f"apt-get -qq update && apt-get -qq -y install debconf >/dev/null && echo '{answer}' | debconf-set-selections",
        )
        ssh(site, f"{_INSTALL} install nginx prosody nftables {_PACKAGES} >/dev/null 2>&1")
        ssh(site, "systemctl start jitsi-videobridge2 jicofo prosody nginx; sleep 6")
        yield site


_STATUS = "curl -sk -o /dev/null -w '%{http_code}'"
# What jitsi.md and the packages' own scripts promise, each with a command that shows it; DOMAIN is the host's name.
DEFAULTS = {
    "a third party's STUN server in config.js": ("cat /etc/jitsi/meet/*-config.js", "meet-jit-si-turnrelay.jitsi.net"),
    "a third party's STUN server for the bridge": ("cat /etc/jitsi/videobridge/jvb.conf", "meet-jit-si-turnrelay"),
    "media past the bridge, by that STUN server": ("grep -A1 p2p: /etc/jitsi/meet/*-config.js", "enabled: true"),
    "anybody may log in": ("cat /etc/prosody/conf.avail/meet.*.cfg.lua", 'authentication = "jitsi-anonymous"'),
    "anybody may open a room": (
        "curl -sk -H 'Content-Type: application/json' -d '{\"room\": \"anybody@conference.DOMAIN\"}'"
        " https://DOMAIN/conference-request/v1",
        '"ready":true',
    ),
    "52 weeks of Prosody's logs": ("logrotate -d /etc/logrotate.d/prosody 2>&1", "(52 rotations)"),
    "the bridge is not sandboxed": ("systemd-analyze security --no-pager jitsi-videobridge2 | tail -n1", "UNSAFE"),
    "Jicofo is not sandboxed": ("systemd-analyze security --no-pager jicofo | tail -n1", "UNSAFE"),
    "Jicofo starts as root, by a SysV script": ("systemctl show -P FragmentPath jicofo", "/run/systemd/generator"),
    "the bridge leaves heap dumps in /tmp": ("xargs -0a /proc/$(pgrep -u jvb java)/cmdline", "HeapDumpPath=/tmp"),
    "server-to-server on every interface": ("ss -Hlnt sport = :5269 | awk '{print $4}'", "0.0.0.0:5269"),
    "client-to-server on every interface": ("ss -Hlnt sport = :5222 | awk '{print $4}'", "0.0.0.0:5222"),
    "the bridge's statistics are off": (f"{_STATUS} http://127.0.0.1:8080/colibri/stats", "404"),
    "the bridge cannot be shut down gracefully": (f"{_STATUS} -d '{{}}' http://127.0.0.1:8080/colibri/shutdown", "404"),
    "Jicofo's health does not exist": (f"{_STATUS} http://127.0.0.1:8888/about/health", "404"),
    "no policy for what pages may load": (
        "curl -skI https://DOMAIN/ | grep -iE '^(HTTP|content-security)' | wc -l",
        "1",
    ),
    "a self-signed certificate": (
        "openssl verify -CAfile /etc/jitsi/meet/*.crt /etc/jitsi/meet/*.crt; openssl x509 -noout -issuer -in /etc/jitsi/meet/*.crt",
        "OK",
    ),
    # nft itself is there: without it, or without the right to ask, this fails.
    "no firewall": (
        "rules=$(nft list ruleset) && ! echo \"$rules\" | grep 'hook input' && echo everything comes in",
        "everything comes in",
    ),
    "the bridge's user has a shell that opens": ("getent passwd jvb", ":/usr/share/jitsi-videobridge:/bin/bash"),
    "Jicofo's user has a shell that opens": ("getent passwd jicofo", ":/usr/share/jicofo:/bin/bash"),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_bad_default(plain: LabSite, name: str) -> None:
    command, shown = DEFAULTS[name]
    assert shown in ssh(plain, command.replace("DOMAIN", plain.domain))


def test_a_bridge_without_a_valid_address_is_unhealthy(plain: LabSite) -> None:
    """jitsi-videobridge: JvbHealthChecker.kt counts neither loopback nor site-local addresses."""
    port = "http://127.0.0.1:8080/about/health"
    assert ssh(plain, f"{_STATUS} {port}") == "200"
    unit = "--unit=tst-bridge -p PrivateNetwork=yes -p EnvironmentFile=/etc/jitsi/videobridge/config"
    ssh(plain, f"systemd-run --quiet --collect {unit} /usr/share/jitsi-videobridge/jvb.sh")
    inside = "nsenter --target $(systemctl show -P MainPID tst-bridge) --net"
    try:
        looked = f"for i in $(seq 40); do code=$({inside} {_STATUS} {port}); test $code = 000 || break; sleep 0.5; done; echo $code"
        assert ssh(plain, looked) == "500"
    finally:
        ssh(plain, "systemctl stop tst-bridge", check=False)


def _results(report: Report) -> dict[str, Result]:
    return {finding.control: finding.result for finding in report.findings}


def test_verification_sees_the_defaults(plain: LabSite) -> None:
    """The same checks that pass after our roles fail without them: they see."""
    # One of the names that upstream's package makes at random, and over which the tool that reads the file breaks off.
    nickname = "12e45678-0000-4000-8000-000000000000"
    file = "/etc/jitsi/videobridge/jvb.conf"
    ssh(
        plain,
        f"sed -i 's/MUC_NICKNAME=.*/MUC_NICKNAME={nickname}/' {file} && systemctl restart jitsi-videobridge2 && sleep 8",
    )
    findings = verify(load(plain)).findings
    results = [(finding.control, finding.vantage, finding.result) for finding in findings]
    # A control may be looked at from inside and from outside, with a finding each.
    failing = {finding.control for finding in findings if finding.result is Result.FAIL}
    assert {"CRY-03", "CRY-10", "NET-01", "NET-03", "ACC-01", "OS-02", "OS-08", "LOG-03", "AVL-02"} <= failing, results
    assert {"OS-04", "VKS-06", "WEB-01"} <= failing, results
    assert {"TRN-04", "VKS-01", "VKS-03", "VKS-11", "NET-05", "ACC-02", "ACC-05"} <= failing, results
    assert {finding.control: finding.reason for finding in findings if finding.result is Result.ERROR} == {}


def test_upgrade_by_defaults_has_upstreams_side_effects(plain: LabSite) -> None:
    """The bridge is stopped; Prosody too, where the host file is an older one that lacks a marker; Jicofo's file is edited."""
    ssh(plain, "sed -i /unlimited_jids/d /etc/prosody/conf.avail/meet.*.cfg.lua")
    ssh(plain, "hocon -f /etc/jitsi/jicofo/jicofo.conf set jicofo.xmpp.client.client-proxy '\"ours.example.org\"'")
    ssh(plain, "echo '// ours' >> /etc/jitsi/meet/*-config.js; echo '# ours' >> /etc/jitsi/videobridge/jvb.conf")
    before = _started(plain)
    _publish(plain, "next")
    ssh(plain, f"apt-get -qq update && {_INSTALL} install {_PACKAGES} >/dev/null 2>&1; sleep 3")
    after = _started(plain)
    assert after["jitsi-videobridge2"] != before["jitsi-videobridge2"]
    assert after["jicofo"] != before["jicofo"]
    assert after["prosody"] != before["prosody"]
    assert "unlimited_jids" in ssh(plain, "cat /etc/prosody/conf.avail/meet.*.cfg.lua"), "the package adds what lacks"
    proxy = ssh(plain, "hocon -f /etc/jitsi/jicofo/jicofo.conf get jicofo.xmpp.client.client-proxy")
    assert proxy.strip('"') == f"focus.{plain.domain}", "the package sets it at every configure"
    kept = ssh(plain, "tail -qn1 /etc/jitsi/meet/*-config.js /etc/jitsi/videobridge/jvb.conf")
    assert kept == "// ours\n# ours", "these are written only where they are missing"


def test_the_package_of_the_tokens_patches_the_host_file_and_restarts_prosody(plain: LabSite) -> None:
    answers = "jitsi-meet-tokens jitsi-meet-tokens/appid string town\njitsi-meet-tokens jitsi-meet-tokens/appsecret password x"
    before = _started(plain)
    ssh(
        plain,
        f"printf '{answers}\\n' | debconf-set-selections; {_INSTALL} install jitsi-meet-tokens >/dev/null 2>&1; sleep 1",
    )
    assert _started(plain)["prosody"] != before["prosody"]
    written = ssh(plain, "grep -A2 'authentication = \"token\"' /etc/prosody/conf.avail/meet.*.cfg.lua")
    assert 'app_id = "town"' in written
    assert 'app_secret = "x"' in written, "the secret stands where it was written before anybody looked"


def test_a_new_java_trust_store_restarts_bridge_and_jicofo(plain: LabSite) -> None:
    """jitsi-meet: debian/jitsi-meet-prosody.triggers; hence those packages stay out of unattended upgrades."""
    ssh(plain, "systemctl start jitsi-videobridge2 jicofo; sleep 2")
    before = _started(plain)
    ssh(
        plain,
        "dpkg-trigger --no-await update-ca-certificates-java && dpkg --triggers-only --pending >/dev/null; sleep 2",
    )
    after = _started(plain)
    assert {unit for unit in before if before[unit] != after[unit]} == {"jitsi-videobridge2", "jicofo"}


def _started(site: LabSite) -> dict[str, str]:
    units = ("prosody", "jitsi-videobridge2", "jicofo", "nginx")
    shown = ssh(site, f"for unit in {' '.join(units)}; do systemctl show -P ActiveEnterTimestampMonotonic $unit; done")
    return dict(zip(units, shown.split(), strict=True))


def _publish(site: LabSite, release: str) -> None:
    """Put another release into the repository that the lab serves."""
    build_repository(site.path.parent / "repository", releases=(release,))


@pytest.fixture(scope="module")
def ours(site: LabSite) -> LabSite:
    """A host after our roles; the next start of its lab publishes the current release again."""
    return site


_FILES = "/etc/jitsi /etc/prosody /etc/nginx /etc/turnserver.conf /etc/systemd/system"


def _hashes(site: LabSite) -> dict[str, str]:
    shown = ssh(site, f"find {_FILES} -type f -exec sha256sum {{}} +")
    return {line.split(None, 1)[1]: line.split()[0] for line in shown.splitlines()}


def test_upgrade_over_our_configuration_avoids_what_can_be_avoided(ours: LabSite) -> None:
    before, files = _started(ours), _hashes(ours)
    _publish(ours, "next")
    # Held packages stay through an ordinary upgrade.
    ssh(ours, f"apt-get -qq update && {_INSTALL} upgrade >/dev/null 2>&1")
    assert _started(ours) == before
    ssh(ours, f"{_INSTALL} --allow-change-held-packages install {_PACKAGES} >/dev/null 2>&1; sleep 3")
    after = _started(ours)
    assert after["prosody"] == before["prosody"], "Prosody was restarted, every meeting would have ended"
    changed = {name for name, value in _hashes(ours).items() if files.get(name) != value}
    assert changed == set()
    assert ssh(ours, "dpkg-query -W -f '${Version}' jicofo") == "1.0-1201-1"


def test_converge_after_the_upgrade_puts_everything_right(ours: LabSite) -> None:
    play(ours)
    assert play(ours).changed == 0
    assert unexpected(verify(load(ours))) == {}


def test_broken_release_is_seen(ours: LabSite) -> None:
    """The release that is broken on purpose must not look healthy."""
    _publish(ours, "broken")
    ssh(
        ours, f"apt-get -qq update && {_INSTALL} --allow-change-held-packages install {_PACKAGES} >/dev/null 2>&1; true"
    )
    ssh(ours, "systemctl restart jitsi-videobridge2 jicofo; sleep 8", check=False)
    assert _results(verify(load(ours), controls=("AVL-02",)))["AVL-02"] is Result.FAIL


def test_unknown_configuration_key_is_an_error(ours: LabSite) -> None:
    """Stricter than upstream on purpose."""
    ssh(
        ours,
        "echo 'videobridge.no-such-key = 1' >> /etc/jitsi/videobridge/jvb.conf; systemctl restart jitsi-videobridge2; true",
    )
    ssh(ours, "sleep 4")
    assert "no-such-key" in ssh(
        ours,
        "journalctl -q --no-pager --namespace=conferencing -u jitsi-videobridge2 -n 20; tail /var/log/jitsi/jvb.log",
    )


def test_stand_ins_are_refused_on_a_host_that_is_no_lab(plain: LabSite) -> None:
    ssh(plain, "mv /etc/ratssaal/lab-host /root/; apt-get -qq purge -y jicofo >/dev/null 2>&1")
    try:
        played = play(plain, playbook="provision.yml", check=False)
    finally:
        ssh(plain, "mv /root/lab-host /etc/ratssaal/")
    assert played.code != 0
    assert "stand-ins" in played.output
    assert ssh(plain, "dpkg-query -W -f '${db:Status-Status}' jicofo 2>/dev/null; true") in (
        "",
        "config-files",
        "not-installed",
    )
