"""What is done to a virtual machine so that one control notices: only a machine with a kernel of its own has these parts."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import Break

_MODPROBE = "/etc/modprobe.d/80-ratssaal"

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
    # What is in effect, whatever the files say; in a container these belong to the machine below it.
    Break(
        "OS-06",
        "sysctl -qw kernel.kptr_restrict=0",
        "kernel.kptr_restrict is 0",
        "sysctl -qw kernel.kptr_restrict=2",
    ),
    Break(
        "OS-11",
        f"cp -p {_MODPROBE}-devices.conf /root && sed -i '/firewire-ohci/d; /usb-storage/d' {_MODPROBE}-devices.conf",
        "modprobe loads firewire-ohci, usb-storage",
        f"mv /root/80-ratssaal-devices.conf {_MODPROBE}-devices.conf",
    ),
    Break(
        "NET-09",
        f"mv {_MODPROBE}-protocols.conf /root",
        "sctp",
        f"mv /root/80-ratssaal-protocols.conf {_MODPROBE}-protocols.conf",
    ),
    Break(
        "NET-10",
        "sysctl -qw net.core.rmem_max=212992",
        "net.core.rmem_max is 212992",
        "sysctl -qw net.core.rmem_max=10485760",
    ),
    Break(
        "OS-03",
        "touch /boot/vmlinuz-99.0.0-1-amd64",
        "99.0.0-1-amd64 is the newest installed",
        "rm /boot/vmlinuz-99.0.0-1-amd64",
    ),
    Break(
        "OS-10",
        "systemctl stop chrony",
        "chrony does not answer",
        "systemctl start chrony && timeout 300 sh -c 'until chronyc -n tracking | grep -q \"Leap status.*Normal\"; do sleep 2; done'",
    ),
]
