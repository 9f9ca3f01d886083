"""The sandboxes' drop-ins keep every setting: a line that an include leaves open swallows the one after it."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

FOLDER = Path(__file__).parents[2] / "roles/hardening/templates"
UNITS = sorted(path.name for path in FOLDER.glob("*.conf.j2") if "_sandbox.j2" in path.read_text())


def _lines(text: str) -> set[str]:
    return {line for line in text.splitlines() if line and not line.startswith(("#", "{"))}


def test_there_are_sandboxes() -> None:
    assert len(UNITS) >= 6


@pytest.mark.parametrize("name", UNITS)
def test_every_setting_is_a_line_of_its_own(name: str) -> None:
    # Ansible trims the line break after a block as this environment does (ansible: lib/ansible/_internal/_templating).
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), trim_blocks=True)
    shown = _lines(environment.get_template(name).render())
    assert shown == _lines((FOLDER / name).read_text()) | _lines((FOLDER / "_sandbox.j2").read_text())
