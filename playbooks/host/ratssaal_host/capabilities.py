# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host is, and what of the kernel can be set on it."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import ssl
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .steps import Step


def _release() -> dict[str, str]:
    with open("/etc/os-release") as handle:
        return dict(line.rstrip().replace('"', "").partition("=")[::2] for line in handle if "=" in line)


def _settable(path: str) -> bool:
    """Say whether this kernel setting is ours: writable, and writing its own value back is accepted."""
    try:
        with open(path) as handle:
            value = handle.read()
        with open(path, "w") as handle:
            handle.write(value)
    except OSError:
        return False
    return True


def _memory_mb() -> int:
    with open("/proc/meminfo") as handle:
        return int(handle.readline().split()[1]) // 1024


def _apt_hosts(folder: str = "/etc/apt") -> list[str]:
    """Return the hosts from which apt takes packages, but for the source that the role vendor_repository keeps."""
    found = set()
    for path in [*glob.glob("%s/sources.list" % folder), *glob.glob("%s/sources.list.d/*" % folder)]:
        if os.path.basename(path) == "ratssaal-vendor.sources" or not os.path.isfile(path):
            continue
        with open(path, errors="replace") as handle:
            lines = [line for line in handle if not line.lstrip().startswith("#")]
        found.update(re.findall(r"://(?:[^/@\s]*@)?(\[[^\]\s]*\]|[^/:\s\]]+)", "".join(lines)))
    return sorted(host.strip("[]") for host in found)


def _apparmor(module: str = "/sys/module/apparmor/parameters/enabled") -> bool:
    """Say whether this kernel has AppArmor switched on, and its profiles are this host's own."""
    try:
        with open(module) as handle:
            return handle.read().strip() == "Y" and not os.path.exists("/run/systemd/container")
    except OSError:
        return False


def _addresses() -> list[str]:
    """Return the addresses of this host's own interfaces; behind a translation the public one is not among them."""
    if shutil.which("ip") is None:
        return []
    told = subprocess.run(["ip", "-json", "address"], check=True, stdout=subprocess.PIPE).stdout
    return sorted(row["local"] for card in json.loads(told) for row in card.get("addr_info", ()) if "local" in row)


def _umask(path: str = "/etc/login.defs") -> str:
    """Return the mask of log-ins as Debian or somebody set it, never one that lets others write; empty where nobody did."""
    try:
        with open(path, errors="replace") as handle:
            set_to = re.findall(r"^\s*UMASK\s+([0-7]{1,4})\s*$", handle.read(), re.MULTILINE)
    except OSError:
        return ""
    return "%03o" % (int(set_to[-1], 8) | 0o022) if set_to else ""


def _usb_mounts(container: str = "/run/systemd/container") -> list[str]:
    """Return where file systems on USB disks are mounted; [SWAP] counts, and so does what lies on a volume above one."""
    if shutil.which("lsblk") is None or os.path.exists(container):
        return []
    asked = ["lsblk", "--json", "-o", "NAME,TRAN,MOUNTPOINTS"]
    told = subprocess.run(asked, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.strip() or b"{}"
    return sorted(
        place for disk in json.loads(told).get("blockdevices", ()) if disk.get("tran") == "usb" for place in _on(disk)
    )


def _on(device: Mapping[str, Any]) -> set[str]:
    found = {place for place in device.get("mountpoints") or () if place}
    return found.union(*map(_on, device.get("children") or ()))


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps: measuring applies nothing."""
    return []


def bring(step: Step) -> dict[str, Any]:
    """Return the fact `ratssaal_host`; roles branch on what is measured here and on nothing else."""
    release = _release()
    name, major = release.get("ID", ""), int(release.get("VERSION_ID", "0").partition(".")[0] or 0)
    made_for = step.params["debian"]
    if name != "debian" or major not in made_for:
        told = "unsupported distribution: %s %s; nothing was changed. Hint: install Debian %s"
        step.fail(msg=told % (name or "unknown", major, " or ".join(map(str, made_for))))
    return {
        "ansible_facts": {
            "ratssaal_host": {
                "release": release.get("VERSION_CODENAME", ""),
                "major": major,
                "kernel_settable": _settable("/proc/sys/kernel/kptr_restrict"),
                "clock_settable": not os.path.exists("/run/systemd/container"),
                "memory_mb": _memory_mb(),
                "disk_free_mb": shutil.disk_usage("/var").free // 2**20,
                "python": platform.python_version(),
                # OpenSSL 3.5 brought the hybrid group X25519MLKEM768 (openssl:CHANGES.md); older ones refuse its name.
                "tls_hybrid": ssl.OPENSSL_VERSION_INFO >= (3, 5),
                "apparmor": _apparmor(),
                "apt_hosts": _apt_hosts(),
                "addresses": _addresses(),
                "umask": _umask(),
                "usb_mounts": _usb_mounts(),
            }
        }
    }
