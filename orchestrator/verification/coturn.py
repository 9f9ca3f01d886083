"""coturn's settings as it was started with them: its arguments and its file, read as coturn reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.verification.sheet import Sheet

QUOTAS = ("user-quota", "total-quota", "max-bps")
# coturn's arguments, and the lines of its file without its secrets; with -n it reads none.
COTURN = (
    "args=$(tr '\\0' '\\n' </proc/$(systemctl show -P MainPID coturn)/cmdline); echo \"$args\"; echo '== file =='; "
    'echo "$args" | grep -qx -e -n && exit 0; file=$(echo "$args" | grep -xA 1 -e -c | tail -n 1); '
    "grep -svE '^[[:space:]]*(#|$|static-auth-secret|cli-password|pkey-pwd|user[[:space:]=]|[a-z]+-(userdb|statsdb))' "
    '"${file:-/etc/turnserver.conf}"; true'
)
_SHORT = {
    **{"l": "log-file", "p": "listening-port", "v": "verbose", "V": "Verbose"},
    **{"q": "user-quota", "Q": "total-quota", "s": "max-bps"},
}
# Of the short options these take a word (coturn:src/apps/relay/mainrelay.c, OPTIONS).
_SHORT_WITH_WORD = "cdpLEXimlrubBeMJNOqQsCKA"
# The long ones that are looked at; of these some take the next word where no `=` gives one.
_WITH_WORD = (
    *("log-file", "listening-port", "tls-listening-port", "alt-listening-port", "alt-tls-listening-port", *QUOTAS),
    *("tcp-proxy-port", "aux-server", "cli-port", "web-admin-port"),
)
_LONG = (
    *(
        *_WITH_WORD,
        "no-stdout-log",
        "syslog",
        "verbose",
        "Verbose",
        "no-cli",
        "web-admin",
        "web-admin-listen-on-workers",
    ),
    *("prometheus", "prometheus-port"),
)
# The arguments are read first for these, and the file after them; for all others the arguments come last.
_LOGGING = ("log-file", "no-stdout-log", "syslog")


@dataclass(frozen=True, slots=True)
class Settings:
    """coturn's settings in the order in which it takes them (4.6.1, coturn:src/apps/relay/mainrelay.c)."""

    rows: Sequence[tuple[str, str]]

    def last(self, name: str) -> str | None:
        """Return what a setting was given last; None for one that was given nothing."""
        return next((value for known, value in reversed(self.rows) if known == name), None)

    def on(self, name: str) -> bool:
        """Say whether something is switched on."""
        value = self.last(name)
        return value is not None and _switched_on(value)

    def number(self, name: str, default: int) -> int:
        """Return a number as C's atoi reads it."""
        value = self.last(name)
        found = re.match(r"\s*(-?\d+)", value or "")
        return default if value is None else int(found.group(1)) if found else 0

    def loud(self) -> bool:
        """Say whether it tells more than it must: `verbose`, or the louder `Verbose`, which nothing takes back."""
        return self.on("verbose") or any(name == "Verbose" and _switched_on(value) for name, value in self.rows)


def _switched_on(value: str) -> bool:
    """Read a truth as coturn does (get_bool_value): alone it means yes, and it stops at a word that it does not know."""
    return not value.startswith(("0", "n", "N", "f", "F")) and value not in ("off", "OFF", "Off")


def settings(shown: str) -> Settings | None:
    """Return what coturn was started with, None where it does not run."""
    arguments, _, file = shown.partition("== file ==\n")
    name, *words = arguments.splitlines() or [""]
    if "turnserver" not in name:
        return None
    given = list(_given(words))
    lines = [_line(line) for line in file.splitlines()]
    early = [row for row in given if row[0] in _LOGGING]
    return Settings((*early, *lines, *(row for row in given if row[0] not in _LOGGING)))


def quiet(shown: str, sheet: Sheet) -> Settings | None:
    """Note whether coturn tells more than it must, and return what it was started with; None, noted, where it does not run."""
    started = settings(shown)
    if started is None:
        sheet.could_not_look("coturn does not run")
        return None
    loud = started.loud()
    sheet.expect(not loud, f"coturn runs {'with' if loud else 'without'} verbose", "without verbose")
    return started


def _line(line: str) -> tuple[str, str]:
    """Read a line of the file: a name and a value, parted by blanks, tabs and `=` in any number (parse_arg_string)."""
    name, _, value = re.sub(r"[ \t=]+", "\0", line.strip(), count=1).partition("\0")
    return name, value[1:].rstrip().removesuffix('"') if value.startswith('"') else value


def _given(words: list[str]) -> Iterator[tuple[str, str]]:
    """Read the arguments as getopt_long(3) does, as far as they are looked at."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        name, given, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            yield from _short(word[1:], rest) if word.startswith("-") else ()
            continue
        # A name may be cut short where no other begins so. `user` is whole.
        longer = [known for known in _LONG if known.startswith(name)]
        name = longer[0] if len(longer) == 1 and name != "user" else name
        yield name, value if given or name not in _WITH_WORD else next(rest, "")


def _short(letters: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Read short options that stand together; one that takes a word takes what is left of its own, or the next."""
    for at, letter in enumerate(letters):
        if letter in _SHORT_WITH_WORD:
            value = letters[at + 1 :] or next(rest, "")
            yield _SHORT.get(letter, letter), value
            return
        yield _SHORT.get(letter, letter), ""
