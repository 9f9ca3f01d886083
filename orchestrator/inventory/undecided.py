"""What a site runs without, but its operator should still decide."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.inventory.derivations import ANYWHERE, control_path, turn_domain

_PAGES = {"imprint": "an imprint", "privacy": "a privacy notice", "accessibility": "an accessibility statement"}
_DECLARED = {"ACC-07": "how people log in", "OS-14": "whether a malware scanner is needed"}


def undecided(settings: Mapping[str, Any], secrets: Mapping[str, Any], *, path: Path) -> tuple[str, ...]:
    """Return one sentence for each open decision of the site at `path`, with the variable that takes it."""
    found: list[str] = []
    pages = settings.get("web_pages") or {}
    missing = [text for page, text in _PAGES.items() if not pages.get(page)]
    if missing:
        found.append(f"The site has no {', no '.join(t.split(' ', 1)[1] for t in missing)} (web_pages).")
    if not settings.get("jitsi_support_contact"):
        found.append("Nobody is named whom people can ask for help (jitsi_support_contact).")
    if not os.path.isfile(control_path(str(settings.get("vendor_repository_key") or ""), path)):
        found.append(
            "The key that signs Jitsi's packages is not given, so nothing can be installed yet: `ratssaal preflight "
            "--accept-keys` fetches it, shows its fingerprint and keeps it in the site (vendor_repository_key)."
        )
    if settings.get("certificates_source", "own_ca") == "own_ca":
        found.append(
            "The certificate comes from the site's own CA, which browsers and apps must be told to trust; a bought or "
            "issued one is better for the public (certificates_source)."
        )
    if settings.get("jitsi_auth", "internal") == "internal":
        found.append(
            "People log in with internal accounts, which upstream calls deprecated; an identity provider (OpenID "
            "Connect) is the way for a town (jitsi_auth: jwt)."
        )
        if not secrets.get("jitsi_accounts"):
            found.append("Nobody can open a room yet: `ratssaal users add NAME` makes the first account.")
    if not settings.get("jitsi_turn_domain") and settings.get("jitsi_domain"):
        found.append(f"TURN is offered as {turn_domain(settings)}: that name needs a DNS entry (jitsi_turn_domain).")
    found += _undeclared(settings)
    return tuple(found)


def _undeclared(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what only a person can state; until then reports say that it was not tested."""
    declared = settings.get("verification_declarations") or {}
    sources = settings.get("firewall_management_sources") or ANYWHERE
    if any(str(source).endswith("/0") for source in sources) and "NET-06" not in declared:
        yield "SSH answers every address; name those of the administration (firewall_management_sources)."
    if not settings.get("verification_admins"):
        yield "Nobody is named whose keys may log in by SSH (verification_admins)."
    missing = [f"{control}, {matter}" for control, matter in _DECLARED.items() if control not in declared]
    if missing:
        yield f"Nobody has declared {'; '.join(missing)} (verification_declarations)."
