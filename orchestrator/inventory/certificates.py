"""What makes a certificate that somebody gave unfit: one judgement for preflight and for the role.

`playbooks/filter_plugins/ratssaal.py` loads this file where a certificate was given. Standard library and cryptography only.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

# (message, hint)
Misfit = tuple[str, str]


def misfits(chain: Sequence[x509.Certificate], names: Iterable[str]) -> Iterator[Misfit]:
    """Yield what keeps browsers from taking a chain from a server of these names: what it is for, names, signatures, dates."""
    leaf, wanted = chain[0], list(names)
    yield from _unfit(leaf)
    for name in wanted:
        if not _covers(leaf, name):
            hint = f"it is for {', '.join(_dns_names(leaf)) or 'no DNS name'}; order one that also names {name}"
            # A wildcard covers one label only: *.example.org is not for turn.meet.example.org (RFC 9525 6.3).
            if any(name == f"turn.{other}" for other in wanted):
                hint += ", or choose jitsi_turn_domain so that it is for that name"
            yield f"the certificate is not for {name}", hint
    for lower, upper in pairwise(chain):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature):
            message = f"the chain is broken: {label(lower)} was not issued by {label(upper)}"
            yield message, "the host's certificate first, then each issuer in turn"
    now = datetime.datetime.now(datetime.UTC)
    for certificate in chain:
        if certificate.not_valid_before_utc > now:
            yield f"{label(certificate)} is not valid yet", "check this machine's clock"
        elif certificate.not_valid_after_utc < now:
            yield f"{label(certificate)} has expired", "renew it"


def ordered(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the chain from the leaf upwards: PKCS#12 keeps no order, browsers and HAProxy want it."""
    chain, left = [leaf], list(others)
    while issuer := next((c for c in left if c.subject == chain[-1].issuer), None):
        chain.append(issuer)
        left.remove(issuer)
    return chain + left


def belong_together(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    """Say whether a private key is a certificate's."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def label(certificate: x509.Certificate) -> str:
    """Return what a certificate calls its owner."""
    return certificate.subject.rfc4514_string() or f"certificate {certificate.serial_number:x}"


def _unfit(leaf: x509.Certificate) -> Iterator[Misfit]:
    """Yield each reason why no browser takes a certificate from a server, whatever its names are."""
    usages = _usages(leaf)
    # Before the other: what openssl signs with its own key says of itself that it is an authority's.
    if leaf.issuer == leaf.subject:
        hint = "certificates_source: own_ca makes one of the site's own CA; or order one from a CA that browsers know"
        yield f"the certificate is self-signed: {label(leaf)} vouches for itself", hint
    elif _of_an_authority(leaf):
        hint = "the host's certificate first, then each issuer in turn"
        yield f"the first certificate is an authority's and no server's: {label(leaf)}", hint
    if usages is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        hint = "order one for a web server: with the extended key usage serverAuth"
        yield f"the certificate is for no server: {label(leaf)} has other extended key usages", hint


def _of_an_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier] | None:
    """Return what a certificate may be used for; None when it does not say, which leaves it everything."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _covers(certificate: x509.Certificate, name: str) -> bool:
    wildcard = "*." + name.partition(".")[2]
    return any(candidate.lower() in {name, wildcard} for candidate in _dns_names(certificate))
