"""Virtual machines for tests: Debian's ordinary kernel, as on an operator's server. Where KVM does not work they take minutes.

Each test belongs to one machine (xdist_group), so that two of them are at work side by side.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

import pytest

from orchestrator.lab.lab import LabSite
from tests.scenarios.conftest import ratssaal, require_groups, ssh, throwaway

BOOT_SECONDS = 600


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop where the tests of a machine would not stay together."""
    require_groups(config, items)


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    """Tell each failure when it comes: the whole run takes an hour, and may be ended before its end."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_FailuresAtOnce())


class _FailuresAtOnce:
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(f"\n{report.nodeid} ({report.when}) failed:\n{report.longreprtext}", flush=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped was not passed: these tests are run in order to know."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def machine13(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    """A converged Debian 13 machine, made by our commands as an operator makes one."""
    with throwaway("vm13", driver="vm") as made:
        for verb in ("preflight", "provision", "harden"):
            done = ratssaal(made, tmp_path_factory.getbasetemp(), verb)
            assert done.returncode == 0, done.stdout + done.stderr
        yield made


@pytest.fixture(scope="session")
def machine12() -> Iterator[LabSite]:
    """A converged Debian 12 machine, made by plain Ansible."""
    with throwaway("vm12", debian=12, driver="vm", playbook="site.yml") as made:
        yield made


@pytest.fixture(scope="session")
def bare13() -> Iterator[LabSite]:
    """A Debian 13 machine as the installer leaves it."""
    with throwaway("vmbare", driver="vm") as made:
        yield made


def reboot(machine: LabSite) -> None:
    """Reboot for real and wait until everything has started again."""
    before = boot_id(machine)
    ssh(machine, "systemctl reboot", check=False)
    deadline = time.monotonic() + BOOT_SECONDS
    while boot_id(machine) in ("", before):
        assert time.monotonic() < deadline, "the machine did not come back"
        time.sleep(2)
    ssh(machine, "systemctl is-system-running --wait", check=False)
    wait_for_bridge(machine)
    # An emulated machine is still busy with its JVMs: what is looked at is what stands, not how soon.
    ssh(machine, "for i in $(seq 60); do read load _ </proc/loadavg; test ${load%.*} -lt 2 && break; sleep 3; done")


def boot_id(machine: LabSite) -> str:
    """Return which boot this is; "" while nobody can log in."""
    return ssh(machine, "cat /proc/sys/kernel/random/boot_id", check=False)


def wait_for_bridge(machine: LabSite) -> None:
    """Wait until Jicofo calls itself healthy, which it does not without a bridge."""
    health = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8888/about/health"
    assert ssh(machine, f"for i in $(seq 300); do test $({health}) = 200 && break; sleep 1; done; {health}") == "200"
