"""new, users and preflight as a person calls them: exit codes, what is printed where, and what stays secret."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import console
from orchestrator.cli.new import new
from orchestrator.cli.preflight import _confirm, preflight
from orchestrator.cli.siteargument import SiteArgument, find_site
from orchestrator.cli.users import users
from orchestrator.errors import InvalidSite, PreflightFailed, UsageError
from orchestrator.inventory.vault import VAULT, VaultAccess, read_vault


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    return CliRunner()


def run(runner: CliRunner, command: click.Command, *arguments: str) -> Result:
    result = runner.invoke(command, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_new_users_and_undo(call: CliRunner, tmp_path: Path) -> None:
    made = run(call, new, "town", "--domain", "meet.example.org")
    assert made.exit_code == 0
    assert "Edit inventories/town/hosts.yml: ansible_host" in made.stderr
    assert "jitsi_domain" not in made.stderr
    added = run(call, users, "add", "anna")
    password = added.stdout.strip()
    assert len(password) == 23
    assert password not in added.stderr
    assert "ratssaal provision town" in added.stderr
    assert password not in (tmp_path / "inventories/town" / VAULT).read_text()
    with VaultAccess.locate(tmp_path / "inventories/town") as access:
        assert read_vault(tmp_path / "inventories/town", access)["jitsi_accounts"] == {"anna": password}
    listed = run(call, users, "list", "--json")
    assert json.loads(listed.stdout) == ["anna"]
    assert password not in listed.output
    assert run(call, users, "remove", "anna", "town").exit_code == 0
    assert json.loads(run(call, users, "list", "town", "--json").stdout) == []


def test_account_is_not_overwritten_unless_asked(call: CliRunner) -> None:
    run(call, new, "town")
    first = run(call, users, "add", "anna").stdout
    with pytest.raises(UsageError, match="exists already"):
        run(call, users, "add", "anna")
    assert run(call, users, "add", "--reset", "anna").stdout != first


@pytest.mark.parametrize("name", ["Anna", "a b", "a@b", "", "a/b", "ä"])
def test_account_names_are_judged(call: CliRunner, name: str) -> None:
    run(call, new, "town")
    with pytest.raises(UsageError) as caught:
        run(call, users, "add", name)
    assert caught.value.exit_code == 2


def test_unknown_account(call: CliRunner) -> None:
    run(call, new, "town")
    with pytest.raises(UsageError, match="there is no account anna"):
        run(call, users, "remove", "anna")


def test_wrong_password_leaves_the_vault_alone(call: CliRunner, tmp_path: Path) -> None:
    run(call, new, "town")
    before = (tmp_path / "inventories/town" / VAULT).read_bytes()
    (tmp_path / "wrong").write_text("wrong\n")
    with pytest.raises(InvalidSite) as caught:
        run(call, users, "add", "anna", "town", "--vault-password-file", "wrong")
    assert caught.value.exit_code == 3
    assert caught.value.problems[0].where.endswith("vault.yml:1")
    assert (tmp_path / "inventories/town" / VAULT).read_bytes() == before


def test_new_judges_the_two_values(call: CliRunner, tmp_path: Path) -> None:
    for option, value in (("--domain", "meet"), ("--address", "meet.example.org")):
        result = run(call, new, "town", option, value)
        assert result.exit_code == 2
        assert option in result.stderr
    assert not (tmp_path / "inventories").exists()


def test_new_twice(call: CliRunner) -> None:
    run(call, new, "town")
    with pytest.raises(UsageError, match="exists already"):
        run(call, new, "town")


def test_new_as_json(call: CliRunner, tmp_path: Path) -> None:
    answer = json.loads(run(call, new, "town", "--json").stdout)
    assert answer["path"] == str(tmp_path / "inventories/town")
    assert [edit.rpartition(": ")[2] for edit in answer["edit"]] == ["jitsi_domain", "ansible_host"]
    for edit in answer["edit"]:
        assert edit.rpartition(": ")[2] in run(call, new, "--help").stdout


def test_preflight_of_an_unfilled_site_names_both_places(call: CliRunner) -> None:
    run(call, new, "town")
    with pytest.raises(InvalidSite) as caught:
        run(call, preflight)
    places = {problem.where.partition(":")[0] for problem in caught.value.problems}
    assert places == {"inventories/town/hosts.yml", "inventories/town/group_vars/all/site.yml"}


def test_which_site(call: CliRunner) -> None:
    with pytest.raises(UsageError, match="there is no site"):
        run(call, preflight)
    run(call, new, "one")
    run(call, new, "two")
    with pytest.raises(UsageError, match="which site") as caught:
        run(call, preflight)
    assert caught.value.problems[0].hint == "name one of: one, two"
    with pytest.raises(UsageError, match="there is no site three"):
        run(call, preflight, "three")


@pytest.mark.parametrize(
    ("typed", "path", "then"),
    [
        ("town", "inventories/town", "town"),
        ("town/", "inventories/town", "town"),
        ("./town", "town", "./town"),
        ("sites/town/", "sites/town", "sites/town"),
        ("inventories/town", "inventories/town", "town"),
    ],
)
def test_new_and_every_other_command_mean_the_same_site(
    call: CliRunner, tmp_path: Path, typed: str, path: str, then: str
) -> None:
    for other in {"inventories/town", "town", "sites/town", "inventories/sites/town"} - {path}:
        (tmp_path / other).mkdir(parents=True)
    made = run(call, new, typed)
    assert (tmp_path / path / "hosts.yml").is_file()
    assert f"Then: ratssaal preflight {then} " in made.stderr
    for way in (typed, then):
        assert find_site(way).resolve() == tmp_path / path


def test_a_dot_is_the_directory_where_one_is(call: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "town").mkdir()
    monkeypatch.chdir(tmp_path / "town")
    before = (tmp_path / "town").stat().st_ino
    made = run(call, new, ".")
    assert "Then: ratssaal preflight . " in made.stderr
    assert (tmp_path / "town").stat().st_ino == before
    assert sorted(p.name for p in (tmp_path / "town").iterdir()) == [
        *(".gitignore", "compliance", "group_vars", "hosts.yml", "known_hosts"),
    ]
    assert run(call, users, "list", ".").exit_code == 0


def test_two_sites_of_one_name_do_not_share_a_password_by_chance(call: CliRunner, tmp_path: Path) -> None:
    run(call, new, "town")
    with pytest.raises(UsageError, match="another site of this name") as caught:
        run(call, new, "./town")
    assert "--vault-password-file" in caught.value.problems[0].hint
    assert not (tmp_path / "town").exists()
    run(call, new, "./town", "--vault-password-file", "own")
    assert (tmp_path / "town/hosts.yml").is_file()


def test_a_name_that_no_directory_can_have(call: CliRunner) -> None:
    with pytest.raises(UsageError, match="there is no site"):
        run(call, preflight, "x" * 300)


def test_an_account_that_nobody_can_log_in_with_is_told_as_such(call: CliRunner, tmp_path: Path) -> None:
    run(call, new, "town")
    with (tmp_path / "inventories/town/group_vars/all/site.yml").open("a") as handle:
        handle.write("jitsi_auth: jwt\n")
    said = run(call, users, "add", "anna").stderr
    assert "jitsi_auth: jwt" in said
    assert "ratssaal provision" not in said


def test_a_key_that_is_not_the_hosts_is_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A no is an answer, no interruption."""
    monkeypatch.setattr(console, "interactive", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    with pytest.raises(PreflightFailed, match="the host key is not pinned") as caught:
        _confirm("the host key", "Is this it?", yes=False)
    assert caught.value.exit_code == 3
    _confirm("the host key", "Is this it?", yes=True)


def test_commands_to_paste_name_the_site_as_the_shell_needs_it() -> None:
    for path, text in (("inventories/town", "town"), ("./s", "./s"), ("/srv/my town", "'/srv/my town'")):
        assert SiteArgument(Path(path)).text == text
