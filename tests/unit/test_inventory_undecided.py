"""What a site still has to decide: each sentence is said where it should be, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory.secret import Secret
from orchestrator.inventory.site import load_site
from orchestrator.inventory.undecided import undecided
from orchestrator.inventory.vault import VaultAccess
from tests.unit.asked import HELD
from tests.unit.site_cases import Case

KEY = f"SHA256:{'a' * 43}"
PAGES = {"imprint": "i.html", "privacy": "p.html", "accessibility": "a.html"}
DECIDED: dict[str, Any] = {
    "jitsi_domain": "meet.example.org",
    "jitsi_turn_domain": "turn.example.org",
    "jitsi_support_contact": "it@example.org",
    "jitsi_auth": "jwt",
    "web_pages": PAGES,
    "vendor_repository_key": "jitsi.asc",
    "certificates_source": "pem",
    "firewall_management_sources": ["192.0.2.0/24", "2001:db8::/32"],
    "verification_admins": [{"account": "root", "who": "A. Person", "keys": [KEY]}],
    "verification_declarations": {"ACC-07": HELD, "OS-14": HELD},
}
SECRETS = {"jitsi_accounts": {"mayor": Secret("word")}}
CONTACT = "Nobody is named whom people can ask for help (jitsi_support_contact)."
VENDOR_KEY = (
    "The key that signs Jitsi's packages is not given, so nothing can be installed yet: `ratssaal preflight --accept-keys` "
    "fetches it, shows its fingerprint and keeps it in the site (vendor_repository_key)."
)
OWN_CA = (
    "The certificate comes from the site's own CA, which browsers and apps must be told to trust; a bought or issued one is "
    "better for the public (certificates_source)."
)
INTERNAL = (
    "People log in with internal accounts, which upstream calls deprecated; an identity provider (OpenID Connect) is the "
    "way for a town (jitsi_auth: jwt)."
)
NO_ACCOUNT = "Nobody can open a room yet: `ratssaal users add NAME` makes the first account."
TURN = "TURN is offered as turn.meet.example.org: that name needs a DNS entry (jitsi_turn_domain)."
SSH = "SSH answers every address; name those of the administration (firewall_management_sources)."
ADMINS = "Nobody is named whose keys may log in by SSH (verification_admins)."


Said = Callable[..., tuple[str, ...]]


@pytest.fixture
def said_of(tmp_path: Path) -> Said:
    """What is said of a site with these settings and secrets, in whose directory the vendor's key lies."""
    (tmp_path / "jitsi.asc").touch()
    return partial(undecided, path=tmp_path)


def _pages(*missing: str) -> str:
    return f"The site has no {', no '.join(missing)} (web_pages)."


def _undeclared(*missing: str) -> str:
    return f"Nobody has declared {'; '.join(missing)} (verification_declarations)."


LOGIN, SCANNER = "ACC-07, how people log in", "OS-14, whether a malware scanner is needed"
CASES: list[tuple[str, Any, tuple[str, ...]]] = [
    ("web_pages", {}, (_pages("imprint", "privacy notice", "accessibility statement"),)),
    ("web_pages", None, (_pages("imprint", "privacy notice", "accessibility statement"),)),
    ("web_pages", {**PAGES, "imprint": ""}, (_pages("imprint"),)),
    ("web_pages", {"imprint": "i.html", "accessibility": "a.html"}, (_pages("privacy notice"),)),
    ("web_pages", {"privacy": "p.html"}, (_pages("imprint", "accessibility statement"),)),
    ("jitsi_support_contact", "", (CONTACT,)),
    ("vendor_repository_key", "", (VENDOR_KEY,)),
    ("vendor_repository_key", "gone.asc", (VENDOR_KEY,)),
    ("certificates_source", "own_ca", (OWN_CA,)),
    ("certificates_source", "pkcs12", ()),
    ("jitsi_auth", "internal", (INTERNAL,)),
    ("jitsi_turn_domain", "", (TURN,)),
    ("firewall_management_sources", ["0.0.0.0/0", "::/0"], (SSH,)),
    ("firewall_management_sources", ["192.0.2.0/24", "::/0"], (SSH,)),
    ("firewall_management_sources", [], (SSH,)),
    ("firewall_management_sources", ["10.0.0.0/8"], ()),
    ("verification_admins", [], (ADMINS,)),
    ("verification_declarations", {"OS-14": HELD}, (_undeclared(LOGIN),)),
    ("verification_declarations", {"ACC-07": HELD}, (_undeclared(SCANNER),)),
    ("verification_declarations", {}, (_undeclared(LOGIN, SCANNER),)),
    ("verification_declarations", None, (_undeclared(LOGIN, SCANNER),)),
]


def test_a_site_that_decided_everything_is_told_nothing(said_of: Said) -> None:
    assert said_of(DECIDED, SECRETS) == ()
    assert said_of(DECIDED, {}) == (), "an identity provider has the accounts"


@pytest.mark.parametrize(("name", "value", "said"), CASES, ids=[f"{c[0]}-{c[1]}"[:60] for c in CASES])
def test_one_thing_undecided_is_one_sentence(said_of: Said, name: str, value: Any, said: tuple[str, ...]) -> None:
    assert said_of({**DECIDED, name: value}, SECRETS) == said


def test_a_setting_that_is_not_there_counts_as_its_default(said_of: Said) -> None:
    """No default is a decision."""
    whole = {name: value for name, value in DECIDED.items() if name == "jitsi_domain"}
    everything = (
        _pages("imprint", "privacy notice", "accessibility statement"),
        *(CONTACT, VENDOR_KEY, OWN_CA, INTERNAL, NO_ACCOUNT, TURN, SSH, ADMINS),
        _undeclared(LOGIN, SCANNER),
    )
    assert said_of(whole, {}) == everything


@pytest.mark.parametrize("accounts", [{}, None])
def test_internal_accounts_without_any_open_no_room(said_of: Said, accounts: Any) -> None:
    settings = {**DECIDED, "jitsi_auth": "internal"}
    assert said_of(settings, {"jitsi_accounts": accounts}) == (INTERNAL, NO_ACCOUNT)


def test_ssh_from_everywhere_may_be_answered_for(said_of: Said) -> None:
    settings = {**DECIDED, "firewall_management_sources": ["0.0.0.0/0"]}
    settings["verification_declarations"] = {**DECIDED["verification_declarations"], "NET-06": HELD}
    assert said_of(settings, SECRETS) == ()


def test_a_new_site_is_told_all_of_it_and_the_defaults_of_the_roles_decide_nothing(case: Case) -> None:
    with VaultAccess(case.password_file) as access:
        site = load_site(case.path, access)
    assert site.undecided == undecided({"jitsi_domain": "meet.example.org"}, {}, path=case.path)
