"""What the checks of hardening make of answers that a lab host cannot give: another kernel, other rules."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.inventory.derivations import security_contact, without_skipped
from orchestrator.verification.checks import (
    test_accounts,
    test_capacity,
    test_clock,
    test_disclosure,
    test_dumps,
    test_integrity,
    test_kernel,
    test_mounts,
    test_tls_extras,
)
from orchestrator.verification.checks.test_web import Answer
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, sheet_of, subject_of

GOOD = {
    **{name: values[0] for name, values in {**test_kernel.NETWORK, **test_kernel.MEMORY}.items()},
    **{f"net/ipv{family}/conf/eth0.7/accept_redirects": "0" for family in (4, 6)},
    "net/ipv4/conf/eth0.7/send_redirects": "0",
    "net/core/rmem_max": "10485760",
    "net/core/netdev_max_backlog": "100000",
    "kernel/core_pattern": "|/bin/false",
}
KEPT = "".join(f"{name} = {value}\n" for name, value in GOOD.items())


def _kernel(
    *,
    shared: tuple[str, ...] = (),
    line: str = "quiet",
    container: str = "",
    boot: str = "",
    kept: str = KEPT,
    **changed: Any,
) -> str:
    values = {**GOOD, **{name.replace("__", "/"): value for name, value in changed.items()}}
    here = {name: value for name, value in values.items() if value is not None}
    rows = [f"{name}:{value}" for name, value in here.items()]
    return "\n".join(
        [
            *rows,
            "== next ==",
            *(name for name in here if name not in shared),
            "== next ==",
            line,
            "== next ==",
            container,
            "== next ==",
            boot,
            "== next ==",
            kept,
        ]
    )


def _network(**given: Any) -> Sheet:
    return sheet_of(test_kernel.test_network_settings, {"cd /proc/sys": _kernel(**given)})


def _memory(**given: Any) -> Sheet:
    return sheet_of(test_kernel.test_memory_and_files, {"cd /proc/sys": _kernel(**given)})


def test_kernel_as_wanted_has_no_fault() -> None:
    for sheet in (_network(), _memory()):
        assert sheet.faults == []
        assert sheet.untested == []
        sheet.finish()


def test_each_interface_counts_for_itself() -> None:
    said = {"cd /proc/sys": _kernel().replace("conf/eth0.7/accept_redirects:0", "conf/eth0.7/accept_redirects:1")}
    faults = faults_of(sheet_of(test_kernel.test_network_settings, said))
    assert "net.ipv4.conf.eth0.7.accept_redirects is 1" in faults
    assert "net.ipv6.conf.eth0.7.accept_redirects is 1" in faults


def test_a_setting_of_another_machine_is_not_tested_and_its_file_is() -> None:
    name = "kernel/kptr_restrict"
    given = {"shared": (name,), "container": "lxc", "kernel__kptr_restrict": "0"}
    sheet = _memory(**given)
    assert sheet.faults == []
    assert "kernel.kptr_restrict is 0; it belongs to the machine below this container (lxc)" in sheet.untested
    assert "kernel.kptr_restrict is not named" in faults_of(_memory(**given, kept=KEPT.replace(f"{name} = 1\n", "")))
    assert "kernel.kptr_restrict is 0" in faults_of(_memory(shared=(name,), kernel__kptr_restrict="0"))
    assert "kernel.yama.ptrace_scope is not there" in faults_of(_memory(kernel__yama__ptrace_scope=None))


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ("net.ipv4.conf.all.rp_filter = 1\nnet.ipv4.conf.*.rp_filter = 0\n", "1"),
        ("net.ipv4.conf.*.rp_filter = 0\n", "0"),
        ("net.ipv4.conf.*.rp_filter = 0\n-net.ipv4.conf.all.rp_filter\n", None),
        ("# net.ipv4.conf.all.rp_filter = 1\n", None),
        ("net/ipv4/conf/all/rp_filter=2\n-net.ipv4.conf.all.rp_filter = 1\n", "1"),
    ],
)
def test_files_of_sysctl_are_read_as_systemd_does(lines: str, value: str | None) -> None:
    sheet = _network(kept=KEPT.replace("net/ipv4/conf/all/rp_filter = 2\n", "") + lines)
    assert f"net.ipv4.conf.all.rp_filter is {value or 'not named'} in the files of sysctl.d" in faults_of(sheet)


def test_a_protection_that_is_switched_off_is_found_now_and_for_the_next_boot() -> None:
    def look(**given: Any) -> Sheet:
        return sheet_of(test_kernel.test_command_line, {"cd /proc/sys": _kernel(**given)})

    assert faults_of(look(line="ro mitigations=off quiet")) == "booted with mitigations=off"
    assert look(line="mitigations=auto,nosmt nokaslrx").faults == []
    assert faults_of(look(boot='GRUB_CMDLINE_LINUX="quiet nopti"')) == "the boot loader's files say nopti"
    below = look(line="mitigations=off", container="lxc")
    assert below.faults == []
    assert below.untested == ["the machine below this container was booted with mitigations=off"]


FORWARDING = {"net__ipv4__conf__all__forwarding": "1", "net__ipv4__conf__eth0.7__forwarding": "1"}


def _forwarding(engines: str = "", declared: Any = None, **given: Any) -> Sheet:
    subject = subject_of(verification_declarations={"NET-09": declared} if declared else {})
    said = {"cd /proc/sys": _kernel(**given), "for name in docker": engines}
    return sheet_of(test_kernel.test_forwarding, said, subject=subject)


def test_a_host_without_containers_is_no_router() -> None:
    off = dict.fromkeys(FORWARDING, "0")
    assert _forwarding(**off).seen == ["packets are not forwarded"]
    on = "packets are forwarded (net.ipv4.conf.all.forwarding, net.ipv4.conf.eth0.7.forwarding)"
    assert faults_of(_forwarding(**FORWARDING)) == on
    assert "eth0.7.forwarding" in faults_of(_forwarding(**{**off, "net__ipv4__conf__eth0.7__forwarding": "1"}))
    assert "net.ipv6.conf.all.forwarding" in faults_of(_forwarding(net__ipv6__conf__all__forwarding="1"))
    # The kernel keeps any other number, and forwards.
    assert faults_of(_forwarding(**dict.fromkeys(FORWARDING, "2"))) == on
    for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        again = _forwarding(**off, kept=f"{KEPT}{name}=2\n")
        assert faults_of(again) == f"packets are forwarded ({name} in the files of sysctl.d)"
    assert _forwarding(**off, kept=f"{KEPT}net.ipv4.ip_forward=0\n").faults == []
    later = _forwarding(**off, kept=f"{KEPT}net.ipv4.ip_forward=1\n")
    assert faults_of(later) == "packets are forwarded (net.ipv4.ip_forward in the files of sysctl.d)"
    assert _forwarding("/usr/bin/docker\n", **FORWARDING).faults == []
    held = {"who": "the IT department", "why": "a tunnel ends here", "until": "2999-12-31"}
    assert "a tunnel ends here" in _forwarding(declared=held, **FORWARDING).declared[0]
    names = tuple(name.replace("__", "/") for name in FORWARDING)
    assert _forwarding(shared=names, container="lxc", **FORWARDING).untested
    assert faults_of(_forwarding(shared=names[:1], container="lxc", **FORWARDING)) == on


def test_small_buffers_and_limits_are_faults() -> None:
    sheet = sheet_of(
        test_capacity.test_buffers, {"cd /proc/sys": _kernel(net__core__rmem_max="212992")}, subject=subject_of()
    )
    assert faults_of(sheet) == "net.core.rmem_max is 212992"
    blocks = ["LimitNOFILESoft=65000\nTasksMax=4915"] * 5 + ["LimitNOFILESoft=infinity\nTasksMax=infinity"]
    shown = sheet_of(test_capacity.test_limits, {"systemctl": "\n\n".join(blocks)}, subject=subject_of())
    assert faults_of(shown) == "jicofo: TasksMax 4915; jitsi-videobridge2: TasksMax 4915"


_TRACKING = "C0000201,192.0.2.1,3,1795600000.0,{offset},0.0,0.0,1.0,0.0,0.0,0.1,0.1,64.0,{state}\n"


def _clock(answer: str, *, container: str = "none", **settings: Any) -> Sheet:
    sources = "== next ==\n^,*,ntp.example.org,2,6,377,1,0.1,0.1,0.1\n"
    said = {"read -r kind": f"{container}\n{answer}{sources}"}
    return sheet_of(test_clock.test_time_sources, said, subject=subject_of(**settings))


def test_the_clock_must_follow_the_declared_servers() -> None:
    good = _TRACKING.format(offset="-0.000012", state="Normal")
    assert _clock(good).faults == []
    assert _clock(good, base_ntp_servers=["ntp.example.org"]).faults == []
    assert faults_of(_clock(good, base_ntp_servers=["ntp.town.example"])) == "time source ntp.example.org"
    assert faults_of(_clock(_TRACKING.format(offset="-3.5", state="Normal"))) == "3.500000 s off"
    assert "Not synchronised" in faults_of(_clock(_TRACKING.format(offset="0.0", state="Not synchronised")))
    silent = "506 Cannot talk to daemon\n"
    assert "chrony does not answer" in faults_of(_clock(silent))
    assert _clock(silent, container="lxc").untested


def test_heap_dumps_need_a_closed_directory_that_is_emptied() -> None:
    def look(options: str, mode: str = "700 directory", rules: str = "d /var/cache/x 0700 jvb jitsi 3d -\n") -> Sheet:
        said = {"for each": f"java\n{options}\n\n", "stat": mode, "systemd-tmpfiles": rules}
        return sheet_of(test_dumps.test_heap_dumps, said, subject=subject_of())

    on = "-XX:+HeapDumpOnOutOfMemoryError\n-XX:HeapDumpPath=/tmp\n"
    assert look(f"{on}-XX:-HeapDumpOnOutOfMemoryError").faults == []
    assert look("-Xmx1g").faults == []
    assert "writes heap dumps to /tmp" in faults_of(look(on, "1777 directory"))
    assert look(f"{on}-XX:HeapDumpPath=/var/cache/x").faults == []
    assert "stay 10d" in faults_of(
        look(f"{on}-XX:HeapDumpPath=/var/cache/x", rules="d /var/cache/x 0700 jvb jitsi 10d\n")
    )


def test_where_a_core_dump_goes() -> None:
    units = "\n".join(["Max core file size 0 0 bytes"] * 6)

    def look(storage: str = "", logins: str = "* hard core 0\nroot hard core 0\n", **given: Any) -> Sheet:
        said = {
            "cd /proc/sys": _kernel(**given),
            "for pid": units,
            "cat /etc/security": f"{logins}== next ==\n{storage}",
        }
        return sheet_of(test_dumps.test_core_dumps, said, subject=subject_of())

    keeper = "|/usr/lib/systemd/systemd-coredump %P %u"
    assert look().faults == []
    assert faults_of(look(kernel__core_pattern="core")) == "kernel.core_pattern is core"
    assert "external, its default" in faults_of(look(kernel__core_pattern=keeper))
    assert look("[Coredump]\nStorage=none\n", kernel__core_pattern=keeper).faults == []
    assert faults_of(look(logins="* soft core 0\nroot - core 0\n")) == "logins: core dumps up to no limit"
    # Debian 13's 10-coredump-debian.conf stands before the role's file.
    debian = "* soft core 0\nroot soft core 0\n* hard core infinity\nroot hard core infinity\n"
    assert look(logins=f"{debian}* hard core 0\nroot hard core 0 # so\n").faults == []
    assert faults_of(look(logins=debian)) == (
        "logins: core dumps up to infinity; logins of root: core dumps up to infinity"
    )
    both = "* hard core 0\nroot hard core 0\n"
    for row, seen in {
        "root hard core unlimited": "logins of root: core dumps up to unlimited",
        "anna\t-\tCore 1024": "logins of anna: core dumps up to 1024",
        "@staff hard core -1": "logins of @staff: core dumps up to -1",
        "root -": "logins of root: core dumps up to no limit",
        "anna soft core unlimited": "",
        "anna hard nofile 1024": "",
        "#anna hard core unlimited": "",
    }.items():
        assert faults_of(look(logins=f"{both}{row}\n")) == seen
    assert faults_of(look(logins="* hard core 0\n")) == "logins of root: core dumps up to no limit"
    shared: Any = {"shared": ("kernel/core_pattern",), "container": "lxc"}
    assert look(**shared, kernel__core_pattern="core").untested == []
    assert look(**shared, kernel__core_pattern="|/usr/share/apport/apport").untested


def _accounts(*rows: str) -> Sheet:
    said = "\n".join(["passwd:root:x:0:0:root:/root:/bin/bash", "group:root:x:0:", "group:jitsi:x:106:", *rows])
    return sheet_of(test_accounts.test_accounts, {"awk": said}, subject=subject_of())


def test_accounts_that_should_not_be() -> None:
    assert _accounts("passwd:jvb:x:105:106::/:/usr/sbin/nologin", "shadow:root:set").faults == []
    assert "toor is root" in faults_of(_accounts("passwd:toor:x:0:0::/:/usr/sbin/nologin"))
    assert "user ID 105 stands twice" in faults_of(_accounts(*[f"passwd:{n}:x:105:106::/:/bin/false" for n in "ab"]))
    assert "group name jitsi stands twice" in faults_of(_accounts("group:jitsi:x:107:"))
    assert "in the group 9" in faults_of(_accounts("passwd:a:x:105:9::/:/bin/false"))
    assert "a needs no password (/etc/shadow)" in faults_of(_accounts("shadow:a:empty"))
    assert "service account a logs in with /bin/sh" in faults_of(_accounts("passwd:a:x:105:106::/:/bin/sh"))
    assert _accounts("passwd:person:x:1000:106::/:/bin/bash").faults == []


def _sudo(user: str, *, options: str = '{"authenticate": false}', programs: str = "", defaults: str = "") -> Sheet:
    spec = {
        "User_List": [{"username": "town"}],
        "Cmnd_Specs": [{"Options": [json.loads(options)], "Commands": [{"command": "ALL"}]}],
    }
    rules = {"Defaults": [{"Options": [json.loads(defaults)]}] if defaults else [], "User_Specs": [spec]}
    subject = subject_of()
    object.__setattr__(subject, "user", user)
    said: dict[str, Any] = {"installed": ["sudo"], "failed": "", "rules": rules, "doas": "", "pam": {}}
    said["places"] = [
        {"kind": kind, "mode": int(mode, 8), "owner": owner, "group": group, "path": path, "writers": []}
        for kind, mode, owner, group, path in (line.split(" ", 4) for line in programs.splitlines())
    ]
    return sheet_of(test_accounts.test_sudo_rules, {"python3": json.dumps(said)}, subject=subject)


def test_sudo_without_a_password_is_for_the_declared_user_only() -> None:
    assert _sudo("town").faults == []
    assert faults_of(_sudo("other")) == "sudo asks town for no password (ALL)"
    assert _sudo("", options='{"setenv": true}').faults == []
    assert "changed by root only" in str(_sudo("town", programs="program 755 town town /opt/x\n").faults)
    assert "777" in faults_of(_sudo("town", programs="program 777 root root /opt/x\n"))
    assert _sudo("town", programs="program 755 root root /opt/x\n").faults == []
    assert "!syslog" in faults_of(_sudo("town", defaults='{"syslog": false}'))


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ("directory 755 root root /opt", True),
        ("directory 755 anna anna /home/anna", False),
        ("directory 775 root root /opt", True),
        ("directory 775 root staff /opt", False),
        ("directory 777 root root /opt", False),
        ("directory 1777 root root /tmp", True),
        ("directory 1777 anna root /tmp", False),
        ("place 755 root root /opt", True),
        ("place 755 anna anna /home/anna", False),
        ("place 1777 root root /tmp", False),
    ],
)
def test_who_may_replace_or_make_what_sudo_runs(row: str, fits: bool) -> None:
    sheet = _sudo("town", programs=f"{row}\n")
    _, mode, owner, _, path = row.split()
    assert (sheet.faults == []) is fits
    assert fits or faults_of(sheet).startswith(f"{path}, ")
    assert fits or f"is {mode} {owner}:" in faults_of(sheet)


def test_places_of_what_sudo_runs_are_told(tmp_path: Path) -> None:
    """The command itself, with rules of this test's own."""
    root = tmp_path / "root"
    for name in ("bin", "real/deep", "tools", "empty"):
        (root / name).mkdir(parents=True)
    for name in ("bin/plain", "real/deep/tool", "tools/one", "tools/two"):
        (root / name).touch()
    (root / "bin/link").symlink_to(root / "real/deep/tool")
    named = ["bin/plain", "bin/link", "gone/away/later", "tools/", "empty/", "to*/o*"]
    listed = [{"command": f"{root}/{name} -x"} for name in named]
    rules = {"User_Specs": [{"Cmnd_Specs": [{"Commands": [*listed, {"command": "ALL"}]}]}]}
    for name, text in (("sudo", ""), ("cvtsudoers", f"cat <<'END'\n{json.dumps(rules)}\nEND\n")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-c", test_accounts._SUDO], capture_output=True, text=True, check=True, env=environment
    )
    said = json.loads(done.stdout)
    assert said["rules"] == rules
    rows = [(row["kind"], row["path"]) for row in said["places"]]
    found = {(kind, path.removeprefix(str(root))) for kind, path in rows if path.startswith(str(root))}
    assert found == {
        *(("program", name) for name in ("/bin/plain", "/bin/link", "/real/deep/tool", "/tools/one", "/tools/two")),
        *(("directory", name) for name in ("", "/bin", "/real", "/real/deep", "/tools")),
        *(("place", name) for name in ("", "/empty")),
    }
    assert ("directory", "/") in rows


def _passwords(said: str) -> Sheet:
    return sheet_of(test_accounts.test_passwords, {"python3": said})


def test_a_password_is_tested_and_hashed_slowly() -> None:
    hashes = "root y \na 2b \nb 6 100000\nc 6 \n"
    sheet = _passwords(f"tested 12\n{hashes}")
    assert sheet.faults == []
    sheet.finish()
    assert faults_of(_passwords("untested 12\n")) == "a new password is not tested (pam_pwquality)"
    assert faults_of(_passwords("tested 8\n")) == "it needs 8 characters"
    assert faults_of(_passwords("tested 12\nroot 1 \n")) == "root's password is hashed by MD5"
    assert faults_of(_passwords("tested 12\nroot des \n")) == "root's password is hashed by DES"
    assert faults_of(_passwords("tested 12\nroot 6 1000\n")) == "root's password is hashed by SHA-512 in 1000 rounds"
    assert faults_of(_passwords("tested 12\nroot sha1 \n")) == "root's password is hashed by the method sha1"
    # Another module than pwquality knows no such length.
    other = _passwords("passwdqc \n")
    assert (other.faults, other.untested) == ([], [])


def test_a_test_of_passwords_that_is_not_seen_or_refuses_nothing_is_no_pass() -> None:
    unknown = _passwords("tested \n")
    assert unknown.faults == []
    assert unknown.untested == [
        "how long a new password must be, and whether a bad one is refused: pwquality does not tell"
    ]
    assert faults_of(_passwords("warned 12\n")) == "a new password is tested, but a bad one is not refused"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("password requisite pam_pwquality.so retry=3 minlen=14 enforcing=1", "tested 14"),
        ("-password required /lib/security/pam_pwquality.so enforcing=1 minlen=8 # minlen=20", "tested 8"),
        ("password requisite pam_pwquality.so minlen=14 enforcing=0", "warned 14"),
        # No library says what holds where the line is silent.
        ("password requisite pam_pwquality.so retry=3", "tested"),
        ("password requisite pam_pwquality.so minlen=14", "tested"),
        ("password [success=ok default=die] pam_pwquality.so minlen=14 enforcing=1", "tested 14"),
        ("password [default=ignore] pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("password [success=1 default=bad authtok_err=ignore] pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("password optional pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("# password requisite pam_pwquality.so minlen=14 enforcing=1", "untested"),
        ("password requisite pam_passwdqc.so min=disabled,24,11,8,7", "passwdqc"),
        ("password requisite pam_passwdqc.so enforce=none", "warned"),
        ("password optional pam_pwquality.so\npassword required pam_passwdqc.so", "passwdqc"),
    ],
)
def test_what_passwds_lines_say_of_the_test_counts(line: str, told: str, tmp_path: Path) -> None:
    """The command itself, with files of this test's own and without the library."""
    (tmp_path / "passwd").write_text("@include common-password\n")
    (tmp_path / "common-password").write_text(f"{line}\npassword required pam_unix.so yescrypt\n")
    (tmp_path / "shadow").write_text("root:!:1::::::\nanna:$6$rounds=1000$salt$hash:1::::::\n")
    command = test_accounts._TESTED
    for old, new in (
        ("/etc/pam.d/", f"{tmp_path}/"),
        ("/etc/shadow", f"{tmp_path}/shadow"),
        ("libpwquality", "libnowhere"),
    ):
        command = command.replace(old, new)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert [row.strip() for row in done.stdout.splitlines()] == [told, "anna 6 1000"]


def test_processes_that_any_user_sees_are_a_fault() -> None:
    assert sheet_of(test_kernel.test_processes_of_others, {"setpriv": ""}).faults == []
    faults = faults_of(sheet_of(test_kernel.test_processes_of_others, {"setpriv": "seen\n"}))
    assert faults == "any user sees the processes of others in /proc"
    # A /proc in which even the own process is not seen tells nothing.
    with pytest.raises(RuntimeError, match="ended with 3"):
        sheet_of(test_kernel.test_processes_of_others, {"setpriv": (3, "")})


MOUNTS = {"/tmp": "nosuid,nodev,noexec", "/dev/shm": "nosuid,nodev", "/dev": "nosuid,noexec"}


def _mounts(**changed: str | None) -> Sheet:
    wanted = {**MOUNTS, **{f"/{name}": flags for name, flags in changed.items()}}
    said = "".join(f"tmpfs {place} tmpfs rw,{flags} 0 0\n" for place, flags in wanted.items() if flags is not None)
    subject = subject_of()
    object.__setattr__(subject, "groups", ())
    return sheet_of(test_mounts.test_shared_directories, {"cat /proc/mounts": said}, subject=subject)


def test_flags_of_shared_directories_and_of_devices() -> None:
    assert _mounts().faults == []
    assert faults_of(_mounts(dev="nosuid")) == "/dev is mounted rw,nosuid"
    assert faults_of(_mounts(tmp="noexec")) == "/tmp is mounted rw,noexec"
    assert faults_of(_mounts(tmp=None)) == "/tmp is no mount of its own"


def _integrity(
    timer: str = "active",
    service: str = "success inactive",
    database: str = "100000 600 root",
    sure: int = 2,
    told: str = "  Added entries:\t\t2\n  Changed entries:\t1\n",
    begun: str = "86400",
) -> Sheet:
    said = f"{timer}\n{service}\n{100000 + 3600}\n{begun}\n{database}\n{sure}\n{told}"
    return sheet_of(test_integrity.test_changes_are_noted, {"end=": said})


def test_changes_are_noted_where_the_last_comparison_is_young_and_whole() -> None:
    sheet = _integrity()
    assert sheet.faults == []
    sheet.finish()
    assert "last compared 1 hours ago (added entries: 2; changed entries: 1)" in sheet.seen
    assert "(ratssaal-integrity.timer) is inactive" in faults_of(_integrity("inactive"))
    assert faults_of(_integrity(service="exit-code failed")) == "the last comparison failed"
    assert _integrity(service="exec-condition inactive").faults == []
    assert faults_of(_integrity(database="-100000 600 root")) == (
        "last compared 57 hours ago (added entries: 2; changed entries: 1)"
    )
    assert "what it is compared with is 640 root" in faults_of(_integrity(database="100000 640 root"))
    assert "is 600 prosody" in faults_of(_integrity(database="100000 600 prosody"))
    assert "nothing to compare with" in faults_of(_integrity(database="none", sure=0, begun="never"))
    assert "0 of 2 files that every host has" in faults_of(_integrity(sure=0))
    # Of its last two steps, the second may be still to come.
    for first in (
        _integrity(service="success activating", database="none", sure=0, begun="never"),
        _integrity(service="success activating", begun="never"),
    ):
        assert (first.faults, len(first.untested)) == ([], 1)


def test_a_database_that_is_gone_is_told_and_no_new_one_taken_for_it() -> None:
    assert "files are compared since 1970-01-02" in _integrity().seen
    gone = _integrity(service="exit-code failed", database="none", sure=0)
    assert faults_of(gone) == (
        "the last comparison failed; what files were compared with since 1970-01-02 is gone (/var/lib/aide/aide.db)"
    )
    # Before the next night, whose comparison will fail.
    assert "since 1970-01-02 is gone" in faults_of(_integrity(database="none", sure=0))
    assert "since 1970-01-02 is gone" in faults_of(_integrity(service="success activating", database="none", sure=0))
    assert faults_of(_integrity(begun="never")) == "files are compared since an unknown day"


def test_the_first_look_is_not_called_a_comparison() -> None:
    (seen,) = [line for line in _integrity(told="AIDE successfully initialized AIDE database.").seen if "hours" in line]
    assert seen == "looked at for the first time 1 hours ago"


_TLS12 = "Protocol: TLSv1.2\nSecure Renegotiation IS{} supported\nRENEGOTIATING\n{}\n"


def test_renegotiation_and_early_data() -> None:
    def renegotiation(secure: str, after: str) -> Sheet:
        sheet = Sheet()
        test_tls_extras._judge_renegotiation(_TLS12.format(secure, after), sheet)
        return sheet

    assert renegotiation("", "1:error:0A000153:SSL routines:ssl3_read_bytes:no renegotiation:x").faults == []
    assert "taken" in faults_of(renegotiation("", "depth=0 CN = x\nverify return:1"))
    assert "not supported" in faults_of(renegotiation(" NOT", "1:error:x:no renegotiation"))
    assert renegotiation("", "something else").untested
    for size, faults in ((0, 0), (16384, 1)):
        sheet = Sheet()
        test_tls_extras._judge_early_data(f"New, TLSv1.3, Cipher is x\nMax Early Data: {size}\n", sheet)
        assert len(sheet.faults) == faults


def test_security_txt_must_name_somebody_and_end() -> None:
    def look(body: str, kind: str = "text/plain; charset=utf-8") -> Sheet:
        sheet = Sheet()
        test_disclosure._judge_security_txt("x", Answer("200", {"content-type": kind}, body), datetime.now(UTC), sheet)
        return sheet

    day = (datetime.now(UTC) + timedelta(days=200)).strftime("%Y-%m-%dT00:00:00Z")
    good = f"Contact: mailto:holes@example.org\nExpires: {day}\n"
    assert look(good).faults == []
    assert "text/html" in faults_of(look(good, "text/html"))
    assert "contact not named" in faults_of(look(f"Expires: {day}\n"))
    assert "contact somebody" in faults_of(look(f"Contact: somebody\nExpires: {day}\n"))
    for end in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon"):
        assert f"expires {end}" in faults_of(look(f"Contact: tel:+49-391\nExpires: {end}\n"))


@pytest.mark.parametrize(
    ("given", "contact"),
    [
        ({"web_security_contact": "https://town.example/holes"}, "https://town.example/holes"),
        (
            {"web_security_contact": "holes@town.example", "jitsi_support_contact": "x@town.example"},
            "mailto:holes@town.example",
        ),
        ({"jitsi_support_contact": "+49 391 / 540-0"}, "tel:+493915400"),
        ({"jitsi_support_contact": "room 12"}, ""),
        ({}, ""),
    ],
)
def test_contact_as_security_txt_names_it(given: dict[str, str], contact: str) -> None:
    assert security_contact(given) == contact


def test_a_control_is_left_alone_with_a_reason_only() -> None:
    parts = {"OS-06": 1, "OS-08": 2}
    assert without_skipped(parts, {}) == [1, 2]
    decided = {"who": "A. Meier", "why": "a debugger is needed", "until": "2027-03-31"}
    assert without_skipped(parts, {"OS-06": decided}) == [2]
    for nothing in ("", None, True, "a debugger is needed", *({**decided, key: " "} for key in decided)):
        with pytest.raises(ValueError, match="who leaves OS-06 alone, why and until when"):
            without_skipped(parts, {"OS-06": nothing})
