# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: what differs from their wanted state, and how it is brought about."""

from __future__ import annotations

import base64
import os
import shlex
import stat
import subprocess
import tempfile

from . import digest, originals, pending
from .disk import FileProblem, explained, group_id, owner_id, read_bytes, remove, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .steps import Step


def differences(entry: Mapping[str, Any]) -> list[str]:
    """Return what differs between the host and one wanted file: a list of words, empty where nothing does."""
    path, state = entry["dest"], entry["state"]
    try:
        now = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        # Somebody removed our file: what it had replaced comes back all the same.
        waits = state == "given_back" and os.path.lexists(originals.kept_at(path))
        return ["missing"] if waits or state not in ("absent", "given_back") else []
    if state == "absent":
        return ["present"]
    if state == "given_back":
        return ["present"] if originals.is_ours(path) else []
    if state == "link":
        same = stat.S_ISLNK(now.st_mode) and os.readlink(path) == entry["link"]
        return [] if same else ["link"]
    if state == "directory" and not stat.S_ISDIR(now.st_mode):
        return ["type"]
    if state == "file" and not stat.S_ISREG(now.st_mode):
        return ["type"]
    found = []
    if state == "file" and (entry["force"] or now.st_size == 0) and not _same(path, entry):
        found.append("content")
    if stat.S_IMODE(now.st_mode) != int(entry["mode"], 8):
        found.append("mode")
    if now.st_uid != owner_id(entry["owner"]):
        found.append("owner")
    if now.st_gid != group_id(entry["group"]):
        found.append("group")
    return found


def _same(path: str, entry: Mapping[str, Any]) -> bool:
    """Say whether a file's content is the wanted one, which the entry has, or only its hash."""
    content = read_bytes(path)
    if "bytes" in entry:
        return content == entry["bytes"]
    return content is not None and digest.keyed(path, content) == entry["hash"]


def applied_file(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest keeps of a file that is in its wanted state: an entry as `differences` takes it."""
    state = entry["state"]
    item = {"kind": "file", "name": entry["dest"], "dest": entry["dest"], "state": state}
    if state == "link":
        item["link"] = entry["link"]
    if state in ("file", "directory"):
        item.update({key: entry[key] for key in ("mode", "owner", "group")})
    if state == "file":
        item["force"] = entry["force"]
        # Of a file that keeps what others write into it only that it is not empty can be compared.
        item["hash"] = digest.keyed(entry["dest"], entry["bytes"]) if entry["force"] else ""
    return item


def applied_accounts(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the system's users and groups that a file of ours for systemd-sysusers makes (sysusers.d(5))."""
    if os.path.dirname(entry["dest"]) != "/etc/sysusers.d" or entry["state"] != "file":
        return []
    users: set[str] = set()
    members: dict[str, set[str]] = {}
    for line in entry["bytes"].decode(errors="replace").splitlines():
        kind, *words = shlex.split(line, comments=True) or [""]
        if kind.startswith("u"):
            users.add(words[0])
        elif kind.startswith("g"):
            members.setdefault(words[0], set())
        elif kind == "m":
            members.setdefault(words[1], set()).add(words[0])
    found: list[dict[str, Any]] = [{"kind": "user", "name": name} for name in sorted(users)]
    return found + [
        {"kind": "group", "name": name, "members": sorted(names)} for name, names in sorted(members.items())
    ]


def write_entry(entry: Mapping[str, Any]) -> None:
    """Bring one file into its wanted state. Raises FileProblem."""
    path, state = entry["dest"], entry["state"]
    if state == "absent":
        remove(path)
        return
    if state == "given_back":
        _give_back(path)
        return
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.makedirs(parent, 0o755)
    if state == "link":
        _link(path, entry["link"])
        return
    uid, gid = owner_id(entry["owner"]), group_id(entry["group"])
    if uid is None or gid is None:
        raise FileProblem("%s: no user %s or no group %s on this host" % (path, entry["owner"], entry["group"]))
    if state == "directory":
        if os.path.lexists(path) and not os.path.isdir(path):
            raise FileProblem("%s is not a directory" % path)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, gid)
        os.chmod(path, int(entry["mode"], 8))
        return
    content = entry["bytes"]
    if not entry["force"]:
        kept = read_bytes(path)
        content = kept if kept else content
    replace(path, content, int(entry["mode"], 8), uid, gid, entry["validate"])


def _link(path: str, target: str) -> None:
    temporary = path + ".ratssaal-new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    if os.path.isdir(path) and not os.path.islink(path):
        raise FileProblem("%s is a directory, a link was wanted" % path)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def _give_back(path: str) -> None:
    """Put in place of a file of ours what stood there before, else what its package brings, else nothing. Raises FileProblem."""
    kept = originals.kept_at(path)
    if os.path.islink(kept):
        _link(path, os.readlink(kept))
        remove(kept)
        return
    original = read_bytes(kept)
    if original is not None:
        before = os.stat(kept)
        replace(path, original, stat.S_IMODE(before.st_mode), before.st_uid, before.st_gid)
        remove(kept)
        return
    found = subprocess.run(["dpkg-query", "-S", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if found.returncode != 0:
        remove(path)
        return
    package, now = found.stdout.decode().partition(":")[0], os.stat(path)
    with tempfile.TemporaryDirectory() as folder:
        script = "apt-get -q download %s && dpkg-deb --fsys-tarfile *.deb | tar -xO .%s > content"
        done = subprocess.run(
            script % (shlex.quote(package), shlex.quote(path)),
            shell=True,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        content = read_bytes(os.path.join(folder, "content"))
    if not content:
        said = done.stdout.decode(errors="replace").strip()[-400:]
        hint = "Hint: try `apt-get update` there, then run again"
        raise FileProblem(
            "%s: the package %s, which brings it, cannot be fetched: %s\n%s" % (path, package, said, hint)
        )
    replace(path, content, stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid)


def write_together(entries: Iterable[dict[str, Any]]) -> None:
    """Write files of which one is of no use without the others: none is replaced before all are on the disk. Raises FileProblem."""
    drafts = {entry["dest"] + ".ratssaal-new": entry for entry in entries}
    try:
        for draft, entry in drafts.items():
            write_entry(entry | {"dest": draft})
        for draft, entry in drafts.items():
            os.replace(draft, entry["dest"])
    finally:
        for draft in drafts:
            if os.path.lexists(draft):
                os.unlink(draft)


def _entry(raw: Mapping[str, Any], content: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "owner": "root",
        "group": "root",
        "validate": None,
        "secret": False,
        "force": True,
        "restarts": [],
        "reloads": [],
    }
    entry.update(raw)
    entry.setdefault("state", "link" if "link" in entry else "file")
    entry.setdefault("mode", "0755" if entry["state"] == "directory" else "0644")
    if entry["state"] == "file":
        entry["bytes"] = base64.b64decode(content)
    return entry


def diff(entry: Mapping[str, Any], reasons: list[str]) -> dict[str, str]:
    """Return what differs as Ansible shows it; of secrets that something does."""
    header = "%s (%s)" % (entry["dest"], ", ".join(reasons))
    if (
        entry.get("secret")
        or entry["state"] != "file"
        or "content" not in reasons + ["content"] * ("missing" in reasons)
    ):
        return {"before_header": header, "after_header": header, "before": "", "after": ""}
    before = read_bytes(entry["dest"]) or b""
    return {
        "before_header": header,
        "after_header": header,
        "before": before.decode(errors="replace"),
        "after": entry["bytes"].decode(errors="replace"),
    }


def _entries(step: Step) -> list[dict[str, Any]]:
    return [_entry(raw, step.contents.get(str(number), "")) for number, raw in enumerate(step.params)]


def applied(step: Step) -> list[dict[str, Any]]:
    """Return what the manifest keeps of this step."""
    return [item for entry in _entries(step) for item in (applied_file(entry), *applied_accounts(entry))]


def bring(step: Step) -> dict[str, Any]:
    """Compare, and write what differs; return what that was, with what has to be restarted or reloaded for it."""
    changed, diffs, restarts, reloads = [], [], set(), set()
    for entry in _entries(step):
        reasons = differences(entry)
        if not reasons:
            continue
        step.begins()
        changed.append(entry["dest"])
        if step.diff:
            diffs.append(diff(entry, reasons))
        restarts.update(entry["restarts"])
        reloads.update(entry["reloads"])
        if step.check_mode:
            continue
        try:
            pending.mark("restart", entry["restarts"])
            pending.mark("reload", entry["reloads"])
            write_entry(entry)
        except (FileProblem, OSError) as problem:
            step.fail(msg=explained(problem), changed=len(changed) > 1, changed_paths=changed[:-1])
    return {
        "changed": bool(changed),
        "changed_paths": changed,
        "restarts": sorted(restarts),
        "reloads": sorted(reloads),
        "diff": diffs,
    }
