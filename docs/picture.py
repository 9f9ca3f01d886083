"""Draws docs/rehearsal.svg from a real rehearsal: `sudo .venv/bin/python docs/picture.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).with_name("rehearsal.svg")


def main() -> None:
    """Run a rehearsal, show its lines as they come and write the picture."""
    command = [str(Path(sys.executable).with_name("ratssaal")), "rehearse"]
    console = Console(record=True, width=92, force_terminal=True)
    console.print("[green]$[/green] make rehearse")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            shown = Text(line.rstrip().replace(f"{Path.cwd()}/", ""))
            shown.highlight_words(["pass", "nothing to do", "succeeded"], "green")
            shown.highlight_regex("STAND-INS|[0-9]+ changed", "yellow")
            console.print(shown)
    if child.returncode:
        raise SystemExit(child.returncode)
    console.save_svg(str(TARGET), title="A rehearsal")


if __name__ == "__main__":
    main()
