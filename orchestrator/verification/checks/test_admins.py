"""Whose keys open the host, whether each account is one person's, and whether it is still used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of
from orchestrator.verification.declarations import over
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.subject import Subject

DAYS = 90
# The journal is kept for as long at most, and its oldest file ends within a day.
_SEEN_DAYS = DAYS - 2
# No key leaves the host, only its fingerprint. A log-in of any kind is a session of systemd-logind, found by its index
# (systemd: catalog, SD_MESSAGE_SESSION_START); an account whose keys or password were just set is in use, too.
_ACCOUNTS = r"""python3 - <<'END'
import base64, binascii, glob, hashlib, json, os, pwd, re, subprocess, time
os.makedirs("/run/sshd", exist_ok=True)
said = subprocess.run(["sshd", "-T"], capture_output=True, text=True, check=True).stdout
rows = dict(line.partition(" ")[::2] for line in said.splitlines())
hashes = {row[0]: (row[1], row[2]) for row in (line.rstrip("\n").split(":") for line in open("/etc/shadow")) if len(row) > 2}
def fingerprints(path):
    for line in open(path, errors="replace"):
        for blob in re.findall(r"(?:^|\s)(?:ssh-|ecdsa-|sk-)\S+\s+(AAAA[A-Za-z0-9+/]+=*)", "" if line.lstrip().startswith("#") else line):
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
found = []
for person in pwd.getpwall():
    keys, changed = set(), 0
    for pattern in rows.get("authorizedkeysfile", "").split():
        path = pattern.replace("%h", person.pw_dir).replace("%u", person.pw_name).replace("%%", "%")
        path = os.path.join(person.pw_dir, path)
        if os.path.isfile(path):
            keys |= set(fingerprints(path))
            changed = max(changed, os.stat(path).st_mtime)
    secret, day = hashes.get(person.pw_name, ("!", ""))
    password = secret[:1] not in ("", "!", "*") and person.pw_uid >= 1000
    if keys or password:
        used = journal("-r", "-n1", "MESSAGE_ID=8d45620c1a4348dbb17410da57c60c66", "USER_ID=" + person.pw_name)
        changed = max(changed, int(day or 0) * 86400)
        found.append({"account": person.pw_name, "keys": sorted(keys), "used": used, "changed": changed})
further = [rows.get(name, "none") for name in ("authorizedkeyscommand", "trustedusercakeys")]
print(json.dumps({
    "accounts": found, "further": [name for name in further if name != "none"], "now": time.time(), "since": journal(),
}))
END"""


@pytest.mark.control("ACC-03")
def test_every_key_is_somebodys(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Each key that opens an account is declared for it, and each account is one person's."""
    (told,) = ask(host, _ACCOUNTS)
    said = json_of(told)
    declared = [row for row in subject.settings.get("verification_admins") or () if row]
    count = sum(len(row["keys"]) for row in said["accounts"])
    if not declared:
        where = ", ".join(row["account"] for row in said["accounts"]) or "no account"
        sheet.could_not_look(f"{count} keys open {where}; nobody is named whose they are (verification_admins)")
        return
    for source in said["further"]:
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
