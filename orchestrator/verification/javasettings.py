"""What Jicofo and the bridge were started with, read as upstream reads it: arguments, HOCON, and the old properties file."""

from __future__ import annotations

import shlex

# jitsi-metaconfig asks the old file first where a setting has an old name (jicoco:jicoco-config/src/main/kotlin/org/jitsi/config/
# ReadOnlyConfigurationService.kt): it lies where both properties, or variables of their names, say. Values of other settings,
# such as passwords, do not leave the host.
_STARTED = r'''
import json, os, pathlib, re, shlex, subprocess, sys
unit, names = sys.argv[1], re.compile(sys.argv[2], re.I)
found = {"running": False, "rows": [], "unknown": []}
def process():
    show = ["systemctl", "show", "-P", "ControlGroup", unit]
    group = subprocess.run(show, capture_output=True, text=True).stdout.strip()
    if group.strip("/"):
        for pid in pathlib.Path("/sys/fs/cgroup" + group, "cgroup.procs").read_text().split():
            path = pathlib.Path("/proc", pid)
            if (path / "comm").read_text().strip() == "java":
                return path
def parts(path):
    return path.read_bytes().decode(errors="replace").split("\0")
def text(path):
    try:
        return (home / path).read_text(errors="replace")
    except OSError as error:
        found["unknown"].append(f"{path} cannot be read: {error.strerror}")
        return ""
def hocon(shown):
    # Comments are cut off, but not what looks like one inside of a text.
    kept = r"""(\"{3}.*?\"{3}|"(?:\\.|[^"\\\n])*")|(?:\#|//)[^\n]*"""
    plain = re.sub(kept, lambda one: one.group(1) or "", shown, flags=re.S)
    if re.search(r"""(?:^|[\s{,])include\s+(?:"|url\(|file\(|classpath\(|required\(|package\()""", plain):
        found["unknown"].append(f"{options['config.file']} includes others")
    return re.findall(r"""([\w.-]+)"?\s*(?:\+?=|:)\s*((?:"[^"\n]*"|\$\{[^}\n]*\}|[^\s,{}\["])*)""", plain)
def properties(shown):
    lines = re.sub(r"\\\n\s*", "", shown).splitlines()
    return [row.groups() for row in (re.match(r"\s*([^\s=:\#!]+)\s*[=:\s]\s*(.*?)\s*$", line) for line in lines) if row]
try:
    path = process()
    words = parts(path / "cmdline") if path else []
    given = dict(one.partition("=")[::2] for one in (parts(path / "environ") if path else []))
    home = pathlib.Path(os.readlink(path / "cwd")) if path else None
except OSError:
    words = []  # it has just ended
if words:
    found["running"] = True
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"):
        words = [*shlex.split(given.get(name, "")), *words]
    words += shlex.split(given.get("_JAVA_OPTIONS", ""))
    rows = [word[2:].partition("=")[::2] for word in words if word.startswith("-D")]
    options = dict(rows)
    found["unknown"] += [f"{name} names its settings" for name in ("config.resource", "config.url") if name in options]
    if options.get("config.file"):
        rows += hocon(text(options["config.file"]))
    old = ["net.java.sip.communicator.SC_HOME_DIR_" + part for part in ("LOCATION", "NAME")]
    where = [given.get(name) or options.get(name) for name in old]
    if all(where) and (home / where[0] / where[1] / "sip-communicator.properties").exists():
        rows += properties(text("/".join([*where, "sip-communicator.properties"])))
    found["rows"] = [[name, value.strip("\"")] for name, value in rows if names.search(name)]
print(json.dumps(found))
'''


def started_with(unit: str, names: str) -> str:
    """Return the command for the settings of a unit's Java process whose names fit a pattern; it prints JSON.

    `running`, `rows` of a name and a value from wherever it stands, `unknown`: why there may be others. A value that another
    one is put in for (`${...}`) is shown as it stands.
    """
    return f"python3 -c {shlex.quote(_STARTED)} {unit} {shlex.quote(names)}"
