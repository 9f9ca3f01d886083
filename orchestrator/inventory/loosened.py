"""What a site has loosened: its settings that grant more than the private, strict default does."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import content
from orchestrator.inventory.specs import Option, load_options


@dataclass(frozen=True, slots=True)
class Loosened:
    """One such setting, as the site has it and as it is by default, with what that means in words."""

    setting: str
    value: str
    default: str
    meaning_en: str
    meaning_de: str


def loosened(settings: Mapping[str, Any], options: Mapping[str, Option] | None = None) -> tuple[Loosened, ...]:
    """Return the settings of a site that loosen something, in the order of the table (loosened.yml). Pure.

    `options` are the roles' options with the defaults, read from the roles when left out.
    """
    known = options if options is not None else load_options()
    found = []
    for setting, row in table().items():
        name, _, part = setting.partition(".")
        if name not in known:
            continue
        value, default = settings.get(name), known[name].default
        if part:
            value, default = (value or {}).get(part), known[name].options[part].default
        if value is not None and _looser(row["when"], value, default):
            found.append(Loosened(setting, _shown(value), _shown(default), row["en"], row["de"]))
    return tuple(found)


@functools.cache
def table() -> Mapping[str, Mapping[str, str]]:
    """Return what is looser than the default, by setting; a dot leads to a part of one."""
    rows: dict[str, dict[str, str]] = content.data(Path(__file__).with_suffix(".yml"))
    return rows


def _looser(when: str, value: Any, default: Any) -> bool:
    match when:
        case "more":
            return bool(value > default)
        case "less":
            return bool(value < default)
    return bool(value != default and (value or default))


def _shown(value: Any) -> str:
    """Return a value as a person writes it, on one line; "" where there is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_within(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_within(item) for item in value)
    return "" if value is None else str(value)


def _within(item: Any) -> str:
    return f"({_shown(item)})" if isinstance(item, Mapping) else _shown(item)
