"""Draws docs/rehearsal.svg from a real rehearsal: `sudo .venv/bin/python docs/picture.py`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).with_name("rehearsal.svg")
# A picture shows so many of the checks' lines and says how many more there were.
CHECKS = 12
WIDTH = 92


def shortened(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a rehearsal, of its checks only the first ones."""
    left_out, checking = 0, False
    for line in lines:
        if not line.startswith(" "):
            if checking and left_out > CHECKS:
                yield f"  ⋮ {left_out - CHECKS} lines more"
            left_out, checking = 0, line.startswith("Verify")
        left_out += checking and line.startswith(" ")
        if left_out <= CHECKS:
            yield line


def without_fonts(picture: str) -> str:
    """Return Rich's SVG without the fonts that it would fetch from elsewhere; any monospaced one will do."""
    return re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)


def main() -> None:
    """Run a rehearsal, show its lines as they come and write the picture."""
    command = [str(Path(sys.executable).with_name("ratssaal")), "rehearse"]
    console = Console(record=True, width=WIDTH, force_terminal=True)
    console.print("[green]$[/green] make rehearse")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in shortened(child.stdout):
            shown = Text(line.rstrip().replace(f"{Path.cwd()}/", ""))
            shown.highlight_regex(r"\bpass\b|nothing to do|succeeded", "green")
            shown.highlight_regex("STAND-INS|[0-9]+ changed", "yellow")
            shown.truncate(WIDTH, overflow="ellipsis")
            console.print(shown)
    if child.returncode:
        raise SystemExit(child.returncode)
    TARGET.write_text(without_fonts(console.export_svg(title="A rehearsal")), encoding="utf-8")


if __name__ == "__main__":
    main()
