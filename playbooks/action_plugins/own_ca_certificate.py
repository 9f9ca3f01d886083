# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs a host's request with the site's own CA, on the control node."""

from __future__ import annotations

import datetime
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Action part of own_ca_certificate; `ca_key` and `days` are used here and never sent."""

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look; if something differs, sign and install."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        key, days = str(arguments.pop("ca_key")), int(arguments.pop("days", 397))
        looked: dict[str, Any] = self._execute_module(
            module_name="own_ca_certificate", module_args=arguments | {"phase": "look"}, task_vars=task_vars
        )
        if looked.get("failed") or not looked.get("request"):
            return looked
        signed = _sign(looked.pop("request"), str(arguments["ca_certificate"]), key, list(arguments["names"]), days)
        installed: dict[str, Any] = self._execute_module(
            module_name="own_ca_certificate",
            module_args=arguments | {"phase": "install", "certificate": signed},
            task_vars=task_vars,
        )
        return installed | {"reasons": looked.get("reasons", [])}


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
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
