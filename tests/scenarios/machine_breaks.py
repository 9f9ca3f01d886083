"""What is done to a virtual machine so that one control notices: only a machine with a kernel of its own has these parts."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import Break

BREAKS = [
    # Debian ships both; the second one is enforced as it comes.
    Break(
        "OS-07",
        "cd /etc/apparmor.d && apparmor_parser -R lsb_release && apparmor_parser -C -r nvidia_modprobe",
        "the shipped profile lsb_release is not loaded",
        "cd /etc/apparmor.d && apparmor_parser -r lsb_release nvidia_modprobe",
        more=("nvidia_modprobe is in complain mode",),
    ),
    Break(
        "CRY-11",
        "fallocate -l 64M /planted.swap && chmod 0600 /planted.swap && mkswap -q /planted.swap && swapon /planted.swap",
        "swap /planted.swap is not encrypted",
        "swapoff /planted.swap && rm /planted.swap",
        repaired=Result.DECLARED,
    ),
]
