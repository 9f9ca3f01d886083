"""The two ways to make a lab host: a container that shares this machine's kernel, and a virtual machine with its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.lab import hosts, machines, vm
from orchestrator.lab.hosts import LabHost

Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Driver:
    """What the lab does with a host; `kept_layers` are its snapshots, the newest first."""

    prepare: Callable[[LabHost, Path, Names, str], None]
    boot: Callable[[LabHost], None]
    wait_until_up: Callable[[LabHost], None]
    power_off: Callable[[LabHost], object]
    keep_disk: Callable[[LabHost], None]
    revert_disk: Callable[[LabHost], None]
    kept_layers: Callable[[LabHost], list[Path]]


DRIVERS = {
    "container": Driver(
        hosts.prepare,
        machines.boot,
        machines.wait_until_up,
        machines.power_off,
        hosts.keep_disk,
        hosts.revert_disk,
        hosts.kept_layers,
    ),
    "vm": Driver(vm.prepare, vm.boot, vm.wait_until_up, vm.power_off, vm.keep_disk, vm.revert_disk, vm.kept_layers),
}


def of(host: LabHost) -> Driver:
    """Return the driver of a host."""
    return DRIVERS[host.driver]
