"""Serving a lab's package repository over HTTP on the lab's bridge."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.lab import processes
from orchestrator.lab.network import Network

PORT = 8043


def url(network: Network) -> str:
    """Return where the lab's hosts find the repository."""
    return f"http://{network.gateway}:{PORT}"


def serve(repository: Path, folder: Path, network: Network) -> None:
    """Serve `repository` on the bridge until `end`; the server is known by its working directory, the lab's `folder`.

    A running server stays. Raises TaskFailed if it does not answer after 20 s.
    """
    if not servers(folder):
        argv = [
            sys.executable,
            "-m",
            "http.server",
            str(PORT),
            "--bind",
            network.gateway,
            "--directory",
            str(repository),
        ]
        with (folder / "repository.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", *argv], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
            )
    deadline = time.monotonic() + 20
    while not _answers(f"{url(network)}/"):
        if time.monotonic() > deadline:
            tail = (folder / "repository.log").read_text(errors="replace")[-500:]
            message = f"the package repository does not answer at {url(network)}: {tail}"
            raise TaskFailed([Problem(message, hint=f"see who else has its port: ss -ltnp 'sport = :{PORT}'")])
        time.sleep(0.1)


def end(folder: Path) -> bool:
    """End the lab's package server; False if none ran."""
    found = bool(servers(folder))
    processes.kill_all(lambda: servers(folder), seconds=5)
    return found


def servers(folder: Path) -> list[int]:
    """Return the package servers that were started in the lab's folder, also if that is deleted meanwhile."""
    return [
        pid for pid, words in processes.command_lines() if "http.server" in words and processes.works_in(pid, folder)
    ]


def _answers(address: str) -> bool:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
