"""A complete site in a temporary directory, and ways to spoil it; used by the tests of reading and judging."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InvalidSite, Problem
from orchestrator.inventory.rules import Options
from orchestrator.inventory.scaffold import FirstHost, create_site
from orchestrator.inventory.site import Site, load_site
from orchestrator.inventory.specs import load_options
from orchestrator.inventory.vault import VaultAccess

SITE = "group_vars/all/site.yml"
# One of each kind that roles use. The roles' own specs are tested where the roles are.
SPECS = {
    "jitsi": """
argument_specs:
  main:
    options:
      jitsi_domain: {type: str, required: true, description: "The name, such as meet.example.org. More."}
      jitsi_turn_domain: {type: str, default: ""}
      jitsi_auth: {type: str, choices: [internal, jwt], default: internal}
      jitsi_jwt:
        type: dict
        default: {}
        options:
          app_id: {type: str}
          jwks_url: {type: str}
          issuers: {type: list, elements: str}
          audiences: {type: list, elements: str}
          login_url: {type: str}
          token_service_url: {type: str}
          client_id: {type: str}
          logout_url: {type: str}
          room_claim: {type: bool, default: true}
          identity_origins: {type: list, elements: str}
      jitsi_p2p: {type: bool, default: false}
      jitsi_conference_log_days: {type: int, default: 7}
      jitsi_allowed_origins: {type: list, elements: str, default: []}
      jitsi_accounts: {type: dict, no_log: true}
      jitsi_jwt_app_secret: {type: str, no_log: true}
""",
    "coturn": """
argument_specs:
  main:
    options:
      coturn_secret: {type: str, required: true, no_log: true}
""",
    "certificates": """
argument_specs:
  main:
    options:
      certificates_source: {type: str, choices: [own_ca, pem, pkcs12], default: own_ca}
      certificates_chain_file: {type: path, default: vendor-key.asc}
      certificates_key_file: {type: path, default: vendor-key.asc}
      certificates_pkcs12_file: {type: path, default: vendor-key.asc}
      certificates_ca_key: {type: str, no_log: true}
      certificates_ca_certificate: {type: str, required: true, description: "The own CA, as PEM."}
""",
    "firewall": """
argument_specs:
  main:
    options:
      firewall_management_sources: {type: list, elements: str, default: ["0.0.0.0/0", "::/0"]}
      firewall_extra_flows: {type: list, elements: dict, default: []}
""",
    "hardening": """
argument_specs:
  main:
    options:
      hardening_skip:
        type: dict
        default: {}
        options:
          OS-06: &answer {type: dict, options: {who: {type: str}, why: {type: str}, until: {type: str}}}
          OS-08: *answer
""",
    "verification": """
argument_specs:
  main:
    options:
      verification_admins:
        type: list
        elements: dict
        default: []
        options:
          account: {type: str, required: true}
          who: {type: str, required: true}
          keys: {type: list, elements: str, required: true}
          until: {type: str}
      verification_declarations:
        type: dict
        default: {}
        options:
          OS-14:
            type: dict
            options:
              who: {type: str, required: true}
              why: {type: str, required: true}
              until: {type: str, required: true}
""",
    "web": """
argument_specs:
  main:
    options:
      web_people_per_address: {type: int, default: 500}
""",
    "base": """
argument_specs:
  main:
    options:
      base_address6: {type: str, default: ""}
""",
    "jicofo": """
argument_specs:
  main:
    options:
      jicofo_password: {type: str, required: true, no_log: true}
""",
    "videobridge": """
argument_specs:
  main:
    options:
      videobridge_password: {type: str, required: true, no_log: true}
""",
    "vendor_repository": """
argument_specs:
  main:
    options:
      vendor_repository_url: {type: str, default: "https://download.jitsi.org"}
      vendor_repository_key: {type: path, default: vendor-key.asc}
      vendor_repository_versions:
        type: dict
        default: {}
        options: {jicofo: {type: str}, jitsi-meet-web: {type: str}, jitsi-videobridge2: {type: str}}
""",
}


def spec_options(directory: Path) -> Options:
    """Write the specs above and read them as the roles' specs are read."""
    for role, text in SPECS.items():
        path = directory / role / "meta/argument_specs.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return load_options(directory)


@dataclass(frozen=True)
class Case:
    """A site to spoil."""

    path: Path
    password_file: Path
    options: Options

    def load(self) -> Site:
        """Return the site, or raise InvalidSite."""
        return load_site(self.path, VaultAccess(self.password_file), options=self.options)

    def problems(self) -> list[Problem]:
        """Return what is wrong with the site; [] when nothing is."""
        try:
            self.load()
        except InvalidSite as error:
            found = list(error.problems)
            assert all(problem.hint for problem in found), found
            return found
        return []

    def only_problem(self) -> Problem:
        """Return the one problem; fails when there are more or none."""
        found = self.problems()
        assert len(found) == 1, found
        return found[0]

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace a text that must be there once."""
        file = self.path / name
        assert file.read_text().count(old) == 1
        file.write_text(file.read_text().replace(old, new))

    def append(self, text: str, name: str = SITE) -> None:
        """Add a text at the end of a file."""
        with (self.path / name).open("a") as handle:
            handle.write(text)

    def at(self, text: str, name: str = SITE) -> str:
        """Return "file:line" of the only line that contains a text and is no comment, as problems name it."""
        numbered = enumerate((self.path / name).read_text().splitlines(), 1)
        lines = [n for n, line in numbered if text in line and not line.startswith("#")]
        assert len(lines) == 1, (text, lines)
        return f"{self.path / name}:{lines[0]}"


def copy_case(original: Case, directory: Path) -> Case:
    """Return a copy of a valid site to spoil: quicker than making one, which encrypts a vault."""
    shutil.copytree(original.path, directory / "town")
    shutil.copy(original.password_file, directory / "password")
    return Case(directory / "town", directory / "password", original.options)


def new_case(directory: Path) -> Case:
    """Return a valid site below a temporary directory."""
    password_file = directory / "password"
    create_site(
        directory / "town",
        domain="meet.example.org",
        host=FirstHost("192.0.2.10"),
        password_file=password_file,
    )
    return Case(directory / "town", password_file, spec_options(directory / "roles"))


def denied(*_: object, **__: object) -> None:
    """Refuse as the kernel does where rights are missing."""
    raise PermissionError(errno.EACCES, "Permission denied")
