"""What is done to a virtual machine so that one control notices: only a machine with a kernel of its own has these parts."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import Break

BREAKS = [
    Break(
        "OS-07",
        "cd /etc/apparmor.d && file=$(grep -lE '^profile [a-z_-]+ ' * 2>/dev/null | head -n 1) && apparmor_parser -R $file",
        "is not loaded",
        "systemctl reload apparmor",
    ),
    Break(
        "CRY-11",
        "fallocate -l 64M /planted.swap && chmod 0600 /planted.swap && mkswap -q /planted.swap && swapon /planted.swap",
        "swap /planted.swap is not encrypted",
        "swapoff /planted.swap && rm /planted.swap",
        repaired=Result.DECLARED,
    ),
]
