"""What the checks make of nginx's request limits and of the bounds of log-ins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator import content
from orchestrator.verification.checks import (
    test_limits,
    test_logins,
)
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.webserver import limits
from tests.unit.asked import faults_of, further_sshd, sheet_of, subject_of

SERVER = """
http {
    limit_req_zone $binary_remote_addr zone=rooms:10m rate=100r/s;
    limit_req_zone $binary_remote_addr zone=slow:10m rate=30r/m;
    server { listen 80; server_name meet.example.org; return 301 https://x; }
    server {
        listen 443 ssl; server_name meet.example.org; %s
        location = /http-bind { limit_req zone=rooms burst=2000 nodelay; }
        location ~ ^/([^/?&:'"]+)$ { limit_req zone=rooms burst=1000 nodelay; try_files $uri @root; }
        location ~ ^/api/v1(?<rest>/.*)?$ { limit_req zone=rooms burst=300; proxy_pass http://a/v1$rest; }
        location / { limit_req zone=slow burst=100; }
        location ^~ /static/ { alias /srv/; }
        location @root { rewrite ^ / break; }
    }
}
"""


@pytest.mark.parametrize(
    ("path", "further", "rate", "burst"),
    [
        ("/http-bind", "", 100, 2000),
        ("/rat", "", 100, 1000),
        ("/api/v1/x", "", 100, 300),
        ("/a/b", "", 0.5, 100),
        ("/static/x", "", None, None),
        ("/static/x", "limit_req zone=slow;", 0.5, 0),
        ("/rat", "limit_req_dry_run on;", None, None),
    ],
)
def test_limit_that_holds_for_a_path(path: str, further: str, rate: float | None, burst: int | None) -> None:
    (found,) = limits(SERVER % further, "meet.example.org", path)
    assert [(limit.rate, limit.burst) for limit in found] == ([] if rate is None else [(rate, burst)])


def _rates(servers: str, zone: str = "limit_req_zone $remote_addr zone=all:1m rate=100r/s;") -> list[list[float]]:
    """Return the rates of each server that answers for the domain."""
    found = limits(f"http {{ {zone} {servers} }}", "meet.example.org", "/rat")
    return [[limit.rate for limit in rows] for rows in found]


NAMED = "server_name meet.example.org;"


LIMITED = f"server {{ listen 443 ssl; {NAMED} limit_req zone=all burst=500; }}"


MAP = (content.root() / "roles/web/templates/nginx-http.conf.j2").read_text()


MAP = MAP[MAP.index("map $binary_remote_addr") : MAP.index("limit_req_status")]


@pytest.mark.parametrize(
    ("key", "further", "bounded"),
    [
        ("$binary_remote_addr", "", True),
        ('"${remote_addr}"', "set_real_ip_from 127.0.0.1; set_real_ip_from 10.0.0.0/8; set_real_ip_from unix:;", True),
        # As the role has it, and others like it.
        ("$ratssaal_client", MAP, True),
        ("$c", "map $remote_addr $c { default $remote_addr; }", True),
        ("$http_x_real_ip", "", False),
        ("$server_name", "", False),
        ("$binary_remote_addr$request_uri", "", False),
        ("$c", "", False),
        ("$c", 'map $remote_addr $c { default ""; }', False),
        ("$c", 'map $remote_addr $c { default $remote_addr; "~." ""; }', False),
        ("$c", "map $remote_addr $c { default $remote_addr; ~^192 one; }", False),
        ("$c", 'map $remote_addr $c { "~(?<part>.+)" $part; }', False),
        ("$c", "map $remote_addr $c { default $remote_addr; include more.map; }", False),
        ("$c", "map $http_x_real_ip $c { default $remote_addr; }", False),
        # Anybody may say which address is theirs.
        ("$binary_remote_addr", "set_real_ip_from 0.0.0.0/0; real_ip_header X-Real-IP;", False),
        ("$binary_remote_addr", "set_real_ip_from ::/0; real_ip_header X-Real-IP;", False),
    ],
)
def test_a_limit_counts_by_the_clients_address_or_is_none(key: str, further: str, bounded: bool) -> None:
    zone = f"{further} limit_req_zone {key} zone=all:1m rate=100r/s;"
    assert _rates(LIMITED, zone) == ([[100]] if bounded else [[]])


@pytest.mark.parametrize(
    ("further", "fits"),
    [
        (f"listen [::]:443 ssl; {NAMED}", False),
        (f"listen 8443 ssl; {NAMED}", False),
        (f"listen 443 quic; {NAMED}", False),
        ("listen [::]:443 ssl; server_name *.example.org;", False),
        ("listen [::]:443 ssl; server_name ~^meet;", False),
        ("listen [::]:443 ssl; server_name meet.*;", False),
        # The first one of an address without the name answers in its place, unless it hands out nothing.
        ("listen [::]:443 ssl; server_name other.example.net;", False),
        ("listen [::]:443 ssl default_server; server_name _; return 421;", True),
        ("listen [::]:443 ssl; proxy_pass 127.0.0.1:1;", True),
        # What is not reached by the name, or not by TLS.
        ("listen 443 ssl default_server; server_name _;", True),
        ("listen 0.0.0.0:443 ssl; server_name *.example.org;", True),
        (f"listen 443 ssl; {NAMED}", True),
        ("listen 127.0.0.1:9443 ssl; server_name other.example.net;", True),
        (f"listen 80; {NAMED}", True),
        (f"listen [::]:443 ssl; {NAMED} limit_req zone=all burst=500;", True),
    ],
)
def test_every_server_that_answers_for_the_domain_is_judged(further: str, fits: bool) -> None:
    assert _rates(f"{LIMITED} server {{ {further} }}") == ([[100]] if fits else [[100], []])


def test_the_name_decides_and_the_first_of_two_that_have_it() -> None:
    wide = "server { listen 443 ssl; server_name .example.org *.org; }"
    assert _rates(f"{wide} {LIMITED}") == [[100]]
    assert _rates(f"server {{ listen 443 ssl; {NAMED} }} {LIMITED}") == [[]]
    # One word of TLS holds for the address.
    assert _rates(
        f"server {{ listen [::]:443 ssl; server_name x; }} server {{ listen [::]:443; {NAMED} }} {LIMITED}"
    ) == [
        [],
        [100],
    ]
    assert _rates("server { listen 443 ssl; server_name x; limit_req zone=all burst=500; }") == []


def test_limits_that_are_none_or_keep_a_council_out_are_faults() -> None:
    def look(zone: str) -> Sheet:
        shown = (
            f"http {{ {zone} server {{ listen 443 ssl; server_name meet.example.org; limit_req zone=all burst=%d; }} }}"
        )
        said = {"nginx": shown % burst}
        return sheet_of(test_limits.test_limits_of_requests, said, subject=subject_of())

    burst = 500
    assert look("limit_req_zone $remote_addr zone=all:1m rate=100r/s;").faults == []
    assert "rooms: 9000 a second" in faults_of(look("limit_req_zone $remote_addr zone=all:1m rate=9000r/s;"))
    assert "rooms: 0 a second" in faults_of(look("limit_req_zone $remote_addr zone=other:1m rate=100r/s;"))
    assert "rooms: without limit" in faults_of(look("limit_req_zone $http_x_real_ip zone=all:1m rate=100r/s;"))
    second = "limit_req_zone $remote_addr zone=all:1m rate=100r/s; server { listen [::]:443 ssl; server_name meet.example.org; }"
    assert "rooms: without limit" in faults_of(look(second))
    burst = 5
    assert "rooms: 5 at once" in faults_of(look("limit_req_zone $remote_addr zone=all:1m rate=100r/s;"))


def test_a_flood_must_be_refused() -> None:
    def look(told: str | tuple[int, str]) -> Sheet:
        return sheet_of(test_limits.test_a_flood_is_refused, {"python3": told}, subject=subject_of())

    assert look('{"rooms": [2500, 300]}').faults == []
    assert faults_of(look('{"rooms": [4800, 0]}')) == "rooms: none refused of 4800 requests in a row"
    assert look('{"rooms": [0, 0]}').untested
    assert look((1, "refused")).untested


SSHD = "maxauthtries 4\nlogingracetime 30\nmaxstartups 10:30:60\npersourcemaxstartups 10\n"


def _guessing(sshd: str = SSHD, pam: str = "== next ==\n", user: str = "root", **further: Any) -> Sheet:
    said = {**further_sshd(**further), "mkdir": sshd, "cd /etc/pam.d": pam}
    return sheet_of(test_logins.test_guessing_by_ssh, said, subject=subject_of(user=user))


def test_attempts_by_ssh_are_bounded() -> None:
    assert _guessing().faults == []
    assert _guessing(f"{SSHD}persourcepenalties crash:90 authfail:5 noauth:1 max:600\n").faults == []
    assert "penalties no" in faults_of(_guessing(f"{SSHD}persourcepenalties no\n"))
    assert "penalties crash:90 authfail:0" in faults_of(_guessing(f"{SSHD}persourcepenalties crash:90 authfail:0\n"))
    assert "of one address none" in faults_of(
        _guessing(SSHD.replace("persourcemaxstartups 10", "persourcemaxstartups none"))
    )
    assert "no s to log in" in faults_of(_guessing(SSHD.replace("logingracetime 30", "logingracetime 0")))
    assert "10:30:1000" in faults_of(_guessing(SSHD.replace(":60", ":1000")))
    assert "20 attempts" in faults_of(_guessing(SSHD.replace("maxauthtries 4", "maxauthtries 20")))


def test_attempts_are_bounded_under_a_condition_and_by_the_arguments_too() -> None:
    def under(option: str, value: str) -> Sheet:
        return _guessing(conditional=[["Match User backup in /f", option, value]])

    assert faults_of(under("maxauthtries", "1000")) == "sshd: 1000 attempts a connection (Match User backup in /f)"
    assert under("maxauthtries", "5").faults == []
    assert under("passwordauthentication", "no").faults == []
    assert "attempts, seconds and connections are many, 30, 60" in under("maxauthtries", "many").untested[0]
    shown = faults_of(_guessing(arguments="sshd: /usr/sbin/sshd -D -g 0 -o MaxStartups=10:30:1000"))
    assert "sshd: no s to log in (sshd's arguments)" in shown
    assert "sshd: connections without a log-in 10:30:1000 (sshd's arguments)" in shown
    penalties = f"{SSHD}persourcepenalties crash:90 authfail:5\n"
    assert "penalties no (SSHD_OPTS" in faults_of(_guessing(penalties, later="-oPerSourcePenalties=no"))


@pytest.mark.parametrize(
    ("exempt", "seen"),
    [
        ("none", ""),
        ("192.0.2.0/24,10.0.0.0/8,fc00::/7,2001:db8::/32,10.0.0.*,!192.0.2.7,somebody", ""),
        ("0.0.0.0/0,::/0", "0.0.0.0/0, ::/0"),
        ("192.0.2.7,0.0.0.0/1,128.0.0.0/1", "0.0.0.0/0"),
        ("2000::/3", "2000::/3"),
        ("*", "*"),
        ("2*", "2*"),
    ],
)
def test_penalties_from_which_everybody_is_exempt_are_none(exempt: str, seen: str) -> None:
    sheet = _guessing(f"{SSHD}persourcepenalties crash:90 authfail:5\npersourcepenaltyexemptlist {exempt}\n")
    assert faults_of(sheet) == (f"sshd: no penalty for {seen}" if seen else "")


def test_nobodys_attempts_may_lock_out_root_or_who_automates() -> None:
    line = "common-auth:auth required pam_faillock.so preauth{}\n== next ==\n{}"
    assert "locks root" in faults_of(_guessing(pam=line.format(" even_deny_root", "")))
    assert "locks root" in faults_of(_guessing(pam=line.format("", "even_deny_root\n")))
    assert _guessing(pam=line.format("", "")).faults == []
    assert "can lock town" in faults_of(_guessing(pam=line.format("", ""), user="town"))


def test_wrong_passwords_are_refused_in_time() -> None:
    def look(refusals: list[str], **settings: Any) -> Sheet:
        said = {"python3": json.dumps(refusals)}
        return sheet_of(test_logins.test_guessing_members_passwords, said, subject=subject_of(**settings))

    wrong = "not-authorized"
    assert look([wrong] * 5 + ["temporary-auth-failure"]).faults == []
    assert "11 wrong passwords in a row, and at more" in faults_of(look([wrong] * 11))
    assert look(["no answer"]).untested
    with pytest.raises(NotApplicable, match="identity provider"):
        look([], jitsi_auth="jwt")


def test_whoever_gives_accounts_to_strangers_is_found() -> None:
    row = {"session": True, "offered": False, "form": False, "ways": ["PLAIN"]}

    def look(*, domain: str = "meet.example.org", named: bool = True, **changed: Any) -> Sheet:
        facts = {"named": named, "said": "", "domains": {"meet.example.org": row, domain: row | changed}}
        said = {"python3": json.dumps(facts)}
        return sheet_of(test_logins.test_nobody_makes_an_account, said, subject=subject_of())

    assert look().faults == []
    for sign in ("offered", "form"):
        signs: dict[str, Any] = {sign: True}
        assert "lets strangers make an account" in faults_of(look(**signs))
        assert "else.example.net lets strangers" in faults_of(look(domain="else.example.net", **signs))
    assert look(session=False).untested
    assert "Prosody does not tell which domains" in look(named=False).untested[0]
