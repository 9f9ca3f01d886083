"""The scan of what TLS a port speaks, with a program in nmap's place that answers as it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.verification.checks.test_tls import Endpoint
from orchestrator.verification.reach import Target
from tests.unit.asked import printed

SPOKEN = '<nmaprun><table key="TLSv1.3"/></nmaprun>'
NOTHING = "<nmaprun></nmaprun>"


@pytest.mark.parametrize(
    ("answers", "told", "runs"),
    [
        ([SPOKEN], SPOKEN, 1),
        ([NOTHING, SPOKEN], SPOKEN, 2),
        ([NOTHING, NOTHING, SPOKEN], NOTHING, 2),
    ],
    ids=["spoken", "silent once", "silent"],
)
def test_a_port_that_speaks_no_tls_is_asked_once_more(tmp_path: Path, answers: list[str], told: str, runs: int) -> None:
    for number, answer in enumerate(answers):
        (tmp_path / f"answer{number}").write_text(answer)
    nmap = f'cd {tmp_path}\nprintf "%s\\n" "$*" >>calls\ncat answer$(($(wc -l <calls) - 1))'
    command = Endpoint("meet.example.org", 443, Target("192.0.2.10", "")).enumerate()
    assert printed(command, tmp_path, nmap=nmap) == f"{told}\n"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == runs
    assert calls[0].endswith("tls.servername=meet.example.org -p 443 192.0.2.10")
