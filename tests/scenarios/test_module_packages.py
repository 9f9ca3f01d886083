"""Our own Ansible module and packages: their versions, their services, and what a killed run left of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import ssh
from tests.scenarios.module_calls import SECRET, bare_host, call, settled


@pytest.fixture(scope="module")
def site() -> Iterator[LabSite]:
    """A host on which no role has run."""
    with bare_host("k13") as made:
        yield made


# Small packages of our own. While /root/kill exists, a maintainer script kills dpkg, apt and the module above it; while
# /root/refuse exists, it fails.
BUILD = r"""
set -e
mkdir -p /root/repository && cd /root/repository
make() {
    mkdir -p "$1/DEBIAN" "$1/usr/lib/systemd/system" "$1/usr/share/$1"
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
    systemctl try-restart tst-daemon.service
fi
test "${0##*.}" != prerm || deb-systemd-invoke stop tst-daemon.service
END
        chmod 0755 "$1/DEBIAN/$script"
    done
    test "$1" != tst-daemon || printf '[Service]\nExecStart=sleep infinity\n' > "$1/usr/lib/systemd/system/tst-daemon.service"
    dpkg-deb --root-owner-group -b "$1" "$1_$2.deb"
}
mkdir -p tst-daemon/etc tst-daemon/DEBIAN; echo theirs > tst-daemon/etc/tst-daemon.conf
echo /etc/tst-daemon.conf > tst-daemon/DEBIAN/conffiles
for version in 1.0 2.0; do make tst-daemon $version "postinst prerm"; done
make tst-unpack 1.0 preinst; make tst-plain 1.0; make tst-plain 2.0
for deb in *.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
done > Packages
mv /etc/apt/sources.list.d/debian.sources /root/
echo 'deb [trusted=yes] file:/root/repository ./' > /etc/apt/sources.list.d/tst.list
"""


@pytest.fixture(scope="module")
def repository(site: LabSite) -> LabSite:
    """The host with a repository of small packages as its only source."""
    ssh(site, BUILD)
    return site


def _state(site: LabSite, package: str) -> str:
    return ssh(site, f"dpkg-query -W -f '${{db:Status-Abbrev}}${{Version}}' {package} 2>/dev/null || true")


def test_packages_come_into_their_state_and_stay(repository: LabSite) -> None:
    site = repository
    wanted = {
        "names": ["tst-daemon", "tst-plain"],
        "versions": {"tst-plain": "1.0", "not-asked-for": "9"},
        "hold": ["tst-plain"],
    }
    assert call(site, "packages", "--check", **wanted).changed
    assert _state(site, "tst-daemon") == "", "check mode installed something"
    made = settled(site, "packages", **wanted)
    assert made.result["actions"] == ["install tst-daemon tst-plain=1.0", "hold tst-plain"]
    assert (_state(site, "tst-daemon"), _state(site, "tst-plain")) == ("ii 2.0", "hi 1.0")
    assert ssh(site, "systemctl is-active tst-daemon || true") == "inactive", "it was started before it was configured"
    ssh(site, "apt-get -qq install -y --allow-change-held-packages tst-plain=2.0; apt-get -qq purge -y tst-daemon")
    assert call(site, "packages", **wanted).result["actions"] == made.result["actions"]
    assert (_state(site, "tst-daemon"), _state(site, "tst-plain")) == ("ii 2.0", "hi 1.0")
    ssh(site, "systemctl start tst-daemon; echo mine > /etc/tst-daemon.conf")
    gone = settled(site, "packages", absent=["tst-daemon"])
    assert gone.result["actions"] == ["remove tst-daemon"]
    assert _state(site, "tst-daemon") == "rc 2.0"
    assert ssh(site, "cat /etc/tst-daemon.conf") == "mine", "its settings went along"
    assert ssh(site, "systemctl is-active tst-daemon || true") == "inactive", "it runs on without its package"


def test_a_service_runs_on_while_its_package_changes_and_is_restarted_then(repository: LabSite) -> None:
    """Also by the next run, where this one gets no further."""
    site, running = repository, "systemctl show -P InvocationID tst-daemon"
    older = {"names": ["tst-daemon"], "versions": {"tst-daemon": "1.0"}, "restarts": ["tst-daemon.service"]}
    started = [{"name": "tst-daemon.service", "state": "started"}]
    assert call(site, "packages", names=["tst-daemon"]).changed
    assert call(site, "units", units=started).result["actions"] == ["start tst-daemon.service"]
    before = ssh(site, running)
    assert call(site, "packages", **older).changed
    assert (_state(site, "tst-daemon"), ssh(site, running)) == ("ii 1.0", before)
    assert call(site, "units", units=started).result["actions"] == ["restart tst-daemon.service"]
    assert ssh(site, running) != before
    assert not call(site, "units", units=started).changed


def test_package_lists_are_read_once_and_again_where_they_do_not_do(repository: LabSite) -> None:
    site, source = repository, "/etc/apt/sources.list.d/tst.list"
    read = "stat -c %y /run/ratssaal/package-lists-read"

    def install() -> str:
        ssh(site, "apt-get -qq purge -y tst-unpack")
        assert call(site, "packages", names=["tst-unpack"]).changed
        assert _state(site, "tst-unpack") == "ii 1.0"
        return ssh(site, read)

    first = install()
    assert install() == first
    ssh(site, "rm -r /var/lib/apt/lists/*")
    second = install()
    assert second != first, "apt knew no package, and was not told to look again"
    ssh(site, f"touch {source}")
    assert install() != second, "another source, and the old lists were enough"
    ssh(site, "touch -d '-11 minutes' /run/ratssaal/package-lists-read")
    third = ssh(site, read)
    assert install() != third, "old lists were enough"


@pytest.mark.parametrize(("package", "left"), [("tst-daemon", "iF"), ("tst-unpack", "iH")])
def test_what_a_killed_run_left_is_repaired(repository: LabSite, package: str, left: str) -> None:
    site = repository
    ssh(site, f"apt-get -qq purge -y {package}; touch /root/kill")
    assert call(site, "packages", names=[package]).failed
    assert _state(site, package).startswith(left)
    told = call(site, "packages", "--check", names=[package])
    assert told.changed
    assert f"repair {package}" in told.result["actions"]
    assert _state(site, package).startswith(left)
    assert call(site, "packages", names=[package]).changed
    assert _state(site, package).startswith("ii ")
    assert ssh(site, "dpkg --audit; ls /var/lib/dpkg/updates") == ""
    assert not call(site, "packages", names=[package]).changed


def test_a_package_that_cannot_be_installed_fails(repository: LabSite) -> None:
    site = repository
    ssh(site, "apt-get -qq purge -y tst-daemon; touch /root/refuse")
    try:
        assert "refused on purpose" in call(site, "packages", names=["tst-daemon"]).message
    finally:
        ssh(site, "rm /root/refuse")
    assert call(site, "packages", names=["tst-daemon"]).changed
    assert "no-such-package" in call(site, "packages", names=["no-such-package"]).message


@pytest.mark.parametrize("lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock"])
def test_who_holds_the_lock_is_named(repository: LabSite, lock: str) -> None:
    site = repository
    script = f'import fcntl, time; f = open("{lock}", "w"); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(60)'
    ssh(site, f"systemd-run --quiet --unit=tst-holder python3 -c '{script}' somebody-else; sleep 1")
    try:
        pid = ssh(site, "systemctl show -P MainPID tst-holder")
        for wanted in ({"names": ["tst-unpack", "no-such"]}, {"absent": ["tst-plain"]}):
            message = call(site, "packages", lock_timeout=1, **wanted).message
            assert f"locked by process {pid} (" in message
            assert "somebody-else" in message
        # Who has nothing to change needs no lock.
        assert not call(site, "packages", lock_timeout=1, names=["tst-plain"]).changed
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
    done = call(site, "packages", "-vvv", **arguments)
    assert done.result["actions"] == ["install tst-daemon"]
    assert SECRET not in done.raw
    assert SECRET not in ssh(site, "journalctl --no-pager")
    assert ssh(site, "stat -c %a /etc/tst-beforehand/conf; cat /etc/tst-beforehand/conf") == f"600\n{SECRET}"
    assert SECRET in ssh(site, "debconf-get-selections 2>/dev/null || cat /var/cache/debconf/passwords.dat")


def test_a_withdrawn_answer_is_forgotten(site: LabSite) -> None:
    """Debconf keeps what is no password where anybody can read it, and once more in its backup."""
    answer = {"package": "prosody", "question": "tst/given", "type": "string", "value": SECRET}
    ssh(site, f"echo 'prosody tst/given string {SECRET}' | debconf-set-selections")
    assert SECRET in ssh(site, "runuser -u nobody cat /var/cache/debconf/config.dat")
    made = settled(site, "packages", withdrawn=[answer])
    assert made.result["actions"] == ["forget the answer to tst/given"]
    assert ssh(site, f"grep -l {SECRET} /var/cache/debconf/config.dat*; true") == ""
    assert ssh(site, "echo GET tst/given | debconf-communicate prosody") == "0"
