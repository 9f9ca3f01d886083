"""A site's vault: missing, closed, damaged, in the wrong hands, or with the wrong things in it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidSite
from orchestrator.inventory import ansible_tools
from orchestrator.inventory.loosened import loosened
from orchestrator.inventory.site import load_site
from orchestrator.inventory.vault import VAULT, VaultAccess, changed_vault, read_vault, write_private
from tests.unit.site_cases import SITE, Case, denied


@contextmanager
def _changed(case: Case) -> Iterator[dict[str, Any]]:
    """Give what the vault holds, and write it back."""
    with VaultAccess(case.password_file) as access, changed_vault(case.path, access) as values:
        yield values


def test_missing_vault(case: Case) -> None:
    (case.path / VAULT).unlink()
    problem = case.only_problem()
    assert problem.message == "the vault is missing"
    assert problem.where == str(case.path / VAULT)


def test_vault_in_plain_text(case: Case) -> None:
    (case.path / VAULT).write_text("coturn_secret: plain\n")
    messages = [problem.message for problem in case.problems()]
    assert "the vault is not encrypted" in messages


def test_undecryptable_vault_does_not_hide_other_mistakes(case: Case) -> None:
    case.password_file.write_text("wrong\n")
    case.append("jitsi_conference_log_days: seven\n")
    problems = case.problems()
    assert len(problems) == 2, problems
    assert problems[0].message.startswith("the vault cannot be decrypted")
    assert problems[0].where == f"{case.path / VAULT}:1"
    assert str(case.password_file) in problems[0].hint or "--vault-password-file" in problems[0].hint
    assert problems[1].where == case.at("jitsi_conference_log_days: seven")


def test_password_file_in_the_site_is_refused_a_program_is_not(case: Case) -> None:
    inside = case.path / "password"
    inside.write_bytes(case.password_file.read_bytes())
    moved = replace(case, password_file=inside)
    problem = moved.only_problem()
    assert (problem.message, problem.where) == ("the vault's password must not lie in the site", str(inside))
    with VaultAccess(inside) as access, pytest.raises(InvalidSite, match="must not lie in the site"):
        read_vault(case.path, access)
    # What is in the vault is judged all the same.
    with _changed(case) as values:
        del values["coturn_secret"]
    assert {problem.message for problem in moved.problems()} == {problem.message, "the vault has no coturn_secret"}
    with _changed(case) as values:
        values["coturn_secret"] = "x" * 32
    inside.write_text(f"#!/bin/sh\ncat {case.password_file}\n")
    inside.chmod(0o700)
    assert moved.load().name == "town"


def test_password_file_that_does_not_exist(case: Case) -> None:
    case.password_file.unlink()
    problem = case.only_problem()
    assert "does not exist" in problem.message
    assert problem.where == str(case.password_file)


def test_secret_missing_in_the_vault(case: Case) -> None:
    with _changed(case) as values:
        del values["coturn_secret"]
    problem = case.only_problem()
    assert problem.message == "the vault has no coturn_secret"
    assert "vault.yml" in problem.where


def test_unknown_key_in_the_vault(case: Case) -> None:
    with _changed(case) as values:
        values["coturn_secert"] = "canary"
    problem = case.only_problem()
    assert problem.message == "unknown key coturn_secert"
    assert "canary" not in f"{problem.message} {problem.hint}"


@pytest.mark.parametrize("password", ["", None, 424242, ["424242"]], ids=["empty", "none", "number", "list"])
def test_an_account_without_a_password_is_refused(case: Case, password: Any) -> None:
    with _changed(case) as values:
        values["jitsi_accounts"] = {"anna": "canary", "bernd": password}
    problem = case.only_problem()
    assert problem.message == "jitsi_accounts: the account bernd has no password"
    assert "ratssaal users add --reset bernd" in problem.hint
    assert "vault.yml" in problem.where
    assert "canary" not in f"{problem}{problem.hint}"
    assert "424242" not in f"{problem}{problem.hint}"


def test_secret_of_the_wrong_type_is_not_shown(case: Case) -> None:
    with _changed(case) as values:
        values["coturn_secret"] = 424242
    problem = case.only_problem()
    assert "expected a text, got a whole number" in problem.message
    assert "424242" not in f"{problem.message} {problem.hint}"


def test_secret_in_a_plain_file(case: Case) -> None:
    case.append("coturn_secret: plain-canary\n")
    problem = case.only_problem()
    assert problem.message == "the secret coturn_secret stands in plain text"
    assert problem.where == case.at("coturn_secret")


def test_what_a_closed_vault_does_not_hold_is_told_with_it(case: Case) -> None:
    case.password_file.write_text("wrong\n")
    case.replace(SITE, "jitsi_domain: meet.example.org\n", "")
    case.append("hardening_skip: {OS-08: {who: A, why: B, until: 2027-03-31}}\n")
    assert [problem.message.split(":")[0] for problem in case.problems()] == [
        "the vault cannot be decrypted",
        "jitsi_domain is not filled in",
    ]


def test_a_setting_in_the_vault_stays_a_setting(case: Case) -> None:
    with _changed(case) as values:
        values |= {"jitsi_p2p": True, "jitsi_conference_log_days": 400, "site_word": "canary"}
    site = case.load()
    assert site.settings["jitsi_conference_log_days"] == 400
    assert [row.setting for row in loosened(site.settings, case.options)] == ["jitsi_p2p", "jitsi_conference_log_days"]
    assert site.secrets["site_word"].reveal() == "canary"
    assert "certificates_ca_certificate" in site.secrets
    assert "certificates_ca_certificate" not in site.settings


def test_a_setting_that_is_encrypted_by_itself_is_refused(case: Case) -> None:
    encrypted = (case.path / VAULT).read_text().replace("\n", "\n  ")
    case.append(f"jitsi_p2p: !vault |\n  {encrypted}\n")
    problem = case.only_problem()
    assert (problem.message, problem.where) == ("jitsi_p2p is encrypted, but is no secret", case.at("jitsi_p2p: "))


def test_a_vault_that_may_not_be_read_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_text

    def read_text(path: Path, *args: str | None, **options: str | None) -> str:
        if path.name == VAULT.name:
            denied()
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    problem = case.only_problem()
    assert (problem.message, problem.where) == ("cannot be read: Permission denied", str(case.path / VAULT))
    assert problem.hint == f"ls -l {case.path / VAULT}"
    with VaultAccess(case.password_file) as access, pytest.raises(InvalidSite, match="Permission denied"):
        read_vault(case.path, access)


def test_a_vault_that_may_not_be_written_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "mkstemp", denied)
    with pytest.raises(InvalidSite, match="cannot be written: Permission denied"), _changed(case):
        pass


def test_a_vault_that_cannot_be_encrypted_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: object) -> str:
        raise ansible_tools.ToolFailed("no password")

    monkeypatch.setattr(ansible_tools, "vault_encrypt", failed)
    with pytest.raises(InvalidSite, match="the vault cannot be encrypted: no password") as caught, _changed(case):
        pass
    assert caught.value.problems[0].where == str(case.path / VAULT)
    assert "--vault-password-file FILE" in caught.value.problems[0].hint


def test_a_directory_that_may_not_be_read_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = (case.path / VAULT).parent
    monkeypatch.setattr(os, "open", denied)
    with (
        pytest.raises(InvalidSite, match="cannot be read: Permission denied") as caught,
        changed_vault(case.path, VaultAccess()),
    ):
        pass
    assert (caught.value.problems[0].where, caught.value.problems[0].hint) == (str(folder), f"ls -ld {folder}")


def test_no_directory_for_the_vault_is_no_internal_error(case: Case) -> None:
    shutil.rmtree(case.path / "group_vars")
    with pytest.raises(InvalidSite, match="the vault is missing"), _changed(case):
        pass


def test_a_vault_that_leads_to_itself(case: Case) -> None:
    (case.path / VAULT).unlink()
    (case.path / VAULT).symlink_to("vault.yml")
    assert case.problems()[0].message.startswith("cannot be read: ")
    with VaultAccess(case.password_file) as access, pytest.raises(InvalidSite, match="cannot be read"):
        read_vault(case.path, access)


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "vault.yml"
    write_private(file, "a")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    write_private(file, "b")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("b", 0o640)


def test_a_file_whose_group_cannot_be_kept_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "vault.yml"
    file.write_text("a")
    file.chmod(0o660)
    monkeypatch.setattr(os, "fchown", denied)
    write_private(file, "b")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("kept", [-11, 200, 30])
def test_a_vault_that_was_cut_off_is_damaged(case: Case, kept: int) -> None:
    vault = case.path / VAULT
    vault.write_text(vault.read_text()[:kept])
    problem = case.only_problem()
    assert problem.message.startswith("the vault is damaged: ")
    assert problem.where == f"{vault}:1"
    assert "backup" in problem.hint
    with VaultAccess(case.password_file) as access, pytest.raises(InvalidSite, match="the vault is damaged") as caught:
        read_vault(case.path, access)
    assert "backup" in caught.value.problems[0].hint


def test_a_password_command_that_prints_more_than_the_password(case: Case) -> None:
    case.password_file.write_text(f"{case.password_file.read_text()}login: town\n\nurl: x\n")
    with pytest.raises(InvalidSite, match="printed 4 lines") as caught:
        load_site(case.path, VaultAccess(command=f"cat {case.password_file}"), options=case.options)
    assert "head -n 1" in caught.value.problems[0].hint
    assert caught.value.problems[0].where == "--vault-password-command"


@pytest.mark.parametrize(
    ("access", "part", "where"),
    [
        (VaultAccess(command="/no/such/program"), "cannot be run: ", "--vault-password-command"),
        (VaultAccess(command="cat 'open"), "cannot be run: ", "--vault-password-command"),
        (VaultAccess(command="false"), "gave no password: exit code 1", "--vault-password-command"),
        (VaultAccess(Path("/no/such/file")), "the vault password file does not exist", "/no/such/file"),
        (VaultAccess(), "there is no password for the vault", "{vault}:1"),
    ],
)
def test_a_password_that_is_not_there_names_what_was_given(
    case: Case, access: VaultAccess, part: str, where: str
) -> None:
    with pytest.raises(InvalidSite) as caught:
        read_vault(case.path, access)
    (problem,) = caught.value.problems
    assert part in problem.message
    assert problem.where == where.format(vault=case.path / VAULT)
    assert "--vault-password-file FILE" in problem.hint
