"""Whose keys open the host, whether each account is one person's, and whether it is still used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification import sshd
from orchestrator.verification.asking import ask, json_of
from orchestrator.verification.declarations import over
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

DAYS = 90
# The journal is kept for as long at most, and its oldest file ends within a day.
_SEEN_DAYS = DAYS - 2
# What opens an account, by the options that name it.
_SOURCES = ("authorizedkeysfile", "authorizedkeyscommand", "trustedusercakeys")
# No key leaves the host, only its fingerprint. Where a condition names another source, sshd is asked for each account; what holds
# for some addresses only it does not tell so, and is named. A kind of key has more names than one (rsa-sha2-512; OpenSSH: sshkey.c,
# sshkey_read), so any counts; a path may be a pattern (sshd_config(5), since OpenSSH 10). A log-in of any kind is a session of
# systemd-logind, found by its index (systemd: catalog, SD_MESSAGE_SESSION_START); an account whose keys or password were just set
# is in use, too.
_ACCOUNTS = (
    r"""python3 - <<'END'
import base64, binascii, glob, hashlib, json, os, pwd, re, subprocess, time
os.makedirs("/run/sshd", exist_ok=True)"""
    + sshd.READ
    + f"SOURCES = {_SOURCES!r}"
    + r"""
def sources(*given):
    said = subprocess.run(["sshd", "-T", *given], capture_output=True, text=True, check=True).stdout
    shown = dict(line.partition(" ")[::2] for line in said.splitlines())
    return {name: shown.get(name, "none") for name in SOURCES}
ordinary = sources()
conditional = [row for row in rows if row[1] in SOURCES]
def of_addresses(scope):
    words = scope.partition(" ")[2].rpartition(" in /")[0].lower().replace("=", " ").split()
    return not set(words[::2]) <= {"user", "group", "all", "invalid-user"}
elsewhere = [
    value + " (" + scope + ")" for scope, word, value in conditional
    if of_addresses(scope) and not set(value.lower().split()) <= {"none", *ordinary[word].lower().split()}
]
hashes = {row[0]: (row[1], row[2]) for row in (line.rstrip("\n").split(":") for line in open("/etc/shadow")) if len(row) > 2}
unknown = set()
def paths(pattern, person):
    named = {"%h": person.pw_dir, "%u": person.pw_name, "%U": str(person.pw_uid), "%%": "%"}
    strange = [token for token in re.findall("%.?", pattern) if token not in named]
    if strange:
        unknown.add(pattern)
        return []
    path = os.path.join(person.pw_dir, re.sub("%.", lambda token: named[token[0]], pattern))
    return [each for each in {path, *glob.glob(path)} if os.path.isfile(each)]
def fingerprints(path):
    for line in open(path, errors="replace"):
        for blob in re.findall(r"(?:^|\s)\S+\s+(AAAA[A-Za-z0-9+/]+=*)", "" if line.lstrip().startswith("#") else line):
            try:
                digest = hashlib.sha256(base64.b64decode(blob)).digest()
            except (ValueError, binascii.Error):
                continue
            yield "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
def journal(*arguments):
    child = subprocess.Popen(
        ["journalctl", "-q", "--no-pager", "-o", "short-unix", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    line = child.stdout.readline().split()
    child.kill()
    child.wait()
    return float(line[0]) if line and line[0].replace(b".", b"").isdigit() else 0
found, further = [], set()
for person in pwd.getpwall():
    keys, changed = set(), 0
    own = sources("-C", "user=" + person.pw_name + ",host=any,addr=192.0.2.1") if conditional else ordinary
    further |= {own[name] for name in SOURCES[1:]} - {"none"}
    for pattern in own["authorizedkeysfile"].split():
        for path in paths(pattern, person):
            keys |= set(fingerprints(path))
            changed = max(changed, os.stat(path).st_mtime)
    secret, day = hashes.get(person.pw_name, ("!", ""))
    password = secret[:1] not in ("", "!", "*") and person.pw_uid >= 1000
    if keys or password:
        used = journal("-r", "-n1", "MESSAGE_ID=8d45620c1a4348dbb17410da57c60c66", "USER_ID=" + person.pw_name)
        changed = max(changed, int(day or 0) * 86400)
        found.append({"account": person.pw_name, "keys": sorted(keys), "used": used, "changed": changed})
print(json.dumps({
    "accounts": found, "further": [*sorted(further), *elsewhere, *sorted(unknown)], "now": time.time(), "since": journal(),
}))
END"""
)


@pytest.mark.control("ACC-03")
def test_every_key_is_somebodys(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Each key that opens an account is declared for it, and each account is one person's."""
    told, configured = ask(host, _ACCOUNTS, sshd.FURTHER)
    said = json_of(told)
    declared = [row for row in subject.settings.get("verification_admins") or () if row]
    count = sum(len(row["keys"]) for row in said["accounts"])
    if not declared:
        where = ", ".join(row["account"] for row in said["accounts"]) or "no account"
        sheet.could_not_look(f"{count} keys open {where}; nobody is named whose they are (verification_admins)")
        return
    given = [f"{value} ({where})" for where, option, value in sshd.arguments(json_of(configured)) if option in _SOURCES]
    for source in (*said["further"], *given):
        sheet.could_not_look(f"sshd also takes keys that {source} names; whose they are is not known")
    for row in said["accounts"]:
        _judge_account(row, [each for each in declared if each["account"] == row["account"]], sheet)
    sheet.expect(True, f"{count} keys in {len(said['accounts'])} accounts looked at", "")


def _judge_account(row: Mapping[str, Any], declared: list[Mapping[str, Any]], sheet: Sheet) -> None:
    account = row["account"]
    owners = {key: each for each in declared for key in each["keys"]}
    if not declared:
        sheet.expect(False, f"{account} may log in and is nobody's", "declared in verification_admins, or closed")
        return
    for key in row["keys"]:
        if key not in owners:
            sheet.expect(False, f"a key that nobody declared opens {account}: {key}", "removed, or declared")
        elif owners[key].get("until") and over(owners[key]["until"]):
            sheet.expect(False, f"{key} still opens {account}", f"removed after {owners[key]['until']}, as declared")
    people = {owners[key]["who"] for key in row["keys"] if key in owners}
    if len(people) > 1:
        sheet.expect(False, f"{account} is opened by keys of {len(people)} people", "an account for each of them")


@pytest.mark.control("ACC-03")
def test_accounts_are_used(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """An account that nobody has used for months is one that nobody would miss, nor watch."""
    (told,) = ask(host, _ACCOUNTS)
    said = json_of(told)
    day = 86400
    seen_days = (said["now"] - said["since"]) / day if said["since"] else 0
    # Our own log-in must be among the sessions, else others' are not kept there either.
    kept = any(said["now"] - row["used"] < day for row in said["accounts"])
    for row in said["accounts"]:
        idle = (said["now"] - max(row["used"], row["changed"])) / day
        if idle <= DAYS or row["account"] == subject.user:
            sheet.expect(True, f"{row['account']} is in use", "")
        elif not kept:
            sheet.could_not_look(f"{row['account']}: no log-in is kept, not even ours (libpam-systemd)")
        elif seen_days >= _SEEN_DAYS or row["used"]:
            days = f"{idle:.0f}" if row["used"] else f"{seen_days:.0f} or more"
            sheet.expect(False, f"{row['account']} was not used for {days} days", f"used within {DAYS} days, or closed")
        else:
            sheet.could_not_look(f"{row['account']}: the journal reaches back {seen_days:.0f} days only")
    if not said["accounts"]:
        sheet.expect(True, "no account that anybody could use", "")
