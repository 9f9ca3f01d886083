"""What the checks make of declarations, keys, rules, limits, profiles, links and disks that a lab host cannot show."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestrator import content
from orchestrator.evidence.results import Finding, Result
from orchestrator.verification.checks import (
    test_admins,
    test_apparmor,
    test_disks,
    test_limits,
    test_links,
    test_logins,
    test_malware,
    test_management,
)
from orchestrator.verification.declarations import answered_for, over
from orchestrator.verification.runner import joined
from orchestrator.verification.sheet import Declared, NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import limits
from tests.unit.asked import TOPOLOGY, faults_of, sheet_of, subject_of

HELD = {"who": "the IT department", "why": "ticket 17", "until": "2999-12-31"}
OVER = {**HELD, "until": "2020-01-31"}


def test_a_declaration_is_no_pass_and_ends_with_its_day() -> None:
    def note(row: Any, **given: Any) -> Sheet:
        sheet = Sheet()
        sheet.expect(True, "something seen", "")
        subject = subject_of(verification_declarations={"OS-14": row} if row else {})
        answered_for(subject, "OS-14", sheet, "no scanner", **given)
        return sheet

    with pytest.raises(Declared, match="the IT department answers for it until 2999-12-31: ticket 17"):
        note(HELD).finish()
    with pytest.raises(NotTested, match=r"nobody has declared it \(verification_declarations: OS-14\)"):
        note(None).finish()
    with pytest.raises(AssertionError, match="ran out on 2020-01-31"):
        note(OVER).finish()
    with pytest.raises(AssertionError, match="a scanner, or declared"):
        note(None, wanted="a scanner").finish()
    assert not over("2026-11-26", date(2026, 11, 26))
    assert over("2026-11-25", date(2026, 11, 26))


def test_what_is_declared_outweighs_what_passed_and_nothing_worse() -> None:
    def together(*results: Result) -> Result:
        return joined([Finding("ACC-07", "h1", each, "s", "w", "r") for each in results]).result

    assert together(Result.PASS, Result.DECLARED) is Result.DECLARED
    assert together(Result.DECLARED, Result.NOT_TESTED) is Result.NOT_TESTED
    assert together(Result.FAIL, Result.DECLARED) is Result.FAIL


KEY, OTHER = "SHA256:" + "a" * 43, "SHA256:" + "b" * 43
NOW = 1_795_600_000.0
DAY = 86400


def _account(name: str = "root", *keys: str, used: float = NOW, changed: float = 0) -> dict[str, Any]:
    return {"account": name, "keys": list(keys or (KEY,)), "used": used, "changed": changed}


def _said(*accounts: Any, further: tuple[str, ...] = (), days: float = 90) -> dict[str, str]:
    said = {"accounts": accounts, "further": further, "now": NOW, "since": NOW - days * DAY}
    return {"python3 -": json.dumps(said)}


# What sshd does not tell of itself, where there is nothing of the kind.
ORDINARY: dict[str, Any] = {"conditional": [], "arguments": "sshd: /usr/sbin/sshd -D", "later": ""}


def _further(**further: Any) -> dict[str, str]:
    return {
        "python3 - <<'END'\nimport glob, json, os, re, subprocess\nos.makedirs": json.dumps({**ORDINARY, **further})
    }


def _keys(*accounts: Any, admins: Any = None, arguments: str = "", **given: Any) -> Sheet:
    declared = admins if admins is not None else [{"account": "root", "who": "A", "keys": [KEY]}]
    said = {**_further(arguments=arguments), **_said(*accounts, **given)}
    subject = subject_of(verification_admins=declared)
    return sheet_of(test_admins.test_every_key_is_somebodys, said, subject=subject)


def test_keys_are_judged_by_what_is_declared() -> None:
    assert _keys(_account()).faults == []
    assert faults_of(_keys(_account("root", KEY, OTHER))) == f"a key that nobody declared opens root: {OTHER}"
    assert faults_of(_keys(_account("jane"))) == "jane may log in and is nobody's"
    two = [{"account": "root", "who": "A", "keys": [KEY]}, {"account": "root", "who": "B", "keys": [OTHER]}]
    assert faults_of(_keys(_account("root", KEY, OTHER), admins=two)) == "root is opened by keys of 2 people"
    assert _keys(_account("root", KEY), admins=two).faults == []
    ended = [{"account": "root", "who": "A", "keys": [KEY], "until": "2020-01-31"}]
    assert faults_of(_keys(_account(), admins=ended)) == f"{KEY} still opens root"
    assert "sshd also takes keys that /usr/bin/keys names" in _keys(_account(), further=("/usr/bin/keys",)).untested[0]
    given = _keys(_account(), arguments="sshd: /usr/sbin/sshd -D -o AuthorizedKeysFile=/srv/keys")
    assert "sshd also takes keys that /srv/keys (sshd's arguments) names" in given.untested[0]


def test_without_a_declaration_no_key_is_judged_and_no_person_is_named() -> None:
    sheet = _keys(_account(), admins=[])
    assert sheet.faults == []
    assert sheet.untested == ["1 keys open root; nobody is named whose they are (verification_admins)"]
    named = _keys(_account("root", KEY, OTHER), admins=[{"account": "root", "who": "A. Meier", "keys": [KEY]}])
    assert "Meier" not in str(named)


def test_an_account_that_nobody_uses_is_found_where_the_journal_tells() -> None:
    ours = _account("town", used=NOW)

    def look(account: Any, *others: Any, user: str = "", **given: Any) -> Sheet:
        subject = subject_of()
        object.__setattr__(subject, "user", user)
        said = _said(account, *(others or [ours]), **given)
        return sheet_of(test_admins.test_accounts_are_used, said, subject=subject)

    never = _account(used=0, changed=NOW - 200 * DAY)
    assert look(_account(used=NOW - 80 * DAY)).faults == []
    assert look(_account(used=0, changed=NOW - 3 * DAY)).faults == []
    assert faults_of(look(_account(used=NOW - 100 * DAY), days=400)) == "root was not used for 100 days"
    assert faults_of(look(never)) == "root was not used for 90 or more days"
    short = look(never, days=30)
    assert short.faults == []
    assert short.untested == ["root: the journal reaches back 30 days only"]
    assert look(never, days=NOW / DAY).untested
    assert "not even ours" in look(never, _account("town", used=0, changed=NOW)).untested[0]
    assert look(never, user="root").seen[0] == "root is in use"


CHAIN = {"family": "inet", "table": "t", "name": "input", "hook": "input", "type": "filter", "policy": "drop"}


def _match(left: Any, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": left, "right": right}}


def _field_of(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _port(right: Any = 22, protocol: str = "tcp") -> dict[str, Any]:
    return _match(_field_of(protocol, "dport"), right)


def _from(source: Any, protocol: str = "ip") -> dict[str, Any]:
    return _match(_field_of(protocol, "saddr"), source)


OFFICE = {"prefix": {"addr": "192.0.2.0", "len": 24}}
HARMLESS = (
    [_match({"meta": {"key": "iifname"}}, "lo")],
    [_match({"ct": {"key": "state"}}, ["established", "related"])],
    [_match(_field_of("icmp", "type"), "echo-request")],
    [_port(443)],
    [_port(22, "udp")],
    [_from("fe80::/10", "ip6"), _match({"meta": {"key": "l4proto"}}, "tcp")],
)


def _management(*rules: list[dict[str, Any]], chains: int = 1, **settings: Any) -> Sheet:
    tables = [{**CHAIN, "table": f"t{number}"} for number in range(chains)]
    place = {"family": "inet", "table": "t0", "chain": "input"}
    rows = [{"rule": {**place, "expr": [*rule, {"accept": None}]}} for rule in rules]
    listening = 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
    said = {
        "ss": listening,
        "systemctl": "",
        "if command -v nft": json.dumps({"nftables": [*({"chain": t} for t in tables), *rows]}),
    }
    subject = subject_of(**{"firewall_management_sources": ["192.0.2.0/24", "2001:db8::/32"], **settings})
    return sheet_of(test_management.test_ssh_is_let_in_from_the_management_only, said, subject=subject)


def test_ssh_is_open_to_the_declared_networks_only() -> None:
    assert _management([_from(OFFICE), _port()], *HARMLESS).faults == []
    assert _management([_from("192.0.2.7"), _port()]).faults == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ([_port()], "anywhere"),
        ([_port({"range": [20, 25]})], "anywhere"),
        ([_port({"set": [22, 80]})], "anywhere"),
        ([_port(22, "th")], "anywhere"),
        ([], "anywhere"),
        ([_match({"meta": {"key": "l4proto"}}, "tcp")], "anywhere"),
        ([_match({"meta": {"key": "iifname"}}, "eth0")], "anywhere"),
        ([_match({"ct": {"key": "state"}}, ["established", "new"])], "anywhere"),
        ([_from("203.0.113.7"), _port()], "203.0.113.7"),
        ([_from({"prefix": {"addr": "192.0.0.0", "len": 16}}), _port()], "192.0.0.0/16"),
        ([_from("@office"), _port()], "@office"),
    ],
)
def test_every_rule_that_opens_ssh_further_is_found(rule: list[dict[str, Any]], source: str) -> None:
    sheet = _management([_from(OFFICE), _port()], rule, *HARMLESS)
    assert faults_of(sheet) == f"22/tcp (SSH) is let in from {source}"


def test_each_rule_is_named_for_itself() -> None:
    sheet = _management([_from("203.0.113.7"), _port()], [_port()], [_from("203.0.113.8"), _port()])
    assert [seen.rpartition(" ")[2] for seen, _ in sheet.faults] == ["anywhere", "203.0.113.7", "203.0.113.8"]


def test_rules_are_followed_into_other_chains_and_maps() -> None:
    def look(*expression: Any, inner: Any = ()) -> str:
        place = {"family": "inet", "table": "t0"}
        rows: list[Any] = [{"chain": {**CHAIN, "table": "t0"}}, {"chain": {**place, "name": "further"}}]
        rows += [{"rule": {**place, "chain": "input", "expr": list(expression)}}]
        rows += [{"rule": {**place, "chain": "further", "expr": list(inner)}}]
        listening = 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
        said = {"ss": listening, "systemctl": "", "if command -v nft": json.dumps({"nftables": rows})}
        subject = subject_of(firewall_management_sources=["192.0.2.0/24"])
        return faults_of(sheet_of(test_management.test_ssh_is_let_in_from_the_management_only, said, subject=subject))

    jump, accept = {"jump": {"target": "further"}}, {"accept": None}
    assert look(jump, inner=[_port(), accept]).endswith("from anywhere")
    assert look(_from("203.0.113.7"), jump, inner=[accept]).endswith("from 203.0.113.7")
    assert look(jump, inner=[_from(OFFICE), _port(), accept]) == ""
    assert look(_port(80), jump, inner=[accept]) == ""
    assert look({"jump": {"target": "input"}}, inner=[]) == ""

    def mapped(*pairs: Any) -> Any:
        return {"vmap": {"key": _field_of("tcp", "dport"), "data": {"set": list(pairs)}}}

    assert look(mapped([22, accept], [80, jump])).endswith("from anywhere")
    assert look(mapped([80, accept])) == ""


def test_one_chain_that_keeps_ssh_in_is_enough_and_none_is_a_fault() -> None:
    assert _management([_port()], chains=2).faults == []
    assert faults_of(_management([_port()], chains=0)) == "0 input chains drop by default"


def test_ssh_open_to_all_is_undecided_until_somebody_answers_for_it() -> None:
    everywhere: Any = {"firewall_management_sources": ["0.0.0.0/0", "::/0"]}
    assert _management([_port()], **everywhere).untested
    declared = _management([_port()], **everywhere, verification_declarations={"NET-06": HELD})
    assert (declared.untested, declared.faults) == ([], [])
    assert "ticket 17" in declared.declared[0]


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
    subject = subject_of()
    object.__setattr__(subject, "user", user)
    said = {**_further(**further), "mkdir": sshd, "cd /etc/pam.d": pam}
    return sheet_of(test_logins.test_guessing_by_ssh, said, subject=subject)


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


def _profiles(
    loaded: str,
    *,
    shipped: str = "",
    talking: str = "",
    idle: str = "",
    both: str = "",
    away: str = "",
    container: str = "none",
    first: str = "container=none",
    on: str = "Y",
    unit: str = "enabled",
) -> Sheet:
    services = "nginx|unconfined\nchronyd|/usr/sbin/chronyd (enforce)\n"
    parts = [f"{container}\n{first}\n{on}\n", loaded, away, shipped, talking, idle, both, f"{unit}\n", services]
    return sheet_of(test_apparmor.test_apparmor, {"read": "== next ==\n".join(parts)})


GOOD_PROFILES = "/usr/sbin/chronyd (enforce)\nlsb_release (enforce)\nchrome (unconfined)\n"


def test_profiles_must_be_loaded_and_enforced() -> None:
    good, idle = GOOD_PROFILES, "chrome\n"
    whole = _profiles(good, shipped="/usr/sbin/chronyd\n", idle=idle)
    assert whole.faults == []
    assert "services on the network without a profile: nginx" in whole.seen
    assert (
        faults_of(_profiles(good, shipped="man\nlsb_release\n", idle=idle)) == "the shipped profile man is not loaded"
    )
    assert faults_of(_profiles(f"{good}man (complain)\n", idle=idle)) == "man is in complain mode"
    assert _profiles(f"{good}Xorg (complain)\nXorg//inner (complain)\n", talking="Xorg\n", idle=idle).faults == []
    assert _profiles(f"{good}man (complain)\nsh (unconfined)\n", both="man\nsh\n", idle=idle).faults == []
    assert _profiles(f"{good}man (kill)\n", idle=idle).faults == []
    assert "AppArmor is off" in faults_of(_profiles("", on="N"))
    assert "0 profiles" in faults_of(_profiles(""))
    assert "apparmor.service is not there" in faults_of(_profiles(good, unit="", idle=idle))
    assert "complain" in faults_of(_profiles("man (complain)\n", container="lxc", first="container=lxc"))


def test_profiles_that_were_switched_off_or_removed_are_named() -> None:
    away = "off /etc/apparmor.d/usr.sbin.chronyd\ngone /etc/apparmor.d/usr.bin.man\n"
    assert faults_of(_profiles(GOOD_PROFILES, away=away, idle="chrome\n")) == (
        "the shipped profile /etc/apparmor.d/usr.sbin.chronyd is switched off (/etc/apparmor.d/disable/usr.sbin.chronyd); "
        "the shipped profile /etc/apparmor.d/usr.bin.man is gone"
    )


def test_a_profile_may_confine_nobody_only_where_its_file_says_so() -> None:
    shipped = "/usr/sbin/chronyd\nlsb_release\n"
    loose = GOOD_PROFILES.replace("chronyd (enforce)", "chronyd (unconfined)")
    assert faults_of(_profiles(loose, shipped=shipped, idle="chrome\n")) == "/usr/sbin/chronyd is in unconfined mode"
    assert faults_of(_profiles(GOOD_PROFILES, shipped=f"{shipped}chrome\n")) == "chrome is in unconfined mode"
    # A second file that has the same profile says something else.
    twice = _profiles(loose, shipped=shipped, idle="chrome\n/usr/sbin/chronyd\n")
    assert faults_of(twice) == "/usr/sbin/chronyd is in unconfined mode"
    asking = GOOD_PROFILES.replace("chronyd (enforce)", "chronyd (prompt)")
    assert faults_of(_profiles(asking, shipped=shipped, idle="chrome\n")) == "/usr/sbin/chronyd is in prompt mode"
    broken = "AppArmor parser error for /etc/apparmor.d/x in profile x at line 2: syntax error\n"
    assert _profiles(GOOD_PROFILES, shipped=shipped + broken, idle="chrome\n").untested


def test_a_container_is_one_by_its_first_process_too() -> None:
    with pytest.raises(NotApplicable, match="lxc"):
        _profiles("", container="lxc", first="container=lxc", on="N")
    made = faults_of(_profiles("", container="lxc", on="N"))
    assert "/run/systemd/container says lxc; the first process knows of no container" in made
    assert "AppArmor is off in the kernel" in made
    with pytest.raises(NotTested, match="does not tell"):
        _profiles("", container="lxc", first="unknown")


def test_what_the_command_tells_of_files_of_profiles(tmp_path: Path) -> None:
    """Its own words, on files and packages that are made up; apparmor_parser tells the files in place of the names."""
    profiles, programs = tmp_path / "etc/apparmor.d", tmp_path / "bin"
    for folder in (profiles / "disable", programs):
        folder.mkdir(parents=True)
    rows, brought = [], ("plain", "loose", "loud", "altered", "off", "shipped_off", "gone", "mixed")
    modes = {
        "plain": "enforce",
        "loud": "complain",
        "own_loud": "complain",
        "mixed": "complain) {} flags = (unconfined",
    }
    for name in (*brought, "own", "own_loud", "loose.dpkg-old"):
        content = (
            f"profile {name} flags=({modes.get(name, 'unconfined')}) {{\n  signal (receive) peer=unconfined,\n}}\n"
        )
        (profiles / name).write_text(content)
        if name in brought:
            rows.append(f" {profiles / name} {hashlib.md5(content.encode()).hexdigest()}")
    (profiles / "altered").write_text("profile altered flags=(unconfined) { capability, }\n")
    (profiles / "gone").unlink()
    for name in ("off", "shipped_off"):
        (profiles / "disable" / name).symlink_to(f"../{name}")
    rows += [f" {profiles / 'abstractions/base'} 0", f" {profiles / 'old'} 0 obsolete"]
    told = "\n".join(["== installed", *rows, "== config-files", f" {profiles / 'removed'} 0"])
    for name, body in {
        "dpkg-query": f"cat <<'END'\n{told}\nEND",
        "dpkg": f'[ "$2" = "{profiles}/disable/shipped_off" ]',
        "apparmor_parser": 'shift; for file; do echo "${file##*/}"; done',
        "ss": ":",
        "systemctl": "echo enabled",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "profiles").write_text("plain (enforce)\n")
    command = test_apparmor._LOOK.replace("/sys/kernel/security/apparmor/profiles", f"{tmp_path}/profiles")
    command = command.replace("/etc/apparmor.d", str(profiles)).replace("/etc/apparmor[.]d", str(profiles))
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env=environment)
    _, loaded, away, *names, unit, _ = done.stdout.split("== next ==\n")
    assert (loaded, unit) == ("plain (enforce)\n", "enabled\n")
    assert sorted(away.replace(f"{profiles}/", "").splitlines()) == ["gone gone", "off off"]
    assert [sorted(each.split()) for each in names] == [
        ["altered", "own_loud", "plain"],
        ["loud"],
        ["loose", "own"],
        ["mixed"],
    ]


def _scanner(there: str, state: str = "", newest: str = "", **settings: Any) -> Sheet:
    said = {"dpkg-query": "== next ==\n".join([f"{there}\n", f"{state}\n", f"{newest}\n", f"{NOW:.0f}\n"])}
    return sheet_of(test_malware.test_malware_protection, said, subject=subject_of(**settings))


def test_a_scanner_works_or_somebody_answers_for_having_none() -> None:
    assert _scanner("installed", "active", str(NOW - DAY)).faults == []
    assert "inactive" in faults_of(_scanner("installed", "inactive", str(NOW - DAY)))
    assert "9 days old" in faults_of(_scanner("installed", "active", str(NOW - 9 * DAY)))
    assert "not there" in faults_of(_scanner("installed", "active"))
    assert "OS-14" in _scanner("").untested[0]
    assert _scanner("", verification_declarations={"OS-14": HELD}).declared


SESSIONS = """
Method     | Type         | Security | IP address
TCP        | c2s          | TLSv1.3  | 127.0.0.1
WebSocket  | c2s          | secure   | 2001:db8::7
TCP        | c2s_unauthed | insecure | 127.0.0.1
OK: 3 c2s sessions shown
"""


def test_sessions_at_prosody_must_be_encrypted() -> None:
    def look(shown: str) -> Sheet:
        return sheet_of(test_links.test_sessions_at_prosody, {"prosodyctl": shown}, subject=subject_of())

    whole = look(SESSIONS)
    assert (whole.faults, whole.untested) == ([], [])
    assert whole.seen == ["1 sessions of services at Prosody: TLSv1.3"]
    plain = SESSIONS.replace("TLSv1.3  | 127.0.0.1", "insecure | 192.0.2.11")
    assert faults_of(look(plain)) == "a session from 192.0.2.11 at Prosody is insecure"
    bound = SESSIONS.replace("c2s          | TLSv1.3 ", "c2s_unbound  | insecure")
    assert faults_of(look(bound)) == "a session from 127.0.0.1 at Prosody is insecure"
    assert look("OK: 0 c2s sessions shown\n").untested
    assert look("Unable to connect\n").untested


def _connected(*lines: str, **settings: Any) -> Sheet:
    second = {"address": "192.0.2.11", "address6": "2001:db8::11", "groups": ["jitsi_bridges"], "ssh_port": 22}
    hosts: Any = TOPOLOGY["hosts"]
    topology = {"hosts": {**hosts, "h2": second}, "settings": settings}
    subject = Subject("h1", "192.0.2.10", "", ("jitsi_signalling",), topology)
    return sheet_of(test_links.test_connections_between_own_hosts, {"ss": "\n".join(lines)}, subject=subject)


def test_plain_connections_between_own_hosts_are_found() -> None:
    assert _connected("0 0 192.0.2.10:5222 192.0.2.11:40000", "0 0 192.0.2.10:22 192.0.2.11:40001").faults == []
    assert _connected("0 0 192.0.2.10:9100 198.51.100.7:40000").faults == []
    plain = "0 0 [::ffff:192.0.2.10]:9100 [2001:db8::11]:40000"
    assert "1 connections to h2 on port 9100/tcp" in faults_of(_connected(plain))
    assert _connected(plain, verification_declarations={"CRY-08": HELD}).declared


VG = "/dev/mapper/vg-root /dev/dm-1 /dev/dm-0 lvm\n/dev/mapper/luks /dev/dm-0 /dev/vda2 crypt\n"
DISK = "/dev/vda2 /dev/vda2 /dev/vda part\n/dev/vda /dev/vda  disk\n"


def _disks(
    mounts: str, *, swaps: str = "", files: str = "", devices: str = VG + DISK, places: str = "/srv\n", **settings: Any
) -> Sheet:
    container, pseudo = f"{settings.pop('container', 'none')}\n", "proc\noverlay\ntmpfs\nvirtiofs\n"
    parts = [container, f"Filename Type\n{swaps}", places, mounts, pseudo, devices, files]
    said = {"read": "== next ==\n".join(parts)}
    return sheet_of(test_disks.test_disks_are_encrypted, said, subject=subject_of(**settings))


def test_volumes_are_followed_down_to_what_encrypts_them() -> None:
    assert _disks("/dev/mapper/vg-root ext4 /\ntmpfs tmpfs /var/tmp\n").faults == []
    assert "not encrypted (/dev/vda2)" in faults_of(_disks("/dev/vda2 ext4 /\n"))
    assert "not known" in faults_of(_disks("rpool/ROOT zfs /\n"))
    assert _disks("/dev/mapper/vg-root[/@var] btrfs /var\n", places="/var/log\n").faults == []
    assert _disks("/dev/vda2 ext4 /\n", verification_declarations={"CRY-11": HELD}).faults == []
    assert "ran out" in faults_of(_disks("/dev/vda2 ext4 /\n", verification_declarations={"CRY-11": OVER}))
    half = "/dev/md0 /dev/md0 /dev/dm-0 raid1\n/dev/md0 /dev/md0 /dev/vda2 raid1\n"
    assert "not encrypted" in faults_of(_disks("/dev/md0 ext4 /srv\n", devices=half + VG + DISK))


def test_what_is_mounted_below_a_place_counts_for_itself() -> None:
    places = "/etc\n/srv\n/srv/recordings\n/var/log\n/home\n/data/backups\n"
    root = "/dev/mapper/vg-root ext4 /\nproc proc /proc\n"
    good = f"{root}/dev/mapper/vg-root[/home] ext4 /home\noverlay overlay /srv/x\ntmpfs tmpfs /var/log/t\n/dev/vda2 ext4 /boot\n"
    assert _disks(good, places=places).faults == []
    for target in ("/srv/recordings", "/var/log/journal", "/home/anna", "/data/backups/db", "/srv/a\\x20b"):
        seen = f"{target.replace(chr(92) + 'x20', ' ')} lies on a disk that is not encrypted (/dev/vda2)"
        plain = f"{good}/dev/vda2 ext4 {target}\n"
        assert faults_of(_disks(plain, places=places)) == seen
        assert _disks(plain, places=places, verification_declarations={"CRY-11": HELD}).declared
    assert "not known" in faults_of(_disks(f"{good}media virtiofs /srv/recordings\n", places=places))
    # One that hides another, and one whose name only begins alike.
    assert _disks(f"/dev/vda2 ext4 /\n{root}/dev/vda2 ext4 /srvx\n", places=places).faults == []
    with pytest.raises(RuntimeError, match="no mount"):
        _disks("", places=places)


def test_places_are_told_by_what_they_link_to() -> None:
    """What the command itself tells of this machine."""
    done = subprocess.run(["sh", "-c", test_disks._DISKS], capture_output=True, text=True, check=True)
    parts = done.stdout.split("== next ==\n")
    assert len(parts) == 7
    assert os.path.realpath("/etc") in parts[2].splitlines()
    assert test_disks._mounts(parts[3], ["/proc/self"], set()) != []


def test_swap_has_no_exception() -> None:
    root, held = "/dev/mapper/vg-root ext4 /\n", {"CRY-11": HELD}
    plain = _disks(root, swaps="/dev/vda2 partition\n", verification_declarations=held)
    assert faults_of(plain) == "swap /dev/vda2 is not encrypted"
    assert _disks(root, swaps="/dev/dm-1 partition\n/dev/zram0 partition\n").faults == []
    assert _disks(root, swaps="/swap file\n", files="/dev/mapper/vg-root\n").faults == []
    assert faults_of(_disks(root, swaps="/swap file\n", files="/dev/vda2\n")) == "swap /swap is not encrypted"


def test_disks_of_a_container_are_not_its_own() -> None:
    assert _disks("", container="lxc").untested
    assert _disks("", container="lxc", verification_declarations={"CRY-11": HELD}).declared
