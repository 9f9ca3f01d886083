"""Hosts and groups with mistakes: what is named where, and by which path, port and key a host is reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.inventory import ansible_tools, formats
from orchestrator.inventory.vault import VaultAccess
from tests.unit.site_cases import Case


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


def test_host_variables_and_files_are_judged(case: Case) -> None:
    (case.path / "host_vars").mkdir()
    (case.path / "host_vars/meet.yml").write_text("---\nbase_address6: 192.0.2.1\n")
    problem = case.only_problem()
    assert problem.where == f"{case.path / 'host_vars/meet.yml'}:2"
    assert "is no IPv6 address" in problem.message


def test_no_hosts_file(tmp_path: Path, case: Case) -> None:
    (case.path / "hosts.yml").unlink()
    problem = case.only_problem()
    assert problem.where == str(case.path / "hosts.yml")
    assert "ratssaal new" in problem.hint


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
        ("ansible_ssh_extra_args: -o ProxyCommand='ssh -W %h:%p jump", "cannot be taken apart", "second one"),
        ("ansible_ssh_extra_args: [-4]", "is no text", "ProxyJump"),
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
