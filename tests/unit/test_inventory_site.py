"""A site with mistakes: every one is named with its place and a hint, all at once."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from orchestrator.inventory.secret import Secret
from orchestrator.inventory.vault import VaultAccess, read_vault
from tests.unit.site_cases import SITE, Case


def test_new_site_with_two_values_is_valid(case: Case) -> None:
    site = case.load()
    assert site.name == "town"
    assert [(host.name, host.address, host.user, host.port) for host in site.hosts] == [
        ("meet", "192.0.2.10", "root", 22)
    ]
    assert site.settings["jitsi_domain"] == "meet.example.org"
    assert site.settings["jitsi_auth"] == "internal"
    assert site.settings["jitsi_conference_log_days"] == 7
    assert site.topology["hosts"]["meet"]["groups"] == ["jitsi_signalling", "jitsi_bridges", "turn_servers"]
    assert any("imprint" in line for line in site.undecided)


def test_secrets_never_show(case: Case) -> None:
    with VaultAccess(case.password_file) as access:
        value = read_vault(case.path, access)["coturn_secret"]
    site = case.load()
    assert site.secrets["coturn_secret"].reveal() == value
    assert "coturn_secret" not in site.settings
    assert value not in repr(site)
    assert value not in f"{site.secrets['coturn_secret']} {site.secrets['coturn_secret']!r}"
    with pytest.raises(TypeError):
        json.dumps(site.secrets["coturn_secret"])
    with pytest.raises(TypeError):
        pickle.dumps(Secret("x"))


def test_misspelt_key_names_the_nearest(case: Case) -> None:
    case.append("jitsi_conference_log_day: 3\n")
    problem = case.only_problem()
    assert problem.message == "unknown key jitsi_conference_log_day"
    assert problem.where == case.at("jitsi_conference_log_day:")
    assert "did you mean jitsi_conference_log_days?" in problem.hint


def test_misspelt_prefix_is_noticed_too(case: Case) -> None:
    case.append("jisti_allowed_origins: []\n")
    assert "did you mean jitsi_allowed_origins?" in case.only_problem().hint


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "OS-06: {who: '', why: x, until: 2027-03-31}",
            "hardening_skip: the decision to leave alone OS-06 says no who",
        ),
        (
            "OS-06: {who: x, why: ' ', until: 2027-03-31}",
            "hardening_skip: the decision to leave alone OS-06 says no why",
        ),
        ("OS-06: {who: x, why: y, until: ''}", "hardening_skip: the decision to leave alone OS-06 says no until"),
        ("OS-06: {who: x, why: y, until: never}", "hardening_skip: 'never' is no day"),
        ("OS-06: because", "hardening_skip.OS-06: wrong type: expected a mapping, got a text"),
        ("OS-06: true", "hardening_skip.OS-06: wrong type: expected a mapping, got true or false"),
        ("OS-06: ", "hardening_skip: the decision to leave alone OS-06 says no who, why, until"),
        ("OS-99: {who: x, why: y, until: 2027-03-31}", "hardening_skip.OS-99: unknown key OS-99"),
    ],
)
def test_hardening_is_left_alone_with_a_reason_only(case: Case, entry: str, message: str) -> None:
    case.append(f"hardening_skip:\n  {entry}\n")
    problem = case.only_problem()
    assert problem.message == message
    assert problem.where == case.at(entry.partition(":")[0])
    assert problem.hint
    assert "wrong type" not in message or problem.hint == "write {who: ..., why: ..., until: ...}"


VERSIONS = "group_vars/all/versions.yml"


@pytest.mark.parametrize(
    "version", ["1.0-1183-1", "2.3-324-ga1b2c3d4-1", "1:1.0", "1.0.9321-1~bpo12+1", "7"], ids=lambda version: version
)
def test_versions_are_locked_by_package(case: Case, version: str) -> None:
    case.replace(VERSIONS, "versions: {}", f'versions:\n  jicofo: "{version}"\n  jitsi-meet-web: "1.0.9321-1"')
    assert case.load().settings["vendor_repository_versions"]["jicofo"] == version


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('jicfo: "1.0-1183-1"', ".jicfo: unknown key jicfo", "did you mean jicofo?"),
        ('prosody: "0.12.3-1"', ".prosody: unknown key prosody", "known: jicofo, jitsi-meet-web, jitsi-videobridge2"),
        ("jicofo: 1.0", ".jicofo: wrong type: expected a text, got a number", "put it in quotes"),
        ("jicofo: 1", ".jicofo: wrong type: expected a text, got a whole number", "put it in quotes"),
        ("jicofo: [1.0-1]", ".jicofo: wrong type: expected a text, got a list", "put it in quotes"),
        ("jicofo: latest", ": 'latest' is no version of a Debian package", "apt-cache madison jicofo"),
        ('jicofo: "1.0-*"', ": '1.0-*' is no version of a Debian package", "apt-cache madison jicofo"),
        ('jicofo: "1.0 -1"', ": '1.0 -1' is no version of a Debian package", "apt-cache madison jicofo"),
        ('jicofo: "1.0-"', ": '1.0-' is no version of a Debian package", "apt-cache madison jicofo"),
        ('jicofo: ""', ": jicofo has no version", "remove the line"),
        ("jicofo:", ": jicofo has no version", "remove the line"),
    ],
)
def test_a_version_that_would_lock_nothing_is_refused(case: Case, line: str, message: str, hint: str) -> None:
    case.replace(VERSIONS, "versions: {}", f'versions:\n  jitsi-meet-web: "1.0.9321-1"\n  {line}')
    problem = case.only_problem()
    assert problem.message == f"vendor_repository_versions{message}"
    assert problem.where == case.at(f"  {line}", VERSIONS)
    assert hint in problem.hint


def test_own_variables_of_the_operator_are_left_alone(case: Case) -> None:
    case.append("site_room: 7\nansible_python_interpreter: /usr/bin/python3\n")
    assert case.problems() == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jitsi_conference_log_days: seven", "expected a whole number, got a text"),
        ('jitsi_conference_log_days: "7"', "expected a whole number, got a text"),
        ("jitsi_p2p: 1", "expected true or false, got a whole number"),
        ("jitsi_allowed_origins: https://a.example", "expected a list, got a text"),
        ("jitsi_turn_domain: 7", "expected a text, got a whole number"),
        ("jitsi_jwt: [a]", "expected a mapping, got a list"),
    ],
)
def test_wrong_type(case: Case, line: str, message: str) -> None:
    case.append(f"{line}\n")
    problem = case.only_problem()
    assert message in problem.message
    assert problem.where == case.at(line)
    assert problem.hint


def test_wrong_choice_lists_the_choices(case: Case) -> None:
    case.append("jitsi_auth: ldap\n")
    problem = case.only_problem()
    assert problem.where == case.at("jitsi_auth: ldap")
    assert "'internal' or 'jwt'" in problem.hint


def test_nested_problems_have_their_own_lines(case: Case) -> None:
    case.append("jitsi_auth: jwt\njitsi_jwt:\n  app_id: town\n  jwks_ulr: https://x.example/\n  issuers: [town, 3]\n")
    problems = {problem.where: problem for problem in case.problems()}
    assert problems[case.at("jwks_ulr")].hint == "did you mean jwks_url?"
    assert "jitsi_jwt.issuers.1" in problems[case.at("issuers:")].message


def test_tokens_need_something_to_check_them_with(case: Case) -> None:
    case.append("jitsi_auth: jwt\njitsi_jwt: {app_id: town}\n")
    problem = case.only_problem()
    assert "there is nothing to check a token with" in problem.message
    assert "jwks_url" in problem.hint


@pytest.mark.parametrize("value", ["{{ ansible_host }}", "https://{% if x %}a{% endif %}.example"])
def test_template_where_a_literal_is_required(case: Case, value: str) -> None:
    case.append(f'jitsi_allowed_origins:\n  - "{value}"\n')
    problem = case.only_problem()
    assert problem.message == "jitsi_allowed_origins holds a template where a literal value is required"
    assert problem.where == case.at("jitsi_allowed_origins:")


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("meet", "no fully qualified domain name"),
        ("192.0.2.1", "is an address"),
        ("Meet.Example.org", "write it as meet.example.org"),
        ("rathaus.münchen.example", "xn--mnchen-3ya"),
        ("meet_.example.org", "no fully qualified domain name"),
        ("https://meet.example.org", "no fully qualified domain name"),
        ("meet.example.org.", "write it as meet.example.org"),
        ("meet.7", "ends with a number"),
    ],
)
def test_domain_that_is_no_fqdn(case: Case, value: str, part: str) -> None:
    case.replace(SITE, "jitsi_domain: meet.example.org", f'jitsi_domain: "{value}"')
    problem = case.only_problem()
    assert part in f"{problem.message} {problem.hint}"
    assert problem.where == case.at("jitsi_domain: ")


def test_unfilled_values_are_to_be_edited(tmp_path: Path, case: Case) -> None:
    case.replace(SITE, "jitsi_domain: meet.example.org", 'jitsi_domain: ""')
    case.replace("hosts.yml", "ansible_host: 192.0.2.10", 'ansible_host: ""')
    problems = {problem.message: problem for problem in case.problems()}
    assert problems["jitsi_domain is not filled in"].where == case.at("jitsi_domain: ")
    assert problems["jitsi_domain is not filled in"].hint.startswith(f"edit {case.path / SITE}")
    assert problems["jitsi_domain is not filled in"].hint.endswith("such as meet.example.org")
    assert problems["the address of meet is not filled in"].where == case.at("ansible_host: ", "hosts.yml")
    assert len(problems) == 2


KEY = f"SHA256:{'a' * 43}"


def test_declarations_hold_for_days_that_are_written_in_either_way(case: Case) -> None:
    row = "{{who: IT, why: 'ticket 17', until: {}}}"
    case.append(f"verification_declarations:\n  OS-14: {row.format('2999-12-31')}\n")
    case.append(f"verification_admins:\n  - {{account: root, who: IT, keys: ['{KEY}'], until: '2999-12-31'}}\n")
    site = case.load()
    assert str(site.settings["verification_declarations"]["OS-14"]["until"]) == "2999-12-31"
    undecided = " ".join(site.undecided)
    assert "verification_admins" not in undecided
    assert "ACC-07, how people log in (verification_declarations)" in undecided
    assert "firewall_management_sources" in undecided


@pytest.mark.parametrize(
    ("lines", "at", "part"),
    [
        ("verification_declarations:\n  OS-14: {who: IT, until: 2999-12-31}", "OS-14", "OS-14 says no why"),
        ("verification_declarations:\n  OS-14: {who: ' ', why: x, until: 2999-12-31}", "OS-14", "OS-14 says no who"),
        ("verification_declarations:\n  OS-14: {who: IT, why: x}", "OS-14", "OS-14 says no until"),
        ("verification_declarations:\n  OS-14: {who: IT, why: x, until: soon}", "soon", "'soon' is no day"),
        ("verification_declarations:\n  OS-14: because", "OS-14", "expected a mapping"),
        ("verification_declarations:\n  OS-99: {}", "OS-99", "unknown key OS-99"),
        (f"verification_admins:\n  - {{account: root, keys: ['{KEY}']}}", "account", "the entry says no who"),
        (f"verification_admins:\n  - {{who: A, keys: ['{KEY}']}}", "who", "the entry says no account"),
        ("verification_admins:\n  - {account: root, who: A}", "account", "the entry says no keys"),
        ("verification_admins:\n  - {account: root, who: A, keys: [AAAA]}", "AAAA", "no fingerprint of an SSH key"),
        (
            f"verification_admins:\n  - {{account: a, who: A, keys: ['{KEY}']}}\n  - {{account: b, who: B, keys: ['{KEY}']}}",
            "account: b",
            "declared for two people",
        ),
        ("web_people_per_address: 5", "address: 5", "10 to 1000"),
        ("web_people_per_address: 5000", "address: 5000", "10 to 1000"),
        ("jitsi_allowed_origins: [http://a.example]", "jitsi_allowed", "is no https origin"),
        ("jitsi_allowed_origins: [https://a.example/x]", "jitsi_allowed", "write it as https://a.example"),
        ("firewall_management_sources: [192.0.2.1/24]", "firewall_m", "write it as 192.0.2.0/24"),
        ("firewall_extra_flows:\n  - {proto: tcp, port: 70000}", "70000", "is no port"),
        ("firewall_extra_flows:\n  - {proto: icmp, port: 7}", "icmp", "is no protocol"),
        ("firewall_extra_flows:\n  - {proto: tcp, port: 7000, purpose: ' '}", "7000", "the flow has no purpose"),
        ("jitsi_conference_log_days: 0", "log_days: 0", "1 or more"),
        ("vendor_repository_url: ftp://x.example", "ftp:", "is no repository address"),
        ("certificates_chain_file: files/chain.pem", "chain.pem", "does not exist"),
        ("certificates_source: pem", "certificates_source: pem", "certificates_chain_file is missing"),
        ("jitsi_auth: jwt", "jitsi_auth: jwt", "jitsi_jwt.app_id is missing"),
    ],
)
def test_format_rules(case: Case, lines: str, at: str, part: str) -> None:
    case.append(f"{lines}\n")
    problem = case.problems()[0]
    assert part in f"{problem.message} {problem.hint}"
    assert problem.where.startswith(str(case.path / SITE))
    found = [
        n for n, line in enumerate((case.path / SITE).read_text().splitlines(), 1) if at in line and "#" not in line
    ]
    assert problem.where == f"{case.path / SITE}:{found[-1]}"


def test_everything_at_once(case: Case) -> None:
    case.append("jitsi_p2p: maybe\njitsi_colour: red\njitsi_turn_domain: turn\n")
    case.append("        second:\n          ansible_host: 192.0.2.10\n", "hosts.yml")
    assert len(case.problems()) == 4
