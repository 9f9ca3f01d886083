"""What runs on a host, run here: tasks of a role that apply files, and what differs from them then."""

from __future__ import annotations

import base64
import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import content

SECRET = "Kanarienvogel-8b2c"
UNFINISHED = ("unfinished", "a task that ended well", "it began and has not ended: interrupted, or at work now")
HALFWAY = ("unfinished", "as applied", "as an interrupted run left it")


def load(path: str) -> Any:
    """Return a module below playbooks that belongs to no package, such as a filter plugin."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, content.root() / "playbooks" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What runs on a host, with its manifest in a temporary directory."""
    monkeypatch.syspath_prepend(str(content.root() / "playbooks/host"))
    names = (
        "accounts",
        "digest",
        "disk",
        "drift",
        "files",
        "guard",
        "manifest",
        "apt",
        "comparisons",
        "originals",
        "packages",
        "pending",
        "steps",
        "sysctl",
        "units",
        "users",
    )
    modules = {name: importlib.import_module(f"ratssaal_host.{name}") for name in names}
    monkeypatch.setattr(modules["digest"], "FOLDER", str(tmp_path / "manifest"))
    return SimpleNamespace(**modules)


def a_file(path: Path, text: str = "one\n", **more: Any) -> dict[str, Any]:
    """Return a step that wants one file, owned by whoever runs the tests."""
    owner = {"owner": path.parent.owner(), "group": path.parent.group()}
    contents = {"0": base64.b64encode(text.encode()).decode()}
    return {"files": [{"dest": str(path), **owner, **more}], "contents": contents}


def apply(code: Any, *steps: dict[str, Any], name: str = "T", check: bool = False, **part: Any) -> dict[str, Any]:
    """Run a task of the role `web` as a host does and return its result."""
    whole = {"role": "web", "task": name, "tasks": [name], "phased": False} | part
    result: dict[str, Any] = code.steps.run({"steps": steps, "check_mode": check, "diff": False, "part": whole})
    return result


def differences(code: Any) -> list[tuple[str, str, str, str, str]]:
    """Return what differs from the manifest now."""
    rows = code.drift.compare(code.manifest.read(), code.manifest.begun())
    return [tuple(row[key] for key in ("kind", "name", "what", "wanted", "found")) for row in rows]
