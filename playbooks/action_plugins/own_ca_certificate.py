# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs a host's request with the site's own CA, on the control node."""

from __future__ import annotations

import datetime
from typing import Any

from ansible.plugins.loader import action_loader

Host = action_loader.get("managed_host", class_only=True)
_CERTIFICATE = {
    "names": {"type": "list", "elements": "str", "required": True},
    "dest": {"type": "str", "required": True},
    "group": {"type": "str", "required": True},
    "reloads": {"type": "list", "elements": "str", "default": []},
}
_ARGUMENTS = {
    "steps": {**Host.STEPS, "default": []},
    "certificates": {"type": "list", "elements": "dict", "required": True, "options": _CERTIFICATE},
    "ca_certificate": {"type": "str", "required": True},
    "ca_key": {"type": "str", "required": True},
    "days": {"type": "int", "default": 397},
    "renew_days": {"type": "int", "default": 30},
}


class ActionModule(Host):  # type: ignore[misc, valid-type]
    """Keeps certificates that the site's own CA signed; keys and requests are made on the host, and keys never leave it.

    Arguments: `steps` of managed_host that come first; `certificates`, dictionaries with names (the first is the subject), dest
    (the directory of fullchain.pem,
    key.pem and ca.pem), group (which may read the key) and reloads (units that must read a new certificate);
    `ca_certificate` and `ca_key` as PEM, the key is used here and never sent; `days` of validity; a certificate with fewer
    than `renew_days` left is made anew.
    """

    TRANSFERS_FILES = False
    _PHASED = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the steps and look; sign and install what differs."""
        arguments = self.arguments(_ARGUMENTS)
        authority = arguments["ca_certificate"]
        shared = {"ca_certificate": authority, "renew_days": arguments["renew_days"]}
        wanted = [shared | certificate for certificate in arguments["certificates"]]
        steps = self.wire_steps(arguments["steps"], task_vars or {})
        looked = self.on_host(steps + _phase("look", wanted), task_vars or {})
        requests = looked.pop("requests", [])
        if looked.get("failed") or not any(requests):
            return looked
        key = arguments["ca_key"]
        signed = [
            certificate | {"certificate": _sign(request, authority, key, certificate["names"], arguments["days"])}
            for certificate, request in zip(wanted, requests, strict=True)
            if request
        ]
        installed = self.on_host(_phase("install", signed), task_vars or {})
        # The second look proves what was installed and notes it in the host's manifest.
        again = steps + _phase("look", wanted)
        proven = installed if installed.get("failed") else self.on_host(again, task_vars or {})
        return proven if proven.get("failed") else looked


def _phase(phase: str, certificates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"certificate": certificate | {"phase": phase}} for certificate in certificates]


def _sign(request: str, ca_certificate: str, ca_key: str, names: list[str], days: int) -> str:
    """Return the certificate as PEM; what the request asks for beyond its key is ignored."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    asked = x509.load_pem_x509_csr(request.encode())
    authority = x509.load_pem_x509_certificate(ca_certificate.encode())
    key: Any = serialization.load_pem_private_key(ca_key.encode(), password=None)
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    # The type that it is given back by has kinds of keys that sign nothing; an authority has none of them.
    issuer: Any = authority.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(authority.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        # an hour back: the host's clock may be behind
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
