"""Serving a lab's package repository over HTTP on the lab's bridge."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from orchestrator.errors import Problem, TaskFailed
from orchestrator.lab.network import Network
from orchestrator.lab.servers import Server

PORT = 8043
SERVER = Server("http.server", "repository.log")


def url(network: Network) -> str:
    """Return where the lab's hosts find the repository."""
    return f"http://{network.gateway}:{PORT}"


def serve(repository: Path, folder: Path, network: Network) -> None:
    """Serve `repository` on the bridge until the lab ends. Raises TaskFailed if it does not answer."""
    arguments = [str(PORT), "--bind", network.gateway, "--directory", str(repository)]
    if not SERVER.serve(folder, arguments, lambda: _answers(f"{url(network)}/")):
        tail = (folder / SERVER.log).read_text(errors="replace")[-500:]
        message = f"the package repository does not answer at {url(network)}: {tail}"
        raise TaskFailed([Problem(message, hint=f"see who else has its port: ss -ltnp 'sport = :{PORT}'")])


def _answers(address: str) -> bool:
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
