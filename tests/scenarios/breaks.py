"""One change of a host that one control must notice, and its repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from orchestrator.evidence.results import Finding, Report, Result
from orchestrator.inventory.vault import VaultAccess, read_vault
from orchestrator.lab.lab import LabSite
from orchestrator.verification.catalogue import select
from orchestrator.verification.runner import verify
from tests.scenarios.conftest import load, play, ssh

CONVERGE = "converge"
# What becomes of these on a whole lab host: it is a container without containers and recordings, some things do not exist yet, and
# its site names nobody to whom holes are reported.
OPEN = {
    **dict.fromkeys(("OS-03", "OS-06", "OS-10", "OS-11", "NET-09", "NET-10"), Result.NOT_TESTED),
    **dict.fromkeys(("WEB-06", "BCK-01", "CHG-01", "CHG-02"), Result.NOT_TESTED),
    # Nobody has declared them for a lab.
    **dict.fromkeys(("ACC-07", "OS-14"), Result.NOT_TESTED),
    **dict.fromkeys(("NET-04", "OS-07", "VKS-08", "VKS-09"), Result.NOT_APPLICABLE),
    "CRY-11": Result.DECLARED,
}
# What a container cannot show: its kernel is the machine's below it.
KERNELS = ("NET-09", "NET-10", "OS-03", "OS-06", "OS-07", "OS-10", "OS-11")


@dataclass(frozen=True)
class Break:
    """What is done to the host, what the finding must say, and how it is repaired: by a converge, or by a command.

    `also` are controls that speak of the same thing from another side, `more` is what else the finding must say,
    `repaired` what becomes of the control on a whole host. `change` is done in place of a command. Two that use the same
    (a file of which a copy is kept) are not done together, and one that is `alone` not with any other. In what it must say,
    `<lab>` stands for the number of the lab's network.
    """

    control: str
    command: str
    seen: str
    repair: str = CONVERGE
    also: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    repaired: Result = Result.PASS
    change: Callable[[LabSite], None] | None = None
    uses: str = ""
    alone: bool = False

    @property
    def controls(self) -> frozenset[str]:
        """Whose findings it changes."""
        return frozenset((self.control, *self.also))

    @property
    def touches(self) -> frozenset[str]:
        """What no other break may touch at the same time."""
        return self.controls | ({self.uses} if self.uses else frozenset[str]())

    def do(self, site: LabSite) -> None:
        """Change the host."""
        if self.change is not None:
            self.change(site)
        else:
            ssh(site, self.command)


TOGETHER = 6


def in_batches(rows: Iterable[Break], most: int = TOGETHER) -> list[tuple[Break, ...]]:
    """Return breaks that can be done and looked at together, `most` at a time; those that touch the same stay in their order."""
    batches: list[list[Break]] = []
    for row in rows:
        last = max((n for n, batch in enumerate(batches) if any(row.touches & o.touches for o in batch)), default=-1)
        free = (b for b in batches[last + 1 :] if len(b) < most and not row.alone and not b[0].alone)
        batch = next(free, None)
        if batch is None:
            batches.append([row])
        else:
            batch.append(row)
    return [tuple(batch) for batch in batches]


def controls_of(batch: Iterable[Break]) -> set[str]:
    """Return whose findings a batch changes."""
    return {control for row in batch for control in row.controls}


def name_of(batch: tuple[Break, ...]) -> str:
    """Return a batch's name among the tests."""
    return "+".join(row.control for row in batch)


def failed(report: Report) -> dict[str, list[Finding]]:
    """Return the findings that count against the host, by control."""
    found: dict[str, list[Finding]] = {}
    for finding in report.findings:
        if finding.result in (Result.FAIL, Result.ERROR):
            found.setdefault(finding.control, []).append(finding)
    return found


def inside_alone(site: LabSite) -> tuple[str, ...]:
    """Return the controls that are decided from inside alone: of the others --quick says that it left something out."""
    return tuple(f.control for f in verify(load(site), quick=True).findings if "--quick" not in f.reason)


def unexpected(report: Report, *, own_kernel: bool = False) -> dict[str, tuple[Result, str, str]]:
    """Return what keeps a report from being that of a whole lab host, by control; one with a kernel of its own shows more."""
    left_open = {name: result for name, result in OPEN.items() if not own_kernel or name not in KERNELS}
    return {
        f.control: (f.result, f.seen, f.reason)
        for f in report.findings
        if f.result is not left_open.get(f.control, Result.PASS)
    }


def _judge(row: Break, said: list[Finding], site: LabSite) -> None:
    assert {finding.result for finding in said} == {Result.FAIL}, said
    for words in (words.replace("<lab>", str(site.network.number)) for words in (row.seen, *row.more)):
        assert any(words in finding.seen for finding in said), (words, said)
    for finding in said:
        assert finding.wanted
        assert finding.remedy == select((row.control,))[0].remedy.en
        assert finding.host == "h1"


class Series:
    """Breaks of one host, one on top of the other: with each, exactly its control's finding must change.

    What a converge is to repair stays broken until `repair`, so that one converge repairs it all; the rest is undone at once.
    An undo that does not help shows with the next break, whose control would not be the only one to turn.
    """

    def __init__(self, site: LabSite, *, quick: bool = False) -> None:
        self._site = site
        self._quick = quick
        self._failing: dict[str, frozenset[tuple[str, str]]] = {}
        self._left: list[Break] = []
        self._inside = () if quick else inside_alone(site)

    def turn(self, *rows: Break, controls: tuple[str, ...] = ()) -> set[str]:
        """Break the host, see exactly the rows' controls turn and return them; `controls` bounds what is looked at from outside."""
        expected = frozenset[str]().union(*(row.controls for row in rows))
        undone = [row for row in rows if row.repair != CONVERGE]
        try:
            for row in rows:
                row.do(self._site)
            found = self._look(controls)
            changed = self._changed(found, expected)
            self._left += [row for row in rows if row.repair == CONVERGE]
            stays = changed - frozenset[str]().union(*(row.controls for row in undone))
            self._failing |= {control: self._texts(found, control) for control in stays}
            assert changed == expected, (changed ^ expected, found)
            for row in rows:
                _judge(row, found[row.control], self._site)
            return changed
        finally:
            for row in reversed(undone):
                ssh(self._site, row.repair)

    def _changed(self, found: dict[str, list[Finding]], expected: frozenset[str]) -> set[str]:
        """Return the controls that fail now and did not, or the other way round; of the expected ones also those that say more.

        What others say of an earlier break may be worded anew by this one, as where a server closes old connections late.
        """
        turned = set(found) ^ set(self._failing)
        return turned | {c for c in expected if self._texts(found, c) != self._failing.get(c, frozenset())}

    def repair(self, controls: tuple[str, ...] = ()) -> dict[str, list[Finding]]:
        """Repair everything by one converge and return what fails still."""
        play(self._site)
        report = self._report(controls)
        results = {(finding.control, finding.result) for finding in report.findings}
        for row in self._left:
            assert (row.control, row.repaired) in results, (row, report.findings)
        return failed(report)

    def _look(self, controls: tuple[str, ...]) -> dict[str, list[Finding]]:
        return failed(self._report(controls))

    def _report(self, controls: tuple[str, ...]) -> Report:
        """Look at these controls and, beside those from outside, at all that are decided from inside alone: it takes no longer."""
        wanted = (*controls, *self._inside) if controls else ()
        return verify(load(self._site), controls=wanted, quick=self._quick)

    @staticmethod
    def _texts(found: dict[str, list[Finding]], control: str) -> frozenset[tuple[str, str]]:
        return frozenset((finding.vantage, finding.seen + finding.reason) for finding in found.get(control, ()))


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
