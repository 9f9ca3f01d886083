"""The site's crypto profile in the auditors' own formats."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.verification.crypto import CryptoProfile

# What stands among the key exchanges and is none: extensions and Terrapin's counter-measure (ssh-audit:src/ssh_audit/policy.py
# demands the latter where a policy names it).
_MARKERS = ("ext-info-s", "kex-strict-s-v00@openssh.com")
_KEYS = ("ssh-", "sk-", "ecdsa-sha2-", "rsa-sha2-", "webauthn-")
_RSA_KEYS = ("rsa-sha2-256", "rsa-sha2-512", "ssh-rsa")


def ssh_audit_policy(profile: CryptoProfile) -> str:
    """Return the policy file by which ssh-audit judges a server: a part of what the profile allows will do."""
    ssh = profile.ssh
    open_ones = [name for row in ssh.unconfirmed if row.allowed for name in row.names]
    keys = [name for name in open_ones if name.startswith(_KEYS)]
    exchanges = [name for name in open_ones if not name.startswith(_KEYS)]
    sizes = {name: {"hostkey_size": ssh.rsa_bits} for name in _RSA_KEYS} | {"ssh-ed25519": {"hostkey_size": 256}}
    return "\n".join(
        [
            f"# {profile.tls.source}",
            "# Written by `ratssaal audit`; not confirmed against the published text: "
            + (", ".join(open_ones) or "none"),
            f'name = "Ratssaal, crypto profile {profile.name}"',
            "version = 1",
            "allow_algorithm_subset_and_reordering = true",
            "allow_larger_keys = true",
            f"host_key_sizes = {json.dumps(sizes)}",
            f"host keys = {', '.join([*ssh.host_keys, *keys])}",
            f"key exchanges = {', '.join([*ssh.kex, *exchanges, *_MARKERS])}",
            f"ciphers = {', '.join(ssh.ciphers)}",
            f"macs = {', '.join(ssh.macs)}",
            "",
        ]
    )


def mozilla_tls_config(profile: CryptoProfile) -> str:
    """Return the profile in the format of Mozilla's guideline, as sslyze's --custom_tls_config reads it."""
    tls = profile.tls
    allowed = [name for row in tls.unconfirmed if row.allowed for name in row.names]
    groups = [*tls.tls_groups, *(name for name in allowed if not name.startswith("TLS_"))]
    suites = [*tls.tls_suites, *(name for name in allowed if name.startswith("TLS_"))]
    older = [name for name in suites if "_WITH_" in name]
    config: dict[str, Any] = {
        "certificate_curves": ["prime256v1", "secp384r1", "secp521r1"],
        "certificate_signatures": [
            *("sha256WithRSAEncryption", "sha384WithRSAEncryption", "sha512WithRSAEncryption"),
            *("ecdsa-with-SHA256", "ecdsa-with-SHA384", "ecdsa-with-SHA512"),
        ],
        "certificate_types": ["ecdsa", "rsa"],
        "ciphersuites": [name for name in suites if "_WITH_" not in name],
        # sslyze reads the IANA names only.
        "ciphers": {"caddy": [], "go": [], "iana": older, "openssl": []},
        "dh_param_size": tls.rsa_bits,
        "ecdh_param_size": tls.ec_bits,
        "hsts_min_age": 0,
        "maximum_certificate_lifespan": tls.certificate_days,
        "ocsp_staple": False,
        "recommended_certificate_lifespan": tls.certificate_days,
        "rsa_key_size": tls.rsa_bits,
        "server_preferred_order": False,
        # sslyze calls x25519 as Mozilla does.
        "tls_curves": ["X25519" if name == "x25519" else name for name in groups],
        "tls_versions": list(tls.tls_versions),
    }
    return json.dumps(config, indent=2) + "\n"
