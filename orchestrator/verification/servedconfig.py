"""Reads config.js as a browser would, as far as its values are literals (jitsi-meet:config.js).

The file is a script, not data: an object literal, possibly followed by assignments to single keys. What is no literal
becomes an Expression, which no check takes for a value; so does what any other use of `config` may change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ANY_TEXT = r"""(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)"""
_COMMENT_OR_TEXT = re.compile(rf"{_ANY_TEXT}|//[^\n]*|/\*.*?\*/", re.S)
_TEXT = re.compile(r"""\s*("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""", re.S)
_WORD = re.compile(r"\s*(-?[\w.$]+)")
_KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w$]+))\s*:""")
# A line that begins with an operator goes on with the value before it.
_END = re.compile(r"\s*(?:[,;}\])]|$|\n(?!\s*[-+*/%&|^?.<>=(\[]))")
# Every place that names `config`, with the keys that stand there as they are; and the brackets around it.
_USE = re.compile(
    _ANY_TEXT
    + r"|(?P<bracket>[(\[{}\])])|(?<![\w$])config(?![\w$])"
    + r"""(?P<keys>(?:\s*\.\s*[\w$]+|\s*\[\s*(?:"[^"\\\n]*"|'[^'\\\n]*')\s*\])*)""",
    re.S,
)
_NAMED = re.compile(r"""\"([^"]*)"|'([^']*)'|([\w$]+)""")
_SET = re.compile(r"\s*=(?![=>])")
_COMPARED = re.compile(r"\s*[=!]==?")
# Upstream's way to put keys into an object that may not be there: `config.flags = config.flags || {};`.
_OR_EMPTY = re.compile(r"config((?:\.[\w$]+)+)\s*\|\|\s*\{\s*\}")
# Texts and names with nothing between them but plus signs. Any other operator may choose another text.
_PART = r"""(?:"[^"\\\n]*"|'[^'\\\n]*'|[A-Za-z_$][\w$.]*)"""
_JOINED = re.compile(rf"""["'](?P<origin>[a-z]+://[A-Za-z0-9.-]+(?::\d+)?/)[^"'\\\n]*["'](?:\s*\+\s*{_PART})*""")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "undefined": None}


@dataclass(frozen=True, slots=True)
class Expression:
    """A value that only a browser could compute."""

    text: str

    def __str__(self) -> str:
        """Return it as it stands in the file."""
        return self.text


class NoConfiguration(ValueError):
    """The text holds no configuration, or one that cannot be read."""


class Config(dict[str, Any]):
    """The object that a script makes. `unread` is a use of it that may change any key, "" where there is none."""

    unread = ""


def read_config(script: str) -> Config:
    """Return the object `config` that the script makes; raises NoConfiguration where there is none."""
    bare = without_comments(script)
    start = re.search(r"\bvar\s+(config)\s*=\s*(?=\{)", bare)
    if not start:
        raise NoConfiguration(f"no `var config = {{` in {' '.join(script.split())[:80]!r}")
    value, end = _value(bare, start.end())
    if not isinstance(value, dict):
        raise NoConfiguration("`config` is no object")
    config = Config(value)
    _follow(config, bare, start.start(1), end)
    return config


def without_comments(script: str) -> str:
    """Return the script without its comments; what looks like one within a text stays."""
    return _COMMENT_OR_TEXT.sub(lambda found: found["text"] or " ", script)


def setting(config: Config, path: str) -> Any:
    """Return the value at a dotted path: None where it is not set, an Expression where only a browser can tell."""
    value: Any = Expression(config.unread) if config.unread else config
    for key in path.split("."):
        if isinstance(value, Expression):
            break
        value = value.get(key) if isinstance(value, dict) else None
    return value


def origin(value: Expression) -> str:
    """Return the scheme and host of a computed address that begins with them as a text, up to the slash; "" where it does not.

    What is added after that slash, as upstream's `'https://meet.example.org/' + subdir + 'http-bind'`, changes neither.
    """
    found = _JOINED.fullmatch(value.text)
    return found["origin"] if found else ""


def computed(value: Any) -> Iterator[Expression]:
    """Yield every Expression in a value, however deep."""
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from computed(inner)


@dataclass(frozen=True, slots=True)
class _Use:
    """One place that names `config`: from where to where, which key of it, and within how many brackets."""

    at: int
    after: int
    path: tuple[str, ...]
    depth: int


def _uses(bare: str, begin: int, end: int) -> Iterator[_Use]:
    depth = 0
    for found in _USE.finditer(bare, begin, end):
        if bracket := found["bracket"]:
            depth += 1 if bracket in "([{" else -1
        elif found["text"] is None:
            keys = tuple(next(group for group in key if group) for key in _NAMED.findall(found["keys"]) if any(key))
            yield _Use(found.start(), found.end(), keys, depth)
        elif found["text"][1:-1] == "config":
            # A name in quotes reaches it as well: window["config"].
            yield _Use(found.start(), found.end(), (), 1)


def _follow(config: Config, bare: str, own: int, end: int) -> None:
    """Do what the plain statements after the object do; what any other use may change becomes an Expression."""
    # A function that stands before the object, or in it, may be called after it.
    unclear = [use for use in _uses(bare, 0, end) if use.at != own and not _harmless(bare, use)]
    last = end
    for use in _uses(bare, end, len(bare)):
        value: Any
        sign = _SET.match(bare, use.after)
        if sign and _is_statement(bare, use, last) and _within_objects(config, use.path):
            value, last = _value(bare, sign.end())
            _assign(config, use.path, _or_empty(config, use.path, value))
        elif not _harmless(bare, use) and not _is_own_default(bare, use):
            unclear.append(use)
    for use in unclear:
        _blur(config, use.path, _line(bare, use.at))


def _harmless(bare: str, use: _Use) -> bool:
    """Say whether a use changes nothing: a comparison, or a key of some object that has this name."""
    before, after = bare[: use.at].rstrip()[-1:], bare[use.after :].lstrip()[:1]
    return bool(_COMPARED.match(bare, use.after)) or (after == ":" and before in ("{", ","))


def _is_statement(bare: str, use: _Use, last: int) -> bool:
    """Say whether a statement begins here that no condition, loop or function surrounds."""
    if use.depth or not use.path or use.at < last:
        return False
    return not bare[last : use.at].strip(" \t\r\n;") or bare[: use.at].rstrip()[-1:] in (";", "}")


def _is_own_default(bare: str, use: _Use) -> bool:
    """Say whether this is the right half of `config.flags = config.flags || {}`."""
    left = re.search(r"(config(?:\.[\w$]+)+)\s*=\s*$", bare[: use.at])
    right = _OR_EMPTY.match(bare, use.at)
    return bool(left and right and left.group(1) == bare[use.at : use.after])


def _or_empty(config: Config, path: tuple[str, ...], value: Any) -> Any:
    found = _OR_EMPTY.fullmatch(value.text) if isinstance(value, Expression) else None
    if not found or tuple(found.group(1).split(".")[1:]) != path:
        return value
    return setting(config, ".".join(path)) or {}


def _within_objects(config: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Say whether all that is above a key is an object, or not yet there."""
    for key in path[:-1]:
        below = config.get(key)
        if below is not None and not isinstance(below, dict):
            return False
        config = below or {}
    return True


def _line(bare: str, at: int) -> str:
    found = re.compile(r"[^;\n]*").match(bare, at)
    return " ".join(found.group().split())[:80] if found else ""


def _blur(config: Config, path: tuple[str, ...], use: str) -> None:
    """Make what stands at a path an Expression, or what holds it where that is no object."""
    if not path:
        config.unread = config.unread or use
        return
    *above, name = path
    held: dict[str, Any] = config
    for key in above:
        below = held.get(key)
        # Texts, numbers and truths have nothing that could be changed.
        if isinstance(below, str | int | float):
            return
        if not isinstance(below, dict):
            name = key
            break
        held = below
    held[name] = Expression(use)


def _assign(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        below = config.get(key)
        config[key] = below if isinstance(below, dict) else {}
        config = config[key]
    config[path[-1]] = value


def _value(text: str, at: int) -> tuple[Any, int]:
    """Return the value that begins at a position, and where it ends."""
    at = _skip(text, at)
    value: Any
    if text[at : at + 1] == "{":
        value, end = _object(text, at + 1)
    elif text[at : at + 1] == "[":
        value, end = _array(text, at + 1)
    elif found := _TEXT.match(text, at):
        value, end = re.sub(r"\\(.)", r"\1", found.group(1)[1:-1]), found.end()
    elif found := _WORD.match(text, at):
        value, end = _word(found.group(1)), found.end()
    else:
        return _expression(text, at)
    return (value, end) if _END.match(text, end) else _expression(text, at)


def _word(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    try:
        return float(word) if "." in word else int(word)
    except ValueError:
        return Expression(word)


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return found, at + 1
        key = _KEY.match(text, at)
        if not key:
            raise NoConfiguration(f"no key at {text[at : at + 40]!r}")
        name = next(group for group in key.groups() if group)
        found[name], at = _value(text, key.end())
        at = _comma(text, at)


def _array(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return found, at + 1
        value, at = _value(text, at)
        found.append(value)
        at = _comma(text, at)


def _comma(text: str, at: int) -> int:
    at = _skip(text, at)
    if at >= len(text):
        raise NoConfiguration("the script ends in the middle of a value")
    return at + 1 if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _expression(text: str, at: int) -> tuple[Expression, int]:
    """Return what stands up to the comma, bracket or semicolon that ends it, brackets and texts inside passed over."""
    begin, depth = at, 0
    while at < len(text):
        if found := re.compile(r"""["'`]""").match(text, at):
            closing = re.compile(rf"(?:\\.|[^\\])*?{found.group()}", re.S).match(text, at + 1)
            at = closing.end() if closing else len(text)
            continue
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            if depth == 0:
                break
            depth -= 1
        elif text[at] in ",;" and depth == 0:
            break
        at += 1
    return Expression(text[begin:at].strip()), max(at, begin + 1) if at == begin else at
