"""The arrows between the rooms point downwards only, and what may be done in one place is done nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "orchestrator"
# From the top; a room may import those after it. `lab` stands aside: used by cli, using transport and inventory.
ORDER = ["cli", "operations", "platforms", "verification", "evidence", "engine", "transport", "inventory"]
LAB_MAY = {"transport", "inventory"}
FOUNDATION = {"caller", "content", "errors", "exitcodes", "processes"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_content" not in path.parts)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "orchestrator":
                yield from (f"orchestrator.{alias.name}" for alias in node.names)
            else:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(room: str, target: str) -> bool:
    """Say whether a module of one room may import another room."""
    if target in FOUNDATION or target in ("", room, "__version__"):
        return True
    if room in FOUNDATION or room == "":
        return False
    if room == "lab":
        return target in LAB_MAY
    if target == "lab":
        return room == "cli"
    return ORDER.index(target) > ORDER.index(room)


def _room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem.replace("__init__", "")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    wrong = []
    for name in _imports(path):
        head, *rest = name.split(".")
        assert head != "ansible", f"{path} imports Ansible's Python API: {name}"
        if head == "orchestrator" and not allowed(_room(path), rest[0] if rest else ""):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "target"), [("engine", "cli"), ("inventory", "transport"), ("lab", "operations"), ("operations", "lab")]
)
def test_the_rule_refuses(room: str, target: str) -> None:
    assert not allowed(room, target)


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ('"ansible-playbook"', {"engine/ansible.py"}),
        ('"-m", "pytest"', {"verification/child.py"}),
        ("paramiko.SSHClient(", {"transport/ssh.py"}),
    ],
)
def test_one_module_each_starts_ansible_pytest_and_ssh(text: str, only: set[str]) -> None:
    assert {str(path.relative_to(PACKAGE)) for path in MODULES if text in path.read_text()} == only


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path: Path) -> None:
    prints = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input")
    ]
    programs = ("preflight_facts.py", "status_facts.py", "sidebyside.py")
    on_the_host = path.name in programs or path.parts[-2:] == ("probes", "__main__.py")
    assert _room(path) == "cli" or on_the_host or prints == []


def test_modules_and_functions_stay_short() -> None:
    long = []
    for path in MODULES:
        text = path.read_text()
        if len(text.splitlines()) > 500:
            long.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 70:
                long.append(f"{path}:{node.lineno} {node.name}")
    assert long == []
