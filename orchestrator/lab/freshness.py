"""Which security updates a cached root file system lacks.

Its hosts would install them in the midst of a run, and be told from then on that services run replaced code (OS-03).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

_SECONDS = 120
_INSTALLED = re.compile(r"^Inst (\S+) \[", re.MULTILINE)


def lacking(root: Path, sources: str) -> list[str]:
    """Return the packages of a root file system for which the security archive has a newer version; takes less than a second.

    As the roles do it: also what needs a new package, as each new kernel does.

    `sources` is deb822 text. Where the archive does not answer, nothing is known to be lacking: a lab may be offline.
    """
    security = "\n".join(
        part for part in sources.split("\n\n") if re.search(r"^Suites: .*-security", part, re.MULTILINE)
    )
    with tempfile.TemporaryDirectory(prefix="ratssaal-apt-") as folder:
        for each in ("parts", "state/lists/partial", "cache/archives/partial"):
            (Path(folder) / each).mkdir(parents=True)
        (Path(folder) / "parts/security.sources").write_text(security)
        options = _options(root, Path(folder))
        if not security or _apt([*options, "update"]) is None:
            return []
        return sorted(_INSTALLED.findall(_apt([*options, "--simulate", "dist-upgrade"]) or ""))


def _options(root: Path, folder: Path) -> list[str]:
    """The machine's own apt with its download settings, but with this archive and with what is installed there."""
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": folder / "state",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return ["-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


def _apt(arguments: list[str]) -> str | None:
    """Return what apt-get printed, None where it did not end well."""
    try:
        done = subprocess.run(
            ["apt-get", *arguments], capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
