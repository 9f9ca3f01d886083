"""Looks at a host without touching it; runs on the host, fed to its Python by standard input.

Standard library only, and no newer syntax than Debian 12's Python knows. Prints one JSON document. Every part that
cannot be seen is null, so that "unknown" is never mistaken for "fine".
"""

from __future__ import annotations

import base64
import fcntl
import fnmatch
import glob
import grp
import hashlib
import ipaddress
import json
import os
import pwd
import re
import shutil
import ssl
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any

APT_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
)

# What others answer may have any form.
UNSEEN = (
    *(OSError, ValueError, LookupError, AttributeError, TypeError),
    *(struct.error, subprocess.SubprocessError, HTTPException),
)

JITSI = ("jitsi-meet-prosody", "jitsi-meet-turnserver", "jitsi-videobridge2", "jicofo")


def os_release(path: str = "/etc/os-release") -> dict[str, str]:
    """Return the distribution's identification as a dictionary."""
    with open(path) as handle:
        pairs = [line.rstrip("\n").split("=", 1) for line in handle if "=" in line]
    return {key: value.strip("\"'") for key, value in pairs}


def memory_mb(path: str = "/proc/meminfo") -> int:
    """Return the memory in MiB; in a container that limits it, /proc/meminfo may still show the machine's."""
    with open(path) as handle:
        return int(re.findall(r"MemTotal:\s+(\d+) kB", handle.read())[0]) // 1024


def disk_free_mb(path: str) -> int:
    """Return what an ordinary process may still write, in MiB."""
    return shutil.disk_usage(path).free // (1024 * 1024)


def locks(paths: Sequence[str] = APT_LOCKS) -> list[dict[str, Any]]:
    """Return who holds a package lock, as [{path, pid, command, ours}]; asking does not take the lock."""
    found = []
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            # struct flock on 64-bit Linux: type, whence, start, length, pid.
            query = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
        finally:
            os.close(descriptor)
        if kind != fcntl.F_UNLCK:
            found.append({"path": path, "pid": pid, "command": command_line(pid), "ours": started_by_us(pid)})
    return found


def started_by_us(pid: int) -> bool:
    """Say whether a run of ours started the process (playbooks/host/ratssaal_host/apt.py)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as handle:
            return b"RATSSAAL_AT_WORK=1" in handle.read().split(b"\0")
    except OSError:
        return False


def command_line(pid: int) -> str:
    """Return a process's command line, shortened; "" when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as handle:
            return handle.read().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return ""


def sockets() -> list[dict[str, Any]]:
    """Return the listening sockets as [{proto, address, port, process, pid}]; needs root for the processes."""
    owners = socket_owners()
    found = []
    for proto, state in (("tcp", "0A"), ("udp", "07")):
        for suffix in ("", "6"):
            try:
                with open("/proc/net/" + proto + suffix) as handle:
                    lines = handle.read().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                fields = line.split()
                if fields[3] == state:
                    address, port = fields[1].split(":")
                    pid, process = owners.get(fields[9], (0, ""))
                    entry = {"proto": proto, "address": readable(address), "port": int(port, 16)}
                    found.append(dict(entry, process=process, pid=pid))
    return found


def readable(text: str) -> str:
    """Return an address of /proc/net in its usual form: 32-bit words in the machine's byte order."""
    words = [struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def socket_owners() -> dict[str, tuple[int, str]]:
    """Return socket inode -> (pid, process name)."""
    owners: dict[str, tuple[int, str]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", errors="replace") as handle:
                name = handle.read().strip()
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith("socket:["):
                    owners.setdefault(target[8:-1], (int(pid), name))
        except OSError:
            continue
    return owners


def sshd_settings() -> dict[str, str]:
    """Return what sshd does for a stranger, as `sshd -T` shows it; several values of a keyword in one line.

    Without lport it cannot tell where there is any `Match LocalPort`.
    """
    asked = ["/usr/sbin/sshd", "-T", "-C", "user=nobody,host=any,addr=192.0.2.1,laddr=192.0.2.2,lport=22"]
    shown = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=10).stdout
    settings: dict[str, str] = {}
    for line in shown.splitlines():
        word, _, value = line.partition(" ")
        settings[word] = f"{settings[word]} {value}" if word in settings else value
    return settings


def sshd_before(drop_in: str, main: str = "/etc/ssh/sshd_config") -> dict[str, Any]:
    """Return whether sshd reads the drop-in for everybody, and what before it, as {read, above: [[keyword, value, place]]}.

    Of a keyword sshd takes the first value that it reads; what follows a Match is not for everybody (sshd_config(5)).
    """
    above: list[list[str]] = []

    def reads(path: str) -> bool:
        with open(path, errors="replace") as handle:
            lines = handle.read().splitlines()
        for number, line in enumerate(lines, 1):
            found = re.match(r"\s*([A-Za-z]\w*)(?:\s*=\s*|\s+)(.*)", line)
            if not found:
                continue
            word, value = found.group(1), re.sub(r"\s+#.*", "", found.group(2)).strip()
            if word.lower() == "match" and value.lower() != "all":
                return False
            if word.lower() == "include":
                if any(includes(os.path.join("/etc/ssh", pattern.strip('"'))) for pattern in value.split()):
                    return True
            elif word.lower() != "match":
                above.append([word, value.strip('"'), f"{path}:{number}"])
        return False

    def includes(pattern: str) -> bool:
        ours = fnmatch.fnmatch(drop_in, pattern)
        earlier = [path for path in sorted(glob.glob(pattern)) if not ours or path < drop_in]
        return any(map(reads, earlier)) or ours

    return {"read": reads(main), "above": above}


def logins(settings: Mapping[str, str], shadow: str = "/etc/shadow") -> list[dict[str, Any]]:
    """Return who has a shell and a key or a password, as [{user, groups, keys: [{name, rsa_bits}], password}]."""
    with open(shadow) as handle:
        hashes = dict(line.split(":")[:2] for line in handle if ":" in line)
    places = settings.get("authorizedkeysfile", ".ssh/authorized_keys .ssh/authorized_keys2").split()
    found = []
    for entry in pwd.getpwall():
        paths = {os.path.join(entry.pw_dir, expanded(place, entry)) for place in places}
        keys = [key for path in sorted(paths) for key in attempt(authorized_keys, path) or ()]
        password = hashes.get(entry.pw_name, "")[:1] not in ("", "!", "*")
        if (keys or password) and not entry.pw_shell.endswith(("nologin", "false")):
            groups = {group.gr_name for group in grp.getgrall() if entry.pw_name in group.gr_mem}
            groups.update(group.gr_name for group in grp.getgrall() if group.gr_gid == entry.pw_gid)
            found.append({"user": entry.pw_name, "groups": sorted(groups), "keys": keys, "password": password})
    return found


def expanded(place: str, entry: pwd.struct_passwd) -> str:
    """Return a path of AuthorizedKeysFile with its tokens filled in (sshd_config(5))."""
    tokens = {"%h": entry.pw_dir, "%u": entry.pw_name, "%U": str(entry.pw_uid), "%%": "%"}
    return re.sub("%[huU%]", lambda token: tokens[token.group()], place)


def authorized_keys(path: str) -> list[dict[str, Any]]:
    """Return a file's keys as [{name, rsa_bits}]: comment, else fingerprint, never the key; 0 where it is not RSA.

    Whoever writes the file can neither hold us up nor hide the other accounts: what is no key is left out.
    """
    if not os.path.isfile(path):
        return []
    with open(path, errors="replace") as handle:
        lines = handle.read(1_000_000).splitlines()
    keys = []
    for line in lines:
        found = re.search(r"(?:^|\s)(?:ssh|ecdsa|sk)-[\w@.-]+\s+(AAAA[A-Za-z0-9+/]+=*)\s*(.*)", line)
        blob = attempt(base64.b64decode, found.group(1)) if found and not line.lstrip().startswith("#") else None
        bits = attempt(rsa_bits, blob) if blob else None
        if found and blob and bits is not None:
            fingerprint = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
            comment = "".join(filter(str.isprintable, found.group(2))).strip()[:60]
            keys.append({"name": comment or f"SHA256:{fingerprint}", "rsa_bits": bits})
    return keys


def rsa_bits(blob: bytes) -> int:
    """Return the size of an RSA key, 0 of any other: its parts are type, exponent and modulus (RFC 4253 6.6)."""
    parts = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        parts.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return int.from_bytes(parts[2], "big").bit_length() if parts[0] == b"ssh-rsa" else 0


def firewalls(settings: str = "/etc/ufw/ufw.conf", program: str = "/usr/sbin/ufw") -> list[str]:
    """Return the programs at work here that keep a firewall of their own; one that is switched off is not among them."""
    found = []
    if os.path.exists(program) and os.path.exists(settings):
        with open(settings) as handle:
            if re.search(r"^ENABLED\s*=\s*[\"']?yes", handle.read(), re.MULTILINE | re.IGNORECASE):
                found.append("ufw")
    asked = ["systemctl", "is-active", "--quiet", "firewalld.service"]
    if subprocess.run(asked, check=False, capture_output=True).returncode == 0:
        found.append("firewalld")
    return found


def installed(names: Sequence[str]) -> list[str]:
    """Return which of these packages are installed; those of which only the settings are left are not among them."""
    argv = ["dpkg-query", "-W", "-f=${db:Status-Status} ${Package}\n", *names]
    told = subprocess.run(argv, check=False, capture_output=True, text=True).stdout if names else ""
    rows = (line.split() for line in told.splitlines())
    return sorted({name for state, name in rows if state == "installed"})


def automounted_home(mounts: str = "/proc/self/mounts") -> dict[str, str]:
    """Return {user, place} where autofs brings in the home of whoever logged in here, {} where it does not.

    systemd's own automounts stay whatever is removed; it calls them systemd-1.
    """
    user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    home = os.path.realpath(pwd.getpwnam(user).pw_dir)
    with open(mounts) as handle:
        for source, place, kind, *_ in (line.split(" ") for line in handle):
            if kind == "autofs" and source != "systemd-1" and os.path.commonpath([home, place]) == place:
                return {"user": user, "place": place}
    return {}


def apt_options() -> dict[str, str]:
    """Return the proxy and CA settings that apt would use; {} when apt cannot be asked."""
    names = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::https::CaInfo")
    options: dict[str, str] = {}
    try:
        output = subprocess.run(["apt-config", "dump"], check=False, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return options
    for name in names:
        match = re.search(rf'^{re.escape(name)} "([^"]*)";', output, re.MULTILINE | re.IGNORECASE)
        if match and match.group(1) and match.group(1) != "DIRECT":
            options[name] = match.group(1)
    return options


def repository(urls: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    """Fetch a repository's InRelease; return {url, error, signed, origin}, the last address's error if none answers."""
    http = options.get("Acquire::http::Proxy", "")
    proxies = {"http": http, "https": options.get("Acquire::https::Proxy", http)}
    context = ssl.create_default_context(cafile=options.get("Acquire::https::CaInfo"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({kind: proxy for kind, proxy in proxies.items() if proxy}),
        urllib.request.HTTPSHandler(context=context),
    )
    result = {"url": "", "error": "no address", "signed": "", "origin": ""}
    for url in urls:
        try:
            with opener.open(url, timeout=10) as response:
                text = response.read(4_000_000).decode(errors="replace")
        except urllib.error.HTTPError as error:
            result = dict(result, url=url, error=f"HTTP status {error.code}")
        except (urllib.error.URLError, OSError, ValueError) as error:
            result = dict(result, url=url, error=str(getattr(error, "reason", error)))
        else:
            origin = re.search(r"^Origin: (.*)$", text, re.MULTILINE)
            signature = re.search(r"-----BEGIN PGP SIGNATURE-----.*?\n\n(.*?)\n(?:=[^\n]*\n)?-----END", text, re.DOTALL)
            body = "".join(signature.group(1).split()) if signature else ""
            return {"url": url, "error": "", "signed": body, "origin": origin.group(1) if origin else ""}
    return result


def addresses() -> list[str]:
    """Return the addresses of this host's own interfaces; behind a translation the public one is not among them."""
    told = subprocess.run(["ip", "-json", "address"], check=True, capture_output=True, timeout=10).stdout
    return sorted(row["local"] for card in json.loads(told) for row in card.get("addr_info", ()) if "local" in row)


def input_drops(program: str = "/usr/sbin/nft") -> list[dict[str, str]]:
    """Return others' chains that drop what comes in and no rule of theirs lets in, as [{family, table, chain}].

    What iptables keeps by its nftables backend is among them, as Debian's does (iptables-nft(8)).
    """
    told = subprocess.run([program, "--json", "list", "chains"], check=True, capture_output=True, timeout=10).stdout
    chains = [row["chain"] for row in json.loads(told)["nftables"] if "chain" in row]
    return [
        {"family": chain["family"], "table": chain["table"], "chain": chain["name"]}
        for chain in chains
        if (chain.get("hook"), chain.get("policy")) == ("input", "drop")
        and chain["family"] in ("ip", "ip6", "inet")
        and (chain["family"], chain["table"]) != ("inet", "ratssaal")
    ]


def nginx_sites(folder: str = "/etc/nginx") -> list[str]:
    """Return the files of nginx's enabled sites but for Debian's default, Jitsi's own and ours."""
    enabled = [path for path in glob.glob(f"{folder}/sites-enabled/*") if os.path.basename(path) != "default"]
    found = []
    for path in [*enabled, *glob.glob(f"{folder}/conf.d/*.conf")]:
        text = attempt(readable_text, path) or ""
        serves = re.search(r"^[^#\n]*\bserver\s*\{", text, re.MULTILINE)
        if serves and "/usr/share/jitsi-meet" not in text and "Kept by Ratssaal" not in text:
            found.append(path)
    return sorted(found)


def readable_text(path: str) -> str:
    """Return the beginning of a file; what of it is no text is marked."""
    with open(path, errors="replace") as handle:
        return handle.read(1_000_000)


def people_in_meetings(address: str = "http://127.0.0.1:8080/colibri/stats") -> int:
    """Return how many people this host's bridge carries now (jitsi-videobridge:doc/statistics.md)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=3) as response:
        return int(json.loads(response.read(1_000_000))["participants"])


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function finds, or None when it cannot look."""
    try:
        return function(*arguments)
    except UNSEEN:
        return None


def collect(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return all facts of this host."""
    sshd = attempt(sshd_settings)
    return {
        "os": attempt(os_release),
        "architecture": os.uname().machine,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "root": os.geteuid() == 0,
        "lab_host": os.path.exists("/etc/ratssaal/lab-host"),
        "provisioned": os.path.isdir("/var/lib/ratssaal/manifest/web"),
        # Also a run that was killed has noted what it began (playbooks/host/ratssaal_host/manifest.py).
        "begun": os.path.isdir("/var/lib/ratssaal/manifest"),
        "systemd": os.path.isdir("/run/systemd/system"),
        "memory_mb": attempt(memory_mb),
        "disk_free_mb": {path: attempt(disk_free_mb, path) for path in ("/", "/var")},
        "locks": attempt(locks),
        "sockets": attempt(sockets),
        "sshd": sshd,
        "sshd_before": attempt(sshd_before, parameters.get("sshd_drop_in", "")),
        "logins": attempt(logins, sshd or {}),
        "addresses": attempt(addresses),
        "jitsi": attempt(installed, JITSI),
        "nginx_sites": attempt(nginx_sites),
        "firewalls": attempt(firewalls),
        "input_drops": attempt(input_drops),
        "people_in_meetings": attempt(people_in_meetings),
        "unwanted": attempt(installed, parameters.get("unwanted", [])),
        "automounted_home": attempt(automounted_home),
        "repository": attempt(repository, parameters.get("repository", []), apt_options()),
        "time": time.time(),
    }


def main(encoded: str) -> None:
    """Print the facts; the parameters are JSON in base64, so that no shell can misread them."""
    print(json.dumps(collect(json.loads(base64.b64decode(encoded)))))
