"""What the checks make of kernel settings, of limits and of dumps that a lab host does not have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.verification.checks import test_capacity, test_dumps, test_kernel, test_kernel_modules
from orchestrator.verification.sheet import NotApplicable, Sheet
from tests.unit.asked import faults_of, sheet_of, subject_of

ROOT = Path(__file__).resolve().parents[2]
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
    own = [name for name in here if name not in shared]
    return "\n== next ==\n".join(["\n".join(rows), "\n".join(own), line, container, boot, kept])


def _network(**given: Any) -> Sheet:
    return sheet_of(test_kernel.test_network_settings, {"cd /proc/sys": _kernel(**given)})


def _memory(**given: Any) -> Sheet:
    return sheet_of(test_kernel.test_memory_and_files, {"cd /proc/sys": _kernel(**given)})


def test_kernel_as_wanted_has_no_fault() -> None:
    for sheet in (_network(), _memory()):
        assert sheet.faults == []
        assert sheet.untested == []
        sheet.finish()


# The bridge's buffers and what becomes of dumps have checks of their own; IPv6 never asks `all` (kernel: net/ipv6/ndisc.c).
ELSEWHERE = {"NET-10", "OS-12"}
NOT_ASKED = {"net/ipv6/conf/all/accept_redirects"}


def test_what_hardening_sets_is_looked_at() -> None:
    rows = yaml.safe_load((ROOT / "roles/hardening/vars/main.yml").read_text())["__hardening_sysctl"]
    set_ = {name.replace(".", "/") for control, names in rows.items() if control not in ELSEWHERE for name in names}
    single = {name for name in set_ if "*" not in name} - NOT_ASKED
    assert single == {*test_kernel.NETWORK, *test_kernel.MEMORY}


@pytest.mark.parametrize("name", [*test_kernel.NETWORK, *test_kernel.MEMORY])
def test_each_setting_turns_its_control_now_and_for_the_next_boot(name: str) -> None:
    look = _network if name in test_kernel.NETWORK else _memory
    shown = name.replace("/", ".")
    assert faults_of(look(**{name.replace("/", "__"): "7"})) == f"{shown} is 7"
    assert faults_of(look(kept=KEPT + f"{name} = 7\n")) == f"{shown} is 7 in the files of sysctl.d"


def test_each_interface_counts_for_itself() -> None:
    said = {"cd /proc/sys": _kernel().replace("conf/eth0.7/accept_redirects:0", "conf/eth0.7/accept_redirects:1")}
    faults = faults_of(sheet_of(test_kernel.test_network_settings, said))
    assert "net.ipv4.conf.eth0.7.accept_redirects is 1" in faults
    assert "net.ipv6.conf.eth0.7.accept_redirects is 1" in faults


def test_what_is_stricter_than_wanted_is_no_fault() -> None:
    for name, stricter in {
        "net/ipv4/conf/all/rp_filter": "1",
        "net/ipv6/conf/all/accept_source_route": "-1",
        "kernel/yama/ptrace_scope": "2",
    }.items():
        given = {name.replace("/", "__"): stricter, "kept": KEPT + f"{name} = {stricter}\n"}
        assert (_network(**given).faults, _memory(**given).faults) == ([], [])
    off = _network(net__ipv4__conf__all__rp_filter="0")
    assert faults_of(off) == "net.ipv4.conf.all.rp_filter is 0"


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
        ("net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.*.rp_filter = 2\n", "0"),
        ("net.ipv4.conf.*.rp_filter = 0\n", "0"),
        ("net.ipv4.conf.*.rp_filter = 0\n-net.ipv4.conf.all.rp_filter\n", None),
        ("# net.ipv4.conf.all.rp_filter = 1\n", None),
        ("net/ipv4/conf/all/rp_filter=2\n-net.ipv4.conf.all.rp_filter = 0\n", "0"),
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
    for line, said in (
        ('GRUB_CMDLINE_LINUX="quiet mitigations=off" # as before', "mitigations=off"),
        ('GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX nopti"', "nopti"),
        ("GRUB_CMDLINE_LINUX_DEFAULT+=' nosmep'; true", "nosmep"),
        ("GRUB_CMDLINE_LINUX=nokaslr # isn't it", "nokaslr"),
        ('GRUB_CMDLINE_LINUX="nopti', "nopti"),
        ("root=/dev/vda1 ro noexec=off", "noexec=off"),
    ):
        assert faults_of(look(boot=line)) == f"the boot loader's files say {said}", line
    assert look(boot='GRUB_CMDLINE_LINUX="quiet" # not mitigations=off').faults == []
    below = look(line="mitigations=off", container="lxc")
    assert below.faults == []
    assert below.untested == ["the machine below this container was booted with mitigations=off"]


def test_memory_that_is_executed_is_a_fault_where_the_processor_tells() -> None:
    def look(said: str) -> Sheet:
        return sheet_of(test_kernel.test_data_is_not_executed, {"uname -m": said})

    assert look("x86_64\nnone\nflags\t\t: fpu pae nx lm\n").faults == []
    assert "does not keep" in faults_of(look("x86_64\nnone\nflags\t\t: fpu pae nxx lm\n"))
    assert "does not keep" in faults_of(look("x86_64\nnone\n"))
    below = look("x86_64\nlxc\nflags\t\t: fpu lm\n")
    assert below.faults == []
    assert "the machine below this container (lxc)" in below.untested[0]
    with pytest.raises(NotApplicable, match="aarch64"):
        look("aarch64\nnone\n")


_USB = "insmod /lib/modules/6.12/kernel/drivers/usb/core/usbcore.ko.xz \n"


def _modules(check: Callable[..., None], container: str = "none", **answers: str) -> Sheet:
    """Return what is found where modprobe gives these answers, and loads nothing of the others."""
    names = {
        test_kernel_modules.test_protocols: test_kernel_modules.PROTOCOLS,
        test_kernel_modules.test_devices_and_file_systems: (
            *test_kernel_modules.DEVICES,
            *test_kernel_modules.FILE_SYSTEMS,
        ),
    }[check]
    kept_out = "install /bin/true \n"
    rows = "".join(f"== {name}\n{answers.get(name.replace('-', '_'), kept_out)}" for name in names)
    program = "missing" if container == "bare" else "/usr/sbin/modprobe"
    return sheet_of(check, {"PATH=": f"{'lxc' if container == 'bare' else container}\n{program}\n{rows}"})


@pytest.mark.parametrize(
    ("answer", "loads"),
    [
        (f"{_USB}install /bin/true \n", False),
        ("", False),
        (f"{_USB}insmod /lib/modules/6.12/kernel/drivers/usb/storage/usb-storage.ko.xz \n", True),
        ("insmod /lib/modules/6.12/updates/usb_storage.ko delay_use=0\n", True),
        ("builtin usb_storage\n", True),
        ("install /sbin/modprobe --ignore-install usb-storage \n", True),
        ("install /usr/bin/false\n", False),
    ],
)
def test_a_module_that_modprobe_would_load_is_a_fault(answer: str, loads: bool) -> None:
    check = test_kernel_modules.test_devices_and_file_systems
    assert faults_of(_modules(check, usb_storage=answer)) == ("modprobe loads usb-storage" if loads else "")
    assert _modules(check).untested == []
    sctp = "insmod /lib/modules/6.12/kernel/net/sctp/sctp.ko.xz \n"
    assert faults_of(_modules(test_kernel_modules.test_protocols, sctp=sctp)) == "modprobe loads sctp"


def test_a_containers_modules_are_not_tested_and_its_files_are() -> None:
    check = test_kernel_modules.test_protocols
    for container in ("lxc", "bare"):
        sheet = _modules(check, container)
        assert sheet.faults == []
        assert "the machine below this container (lxc)" in sheet.untested[0]
    assert (
        faults_of(_modules(check, "lxc", rds="insmod /lib/modules/6.12/kernel/net/rds/rds.ko\n"))
        == "modprobe loads rds"
    )
    with pytest.raises(RuntimeError, match="no modprobe"):
        sheet_of(check, {"PATH=": "none\nmissing\n== dccp\n== rds\n== sctp\n== tipc\n"})


def test_the_modules_looked_for_are_those_that_hardening_keeps_out() -> None:
    """A list of their own: what the role forgets, the check misses."""
    steps = yaml.safe_load((ROOT / "roles/hardening/vars/main.yml").read_text())["__hardening_files"]
    kept = {
        control: set(re.findall(r"^(?:install|blacklist) (\S+)", file["content"], re.M))
        for control, rows in steps.items()
        for step in rows
        for file in step["files"]
        if "modprobe.d" in file["dest"]
    }
    modules = test_kernel_modules
    assert kept == {"NET-09": set(modules.PROTOCOLS), "OS-11": {*modules.DEVICES, *modules.FILE_SYSTEMS}}


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


def test_processes_that_any_user_sees_are_a_fault() -> None:
    assert sheet_of(test_kernel.test_processes_of_others, {"setpriv": ""}).faults == []
    hidden = sheet_of(test_kernel.test_processes_of_others, {"setpriv": "lxc\n"})
    assert (hidden.faults, hidden.untested) == ([], [])
    refused = sheet_of(test_kernel.test_processes_of_others, {"setpriv": "seen\nlxc\n"})
    assert refused.faults == []
    assert "belongs to the machine below this container (lxc)" in refused.untested[0]
    faults = faults_of(sheet_of(test_kernel.test_processes_of_others, {"setpriv": "seen\n"}))
    assert faults == "any user sees the processes of others in /proc"
    # A /proc in which even the own process is not seen tells nothing.
    with pytest.raises(RuntimeError, match="ended with 3"):
        sheet_of(test_kernel.test_processes_of_others, {"setpriv": (3, "")})
