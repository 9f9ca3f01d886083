"""Text from hosts, made harmless: what a host prints may hold anything, also broken UTF-8 and terminal escapes."""

from __future__ import annotations

import re

# Lone surrogates are what Python's "surrogateescape" leaves of broken UTF-8; no encoder takes them back.
_SURROGATES = re.compile("[\ud800-\udfff]")
_C0 = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
# C1 controls; marks that reorder or hide text, so that a reader sees another text than was found (UAX #9,
# "Trojan Source"); and the non-characters that XML 1.0 forbids.
_HIDING = re.compile("[\x80-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")


def well_formed(text: str) -> str:
    """Return the text with every lone surrogate replaced by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def visible(text: str) -> str:
    """Return the text with control and reordering characters shown by a sign or as `\\uXXXX`.

    Line feeds and tabs stay; the result is allowed in XML 1.0 and in HTML.
    """
    shown = _C0.sub(_picture, well_formed(text))
    return _HIDING.sub(lambda match: f"\\u{ord(match[0]):04x}", shown)


def one_line(text: str) -> str:
    """Return the text as `visible` does, and line feeds by a sign: what a host says forges no line of ours."""
    return visible(text).replace("\n", "\u2424")


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    return "\u2421" if code == 0x7F else chr(0x2400 + code)
