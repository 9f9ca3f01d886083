"""Preflight on a real host: each fault is made on the host, seen, taken back, and gone again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator import content
from orchestrator.cli import app
from orchestrator.cli.preflight import preflight
from orchestrator.errors import PreflightFailed, Unreachable, UsageError
from orchestrator.inventory.ansible_tools import tool_path
from orchestrator.inventory.scaffold import FirstHost, create_site
from orchestrator.inventory.site import Site, load_site
from orchestrator.inventory.vault import VaultAccess
from orchestrator.lab.lab import Lab, LabSite
from orchestrator.operations.preflight import Report, inspect
from orchestrator.transport import knownhosts, ssh
from tests.scenarios.conftest import play

LAB = "inp"
Run = Callable[[str], str]


@pytest.fixture(scope="module")
def lab() -> Iterator[LabSite]:
    driver = Lab()
    driver.down(LAB)
    try:
        yield driver.up(LAB, debian=13, hosts=1, repository=False)
    finally:
        driver.down(LAB)


@pytest.fixture
def site(lab: LabSite, tmp_path: Path) -> Site:
    """A site of its own for each test; its repository is the lab's bridge, where nothing answers."""
    key = tmp_path / "id_ed25519"
    shutil.copy(lab.path.parent / "id_ed25519", key)
    key.chmod(0o600)
    create_site(
        tmp_path / "town",
        domain=lab.domain,
        host=FirstHost(lab.hosts[0].address, key_file=str(key)),
        settings={"ratssaal_lab": True, "vendor_repository_url": "http://127.0.0.1:9"},
        password_file=tmp_path / "password",
    )
    shutil.copy(lab.path / "known_hosts", tmp_path / "town")
    with VaultAccess(tmp_path / "password") as access:
        return load_site(tmp_path / "town", access)


@pytest.fixture
def run(site: Site) -> Iterator[Run]:
    with ssh.connect(site.hosts[0], site.known_hosts) as connection:

        def command(script: str) -> str:
            answer = connection.run(f"set -e\n{script}\n")
            assert answer.code == 0, answer
            return answer.stdout

        yield command


def blocking(report: Report) -> list[str]:
    """Return the blocking problems but that of the repository, which no test but its own is about."""
    assert report.unreachable == ()
    assert [problem for problem in report.blocking if not problem.hint] == []
    return [problem.message for problem in report.blocking if "repository" not in problem.message]


def failed(site: Site) -> ssh.ConnectionFailed:
    with pytest.raises(ssh.ConnectionFailed) as caught:
        ssh.connect(site.hosts[0], site.known_hosts)
    assert caught.value.exit_code == 4
    return caught.value


@contextmanager
def untouched(run: Run) -> Iterator[None]:
    """See that nothing of the host changes meanwhile."""
    run("touch /root/before; sleep 1.1")
    yield
    changed = run(
        "find /etc /usr /root /var/lib /var/cache /opt -newer /root/before -not -path '*/systemd/*'; rm /root/before"
    )
    # The session's own traces: the log-in records of PAM and the directory that held the marker.
    assert set(changed.split()) <= {"/root", "/var/lib/lastlog", "/var/lib/wtmpdb"}


def test_fit_host_and_nothing_touched(site: Site, run: Run) -> None:
    with untouched(run):
        assert blocking(inspect(site)) == []


@pytest.mark.parametrize("verb", ["provision", "harden"])
def test_unfit_host_stays_untouched_by_a_run(
    site: Site, run: Run, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its repository does not answer, and nobody gave the key: the run ends before it begins."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with untouched(run):
        code = app.run([verb, str(site.path), "--vault-password-file", str(tmp_path / "password")])
    assert code == 3
    said = capsys.readouterr().err
    assert "vendor_repository_key" in said
    assert "http://127.0.0.1:9 cannot be read from the host" in said
    assert not list((tmp_path / "state").rglob("journal.jsonl"))


def test_unreachable_repository(site: Site) -> None:
    (problem,) = [p for p in inspect(site).blocking if "127.0.0.1" in p.message]
    assert "http://127.0.0.1:9 cannot be read from the host" in problem.message
    assert "refused" in problem.message
    assert re.search(r"town/group_vars/all/site\.yml:\d+$", problem.where)


def test_repository_signed_by_the_wrong_key(site: Site, lab: LabSite, tmp_path: Path) -> None:
    right, wrong = (gpg_key(tmp_path / name) for name in ("right", "wrong"))
    (tmp_path / "served/stable").mkdir(parents=True)
    (tmp_path / "Release").write_text("Origin: test\nSuite: stable\n")
    index = tmp_path / "served/stable/InRelease"
    gpg(tmp_path / "right", "--clearsign", "--output", str(index), str(tmp_path / "Release"))
    gateway = lab.hosts[0].address.rsplit(".", 1)[0] + ".1"
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer((gateway, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{gateway}:{server.server_address[1]}"

        def remarks(key: Path) -> list[str]:
            file = site.path / "group_vars/all/site.yml"
            kept = re.sub(r"(?m)^vendor_repository_(url|key):.*\n", "", file.read_text())
            file.write_text(f"{kept}\nvendor_repository_url: {url}\nvendor_repository_key: {key}\n")
            with VaultAccess(tmp_path / "password") as access:
                return [str(problem) for problem in inspect(load_site(site.path, access)).blocking]

        assert remarks(right) == []
        (told,) = remarks(wrong)
        server.shutdown()
    assert re.search(
        r"town/group_vars/all/site\.yml:\d+: the package repository is signed by another key, as the host meet", told
    )


def gpg(home: Path, *arguments: str) -> None:
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    # Its agent would stay.
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def gpg_key(home: Path) -> Path:
    """Make a signing key in a directory of its own and return its public half as a file."""
    home.mkdir(mode=0o700)
    gpg(home, "--quick-generate-key", f"{home.name}@example.org", "ed25519", "sign", "never")
    gpg(home, "--armor", "--output", f"{home}.asc", "--export")
    return Path(f"{home}.asc")


def test_wrong_ssh_key(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    spoiled = replace(site, hosts=(replace(site.hosts[0], key_file=str(other)),))
    error = failed(spoiled)
    assert error.reason is ssh.Reason.AUTHENTICATION
    assert f"does not accept {other}" in error.problems[0].message
    assert error.problems[0].hint.startswith("ssh-copy-id ")
    with pytest.raises(Unreachable) as caught:
        inspect(spoiled).require()
    assert re.search(rf"does not accept {other} \(\S+town/hosts\.yml:\d+\)$", caught.value.problems[0].message)


def test_unknown_host_key_is_shown_and_pinned(site: Site, run: Run) -> None:
    site.known_hosts.write_text(
        "192.0.2.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEX/sFnMlEXGVgrBHZRgGoYTpRK9nXKkPfcLJTQoFCyP\n"
    )
    error = failed(site)
    assert error.reason is ssh.Reason.UNKNOWN_KEY
    assert f"ratssaal preflight {site.path} --accept-keys" in error.problems[0].hint
    key = ssh.fetch_host_key(site.hosts[0])
    assert key.fingerprint in error.problems[0].message
    assert key.fingerprint in run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    knownhosts.pin_host_key(site.hosts[0], site.known_hosts, key)
    assert site.known_hosts.read_text().startswith("192.0.2.1 ")
    ssh.connect(site.hosts[0], site.known_hosts).close()


def test_command_pins_only_after_a_yes(site: Site) -> None:
    site.known_hosts.write_text("")
    arguments = [str(site.path), "--vault-password-file", str(site.path.parent / "password"), "--accept-keys"]
    refused = CliRunner().invoke(preflight, arguments)
    assert isinstance(refused.exception, UsageError)
    assert ssh.fetch_host_key(site.hosts[0]).fingerprint in refused.stderr
    assert site.known_hosts.read_text() == ""
    accepted = CliRunner().invoke(preflight, [*arguments, "--yes", "--json"], standalone_mode=False)
    # The repository of these tests does not answer, so the host is seen but not ready.
    assert accepted.return_value == PreflightFailed.exit_code
    answer = json.loads(accepted.stdout)
    assert answer["unreachable"] == []
    assert answer["hosts"]["meet"]["root"] is True
    assert knownhosts.pinned_keys(site.hosts[0], site.known_hosts) == (ssh.fetch_host_key(site.hosts[0]),)


def test_changed_host_key(site: Site, run: Run) -> None:
    old = ssh.fetch_host_key(site.hosts[0])
    keys = "/etc/ssh/ssh_host_*"
    run(f"mkdir /root/keys; mv {keys} /root/keys/; ssh-keygen -q -A; systemctl restart ssh")
    try:
        error = failed(site)
        assert error.reason is ssh.Reason.CHANGED_KEY
        new = ssh.fetch_host_key(site.hosts[0])
        assert new != old
        assert new.fingerprint in error.problems[0].message
        assert "CHANGED" in error.problems[0].message
        knownhosts.pin_host_key(site.hosts[0], site.known_hosts, new)
        ssh.connect(site.hosts[0], site.known_hosts).close()
        assert knownhosts.pinned_keys(site.hosts[0], site.known_hosts) == (new,)
    finally:
        run(f"rm {keys}; mv /root/keys/* /etc/ssh/; rmdir /root/keys; systemctl restart ssh")


def test_plain_ansible_uses_the_same_pinned_keys(site: Site) -> None:
    def ping() -> subprocess.CompletedProcess[str]:
        password = site.path.parent / "password"
        return subprocess.run(
            [tool_path("ansible"), "all", "-i", str(site.hosts_file), "-m", "ansible.builtin.ping"],
            env={**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(password), "ANSIBLE_SSH_ARGS": "-o ControlPath=none"},
            cwd=content.root(),
            capture_output=True,
            text=True,
            check=False,
        )

    answer = ping()
    assert answer.returncode == 0, answer
    assert "pong" in answer.stdout
    assert "[WARNING]" not in answer.stderr
    site.known_hosts.write_text("")
    answer = ping()
    assert answer.returncode == 4
    assert "Host key verification failed" in answer.stdout + answer.stderr


def test_silent_address(site: Site) -> None:
    # 198.18.0.0/15 is for benchmarks; the lab gives this address to nobody.
    gone = replace(site.hosts[0], address=site.hosts[0].address.rsplit(".", 1)[0] + ".250")
    with pytest.raises(ssh.ConnectionFailed) as caught:
        ssh.connect(gone, site.known_hosts, timeout=3)
    assert caught.value.reason is ssh.Reason.UNREACHABLE


def test_apt_lock_held_by_somebody(site: Site, run: Run) -> None:
    hold = "import fcntl,time; f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f,fcntl.LOCK_EX); time.sleep(600)"
    run(f'systemd-run --quiet --unit=test-lock python3 -c "{hold}"')
    try:
        wait_for(lambda: any("apt is locked by process" in text for text in blocking(inspect(site))))
        (message,) = blocking(inspect(site))
        assert "lock-frontend" in message
        assert "python3 -c import fcntl" in message
    finally:
        run("systemctl stop test-lock")
    assert blocking(inspect(site)) == []


def test_taken_port(site: Site, run: Run) -> None:
    run("systemd-run --quiet --unit=test-port python3 -m http.server 80")
    try:
        wait_for(lambda: bool(blocking(inspect(site))))
        (message,) = blocking(inspect(site))
        assert message.startswith("port 80/tcp is taken by python3 (process ")
        assert message.endswith("nginx needs it")
    finally:
        run("systemctl stop test-port")
    assert blocking(inspect(site)) == []


def test_full_disk(site: Site, run: Run) -> None:
    run("mount -t tmpfs -o size=50m tmpfs /var")
    try:
        (message,) = blocking(inspect(site))
        assert message.startswith("too little disk space: ")
        assert message.endswith("below /var")
    finally:
        run("umount /var")
    assert blocking(inspect(site)) == []


def test_unsupported_distribution(site: Site, run: Run) -> None:
    run("cp /usr/lib/os-release /root/os-release; sed -i 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release")
    try:
        (message,) = blocking(inspect(site))
        assert message.startswith("unsupported distribution: ")
    finally:
        run("cat /root/os-release > /usr/lib/os-release; rm /root/os-release")
    assert blocking(inspect(site)) == []


def test_plain_ansible_refuses_an_unsupported_distribution(lab: LabSite, site: Site, run: Run) -> None:
    """Nobody has to run preflight first."""
    run("cp /usr/lib/os-release /root/os-release; sed -i 's/^VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release")
    try:
        played = play(lab, check=False)
    finally:
        run("cat /root/os-release > /usr/lib/os-release; rm /root/os-release")
    assert (played.code, played.changed) == (2, 0)
    told = "unsupported distribution: debian 11; nothing was changed. Hint: install Debian 12 or 13"
    assert told in " ".join(played.output.split()), "Ansible breaks the line"


def test_user_without_root_rights(site: Site, run: Run) -> None:
    run(
        "useradd --create-home plain; install -d -o plain -m 0700 /home/plain/.ssh;"
        "install -o plain -m 0600 /root/.ssh/authorized_keys /home/plain/.ssh/authorized_keys"
    )
    try:
        plain = replace(site, hosts=(replace(site.hosts[0], user="plain"),))
        assert blocking(inspect(plain)) == ["the user has no root rights without a password"]
        # Another's account would be shut out by hardening, which is told before.
        told = [problem.message for problem in inspect(site).warnings]
        assert "plain logs in by a key now and will not after `ratssaal harden`" in told
        sudo = replace(site, hosts=(replace(site.hosts[0], user="operator"),))
        assert blocking(inspect(sudo)) == []
    finally:
        # What was killed is gone a moment later.
        run("pkill -KILL -u plain || true; for i in $(seq 50); do userdel --remove plain && break; sleep 0.1; done")


def test_command_that_does_not_end_is_ended(site: Site, run: Run) -> None:
    with ssh.connect(site.hosts[0], site.known_hosts) as connection:
        with pytest.raises(ssh.ConnectionFailed) as caught:
            connection.run("exec sleep 4242", timeout=1)
        assert caught.value.reason is ssh.Reason.TIMEOUT
    wait_for(lambda: "4242" not in run("ps -eo args | grep '[s]leep 4242' || true"))


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)
