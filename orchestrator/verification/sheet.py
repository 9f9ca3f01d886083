"""What a check writes down: every single thing that it saw and what it wanted to see."""

from __future__ import annotations

from dataclasses import dataclass, field


class NotTested(Exception):
    """The check could not look; the reason says why. Never counts as passed."""


class NotApplicable(Exception):
    """The host has nothing of the kind; the reason says what is missing."""


class Declared(Exception):
    """What cannot be measured was stated by the operator; says by whom, why and until when. Never counts as passed."""


class NothingLookedAt(Exception):
    """A check ended without expecting anything: its result would mean nothing."""


@dataclass(slots=True)
class Sheet:
    """The notes of one check on one host."""

    seen: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    inventory: list[tuple[str, str]] = field(default_factory=list)

    def expect(self, fits: bool, seen: str, wanted: str) -> None:
        """Note one thing: what was seen, and what was wanted in its place if it does not fit."""
        if fits:
            self.seen.append(seen)
        else:
            self.faults.append((seen, wanted))

    def record(self, seen: str, wanted: str) -> None:
        """Note something that a finding tells whatever becomes of the check: what is counted up, and how it was judged."""
        self.seen.append(seen)
        self.inventory.append((seen, wanted))

    def could_not_look(self, reason: str) -> None:
        """Note a part that could not be looked at; without a fault elsewhere the control is not tested."""
        self.untested.append(reason)

    def declare(self, statement: str) -> None:
        """Note a part that the operator answers for; without a fault or a gap elsewhere the control is declared."""
        self.declared.append(statement)

    def finish(self) -> None:
        """Raise what the notes amount to: AssertionError for faults, NotTested, Declared, NothingLookedAt; nothing for a pass."""
        if self.faults:
            raise AssertionError("; ".join(f"{seen} (wanted: {wanted})" for seen, wanted in self.faults))
        if self.untested:
            raise NotTested("; ".join(self.untested))
        if self.declared:
            raise Declared("; ".join(self.declared))
        if not self.seen:
            raise NothingLookedAt("the check expected nothing")
