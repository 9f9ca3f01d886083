"""The units' sandboxes as rendered: no line may run into the next one, or systemd ignores both."""

from __future__ import annotations

import re

import jinja2
import pytest
import yaml

from orchestrator import content

TEMPLATES = content.root() / "roles/hardening/templates"
# As playbooks/action_plugins/managed_host.py renders them.
ENVIRONMENT = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
# What the role's own vars give to its templates.
ENVIRONMENT.globals |= yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text())
UNITS = sorted(path.name for path in TEMPLATES.glob("*.conf.j2") if "_sandbox.j2" in path.read_text())


def test_every_service_has_a_sandbox() -> None:
    assert len(UNITS) == 6


@pytest.mark.parametrize("name", UNITS)
def test_every_line_is_one_setting(name: str) -> None:
    lines = ENVIRONMENT.get_template(name).render().splitlines()
    assert "SystemCallErrorNumber=EPERM" in lines
    for line in lines:
        assert re.fullmatch(r"(#.*|\[\w+\]|[A-Z]\w+=[^=]*|ExecStart=.*|)", line), line


@pytest.mark.parametrize(("major", "skip", "bounds"), [(13, {}, 3), (12, {}, 2), (13, {"ACC-06": "ticket 17"}, 0)])
def test_sshd_is_bounded_as_its_version_can_be_and_as_the_site_wants(
    major: int, skip: dict[str, str], bounds: int
) -> None:
    given = {"ansible_facts": {"ratssaal_host": {"major": major}}, "hardening_skip": skip}
    text = ENVIRONMENT.get_template("sshd.conf.j2").render(given, hardening_ssh_allow_groups=[])
    keywords = [line.partition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert sum(word in ("MaxStartups", "PerSourceMaxStartups", "PerSourcePenalties") for word in keywords) == bounds
    assert ("PerSourcePenalties" in keywords) == (bounds == 3), (
        "sshd of Debian 12 refuses a keyword that it does not know"
    )
    assert all(re.fullmatch(r"[A-Z]\w+", word) for word in keywords)
