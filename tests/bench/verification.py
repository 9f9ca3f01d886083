"""What verification costs: one host and ten, in batches and by testinfra's own SSH backend, inside and out; and drift of twenty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.lab import machines
from orchestrator.lab.lab import Lab, LabSite
from orchestrator.verification.child import CHECKS
from tests.bench.measure import Cost, cost
from tests.plain_pytest import plain_pytest

BIN = Path(sys.executable).parent
TEN, TWENTY = 10, 20


def report_of(site: LabSite, *arguments: str) -> dict[str, Any]:
    """Run `ratssaal verify` and return its report; findings are printed, since a broken host would be quick to look at."""
    argv = [str(BIN / "ratssaal"), "verify", str(site.path), "--json", *arguments]
    argv += ["--vault-password-file", str(site.vault_password_file)]
    report: dict[str, Any] = json.loads(subprocess.run(argv, check=False, capture_output=True, text=True).stdout)
    for finding in report["findings"]:
        if finding["result"] in ("fail", "error"):
            print(f"  NOTE: {finding['control']} on {finding['host']}: {finding['seen']} {finding['reason']}"[:200])
    return report


def by_testinfra(site: LabSite, *, shared: bool) -> Cost:
    """Return the cost of the inside checks under plain pytest with testinfra's own SSH backend."""
    environment = os.environ | {"ANSIBLE_VAULT_PASSWORD_FILE": str(site.vault_password_file)}
    with plain_pytest(site, shared=shared) as argv:
        whole = [*argv, f"--hosts=ssh://root@{site.hosts[0].address}", "--ratssaal-inside", str(CHECKS)]
        return cost(whole, env=environment)


def one_host(site: LabSite, unit: Cost) -> None:
    """Print what looking at one converged host costs."""
    quick = report_of(site, "--quick")
    print(f"verify --quick, the host's part: {quick['seconds']['questions to h1']:.2f} s (to reach: 2)")
    print(f"verify --quick, round trips: {quick['round_trips']['h1']} (to reach: 3)")
    began = time.monotonic()
    full = report_of(site)
    wall = time.monotonic() - began
    print(
        f"verify from inside and outside, whole port scan: {wall:.0f} s (to reach: 60), {wall / unit.wall:.3f} of the unit"
    )
    print(f"  of {len(full['findings'])} findings: {full['counts']['pass']} pass")
    together = quick["seconds"]["together"]
    plain, shared = (by_testinfra(site, shared=shared) for shared in (False, True))
    print(f"the inside checks by testinfra's own SSH backend: {plain.wall / together:.1f} times as long as in batches")
    print(f"  where OpenSSH shares one connection: {shared.wall / together:.1f} times as long")


def many_hosts() -> None:
    """Print how long a quick look at ten hosts takes, one whole server and nine bridges, and drift of these and ten more bridges."""
    lab = Lab()
    try:
        site = _provisioned(lab, TEN)
        began = time.monotonic()
        report = report_of(site, "--quick")
        wall, together = time.monotonic() - began, report["seconds"]["together"]
        said = f"{together:.1f} s, {wall:.1f} s with the command's own start and the inventory (to reach: 10)"
        print(f"verify --quick of {len(report['hosts'])} hosts: {said}")
        _drift(_provisioned(lab, TWENTY))
    finally:
        lab.down("twenty")


def _provisioned(lab: Lab, hosts: int) -> LabSite:
    """Return a site of so many finished hosts; those that are there already stay, and its further ones become bridges."""
    site = lab.up("twenty", debian=13, hosts=hosts)
    _add_bridges(site)
    argv = [str(BIN / "ratssaal"), "provision", str(site.path), "--harden", "--skip-preflight"]
    done = subprocess.run(
        [*argv, "--vault-password-file", str(site.vault_password_file)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    wait_for_first_look(site)
    return site


def wait_for_first_look(site: LabSite) -> None:
    """Wait until no host is busy any more with looking at all its files for the first time."""
    for host in site.hosts:
        machines.enter(
            host, "timeout", "600", "sh", "-c", "until test -e /var/lib/ratssaal/integrity/begun; do sleep 1; done"
        )


def _drift(site: LabSite) -> None:
    """Print how long a look for drift takes; a host that differs or does not answer is printed, too."""
    argv = [str(BIN / "ratssaal"), "drift", str(site.path), "--json"]
    argv += ["--vault-password-file", str(site.vault_password_file)]
    began = time.monotonic()
    report = json.loads(subprocess.run(argv, check=False, capture_output=True, text=True).stdout)
    wall = time.monotonic() - began
    for host in report["hosts"]:
        if host["differences"] or host["error"] or not host["manifest"]:
            print(f"  NOTE: {host['name']}: {len(host['differences'])} differences {host['error']}")
    number = len(report["hosts"])
    print(f"drift of {number} hosts: {wall:.1f} s (to reach: 20 in 10 s)")


def _add_bridges(site: LabSite) -> None:
    """Add the lab's hosts to its site's inventory that are not there yet, as bridges."""
    file, marker = site.path / "hosts.yml", "    jitsi_bridges:\n      hosts:\n"
    text = file.read_text()
    assert marker in text
    lines = []
    for host in site.hosts:
        if f"        {host.name}:\n" not in text:
            lines += [f"        {host.name}:\n", f"          ansible_host: {host.address}\n"]
            lines += [f"          base_address6: {host.address6}\n", "          ansible_user: root\n"]
            lines += [f"          ansible_ssh_private_key_file: {site.key_file}\n"]
    file.write_text(text.replace(marker, marker + "".join(lines)))
