"""The package trees: which file of ours lies where in which stand-in package."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
_PACKAGES = HERE / "packages"

# Upstream's version scheme (jitsi-meet-release-notes CHANGELOG-WEB.md). jicofo and the bridge of `current` carry the versions
# of stable 2.0.11146; the part number of the jitsi-meet packages of that release is not published, so theirs is made up.
RELEASES = {
    "current": {"meet": "1.0.9321-1", "jicofo": "1.0-1189-1", "bridge": "2.3-307-g4bb0aead1-1"},
    "next": {"meet": "1.0.9388-1", "jicofo": "1.0-1201-1", "bridge": "2.3-319-g0a1b2c3d4-1"},
    "broken": {"meet": "1.0.9402-1", "jicofo": "1.0-1207-1", "bridge": "2.3-324-gdeadbeef0-1"},
}
_JRE = "openjdk-17-jre-headless | openjdk-17-jre | openjdk-21-jre-headless | openjdk-21-jre"
_MAINTAINER = ("preinst", "postinst", "prerm", "postrm", "config", "templates", "triggers")


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package. `files` maps a path on the host to one of our files, executable where its mode says so.

    The relations are those of upstream's control files (jitsi-meet, jicofo, jitsi-videobridge: debian/control).
    """

    name: str
    part: str
    section: str
    relations: dict[str, str]
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    jar: str = ""


PACKAGES = (
    Package(
        "jitsi-videobridge2",
        "bridge",
        "net",
        {
            "Pre-Depends": f"{_JRE}, debconf",
            "Depends": "procps, uuid-runtime, ruby-hocon, adduser, ca-certificates-java",
        },
        {
            "usr/share/jitsi-videobridge/jvb.sh": ("jvb.sh", 0o755),
            "lib/systemd/system/jitsi-videobridge2.service": ("jitsi-videobridge2.service", 0o644),
            "etc/jitsi/videobridge/logging.properties": ("logging.properties", 0o644),
            "etc/logrotate.d/jitsi-videobridge": ("logrotate", 0o644),
            "etc/sysctl.d/20-jvb-udp-buffers.conf": ("20-jvb-udp-buffers.conf", 0o644),
        },
        (
            "/etc/jitsi/videobridge/logging.properties",
            "/etc/logrotate.d/jitsi-videobridge",
            "/etc/sysctl.d/20-jvb-udp-buffers.conf",
        ),
        jar="usr/share/jitsi-videobridge/jitsi-videobridge.jar",
    ),
    Package(
        "jicofo",
        "jicofo",
        "net",
        {"Depends": f"{_JRE}, ruby-hocon, jq, adduser, debconf, lsb-base | sysvinit-utils, ca-certificates-java"},
        {
            "usr/share/jicofo/jicofo.sh": ("jicofo.sh", 0o755),
            "etc/init.d/jicofo": ("jicofo.init", 0o755),
            "etc/jitsi/jicofo/logging.properties": ("logging.properties", 0o644),
            "etc/logrotate.d/jicofo": ("logrotate", 0o644),
        },
        ("/etc/init.d/jicofo", "/etc/jitsi/jicofo/logging.properties", "/etc/logrotate.d/jicofo"),
        jar="usr/share/jicofo/jicofo.jar",
    ),
    Package(
        "jitsi-meet-web",
        "meet",
        "web",
        {},
        {
            "usr/share/jitsi-meet/index.html": ("index.html", 0o644),
            **{f"usr/share/jitsi-meet/{name}.html": ("empty.html", 0o644) for name in ("head", "plugin.head", "body")},
            **{f"usr/share/jitsi-meet/{name}": (name, 0o644) for name in ("base.html", "title.html", "pwa-worker.js")},
            "usr/share/jitsi-meet/manifest.json": ("manifest.json", 0o644),
            "usr/share/jitsi-meet/static/offline.html": ("offline.html", 0o644),
            "usr/share/jitsi-meet/images/favicon.svg": ("favicon.svg", 0o644),
            "usr/share/jitsi-meet/interface_config.js": ("interface_config.js", 0o644),
            "usr/share/jitsi-meet/libs/app.bundle.min.js": ("app.js", 0o644),
            "usr/share/jitsi-meet/css/all.css": ("all.css", 0o644),
        },
    ),
    Package(
        "jitsi-meet-web-config",
        "meet",
        "web",
        {"Pre-Depends": "nginx | nginx-full | nginx-extras | openresty | apache2", "Depends": "openssl, curl, debconf"},
        {
            "usr/share/jitsi-meet-web-config/config.js": ("config.js", 0o644),
            "usr/share/jitsi-meet-web-config/jitsi-meet.example": ("jitsi-meet.example", 0o644),
        },
    ),
    Package(
        "jitsi-meet-prosody",
        "meet",
        "net",
        {
            "Depends": "openssl, prosody (>= 0.12.0) | prosody-trunk | prosody-0.12 | prosody-13.0, ca-certificates-java, "
            "lua-sec, lua-basexx, lua-luaossl, lua-cjson, lua-inspect, debconf"
        },
        {"usr/share/jitsi-meet-prosody/prosody.cfg.lua-jvb.example": ("prosody.cfg.lua-jvb.example", 0o644)},
    ),
    Package("jitsi-meet-tokens", "meet", "net", {"Depends": "prosody (>= 0.12.0), jitsi-meet-prosody, debconf"}),
)


def compile_java(target: Path) -> tuple[Path, Path]:
    """Compile the bridge and Jicofo into one jar below `target`; return it and the jar that it needs (HOCON)."""
    classes = target / "classes"
    hocon = Path("/usr/share/java/typesafe-config.jar")
    sources = sorted(str(path) for path in (HERE / "java").rglob("*.java"))
    argv = ["javac", "--release", "17", "-cp", str(hocon), "-d", str(classes), *sources]
    subprocess.run(argv, check=True, capture_output=True, text=True)
    jar = target / "standin.jar"
    subprocess.run(["jar", "--create", "--file", str(jar), "-C", str(classes), "."], check=True, capture_output=True)
    return jar, hocon


def build(package: Package, release: str, jars: tuple[Path, Path], target: Path) -> Path:
    """Build one .deb into `target` and return it."""
    version = RELEASES[release][package.part]
    tree = target / "trees" / f"{package.name}_{release}"
    shutil.rmtree(tree, ignore_errors=True)
    for path, (name, mode) in package.files.items():
        _place(_PACKAGES / package.name / name, tree / path, mode)
    if package.name == "jitsi-meet-prosody":
        for plugin in sorted((_PACKAGES / package.name / "plugins").glob("*.lua")):
            _place(plugin, tree / "usr/share/jitsi-meet/prosody-plugins" / plugin.name, 0o644)
    if package.jar:
        _place(jars[0], tree / package.jar, 0o644)
        home = (tree / package.jar).parent
        _place(jars[1], home / "lib/typesafe-config.jar", 0o644)
        (home / "version").write_text(version.removesuffix("-1") + "\n")
        (home / "broken").write_text("true\n" if release == "broken" else "false\n")
    _control(package, version, tree)
    deb = target / f"{package.name}_{version}_all.deb"
    argv = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(deb)]
    subprocess.run(argv, check=True, capture_output=True, text=True)
    return deb


def _control(package: Package, version: str, tree: Path) -> None:
    folder = tree / "DEBIAN"
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"Package": package.name, "Version": version, "Architecture": "all", "Section": package.section}
    fields |= {
        "Priority": "optional",
        "Maintainer": "Ratssaal lab <lab@localhost>",
        "Ratssaal-Stand-In": "yes",
        **package.relations,
    }
    fields["Description"] = (
        f"Ratssaal's stand-in of {package.name}, for rehearsals only\n"
        " It has the upstream package's outward behaviour, bad defaults included, and serves no real conference."
    )
    (folder / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    if package.conffiles:
        (folder / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
    for name in _MAINTAINER:
        source = _PACKAGES / package.name / name
        if source.is_file():
            _place(source, folder / name, 0o644 if name in ("templates", "triggers") else 0o755)


def _place(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
