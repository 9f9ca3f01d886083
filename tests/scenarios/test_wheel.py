"""The wheel, installed into a clean environment, rehearses: nothing of the checkout is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import OPEN
from tests.scenarios.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_carries_what_a_run_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    roots = ("playbooks", "roles")
    wanted = {
        f"orchestrator/_content/{path.relative_to(ROOT)}"
        for root in roots
        for path in (ROOT / root).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names == set()
    assert "orchestrator/_content/ansible.cfg" in names
    assert not any(name.startswith(("tests/", "docs/")) for name in names)


def test_installed_wheel_rehearses(wheel: Path, tmp_path: Path) -> None:
    """As `make rehearse` does in a checkout, with what it prints for people."""
    clean = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(clean)], check=True, timeout=120)
    pip = [str(clean / "bin/python"), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(wheel)], check=True, timeout=600)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "LANG": "C.UTF-8",
    }
    argv = [str(clean / "bin/ratssaal"), "rehearse", "--out", str(tmp_path / "reports")]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.rstrip().endswith("The rehearsal succeeded.")
    page = Path(done.stdout.strip())
    answer = json.loads(page.with_suffix(".json").read_text())
    # Beside what is never tested on a lab host there are the two controls that need a browser: it takes the extra `browser`.
    open_ones = sum(result is Result.NOT_TESTED for result in OPEN.values()) + 2
    assert (answer["counts"]["fail"], answer["counts"]["error"], answer["counts"]["not_tested"]) == (0, 0, open_ones), (
        answer
    )
    assert answer["counts"]["pass"] >= 40
    assert page.stat().st_size > 10_000
    assert "STAND-INS" in done.stderr
    listed = subprocess.run([argv[0], "lab", "ls", "--json"], capture_output=True, text=True, check=True, timeout=60)
    assert not [row for row in json.loads(listed.stdout)["hosts"] if row["lab"].startswith("rehearse")]
