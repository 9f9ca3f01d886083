"""The journal of a run: who did what, when, with which result; a JSON object a line, on disk before it is acted on."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from orchestrator import processes
from orchestrator.errors import UsageError

RUNNING, DONE, FAILED, INTERRUPTED = "running", "done", "failed", "interrupted"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as its journal tells it. `state` is running, done, failed or interrupted."""

    id: str
    path: Path
    verb: str
    owner: str
    started: str
    ended: str
    state: str
    step: str
    changed: int
    message: str

    @property
    def journal(self) -> Path:
        """Return the journal's file."""
        return self.path / "journal.jsonl"


class Journal:
    """Writes one run's directory: plan.json, journal.jsonl, and what Ansible adds (events.jsonl, console.log)."""

    def __init__(self, site: str, verb: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.id = f"{stamp}-{verb}-{secrets.token_hex(3)}"
        self.path = runs_directory(site) / self.id
        with _kept_by_the_disk(self.path):
            self.path.mkdir(parents=True, mode=0o700)
        self.file = self.path / "journal.jsonl"
        self.events = self.path / "events.jsonl"
        self.console = self.path / "console.log"

    def write(self, what: str, **fields: Any) -> None:
        """Append a line and wait until the disk has it; raises UsageError where it does not take it."""
        row = {"at": now(), "what": what, **fields}
        with _kept_by_the_disk(self.file), self.file.open("a+b") as handle:
            # What a full disk took of the last line must not spoil this one.
            start = b"" if _ends_a_line(handle) else b"\n"
            handle.write(start + json.dumps(row, sort_keys=True).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def keep(self, name: str, text: str) -> None:
        """Put a file beside the journal; raises UsageError where the disk does not take it."""
        with _kept_by_the_disk(self.path / name):
            (self.path / name).write_text(text, encoding="utf-8")

    def text(self) -> str:
        """Return the whole journal so far; "" when it cannot be read."""
        try:
            return self.file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


@contextmanager
def _kept_by_the_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = f"{runs_root()} must be a directory of yours with room in it (XDG_STATE_HOME names another place)"
        raise UsageError(f"the journal cannot be written: {error.strerror}", where=str(path), hint=hint) from error


def _ends_a_line(handle: IO[bytes]) -> bool:
    if not handle.seek(0, os.SEEK_END):
        return True
    handle.seek(-1, os.SEEK_END)
    return handle.read(1) == b"\n"


def now(precision: str = "milliseconds") -> str:
    """Return the time in UTC as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def runs_root() -> Path:
    """Return where the runs and audits of all sites are kept on the control node."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "ratssaal"


def runs_directory(site: str) -> Path:
    """Return where the runs of a site are kept."""
    return runs_root() / site / "runs"


def runs(site: str) -> list[RunRecord]:
    """Return the runs of a site, the latest first."""
    folder = runs_directory(site)
    found = (path for path in sorted(folder.glob("*/journal.jsonl"), reverse=True)) if folder.is_dir() else ()
    return [read_run(path.parent) for path in found]


def read_run(path: Path) -> RunRecord:
    """Read one run; a line that a kill or a full disk cut off is ignored."""
    rows = list(_rows(path / "journal.jsonl"))
    first = rows[0] if rows else {}
    last = next((row for row in reversed(rows) if row["what"] == "run-ended"), None)
    steps = [row for row in rows if row["what"].startswith("step-")]
    state = str(last["result"]) if last else (RUNNING if processes.lives(first) else INTERRUPTED)
    return RunRecord(
        id=path.name,
        path=path,
        verb=f"{first.get('verb', '')}{' --check' if first.get('check') else ''}",
        owner=str(first.get("owner", "")),
        started=str(first.get("at", "")),
        ended=str(last["at"]) if last else "",
        state=state,
        step=str(steps[-1]["step"]) if steps and state != DONE else "",
        changed=sum(int(row.get("changed", 0)) for row in rows if row["what"] == "step-ended"),
        message=str((last or {}).get("message", "")),
    )


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and "what" in row:
                yield row
