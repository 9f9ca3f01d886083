"""One change of a host that one control must notice, and its repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from orchestrator.evidence.results import Finding, Report, Result
from orchestrator.inventory.vault import VaultAccess, read_vault
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.conftest import load, play, ssh

CONVERGE = "converge"


@dataclass(frozen=True)
class Break:
    """What is done to the host, what the finding must say, and how it is repaired: by a converge, or by a command.

    `also` are controls that speak of the same thing from another side.
    """

    control: str
    command: str
    seen: str
    repair: str = CONVERGE
    also: tuple[str, ...] = ()


def failed(report: Report) -> dict[str, list[Finding]]:
    """Return the findings that count against the host, by control."""
    found: dict[str, list[Finding]] = {}
    for finding in report.findings:
        if finding.result in (Result.FAIL, Result.ERROR):
            found.setdefault(finding.control, []).append(finding)
    return found


def turn_and_repair(
    site: LabSite,
    row: Break,
    *,
    change: Callable[[LabSite], None] | None = None,
    controls: tuple[str, ...] = (),
    quick: bool = False,
) -> None:
    """Break the host, see exactly this control turn and say what it saw, repair the host, see nothing fail.

    `controls` bounds what is looked at (none: everything), `quick` looks from inside only.
    """
    if change is not None:
        change(site)
    else:
        ssh(site, row.command)
    try:
        found = failed(verify(load(site), controls=controls, quick=quick))
        assert set(found) == {row.control, *row.also}, found
        said = found[row.control]
        assert {finding.result for finding in said} == {Result.FAIL}, said
        assert any(row.seen in finding.seen for finding in said), said
        for finding in said:
            assert finding.wanted
            assert finding.remedy
            assert finding.host == "h1"
    finally:
        if row.repair == CONVERGE:
            play(site)
        else:
            ssh(site, row.repair)
    repaired = verify(load(site), controls=(row.control, *row.also), quick=quick)
    assert failed(repaired) == {}
    assert any(f.control == row.control and f.result is Result.PASS for f in repaired.findings), repaired.findings


def serve_a_certificate(site: LabSite, *, days: int = 10) -> None:
    """Sign the host's own key once more by the site's own authority, for some days; negative ones are over."""
    with VaultAccess(site.vault_password_file) as access:
        values = read_vault(site.path, access)
    authority = x509.load_pem_x509_certificate(values["certificates_ca_certificate"].encode())
    key = serialization.load_pem_private_key(values["certificates_ca_key"].encode(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    served = x509.load_pem_x509_certificate(ssh(site, "cat /etc/ratssaal/tls/fullchain.pem").encode())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        authority.subject,
        served.subject,
        served.public_key(),
        x509.random_serial_number(),
        now - timedelta(days=30),
        now + timedelta(days=days),
    )
    for extension in served.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    made += authority.public_bytes(serialization.Encoding.PEM).decode()
    ssh(site, f"cat > /etc/ratssaal/tls/fullchain.pem <<'END'\n{made}END\nsystemctl reload nginx haproxy; sleep 1")
