"""A site's files: which of them count, and what in them cannot be read is told with its line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import Problem
from orchestrator.inventory import ansible_tools
from orchestrator.inventory.vault import VAULT
from tests.unit.site_cases import SITE, Case, denied


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
