"""Who gets in, and who can read the secrets."""

from __future__ import annotations

import pytest
import testinfra.host

from orchestrator.verification.asking import answer, ask, json_of, text
from orchestrator.verification.sheet import Sheet

WANTED = {
    "passwordauthentication": ("no",),
    "kbdinteractiveauthentication": ("no",),
    "permitemptypasswords": ("no",),
    "pubkeyauthentication": ("yes",),
    "permitrootlogin": ("no", "without-password", "prohibit-password"),
    "allowagentforwarding": ("no",),
    "x11forwarding": ("no",),
    "permituserenvironment": ("no",),
}
MINIMUM_TRIES = 3
# A random text of 22 characters of base64 carries 128 bits.
MINIMUM_LENGTH = 22

# Runs on the host, so that no secret ever leaves it: only names, lengths and modes are printed.
_SECRETS = r"""python3 - <<'END'
import glob, json, os, pwd, grp, re, stat
places = {
    "/etc/turnserver.conf": r"^static-auth-secret=(\S+)",
    "/etc/jitsi/videobridge/jvb.conf": r'PASSWORD\s*=\s*"([^"]+)"',
    "/etc/jitsi/jicofo/jicofo.conf": r'password\s*[=:]\s*"([^"]+)"',
    "/etc/jitsi/jicofo/config": r"^JICOFO_AUTH_PASSWORD=(\S+)",
    "/etc/jitsi/videobridge/config": r"^JVB_SECRET=(\S+)",
    "/etc/jitsi/videobridge/sip-communicator.properties": r"PASSWORD=(\S+)",
    "/etc/ratssaal/tls/key.pem": None,
    "/etc/ratssaal/tls-internal/key.pem": None,
}
for path in glob.glob("/etc/prosody/conf.avail/*.cfg.lua"):
    places[path] = r'(?:external_service_secret|app_secret)\s*=\s*"([^"]+)"'
for path in glob.glob("/var/lib/prosody/*/accounts/*.dat"):
    places[path] = None
commands = []
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        commands.append(open(path, "rb").read())
    except OSError:
        pass
def anybody(paths):
    # What a process without any rights of its own can really open, directories included.
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writer, json.dumps([path for path in paths if os.access(path, os.R_OK)]).encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    return json.loads(os.fdopen(reader).read())
readable = anybody(sorted(places))
rows = []
for path, pattern in sorted(places.items()):
    if not os.path.exists(path):
        continue
    info = os.stat(path)
    content = open(path, errors="replace").read() if pattern else ""
    found = re.findall(pattern, content, re.M) if pattern else []
    if pattern and not found:
        continue
    rows.append({
        "path": path, "mode": stat.S_IMODE(info.st_mode), "owner": pwd.getpwuid(info.st_uid).pw_name,
        "group": grp.getgrgid(info.st_gid).gr_name, "anybody": path in readable, "lengths": [len(secret) for secret in found],
        "in_arguments": sum(secret.encode() in command for secret in found for command in commands),
        "distinct": [len(set(secret)) for secret in found],
    })
print(json.dumps(rows))
END"""


@pytest.mark.control("ACC-01")
def test_sshd(host: testinfra.host.Host, sheet: Sheet) -> None:
    """What is in effect for root, for an ordinary user, and for everybody."""
    for who, result in zip(
        ("everybody", "root", "nobody"),
        ask(
            host,
            "mkdir -p /run/sshd; sshd -T",
            "mkdir -p /run/sshd; sshd -T -C user=root,host=any,addr=192.0.2.1",
            "mkdir -p /run/sshd; sshd -T -C user=nobody,host=any,addr=192.0.2.1",
        ),
        strict=True,
    ):
        rows = dict(line.partition(" ")[::2] for line in text(result).splitlines())
        for option, wanted in WANTED.items():
            seen = rows.get(option, "not there")
            sheet.expect(seen in wanted, f"{option} {seen} (for {who})", f"{option} {' or '.join(wanted)}")
        tries = int(rows["maxauthtries"])
        sheet.expect(tries >= MINIMUM_TRIES, f"maxauthtries {tries} (for {who})", f"at least {MINIMUM_TRIES}")
    groups = [
        line for line in answer(host, "mkdir -p /run/sshd; sshd -T").splitlines() if line.startswith("allowgroups")
    ]
    sheet.expect(bool(groups), groups[0] if groups else "everybody may try to log in", "allowgroups is set")


@pytest.mark.control("ACC-05")
def test_secrets(host: testinfra.host.Host, sheet: Sheet) -> None:
    """Nobody else can read them, they are long, and no process list shows them."""
    (result,) = ask(host, _SECRETS)
    for row in json_of(result):
        path, mode = row["path"], row["mode"]
        place = f"{path} {mode:04o} {row['owner']}:{row['group']}"
        sheet.expect(
            not row["anybody"], f"{place}{' can be read by anybody' * row['anybody']}", "readable by its service only"
        )
        if row["lengths"]:
            sheet.expect(not mode & 0o037, place, "0640 or stricter")
        for length, distinct in zip(row["lengths"], row["distinct"], strict=True):
            strong = length >= MINIMUM_LENGTH and distinct >= MINIMUM_LENGTH // 3
            if not strong:
                sheet.expect(
                    False, f"{path} holds a secret of {length} characters", f"random, at least {MINIMUM_LENGTH}"
                )
        if row["in_arguments"]:
            sheet.expect(False, f"a secret of {path} stands in a process's arguments", "in files only")
