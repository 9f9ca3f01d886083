"""The key that signs the vendor's packages: fetched once from its owner, shown, and pinned as a file of the site."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import PreflightFailed, Problem
from orchestrator.inventory import openpgp
from orchestrator.inventory.derivations import control_path
from orchestrator.inventory.site import Site
from orchestrator.inventory.yamlfiles import show
from orchestrator.operations.preflight_checks import Remark

UPSTREAM = "https://download.jitsi.org"
# Armoured; upstream publishes no fingerprint beside it (handbook: docs/devops-guide/quickstart.md).
UPSTREAM_KEY = f"{UPSTREAM}/jitsi-key.gpg.key"
_TIMEOUT_SECONDS = 20
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class VendorKey:
    """A key file as its owner serves it."""

    content: bytes
    fingerprints: tuple[str, ...]


def vendor_key_fingerprints(site: Site) -> tuple[str, ...]:
    """Return the fingerprints in the vendor's key file; () without a file or with an unreadable one."""
    try:
        return openpgp.key_fingerprints(_file(site).read_bytes())
    except (OSError, openpgp.NotOpenPGP):
        return ()


def judge_vendor_key(site: Site) -> Iterator[Remark]:
    """Yield what is wrong with the vendor's key file: it is missing, no key, or not the one of the fingerprint."""
    path = _file(site)
    if not path.is_file():
        message = "the key that signs the packages of the vendor's repository is not given (vendor_repository_key)"
        yield Remark(Problem(message, show(path), _how_to_get_it(site, path)))
        return
    try:
        found = openpgp.key_fingerprints(path.read_bytes())
    except (OSError, openpgp.NotOpenPGP) as error:
        message = f"the vendor's key file cannot be used: {error}"
        yield Remark(Problem(message, show(path), f"gpg --show-keys {path}"))
        return
    yield from _pinned_otherwise(site, found, "the vendor's key file holds", show(path))


def fetch_vendor_key(site: Site) -> VendorKey | None:
    """Fetch the key that the site lacks from its owner, over HTTPS and the environment's proxy.

    None where the site has a key file already, or takes its packages from a repository that is not upstream's: whose key
    lies where nobody here can know. Raises PreflightFailed where upstream does not answer with a key, or with another one
    than vendor_repository_fingerprint.
    """
    path = _file(site)
    if path.is_file() or site.settings.get("vendor_repository_url") != UPSTREAM:
        return None
    hint = f"fetch it elsewhere, and put the file at {path}"
    try:
        with urllib.request.urlopen(UPSTREAM_KEY, timeout=_TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read(_MOST_BYTES)
        found = openpgp.key_fingerprints(content)
    except (OSError, openpgp.NotOpenPGP) as error:
        raise PreflightFailed([Problem(f"no key could be fetched: {error}", UPSTREAM_KEY, hint)]) from error
    wrong = [remark.problem for remark in _pinned_otherwise(site, found, "upstream serves", UPSTREAM_KEY)]
    if wrong:
        raise PreflightFailed(wrong)
    return VendorKey(content, found)


def pin_vendor_key(site: Site, key: VendorKey) -> Path:
    """Write the key into the site and return the file; from then on nothing but this key signs packages."""
    path = _file(site)
    path.write_bytes(key.content)
    return path


def _file(site: Site) -> Path:
    return control_path(str(site.settings.get("vendor_repository_key") or ""), site.path)


def _how_to_get_it(site: Site, path: Path) -> str:
    url = site.settings.get("vendor_repository_url")
    if url == UPSTREAM:
        return f"ratssaal preflight {show(site.path)} --accept-keys fetches {UPSTREAM_KEY} and shows its fingerprint"
    return f"fetch it from the owner of {url}, compare its fingerprint with a second source, and put the file at {path}"


def _pinned_otherwise(site: Site, found: tuple[str, ...], who: str, where: str) -> Iterator[Remark]:
    pinned = str(site.settings.get("vendor_repository_fingerprint") or "").replace(" ", "").upper()
    if pinned and pinned not in found:
        message = f"{who} {found[0]}, pinned is {pinned}"
        yield Remark(Problem(message, where, "compare both with upstream; do not simply change the pin"))
