"""Lynis with its stock profile. It is not installed on the host: the control node's copy goes there for the run only.

The copy is Debian's package: the installed one, or one that apt fetches and checks without installing it.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import RatssaalError
from orchestrator.verification.audit.places import Ran, Target, run_here
from orchestrator.verification.audit.results import NotHere, Reading, Severity

NAME = "lynis"
# A minute elsewhere; it starts programs by the ten thousand, each of which takes 50 ms on a machine that is emulated.
SECONDS = 3600
VANTAGE = "inside"
# Debian's places, and those in the form that Lynis itself calls "run from the untarred directory".
_PLACES = {
    "usr/sbin/lynis": "lynis",
    "usr/share/lynis/include": "include",
    "usr/share/lynis/db": "db",
    "etc/lynis/default.prf": "default.prf",
    "etc/lynis/plugins": "plugins",
}
# systemd-detect-virt's words for machines without a kernel of their own.
_CONTAINERS = ("docker", "lxc", "lxc-libvirt", "openvz", "podman", "rkt", "systemd-nspawn")
_HINT = "on the control node: apt-get install lynis"
# Everything that it writes lies in one directory that goes with it, also when it has to be ended.
_PROGRAM = """
import base64, io, json, os, pathlib, shutil, signal, subprocess, sys, tarfile, tempfile
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
# Not below /tmp: Lynis looks at old files there, and its own would be among them.
folder = tempfile.mkdtemp(prefix="ratssaal-audit-", dir="/run")
try:
    os.umask(0o077)
    tarfile.open(fileobj=io.BytesIO(base64.b64decode("{packed}"))).extractall(folder)
    argv = ["sh", "./lynis", "audit", "system", "--usecwd", "--quick", "--quiet", "--no-colors", "--profile", folder + "/default.prf",
            "--plugindir", folder + "/plugins", "--logfile", folder + "/log", "--report-file", folder + "/report"]
    child = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, env=dict(os.environ, LC_ALL="C.UTF-8", PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
    try:
        printed = child.communicate(timeout={seconds})[0]
    except subprocess.TimeoutExpired:
        printed = b"no end within {seconds} s"
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass
    files = {{name: pathlib.Path(folder, name) for name in ("report", "log")}}
    told = {{name: file.read_text(errors="replace") if file.exists() else "" for name, file in files.items()}}
    print(json.dumps(dict(told, screen=printed.decode(errors="replace"))))
finally:
    shutil.rmtree(folder, ignore_errors=True)
"""


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Run it on the host and return what it says and its raw files; raises NotHere, OutOfTime or Unreachable."""
    program = _PROGRAM.format(packed=base64.b64encode(_packed()).decode(), seconds=SECONDS - 20)
    ran = target.as_root(program, seconds=SECONDS)
    told = _told(ran)
    kept = tuple(target.keep(f"lynis.{name}", text) for name, text in told.items() if text)
    return read(told.get("report", "")), kept


def _told(ran: Ran) -> dict[str, str]:
    try:
        told: dict[str, str] = json.loads(ran.stdout)
    except ValueError as error:
        raise RatssaalError(f"Lynis did not run: {ran.said}") from error
    return told


def _packed() -> bytes:
    """Return Lynis as a compressed archive in which it can be run where it is unpacked."""
    if Path("/usr/share/lynis/include").is_dir() and Path("/usr/sbin/lynis").is_file():
        return _archive(Path("/"))
    with tempfile.TemporaryDirectory(prefix="ratssaal-lynis-") as folder:
        # apt checks what it fetches against the archive's signature; nothing is installed.
        script = 'cd "$1" && apt-get download -qq lynis && dpkg-deb -x lynis_*.deb .'
        try:
            ran = run_here(["sh", "-c", script, "sh", folder], "", seconds=60)
        except OSError as error:
            raise NotHere(f"Lynis cannot be fetched: {error}", _HINT) from error
        if ran.code:
            raise NotHere(f"Lynis is not on the control node, and cannot be fetched: {ran.said}", _HINT)
        return _archive(Path(folder))


def _archive(root: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for place, name in _PLACES.items():
            if (root / place).exists():
                archive.add(root / place, name, filter=_roots)
    return packed.getvalue()


def _roots(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give a member to root with the modes on which Lynis insists."""
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o700 if info.isdir() else 0o600
    return info


def read(report: str) -> Reading:
    """Read a report file (key=value, lists as key[]=a|b|c|); one that Lynis did not finish is no result."""
    rows = [line.partition("=")[::2] for line in report.splitlines() if "=" in line and not line.startswith("#")]
    single = {key: value for key, value in rows if not key.endswith("[]")}
    if single.get("finish") != "true" or not single.get("hardening_index", "").isdigit():
        return Reading(problem="Lynis did not finish its report")
    findings = tuple(_findings(rows))
    figures: dict[str, str | float] = {
        "hardening index": int(single["hardening_index"]),
        "tests": int(single.get("lynis_tests_done", "0")),
        "warnings": sum(1 for _, severity, _ in findings if severity is Severity.HIGH),
        "suggestions": sum(1 for _, severity, _ in findings if severity is Severity.LOW),
    }
    around = frozenset({"container"} if single.get("vmtype") in _CONTAINERS else ())
    return Reading(findings, figures, single.get("lynis_version", ""), around=around)


def _findings(rows: list[tuple[str, str]]) -> Iterator[tuple[str, Severity, str]]:
    details = [value.split("|") for key, value in rows if key == "details[]"]
    for key, value in rows:
        severity = {"warning[]": Severity.HIGH, "suggestion[]": Severity.LOW}.get(key)
        if severity is None:
            continue
        test, text, more, solution, *_ = [*value.split("|"), "", "", ""]
        inner = [row for row in details if row[0] == test and row[1] == "sysctl"]
        if inner:
            # One line for all keys; each may be accepted or not for itself.
            yield from ((f"{test}:{_part(row[2], 'field')}", severity, _sysctl(row[2])) for row in inner)
        else:
            said = "; ".join(part for part in (text, more, solution) if part not in ("", "-"))
            yield f"{test}:{more.split()[0]}" if test == "SSH-7408" and more.strip("-") else test, severity, said


def _part(text: str, name: str) -> str:
    """Return one part of a detail, which Lynis writes as `field:net.ipv4.x;prefval:1;value:0;`."""
    return next((part.partition(":")[2] for part in text.split(";") if part.startswith(f"{name}:")), "")


def _sysctl(text: str) -> str:
    return f"{_part(text, 'field')} is {_part(text, 'value')} (wanted: {_part(text, 'prefval')})"
