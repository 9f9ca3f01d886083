"""The key that signs the vendor's packages: fetched once from its owner, shown, and pinned as a file of the site."""

from __future__ import annotations

import shlex
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import PreflightFailed, Problem
from orchestrator.inventory import openpgp
from orchestrator.inventory.derivations import control_path
from orchestrator.inventory.openpgp import PublicKey
from orchestrator.inventory.site import Site
from orchestrator.inventory.vault import write_private
from orchestrator.inventory.yamlfiles import show
from orchestrator.operations.preflight_checks import Remark

UPSTREAM = "https://download.jitsi.org"
# Armoured; upstream publishes no fingerprint beside it (handbook: docs/devops-guide/quickstart.md).
UPSTREAM_KEY = f"{UPSTREAM}/jitsi-key.gpg.key"
_TIMEOUT_SECONDS = 20
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class VendorKey:
    """A key file as its owner serves it, and each key in it: apt trusts them all."""

    content: bytes
    keys: tuple[PublicKey, ...]


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
        found = openpgp.public_keys(path.read_bytes())
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
    if path.is_file() or not _from_upstream(site):
        return None
    try:
        content = _fetch()
        keys = openpgp.public_keys(content)
    except (OSError, openpgp.NotOpenPGP) as error:
        hint = f"fetch it elsewhere, and put the file at {path}"
        raise PreflightFailed([Problem(f"no key could be fetched: {error}", UPSTREAM_KEY, hint)]) from error
    wrong = [remark.problem for remark in _pinned_otherwise(site, keys, "upstream serves", UPSTREAM_KEY)]
    if wrong:
        raise PreflightFailed(wrong)
    return VendorKey(content, keys)


def pin_vendor_key(site: Site, key: VendorKey) -> Path:
    """Write the keys into the site and return the file; from then on nothing but them signs packages.

    Raises PreflightFailed where the file cannot be written.
    """
    path = _file(site)
    try:
        write_private(path, key.content)
    except OSError as error:
        hint = "whoever calls ratssaal must be able to write there"
        raise PreflightFailed([Problem(f"the key cannot be kept: {error.strerror}", show(path), hint)]) from error
    return path


def _fetch() -> bytes:
    with urllib.request.urlopen(UPSTREAM_KEY, timeout=_TIMEOUT_SECONDS) as answer:
        if urlsplit(answer.url).scheme != urlsplit(UPSTREAM_KEY).scheme:
            raise OSError(f"it is said to lie at {answer.url}")
        content: bytes = answer.read(_MOST_BYTES)
    return content


def _file(site: Site) -> Path:
    return control_path(str(site.settings.get("vendor_repository_key") or ""), site.path)


def _from_upstream(site: Site) -> bool:
    return str(site.settings.get("vendor_repository_url") or "").rstrip("/") == UPSTREAM


def _how_to_get_it(site: Site, path: Path) -> str:
    if _from_upstream(site):
        return f"ratssaal preflight {shlex.quote(show(site.path))} --accept-keys fetches {UPSTREAM_KEY} and shows its fingerprint"
    url = site.settings.get("vendor_repository_url")
    return f"fetch it from the owner of {url}, compare its fingerprint with a second source, and put the file at {path}"


def _pinned_otherwise(site: Site, found: Sequence[PublicKey], who: str, where: str) -> Iterator[Remark]:
    """Yield a remark unless the pinned key, where one is, is the only one: apt would trust each of several."""
    pinned = str(site.settings.get("vendor_repository_fingerprint") or "").replace(" ", "").upper()
    held = [key.fingerprint for key in found]
    if pinned and held != [pinned]:
        message = f"{who} {', '.join(held)}, pinned is {pinned}"
        yield Remark(Problem(message, where, "compare both with upstream; do not simply change the pin"))
