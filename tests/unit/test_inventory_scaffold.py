"""A new site: complete, secret where it must be, and never written over another."""

from __future__ import annotations

import errno
import stat
import tempfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from orchestrator import content
from orchestrator.errors import InvalidSite, UsageError
from orchestrator.inventory.scaffold import FirstHost, create_site, site_texts
from orchestrator.inventory.site import load_site
from orchestrator.inventory.specs import load_options
from orchestrator.inventory.vault import VAULT, VaultAccess, changed_vault, default_password_file, read_vault


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_password_is_generated_outside_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    made = create_site(tmp_path / "sites/town", domain="meet.example.org", host=FirstHost("192.0.2.10"))
    assert made.password_generated
    assert made.password_file == default_password_file("town") == tmp_path / "config/ratssaal/town.vault-password"
    assert mode(made.password_file) == 0o600
    assert mode(made.path / VAULT) == 0o600
    with VaultAccess.locate(made.path) as access:
        assert load_site(made.path, access).name == "town"
        values = read_vault(made.path, access)
    plain = [p.read_text() for p in made.path.rglob("*") if p.is_file()]
    for name in ("coturn_secret", "jicofo_password", "videobridge_password"):
        assert len(values[name]) >= 32
        assert not any(values[name] in text for text in plain)
    assert len({values[name] for name in ("coturn_secret", "jicofo_password", "videobridge_password")}) == 3


def test_own_authority_signs_hosts_only(tmp_path: Path) -> None:
    made = create_site(tmp_path / "town", password_file=tmp_path / "password")
    with VaultAccess(made.password_file) as access:
        values = read_vault(made.path, access)
    certificate = x509.load_pem_x509_certificate(values["certificates_ca_certificate"].encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    certificate.verify_directly_issued_by(certificate)
    key = load_pem_private_key(values["certificates_ca_key"].encode(), None)
    assert key.public_key() == certificate.public_key()


def test_existing_site_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "town").mkdir()
    (tmp_path / "town/notes").write_text("mine")
    with pytest.raises(UsageError) as caught:
        create_site(tmp_path / "town", password_file=tmp_path / "password")
    assert caught.value.exit_code == 2
    assert [p.name for p in tmp_path.rglob("*")] == ["town", "notes"]


@pytest.mark.parametrize("name", ["Town", "a b", "-x", "x" * 60])
def test_name_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        create_site(tmp_path / name, password_file=tmp_path / "password")


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidSite):
        create_site(tmp_path / "town", password_command="false")
    assert list(tmp_path.iterdir()) == []


def test_given_password_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from the safe\n")
    made = create_site(tmp_path / "town", password_file=tmp_path / "password")
    assert not made.password_generated
    assert (tmp_path / "password").read_text() == "from the safe\n"


def test_password_from_a_command(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from the safe\n")
    create_site(tmp_path / "town", password_command=f"cat {tmp_path / 'password'}")
    with VaultAccess(tmp_path / "password") as access:
        assert "coturn_secret" in read_vault(tmp_path / "town", access)


def test_typed_password_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with VaultAccess(ask=lambda: "canary-7f3a") as access:
        assert access.ansible_args()
        (file,) = tmp_path.iterdir()
        assert mode(file) == 0o600
        assert access.ansible_args() == ["--vault-password-file", str(file)]
        assert "canary-7f3a" not in " ".join(access.ansible_args())
    assert list(tmp_path.iterdir()) == []


def test_order_of_password_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "environment"))
    site = tmp_path / "town"
    file = tmp_path / "option"
    assert VaultAccess.locate(site, password_file=file).source == "--vault-password-file"
    assert VaultAccess.locate(site, password_command="x").source == "--vault-password-command"
    assert VaultAccess.locate(site).source == "ANSIBLE_VAULT_PASSWORD_FILE"
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    assert VaultAccess.locate(site, ask=lambda: "x").source == "prompt"
    default_password_file("town").parent.mkdir()
    default_password_file("town").write_text("x")
    assert VaultAccess.locate(site, ask=lambda: "x").source == str(default_password_file("town"))


def test_failed_change_leaves_the_vault_as_it_was(tmp_path: Path) -> None:
    made = create_site(tmp_path / "town", password_file=tmp_path / "password")
    before = (made.path / VAULT).read_text()
    with VaultAccess(made.password_file) as access:
        with pytest.raises(RuntimeError), changed_vault(made.path, access) as values:  # noqa: PT012
            values["coturn_secret"] = "other"
            raise RuntimeError
        assert (made.path / VAULT).read_text() == before
        with changed_vault(made.path, access) as values:
            values["jitsi_accounts"]["anna"] = "word"
        assert read_vault(made.path, access)["jitsi_accounts"] == {"anna": "word"}
    assert mode(made.path / VAULT) == 0o600


def test_ignore_file_covers_passwords_and_keys(tmp_path: Path) -> None:
    patterns = site_texts(FirstHost(), {})[".gitignore"].splitlines()
    assert {"*.vault-password", "*.key", "*key.pem", "id_*", "/reports/"} <= set(patterns)


def test_two_values_are_open_and_every_default_is_explained() -> None:
    texts = site_texts(FirstHost(), {})
    assert texts["group_vars/all/site.yml"].count("Edit this") == texts["hosts.yml"].count("Edit this") == 1
    assert yaml.safe_load(texts["group_vars/all/site.yml"]) == {"jitsi_domain": ""}


def test_where_ipv6_is_declared_is_shown() -> None:
    line = "          # base_address6: "
    assert line in site_texts(FirstHost("192.0.2.10"), {})["hosts.yml"]
    given = site_texts(FirstHost("192.0.2.10", "2001:db8::10"), {})["hosts.yml"]
    assert "          base_address6: 2001:db8::10\n" in given
    assert line not in given
    assert line not in site_texts(FirstHost("2001:db8::10"), {})["hosts.yml"]


def test_uncommenting_every_default_changes_nothing() -> None:
    text = site_texts(FirstHost(), {"jitsi_domain": "meet.example.org"})["group_vars/all/site.yml"]
    options = load_options()
    shown = {}
    for line in text.splitlines():
        name, colon, value = line.removeprefix("# ").partition(":")
        if line.startswith("# ") and colon and name in options:
            shown[name] = yaml.safe_load(value)
    public = {name for name, option in options.items() if not option.secret and option.default is not None}
    elsewhere = {"base_address6", "vendor_repository_versions", "jitsi_domain", "ratssaal_lab"}
    assert public - set(shown) <= elsewhere
    for name, value in shown.items():
        assert value == ("" if options[name].default is None else options[name].default), name


def test_chosen_settings_are_written_as_values() -> None:
    text = site_texts(FirstHost(), {"jitsi_domain": "m.example.org", "site_note": "a: b", "ratssaal_lab": True})
    assert yaml.safe_load(text["group_vars/all/site.yml"]) == {
        "jitsi_domain": "m.example.org",
        "site_note": "a: b",
        "ratssaal_lab": True,
    }


def test_the_example_is_what_new_writes() -> None:
    example = content.root() / "inventories/example-jitsi-single"
    texts = site_texts(FirstHost("192.0.2.10"), {"jitsi_domain": "meet.example.org"})
    found = {str(p.relative_to(example)): p.read_text() for p in example.rglob("*") if p.is_file()}
    readme = found.pop("README.md")
    assert "ratssaal new" in readme
    assert found == texts


def test_the_vaults_password_does_not_lie_in_the_site(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must not lie in the site"):
        create_site(tmp_path / "town", password_file=tmp_path / "town/secret/password")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a b", "50%"])
def test_a_site_that_ssh_could_not_use_is_not_made(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InvalidSite, match="OpenSSH cannot be given the path") as caught:
        create_site(tmp_path / folder / "town", password_file=tmp_path / "password")
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_cannot_be_written_leaves_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "inventories"))

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(tempfile, "mkdtemp", denied)
    with pytest.raises(InvalidSite, match="cannot be written: Permission denied") as caught:
        create_site(tmp_path / "inventories/town")
    assert caught.value.problems[0].hint
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "inventories"] == []


def test_a_failure_at_the_end_leaves_an_empty_directory_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "town").mkdir()

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "rmdir", full)
    with pytest.raises(InvalidSite, match="No space left"):
        create_site(tmp_path / "town", password_file=tmp_path / "password")
    assert [path.name for path in tmp_path.rglob("*")] == ["town"]


@pytest.mark.parametrize("kind", ["file above", "dangling link", "file"])
def test_a_place_where_no_site_can_be(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "here/town"
    if kind == "file above":
        path.parent.write_text("mine")
    else:
        path.parent.mkdir()
        path.symlink_to("nowhere") if kind == "dangling link" else path.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((InvalidSite, UsageError)) as caught:
        create_site(path, password_file=tmp_path / "password")
    assert caught.value.problems[0].hint
    assert sorted(tmp_path.rglob("*")) == before


def test_two_sources_of_the_password_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="from a file and from a command"):
        create_site(tmp_path / "town", password_file=tmp_path / "password", password_command="echo x")
    with pytest.raises(UsageError, match="from a file and from a command"):
        VaultAccess.locate(tmp_path, password_file=tmp_path / "password", password_command="echo x")
    assert list(tmp_path.iterdir()) == []
