"""OpenSCAP with ComplianceAsCode's content for the host's release. Nothing is installed on the host.

The content is the control node's (Debian: ssg-debian, or upstream's release below ~/.local/share). The scanner is fetched by the
host's own apt, checked against the archive's signatures, unpacked into a directory that goes with the run, and never installed.
"""

from __future__ import annotations

import base64
import bz2
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from orchestrator.errors import RatssaalError
from orchestrator.verification.audit.places import Target
from orchestrator.verification.audit.results import NotApplicable, NotHere, Reading, Severity

NAME = "openscap"
# Its tests take minutes on a machine that is emulated.
SECONDS = 2400
VANTAGE = "inside"
# Debian's standard profile; ANSSI's are stricter than what a conference server can bear.
PROFILE = "xccdf_org.ssgproject.content_profile_standard"
_CONTENT = "xml/scap/ssg/content"
_XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
_SEVERITIES = {"high": Severity.HIGH, "medium": Severity.MEDIUM, "low": Severity.LOW}
_RELEASE = "print(open('/etc/os-release').read())"
_PROGRAM = """
import base64, bz2, glob, json, os, pathlib, shutil, signal, subprocess, sys, tempfile
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
# Neither below /tmp nor below /run, where a hardened host runs no program.
folder = pathlib.Path(tempfile.mkdtemp(prefix="ratssaal-audit-", dir="/var/lib"))
def run(*argv, seconds=120, **more):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds, **more)
try:
    (folder / "content.xml").write_bytes(bz2.decompress(base64.b64decode("{content}")))
    archives, root = folder / "archives", folder / "root"
    (archives / "partial").mkdir(parents=True)
    said = ""
    scanner = shutil.which("oscap")
    environment = dict(os.environ, LC_ALL="C.UTF-8")
    if not scanner:
        fetched = run("apt-get", "-qq", "-y", "--no-install-recommends", "--download-only", "-o", "APT::Sandbox::User=root",
            "-o", "Dir::Cache::archives=%s" % archives, "install", "openscap-scanner")
        said = fetched.stderr[-300:]
        for package in glob.glob("%s/*.deb" % archives):
            run("dpkg-deb", "-x", package, str(root))
        scanner = str(root / "usr/bin/oscap")
        # Debian 12's packages have libraries in all of these places.
        libraries = [str(path) for below in ("usr/lib", "lib") for path in ((root / below), *(root / below).glob("*-linux-gnu*"))]
        share = str(root / "usr/share/openscap")
        environment.update(LD_LIBRARY_PATH=":".join(libraries), OSCAP_SCHEMA_PATH=share + "/schemas",
            OSCAP_XSLT_PATH=share + "/xsl", OSCAP_CPE_PATH=share + "/cpe")
    told = dict(xml="", said=said, version="")
    if os.access(scanner, os.X_OK):
        told["version"] = run(scanner, "--version", env=environment).stdout[:200]
        ended = run(scanner, "xccdf", "eval", "--profile", "{profile}", "--results", str(folder / "results.xml"),
            str(folder / "content.xml"), env=environment, seconds={seconds}, cwd=folder)
        told["said"] = ended.stderr[-300:]
        if (folder / "results.xml").exists():
            told["xml"] = base64.b64encode(bz2.compress((folder / "results.xml").read_bytes())).decode()
    print(json.dumps(told))
finally:
    shutil.rmtree(folder, ignore_errors=True)
"""


def audit(target: Target) -> tuple[Reading, tuple[str, ...]]:
    """Run it on the host; raises NotApplicable, NotHere, OutOfTime or Unreachable."""
    release = dict(
        line.partition("=")[::2] for line in target.as_root(_RELEASE, seconds=30).stdout.replace('"', "").splitlines()
    )
    name, number = release.get("ID", ""), release.get("VERSION_ID", "")
    if name != "debian" or number != "12":
        raise NotApplicable(f"no released content speaks of {name or 'an unknown system'} {number}".rstrip())
    content = _content(number)
    packed = base64.b64encode(bz2.compress(content.read_bytes())).decode()
    program = _PROGRAM.format(content=packed, profile=PROFILE, seconds=SECONDS - 200)
    ran = target.as_root(program, seconds=SECONDS)
    try:
        told = json.loads(ran.stdout)
    except ValueError as error:
        raise RatssaalError(f"OpenSCAP did not run: {ran.said}") from error
    if not told["version"]:
        raise NotHere(
            f"the host's apt does not give openscap-scanner: {told['said'].strip()}", "on the host: apt-get update"
        )
    xml = bz2.decompress(base64.b64decode(told["xml"])).decode(errors="replace") if told["xml"] else ""
    version = "".join(re.findall(r"\(oscap\) (\S+)", told["version"]))
    problem = f"OpenSCAP came to no result: {told['said'][-200:]}"
    reading = read(xml, version=version) if xml else Reading(problem=problem, version=version)
    return reading, (target.keep("openscap.xml", xml),) if xml else ()


def _content(number: str) -> Path:
    name = f"ssg-debian{number}-ds.xml"
    own = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    shares = (Path(own).expanduser(), Path("/usr/local/share"), Path("/usr/share"))
    found = next((share / _CONTENT / name for share in shares if (share / _CONTENT / name).is_file()), None)
    if found is None:
        hint = f"Debian 13's ssg-debian has it, Debian 12's does not: put it into {own}/{_CONTENT}"
        raise NotHere(f"the control node has no {name}", hint)
    return found


def read(xml: str, *, version: str = "") -> Reading:
    """Read XCCDF 1.2 results; without a test result, or without a single decided rule, there is none."""
    try:
        result = ElementTree.fromstring(xml).find(f".//{_XCCDF}TestResult")
    except ElementTree.ParseError as error:
        return Reading(problem=f"OpenSCAP wrote no XML: {error}")
    if result is None or result.get("end-time") is None:
        return Reading(problem="OpenSCAP did not end its test")
    rows = [
        (row.get("idref", ""), row.get("severity", ""), _verdict(row)) for row in result.iter(f"{_XCCDF}rule-result")
    ]
    counts = {word: sum(1 for *_, verdict in rows if verdict == word) for word in ("pass", "fail", "error", "unknown")}
    if not counts["pass"] + counts["fail"]:
        return Reading(problem="OpenSCAP decided no rule")
    figures = {"rules passed": f"{counts['pass']} of {counts['pass'] + counts['fail']}"}
    return Reading(tuple(_findings(rows)), figures, version)


def _verdict(row: ElementTree.Element) -> str:
    return (row.findtext(f"{_XCCDF}result") or "").strip()


def _findings(rows: list[tuple[str, str, str]]) -> Iterator[tuple[str, Severity, str]]:
    for rule, severity, verdict in rows:
        if verdict in ("fail", "error", "unknown"):
            short = rule.removeprefix("xccdf_org.ssgproject.content_rule_")
            yield short, _SEVERITIES.get(severity, Severity.MEDIUM), f"{short.replace('_', ' ')}: {verdict}"
