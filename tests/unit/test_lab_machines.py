"""How hosts are started, what is refused, and the locks between calls."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import multiprocessing.synchronize
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import TaskFailed, Unreachable, UsageError
from orchestrator.lab import archives, discovery, drivers, lab, machines, network, repository, rootfs, servers, site, vm
from orchestrator.lab.hosts import LabHost, unmount
from orchestrator.lab.lab import Lab, check_able
from orchestrator.lab.locks import Busy, locked
from orchestrator.lab.network import Network
from orchestrator.lab.standins import repository as standins

HOST = LabHost("h2", 2, Network("one", 3), Path("/state/one/hosts/h2"))


def test_nspawn_takes_the_host_and_nothing_of_the_machine() -> None:
    argv = machines.nspawn_argv(HOST)
    assert argv[0] == "systemd-nspawn"
    assert {"--boot", "--register=no", "--keep-unit", "--console=pipe", "--settings=no"} <= set(argv)
    assert {"--machine=rs-one-h2", "--directory=/state/one/hosts/h2/root", "--network-bridge=rs-one"} <= set(argv)
    binds = [word for word in argv if word.startswith("--bind")]
    assert binds == ["--bind=/state/one/hosts/h2/archives:/var/cache/apt/archives"]


def test_with_systemd_the_host_is_a_unit_of_its_own() -> None:
    argv = machines.boot_argv(HOST, systemd=True)
    assert argv[0] == "systemd-run"
    assert {"--unit=ratssaal-lab-rs-one-h2.service", "--property=Delegate=yes"} <= set(argv)
    assert argv[-len(machines.nspawn_argv(HOST)) :] == machines.nspawn_argv(HOST)


def test_without_systemd_the_host_gets_mounts_and_a_session_of_its_own() -> None:
    argv = machines.boot_argv(HOST, systemd=False)
    assert argv[:4] == ["setsid", "--fork", "unshare", "--mount"]
    assert argv[-len(machines.nspawn_argv(HOST)) :] == machines.nspawn_argv(HOST)


def test_a_virtual_machine_is_found_by_its_name_and_hangs_on_the_labs_bridge(tmp_path: Path) -> None:
    machine = LabHost("h2", 2, Network("one", 254), tmp_path, "vm")
    argv = vm.qemu_argv(machine, "tcg")
    assert "guest=rs-one-h2" in argv, "by which it is found and ended"
    assert f"tap,id=lab,ifname={vm.tap(machine)},script=no,downscript=no" in argv
    assert len(vm.tap(machine)) <= 15
    assert argv[argv.index("-accel") + 1] == "tcg"
    assert drivers.of(machine).boot is vm.boot
    assert drivers.of(HOST).boot is machines.boot


@pytest.mark.parametrize(("accelerator", "processors"), [("tcg", "1"), ("kvm", "2")])
def test_a_translated_machine_has_one_processor(accelerator: str, processors: str, tmp_path: Path) -> None:
    argv = vm.qemu_argv(LabHost("h2", 2, Network("one", 254), tmp_path, "vm"), accelerator)
    assert argv[argv.index("-smp") + 1] == processors


@pytest.mark.parametrize(("accelerator", "exempt"), [("tcg", True), ("kvm", False)])
def test_only_where_code_is_translated_programs_lie_at_fixed_places(
    accelerator: str, exempt: bool, tmp_path: Path
) -> None:
    argv = vm.qemu_argv(LabHost("h2", 2, Network("one", 254), tmp_path, "vm"), accelerator)
    assert ("setarch" in argv[argv.index("-append") + 1]) is exempt


@pytest.mark.parametrize("driver", ["container", "vm"])
def test_a_snapshot_lies_on_the_one_before_and_a_revert_forgets_what_came_after(driver: str, tmp_path: Path) -> None:
    host = LabHost("h1", 1, Network("one", 3), tmp_path, driver)
    kind, disk = drivers.of(host), tmp_path / {"container": "upper", "vm": "disk.qcow2"}[driver]
    for number in range(1, 11):
        disk.mkdir() if driver == "container" else disk.touch()
        kind.keep_disk(host)
        assert len(kind.kept_layers(host)) == number
        assert not disk.exists()
    assert [path.name.split(".")[0] for path in kind.kept_layers(host)][:3] == ["kept10", "kept9", "kept8"]
    disk.mkdir() if driver == "container" else disk.touch()
    kind.revert_disk(host)
    assert not disk.exists()
    assert len(kind.kept_layers(host)) == 10


def test_without_kvm_a_machine_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert vm.accelerator(Path("vmlinuz-of-this-test"), Path("initrd")) == "tcg"


@pytest.mark.parametrize(("said", "wanted"), [("Kernel panic - not syncing", "kvm"), ("Probing EDD", "tcg")])
def test_kvm_is_used_where_it_boots_a_kernel(
    said: str, wanted: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some machines offer KVM and hang in it: only a kernel that came as far as its panic counts."""

    def run(argv: list[str], **_: object) -> None:
        Path(argv[-1].removeprefix("file:")).write_text(said)

    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr("subprocess.run", run)
    assert vm.accelerator(tmp_path / "vmlinuz", tmp_path / "initrd") == wanted


def test_names_are_known_at_both_addresses() -> None:
    first = LabHost("h1", 1, Network("one", 3), Path("/state/one/hosts/h1"))
    names = site.names_of([first, HOST])
    assert names["meet.one.lab.test turn.meet.one.lab.test"] == ("198.18.3.10", "2001:2:0:3::10")
    assert names["h2.one.lab.test h2"] == ("198.18.3.11", "2001:2:0:3::11")


def test_the_root_file_system_is_built_anew_when_anything_of_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = rootfs._recipe(13, "sources", "settings", kernel=False)
    assert recipe == rootfs._recipe(13, "sources", "settings", kernel=False)
    others = {
        rootfs._recipe(12, "sources", "settings", kernel=False),
        rootfs._recipe(13, "more", "settings", kernel=False),
    }
    monkeypatch.setattr(rootfs, "_CUSTOMIZE", (*rootfs._CUSTOMIZE, "true"))
    others.add(rootfs._recipe(13, "sources", "settings", kernel=False))
    others.add(rootfs._recipe(13, "sources", "settings", kernel=True))
    assert len(others | {recipe}) == 5


@pytest.mark.parametrize("name", ["", "Town", "9lives", "a-b", "abcdefghijklm", "../x"])
def test_bad_names_are_refused_with_a_hint(name: str) -> None:
    with pytest.raises(UsageError, match="no lab name") as caught:
        check_able(name)
    assert "lower-case" in caught.value.problems[0].hint


def test_without_root_the_hint_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/opt/our tools/ratssaal", "lab", "up", "one"])
    with pytest.raises(UsageError, match="needs root") as caught:
        Lab().up("one")
    assert caught.value.problems[0].hint == "sudo '/opt/our tools/ratssaal' lab up one"
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="needs root"):
        Lab().down("one")


def test_what_fails_in_a_lab_has_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = LabHost("h1", 1, Network("one", 3), tmp_path)
    host.console.write_text("no such kernel")
    (tmp_path / "repository.log").write_text("address in use")
    monkeypatch.setattr(machines, "has_systemd", lambda: False)
    monkeypatch.setattr(servers.Server, "_ids", lambda *_: [1])
    monkeypatch.setattr(repository, "_answers", lambda url: False)
    monkeypatch.setattr("time.monotonic", itertools.count(step=30).__next__)
    failing: dict[str, Callable[[], object]] = {
        f"ratssaal lab up one tries once more; the whole console: {host.console}": lambda: machines.start(
            host, ["false"]
        ),
        "ss -ltnp 'sport = :8043'": lambda: repository.serve(tmp_path, tmp_path, host.network),
        "try it by hand: ls '/no such place'": lambda: vm._run("ls", "/no such place"),
        "the lab needs bridges": lambda: network._run("false"),
    }
    for hint, call in failing.items():
        with pytest.raises(TaskFailed) as caught:
            call()
        assert hint in caught.value.problems[0].hint
    with pytest.raises(Unreachable, match="no such kernel") as lost:
        machines.wait_for(host, lambda *_: False, 0)
    assert lost.value.problems[0].hint.startswith("ratssaal lab up one")


def test_a_stand_in_that_cannot_be_built_has_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def build(*_: object) -> None:
        raise subprocess.CalledProcessError(1, ["dpkg-deb"], stderr="no space left")

    monkeypatch.setattr(standins, "CACHE", tmp_path)
    monkeypatch.setattr(standins, "_build", build)
    with pytest.raises(TaskFailed, match="dpkg-deb failed: no space left") as caught:
        standins._build_into(tmp_path / "cached", ["13"])
    assert f"df -h {tmp_path}" in caught.value.problems[0].hint


def test_what_cannot_be_unmounted_names_how_to_see_who_holds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(TaskFailed, match="cannot unmount") as caught:
        unmount(tmp_path / "not mounted")
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / "not mounted")
    assert problem.hint == f"see who holds it: fuser -vm '{problem.where}'"


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("nft", "systemd-nspawn") else f"/bin/{name}")
    with pytest.raises(UsageError, match="missing") as caught:
        check_able("one")
    assert caught.value.problems[0].hint == "apt-get install nftables systemd-container"


def test_a_lab_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lab, "STATE", tmp_path)
    with pytest.raises(UsageError, match="no lab one") as caught:
        Lab().site("one")
    assert caught.value.problems[0].hint == "ratssaal lab up one"
    assert Lab().running() == []


def test_a_lab_of_another_version_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise its network's number would be given away once more, and forwarding switched off under it."""
    monkeypatch.setattr(lab, "STATE", tmp_path)
    (tmp_path / "one").mkdir()
    record = {"number": 7, "debian": 13, "hosts": 2, "repository": True, "colour": "blue"}
    (tmp_path / "one/lab.json").write_text(json.dumps(record))
    assert lab._recorded("one") == lab.Record(7, 13, 2, True)
    (tmp_path / "one/lab.json").write_text("[]")
    assert lab._recorded("one") is None


def test_every_lab_that_left_a_trace_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(discovery, "traces", lambda state: {"two": ["x"], "one": ["y"], "Other-Thing": ["z"]})
    monkeypatch.setattr(Lab, "down", lambda self, name: removed.append(name))
    assert Lab().down_all() == ["one", "two"] == removed


def _hold(path: Path, held: multiprocessing.synchronize.Event, end: multiprocessing.synchronize.Event) -> None:
    with locked(path, remove=True):
        held.set()
        end.wait(20)


def test_a_lock_excludes_and_ends_with_its_process(tmp_path: Path) -> None:
    path, held, end = tmp_path / "lock", multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=_hold, args=(path, held, end))
    holder.start()
    try:
        assert held.wait(20)
        with pytest.raises(Busy), locked(path):
            pytest.fail("two hold one lock")
        waited: list[str] = []

        def waiting() -> None:
            waited.append("waiting")
            holder.kill()

        with locked(path, waiting):
            assert waited == ["waiting"]
    finally:
        holder.kill()
        holder.join()


def test_a_lock_that_its_holder_removed_is_made_anew(tmp_path: Path) -> None:
    path, held, end = tmp_path / "lock", multiprocessing.Event(), multiprocessing.Event()
    holder = multiprocessing.Process(target=_hold, args=(path, held, end))
    holder.start()
    assert held.wait(20)
    with locked(path, end.set):
        assert path.exists()  # or a third process would not see that it is held
        with pytest.raises(Busy), locked(path):
            pytest.fail("two hold one lock")
    holder.join()


def test_downloads_are_handed_on_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archives, "SHARED", tmp_path / "shared")
    first, second = tmp_path / "first", tmp_path / "second"
    archives.fill(first)
    (first / "partial").mkdir()
    (first / "partial/b.deb").write_text("half")
    (first / "a.deb").write_text("whole")
    (first / "lock").touch()
    archives.keep(first)
    archives.fill(second)
    assert {path.name: path.read_text() for path in second.iterdir()} == {"a.deb": "whole"}
    (second / "a.deb").unlink()  # as `apt-get clean` does
    assert (tmp_path / "shared/a.deb").read_text() == "whole"
    archives.prune(now=(tmp_path / "shared/a.deb").stat().st_ctime + 59 * 86400)
    assert (tmp_path / "shared/a.deb").exists()
    archives.prune(now=(tmp_path / "shared/a.deb").stat().st_ctime + 61 * 86400)
    assert not (tmp_path / "shared/a.deb").exists()
