"""The catalogue of controls, from controls.yml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from orchestrator import content
from orchestrator.errors import UsageError
from orchestrator.evidence.results import ControlText

_FILE = Path(__file__).with_name("controls.yml")


class Words(BaseModel):
    """A text in both languages."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    en: str
    de: str


class Control(BaseModel):
    """One checkable requirement. `groups` are the host groups that it concerns; none means every host.

    `limits` are the figures that its check demands at most, by the name of what is measured; no setting of a site changes
    them, a waiver alone does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    title: Words
    risk: Words
    looked_at: Words
    remedy: Words
    references: tuple[str, ...]
    groups: tuple[str, ...]
    limits: dict[str, float] = {}

    def concerns(self, groups: tuple[str, ...]) -> bool:
        """Say whether a host in these groups has anything that the control speaks of."""
        return not self.groups or bool(set(self.groups) & set(groups))

    def text(self) -> ControlText:
        """Return what a report says about the control."""
        return ControlText(
            self.id,
            self.title.en,
            self.title.de,
            self.risk.en,
            self.remedy.en,
            self.references,
            self.risk.de,
            self.remedy.de,
        )


@cache
def load_catalogue() -> tuple[Control, ...]:
    """Return all controls in the order in which failures are to be repaired."""
    return tuple(Control.model_validate(row) for row in content.data(_FILE))


def select(ids: tuple[str, ...]) -> tuple[Control, ...]:
    """Return the named controls, all when none is named; raises UsageError for an unknown id."""
    known = {control.id: control for control in load_catalogue()}
    unknown = [name for name in ids if name.upper() not in known]
    if unknown:
        raise UsageError(f"there is no control {', '.join(unknown)}", hint=f"known: {', '.join(known)}")
    return tuple(known[name.upper()] for name in dict.fromkeys(ids)) if ids else tuple(known.values())
