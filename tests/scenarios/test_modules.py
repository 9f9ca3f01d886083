"""Our own Ansible modules: what differs is changed, what does not is left, and what a killed run left is put right."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.lab.lab import Lab, LabSite
from tests.scenarios.conftest import BIN, ROOT, ssh

SECRET = "Kanarienvogel-8b2c"


@pytest.fixture(scope="module")
def site() -> Iterator[LabSite]:
    """A bare Debian 13 host; no role runs on it."""
    name = f"m13p{os.getpid()}"
    try:
        yield Lab().up(name, repository=False)
    finally:
        Lab().down(name)


@dataclass(frozen=True)
class Done:
    """What one call of a module answered; `raw` is everything that Ansible printed."""

    result: dict[str, Any]
    raw: str

    @property
    def changed(self) -> bool:
        """Whether the module says that it changed, or would change, something."""
        assert not self.failed, self.raw
        return bool(self.result["changed"])

    @property
    def failed(self) -> bool:
        """Whether the module failed."""
        return "| FAILED!" in self.raw or not self.result

    @property
    def message(self) -> str:
        """Why it failed."""
        assert self.failed, self.raw
        return str(self.result.get("msg", ""))


def call(site: LabSite, module: str, *flags: str, **arguments: Any) -> Done:
    """Call one module on the lab's host through Ansible; flags are Ansible's, as --check."""
    argv = [str(BIN / "ansible"), "all", "-i", str(site.path / "hosts.yml"), "-m", module, "-a", json.dumps(arguments)]
    argv += ["--vault-password-file", str(site.vault_password_file), *flags]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    found = re.search(r"^h1 \| [A-Z!]+ (?:\| rc=\d+ )?=> (\{.*\n\})", done.stdout, flags=re.MULTILINE | re.DOTALL)
    return Done(json.loads(found.group(1)) if found else {}, done.stdout + done.stderr)


def settled(site: LabSite, module: str, **arguments: Any) -> Done:
    """Call a module so that check mode tells of a change, the call makes it, and the next one has nothing to do."""
    told = call(site, module, "--check", **arguments)
    assert told.changed, "check mode saw nothing to do"
    made = call(site, module, **arguments)
    assert made.changed
    assert not call(site, module, **arguments).changed, "the second call changed something"
    assert not call(site, module, "--check", **arguments).changed
    return made


# --- managed_files ---------------------------------------------------------------------------------------------------

FILES: list[dict[str, Any]] = [
    {"dest": "/etc/tst", "state": "directory", "mode": "0750"},
    {"dest": "/etc/tst/plain", "content": "one\n", "mode": "0644"},
    {"dest": "/etc/tst/link", "link": "/etc/tst/plain"},
    {"dest": "/etc/tst/deeper/still/file", "content": "two\n", "owner": "operator", "group": "adm", "mode": "0640"},
    {"dest": "/etc/tst-gone", "state": "absent"},
]


def test_files_come_into_their_state_and_stay(site: LabSite) -> None:
    ssh(site, "mkdir -p /etc/tst-gone/full && touch /etc/tst-gone/full/of")
    assert call(site, "managed_files", "--check", files=FILES).changed
    assert ssh(site, "ls -d /etc/tst* ") == "/etc/tst-gone", "check mode touched something"
    made = settled(site, "managed_files", files=FILES)
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
    call(site, "managed_files", files=FILES)
    passwd = ssh(site, "sha256sum /etc/passwd")
    for harm, path in HARM.items():
        ssh(site, harm)
        found = call(site, "managed_files", files=FILES).result["changed_paths"]
        assert found == [path], f"after `{harm}`"
    assert not call(site, "managed_files", files=FILES).changed
    assert ssh(site, "sha256sum /etc/passwd") == passwd, "what a planted link pointed to was written"


def test_a_secret_is_in_no_output(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-secret", "content": f"password={SECRET}\n", "mode": "0600", "secret": True}
    for flags in (("--check", "--diff"), ("--diff", "-vvv"), ("--diff", "-vvv")):
        assert SECRET not in call(site, "managed_files", *flags, files=[entry]).raw
    assert ssh(site, "cat /etc/tst-secret") == f"password={SECRET}"
    replaced = entry | {"content": "password=other\n"}
    done = call(site, "managed_files", "--diff", "-vvv", files=[replaced])
    assert done.changed
    assert SECRET not in done.raw, "the old secret was shown"
    assert SECRET not in ssh(site, "journalctl --no-pager")


def test_a_file_that_is_no_secret_is_shown(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-shown", "content": "colour=green\n"}
    done = call(site, "managed_files", "--diff", files=[entry])
    assert "+colour=green" in done.raw
    assert done.result["changed_paths"] == ["/etc/tst-shown"]


def test_a_file_that_its_program_refuses_is_not_installed(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-sudo", "content": "nonsense nonsense\n", "mode": "0440", "validate": "visudo -cf %s"}
    done = call(site, "managed_files", files=[entry])
    assert "/etc/tst-sudo is refused by its own program" in done.message
    assert ssh(site, "ls -A /etc | grep -E 'tst-sudo|[.]ratssaal' || true") == ""


def test_unforced_content_is_only_written_where_there_is_none(site: LabSite) -> None:
    entry = {"dest": "/etc/tst-own", "content": "ours\n", "force": False}
    assert call(site, "managed_files", files=[entry]).changed
    ssh(site, "echo theirs > /etc/tst-own; chmod 0600 /etc/tst-own")
    assert call(site, "managed_files", files=[entry]).changed
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
    assert told in call(site, "managed_files", files=[entry]).message


# --- managed_sysctl --------------------------------------------------------------------------------------------------

SYSCTL = "/etc/sysctl.d/90-tst.conf"


def test_kernel_settings_are_in_the_file_and_in_force(site: LabSite) -> None:
    wanted = {"net.ipv4.ip_default_ttl": 61, "net.ipv4.conf.all.log_martians": 1}
    made = settled(site, "managed_sysctl", path=SYSCTL, values=wanted)
    assert made.result["not_settable"] == []
    assert ssh(site, "sysctl -n net.ipv4.ip_default_ttl net.ipv4.conf.all.log_martians") == "61\n1"
    for harm, found in (
        ("sysctl -qw net.ipv4.ip_default_ttl=64", "net.ipv4.ip_default_ttl"),
        (f"sed -i s/61/64/ {SYSCTL}", SYSCTL),
    ):
        ssh(site, harm)
        assert call(site, "managed_sysctl", path=SYSCTL, values=wanted).result["changed_settings"] == [found]
    assert ssh(site, f"grep ttl {SYSCTL}; sysctl -n net.ipv4.ip_default_ttl") == "net.ipv4.ip_default_ttl = 61\n61"


def test_what_the_shared_kernel_refuses_is_told_and_no_failure(site: LabSite) -> None:
    own = ssh(site, "cat /proc/sys/kernel/kptr_restrict")
    wanted = {"kernel.kptr_restrict": 2 if own != "2" else 1, "net.no.such": 1}
    path = "/etc/sysctl.d/91-tst.conf"
    made = call(site, "managed_sysctl", path=path, values=wanted)
    assert made.result["changed_settings"] == [path]
    assert made.result["not_settable"] == ["kernel.kptr_restrict", "net.no.such"]
    assert not call(site, "managed_sysctl", path=path, values=wanted).changed
    assert ssh(site, "cat /proc/sys/kernel/kptr_restrict") == own


# --- managed_units ---------------------------------------------------------------------------------------------------

UNIT = {
    "dest": "/etc/systemd/system/tst.service",
    "content": "[Service]\nExecStart=sleep infinity\nExecReload=touch /run/tst-reloaded\n"
    "[Install]\nWantedBy=multi-user.target\n",
}
STARTED = [{"name": "tst.service", "enabled": True, "state": "started"}]


def units(site: LabSite, *flags: str, wanted: list[dict[str, Any]] | None = None) -> Done:
    """Call managed_units for the tests' own unit."""
    return call(site, "managed_units", *flags, units=wanted or STARTED, settle=0.3)


def test_a_unit_comes_into_its_state_and_stays(site: LabSite) -> None:
    assert units(site, "--check").result["actions"] == ["start tst.service"], "its package may not be there yet"
    call(site, "managed_files", files=[UNIT])
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
    call(site, "managed_files", files=[UNIT])
    units(site)
    before = _pid(site)
    entry = {"dest": "/etc/tst.conf", "content": "new\n", "restarts": ["tst.service"]}
    killed = call(site, "managed_files", files=[entry | {"validate": "kill -9 $PPID; true %s"}])
    assert killed.failed
    assert ssh(site, "ls /etc/tst.conf 2>&1 || ls /var/lib/ratssaal/pending/restart").endswith("tst.service")
    call(site, "managed_files", files=[entry])
    assert _pid(site) == before
    # The same for a run that was killed after it had written the file: the file is right, the unit still runs the old one.
    assert not call(site, "managed_files", files=[entry]).changed
    assert units(site, "--check").result["actions"] == ["restart tst.service"]
    assert _pid(site) == before
    assert units(site).result["actions"] == ["restart tst.service"]
    assert _pid(site) != before
    assert not units(site).changed
    assert ssh(site, "ls -A /etc | grep '[.]ratssaal' || true") == "", (
        "the killed run's half-written file is still there"
    )


def test_a_reload_leaves_the_process(site: LabSite) -> None:
    call(site, "managed_files", files=[UNIT])
    units(site)
    before = _pid(site)
    call(site, "managed_files", files=[{"dest": "/etc/tst.reload", "content": "new\n", "reloads": ["tst.service"]}])
    assert units(site).result["actions"] == ["reload-or-restart tst.service"]
    assert ssh(site, "ls /run/tst-reloaded") == "/run/tst-reloaded"
    assert _pid(site) == before


def test_a_unit_that_does_not_stay_up_fails_with_what_it_said_and_is_tried_again(site: LabSite) -> None:
    wrong = UNIT | {"content": UNIT["content"].replace("sleep infinity", "sh -c 'echo no bread today; exit 3'")}
    call(site, "managed_files", files=[wrong | {"restarts": ["tst.service"]}])
    failed = units(site)
    assert "tst.service: is failed (exit-code) after its start" in failed.message
    assert "no bread today" in failed.message
    call(site, "managed_files", files=[UNIT | {"restarts": ["tst.service"]}])
    assert units(site).changed
    assert ssh(site, "systemctl is-active tst.service; ls /var/lib/ratssaal/pending/restart") == "active"


# --- managed_packages ------------------------------------------------------------------------------------------------

# Small packages of our own. While /root/kill exists, a maintainer script kills dpkg, apt and the module above it; while
# /root/refuse exists, it fails.
BUILD = r"""
set -e
mkdir -p /root/repository && cd /root/repository
make() {
    mkdir -p "$1/DEBIAN" "$1/usr/lib/systemd/system"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n' "$1" "$2" > "$1/DEBIAN/control"
    for script in $3; do
        cat > "$1/DEBIAN/$script" <<'END'
#!/bin/sh
test ! -e /root/refuse || { echo "refused on purpose"; exit 1; }
if test -e /root/kill; then
    rm /root/kill
    dpkg=$PPID; apt=$(awk '/^PPid/ {print $2}' /proc/$dpkg/status)
    while ! tr '\0' ' ' < /proc/$apt/cmdline | grep -q '^apt-get '; do apt=$(awk '/^PPid/ {print $2}' /proc/$apt/status); done
    kill -9 $(awk '/^PPid/ {print $2}' /proc/$apt/status) $apt $dpkg
fi
if test "${0##*.}" = postinst; then
    systemctl daemon-reload
    deb-systemd-invoke start tst-daemon.service
fi
END
        chmod 0755 "$1/DEBIAN/$script"
    done
    test "$1" != tst-daemon || printf '[Service]\nExecStart=sleep infinity\n' > "$1/usr/lib/systemd/system/tst-daemon.service"
    dpkg-deb --root-owner-group -b "$1" "$1_$2.deb"
}
make tst-daemon 1.0 postinst; make tst-daemon 2.0 postinst; make tst-unpack 1.0 preinst; make tst-plain 1.0; make tst-plain 2.0
for deb in *.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
done > Packages
mv /etc/apt/sources.list.d/debian.sources /root/
echo 'deb [trusted=yes] file:/root/repository ./' > /etc/apt/sources.list.d/tst.list
"""
POLICY = "test ! -e /usr/sbin/policy-rc.d && echo none || cat /usr/sbin/policy-rc.d"


@pytest.fixture(scope="module")
def repository(site: LabSite) -> LabSite:
    """The host with a repository of small packages as its only source."""
    ssh(site, BUILD)
    return site


def _state(site: LabSite, package: str) -> str:
    return ssh(site, f"dpkg-query -W -f '${{db:Status-Abbrev}}${{Version}}' {package} 2>/dev/null || true")


def test_packages_come_into_their_state_and_stay(repository: LabSite) -> None:
    site = repository
    wanted = {"names": ["tst-daemon"], "versions": {"tst-plain": "1.0"}, "hold": ["tst-plain"]}
    assert call(site, "managed_packages", "--check", **wanted).changed
    assert _state(site, "tst-daemon") == "", "check mode installed something"
    made = settled(site, "managed_packages", **wanted)
    assert made.result["actions"] == ["install tst-daemon tst-plain=1.0", "hold tst-plain"]
    assert (_state(site, "tst-daemon"), _state(site, "tst-plain")) == ("ii 2.0", "hi 1.0")
    assert ssh(site, "systemctl is-active tst-daemon || true") == "inactive", "it was started before it was configured"
    assert ssh(site, POLICY) == "none"
    ssh(site, "apt-get -qq install -y --allow-change-held-packages tst-plain=2.0; apt-get -qq purge -y tst-daemon")
    assert call(site, "managed_packages", **wanted).result["actions"] == made.result["actions"]
    assert (_state(site, "tst-daemon"), _state(site, "tst-plain")) == ("ii 2.0", "hi 1.0")
    gone = settled(site, "managed_packages", absent=["tst-daemon"])
    assert gone.result["actions"] == ["remove tst-daemon"]
    assert _state(site, "tst-daemon") == ""


@pytest.mark.parametrize(("package", "left"), [("tst-daemon", "iF"), ("tst-unpack", "iH")])
def test_what_a_killed_run_left_is_repaired(repository: LabSite, package: str, left: str) -> None:
    site = repository
    ssh(site, f"apt-get -qq purge -y {package}; touch /root/kill")
    assert call(site, "managed_packages", names=[package]).failed
    assert _state(site, package).startswith(left)
    assert "made by Ratssaal for one apt run" in ssh(site, POLICY)
    told = call(site, "managed_packages", "--check", names=[package])
    assert told.changed
    assert f"repair {package}" in told.result["actions"]
    assert _state(site, package).startswith(left)
    assert call(site, "managed_packages", names=[package]).changed
    assert _state(site, package).startswith("ii ")
    assert ssh(site, f"{POLICY}; dpkg --audit; ls /var/lib/dpkg/updates") == "none"
    assert not call(site, "managed_packages", names=[package]).changed


def test_a_package_that_cannot_be_installed_fails_and_leaves_no_ban(repository: LabSite) -> None:
    site = repository
    ssh(site, "apt-get -qq purge -y tst-daemon; touch /root/refuse")
    try:
        assert "refused on purpose" in call(site, "managed_packages", names=["tst-daemon"]).message
        assert ssh(site, POLICY) == "none"
    finally:
        ssh(site, "rm /root/refuse")
    assert call(site, "managed_packages", names=["tst-daemon"]).changed
    assert "no-such-package" in call(site, "managed_packages", names=["no-such-package"]).message


def test_an_operators_own_ban_on_starts_stays(repository: LabSite) -> None:
    site = repository
    ssh(
        site,
        "apt-get -qq purge -y tst-daemon; printf '#!/bin/sh\nexit 101\n' | install -m 0755 /dev/stdin /usr/sbin/policy-rc.d",
    )
    assert call(site, "managed_packages", names=["tst-daemon"]).changed
    assert ssh(site, f"{POLICY}; rm /usr/sbin/policy-rc.d") == "#!/bin/sh\nexit 101"


@pytest.mark.parametrize("lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock"])
def test_who_holds_the_lock_is_named(repository: LabSite, lock: str) -> None:
    site = repository
    script = f'import fcntl, time; f = open("{lock}", "w"); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(60)'
    ssh(site, f"systemd-run --quiet --unit=tst-holder python3 -c '{script}' somebody-else; sleep 1")
    try:
        pid = ssh(site, "systemctl show -P MainPID tst-holder")
        for wanted in ({"names": ["tst-unpack", "no-such"]}, {"absent": ["tst-plain"]}):
            print(ssh(site, "dpkg -l |grep tst; cat /var/log/apt/history.log"))
            message = call(site, "managed_packages", lock_timeout=1, **wanted).message
            assert f"locked by process {pid} (" in message
            assert "somebody-else" in message
        # Who has nothing to change needs no lock.
        assert not call(site, "managed_packages", lock_timeout=1, names=["tst-plain"]).changed
    finally:
        ssh(site, "systemctl stop tst-holder")
    assert _state(site, "tst-plain") == "hi 1.0"


def test_answers_are_given_beforehand_and_shown_nowhere(repository: LabSite) -> None:
    site = repository
    ssh(site, "apt-get -qq purge -y tst-daemon")
    arguments = {
        "names": ["tst-daemon"],
        "debconf": [{"package": "tst-daemon", "question": "tst/word", "type": "password", "value": SECRET}],
        "beforehand": [{"dest": "/etc/tst-beforehand/conf", "content": f"{SECRET}\n"}],
    }
    done = call(site, "managed_packages", "-vvv", **arguments)
    assert done.result["actions"] == ["install tst-daemon"]
    assert SECRET not in done.raw
    assert SECRET not in ssh(site, "journalctl --no-pager")
    assert ssh(site, "stat -c %a /etc/tst-beforehand/conf; cat /etc/tst-beforehand/conf") == f"600\n{SECRET}"
    assert SECRET in ssh(site, "debconf-get-selections 2>/dev/null || cat /var/cache/debconf/passwords.dat")
