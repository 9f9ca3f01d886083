"""Runs of the CLI: killed at every transition and at random instants, one at a time, and silent about secrets."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from orchestrator.inventory.scaffold import generated_password
from orchestrator.inventory.vault import VaultAccess, changed_vault, read_vault
from orchestrator.lab import machines, processes
from orchestrator.lab.lab import LabSite
from orchestrator.verification.catalogue import load_catalogue
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import failed, unexpected
from tests.scenarios.conftest import BIN, load, ratssaal, ssh, throwaway
from tests.unit.test_preflight_local import Authority, key_pem, pem

# Of the 20 random instants, those on the way from a bare host, and those at which an applied host is being changed.
KILLS_ON_THE_WAY, KILLS_OF_A_CHANGE = 14, 6


@pytest.fixture(scope="module")
def killed_at_transitions() -> Iterator[LabSite]:
    with throwaway("killtrans") as site:
        yield site


@pytest.fixture(scope="module")
def killed_at_random() -> Iterator[LabSite]:
    with throwaway("killrand") as site:
        yield site


def _start(site: LabSite, state: Path) -> subprocess.Popen[bytes]:
    # Whoever runs the tests in the background of a shell ignores SIGINT, and so would every child.
    argv = ["env", "--default-signal=INT", str(BIN / "ratssaal"), "provision", str(site.path)]
    argv += ["--harden", "--skip-preflight"]
    argv += ["--vault-password-file", str(site.vault_password_file)]
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    return subprocess.Popen(
        argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _kill(run: subprocess.Popen[bytes]) -> bool:
    """Kill the whole process group; say whether the run had not ended by itself."""
    alive = run.poll() is None
    if alive:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return alive


def _journals(site: LabSite, state: Path) -> list[Path]:
    return sorted(
        (state / "ratssaal" / site.path.name / "runs").glob("*/journal.jsonl"), key=lambda p: p.stat().st_mtime_ns
    )


def _transitions(journal: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _expect_nothing_left(site: LabSite) -> None:
    """Nothing of a killed run is on the host."""
    assert ssh(site, "dpkg --audit") == ""
    assert ssh(site, "ls /var/lib/ratssaal/lock.json 2>/dev/null; find /var/lib/ratssaal/pending -type f; true") == ""


def _finish_and_compare(site: LabSite, state: Path) -> None:
    """One plain re-run must be enough."""
    done = ratssaal(site, state, "provision", "--harden")
    assert done.returncode == 0, done.stderr
    assert "was taken over" in done.stderr
    _expect_nothing_left(site)
    assert unexpected(verify(load(site))) == {}
    again = ratssaal(site, state, "provision", "--harden", "--json")
    assert json.loads(again.stdout)["changed"] == 0


def test_killed_at_every_transition(killed_at_transitions: LabSite, tmp_path: Path) -> None:
    """The n-th run is killed as soon as its journal has n lines; each goes on where the one before was killed."""
    site, number, killed = killed_at_transitions, 0, []
    while True:
        number += 1
        known = len(_journals(site, tmp_path))
        run = _start(site, tmp_path)
        _wait_for_lines(site, tmp_path, known, number, run)
        if not _kill(run):
            break
        killed.append(_transitions(_journals(site, tmp_path)[-1])[-1]["what"])
    # run-started, lock-taken, nine times step-started and step-ended; the run's end may come before our kill
    assert len(killed) >= 20, killed
    assert {"run-started", "lock-taken", "step-started", "step-ended"} <= set(killed)
    _finish_after_one_more_kill(site, tmp_path)


def _wait_for_lines(site: LabSite, state: Path, known: int, number: int, run: subprocess.Popen[bytes]) -> None:
    while run.poll() is None and len(_journals(site, state)) <= known:
        time.sleep(0.02)
    journal = _journals(site, state)[-1]
    while run.poll() is None and journal.read_bytes().count(b"\n") < number:
        time.sleep(0.005)


def test_killed_at_random_instants(killed_at_random: LabSite, tmp_path: Path) -> None:
    """Kills fall on the way from a bare host to a finished one, and then while each run has something to change on it."""
    site, seed = killed_at_random, int(time.time())
    chance = random.Random(seed)
    print(f"seed {seed}")
    _kill_on_the_way(site, tmp_path, chance)
    done = ratssaal(site, tmp_path, "provision", "--harden", "--skip-preflight")
    assert done.returncode == 0, done.stderr
    _expect_nothing_left(site)
    assert failed(verify(load(site), quick=True)) == {}
    _kill_while_it_changes(site, tmp_path, chance)
    _finish_after_one_more_kill(site, tmp_path)
    assert "<title>Rathaus 5</title>" in ssh(site, "cat /usr/share/ratssaal/pages/title.html")


def _kill_on_the_way(site: LabSite, state: Path, chance: random.Random) -> None:
    """Every fourth kill waits until dpkg is at work; every second of these is a power cut: dpkg is killed, and the host reboots."""
    inside_dpkg = killed = number = 0
    while killed < KILLS_ON_THE_WAY:
        assert number < 2 * KILLS_ON_THE_WAY, f"only {killed} of {number} runs were still going when their time came"
        run = _start(site, state)
        if number % 4 == 0:
            _wait_for_dpkg(site, run)
            time.sleep(chance.uniform(0.0, 1.0) if number % 8 else 0.0)
        else:
            time.sleep(chance.uniform(2.0, 7.0))
        inside_dpkg += number % 8 == 0 and _kill_dpkg(site)
        number += 1
        if _kill(run):
            killed += 1
            if number % 8 == 1:
                _reboot_at_once(site)
        else:
            ssh(site, "apt-get -qq purge --yes jicofo nginx-common coturn >/dev/null 2>&1; true")
    assert inside_dpkg > 0, "no kill met dpkg"


def _kill_while_it_changes(site: LabSite, state: Path, chance: random.Random) -> None:
    """The site is altered before each run, which is killed some time after a step of the second half began."""
    path = site.path / "group_vars/all/site.yml"
    text = path.read_text()
    for number in range(KILLS_OF_A_CHANGE):
        path.write_text(f"{text}jitsi_name: Rathaus {number}\njitsi_conference_log_days: {number % 2 + 3}\n")
        known = len(_journals(site, state))
        run = _start(site, state)
        # run-started, lock-taken, and two lines a step
        _wait_for_lines(site, state, known, 3 + 2 * (4 + number % 5), run)
        # The last step, with nothing to do, takes hardly a second.
        time.sleep(chance.uniform(0.0, 0.5))
        assert _kill(run), "the run had ended before its time"


def _dpkg_works(site: LabSite) -> bool:
    return ssh(site, "pgrep -cx dpkg", check=False).split()[-1:] not in ([], ["0"])


def _kill_dpkg(site: LabSite) -> bool:
    """Kill dpkg and what started it on the host; say whether dpkg itself was at work."""
    return ssh(site, "pkill -KILL -x dpkg && echo killed; pkill -KILL -x apt-get; true").startswith("killed")


def _reboot_at_once(site: LabSite) -> None:
    """Reboot without stopping anything first, and wait until somebody can log in."""
    booted = "systemctl show -P UserspaceTimestampMonotonic"
    before = ssh(site, booted)
    machines.enter(site.hosts[0], "systemctl", "reboot", "--force", "--force", check=False)
    deadline = time.monotonic() + 60
    while ssh(site, booted, check=False) in ("", before):
        assert time.monotonic() < deadline, "the host did not come back"


def _wait_for_dpkg(site: LabSite, run: subprocess.Popen[bytes]) -> None:
    while run.poll() is None and not _dpkg_works(site):
        time.sleep(0.1)


def _finish_after_one_more_kill(site: LabSite, state: Path) -> None:
    known = len(_journals(site, state))
    run = _start(site, state)
    # run-started, lock-taken, step-started: however long the machine takes until then, there is a lock to take over.
    _wait_for_lines(site, state, known, 3, run)
    assert _kill(run)
    _finish_and_compare(site, state)


def test_only_one_run_at_a_time(killed_at_transitions: LabSite, tmp_path: Path) -> None:
    """Another control node's lock stands until somebody clears it with a reason."""
    site = killed_at_transitions
    foreign = {
        "owner": "eva@other",
        "machine": "other",
        "pid": 1,
        "process": "x",
        "reason": "upgrade",
        "since": "today",
    }
    ssh(site, f"cat > /var/lib/ratssaal/lock.json <<'END'\n{json.dumps(foreign, sort_keys=True)}\nEND")
    held = ratssaal(site, tmp_path, "provision", "--skip-preflight")
    assert held.returncode == 7
    assert "eva@other works on this site since today: upgrade" in held.stderr
    assert "ratssaal unlock" in held.stderr
    assert ratssaal(site, tmp_path, "unlock").returncode == 2
    cleared = ratssaal(site, tmp_path, "unlock", "--reason", "eva's laptop is gone")
    assert cleared.returncode == 0
    assert "eva's laptop is gone" in ssh(site, "cat /var/lib/ratssaal/journal/cleared-locks")
    assert ratssaal(site, tmp_path, "harden", "--skip-preflight").returncode == 0
    listed = json.loads(ratssaal(site, tmp_path, "runs", "--json").stdout)
    assert [row["state"] for row in listed] == ["done", "failed"]
    copies = ssh(site, "ls /var/lib/ratssaal/journal")
    assert listed[0]["id"] in copies


def test_interrupted_run_gives_the_lock_back(killed_at_transitions: LabSite, tmp_path: Path) -> None:
    site = killed_at_transitions
    run = _start(site, tmp_path)
    time.sleep(4)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 130
    assert ssh(site, "ls /var/lib/ratssaal/lock.json 2>/dev/null; true") == ""


class _Arguments(threading.Thread):
    """Collects every process's arguments on this machine, which holds the lab hosts' processes too.

    A process is looked at when it is young, since it soon becomes what it was started for, and later once in a while.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.done = threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        known: set[int] = set()
        young: dict[int, int] = {}
        number = 0
        while not self.done.wait(0.02):
            there = set(processes.ids())
            young |= dict.fromkeys(there - known, number)
            young = {pid: since for pid, since in young.items() if pid in there and number - since < 10}
            for pid in young if number % 50 else there:
                with suppress(OSError):
                    self.seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            known = there
            number += 1


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str) and "PUBLIC" not in value and "CERTIFICATE" not in value:
        # A private key shows itself by any of its lines.
        yield from (line for line in value.splitlines() if line and not line.startswith("-----"))


_BRIDGE = "/etc/jitsi/videobridge/jvb.conf"
# What an operator calls between two runs; a report of its own is made of the verification.
_COMMANDS = (
    ("preflight", "--json"),
    ("plan", "--json"),
    ("status", "--json"),
    ("drift", "--deep", "--json"),
    ("runs", "--json"),
    ("users list", "--json"),
)


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as base64 of a longer text shows it, wherever in it the secret begins."""
    yield secret
    for before in range(3):
        coded = base64.b64encode(b" " * before + secret.encode()).decode()
        # The letters at both ends hold bits of what stands beside it, too.
        yield coded[-(-before * 8 // 6) : (before + len(secret.encode())) * 8 // 6]


def test_a_secret_is_recognized_in_base64() -> None:
    secret = "a secret of some length"
    for before in ("", "x", "xy", "xyz"):
        shown = base64.b64encode(f"{before}{secret} and more".encode()).decode()
        assert [form for form in _forms(secret) if form in shown], before
    assert not [form for form in _forms(secret) if form in base64.b64encode(b"another secret of some length").decode()]


def _choose_what_has_secrets(site: LabSite) -> list[str]:
    """Let the certificate come from a PKCS#12 file, put beside it what tokens and a PEM key need; return these secrets."""
    authority, names = Authority(), [site.domain, f"turn.{site.domain}"]
    leaf = authority.issue(site.domain, authority.leaf_key, "middle", authority.middle_key, names=names)
    password, shared = generated_password(), generated_password()
    way = serialization.BestAvailableEncryption(password.encode())
    bundle = pkcs12.serialize_key_and_certificates(None, authority.leaf_key, leaf, [authority.middle], way)
    (site.path / "given.p12").write_bytes(bundle)
    (site.path / "chain.pem").write_bytes(pem(leaf, authority.middle))
    (site.path / "given.key").write_bytes(key_pem(authority.leaf_key))
    with VaultAccess(site.vault_password_file) as access, changed_vault(site.path, access) as values:
        values |= {"certificates_pkcs12_password": password, "jitsi_jwt_app_secret": shared}
    _append(site, "certificates_source: pkcs12\ncertificates_pkcs12_file: given.p12\n")
    return [password, shared, *_texts(key_pem(authority.leaf_key).decode())]


def _append(site: LabSite, text: str) -> None:
    with (site.path / "group_vars/all/site.yml").open("a") as handle:
        handle.write(text)


def _with_tokens_and_a_task_that_fails(site: LabSite) -> None:
    path = site.path / "group_vars/all/site.yml"
    path.write_text(path.read_text().replace("certificates_source: pkcs12", "certificates_source: pem"))
    _append(site, "certificates_chain_file: chain.pem\ncertificates_key_file: given.key\n")
    _append(site, "jitsi_auth: jwt\njitsi_jwt: {app_id: town}\n")
    # A file that holds a secret cannot be written.
    ssh(site, f"rm {_BRIDGE}; mkdir -p {_BRIDGE}/in-the-way")


def _read_by_anybody(site: LabSite, secrets: list[str]) -> str:
    """Return which files of the host hold a secret and can be read without any rights of one's own."""
    marker = "Kanarienvogel-4f7a"
    wanted = base64.b64encode(
        "\n".join([marker, *(secret for secret in secrets if len(secret) >= 16)]).encode()
    ).decode()
    ssh(site, f"install -m 0644 /dev/null /var/tmp/tst-seen && echo {marker} > /var/tmp/tst-seen")
    # Of what it may not open grep complains, and ends with 2. Named pipes would never end.
    search = "runuser -u nobody -- grep -raFl -D skip -f - /var /etc /run"
    found = ssh(site, f"echo {wanted} | base64 -d | {search} 2>/dev/null; rm /var/tmp/tst-seen").splitlines()
    assert "/var/tmp/tst-seen" in found, "the search finds what it should"
    return "\n".join(name for name in found if name != "/var/tmp/tst-seen")


def test_no_secret_shows_anywhere(tmp_path: Path) -> None:
    """Every secret of the vault and a given key, searched for wherever a run leaves or shows something, also when a task fails."""
    with throwaway("canary") as site:
        given = _choose_what_has_secrets(site)
        with VaultAccess(site.vault_password_file) as access:
            secrets = [*_texts(read_vault(site.path, access)), *given]
        secrets.append(site.vault_password_file.read_text().strip())
        assert len(secrets) >= 12
        sampler = _Arguments()
        sampler.start()
        runs = [
            ratssaal(site, tmp_path, "provision", "--harden", "--diff"),
            *(ratssaal(site, tmp_path, *words) for words in _COMMANDS),
        ]
        # The scan of all ports knows no secret and takes half a minute.
        chosen = [word for control in load_catalogue() if control.id != "NET-02" for word in ("--control", control.id)]
        proof = ratssaal(site, tmp_path, "verify", *chosen, "--out", str(tmp_path / "reports"))
        assert re.search(r"[3-9]\d pass, ", proof.stderr + proof.stdout), proof
        _with_tokens_and_a_task_that_fails(site)
        runs.append(ratssaal(site, tmp_path, "provision", "--diff", "--replace-altered"))
        # Tells what the failed run said.
        listed = ratssaal(site, tmp_path, "runs", "--json")
        assert [row["state"] for row in json.loads(listed.stdout)] == ["failed", "done"], listed
        sampler.done.set()
        sampler.join()
        assert [run.returncode for run in runs] == [0, *(0 for _ in _COMMANDS), 5], [run.stderr for run in runs]
        assert _BRIDGE in runs[-1].stderr
        assert given[1] in ssh(site, "cat /etc/prosody/conf.avail/*.cfg.lua"), "the tokens' secret was in use"
        places = {"the console": "".join(run.stdout + run.stderr for run in [*runs, listed, proof])}
        places |= {str(path): path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()}
        places["process arguments"] = b"\n".join(sampler.seen).decode(errors="replace")
        places["the host's journals"] = ssh(
            site, "journalctl --no-pager -o export --namespace='*' | tr -cd '\\11\\12\\40-\\176'"
        )
        places["the host's logs"] = ssh(
            site, "cat $(find /var/log -type f -not -path '*/journal/*') | tr -cd '\\11\\12\\40-\\176'"
        )
        assert _read_by_anybody(site, secrets) == ""
        assert len(sampler.seen) > 100
        endings = ("events.jsonl", "console.log", ".json", ".xml", ".html")
        assert [end for end in endings if not any(name.endswith(end) for name in places)] == []
        forms = [(secret, form) for secret in secrets for form in _forms(secret)]
        found = [
            (name, secret[:4] + "...") for name, shown in places.items() for secret, form in forms if form in shown
        ]
        assert found == []
