"""The other choices: tokens in place of accounts, TURN on a port of its own, a given certificate, then back to the defaults."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.evidence.results import Finding, Result
from orchestrator.inventory.vault import VaultAccess, changed_vault, read_vault
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed
from tests.scenarios.conftest import load, play, ssh, throwaway
from tests.scenarios.identity_provider import membership
from tests.unit.test_preflight_local import Authority, key_pem, pem

SECRET = "a-shared-secret-of-the-identity-provider"
_PROVIDER = f"{sys.executable} {Path(__file__).with_name('identity_provider.py')} {SECRET}"
SETTINGS = f"""
jitsi_auth: jwt
jitsi_jwt: {{app_id: town}}
jitsi_turn_tls: port5349
jitsi_p2p: true
jitsi_lobby: moderator
base_ntp_servers: [ntp.town.example]
verification_probe_token_command: {_PROVIDER} yes
certificates_source: pem
certificates_chain_file: chain.pem
certificates_key_file: given.key
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    """A host with everything chosen otherwise."""
    with throwaway("variant12", debian=12) as made:
        authority = Authority()
        names = [made.domain, f"turn.{made.domain}"]
        leaf = authority.issue(made.domain, authority.leaf_key, "middle", authority.middle_key, names=names)
        (made.path / "chain.pem").write_bytes(pem(leaf, authority.middle))
        (made.path / "given.key").write_bytes(key_pem(authority.leaf_key))
        with VaultAccess(made.vault_password_file) as access, changed_vault(made.path, access) as values:
            values["jitsi_jwt_app_secret"] = SECRET
        with (made.path / "group_vars/all/site.yml").open("a") as handle:
            handle.write(SETTINGS)
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


def test_all_controls_pass_and_nothing_changes_again(site: LabSite) -> None:
    assert play(site).changed == 0
    report = verify(load(site))
    assert failed(report) == {}
    seen = {finding.control for finding in report.findings if finding.result is Result.PASS}
    assert {"CRY-01", "CRY-02", "CRY-03", "NET-02", "TRN-01", "TRN-02"} <= seen


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


def test_nobody_logs_in_without_a_token(site: LabSite) -> None:
    answer = ssh(site, f"python3 - {site.domain} ANONYMOUS '' <<'END'\n{LOGIN}\nEND")
    assert "<success" not in answer


# What speaks of ports, of who holds them and of the way to TURN; the whole rest was looked at above.
MOVED = ("NET-01", "NET-03", "CRY-01", "CRY-03", "TRN-01", "TRN-04", "AVL-02")
CONFERENCE = ("VKS-01", "VKS-02", "TRN-04", "AVL-02")


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
    _set(site, f"{_PROVIDER} yes", f"{_PROVIDER} no")
    found = _outside(site)
    assert {f.result for f in found.values()} <= {Result.NOT_TESTED, Result.PASS}
    assert found["AVL-02"].result is Result.NOT_TESTED
    assert "waits in the lobby as guests do" in found["AVL-02"].reason


def test_a_token_makes_a_moderator_by_its_claim_alone(site: LabSite) -> None:
    """Upstream's module for waiting makes every holder owner unless told not to; the check sees that."""
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
    _set(site, f"{_PROVIDER} no", f"{_PROVIDER} yes")
    play(site)
    assert {f.result for f in _outside(site).values()} == {Result.PASS}


def test_accounts_with_a_lobby_by_default(site: LabSite) -> None:
    """Both ways of a host pass it: with an account's own connection, and as the web page logs in beside a guest's one."""
    _set(site, "jitsi_auth: jwt", "jitsi_auth: internal")
    _set(site, "jitsi_lobby: wait_for_host", "jitsi_lobby: moderator")
    play(site)
    found = _outside(site)
    assert {f.result for f in found.values()} == {Result.PASS}, found
    assert "a host who logs in beside a guest's connection moderates" in found["AVL-02"].seen
    assert "a guest who comes to a running meeting: lobby" in found["VKS-02"].seen


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
    """HAProxy gives port 443 back to nginx."""
    with (site.path / "group_vars/all/site.yml").open("a") as handle:
        handle.write("jitsi_turn_tls: port5349\n")
    play(site)
    assert play(site).changed == 0
    listening = ssh(site, "ss -Hlntp")
    assert "haproxy" not in listening
    assert ":5349" in listening
    assert failed(verify(load(site), controls=MOVED)) == {}
