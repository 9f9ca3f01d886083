"""Reads config.js as a browser would, as far as its values are literals (jitsi-meet:config.js).

The file is a script, not data: an object literal, possibly followed by assignments to single keys. What is no literal
becomes an Expression, which no check takes for a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_COMMENT_OR_TEXT = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|//[^\n]*|/\*.*?\*/""", re.S
)
_TEXT = re.compile(r"""\s*("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""", re.S)
_WORD = re.compile(r"\s*(-?[\w.$]+)")
_KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w$]+))\s*:""")
_END = re.compile(r"\s*[,}\])];?|\s*;|\s*\n|\s*$")
_ASSIGNED = re.compile(r"\bconfig((?:\.[\w$]+)+)\s*=(?!=)")
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


def read_config(script: str) -> dict[str, Any]:
    """Return the object `config` that the script makes; raises NoConfiguration where there is none."""
    bare = _COMMENT_OR_TEXT.sub(lambda found: found.group(1) or " ", script)
    start = re.search(r"\bvar\s+config\s*=\s*(?=\{)", bare)
    if not start:
        raise NoConfiguration(f"no `var config = {{` in {' '.join(script.split())[:80]!r}")
    config, end = _value(bare, start.end())
    if not isinstance(config, dict):
        raise NoConfiguration("`config` is no object")
    for found in _ASSIGNED.finditer(bare, end):
        _assign(config, found.group(1).split(".")[1:], _value(bare, found.end())[0])
    return config


def setting(config: dict[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None where it is not set."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _assign(config: dict[str, Any], path: list[str], value: Any) -> None:
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
