"""The lab's network: a bridge, NAT to the machine's uplink, and a namespace outside as vantage point."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.lab import processes

NAMES = Path("/etc/netns")
_NAMESPACES = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Network:
    """One lab's network; `number` (1 to 254) makes its addresses its own, 0 where it is not known any more.

    198.18.0.0/15 and 2001:2::/48 are the benchmarking ranges (RFC 2544, RFC 5180): public in form, routed nowhere.
    """

    lab: str
    number: int

    @property
    def bridge(self) -> str:
        """Name of the bridge; an interface's name has at most 15 characters."""
        return f"rs-{self.lab}"

    @property
    def outside(self) -> str:
        """Name of the network namespace from which outside looks are taken."""
        return f"rs-{self.lab}-out"

    @property
    def table(self) -> str:
        """Name of the nftables table with the lab's NAT."""
        return f"ratssaal_lab_{self.lab}"

    @property
    def gateway(self) -> str:
        """IPv4 address of the bridge."""
        return f"198.18.{self.number}.1"

    @property
    def gateway6(self) -> str:
        """IPv6 address of the bridge."""
        return f"2001:2:0:{self.number}::1"

    @property
    def outside_address(self) -> str:
        """IPv4 address of the vantage point."""
        return f"198.18.{self.number}.250"

    @property
    def outside_address6(self) -> str:
        """IPv6 address of the vantage point."""
        return f"2001:2:0:{self.number}::250"

    def address(self, index: int) -> str:
        """Return the IPv4 address of host `index` (from 1)."""
        return f"198.18.{self.number}.{9 + index}"

    def address6(self, index: int) -> str:
        """Return the IPv6 address of host `index` (from 1)."""
        return f"2001:2:0:{self.number}::{9 + index}"

    def up(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Make the bridge, the NAT and the outside namespace with its hosts file; what is there already stays."""
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            _run("ip", "link", "add", self.bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        _run("ip", "address", "replace", f"{self.gateway}/24", "dev", self.bridge)
        _run("ip", "-6", "address", "replace", f"{self.gateway6}/64", "dev", self.bridge, "nodad")
        _run("ip", "link", "set", self.bridge, "up")
        subprocess.run(["nft", "-f", "-"], input=nat_rules(self), text=True, check=True, capture_output=True)
        self._outside_up()
        folder = NAMES / self.outside
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(hosts_file(names))

    def _outside_up(self) -> None:
        inner, outer = "lab0", f"rsout{self.number}"
        if not (_NAMESPACES / self.outside).exists():
            _run("ip", "netns", "add", self.outside)
        if not Path(f"/sys/class/net/{outer}").exists():
            peer = ("peer", "name", inner, "netns", self.outside)
            _run("ip", "link", "add", outer, "master", self.bridge, "type", "veth", *peer)
        _run("ip", "link", "set", outer, "up")
        inside = ("ip", "-n", self.outside)
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "replace", f"{self.outside_address}/24", "dev", inner)
        _run(*inside, "-6", "address", "replace", f"{self.outside_address6}/64", "dev", inner, "nodad")
        _run(*inside, "link", "set", inner, "up")
        _run(*inside, "route", "replace", "default", "via", self.gateway)
        _run(*inside, "-6", "route", "replace", "default", "via", self.gateway6)

    def is_up(self) -> bool:
        """Return whether bridge, NAT and outside namespace are all there."""
        return all((Path(f"/sys/class/net/{self.bridge}").exists(), self._has_outside(), self._has_table()))

    def down(self) -> bool:
        """Remove everything that `up` made, in whatever state it is; False if there was nothing."""
        bridge = Path(f"/sys/class/net/{self.bridge}")
        found = bridge.exists() or self._has_outside() or self._has_table() or (NAMES / self.outside).exists()
        if self._has_outside():
            processes.kill_all(self._outside_pids, seconds=5)
            _run("ip", "netns", "delete", self.outside)
        for port in bridge.glob("brif/*"):
            _try("ip", "link", "delete", port.name)  # its other end may just have gone with its namespace
        if bridge.exists():
            _run("ip", "link", "delete", self.bridge)
        if self._has_table():
            _run("nft", "delete", "table", "inet", self.table)
        shutil.rmtree(NAMES / self.outside, ignore_errors=True)
        if NAMES.is_dir() and not any(NAMES.iterdir()):
            NAMES.rmdir()
        return found

    @staticmethod
    def last_down() -> None:
        """Unmount what `ip netns add` mounts for all namespaces and never unmounts; where somebody has one it stays.

        For the last lab only: another one that is just coming up would lose its namespace's name.
        """
        if _NAMESPACES.is_dir() and not any(_NAMESPACES.iterdir()):
            _try("umount", str(_NAMESPACES))

    def _outside_pids(self) -> list[int]:
        return [int(word) for word in _output("ip", "netns", "pids", self.outside).split()]

    def _has_outside(self) -> bool:
        return (_NAMESPACES / self.outside).exists()

    def _has_table(self) -> bool:
        return self.table in lab_tables()


def lab_tables() -> list[str]:
    """Return the names of all labs' nftables tables."""
    tables = json.loads(_output("nft", "-j", "list", "tables") or "{}").get("nftables", [])
    names = (entry["table"]["name"] for entry in tables if "table" in entry)
    return [name for name in names if name.startswith("ratssaal_lab_")]


def free_number(taken: Iterable[int]) -> int:
    """Return the lowest network number that no lab has and in which no interface of this machine has an address.

    Raises TaskFailed when there is none.
    """
    used = set(taken)
    for link in json.loads(_output("ip", "-j", "address", "show") or "[]"):
        for entry in link.get("addr_info", []):
            first, second, third = ([*str(entry.get("local", "")).split("."), "", "", ""])[:3]
            if (first, second) == ("198", "18"):
                used.add(int(third))
    free = set(range(1, 255)) - used
    if not free:
        raise TaskFailed([Problem("all 254 lab networks are taken", hint="ratssaal lab ls")])
    return min(free)


def hosts_file(names: Mapping[str, tuple[str, ...]]) -> str:
    """Return an /etc/hosts with every name at all its addresses."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{address} {name}" for name, addresses in names.items() for address in addresses]
    return "\n".join(lines) + "\n"


def nat_rules(network: Network) -> str:
    """Return the lab's nftables rules, which replace an earlier table of that name in one transaction."""
    return f"""
table inet {network.table} {{}}
delete table inet {network.table}
table inet {network.table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network.gateway}/24 oifname != "{network.bridge}" masquerade
    ip6 saddr {network.gateway6}/64 oifname != "{network.bridge}" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    oifname "{network.bridge}" iifname != "{network.bridge}" ct state new drop
  }}
}}
"""


def dropping_chains(ruleset: str | None = None) -> list[str]:
    """Return the machine's own chains that drop forwarded or incoming packets by policy, as "family table chain".

    They may cut the lab hosts off; whoever owns them must let the bridge through. `ruleset` is nft's JSON of all chains.
    """
    entries = json.loads(ruleset or _output("nft", "-j", "list", "chains") or "{}").get("nftables", [])
    chains = (entry["chain"] for entry in entries if "chain" in entry)
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") in ("forward", "input") and chain.get("policy") == "drop"
    ]


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        hint = (
            "the lab needs bridges, network namespaces and nftables, which this machine's kernel may lack: dmesg | tail"
        )
        raise TaskFailed([Problem(f"`{' '.join(argv)}` failed: {done.stderr.strip()}", hint=hint)])


def _try(*argv: str) -> None:
    """Run a removal that may find nothing to remove."""
    subprocess.run(argv, check=False, capture_output=True)
