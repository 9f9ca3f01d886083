# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of Prosody, and who sees them: equal to a list, without a restart of Prosody.

Each password is compared with the stored SCRAM keys, so an account that has not changed is left alone.
"""

from __future__ import annotations

import binascii
import glob
import hashlib
import hmac
import os
import re
import subprocess
import time

from . import digest, pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from .steps import Step

_DATA = "/var/lib/prosody"
_START_SECONDS = 90


def _encoded(text: str) -> str:
    """Encode a name as Prosody's datamanager does (prosody:util/datamanager.lua): all but letters and digits as %xx."""
    return "".join(c if c.isalnum() and c.isascii() else "".join("%%%02x" % byte for byte in c.encode()) for c in text)


def _decoded(text: str) -> str:
    return re.sub(r"%([0-9a-f]{2})", lambda match: chr(int(match.group(1), 16)), text)


def _path(jid: str, store: str = "accounts") -> str:
    user, _, domain = jid.partition("@")
    return "%s/%s/%s/%s.dat" % (_DATA, _encoded(domain), store, _encoded(user))


def _stored(path: str) -> dict[str, str] | None:
    """Return the fields of a stored account."""
    try:
        with open(path) as handle:
            return dict(re.findall(r'\["(\w+)"\]\s*=\s*"?([^";\n]*)"?;', handle.read()))
    except FileNotFoundError:
        return None


def _fits(fields: Mapping[str, str], password: str) -> bool:
    """Say whether the SCRAM-SHA-1 keys were made from this password (RFC 5802)."""
    try:
        salt, count = fields["salt"], int(fields["iteration_count"])
        salted = hashlib.pbkdf2_hmac("sha1", password.encode(), salt.encode(), count)
        stored = hashlib.sha1(hmac.new(salted, b"Client Key", "sha1").digest()).digest()
        return binascii.unhexlify(fields["stored_key"]) == stored
    except (KeyError, ValueError, binascii.Error):
        return False


def is_watched(jid: str, by: str) -> bool:
    """Say whether the account's roster lets `by` see it (subscription "from", RFC 6121).

    An item stands one step in; deeper, under the same name, lies what a component that runs already has asked for.
    """
    try:
        with open(_path(jid, "roster")) as handle:
            item = re.search(
                r'^\t\["%s"\]\s*=\s*\{(.*?)\n\t\}' % re.escape(by), handle.read(), re.DOTALL | re.MULTILINE
            )
    except FileNotFoundError:
        return False
    return item is not None and re.search(r'\["subscription"\]\s*=\s*"(from|both)"', item.group(1)) is not None


def keys_hash(jid: str) -> str | None:
    """Return the keyed hash of an account's password keys, None where there is no such account."""
    fields = _stored(_path(jid))
    if fields is None:
        return None
    keys = [fields.get(name, "") for name in ("stored_key", "server_key", "salt", "iteration_count")]
    return digest.keyed(jid, "\n".join(keys).encode())


def in_domain(domain: str) -> list[str]:
    """Return the accounts of a domain, sorted."""
    paths = glob.glob("%s/%s/accounts/*.dat" % (_DATA, _encoded(domain)))
    return sorted("%s@%s" % (_decoded(os.path.basename(path)[:-4]), domain) for path in paths)


def _watch(step: Step, wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """Let a component see an account, as jitsi-meet-prosody does at its first installation; return the changed accounts.

    Without it mod_client_proxy knows of no Jicofo and answers every request with service-unavailable.
    """
    changed = []
    for entry in wanted:
        if is_watched(entry["jid"], entry["by"]):
            continue
        changed.append(entry["jid"])
        if step.check_mode:
            continue
        # Whoever is logged in already keeps the roster that it found.
        pending.mark("restart", entry["restarts"])
        _prosodyctl(step, ["mod_roster_command", "subscribe", entry["by"], entry["jid"]])
        if not is_watched(entry["jid"], entry["by"]):
            step.fail(msg="prosodyctl did not let %s see %s" % (entry["by"], entry["jid"]))
    return changed


def _prosodyctl(step: Step, words: Sequence[str], stdin: bytes | None = None) -> None:
    """Run prosodyctl; a Prosody that has just started opens its socket when all its modules are there, on a slow host much later."""
    ends = time.monotonic() + _START_SECONDS
    while True:
        done = subprocess.run(
            ["prosodyctl", *words], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        output = done.stdout.decode(errors="replace")
        if "Unable to connect to server" not in output or time.monotonic() > ends or not _runs():
            break
        time.sleep(0.5)
    # prosodyctl answers some failures with exit code 0 and an error on the terminal
    if done.returncode != 0 or "rror" in output:
        step.fail(msg="prosodyctl %s failed: %s" % (words[0], output.strip()[-400:]))


def _runs() -> bool:
    """Say whether Prosody runs or is being started; one that ended is not waited for."""
    argv = ["systemctl", "is-active", "prosody.service"]
    state = subprocess.run(argv, stdout=subprocess.PIPE, check=False).stdout.decode().strip()
    return state in ("active", "activating", "reloading")


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps: hashes of the keys, the domains that have no other accounts, who sees whom."""
    params = step.params
    jids = [account["jid"] for account in params["accounts"]]
    items = [{"kind": "account", "name": jid, "hash": keys_hash(jid)} for jid in jids]
    items += [
        {"kind": "accounts", "name": domain, "only": [jid for jid in jids if jid.partition("@")[2] == domain]}
        for domain in params["absent_others_in"]
    ]
    watched = [(entry["jid"], entry["by"]) for entry in params["watched"]]
    return items + [{"kind": "roster", "name": "%s for %s" % pair, "jid": pair[0], "by": pair[1]} for pair in watched]


def bring(step: Step) -> dict[str, Any]:
    """Compare, register what differs, remove what is not wanted; return the changed accounts."""
    changed, wanted = [], {}
    for account in step.params["accounts"]:
        wanted[account["jid"]] = _path(account["jid"])
        fields = _stored(wanted[account["jid"]])
        if fields is not None and _fits(fields, account["password"]):
            continue
        changed.append(account["jid"])
        if not step.check_mode:
            # `passwd` and `adduser` ask twice on standard input: a password never stands in a process list.
            answer = ("%s\n%s\n" % (account["password"], account["password"])).encode()
            _prosodyctl(step, ["passwd" if fields is not None else "adduser", account["jid"]], answer)
            if not _fits(_stored(wanted[account["jid"]]) or {}, account["password"]):
                step.fail(msg="prosodyctl did not store the account %s" % account["jid"])
    for domain in step.params["absent_others_in"]:
        for jid in in_domain(domain):
            if _path(jid) not in wanted.values():
                changed.append(jid)
                if not step.check_mode:
                    _prosodyctl(step, ["deluser", jid])
                    # Prosody does not look whether the file system let it (prosody:util/datamanager.lua).
                    if os.path.exists(_path(jid)):
                        step.fail(msg="prosodyctl did not remove the account %s" % jid)
    changed += _watch(step, step.params["watched"])
    return {"changed": bool(changed), "accounts": sorted(set(changed))}
