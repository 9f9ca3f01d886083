"""Lab hosts for scenario tests: real Debian with its own systemd, sshd and address. They need root and say so."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory.site import Site, load_site
from orchestrator.inventory.vault import VaultAccess
from orchestrator.lab.lab import Lab, LabHost, LabSite

# What a worker takes at a time, in this order: what takes longest must not begin last. Files of one row go one after the other on
# one converged host (`site`), since a converge from the bare host costs as much as the tests of many a file.
ORDER = (
    ("test_verification", "test_hardening_faults", "test_guard"),
    ("test_faults", "test_outside", "test_browser"),
    ("test_conference", "test_audit", "test_hardening_sshd", "test_drift"),
    ("test_run",),
    ("test_variants",),
    ("test_standins", "test_sandbox_load", "test_service", "test_traps"),
    ("test_converge",),
    ("test_first_evening",),
    ("test_modules",),
    ("test_vantage",),
    ("test_wheel",),
    ("test_lab_hosts",),
    ("test_module_packages",),
    ("test_bad_input_hosts",),
    ("test_lab_remains",),
)
# OpenSSH 9.2 spends a tenth of a second of CPU time on its post-quantum key exchange, and a run of all tests logs in thousands of
# times. The quick one comes first; the others are for hosts that offer something else.
_QUICK_KEX = "curve25519-sha256,sntrup761x25519-sha512@openssh.com,ecdh-sha2-nistp256"
# sshd closes its sockets and opens them anew when it reads its settings, some time after systemctl ended: nobody gets in
# meanwhile, and whoever comes before that meets the old settings.
RELOAD_SSH = (
    "was=$(ss -Hltnep | grep sshd); systemctl reload ssh && for i in $(seq 100); do sleep 0.1;"
    ' now=$(ss -Hltnep | grep sshd); test -n "$now" && test "$now" != "$was" && break; done'
)
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Begin with the files that take longest, and keep those together that share a host."""
    places = {name: (number, place) for number, row in enumerate(ORDER) for place, name in enumerate(row)}
    items.sort(key=lambda item: places.get(item.path.stem, (len(ORDER), 0)))
    for item in items:
        group = next((row[0] for row in ORDER if item.path.stem in row), item.path.stem)
        item.add_marker(pytest.mark.xdist_group(group))
    yield
    require_groups(config, items)


def require_groups(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop where pytest-xdist has not written a test's group behind its name: one worker would take another's host away."""
    if hasattr(config, "workerinput") and not all("@" in item.nodeid for item in items):
        raise pytest.UsageError("pytest-xdist does not keep the tests of a host together with this version of pytest")


@contextmanager
def throwaway(
    name: str, *, debian: int = 13, playbook: str = "", driver: str = "container", hosts: int = 1
) -> Iterator[LabSite]:
    """A lab whose first host is the site's, converged by plain Ansible where a playbook is named; nothing of it stays."""
    labs = Lab()
    labs.down(name)
    try:
        site = labs.up(name, debian=debian, driver=driver, hosts=hosts)
        if playbook:
            play(site, playbook=playbook)
        yield site
    finally:
        labs.down(name)


@pytest.fixture(scope="session")
def converged(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], LabSite]]:
    """One Debian 13 host a worker, converged once; a call puts host and site back to that state and returns the site."""
    kept = tmp_path_factory.mktemp("kept") / "site"
    # Two checkouts may test at once.
    with throwaway(f"b{zlib.crc32(bytes(ROOT)) % 4096:03x}{worker_id}", playbook="site.yml") as made:
        shutil.copytree(made.path, kept, symlinks=True)
        driver, name = Lab(), made.path.name
        # Or each return to this state would have it look at all files for the first time.
        ssh(made, "for each in $(seq 240); do test -s /var/lib/aide/aide.db && exit; sleep 0.5; done; exit 1")
        driver.snapshot(name)
        used: list[bool] = []

        def again() -> LabSite:
            if used:
                driver.revert(name)
                shutil.rmtree(made.path)
                shutil.copytree(kept, made.path, symlinks=True)
            used.append(True)
            wait_for_a_bridge(made)
            return made

        yield again


def wait_for_a_bridge(site: LabSite) -> None:
    """Wait until Jicofo sees its bridge: the host, or Prosody, has just begun."""
    health = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8888/about/health"
    seen = ssh(
        site, f"for i in $(seq 120); do code=$({health}); test $code = 200 && break; sleep 0.5; done; echo $code"
    )
    assert seen == "200"


@pytest.fixture(scope="module")
def site(converged: Callable[[], LabSite]) -> LabSite:
    """A converged Debian 13 host as the roles left it, booted once since; what a module does to it is gone for the next."""
    return converged()


@pytest.fixture(scope="module")
def lab_site(request: pytest.FixtureRequest) -> Iterator[LabSite]:
    """A complete site with one Debian 13 host and the stand-ins' repository, gone after the module.

    Another release: `@pytest.mark.parametrize("lab_site", [12], indirect=True)`.
    """
    debian = int(getattr(request, "param", 13))
    with throwaway(f"s{debian}p{os.getpid()}", debian=debian) as site:
        yield site


@pytest.fixture(scope="module")
def lab_host(lab_site: LabSite) -> LabHost:
    """The one host of `lab_site`."""
    return lab_site.hosts[0]


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' runs are journalled, instead of in the caller's home."""
    return tmp_path_factory.mktemp("state")


@dataclass(frozen=True)
class Played:
    """What one run of plain ansible-playbook gave."""

    code: int
    output: str

    def __repr__(self) -> str:
        """Return what a failed assertion should tell: each task that changed something, and what."""
        tasks = re.split(r"\n(?=TASK |PLAY )", self.output)
        return "\n".join([f"ended with {self.code}", *(task for task in tasks if "\nchanged: [" in task)])

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        counts = [int(number) for number in re.findall(r"changed=(\d+)", self.output)]
        assert counts, self.output[-3000:]
        return sum(counts)

    @property
    def warnings(self) -> list[str]:
        """Every line in which Ansible warned of anything."""
        return [line for line in self.output.splitlines() if re.search(r"\[(\w+ )?WARNING\]|DEPRECAT", line)]


def _longest(site: LabSite) -> int:
    """Return how many seconds a command may take; virtual machines are emulated where KVM does not work."""
    return 7200 if site.hosts[0].driver == "vm" else 900


def _ended(argv: list[str], seconds: int, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with a standard input of its own.

    An ssh makes that non-blocking and leaves it so where it breaks off, and Ansible refuses such a one.
    """
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
        **more,
    )


def play(site: LabSite, *arguments: str, playbook: str = "site.yml", check: bool = True) -> Played:
    """Run plain ansible-playbook on a lab's site as an operator without the CLI would; `check` that it ends well, unwarned."""
    argv = [str(BIN / "ansible-playbook"), "-i", str(site.path / "hosts.yml")]
    argv += ["--vault-password-file", str(site.vault_password_file), "-v", *arguments, f"playbooks/{playbook}"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = _ended(argv, _longest(site), cwd=ROOT, env=environment)
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, output[-6000:]
    played = Played(done.returncode, output)
    assert not check or played.warnings == [], played.warnings
    return played


def load(site: LabSite) -> Site:
    """Return the typed site of a lab, read anew where any of its files has changed."""
    files = sorted(path for path in site.path.rglob("*") if path.is_file())
    state = hashlib.sha256(b"".join(b"%s\0%s\0" % (bytes(path), path.read_bytes()) for path in files)).hexdigest()
    return _load(site.path, site.vault_password_file, state)


@functools.cache
def _load(path: Path, password_file: Path, state: str) -> Site:
    # Ansible reads it, which takes as long as many a check.
    del state
    with VaultAccess(password_file) as access:
        return load_site(path, access)


def ratssaal(site: LabSite, state: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the CLI on a lab's site."""
    argv = [
        str(BIN / "ratssaal"),
        *verb.split(),
        str(site.path),
        "--vault-password-file",
        str(site.vault_password_file),
    ]
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    return _ended([*argv, *arguments], _longest(site), env=environment)


def in_room(
    site: LabSite, steps: list[str], *, accounts: dict[str, str] | None = None, tokens: dict[str, str] | None = None
) -> dict[str, list[dict[str, object]]]:
    """Let people open and enter a room of their own (xmpp_room.py); return "who verb" -> what happened, each time in turn."""
    task = {"domain": site.domain, "room": f"room-{uuid.uuid4().hex[:8]}", "steps": [step.split() for step in steps]}
    given = json.dumps(task | {"accounts": accounts or {}, "tokens": tokens or {}})
    script = Path(__file__).with_name("xmpp_room.py").read_text()
    told = ssh(site, f"python3 - {shlex.quote(given)} <<'END'\n{script}\nEND")
    found: dict[str, list[dict[str, object]]] = {}
    for row in map(json.loads, told.splitlines()):
        found.setdefault(f"{row['who']} {row['did']}", []).append(row)
    return found


def ssh(site: LabSite, command: str, *, user: str = "root", address: str = "", check: bool = True) -> str:
    """Run a shell command on the lab's first host by OpenSSH with its pinned key and return what it printed."""
    options = ["IdentitiesOnly=yes", "BatchMode=yes", "ConnectTimeout=10", "StrictHostKeyChecking=yes"]
    options += [f"UserKnownHostsFile={site.known_hosts}", f"KexAlgorithms={_QUICK_KEX}"]
    argv = ["ssh", "-i", str(site.key_file), *(word for option in options for word in ("-o", option))]
    target = f"{user}@{address or site.hosts[0].address}"
    longest = _longest(site) // 3
    done = _ended([*argv, target, command], longest)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()
