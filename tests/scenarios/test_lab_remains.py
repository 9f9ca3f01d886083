"""Of a lab nothing remains: not after `down`, not after a killed `up`, not when its processes die by themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.lab import discovery, machines, processes
from orchestrator.lab.lab import STATE, Lab
from tests.scenarios.conftest import BIN, ssh

UP = [str(BIN / "ratssaal"), "lab", "up", "--without-repository"]


@pytest.fixture
def name() -> Iterator[str]:
    """A lab's name of which nothing is on this machine, before and after the test."""
    name = f"r{os.getpid()}"
    assert remains(name) == []
    try:
        yield name
    finally:
        Lab().down(name)
        assert remains(name) == []


def remains(name: str) -> list[str]:
    """Return all that is on this machine of a lab, looked for by the machine's own means and not by the lab's."""
    looks = {
        "mount": Path("/proc/self/mounts").read_text().splitlines(),
        "link": subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines(),
        "namespace": [str(path) for path in (*Path("/run/netns").glob("*"), *Path("/etc/netns").glob("*"))],
        "table": subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.split(
            "\n"
        ),
        "process": [f"{pid} {' '.join(words)}" for pid, words in processes.command_lines() if pid != os.getppid()],
        "at work in": list(_working_directories()),
        "directory": [
            str(path) for path in (*STATE.glob("*"), *STATE.glob(".*"), *Path("/run/systemd/nspawn").glob("*/*"))
        ],
    }
    marks = (f"rs-{name}", f"ratssaal_lab_{name}", f"{STATE}/{name}", f"{STATE}/.{name}.")
    return [f"{kind}: {line}" for kind, lines in looks.items() for line in lines if any(m in f"{line}." for m in marks)]


def _working_directories() -> Iterator[str]:
    """Yield where each process of this machine works: the package server's arguments do not tell whose it is."""
    for pid in processes.ids():
        with suppress(OSError):
            yield f"{os.readlink(f'/proc/{pid}/cwd')}/"


def test_down_leaves_nothing_and_is_safe_to_repeat(name: str) -> None:
    site = Lab().up(name, debian=12, hosts=2)
    assert {line.partition(":")[0] for line in remains(name)} >= {
        "mount",
        "link",
        "namespace",
        "table",
        "process",
        "at work in",
        "directory",
    }
    assert name in discovery.traces(STATE)
    stay = subprocess.Popen(["ip", "netns", "exec", site.network.outside, "sleep", "300"])
    with (site.hosts[0].root / "etc/hostname").open(encoding="utf-8"):  # somebody still looks into the host's disk
        assert Lab().down(name) is True
    assert remains(name) == []
    assert stay.wait(5) == -signal.SIGKILL, "what ran in the lab's namespace has to end with it"
    assert Lab().down(name) is False
    assert name not in discovery.traces(STATE)


# How far `up` has come when it is killed: what the lab left behind so far names the moments.
MOMENTS: dict[str, Callable[[str], bool]] = {
    "the record is written": lambda name: (STATE / name / "lab.json").exists(),
    "the bridge is there": lambda name: Path(f"/sys/class/net/rs-{name}").exists(),
    "the namespace is there": lambda name: Path(f"/run/netns/rs-{name}-out").exists(),
    "the disk is mounted": lambda name: (STATE / name / "hosts/h1/root/etc").exists(),
    "the host boots": lambda name: bool(machines.supervisors(name)),
}


def _killed_up(name: str, moment: str) -> None:
    """Start the lab and send SIGKILL to the command, not to what it started, as soon as it has come so far."""
    up = subprocess.Popen([*UP, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not MOMENTS[moment](name):
        assert time.monotonic() < deadline
        assert up.poll() is None, "it came to its end before it was killed"
        time.sleep(0.002)
    up.kill()
    up.wait()
    assert remains(name) != []


@pytest.mark.parametrize("moment", MOMENTS)
def test_down_removes_what_a_killed_up_left(name: str, moment: str) -> None:
    _killed_up(name, moment)
    listed = subprocess.run([str(BIN / "ratssaal"), "lab", "ls", "--json"], capture_output=True, text=True, check=True)
    answer = json.loads(listed.stdout)
    assert name in [*(row["lab"] for row in answer["hosts"]), *answer["left_behind"]], "nobody would know of it"
    assert Lab().down(name) is True
    assert remains(name) == []


@pytest.mark.parametrize("moment", ["the bridge is there", "the host boots"])
def test_up_completes_what_a_killed_up_left(name: str, moment: str) -> None:
    _killed_up(name, moment)
    site = Lab().up(name, repository=False)
    assert ssh(site, "systemctl is-system-running") == "running"


def test_a_lab_whose_record_is_lost_is_found_and_removed(name: str) -> None:
    Lab().up(name, repository=False)
    (STATE / name / "lab.json").unlink()
    assert name in Lab().half_made()
    assert Lab().down(name) is True
    assert remains(name) == []


def test_up_starts_a_host_again_that_died_and_keeps_its_disk(name: str) -> None:
    site = Lab().up(name, repository=False)
    ssh(site, "touch /root/kept && sync")
    for pid in machines.supervisors(name):
        os.kill(pid, signal.SIGKILL)
    assert Lab().up(name, repository=False) == site
    assert ssh(site, "ls /root/kept") == "/root/kept"


def test_a_second_host_joins_a_running_lab(name: str) -> None:
    one = Lab().up(name, repository=False)
    ssh(one, "touch /run/same-boot")
    two = Lab().up(name, hosts=2, repository=False)
    assert (
        ssh(two, f"test -e /run/same-boot && ping -c 1 -q {two.hosts[1].address} >/dev/null && echo reached")
        == "reached"
    )
    assert ssh(two, "hostname", address=two.hosts[1].address) == "h2"


def test_without_root_the_lab_says_how(name: str) -> None:
    # A user namespace in which nobody is root: whoever owns the project's files, they stay readable.
    done = subprocess.run(["unshare", "--user", *UP, name], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "the lab needs root" in done.stderr
    assert "sudo " in done.stderr
    assert "Traceback" not in done.stderr
    assert remains(name) == []
