# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole whatever happens, and in words why the system refuses one."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shutil
import subprocess

_REFUSALS: dict[int | None, str] = {
    errno.ENOSPC: "the disk is full. Hint: free space or inodes there (df -h, df -i), then run again",
    errno.EDQUOT: "the disk quota is used up. Hint: raise it or free space there, then run again",
    errno.EROFS: "the file system is read-only. Hint: dmesg tells whether its disk is damaged",
}


class FileProblem(Exception):
    """A file cannot be brought into its wanted state; the message says which and why."""


def reason(error: OSError) -> str:
    """Return in words why the system refused something, and what helps where its disk takes nothing."""
    return _REFUSALS.get(error.errno, error.strerror or str(error))


def explained(problem: FileProblem | OSError) -> str:
    """Return what a FileProblem or an OSError says, with the file's name."""
    if isinstance(problem, FileProblem):
        return str(problem)
    name = problem.filename2 or problem.filename
    return "%s: %s" % (name, reason(problem)) if name else reason(problem)


def owner_id(name: str) -> int | None:
    """Return the uid of `name`, or None if there is no such user yet."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(name: str) -> int | None:
    """Return the gid of `name`, or None if there is no such group yet."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def read_bytes(path: str) -> bytes | None:
    """Return a file's content, or None if it is not there."""
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def replace(path: str, content: bytes, mode: int, uid: int, gid: int, validate: str | None = None) -> None:
    """Replace a file atomically: a reader, or a power cut, sees the old or the new one whole. Raises FileProblem."""
    if os.path.isdir(path) and not os.path.islink(path):
        raise FileProblem("%s is a directory, a file was wanted" % path)
    # One fixed name per file, so that the next run replaces what a killed one left. O_EXCL follows no planted link.
    temporary = os.path.join(os.path.dirname(path), ".ratssaal-" + os.path.basename(path))
    try:
        remove(temporary)
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


def sync_folder(path: str) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _validate(path: str, command: str, temporary: str) -> None:
    done = subprocess.run(
        command.replace("%s", temporary), shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace").replace(temporary, path)
        raise FileProblem("%s is refused by its own program: %s" % (path, output[-800:].strip()))


def remove(path: str) -> None:
    """Remove what is at a path, if anything is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
