"""Benchmarks: `make bench` prints ratios from one run; nothing here is a test.

The unit is 100 `ansible.builtin.file` tasks that change nothing, under Ansible's default settings, on the same lab host in the
same run: what a naive converge of that size costs.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from orchestrator import content
from orchestrator.lab.lab import Lab, LabSite
from tests.bench import verification
from tests.bench.measure import Cost, alternate, cost

BIN = Path(sys.executable).parent


def start_up() -> None:
    """Compare `ratssaal --help` with a bare import of click and rich."""
    tool, bare = alternate(
        [str(BIN / "ratssaal"), "--help"], [str(BIN / "python"), "-c", "import click, rich"], rounds=41
    )
    print(f"help: {tool.wall / bare.wall:.2f} of a bare import of click and rich (to reach: 1.3)")


def unit(inventory: Path, vault_password_file: Path, folder: Path) -> Cost:
    """Return the cost of 100 unchanged file tasks under Ansible's own defaults."""
    playbook = folder / "unit.yml"
    task = "    - ansible.builtin.file: {path: /etc/hostname, state: file}\n"
    playbook.write_text("- hosts: all\n  gather_facts: false\n  tasks:\n" + task * 100)
    (folder / "ansible.cfg").write_text("[defaults]\n")
    environment = os.environ | {"ANSIBLE_CONFIG": str(folder / "ansible.cfg")}
    argv = [str(BIN / "ansible-playbook"), "-i", str(inventory), "--vault-password-file", str(vault_password_file)]
    return cost([*argv, str(playbook)], env=environment)


def converge(inventory: Path, vault_password_file: Path, playbook: str = "site.yml") -> Cost:
    """Return the cost of one run of a playbook of ours, the whole site's by default."""
    environment = os.environ | {"ANSIBLE_CONFIG": str(content.root() / "ansible.cfg")}
    argv = [str(BIN / "ansible-playbook"), "-i", str(inventory), "--vault-password-file", str(vault_password_file)]
    return cost([*argv, str(content.root() / "playbooks" / playbook)], env=environment)


def by_command(site: LabSite, *words: str) -> Cost:
    """Return the cost of one run of a command of ours, with all that it does before and after Ansible."""
    return cost([str(BIN / "ratssaal"), *words, str(site.path), "--vault-password-file", str(site.vault_password_file)])


def _again(site: LabSite) -> tuple[Cost, Cost, Cost]:
    """Return the costs of runs that change nothing: all by Ansible alone, hardening by Ansible alone, all by our command."""
    whole, hardening = (
        converge(site.path / "hosts.yml", site.vault_password_file, name) for name in ("site.yml", "harden.yml")
    )
    for run in (whole, hardening):
        # A run that repairs something is no second run.
        if not re.search(r"\bchanged=0\b", run.output):
            raise SystemExit(f"a second run changed something: {run.output.splitlines()[-2:]}")
    return whole, hardening, by_command(site, "provision", "--harden")


def rehearsal(base: Cost) -> None:
    """Print how long a whole rehearsal takes, with its root file system and packages from the run before."""
    rehearsed = cost([str(BIN / "ratssaal"), "rehearse", "--json"])
    wall = rehearsed.wall
    print(f"rehearse, warm: {wall:.0f} s (to reach: 240 on 2 cores), {wall / base.wall:.2f} of the unit")
    for phase, seconds in json.loads(rehearsed.output)["seconds"].items():
        print(f"  {phase}: {seconds / wall:.2f} of it")


def _tell(what: str, costs: Sequence[Cost], base: Cost, wanted: str) -> None:
    wall, cpu = median(cost.wall for cost in costs) / base.wall, median(cost.cpu for cost in costs) / base.cpu
    print(
        f"{what}: wall {wall:.3f}, control-node CPU {cpu:.3f} of the unit (to reach: {wanted}; median of {len(costs)})"
    )


def main() -> None:
    """Start lab hosts, measure, print the ratios, take the hosts down."""
    print(f"{os.cpu_count()} cores")
    start_up()
    lab = Lab()
    try:
        site = lab.up("bench", debian=13, hosts=1)
        inventory = site.path / "hosts.yml"
        first = converge(inventory, site.vault_password_file)
        verification.wait_for_first_look(site)
        bases, again = [], []
        for _ in range(3):
            again += [_again(site), _again(site)]
            with tempfile.TemporaryDirectory() as folder:
                bases.append(unit(inventory, site.vault_password_file, Path(folder)))
        base = Cost(median(each.wall for each in bases), median(each.cpu for each in bases))
        print(f"first run: {first.wall / base.wall:.2f} of the unit's wall time")
        whole, hardening, commands = zip(*again, strict=True)
        _tell("second run of provision and harden", whole, base, "0.15 and 0.2")
        _tell("the same by ratssaal provision --harden", commands, base, "0.15 and 0.2")
        _tell("second run of harden", hardening, base, "0.08 and 0.12")
        verification.one_host(site, base)
    finally:
        lab.down("bench")
    rehearsal(base)
    verification.many_hosts()


if __name__ == "__main__":
    main()
