"""The lab's network: a bridge, NAT to the machine's uplink, and a namespace outside as vantage point."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_FORWARDING = {
    "net.ipv4.ip_forward": Path("/proc/sys/net/ipv4/ip_forward"),
    "net.ipv6.conf.all.forwarding": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}


@dataclass(frozen=True, slots=True)
class Network:
    """One lab's network; `number` (1 to 254) makes its addresses its own.

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
        return "ratssaal_lab_" + self.lab.replace("-", "_")

    @property
    def gateway(self) -> str:
        """IPv4 address of the bridge."""
        return f"198.18.{self.number}.1"

    @property
    def gateway6(self) -> str:
        """IPv6 address of the bridge."""
        return f"2001:2:0:{self.number}::1"

    def address(self, index: int) -> str:
        """Return the IPv4 address of host `index` (from 1)."""
        return f"198.18.{self.number}.{9 + index}"

    def address6(self, index: int) -> str:
        """Return the IPv6 address of host `index` (from 1)."""
        return f"2001:2:0:{self.number}::{9 + index}"

    def up(self) -> None:
        """Make the bridge, the NAT and the outside namespace; what is there already stays."""
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            _run("ip", "link", "add", self.bridge, "type", "bridge", "forward_delay", "0")
            _run("ip", "address", "add", f"{self.gateway}/24", "dev", self.bridge)
            _run("ip", "-6", "address", "add", f"{self.gateway6}/64", "dev", self.bridge, "nodad")
            _run("ip", "link", "set", self.bridge, "up")
        for path in _FORWARDING.values():
            path.write_text("1\n")
        _nft(_rules(self))
        self._outside_up()

    def _outside_up(self) -> None:
        if Path(f"/run/netns/{self.outside}").exists():
            return
        inner, outer = f"{self.bridge[:12]}-oi", f"{self.bridge[:12]}-oo"
        _run("ip", "netns", "add", self.outside)
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.outside)
        _run("ip", "link", "set", outer, "master", self.bridge, "up")
        inside = ("ip", "-n", self.outside)
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "add", f"198.18.{self.number}.250/24", "dev", inner)
        _run(*inside, "-6", "address", "add", f"2001:2:0:{self.number}::250/64", "dev", inner, "nodad")
        _run(*inside, "link", "set", inner, "up")
        _run(*inside, "route", "add", "default", "via", self.gateway)

    def down(self) -> None:
        """Remove everything that `up` made, in whatever state it is."""
        _try("ip", "netns", "delete", self.outside)
        _try("ip", "link", "delete", f"{self.bridge[:12]}-oo")
        _try("ip", "link", "delete", self.bridge)
        _try("nft", "delete", "table", "inet", self.table)


def forwarding() -> dict[str, str]:
    """Return the machine's forwarding switches, to be put back later."""
    return {str(path): path.read_text().strip() for path in _FORWARDING.values()}


def restore_forwarding(switches: dict[str, str]) -> None:
    """Put the machine's forwarding switches back."""
    for path, value in switches.items():
        Path(path).write_text(value + "\n")


def _rules(network: Network) -> str:
    return f"""
table inet {network.table} {{}}
delete table inet {network.table}
table inet {network.table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname "{network.bridge}" oifname != "{network.bridge}" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{network.bridge}" accept
    oifname "{network.bridge}" ct state established,related accept
  }}
}}
"""


def _nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


def _try(*argv: str) -> None:
    """Run a removal that may find nothing to remove."""
    subprocess.run(argv, check=False, capture_output=True)
