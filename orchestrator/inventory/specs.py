"""What the roles accept: their `meta/argument_specs.yml`, as options and as one pydantic model.

The specs are the only list of variables. Types, choices and defaults are read from them; nothing is repeated here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator import content

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Option:
    """One variable of a role."""

    name: str
    role: str
    type: str = "str"
    elements: str = ""
    default: Any = None
    choices: tuple[Any, ...] = ()
    required: bool = False
    secret: bool = False
    description: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)


LAB_MARK = Option(
    "ratssaal_lab", "lab", type="bool", default=False, description="The host is a throwaway lab host; set by the lab."
)


@functools.cache
def load_options(roles: Path | None = None) -> Mapping[str, Option]:
    """Return every option of every role by its name.

    Where two roles specify one variable, the role whose prefix it carries owns it.
    """
    found: dict[str, Option] = {LAB_MARK.name: LAB_MARK}
    for path in sorted((roles or content.root() / "roles").glob("*/meta/argument_specs.yml")):
        role = path.parent.parent.name
        entry_points = (content.data(path) or {}).get("argument_specs") or {}
        for entry_point in entry_points.values():
            for name, spec in ((entry_point or {}).get("options") or {}).items():
                if name not in found or name.startswith(f"{role}_"):
                    found[name] = _option(name, role, spec)
    return found


def first_sentence(description: str) -> str:
    """Return a description's first sentence without its full stop; a dot inside a word, as in a name, ends none."""
    return re.split(r"\.(?:\s|$)", " ".join(description.split()), maxsplit=1)[0]


def prefixes(options: Mapping[str, Option]) -> tuple[str, ...]:
    """Return the prefixes inside which every key must be known."""
    return tuple(sorted({f"{option.role}_" for option in options.values() if option is not LAB_MARK} | {"ratssaal_"}))


def _option(name: str, role: str, spec: Mapping[str, Any]) -> Option:
    description = spec.get("description", "")
    return Option(
        name=name,
        role=role,
        type=str(spec.get("type", "str")),
        elements=str(spec.get("elements", "")),
        default=spec.get("default"),
        choices=tuple(spec.get("choices") or ()),
        required=bool(spec.get("required", False)),
        secret=bool(spec.get("no_log", False)),
        description=" ".join(description) if isinstance(description, list) else str(description),
        options={key: _option(key, role, value) for key, value in (spec.get("options") or {}).items()},
    )


def model(options: Mapping[str, Option], name: str = "Variables") -> type[BaseModel]:
    """Return a strict model of the options; unknown keys on the top level are judged elsewhere, with their names."""
    from pydantic import ConfigDict, create_model  # a quarter of the time of a start, needed only here

    fields: dict[str, Any] = {option.name: (_annotation(option) | None, None) for option in options.values()}
    return create_model(
        name, __config__=ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=()), **fields
    )


def _annotation(option: Option) -> Any:
    if option.choices and option.type in {"str", "int"}:
        return Literal[option.choices]
    if option.type == "list":
        if option.options:
            return list[model(option.options, option.name)]  # type: ignore[misc]
        inner: Any = _SCALARS.get(option.elements or "raw", Any)
        return list[inner]
    if option.type == "dict":
        return model(option.options, option.name) if option.options else dict[str, Any]
    return _SCALARS.get(option.type, Any)


_SCALARS: dict[str, Any] = {
    "str": str,
    "path": str,
    "int": int,
    "float": float,
    "bool": bool,
    "dict": dict[str, Any],
    "raw": Any,
}
