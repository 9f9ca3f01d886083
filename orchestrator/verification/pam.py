"""Whether a stack of PAM can end well although every module that asks for something was answered wrongly (pam.conf(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

# Python for a host: `stack(name)` returns a service's lines of the kind auth as [control, module, arguments], those of a substack as
# ["substack", lines]. A service that has none of its own gets those of `other`; an include that is missing refuses everybody.
READ = r"""
def stack(name, depth=0):
    path = next((path for path in ("/etc/pam.d/" + name, "/usr/lib/pam.d/" + name) if os.path.exists(path)), None)
    if path is None or depth > 9:
        return [["required", "pam_deny.so", ""]] if depth else stack("other", 1)
    lines = []
    for line in open(path, errors="replace").read().replace("\\\n", " ").splitlines():
        line = line.partition("#")[0].strip()
        include = re.match(r"@include\s+(\S+)|-?auth\s+include\s+(\S+)", line, re.I)
        inner = re.match(r"-?auth\s+substack\s+(\S+)", line, re.I)
        found = re.match(r"-?auth\s+(\[[^\]]*\]|\w+)\s+(\S+)\s*(.*)", line, re.I)
        if include:
            lines += stack(include[1] or include[2], depth + 1)
        elif inner:
            lines.append(["substack", stack(inner[1], depth + 1)])
        elif found:
            lines.append([found[1], found[2], found[3]])
    return lines if lines or depth else stack("other", 1)
"""
# What wants a secret, a token, a key or a fingerprint: a stranger's answer is wrong, and there may be nothing to compare it with.
_ASK = {
    *("ccreds", "duo", "fprintd", "google_authenticator", "krb5", "ldap", "oath", "p11", "pkcs11", "poldi"),
    *("radius", "rsa", "securid", "ssh", "ssh_agent_auth", "sss", "systemd_home", "tacplus", "timestamp"),
    *("u2f", "unix", "userdb", "winbind", "yubico"),
}
# What decides by something else, or nothing at all.
_ASK_NOTHING = {
    *("access", "cap", "debug", "echo", "ecryptfs", "env", "faildelay", "faillock", "ftp", "gnome_keyring"),
    *("group", "issue", "keyinit", "kwallet5", "lastlog", "limits", "listfile", "localuser", "loginuid"),
    *("mail", "motd", "mount", "namespace", "nologin", "permit", "rhosts", "rootok", "securetty", "selinux"),
    *("sepermit", "shells", "succeed_if", "tally2", "time", "tty_audit", "umask", "usertype", "warn"),
    *("wheel", "xauth"),
}
_WRONG = ("auth_err", "user_unknown", "authinfo_unavail")
_WORDS = {
    "required": "success=ok new_authtok_reqd=ok ignore=ignore default=bad",
    "requisite": "success=ok new_authtok_reqd=ok ignore=ignore default=die",
    "sufficient": "success=done new_authtok_reqd=done default=ignore",
    "optional": "success=ok new_authtok_reqd=ok default=ignore",
}
# What a stack has come to so far: nothing, good, bad, or an end that is neither a refusal nor good.
_OPEN, _GOOD, _BAD, _OTHER = range(4)
Line = Sequence[Any]


def _short(module: str) -> str:
    return module.rpartition("/")[2].removeprefix("pam_").removesuffix(".so")


def unknown(stack: Sequence[Line]) -> set[str]:
    """Return the modules of which we do not know what they ask for."""
    found: set[str] = set()
    for first, second, *_ in stack:
        if first == "substack":
            found |= unknown(second)
        elif _short(second) not in _ASK | _ASK_NOTHING | {"deny"}:
            found.add(second)
    return found


def _outcomes(line: Line, trusting: bool) -> Iterator[tuple[str, str]]:
    """Yield what a line may return, and which module says so. `trusting`: what we do not know asks, and refuses."""
    if line[0] == "substack":
        for good, module in _ends(line[1], trusting).items():
            yield ("success" if good else "auth_err"), module
        return
    _, module, arguments = line
    name = _short(module)
    # Without something to compare with they let everybody in; pam_unix looks at accounts without a password then (ACC-02).
    lenient = name != "unix" and {"nouserok", "nullok"} & set(arguments.split())
    if name in _ASK or (trusting and name not in _ASK_NOTHING and name != "deny"):
        yield from ((outcome, module) for outcome in (*_WRONG, *(["success", "ignore"] if lenient else [])))
    elif name == "permit":
        yield "success", module
    elif name == "deny":
        yield "auth_err", module
    else:
        yield from ((outcome, module) for outcome in ("success", "ignore", "auth_err"))


def _action(control: str, outcome: str) -> str:
    actions = dict(re.findall(r"(\w+)=(\w+)", _WORDS.get(control.lower(), control)))
    return str(actions.get(outcome, actions.get("default", "bad")))


def _after(state: int, action: str, outcome: str) -> int:
    """Return what a stack has come to after one line (Linux-PAM: libpam/pam_dispatch.c)."""
    if action in ("ok", "done") and state in (_OPEN, _GOOD) and outcome != "ignore":
        return _GOOD if outcome == "success" else _OTHER
    if action in ("bad", "die"):
        return _BAD
    return _OPEN if action == "reset" else state


def _ends(stack: Sequence[Line], trusting: bool) -> dict[bool, str]:
    """Return how a stack can end, and by which module it ends well."""
    ends: dict[bool, str] = {}
    todo, seen = [(0, _OPEN, "")], set()
    while todo:
        at, state, by = todo.pop()
        if at >= len(stack):
            # A jump beyond the last line is an error.
            ends.setdefault(state == _GOOD and at == len(stack), by)
            continue
        if (at, state) in seen:
            continue
        seen.add((at, state))
        control = "required" if stack[at][0] == "substack" else stack[at][0]
        for outcome, module in _outcomes(stack[at], trusting):
            action = _action(control, outcome)
            now = _after(state, action, outcome)
            ended = action == "die" or (action == "done" and now != _BAD)
            further = 1 + int(action) if action.isdigit() else 1
            todo.append((len(stack) if ended else at + further, now, module if now != state else by))
    return ends


def open_by(stack: Sequence[Line], *, trusting: bool = True) -> str:
    """Return the module by which a stack lets in who answers nothing, "" where none does."""
    return _ends(stack, trusting).get(True, "")
