"""What `playbooks/callback_plugins/ratssaal_events.py` tells while Ansible runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One event, as far as it is looked at. `kind` is play, task, result or stats; `changes` is what a result changed, in words."""

    kind: str
    name: str = ""
    host: str = ""
    status: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()


class EventReader:
    """Reads a growing file of events; an unfinished last line waits for its rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> Iterator[Event]:
        """Yield what was written since the last call."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as handle:
            handle.seek(self._position)
            while (line := handle.readline()).endswith("\n"):
                self._position = handle.tell()
                yield parse(json.loads(line))


def parse(row: Mapping[str, Any]) -> Event:
    """Return the event of one decoded line."""
    return Event(
        kind=str(row["event"]),
        name=str(row.get("name") or row.get("task") or ""),
        host=str(row.get("host") or ""),
        status=str(row.get("status") or ""),
        message=str(row.get("message") or ""),
        changes=tuple(row.get("changes") or ()),
    )
