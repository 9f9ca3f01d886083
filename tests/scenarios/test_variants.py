"""The other choices: tokens in place of accounts, TURN on a port of its own, a given certificate, Mozilla's profile of TLS and
SSH, hardening that leaves everything alone; then back to the defaults.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from orchestrator.evidence.results import Finding, Result
from orchestrator.inventory.specs import load_options
from orchestrator.inventory.vault import VaultAccess, changed_vault, read_vault
from orchestrator.lab.lab import LabSite
from orchestrator.lab.rootfs import SUDO_USER
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import Break, Series, failed, unexpected
from tests.scenarios.conftest import in_room, load, play, ssh, throwaway
from tests.scenarios.identity_provider import membership, published, signed_membership
from tests.unit.test_preflight_local import Authority, key_pem, pem

PASSWORD = "the password of a bought bundle"
SECRET = "a-shared-secret-of-the-identity-provider"
_PROVIDER = f"{sys.executable} {Path(__file__).with_name('identity_provider.py')} {SECRET}"
NAME = 'Süd & "Nord" </title></script>'
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><title>Stadtwappen</title></svg>\n'
PAGES = {"imprint": "<p>Stadt Süd & Nord, Rathausplatz 1</p>", "privacy": "<h2>Was wir erheben</h2>"}
SETTINGS = f"""
jitsi_auth: jwt
jitsi_jwt: {{app_id: town}}
jitsi_turn_tls: port5349
jitsi_p2p: true
jitsi_lobby: moderator
base_ntp_servers: [ntp.town.example]
verification_crypto_profile: mozilla-intermediate
verification_probe_token_command: {_PROVIDER} yes
verification_probe_plain_token_command: {_PROVIDER} no
certificates_source: pem
certificates_chain_file: chain.pem
certificates_key_file: given.key
jitsi_e2ee: false
jitsi_name: {json.dumps(NAME)}
jitsi_support_contact: hilfe@town.example
web_logo_file: town.svg
web_pages: {{imprint: imprint.html, privacy: privacy.html}}
"""

# Of what hardening can leave alone, what a container shows to be missing then: it has neither modules nor removable disks.
MISSED = {"ACC-01", "ACC-04", "ACC-06", "ACC-08", "CRY-10", "NET-09", "OS-06", "OS-08", "OS-09", "OS-12", "OS-13"}
_OPTIONS = load_options()["hardening_skip"].options
LEFT_ALONE = "hardening_skip:\n" + "".join(
    f"  {control}: {{who: A. Meier, why: measured without it, until: 2099-12-31}}\n" for control in _OPTIONS
)


def _bundle(authority: Authority, names: list[str]) -> bytes:
    """Return a PKCS#12 file with a certificate of its own, as an authority hands it out: with key, chain and a password."""
    leaf = authority.issue(names[0], authority.leaf_key, "middle", authority.middle_key, names=names)
    way = serialization.BestAvailableEncryption(PASSWORD.encode())
    return pkcs12.serialize_key_and_certificates(b"bought", authority.leaf_key, leaf, [authority.middle], way)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Who signs the certificates that the town bought."""
    return Authority()


@pytest.fixture(scope="module")
def site(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    """A host with everything chosen otherwise."""
    with throwaway("variant12", debian=12) as made:
        names = [made.domain, f"turn.{made.domain}"]
        leaf = authority.issue(made.domain, authority.leaf_key, "middle", authority.middle_key, names=names)
        (made.path / "chain.pem").write_bytes(pem(leaf, authority.middle))
        (made.path / "given.key").write_bytes(key_pem(authority.leaf_key))
        (made.path / "given.p12").write_bytes(_bundle(authority, names))
        (made.path / "town.svg").write_text(LOGO)
        for page, text in PAGES.items():
            (made.path / f"{page}.html").write_text(text)
        with VaultAccess(made.vault_password_file) as access, changed_vault(made.path, access) as values:
            values["jitsi_jwt_app_secret"] = SECRET
            values["certificates_pkcs12_password"] = PASSWORD
        with (made.path / "group_vars/all/site.yml").open("a") as handle:
            handle.write(SETTINGS + LEFT_ALONE)
        # The public's trust stores know a bought certificate's root; this one has to be told.
        root = pem(authority.root).decode()
        ssh(
            made,
            f"cat > /usr/local/share/ca-certificates/bought.crt <<'END'\n{root}END\nupdate-ca-certificates >/dev/null 2>&1",
        )
        trusted = tmp_path_factory.mktemp("trust") / "bought.crt"
        trusted.write_text(root)
        play(made)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SSL_CERT_FILE", str(trusted))  # what a client outside trusts
            yield made


def test_what_hardening_leaves_alone_is_left_and_waived_and_everything_else_stands(site: LabSite) -> None:
    report = verify(load(site))
    waived = {f.control: f.waiver for f in report.findings if f.result is Result.WAIVED}
    assert set(waived) == MISSED
    assert set(waived.values()) == {"left alone by hardening_skip: A. Meier, until 2099-12-31: measured without it"}
    assert failed(report) == {}
    assert "hardening_skip" in {row.setting for row in report.loosened}
    left = "ls /etc/ssh/sshd_config.d /etc/modprobe.d | grep ratssaal; grep -hv ^# /etc/sysctl.d/*ratssaal*; true"
    assert ssh(site, left) == ""
    _set(site, LEFT_ALONE, "")
    assert play(site).changed > 0


def test_all_controls_pass_and_nothing_changes_again(site: LabSite) -> None:
    assert play(site).changed == 0
    report = verify(load(site))
    # Somebody is named whom people may ask, so the host tells it to whoever finds a hole; a lab's does not.
    assert {control: row[0] for control, row in unexpected(report).items()} == {"WEB-06": Result.PASS}
    loosened = {row.setting: row.value for row in report.loosened}
    assert loosened == {
        **{"jitsi_p2p": "true", "jitsi_e2ee": "false", "verification_sudo_users": SUDO_USER},
        "verification_crypto_profile": "mozilla-intermediate",
    }


def test_people_see_the_towns_own_name_logo_and_pages(site: LabSite) -> None:
    def get(path: str) -> str:
        return ssh(site, f"curl -s https://{site.domain}{path}")

    title = f"<title>{html.escape(NAME)}</title>".replace("&quot;", "&#34;")
    for path in ("/", "/sitzung"):
        page = get(path)
        assert title in page
        assert "<title>Jitsi" not in page
        # The application shows what this says, in the browser's tab too.
        (said,) = re.findall(r"<script>interfaceConfig\.APP_NAME = (.*?);</script>", page)
        assert json.loads(said) == NAME
        assert "an error occurred while processing the directive" not in page
    assert get("/ratssaal/logo.svg") == LOGO.strip()
    imprint, privacy, accessibility = map(get, ("/impressum", "/datenschutz", "/barrierefreiheit"))
    assert PAGES["imprint"] in imprint
    assert PAGES["privacy"] in privacy
    assert "noch nicht ausgefüllt" not in imprint + privacy
    assert "noch nicht ausgefüllt" in accessibility
    for page in (imprint, privacy, accessibility):
        assert html.escape(NAME).replace("&quot;", "&#34;") in page
        assert "Fragen: hilfe@town.example" in page
    assert re.search(r"e2ee: \{ disabled: true \}", get("/config.js"))


def test_turn_has_its_own_port_and_nobody_stands_before_nginx(site: LabSite) -> None:
    listening = ssh(site, "ss -Hlntp")
    assert ":5349" in listening
    assert "haproxy" not in listening
    served = ssh(site, f"curl -s https://{site.domain}/config.js")
    assert '"enabled": true' in served or "enabled: true" in served


def test_only_named_time_servers_are_asked(site: LabSite) -> None:
    started = ssh(site, "systemctl show -P ExecStart chrony")
    assert "-f /etc/chrony/ratssaal.conf" in started
    asked = ssh(site, "chronyd -p -f /etc/chrony/ratssaal.conf | grep -E '^ *(server|pool|sourcedir|peer)'")
    assert asked.split() == ["server", "ntp.town.example", "iburst"]


LOGIN = Path(__file__).with_name("xmpp_login.py").read_text()


@pytest.mark.parametrize(("secret", "let_in"), [("right", True), ("wrong", False)])
def test_only_a_token_signed_by_the_provider_logs_in(site: LabSite, secret: str, let_in: bool) -> None:
    with VaultAccess(site.vault_password_file) as access:
        right = str(read_vault(site.path, access)["jitsi_jwt_app_secret"])
    token = membership(right if secret == "right" else "x" * 40, moderator=True)
    answer = ssh(site, f"python3 - {site.domain} ANONYMOUS '?token={token}' <<'END'\n{LOGIN}\nEND")
    assert ("<success" in answer) is let_in, answer


def test_a_token_for_another_room_is_refused_and_stays_out_of_the_log(site: LabSite) -> None:
    """Upstream's plugin writes the token of whom it refuses into the log; ours has put it out of the way by then."""
    tokens = {"anna": membership(SECRET, moderator=True), "bert": membership(SECRET, moderator=False, room="elsewhere")}
    told = in_room(site, ["anna request", "anna join", "bert join"], tokens=tokens)
    assert (told["anna join"][0]["error"], told["bert join"][0]["error"]) == ("", "not-allowed")
    logs = ssh(site, "cat /var/log/prosody/prosody.*; journalctl -o cat --no-pager --namespace='*' -t prosody")
    assert "Token verified not allowed to join" in logs
    assert tokens["bert"].partition(".")[2][:40] not in logs


def test_the_package_of_the_tokens_finds_its_marker_and_restarts_nobody(site: LabSite) -> None:
    """By its defaults it patches upstream's host file at every configure, and restarts Prosody (test_standins.py)."""
    looks = "systemctl show -P ActiveEnterTimestampMonotonic prosody; sha256sum /etc/prosody/conf.avail/*.cfg.lua"
    before = ssh(site, looks)
    ssh(site, "dpkg-reconfigure --frontend=noninteractive jitsi-meet-tokens")
    assert ssh(site, looks) == before


def test_nobody_logs_in_without_a_token(site: LabSite) -> None:
    answer = ssh(site, f"python3 - {site.domain} ANONYMOUS '' <<'END'\n{LOGIN}\nEND")
    assert "<success" not in answer


# What speaks of ports, of who holds them and of the way to TURN; the whole rest was looked at above.
TURN = ("CRY-01", "CRY-02", "CRY-03", "TRN-01", "TRN-02")
MOVED = ("NET-01", "NET-03", *TURN, "WEB-01", "WEB-03", "TRN-04", "AVL-02")
CONFERENCE = ("VKS-01", "VKS-02", "TRN-04", "AVL-02")


# By the file that coturn reads, and by the one that its OpenSSL reads.
_WEAKER_TURN = (
    "sed -i 's/^cipher-list=.*/&:ECDHE-ECDSA-AES128-SHA256/' /etc/turnserver.conf"
    " && sed -i 's/^Ciphersuites = /&TLS_CHACHA20_POLY1305_SHA256:/; s/^Groups = /&secp224r1:/' /etc/ratssaal/openssl-coturn.cnf"
    " && systemctl restart coturn && sleep 2"
)


def _outside(site: LabSite) -> dict[str, Finding]:
    return {f.control: f for f in verify(load(site), controls=CONFERENCE).findings if f.vantage != "inside"}


def _set(site: LabSite, old: str, new: str) -> None:
    path = site.path / "group_vars/all/site.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_who_moderates_enters_and_everybody_else_waits_in_the_lobby(site: LabSite) -> None:
    found = _outside(site)
    assert "a guest who comes to a running meeting: lobby" in found["VKS-02"].seen
    assert "let in by the moderator, the guest is: joined" in found["VKS-02"].seen
    _set(site, f"probe_token_command: {_PROVIDER} yes", f"probe_token_command: {_PROVIDER} no")
    found = _outside(site)
    assert {f.result for f in found.values()} <= {Result.NOT_TESTED, Result.PASS}
    assert found["AVL-02"].result is Result.NOT_TESTED
    assert "waits in the lobby as guests do" in found["AVL-02"].reason


def test_a_token_makes_a_moderator_by_its_claim_alone(site: LabSite) -> None:
    """Upstream's module for waiting makes every holder owner unless told not to, and so does its Jicofo; the check sees both."""
    _set(site, "jitsi_lobby: moderator", "jitsi_lobby: wait_for_host")
    play(site)
    found = _outside(site)
    assert found["VKS-01"].result is Result.PASS, found
    assert "a token without the moderator claim does not become owner" in found["VKS-01"].seen
    switch = "s/wait_for_host_disable_auto_owners = true/wait_for_host_disable_auto_owners = false/"
    ssh(site, f"sed -i '{switch}' /etc/prosody/conf.avail/meet.*.cfg.lua && systemctl restart prosody && sleep 8")
    found = _outside(site)
    assert found["VKS-01"].result is Result.FAIL
    assert "a token without the moderator claim becomes the room's owner" in found["VKS-01"].seen
    _set(site, f"probe_token_command: {_PROVIDER} no", f"probe_token_command: {_PROVIDER} yes")
    found = _outside(site)
    assert found["VKS-01"].result is Result.FAIL
    assert "a token without the moderator claim becomes the room's owner" in found["VKS-01"].seen
    play(site)
    found = _outside(site)
    assert {f.result for f in found.values()} == {Result.PASS}
    assert "does not become owner, alone in a new room; a token without the moderator claim" in found["VKS-01"].seen
    # Upstream's Jicofo makes whoever comes first the owner, as its default is.
    change = "sed -i 's/enable-auto-owner = {}/enable-auto-owner = {}/' /etc/jitsi/jicofo/jicofo.conf"
    restart = "systemctl restart jicofo && sleep 8"
    ssh(site, f"{change.format('false', 'true')} && {restart}")
    try:
        found = _outside(site)
    finally:
        ssh(site, f"{change.format('true', 'false')} && {restart}")
    assert {control for control, finding in found.items() if finding.result is not Result.PASS} == {"VKS-01"}, found
    assert found["VKS-01"].seen == "a token without the moderator claim becomes the room's owner, alone in a new room"


_READER = "/usr/share/jitsi-meet/prosody-plugins/mod_auth_token.lua"


@contextmanager
def _reading(site: LabSite, line: str) -> Iterator[None]:
    """Let Prosody look at a token's signature in another way: by a line at the beginning of what does."""
    begin, kept = "local function signed(header, text, signature)", f"/root/{Path(_READER).name}"
    ssh(site, f"cp -a {_READER} {kept} && sed -i '/^{begin}$/a {line}' {_READER} && ! cmp -s {_READER} {kept}")
    try:
        ssh(site, "systemctl restart prosody && sleep 8")
        yield
    finally:
        ssh(site, f"mv {kept} {_READER} && systemctl restart prosody && sleep 8")


def _forged_that_log_in(found: dict[str, Finding]) -> set[str]:
    """Return which forged tokens log in, where the control of who opens rooms is the only one that says so."""
    turned = {control: finding.result for control, finding in found.items() if finding.result is not Result.PASS}
    assert turned == {"VKS-01": Result.FAIL}, found
    return set(re.findall(r"a token ([^;]*?) logs in", found["VKS-01"].seen))


_UNSIGNED = "with a signature of nothing (alg none)"
_SIGNED_BY_OTHERS = {
    "with a true signature, but other claims",
    "signed with no secret at all",
    "signed with app_id as the secret",
    "signed with a key of our own",
    "signed with a key of our own that it brings along",
}


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("do return true end", {_UNSIGNED, *_SIGNED_BY_OTHERS}),
        ('if header.alg == "none" then return true end', {_UNSIGNED}),
    ],
    ids=["no signature is looked at", "none is a signature"],
)
def test_a_forged_token_that_logs_in_is_seen(site: LabSite, line: str, kinds: set[str]) -> None:
    with _reading(site, line):
        found = _outside(site)
    assert _forged_that_log_in(found) == kinds
    found = _outside(site)
    assert {finding.result for finding in found.values()} == {Result.PASS}
    assert "forged tokens are refused (not-allowed)" in found["VKS-01"].seen


PROVIDER = "id.town.example"


@pytest.fixture
def provider(site: LabSite, authority: Authority, tmp_path: Path) -> Iterator[rsa.RSAPrivateKey]:
    """An identity provider outside, by the name PROVIDER: publishes a key that is called k1, and tokens are signed with."""
    key = rsa.generate_private_key(65537, 2048)
    leaf = authority.issue(PROVIDER, authority.leaf_key, "middle", authority.middle_key, names=[PROVIDER])
    (tmp_path / "served.pem").write_bytes(pem(leaf, authority.middle) + key_pem(authority.leaf_key))
    (tmp_path / "certs").write_text(published(key, "k1"))
    argv = ["ip", "netns", "exec", site.network.outside, "openssl", "s_server", "-WWW", "-quiet", "-accept", "443"]
    argv += ["-cert", "served.pem", "-cert_chain", "served.pem"]
    # A lab has no DNS, and Prosody leaves /etc/hosts alone unless told (prosody:net/unbound.lua).
    hosts = "/etc/prosody/conf.d/a.cfg.lua"
    ssh(site, f"echo '{site.network.outside_address} {PROVIDER}' >> /etc/hosts")
    ssh(site, f"echo 'Host \"*\"; unbound = {{ hoststxt = true; resolvconf = true }}' > {hosts}; chmod 644 {hosts}")
    _set(site, "{app_id: town}", f"{{app_id: town, jwks_url: 'https://{PROVIDER}/certs'}}")
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as served:
        try:
            yield key
        finally:
            served.terminate()
            ssh(site, f"rm {hosts}")
            _set(site, f", jwks_url: 'https://{PROVIDER}/certs'", "")


def test_tokens_are_checked_with_the_keys_that_the_provider_publishes(
    site: LabSite, provider: rsa.RSAPrivateKey
) -> None:
    """The stand-in of upstream's module fetches them, within Prosody's sandbox and through our firewall."""
    play(site)
    time.sleep(10)
    other = rsa.generate_private_key(65537, 2048)
    tokens = {
        "the provider's": signed_membership(provider, "k1"),
        "another key's": signed_membership(other, "k1"),
        "of an unknown name": signed_membership(provider, "k2"),
        "of the shared secret": membership(SECRET, moderator=True),
    }
    tokens["an altered one"] = tokens["the provider's"][:-8] + "AAAAAAAA"
    answers = {
        kind: ssh(site, f"python3 - {site.domain} ANONYMOUS '?token={token}' <<'END'\n{LOGIN}\nEND")
        for kind, token in tokens.items()
    }
    assert {kind for kind, answer in answers.items() if "<success" in answer} == {"the provider's"}, answers


def test_who_takes_the_published_key_for_a_secret_is_seen(
    site: LabSite, provider: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    """The best known forgery: everybody can sign with what everybody can read (RFC 8725 2.1)."""
    ssh(site, "systemctl restart prosody && sleep 8")
    for moderator, kind in ((True, "yes"), (False, "no")):
        (tmp_path / kind).write_text(signed_membership(provider, "k1", moderator=moderator))
        _set(site, f"{_PROVIDER} {kind}", f"cat {tmp_path / kind}")
    line = (
        'if keys_url and header.alg == "HS256" and keys[header.kid] then'
        ' return hashes.hmac_sha256(keys[header.kid]:toPEM("public"), text) == signature end'
    )
    try:
        found = _outside(site)
        assert {finding.result for finding in found.values()} == {Result.PASS}, found
        with _reading(site, line):
            found = _outside(site)
    finally:
        for kind in ("yes", "no"):
            _set(site, f"cat {tmp_path / kind}", f"{_PROVIDER} {kind}")
    assert _forged_that_log_in(found) == {"signed with the published key k1 as a secret"}


def test_accounts_with_a_lobby_by_default(site: LabSite) -> None:
    """Both ways of a host pass it: with an account's own connection, and as the web page logs in beside a guest's one.

    The certificate comes out of a PKCS#12 file from here on.
    """
    _set(site, "jitsi_auth: jwt", "jitsi_auth: internal")
    _set(site, "certificates_source: pem", "certificates_source: pkcs12\ncertificates_pkcs12_file: given.p12")
    _set(site, "jitsi_lobby: wait_for_host", "jitsi_lobby: moderator")
    play(site)
    found = _outside(site)
    assert {f.result for f in found.values()} == {Result.PASS}, found
    assert "a host who logs in beside a guest's connection moderates" in found["AVL-02"].seen
    assert "a guest who comes to a running meeting: lobby" in found["VKS-02"].seen


def test_the_certificate_of_the_pkcs12_file_is_served_with_its_chain(site: LabSite) -> None:
    _, leaf, _ = pkcs12.load_key_and_certificates((site.path / "given.p12").read_bytes(), PASSWORD.encode())
    assert leaf is not None
    look = f"openssl s_client -connect {site.domain}:443 -servername {site.domain} -showcerts </dev/null 2>/dev/null"
    served = x509.load_pem_x509_certificates(ssh(site, f"{look} | sed -n '/BEGIN/,/END/p'").encode())
    assert [served[0].serial_number, len(served)] == [leaf.serial_number, 2]
    assert play(site).changed == 0
    assert unexpected(verify(load(site), controls=("CRY-03", "CRY-10", "ACC-05"))) == {}


def test_back_to_the_defaults(site: LabSite) -> None:
    """The choices can be taken back: what the variants brought is gone, the default's parts are there."""
    path = site.path / "group_vars/all/site.yml"
    path.write_text(path.read_text()[: path.read_text().index("\njitsi_auth: ")] + "\n")
    play(site)
    assert play(site).changed == 0
    listening = ssh(site, "ss -Hlntp")
    assert "haproxy" in listening
    assert ":5349" not in listening
    assert "ratssaal" not in ssh(site, "systemctl show -P ExecStart chrony")
    assert failed(verify(load(site), controls=MOVED)) == {}


def test_and_away_from_them_again(site: LabSite) -> None:
    """HAProxy gives port 443 back to nginx, and weaker TLS on TURN's own port is seen."""
    with (site.path / "group_vars/all/site.yml").open("a") as handle:
        handle.write("jitsi_turn_tls: port5349\n")
    play(site)
    assert play(site).changed == 0
    listening = ssh(site, "ss -Hlntp")
    assert "haproxy" not in listening
    assert ":5349" in listening
    assert failed(verify(load(site), controls=MOVED)) == {}
    own_port = f"turn.{site.domain}:5349 ({site.hosts[0].address}, {site.hosts[0].address6}): "
    taken = ("TLSv1.3 takes TLS_CHACHA20_POLY1305_SHA256", "TLSv1.2 takes the groups secp224r1")
    weaker = Break(
        "CRY-02",
        _WEAKER_TURN,
        f"{own_port}TLSv1.2 takes TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
        more=tuple(own_port + words for words in taken),
    )
    series = Series(site)
    assert series.turn(weaker, controls=TURN) == {"CRY-02"}
    assert series.repair(TURN) == {}
