# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a certificate from the site's own CA: the private key never leaves the host."""

from __future__ import annotations

import os
import re
import subprocess

from . import pending
from .disk import FileProblem, explained, group_id, read_bytes, replace
from .files import applied_file, write_together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from .steps import Step

_FILES = {"key.pem": 0o640, "fullchain.pem": 0o644, "ca.pem": 0o644}


def _openssl(*words: str, stdin: bytes | None = None) -> str | None:
    done = subprocess.run(
        ["openssl", *words], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def reasons(parameters: Mapping[str, Any]) -> list[str]:
    """Return why what is there does not do: a list of words, empty where it does."""
    folder = parameters["dest"]
    chain, key = os.path.join(folder, "fullchain.pem"), os.path.join(folder, "key.pem")
    if not os.path.exists(chain) or not os.path.exists(key):
        return ["missing"]
    found = []
    public, own = _openssl("x509", "-in", chain, "-noout", "-pubkey"), _openssl("pkey", "-in", key, "-pubout")
    if public is None or public != own:
        found.append("key")
    names = _openssl("x509", "-in", chain, "-noout", "-ext", "subjectAltName") or ""
    if sorted(re.findall(r"DNS:([^,\s]+)", names)) != sorted(parameters["names"]):
        found.append("names")
    authority = parameters["ca_certificate"].encode()
    if _openssl("verify", "-no-CApath", "-no-CAstore", "-CAfile", "/dev/stdin", chain, stdin=authority) is None:
        found.append("issuer")
    if _openssl("x509", "-in", chain, "-noout", "-checkend", str(parameters["renew_days"] * 86400)) is None:
        found.append("expiry")
    return found


def _modes(parameters: Mapping[str, Any]) -> list[tuple[str, int, int | None]]:
    """Return the files of ours whose mode or group is not as it should be."""
    found = []
    for name, mode in _FILES.items():
        path = os.path.join(parameters["dest"], name)
        if os.path.exists(path):
            now = os.stat(path)
            group = group_id(parameters["group"]) if name == "key.pem" else 0
            if (now.st_mode & 0o7777, now.st_uid, now.st_gid) != (mode, 0, group):
                found.append((path, mode, group))
    return found


def _request(parameters: Mapping[str, Any]) -> str | None:
    """Make a new key beside the old one and return the signing request, None where openssl does not. Raises FileProblem."""
    os.makedirs(parameters["dest"], 0o755, exist_ok=True)
    key = os.path.join(parameters["dest"], "key.new.pem")
    made = _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    if made is None:
        return None
    replace(key, made.encode(), 0o600, os.getuid(), os.getgid())
    return _openssl("req", "-new", "-key", key, "-subj", "/CN=" + parameters["names"][0][:64])


def paths(parameters: Mapping[str, Any]) -> list[str]:
    """Return the files of a certificate."""
    return [os.path.join(parameters["dest"], name) for name in _FILES]


def _entries(parameters: Mapping[str, Any], contents: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Return the files of a certificate, whose contents are given in the order of _FILES, as entries of a manifest."""
    for (name, mode), content in zip(_FILES.items(), contents, strict=True):
        path, group = os.path.join(parameters["dest"], name), parameters["group"] if name == "key.pem" else "root"
        entry = {"dest": path, "state": "file", "mode": "%04o" % mode, "owner": "root", "group": group}
        yield entry | {"force": True, "validate": None, "bytes": content}


def _install(step: Step) -> None:
    parameters = step.params
    folder = parameters["dest"]
    new_key = read_bytes(os.path.join(folder, "key.new.pem"))
    if new_key is None:
        raise FileProblem("no key waits for this certificate in %s" % folder)
    authority = parameters["ca_certificate"].encode()
    entries = list(_entries(parameters, (new_key, parameters["certificate"].encode() + authority, authority)))
    step.begins()
    pending.mark("reload", parameters["reloads"])
    # A service that starts with the key of one certificate and the chain of another does not.
    write_together(entries)
    os.unlink(os.path.join(folder, "key.new.pem"))


def applied(step: Step) -> list[dict[str, Any]] | None:
    """Return what the manifest keeps of a certificate that does; None where another phase follows."""
    parameters = step.params
    if parameters["phase"] != "look" or step.done["reasons"]:
        return None
    contents = [read_bytes(path) or b"" for path in paths(parameters)]
    return [applied_file(entry) for entry in _entries(parameters, contents)]


def bring(step: Step) -> dict[str, Any]:
    """Look at what is there, and make a request where it does not do; or install what was signed."""
    parameters = step.params
    if parameters["phase"] == "install":
        try:
            _install(step)
        except (FileProblem, OSError) as problem:
            step.fail(msg=explained(problem))
        return {"changed": True, "changed_paths": [parameters["dest"]]}
    why = reasons(parameters)
    wrong_modes = [] if why else _modes(parameters)
    if read_bytes(os.path.join(parameters["dest"], "ca.pem")) != parameters["ca_certificate"].encode() and not why:
        why = ["ca"]
    for path, mode, group in wrong_modes:
        if not step.check_mode:
            if group is None:
                raise FileProblem("%s: no group %s on this host" % (path, parameters["group"]))
            os.chown(path, 0, group)
            os.chmod(path, mode)
    request = _request(parameters) if why and not step.check_mode else ""
    if request is None:
        step.fail(msg="openssl could not make a key and a request")
    wrong = [parameters["dest"]] if why else [path for path, _, _ in wrong_modes]
    return {"changed": bool(wrong), "changed_paths": wrong, "reasons": why, "requests": [request]}
