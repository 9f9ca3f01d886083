"""Our own Ansible modules: what differs is changed, what does not is left, and what a killed run left is put right."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.lab import machines
from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import BIN, ROOT, ssh
from tests.scenarios.module_calls import SECRET, Done, bare_host, call, settled


@pytest.fixture(scope="module")
def site() -> Iterator[LabSite]:
    """A host on which no role has run."""
    with bare_host("m13") as made:
        yield made


# --- managed_host: files ---------------------------------------------------------------------------------------------------

FILES: list[dict[str, Any]] = [
    {"dest": "/etc/tst", "state": "directory", "mode": "0750"},
    {"dest": "/etc/tst/plain", "content": "one\n", "mode": "0644"},
    {"dest": "/etc/tst/link", "link": "/etc/tst/plain"},
    {"dest": "/etc/tst/deeper/still/file", "content": "two\n", "owner": "operator", "group": "adm", "mode": "0640"},
    {"dest": "/etc/tst-gone", "state": "absent"},
]


def test_files_come_into_their_state_and_stay(site: LabSite) -> None:
    ssh(site, "mkdir -p /etc/tst-gone/full && touch /etc/tst-gone/full/of")
    assert call(site, "files", "--check", files=FILES).changed
    assert ssh(site, "ls -d /etc/tst* ") == "/etc/tst-gone", "check mode touched something"
    made = settled(site, "files", files=FILES)
    assert made.result["changed_paths"] == [str(entry["dest"]) for entry in FILES]
    shown = ssh(site, "stat -c '%n %F %a %U %G' /etc/tst /etc/tst/plain /etc/tst/link /etc/tst/deeper/still/file")
    assert shown.splitlines() == [
        "/etc/tst directory 750 root root",
        "/etc/tst/plain regular file 644 root root",
        "/etc/tst/link symbolic link 777 root root",
        "/etc/tst/deeper/still/file regular file 640 operator adm",
    ]
    assert ssh(site, "cat /etc/tst/link; test ! -e /etc/tst-gone && ls -A /etc/tst") == "one\ndeeper\nlink\nplain"


HARM = {
    "echo more >> /etc/tst/plain": "/etc/tst/plain",
    "chmod 0600 /etc/tst/plain": "/etc/tst/plain",
    "chown operator /etc/tst/plain": "/etc/tst/plain",
    "rm /etc/tst/plain; ln -s /etc/passwd /etc/tst/plain": "/etc/tst/plain",
    "ln -sfn /etc/shadow /etc/tst/link": "/etc/tst/link",
    "chmod 0777 /etc/tst": "/etc/tst",
    "touch /etc/tst-gone": "/etc/tst-gone",
}


def test_an_altered_file_is_found_and_repaired(site: LabSite) -> None:
    call(site, "files", files=FILES)
    passwd = ssh(site, "sha256sum /etc/passwd")
    for harm, path in HARM.items():
        ssh(site, harm)
        found = call(site, "files", files=FILES).result["changed_paths"]
        assert found == [path], f"after `{harm}`"
    assert not call(site, "files", files=FILES).changed
    assert ssh(site, "sha256sum /etc/passwd") == passwd, "what a planted link pointed to was written"


def test_a_secret_is_in_no_output(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-secret", "content": f"password={SECRET}\n", "mode": "0600", "secret": True}
    for flags in (("--check", "--diff"), ("--diff", "-vvv"), ("--diff", "-vvv")):
        assert SECRET not in call(site, "files", *flags, files=[entry]).raw
    assert ssh(site, "cat /etc/tst-secret") == f"password={SECRET}"
    replaced = entry | {"content": "password=other\n"}
    done = call(site, "files", "--diff", "-vvv", files=[replaced])
    assert done.changed
    assert SECRET not in done.raw, "the old secret was shown"
    assert SECRET not in ssh(site, "journalctl --no-pager")


def test_a_file_that_is_no_secret_is_shown(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-shown", "content": "colour=green\n"}
    done = call(site, "files", "--diff", files=[entry])
    assert "+colour=green" in done.raw
    assert done.result["changed_paths"] == ["/etc/tst-shown"]


def test_a_file_that_its_program_refuses_is_not_installed(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-sudo", "content": "nonsense nonsense\n", "mode": "0440", "validate": "visudo -cf %s"}
    done = call(site, "files", files=[entry])
    assert "/etc/tst-sudo is refused by its own program" in done.message
    assert ssh(site, "ls -A /etc | grep -E 'tst-sudo|[.]ratssaal' || true") == ""


def test_unforced_content_is_only_written_where_there_is_none(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-own", "content": "ours\n", "force": False}
    assert call(site, "files", files=[entry]).changed
    ssh(site, "echo theirs > /etc/tst-own; chmod 0600 /etc/tst-own")
    assert call(site, "files", files=[entry]).changed
    assert ssh(site, "cat /etc/tst-own; stat -c %a /etc/tst-own") == "theirs\n644"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"dest": "/etc/tst-x", "contents": "y"}, "unknown keys"),
        ({"dest": "/etc/tst-x", "mode": "0644"}, "nothing says what is in it"),
        ({"dest": "/etc/tst-x", "content": "y", "owner": "nobody-such"}, "no user nobody-such"),
        ({"dest": "/etc", "content": "y"}, "/etc is a directory, a file was wanted"),
        ({"dest": "/proc/tst-x", "content": "y"}, "/proc/tst-x"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(site: LabSite, entry: dict[str, Any], told: str) -> None:
    assert told in call(site, "files", files=[entry]).message


# --- managed_host: sysctl --------------------------------------------------------------------------------------------------

SYSCTL = "/etc/sysctl.d/90-tst.conf"


def test_kernel_settings_are_in_the_file_and_in_force(site: LabSite) -> None:
    wanted = {"net.ipv4.ip_default_ttl": 61, "net.ipv4.conf.all.log_martians": 1}
    made = settled(site, "sysctl", path=SYSCTL, values=wanted)
    assert made.result["not_settable"] == []
    assert ssh(site, "sysctl -n net.ipv4.ip_default_ttl net.ipv4.conf.all.log_martians") == "61\n1"
    for harm, found in (
        ("sysctl -qw net.ipv4.ip_default_ttl=64", "net.ipv4.ip_default_ttl"),
        (f"sed -i s/61/64/ {SYSCTL}", SYSCTL),
    ):
        ssh(site, harm)
        assert call(site, "sysctl", path=SYSCTL, values=wanted).result["changed_settings"] == [found]
    assert ssh(site, f"grep ttl {SYSCTL}; sysctl -n net.ipv4.ip_default_ttl") == "net.ipv4.ip_default_ttl = 61\n61"


def test_what_the_shared_kernel_refuses_is_told_and_no_failure(site: LabSite) -> None:
    own = ssh(site, "cat /proc/sys/kernel/kptr_restrict")
    wanted = {"kernel.kptr_restrict": 2 if own != "2" else 1, "net.no.such": 1}
    path = "/etc/sysctl.d/91-tst.conf"
    made = call(site, "sysctl", path=path, values=wanted)
    assert made.result["changed_settings"] == [path]
    assert made.result["not_settable"] == ["kernel.kptr_restrict", "net.no.such"]
    assert not call(site, "sysctl", path=path, values=wanted).changed
    assert ssh(site, "cat /proc/sys/kernel/kptr_restrict") == own


# --- managed_host: units ---------------------------------------------------------------------------------------------------

UNIT = {
    "dest": "/etc/systemd/system/tst.service",
    "content": "[Service]\nExecStart=sleep infinity\nExecReload=touch /run/tst-reloaded\n"
    "[Install]\nWantedBy=multi-user.target\n",
}
STARTED = [{"name": "tst.service", "enabled": True, "state": "started"}]


def units(site: LabSite, *flags: str, wanted: list[dict[str, Any]] | None = None) -> Done:
    """Call managed_host for the tests' own unit."""
    return call(site, "units", *flags, units=wanted or STARTED, settle=0.3)


def test_a_unit_comes_into_its_state_and_stays(site: LabSite) -> None:
    assert units(site, "--check").result["actions"] == ["start tst.service"], "its package may not be there yet"
    missing = units(site)
    assert missing.failed
    assert "tst.service: there is no such service" in missing.result["msg"]
    assert "provision the host first" in missing.result["msg"]
    call(site, "files", files=[UNIT])
    assert units(site).result["actions"] == ["enable tst.service", "start tst.service"]
    assert not units(site).changed
    for harm, action in {"stop": "start", "disable": "enable"}.items():
        ssh(site, f"systemctl {harm} tst.service")
        assert units(site, "--check").result["actions"] == [f"{action} tst.service"]
        assert units(site).result["actions"] == [f"{action} tst.service"]
    stopped = [{"name": "tst.service", "enabled": False, "state": "stopped"}]
    assert units(site, wanted=stopped).result["actions"] == ["disable tst.service", "stop tst.service"]
    masked = [{"name": "tst-other.service", "masked": True}]
    ssh(site, "echo '[Service]' > /usr/lib/systemd/system/tst-other.service; systemctl daemon-reload")
    assert units(site, wanted=masked).changed
    assert not units(site, wanted=masked).changed
    assert ssh(site, "systemctl is-enabled tst-other.service tst.service || true") == "masked\ndisabled"


def _pid(site: LabSite) -> str:
    return ssh(site, "systemctl show -P MainPID tst.service")


def test_a_restart_is_not_forgotten_by_a_killed_run(site: LabSite) -> None:
    """The run is killed while it writes the file: after the note of what to restart, before the file is there."""
    call(site, "files", files=[UNIT])
    units(site)
    before = _pid(site)
    entry = {"dest": "/etc/tst.conf", "content": "new\n", "restarts": ["tst.service"]}
    killed = call(site, "files", files=[entry | {"validate": "kill -9 $PPID; true %s"}])
    assert killed.failed
    assert ssh(site, "ls /etc/tst.conf 2>&1 || ls /var/lib/ratssaal/pending/restart").endswith("tst.service")
    call(site, "files", files=[entry])
    assert _pid(site) == before
    # The same for a run that was killed after it had written the file: the file is right, the unit still runs the old one.
    assert not call(site, "files", files=[entry]).changed
    assert units(site, "--check").result["actions"] == ["restart tst.service"]
    assert _pid(site) == before
    assert units(site).result["actions"] == ["restart tst.service"]
    assert _pid(site) != before
    assert not units(site).changed
    assert ssh(site, "ls -A /etc | grep '[.]ratssaal' || true") == "", (
        "the killed run's half-written file is still there"
    )


def test_a_reload_leaves_the_process(site: LabSite) -> None:
    call(site, "files", files=[UNIT])
    units(site)
    before = _pid(site)
    call(site, "files", files=[{"dest": "/etc/tst.reload", "content": "new\n", "reloads": ["tst.service"]}])
    assert units(site).result["actions"] == ["reload-or-restart tst.service"]
    assert ssh(site, "ls /run/tst-reloaded") == "/run/tst-reloaded"
    assert _pid(site) == before


def test_a_unit_that_does_not_stay_up_fails_with_what_it_said_and_is_tried_again(site: LabSite) -> None:
    wrong = UNIT | {"content": UNIT["content"].replace("sleep infinity", "sh -c 'echo no bread today; exit 3'")}
    call(site, "files", files=[wrong | {"restarts": ["tst.service"]}])
    failed = units(site)
    assert "tst.service: is failed (exit-code) after its start" in failed.message
    assert "no bread today" in failed.message
    call(site, "files", files=[UNIT | {"restarts": ["tst.service"]}])
    assert units(site).changed
    assert ssh(site, "systemctl is-active tst.service; ls /var/lib/ratssaal/pending/restart") == "active"


# --- own_ca_certificate ----------------------------------------------------------------------------------------------

NAMES = ["meet.tst.test", "turn.meet.tst.test"]
DEST = "/etc/tst-tls"


def authority() -> tuple[str, str]:
    """Return certificate and key of a new CA as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The tests' CA")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    signed = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return signed.decode(), key.private_bytes(*form).decode()


def _certificate(site: LabSite) -> x509.Certificate:
    return x509.load_pem_x509_certificate(ssh(site, f"cat {DEST}/fullchain.pem").encode())


def test_a_certificate_of_the_own_ca(site: LabSite) -> None:
    ca, key = authority()
    certificate: dict[str, Any] = {"names": NAMES, "dest": DEST, "group": "adm", "reloads": ["tst.service"]}
    wanted: dict[str, Any] = {"certificates": [certificate], "ca_certificate": ca, "ca_key": key, "days": 90}
    assert call(site, "own_ca_certificate", "--check", **wanted).changed
    assert ssh(site, f"ls {DEST} 2>&1 || true").endswith("No such file or directory"), "check mode made something"
    made = settled(site, "own_ca_certificate", **wanted)
    assert made.result["reasons"] == ["missing"]
    assert ssh(site, f"cd {DEST} && stat -c '%n %a %U %G' *").splitlines() == [
        "ca.pem 644 root root",
        "fullchain.pem 644 root root",
        "key.pem 640 root adm",
    ]
    assert ssh(site, "ls /var/lib/ratssaal/pending/reload; rm /var/lib/ratssaal/pending/reload/*") == "tst.service"
    made_first = _certificate(site)
    made_first.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.encode()))
    names = made_first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == NAMES
    assert made_first.not_valid_after_utc - made_first.not_valid_before_utc == datetime.timedelta(days=90, hours=1)

    ssh(site, f"chmod 0644 {DEST}/key.pem; chown operator {DEST}/ca.pem")
    assert call(site, "own_ca_certificate", **wanted).result["reasons"] == []
    assert _certificate(site) == made_first, "a wrong mode alone is no reason for a new certificate"
    assert ssh(site, f"stat -c '%a %U' {DEST}/key.pem {DEST}/ca.pem") == "640 root\n644 root"

    other, other_key = authority()
    harms: dict[str, tuple[str, dict[str, Any]]] = {
        "key": (f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {DEST}/key.pem", {}),
        "missing": (f"rm {DEST}/key.pem", {}),
        "names": ("true", {"certificates": [certificate | {"names": [*NAMES, "more.tst.test"]}]}),
        "expiry": ("true", {"renew_days": 91}),
        "issuer": ("true", {"ca_certificate": other, "ca_key": other_key}),
    }
    for reason, (harm, altered) in harms.items():
        ssh(site, harm)
        done = call(site, "own_ca_certificate", "-vvv", **wanted | altered)
        assert reason in done.result["reasons"]
        for secret in (key, other_key):
            assert secret.splitlines()[1] not in done.raw
        if reason != "expiry":
            assert not call(site, "own_ca_certificate", **wanted | altered).changed
    assert ssh(site, f"ls {DEST}") == "ca.pem\nfullchain.pem\nkey.pem"
    assert "PRIVATE KEY" not in ssh(site, "journalctl --no-pager")


# --- managed_host: accounts ------------------------------------------------------------------------------------------------


def _may(site: LabSite, jid: str) -> bool:
    """Whether Prosody knows the account."""
    user, _, domain = jid.partition("@")
    return (
        ssh(site, f"test -s /var/lib/prosody/{domain.replace('.', '%2e')}/accounts/{user}.dat && echo yes || true")
        == "yes"
    )


def test_accounts_are_those_of_the_list(site: LabSite) -> None:
    ssh(site, "echo 'VirtualHost \"tst.test\"' > /etc/prosody/conf.d/tst.cfg.lua; systemctl restart prosody")
    started = ssh(site, "systemctl show -P ExecMainStartTimestampMonotonic prosody")
    accounts = [
        {"jid": "one@tst.test", "password": SECRET},
        {"jid": "zwei.o@tst.test", "password": f"{SECRET} mit Leerzeichen und ß"},
    ]
    assert call(site, "accounts", "--check", accounts=accounts).changed
    assert not _may(site, "one@tst.test")
    made = settled(site, "accounts", accounts=accounts)
    assert made.result["accounts"] == ["one@tst.test", "zwei.o@tst.test"]

    ssh(
        site,
        "printf 'else\\nelse\\n' | prosodyctl passwd one@tst.test; printf 'x\\nx\\n' | prosodyctl adduser three@tst.test",
    )
    done = call(site, "accounts", "-vvv", "--diff", accounts=accounts)
    assert done.result["accounts"] == ["one@tst.test"]
    assert SECRET not in done.raw
    assert SECRET not in ssh(site, "journalctl --no-pager; cat /var/log/prosody/*; grep -r . /var/lib/prosody")
    assert _may(site, "three@tst.test"), "who is not listed stays unless it is asked for"
    others = {"accounts": accounts, "absent_others_in": ["tst.test"]}
    assert settled(site, "accounts", **others).result["accounts"] == ["three@tst.test"]
    assert not _may(site, "three@tst.test")
    assert _may(site, "one@tst.test")
    assert ssh(site, "systemctl show -P ExecMainStartTimestampMonotonic prosody") == started, "Prosody was restarted"


def test_accounts_wait_for_a_prosody_that_starts_but_not_for_one_that_ended(site: LabSite) -> None:
    slow, unit = "/run/systemd/system/prosody.service.d/slow.conf", "prosody.service"
    ssh(site, f"mkdir -p {slow.rpartition('/')[0]}; printf '[Service]\\nExecStartPre=sleep 5\\n' > {slow}")
    ssh(
        site,
        f"echo 'VirtualHost \"tst.test\"' > /etc/prosody/conf.d/tst.cfg.lua; systemctl daemon-reload; systemctl stop {unit}",
    )
    account = {"jid": "late@tst.test", "password": SECRET}
    began = time.monotonic()
    assert "Unable to connect" in call(site, "accounts", accounts=[account]).message
    assert time.monotonic() - began < 60, "nobody waits for a Prosody that does not run"
    ssh(site, f"systemctl start --no-block {unit}")
    assert call(site, "accounts", accounts=[account]).result["accounts"] == ["late@tst.test"]
    ssh(site, f"rm {slow}; systemctl daemon-reload")


def test_an_account_of_an_unknown_domain_is_an_error(site: LabSite) -> None:
    account = {"jid": "one@elsewhere.test", "password": SECRET}
    failed = call(site, "accounts", accounts=[account])
    assert "prosodyctl adduser failed" in failed.message
    assert SECRET not in failed.raw


# --- guarded_change --------------------------------------------------------------------------------------------------

SECONDS = 8


def _sshd(text: str, **more: Any) -> dict[str, Any]:
    """Return a change of sshd's configuration for guarded_change."""
    file = {"dest": "/etc/ssh/sshd_config.d/00-tst.conf", "content": f"{text}\n", "mode": "0600"}
    arguments: dict[str, Any] = {"name": "tst", "confirm_seconds": SECONDS, "files": [file]}
    return arguments | {"check": "mkdir -p /run/sshd && sshd -t", "apply": "systemctl reload ssh"} | more


def _wait_for_login(site: LabSite, seconds: float = SECONDS + 20.0) -> None:
    deadline = time.monotonic() + seconds
    while ssh(site, "echo in", check=False) != "in":
        assert time.monotonic() < deadline, f"nobody can log in after {seconds} s"
        time.sleep(0.3)


def test_a_good_change_is_confirmed_and_stays(site: LabSite) -> None:
    settled(site, "guarded_change", **_sshd("MaxAuthTries 5"))
    assert ssh(site, "sshd -T | grep maxauthtries; ls /var/lib/ratssaal/guard") == "maxauthtries 5"
    assert ssh(site, "systemctl list-timers --all | grep -c ratssaal-guard || true") == "0"
    ineffective = _sshd("MaxAuthTries 5", effective="test -e /run/tst-effect", apply="touch /run/tst-effect")
    assert settled(site, "guarded_change", **ineffective).changed


@pytest.mark.parametrize("text", ["Port 2222", "AllowUsers nobody"])
def test_an_sshd_that_locks_out_is_put_back(site: LabSite, text: str) -> None:
    before = ssh(site, "sshd -T")
    failed = call(site, "guarded_change", **_sshd(text))
    assert "tst: the old state was put back at once, because no second login was possible" in failed.message
    _wait_for_login(site)
    assert ssh(site, "sshd -T") == before
    assert ssh(site, "ss -Hlnt sport = :2222; ls /var/lib/ratssaal/guard") == ""


def test_a_firewall_that_cuts_everything_goes_by_itself(site: LabSite) -> None:
    rules = "table inet tst { chain c { type filter hook input priority 0; tcp dport 22 drop; }; }"
    apply = "nft -f /etc/tst.nft"
    change: dict[str, Any] = {"name": "tstnft", "confirm_seconds": SECONDS, "check": "nft -c -f /etc/tst.nft"}
    change |= {
        "files": [{"dest": "/etc/tst.nft", "content": f"{rules}\n"}],
        "apply": apply,
        "undo": "nft delete table inet tst",
    }
    started = time.monotonic()
    failed = call(site, "guarded_change", **change)
    assert "host's own timer" in failed.message
    assert "OpenSSH: " in failed.message
    assert "Paramiko: " in failed.message
    _wait_for_login(site)
    assert time.monotonic() - started < SECONDS + 30
    assert (
        ssh(
            site, "nft list tables | grep -c tst || true; ls /etc/tst.nft /var/lib/ratssaal/guard/* 2>/dev/null || true"
        )
        == "0"
    )


def test_an_unconfirmed_change_does_not_survive_a_reboot(site: LabSite) -> None:
    """Neither the control node nor the timer lives: the boot undoes it before sshd starts."""
    module = _sshd("AllowUsers nobody", confirm_seconds=3600)
    argv = [str(BIN / "ansible"), "all", "-i", str(site.path / "hosts.yml"), "-m", "guarded_change"]
    argv += ["-a", json.dumps(module), "--vault-password-file", str(site.vault_password_file)]
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        deadline = time.monotonic() + 120
        while ssh(site, "echo in", check=False) == "in":
            assert time.monotonic() < deadline, "the change never took effect"
            time.sleep(0.5)
        os.killpg(run.pid, signal.SIGKILL)
    machines.enter(site.hosts[0], "sync")
    machines.enter(site.hosts[0], "systemctl", "reboot", check=False)
    _wait_for_login(site, 60)
    assert ssh(site, "sshd -T | grep -c allowusers || true; ls /var/lib/ratssaal/guard") == "0"
    assert "put back the state before: tst" in ssh(site, "journalctl --no-pager -t ratssaal-guard")


# --- managed_host: users ---------------------------------------------------------------------------------------------------


def test_a_shell_that_opens_is_closed(site: LabSite) -> None:
    """Also while a process of that user runs."""
    ssh(
        site, "useradd -r --shell /bin/bash tst-service && systemd-run -q --unit=tst-busy -p User=tst-service sleep 300"
    )
    wanted = [{"name": "tst-service", "shell": "/usr/sbin/nologin"}]
    made = settled(site, "users", users=wanted)
    assert made.result["actions"] == ["shell of tst-service: /usr/sbin/nologin"]
    assert ssh(site, "getent passwd tst-service").endswith(":/usr/sbin/nologin")
    ssh(site, "systemctl stop tst-busy; userdel tst-service")
    assert not call(site, "users", "--check", users=wanted).changed, "its package may not be there yet"
    assert call(site, "users", users=wanted).message == "no user tst-service on this host"
