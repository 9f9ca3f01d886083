"""Runs on a host, by standard input: one look at services, versions and certificate. Standard library only."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

UNITS = ("nginx", "haproxy", "prosody", "jicofo", "jitsi-videobridge2", "coturn", "ratssaal-firewall")
PACKAGES = ("jitsi-videobridge2", "jicofo", "jitsi-meet-web", "prosody", "coturn", "nginx")
PROPERTIES = "Id,LoadState,ActiveState,SubState,NRestarts,ActiveEnterTimestamp,MemoryCurrent"


def _run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def _units() -> dict[str, Any]:
    found = {}
    for block in _run("systemctl", "show", f"--property={PROPERTIES}", *(f"{u}.service" for u in UNITS)).split("\n\n"):
        row = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if row.get("LoadState") == "loaded":
            memory = row.get("MemoryCurrent", "")
            found[row["Id"].removesuffix(".service")] = {
                "state": row["ActiveState"],
                "since": row["ActiveEnterTimestamp"],
                "restarts": int(row.get("NRestarts") or 0),
                "memory_mb": int(memory) // 2**20 if memory.isdigit() else None,
            }
    return found


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


def _bridges() -> Any:
    code, text = _get(8888, "/debug")
    if code != 200:
        return None
    bridges = json.loads(text).get("bridge_selector", {}).get("bridge", {})
    return [
        {
            "name": name.rpartition("/")[2],
            **{key: row.get(key) for key in ("operational", "healthy", "drain", "stress")},
        }
        for name, row in bridges.items()
    ]


def _certificate() -> str:
    path = Path("/etc/ratssaal/tls/fullchain.pem")
    text = (
        _run("openssl", "x509", "-in", str(path), "-noout", "-enddate", "-dateopt", "iso_8601") if path.exists() else ""
    )
    match = re.search(r"notAfter=(.+)", text)
    return match.group(1).strip() if match else ""


def main() -> None:
    """Print what was seen as one JSON object."""
    packages = _run("dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\n", *PACKAGES)
    pending = Path("/var/lib/ratssaal/pending")
    facts = {
        "units": _units(),
        "bridge_health": _get(8080, "/about/health")[0],
        "bridges": _bridges(),
        "conferences": None,
        "packages": {r[0]: r[1] for r in map(str.split, packages.splitlines()) if len(r) == 3 and r[2] == "installed"},
        "certificate_until": _certificate(),
        "pending": sorted(path.name for path in pending.glob("*/*")) if pending.is_dir() else [],
        "uptime_seconds": int(float(Path("/proc/uptime").read_text().split()[0])),
        "reboot_required": Path("/run/reboot-required").exists(),
    }
    code, text = _get(8888, "/stats")
    if code == 200:
        facts["conferences"] = json.loads(text).get("conferences")
    print(json.dumps(facts))
