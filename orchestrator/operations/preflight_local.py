"""Looks at what the control node contributes: keys, certificate files, and what DNS says about the site's names."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from orchestrator.errors import Problem
from orchestrator.inventory import certificates
from orchestrator.inventory.derivations import SIGNALLING, TURN, certificate_names, control_path, turn_domain
from orchestrator.inventory.secret import Secret
from orchestrator.inventory.site import Site
from orchestrator.inventory.yamlfiles import show
from orchestrator.operations.preflight_checks import Remark
from orchestrator.operations.vendor_key import judge_vendor_key

EXPIRY_DAYS = 14
# RFC 2606 and 6761: names that no public DNS answers for; nobody is asked about them.
_RESERVED = (".test", ".invalid", ".example", ".localhost", ".internal")

Lookup = Callable[[str], tuple[str, ...]]


def judge_control_node(site: Site, *, lookup: Lookup | None = None) -> list[Remark]:
    """Return every remark about files of this machine and about DNS."""
    return [
        *_private_keys(site),
        *judge_vendor_key(site),
        *_certificate_files(site),
        *_names(site, lookup or _resolve),
    ]


def _private_keys(site: Site) -> Iterator[Remark]:
    for host in site.hosts:
        fault = _key_fault(Path(host.key_file)) if host.key_file else None
        if fault:
            # A key that is chosen for many hosts is one mistake in one line.
            where = site.where("ansible_ssh_private_key_file", host.name) or site.files.at_host(host.name)
            yield Remark(Problem(fault[0], where, fault[1]))


def _key_fault(path: Path) -> tuple[str, str] | None:
    """Return (message, hint) when OpenSSH will not take a file for a private key."""
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        return f"the private key {path} cannot be read: {error.strerror}", f"ls -ld {quote(str(path.parent))}"
    except OSError:
        mode = 0
    if not stat.S_ISREG(mode):
        hint = "correct ansible_ssh_private_key_file, or remove the line: then SSH uses your own keys"
        return f"the private key {path} does not exist", hint
    if mode & 0o077:
        return f"others may read the private key {path}, so OpenSSH refuses it", f"chmod 600 {quote(str(path))}"
    return None


def _certificate_files(site: Site) -> Iterator[Remark]:
    source = site.settings.get("certificates_source")
    if source == "pem":
        key, chain = "certificates_key_file", "certificates_chain_file"
        remarks = judge_pem(_chosen_file(site, chain), _chosen_file(site, key), _wanted_names(site))
        yield from _with_choice(site, remarks, (key, chain))
    elif source == "pkcs12":
        name, password = "certificates_pkcs12_file", site.secrets.get("certificates_pkcs12_password")
        remarks = judge_pkcs12(_chosen_file(site, name), password, _wanted_names(site))
        yield from _with_choice(site, remarks, (name,))


def _chosen_file(site: Site, name: str) -> Path:
    return control_path(str(site.settings[name]), site.path)


def _with_choice(site: Site, remarks: Iterable[Remark], names: Sequence[str]) -> Iterator[Remark]:
    """Let each remark also name the line that chose its file: perhaps the file is fit and another one was meant."""
    choices = {show(_chosen_file(site, name)): f"{name} in {site.where(name)}" for name in names}
    for remark in remarks:
        problem = remark.problem
        message = f"{problem.message} ({choices[problem.where]})"
        yield replace(remark, problem=replace(problem, message=message))


def _wanted_names(site: Site) -> list[str]:
    return list(dict.fromkeys(name for host in site.hosts for name in certificate_names(site.topology, host.name)))


def judge_pem(chain_file: Path, key_file: Path, names: Sequence[str]) -> Iterator[Remark]:
    """Judge a PEM chain and its key: readable, belonging together, in order, for these names, valid now."""
    try:
        chain = x509.load_pem_x509_certificates(chain_file.read_bytes())
    except OSError as error:
        yield _unreadable(chain_file, error)
        return
    except ValueError:
        hint = "a PEM file: the host's certificate first, then the intermediate ones"
        yield Remark(Problem("there is no certificate in the file", show(chain_file), hint))
        return
    yield from _judge_chain(chain, names, show(chain_file))
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except OSError as error:
        yield _unreadable(key_file, error)
        return
    except TypeError:
        hint = f"openssl pkey -in {key_file} -out FILE, then protect that file"
        yield Remark(Problem("the private key is encrypted", show(key_file), hint))
        return
    except ValueError:
        yield Remark(Problem("there is no private key in the file", show(key_file), "a PEM file"))
        return
    if not certificates.belong_together(key, chain[0]):
        hint = f"openssl x509 -noout -pubkey -in {chain_file}; openssl pkey -pubout -in {key_file}"
        yield Remark(Problem("the private key does not belong to the certificate", show(key_file), hint))


def judge_pkcs12(path: Path, password: Secret | None, names: Sequence[str]) -> Iterator[Remark]:
    """Judge a PKCS#12 file: it opens, holds a key and a chain that fit."""
    secret = password.reveal().encode() if password else None
    try:
        key, leaf, others = pkcs12.load_key_and_certificates(path.read_bytes(), secret)
    except OSError as error:
        yield _unreadable(path, error)
        return
    except ValueError:
        hint = "certificates_pkcs12_password in the vault opens it"
        yield Remark(Problem("the PKCS#12 file cannot be opened with the password from the vault", show(path), hint))
        return
    if key is None or leaf is None:
        yield Remark(Problem("the PKCS#12 file lacks the key or the certificate", show(path), "export both into it"))
        return
    yield from _judge_chain(certificates.ordered(leaf, others), names, show(path))


def _unreadable(path: Path, error: OSError) -> Remark:
    missing = isinstance(error, FileNotFoundError)
    hint = (
        "put it there, or name the right file" if missing else f"you must be able to read it: ls -l {quote(str(path))}"
    )
    return Remark(Problem(f"cannot be read: {error.strerror}", show(path), hint))


def _judge_chain(chain: Sequence[x509.Certificate], names: Sequence[str], where: str) -> Iterator[Remark]:
    for message, hint in certificates.misfits(chain, names):
        yield Remark(Problem(message, where, hint))
    leaf = chain[0]
    if len(chain) == 1 and leaf.issuer != leaf.subject and not _known_root(leaf.issuer):
        message = f"the chain may be incomplete: the issuer {leaf.issuer.rfc4514_string()} is not in it"
        yield Remark(Problem(message, where, "append the intermediate certificates"), blocking=False)
    now = datetime.datetime.now(datetime.UTC)
    for certificate in chain:
        left = certificate.not_valid_after_utc - now
        if certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc and left.days < EXPIRY_DAYS:
            message = f"{certificates.label(certificate)} expires in {left.days} days"
            yield Remark(Problem(message, where, "renew it"), blocking=False)


def _known_root(issuer: x509.Name) -> bool:
    """Say whether this machine trusts an authority of that name, so that a chain need not carry it."""
    # The decoded form, because Debian's bundle holds certificates that cryptography is about to refuse.
    trusted: list[Any] = [entry.get("subject", ()) for entry in ssl.create_default_context().get_ca_certs()]
    wanted = tuple(attribute.value for attribute in issuer)
    return any(tuple(value for part in subject for _, value in part) == wanted for subject in trusted)


def _names(site: Site, lookup: Lookup) -> Iterator[Remark]:
    turn_setting = "jitsi_turn_domain" if site.settings.get("jitsi_turn_domain") else "jitsi_domain"
    domain, turn = str(site.settings["jitsi_domain"]), turn_domain(site.settings)
    wanted = {domain: (SIGNALLING, "jitsi_domain"), turn: (TURN, turn_setting)}
    for name, (group, setting) in wanted.items():
        addresses = {a for h in site.hosts if group in h.groups for a in (h.address, h.address6) if a}
        if not addresses:
            continue
        target, where = ", ".join(sorted(addresses)), site.where(setting)
        if name.endswith(_RESERVED):
            message = f"{name} is a reserved name that public DNS never resolves"
            yield Remark(Problem(message, where, f"clients must be told otherwise that it is {target}"), blocking=False)
            continue
        found = {str(ipaddress.ip_address(address)) for address in lookup(name)}
        if not found:
            yield Remark(Problem(f"{name} has no DNS entry", where, f"let it point to {target}"), blocking=False)
        elif not found <= addresses:
            others = sorted(found - addresses)
            hint = f"let it point to {target} only"
            if any(":" in address for address in others):
                hint += "; or, where the host has that IPv6 address: base_address6 in hosts.yml"
            yield Remark(Problem(f"{name} points to {', '.join(others)}", where, hint), blocking=False)


def _resolve(name: str) -> tuple[str, ...]:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
