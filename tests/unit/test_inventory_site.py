"""A site with mistakes: every one is named with its place and a hint, all at once."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import Problem
from orchestrator.inventory import ansible_tools, formats
from orchestrator.inventory.secret import Secret
from orchestrator.inventory.vault import VAULT, VaultAccess, read_vault
from tests.unit.site_cases import Case, denied

SITE = "group_vars/all/site.yml"


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


def test_two_hosts_with_one_address(case: Case) -> None:
    case.append("        second:\n          ansible_host: 192.0.2.10\n", "hosts.yml")
    problem = case.only_problem()
    assert problem.message == "second has the same address as meet: 192.0.2.10"
    lines = (case.path / "hosts.yml").read_text().splitlines()
    assert problem.where == f"{case.path / 'hosts.yml'}:{len(lines)}"


def test_bridge_without_signalling_host(case: Case) -> None:
    (case.path / "hosts.yml").write_text(
        "all:\n  children:\n    jitsi_bridges:\n      hosts:\n        b1:\n          ansible_host: 192.0.2.11\n"
    )
    problem = case.only_problem()
    assert problem.message == "bridge b1 has no signalling host"
    assert problem.where == f"{case.path / 'hosts.yml'}:5"


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


def test_address_must_be_a_literal(case: Case) -> None:
    case.replace("hosts.yml", "ansible_host: 192.0.2.10", "ansible_host: meet.example.org")
    assert "is no IP address" in case.only_problem().message


def test_unknown_group_and_misspelt_keyword(case: Case) -> None:
    case.append("    jitsi_bridge:\n      host:\n        x:\n", "hosts.yml")
    hints = {problem.message: problem.hint for problem in case.problems()}
    assert hints["unknown group jitsi_bridge"] == "did you mean jitsi_bridges?"
    assert hints["host is no keyword of a group"] == "did you mean hosts?"


def test_host_in_no_group(case: Case) -> None:
    case.replace("hosts.yml", "  children:\n", "  hosts:\n    lost:\n      ansible_host: 192.0.2.99\n  children:\n")
    problem = case.only_problem()
    assert problem.message == "host lost is in no group"
    assert problem.where == case.at("lost:", "hosts.yml")


def test_a_file_that_is_no_utf_8_names_its_line(case: Case) -> None:
    path = case.path / SITE
    known = path.read_bytes()
    path.write_bytes(known + "site_note: Köln\n".encode("latin-1"))
    problem = case.only_problem()
    assert (problem.message, problem.where) == ("is not UTF-8 text", f"{path}:{len(known.splitlines()) + 1}")
    assert problem.hint


def test_what_a_broken_file_would_hold_is_not_missing(case: Case) -> None:
    case.append("jitsi_name: [\n")
    assert "is not valid YAML" in case.only_problem().message


def test_broken_yaml_names_its_line_and_other_files_are_still_judged(case: Case) -> None:
    case.append("jitsi_p2p: [\n", "group_vars/all/versions.yml")
    case.append("jitsi_turn_domain: turn\n")
    problems = case.problems()
    assert [problem.message.split(":")[0] for problem in problems] == ["is not valid YAML", "jitsi_turn_domain"]
    assert "versions.yml:" in problems[0].where


def test_key_given_twice(case: Case) -> None:
    case.append("jitsi_p2p: true\njitsi_p2p: false\n")
    problem = case.only_problem()
    assert problem.message.startswith("jitsi_p2p is given twice, first in line ")


def test_host_variables_and_files_are_judged(case: Case) -> None:
    (case.path / "host_vars").mkdir()
    (case.path / "host_vars/meet.yml").write_text("---\nbase_address6: 192.0.2.1\n")
    problem = case.only_problem()
    assert problem.where == f"{case.path / 'host_vars/meet.yml'}:2"
    assert "is no IPv6 address" in problem.message


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


def test_no_hosts_file(tmp_path: Path, case: Case) -> None:
    (case.path / "hosts.yml").unlink()
    problem = case.only_problem()
    assert problem.where == str(case.path / "hosts.yml")
    assert "ratssaal new" in problem.hint


def test_one_process_reads_the_site(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    real = ansible_tools._run

    def counting(arguments: list[str], text: str | None = None) -> str:
        started.append(Path(arguments[0]).name)
        return real(arguments, text)

    monkeypatch.setattr(ansible_tools, "_run", counting)
    case.load()
    assert started == ["ansible-inventory"]


@pytest.mark.parametrize("name", ["group_vars/all/extra.json", "group_vars/all/more", "group_vars/all/sub/more.yml"])
def test_settings_are_read_from_every_file_that_ansible_reads(case: Case, name: str) -> None:
    (case.path / name).parent.mkdir(exist_ok=True)
    (case.path / name).write_text('{"jitsi_p2p": true}\n')
    site = case.load()
    assert site.settings["jitsi_p2p"] is True
    assert "jitsi_p2p" not in site.secrets
    (case.path / name).write_text('{"jitsi_p2p": true, "coturn_secret": "plain"}\n')
    assert case.only_problem().where == f"{case.path / name}:1"


def test_a_file_that_ansible_passes_over_is_told(case: Case) -> None:
    (case.path / "group_vars/all.yml").write_text("jitsi_p2p: true\n")
    problem = case.only_problem()
    assert problem.where == str(case.path / "group_vars/all.yml")
    assert problem.message == "Ansible does not read this, because all stands beside it"


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_the_report_tells_of_is_one_value_for_the_whole_site(case: Case, encrypted: bool) -> None:
    (case.path / "hosts.yml").write_text(TWO_HOSTS)
    file = case.path / "host_vars/b2/own.yml"
    file.parent.mkdir(parents=True)
    text = "web_people_per_address: 900\nbase_address6: 2001:db8::2\n"
    if encrypted:
        text = ansible_tools.vault_encrypt(text, VaultAccess(case.password_file).ansible_args())
    file.write_text(text)
    problem = case.only_problem()
    assert problem.message == "web_people_per_address is one value for the whole site"
    assert problem.where == (str(file) if encrypted else f"{file}:1")


TWO_HOSTS = """\
all:
  children:
    jitsi_signalling: {hosts: {meet: {ansible_host: 192.0.2.10}}}
    turn_servers: {hosts: {meet: }}
    jitsi_bridges: {hosts: {b2: {ansible_host: 192.0.2.11}}}
"""


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("a b", "a space"),
        ("50%", "'%'"),
        ("a$b", "'$'"),
        ("it's", "an apostrophe"),
        ("a\\b", "a backslash"),
    ],
)
def test_a_path_that_ssh_would_take_for_another_is_refused(case: Case, folder: str, named: str) -> None:
    moved = case.path.parent / folder / "town"
    moved.parent.mkdir()
    case.path.rename(moved)
    problem = replace(case, path=moved).only_problem()
    assert problem.where == str(moved)
    assert problem.message.endswith(f": it holds {named}")
    assert problem.hint


@pytest.mark.parametrize("folder", ["rathaus-köln", "a,b", "x#y", "v1.2+~(3)"])
def test_other_letters_in_a_path_are_none_of_its_business(folder: str) -> None:
    assert formats.ssh_path(f"/srv/{folder}/town") is None


@pytest.mark.parametrize(
    ("line", "part", "hint"),
    [
        ("ansible_port: 22-23", "'22-23' is no port", "a number from 1 to 65535"),
        ("ansible_port: 0", "0 is no port", "a number from 1 to 65535"),
        ("ansible_port: '99999999999'", "is no port", "a number from 1 to 65535"),
        ("ansible_port: yes", "True is no port", "a number from 1 to 65535"),
        ("ansible_user: [root]", "['root'] is no user", "such as root"),
        ("ansible_user: '{{ x }}'", "holds a template", "write the value itself"),
        ("ansible_user: -oProxyCommand=x", "is no user", "such as root"),
        ("ansible_ssh_private_key_file: keys/id_x", "'keys/id_x' is relative", '"{{ inventory_dir }}/keys/id_x"'),
        ("ansible_ssh_private_key_file: ~nobody-of-this-name/id_x", "is relative", "starts with / or ~"),
        ("ansible_ssh_private_key_file: '{{ playbook_dir }}/id_x'", "holds a template", "write the value itself"),
        ("ansible_ssh_private_key_file: [a]", "is no path", "id_ed25519"),
        ("ansible_ssh_private_key_file: /keys/100%/id_x", "it holds '%'", "without"),
    ],
)
def test_how_a_host_is_reached_is_judged(case: Case, line: str, part: str, hint: str) -> None:
    case.replace("hosts.yml", "          ansible_user: root\n", f"          {line}\n")
    problem = case.only_problem()
    assert part in problem.message
    assert hint in problem.hint
    assert problem.where == case.at(line, "hosts.yml")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"{{ inventory_dir }}/id_x"', "{site}/id_x"),
        ('"{{inventory_dir}}/../id_x"', "{site}/../id_x"),
        ("~/My keys/id_x", "{home}/My keys/id_x"),
        ("/keys/id_x", "/keys/id_x"),
    ],
)
def test_a_keys_file_is_the_same_to_ansible_and_to_us(case: Case, written: str, meant: str) -> None:
    line = f"          ansible_port: '2222'\n          ansible_ssh_private_key_file: {written}\n"
    case.replace("hosts.yml", "          ansible_user: root\n", line)
    (host,) = case.load().hosts
    assert host.key_file == meant.format(site=case.path, home=Path.home())
    assert host.port == 2222


def test_a_file_below_the_home_of_nobody_is_missing(case: Case) -> None:
    case.append("certificates_chain_file: ~nobody-of-this-name/chain.pem\n")
    assert "does not exist" in case.only_problem().message


def test_a_file_that_nobody_can_look_at_is_not_called_missing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = case.path / "chain.pem"
    chain.write_text("x")
    case.append("certificates_chain_file: chain.pem\n")
    assert case.problems() == []
    told = "certificates_chain_file: the file 'chain.pem' cannot be read: Permission denied"
    expected = Problem(told, case.at("certificates_chain_file: "), f"ls -l {chain}")
    look = os.stat
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda path, **options: denied() if path == chain else look(path, **options))
        assert case.only_problem() == expected
    chain.unlink()
    chain.mkdir()
    assert case.only_problem().message == "certificates_chain_file: the file 'chain.pem' is no regular file"


@pytest.mark.parametrize("text", ["site_note: 'Köln \x07'", "site_note: 'Köln \x00'"])
def test_a_control_character_names_its_line(case: Case, text: str) -> None:
    case.append(f"# Größe\n{text}\n")
    problem = case.only_problem()
    assert problem.message.startswith("is not valid YAML: ")
    assert problem.where == case.at("site_note")
    assert problem.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [("hosts.yml", "all: &a {children: {x: *a}}\n"), ("group_vars/all/more.yml", "site_x: &a [1, {y: *a}]\n")],
)
def test_an_alias_within_itself_is_no_internal_error(case: Case, name: str, text: str) -> None:
    (case.path / name).write_text(text)
    problem = case.only_problem()
    assert problem.message == "an alias (*) stands inside of what it names (&)"
    assert problem.where == f"{case.path / name}:1"


def test_an_alias_beside_what_it_names_is_fine(case: Case) -> None:
    case.append("site_x: &a [1, 2]\nsite_y: [*a, {z: *a}]\n")
    assert case.problems() == []


def test_editors_locks_and_backups_are_passed_over(case: Case) -> None:
    (case.path / "group_vars/all/.#site.yml").symlink_to("somebody@somewhere.1234")
    (case.path / "group_vars/all/site.yml~").write_text("jitsi_colour: red\n")
    (case.path / "group_vars/README.md").write_text("# Notes\n")
    assert case.problems() == []


@pytest.mark.parametrize("name", ["group_vars/all/pipe.yml", "group_vars/jitsi_bridges", "hosts.yml", str(VAULT)])
def test_a_pipe_is_not_waited_for(case: Case, name: str) -> None:
    (case.path / name).unlink(missing_ok=True)
    os.mkfifo(case.path / name)
    problem = case.problems()[0]
    assert (problem.message, problem.where) == ("is no regular file", str(case.path / name))


def test_ranges_and_merge_keys_are_told_and_nothing_else(case: Case) -> None:
    (case.path / "hosts.yml").write_text(
        "all:\n  children:\n    jitsi_signalling: {hosts: {'meet[1:2]': }}\n"
        "    turn_servers: &t {hosts: {'meet[1:2]': }}\n    jitsi_bridges:\n      <<: *t\n"
    )
    (case.path / "group_vars/all/more.yml").write_text("site_x: &x {coturn_secret: plain}\n<<: *x\n")
    hosts, more = case.path / "hosts.yml", case.path / "group_vars/all/more.yml"
    assert [(problem.message, problem.where) for problem in case.problems()] == [
        ("the range meet[1:2] is not supported", f"{hosts}:3"),
        ("the range meet[1:2] is not supported", f"{hosts}:4"),
        ("a merge key (<<) is not supported here", f"{hosts}:6"),
        ("a merge key (<<) is not supported here", f"{more}:2"),
    ]


def test_a_merge_key_within_a_value_is_fine(case: Case) -> None:
    case.append("site_x: &x {a: 1}\nsite_y: {<<: *x, b: 2}\n")
    assert case.problems() == []
