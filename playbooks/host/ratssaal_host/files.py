# SPDX-License-Identifier: GPL-3.0-or-later
"""What our modules share on the target: atomic files, their state, and the markers of pending restarts."""

from __future__ import annotations

import base64
import contextlib
import errno
import grp
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile

from . import digest

PENDING = "/var/lib/ratssaal/pending"
# How our files begin that lie where others' do.
_MARK = b"# Kept by Ratssaal"
_REFUSALS = {
    errno.ENOSPC: "the disk is full. Hint: free space or inodes there (df -h, df -i), then run again",
    errno.EDQUOT: "the disk quota is used up. Hint: raise it or free space there, then run again",
    errno.EROFS: "the file system is read-only. Hint: dmesg tells whether its disk is damaged",
}


class FileProblem(Exception):
    """A file cannot be brought into its wanted state; the message says which and why."""


def reason(error):
    """Return in words why the system refused something, and what helps where its disk takes nothing."""
    return _REFUSALS.get(error.errno, error.strerror or str(error))


def explained(problem):
    """Return what a FileProblem or an OSError says, with the file's name."""
    if isinstance(problem, FileProblem):
        return str(problem)
    name = problem.filename2 or problem.filename
    return "%s: %s" % (name, reason(problem)) if name else reason(problem)


def owner_id(name):
    """Return the uid of `name`, or None if there is no such user yet."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name):
    """Return the gid of `name`, or None if there is no such group yet."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def read_bytes(path):
    """Return a file's content, or None if it is not there."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def differences(entry):
    """Return what differs between the host and one wanted file: a list of words, empty where nothing does."""
    path, state = entry["dest"], entry["state"]
    try:
        now = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return [] if state in ("absent", "given_back") else ["missing"]
    if state == "absent":
        return ["present"]
    if state == "given_back":
        return ["present"] if stat.S_ISREG(now.st_mode) and read_bytes(path).startswith(_MARK) else []
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


def _same(path, entry):
    """Say whether a file's content is the wanted one, which the entry has, or only its hash."""
    content = read_bytes(path)
    return content == entry["bytes"] if "bytes" in entry else digest.keyed(path, content) == entry["hash"]


def applied_file(entry):
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


def applied_accounts(entry):
    """Return the system's users and groups that a file of ours for systemd-sysusers makes (sysusers.d(5))."""
    if os.path.dirname(entry["dest"]) != "/etc/sysusers.d" or entry["state"] != "file":
        return []
    users: set = set()
    members: dict = {}
    for line in entry["bytes"].decode(errors="replace").splitlines():
        kind, *words = shlex.split(line, comments=True) or [""]
        if kind.startswith("u"):
            users.add(words[0])
        elif kind.startswith("g"):
            members.setdefault(words[0], set())
        elif kind == "m":
            members.setdefault(words[1], set()).add(words[0])
    found: list = [{"kind": "user", "name": name} for name in sorted(users)]
    return found + [
        {"kind": "group", "name": name, "members": sorted(names)} for name, names in sorted(members.items())
    ]


def write_entry(entry):
    """Bring one file into its wanted state. Raises FileProblem."""
    path, state = entry["dest"], entry["state"]
    if state == "absent":
        _remove(path)
        return
    if state == "given_back":
        _give_back(path)
        return
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.makedirs(parent, 0o755)
    if state == "link":
        temporary = path + ".ratssaal-new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        if os.path.isdir(path) and not os.path.islink(path):
            raise FileProblem("%s is a directory, a link was wanted" % path)
        os.symlink(entry["link"], temporary)
        os.replace(temporary, path)
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


def _give_back(path):
    """Put in place of a file of ours what its package brings there, or nothing where no package does. Raises FileProblem."""
    found = subprocess.run(["dpkg-query", "-S", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if found.returncode != 0:
        _remove(path)
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


def write_together(entries):
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


def replace(path, content, mode, uid, gid, validate=None):
    """Replace a file atomically: a reader, or a power cut, sees the old or the new one whole. Raises FileProblem."""
    if os.path.isdir(path) and not os.path.islink(path):
        raise FileProblem("%s is a directory, a file was wanted" % path)
    # One fixed name per file, so that the next run replaces what a killed one left. O_EXCL follows no planted link.
    temporary = os.path.join(os.path.dirname(path), ".ratssaal-" + os.path.basename(path))
    try:
        _remove(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if validate:
            _validate(path, validate, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise FileProblem("%s cannot be written: %s" % (path, reason(error))) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def sync_folder(path):
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _validate(path, command, temporary):
    done = subprocess.run(
        command.replace("%s", temporary), shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace").replace(temporary, path)
        raise FileProblem("%s is refused by its own program: %s" % (path, output[-800:].strip()))


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def mark_pending(kind, units):
    """Note that `units` need a "restart" or "reload", before the file that needs it changes.

    A run that is killed in between leaves the note, and the next run's step with units acts on it.
    """
    folder = os.path.join(PENDING, kind)
    for unit in units:
        os.makedirs(folder, 0o755, exist_ok=True)
        with open(os.path.join(folder, unit), "w") as handle:
            handle.flush()
            os.fsync(handle.fileno())


def pending(kind):
    """Return the units that need a "restart" or "reload"."""
    try:
        return sorted(os.listdir(os.path.join(PENDING, kind)))
    except FileNotFoundError:
        return []


def clear_pending(kind, unit):
    """Forget that `unit` needs a "restart" or "reload"."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(PENDING, kind, unit))


def _entry(raw, content):
    entry: dict = {
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


def diff(entry, reasons):
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


def _entries(step):
    return [_entry(raw, step.contents.get(str(number), "")) for number, raw in enumerate(step.params)]


def applied(step):
    """Return what the manifest keeps of this step."""
    return [item for entry in _entries(step) for item in (applied_file(entry), *applied_accounts(entry))]


def bring(step):
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
            mark_pending("restart", entry["restarts"])
            mark_pending("reload", entry["reloads"])
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
