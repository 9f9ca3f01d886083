"""The generated pages are what the sources would generate now."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES: dict[str, str] = _generator().pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_page_is_current(name: str) -> None:
    path = ROOT / name
    assert path.is_file(), f"{name} is missing: run `make docs`"
    assert path.read_text() == PAGES[name], f"{name} is out of date: run `make docs`"


@pytest.mark.parametrize("words", [("verify",), ("users", "add")])
def test_a_commands_page_is_what_its_help_prints(words: tuple[str, ...]) -> None:
    argv = [str(Path(sys.executable).with_name("ratssaal")), *words, "--help"]
    environment = {**os.environ, "COLUMNS": "120"}
    told = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"```text\n{told}```\n" in PAGES[f"docs/commands/{words[0]}.md"]


def test_no_page_is_left_over() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("commands", "controls")
        for path in (ROOT / "docs" / folder).glob("*.md")
    }
    assert found <= set(PAGES), f"nothing generates {sorted(found - set(PAGES))}: run `make docs`"


def _linked_files(page: Path) -> list[Path]:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    return [page.parent / target for target in targets if "://" not in target and not target.startswith("mailto:")]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [str(target) for target in _linked_files(page) if not target.exists()]
    assert not broken, f"{page.name} links to files that do not exist: {broken}"


def test_the_german_page_goes_the_way_of_the_readme() -> None:
    """Whoever follows it line by line has the program at hand, and each command is one that there is."""
    block = (
        (ROOT / "README.md").read_text().partition("## A real server in ten lines\n\n```sh\n")[2].partition("```")[0]
    )
    page = (ROOT / "docs/de.md").read_text()
    set_up, *lines = [line.partition(" #")[0].strip() for line in block.splitlines()]
    assert set_up in page
    wanted = [word for line in lines for word in re.findall(r"ratssaal ([a-z]+)", line)]
    named = re.findall(r"`ratssaal ([a-z]+)", page)
    assert len(wanted) >= 7
    assert [word for word in dict.fromkeys(named) if word in wanted] == list(dict.fromkeys(wanted))
    assert set(named) <= set(COMMANDS)


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_pictures_fetch_nothing(picture: Path) -> None:
    assert not re.search(r"url\(|@import|<image|href=.http", picture.read_text().replace("url(#", "#"))
