"""The units' sandboxes as rendered: no line may run into the next one, or systemd ignores both."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

from orchestrator import content
from orchestrator.verification.crypto import load_profiles

TEMPLATES = content.root() / "roles/hardening/templates"
# As playbooks/action_plugins/managed_host.py renders them.
ENVIRONMENT = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
# What the role's own vars give to its templates.
ENVIRONMENT.globals |= yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text())
ENVIRONMENT.globals["__hardening_ssh"] = load_profiles()["bsi-2026"].ssh.offer.model_dump()
UNITS = sorted(path.name for path in TEMPLATES.glob("*.conf.j2") if "_sandbox.j2" in path.read_text())


def test_every_service_has_a_sandbox() -> None:
    assert len(UNITS) == 6


@pytest.mark.parametrize("name", UNITS)
def test_every_line_is_one_setting(name: str) -> None:
    lines = ENVIRONMENT.get_template(name).render().splitlines()
    assert "SystemCallErrorNumber=EPERM" in lines
    for line in lines:
        assert re.fullmatch(r"(#.*|\[\w+\]|[A-Z]\w+=[^=]*|ExecStart=.*|)", line), line


def _sshd(major: int = 13, /, **skip: str) -> dict[str, str]:
    """Return the drop-in's settings by keyword, as sshd reads them."""
    given = {
        "ansible_facts": {"ratssaal_host": {"major": major}},
        "hardening_skip": {control.replace("_", "-"): reason for control, reason in skip.items()},
    }
    text = ENVIRONMENT.get_template("sshd.conf.j2").render(given, hardening_ssh_allow_groups=[])
    rows = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    found = {keyword: value for keyword, _, value in rows}
    assert len(found) == len(rows), "sshd takes the first value of a keyword"
    assert all(re.fullmatch(r"[A-Z]\w+", keyword) and value for keyword, value in found.items())
    return found


@pytest.mark.parametrize(("major", "skip", "bounds"), [(13, {}, 3), (12, {}, 2), (13, {"ACC_06": "ticket 17"}, 0)])
def test_sshd_is_bounded_as_its_version_can_be_and_as_the_site_wants(
    major: int, skip: dict[str, str], bounds: int
) -> None:
    settings = _sshd(major, **skip)
    assert sum(word in settings for word in ("MaxStartups", "PerSourceMaxStartups", "PerSourcePenalties")) == bounds
    assert ("PerSourcePenalties" in settings) == (bounds == 3), (
        "sshd of Debian 12 refuses a keyword that it does not know"
    )


# A keyword of each control's part.
PARTS = {"ACC_01": "AllowGroups", "ACC_06": "MaxAuthTries", "ACC_08": "ClientAliveInterval", "CRY_10": "MACs"}


@pytest.mark.parametrize("control", PARTS)
def test_a_control_of_sshd_is_left_alone_by_itself(control: str) -> None:
    whole, rest = _sshd(), _sshd(**{control: "ticket 17"})
    assert PARTS[control] in whole
    assert PARTS[control] not in rest
    others = {word for name, word in PARTS.items() if name != control}
    assert others <= set(rest)
    assert {word: whole[word] for word in rest} == rest
    assert _sshd(**dict.fromkeys(PARTS, "ticket 17")) == {}


def test_the_task_knows_each_part_of_sshd() -> None:
    """A part whose control the task does not know would keep the drop-in from being written, or from going."""
    (sshd, _) = yaml.safe_load((TEMPLATES.parent / "tasks/main.yml").read_text())
    parts = set(sshd["vars"]["__parts"])
    assert parts == {control.replace("_", "-") for control in PARTS}
    assert parts == set(re.findall(r"'([A-Z]+-\d+)' not in", (TEMPLATES / "sshd.conf.j2").read_text()))


def test_every_control_of_hardening_can_be_left_alone() -> None:
    """Each control for which the role does anything is a key of hardening_skip, and the other way round."""
    (sshd, rest) = yaml.safe_load((TEMPLATES.parent / "tasks/main.yml").read_text())
    values = yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text())
    done = {*sshd["vars"]["__parts"], *rest["vars"]["__units"]}
    done |= {*values["__hardening_sysctl"], *values["__hardening_absent"], *values["__hardening_files"]}
    done |= {*values["__hardening_packages"]}
    options = yaml.safe_load((TEMPLATES.parent / "meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    assert set(options["hardening_skip"]["options"]) == done


NONE_RUN = "nosuid,nodev,noexec"


def test_directories_to_which_many_may_write_get_their_flags() -> None:
    """People keep their own programs at home; the JVMs' native libraries lie in none of these (test_hardening_faults.py)."""
    script = ENVIRONMENT.get_template("mounts.sh.j2").render()
    told = dict(re.findall(r"then keep (/\S+) (\S+); fi", script))
    assert {place for place, flags in told.items() if flags == NONE_RUN} == {"/tmp", "/var/tmp", "/dev/shm", "/var/log"}
    assert {place: flags for place, flags in told.items() if flags != NONE_RUN} == {
        "/dev": "nosuid,noexec",
        "/home": "nosuid,nodev",
    }
    # What may be mounted late is followed by a unit of its own.
    files = yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text())["__hardening_mounts"][0]["files"]
    late = [row["dest"].split("/")[-2:] for row in files if "link" in row]
    units = [place[1:].replace("/", "-") for place in told if not place.startswith("/dev")]
    assert sorted(late) == sorted([f"{unit}.mount.wants", f"ratssaal-mounts@{unit}.service"] for unit in units)
    # What starts after it would wait for a file server that does not answer.
    unit = ENVIRONMENT.get_template("mounts@.service.j2").render().splitlines()
    assert [line for line in unit if line.startswith("Before=")] == ["Before=shutdown.target"]


def test_the_script_for_mounts_has_no_fault_that_shellcheck_knows() -> None:
    script = ENVIRONMENT.get_template("mounts.sh.j2").render()
    told = subprocess.run(["shellcheck", "-"], input=script, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def _mounting(folder: Path, mounted: str, *, unit: str = "", refused: str = "nothing") -> list[str]:
    """Return what the script mounts where these lines stand in /proc/self/mounts, P being its place; Q is another in what is returned.

    `unit` is what systemd says of a mount unit there, `refused` a word of what the kernel refuses.
    """
    programs = folder / "bin"
    programs.mkdir()
    table, log, place = folder / "mounts", folder / "log", folder / "place"
    table.write_text(mounted.replace("P", str(place)))
    log.touch()
    said = {
        "mount": f'echo "$*" >>{log}; case $* in *{refused}*) exit 32;; esac',
        "systemctl": f"printf '{unit}'",
        "timeout": 'shift; "$@"',
    }
    for name, text in said.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    given = {"__hardening_flags": {str(place): NONE_RUN, str(folder / "other"): "nosuid"}}
    script = ENVIRONMENT.get_template("mounts.sh.j2").render(given).replace("/proc/self/mounts", str(table))
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    ran = subprocess.run(
        ["sh", "-c", script, "x", "keep"], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return log.read_text().replace(str(place), "P").replace(str(folder / "other"), "Q").splitlines()


AUTOMOUNT, SERVER = "systemd-1 P autofs rw,relatime 0 0\n", "nfs:/x P nfs4 rw,nosuid,relatime 0 0\n"
REMOUNTED, BOUND = "-ic -o remount,bind,nosuid,nodev,noexec P", "-ic --bind -o nosuid,nodev,noexec P P"


@pytest.mark.parametrize(
    ("mounted", "unit", "done"),
    [
        ("", "LoadState=loaded\\nFragmentPath=\\n", [BOUND]),
        ("", "LoadState=masked\\nFragmentPath=/etc/systemd/system/tmp.mount\\n", [BOUND]),
        # Of fstab, mounted later or not at all: systemd would take what is bound there for it.
        ("", "LoadState=loaded\\nFragmentPath=/run/systemd/generator/home.mount\\n", []),
        ("tmpfs P tmpfs rw,nodev 0 0\n", "", [REMOUNTED]),
        ("tmpfs P tmpfs rw,nosuid,nodev,noexec 0 0\n", "", []),
        ("tmpfs P tmpfs rw,nosuid,nodev,noexec 0 0\ntmpfs P tmpfs rw 0 0\n", "", [REMOUNTED]),
        (AUTOMOUNT, "", []),
        (AUTOMOUNT + SERVER, "", [REMOUNTED]),
    ],
)
def test_what_is_mounted_later_is_not_hidden_and_not_waited_for(
    tmp_path: Path, mounted: str, unit: str, done: list[str]
) -> None:
    (tmp_path / "place").mkdir()
    assert _mounting(tmp_path, mounted, unit=unit) == done


def test_a_place_that_is_elsewhere_or_nowhere(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "place").symlink_to(tmp_path / "there")
    there = tmp_path / "there"
    assert _mounting(tmp_path, "") == [f"-ic --bind -o nosuid,nodev,noexec {there} {there}"]


def test_a_refused_place_keeps_no_other_from_its_flags(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "other").mkdir()
    assert _mounting(tmp_path, "", refused="noexec") == [BOUND, "-ic --bind -o nosuid Q Q"]


def test_processes_are_hidden_where_root_and_the_monitoring_group_see_them() -> None:
    """The group by its number: mount does not know names everywhere. Without logind's membership no session would end."""
    text = ENVIRONMENT.get_template("processes.service.j2").render()
    # Where a container's manager refuses it, the rest of hardening goes on.
    assert "ExecStart=-mount -o remount,hidepid=invisible,gid=4 /proc" in text.splitlines()
    # Where the control is left alone from now on, logind is out of the group as soon as the unit has ended.
    assert "ExecStop=-mount -o remount,hidepid=off,gid=0 /proc" in text.splitlines()
    values = yaml.safe_load((TEMPLATES.parent / "vars/main.yml").read_text())
    files, units = values["__hardening_processes"]
    (logind,) = [file for file in files["files"] if "logind" in file["dest"]]
    assert "SupplementaryGroups=adm" in logind["content"]
    assert logind["restarts"] == ["systemd-logind.service"]
    assert "systemd-logind.service" in [unit["name"] for unit in units["units"]]


def test_a_night_is_compared_with_the_one_before() -> None:
    service = ENVIRONMENT.get_template("integrity.service.j2").render().splitlines()
    (start,) = [line for line in service if line.startswith("ExecStart=")]
    post, noted = [line for line in service if line.startswith("ExecStartPost=")]
    assert shlex.split(start.removeprefix("ExecStart="))[:2] == ["/bin/sh", "-c"]
    assert not re.search(r"[%$\\]", start), "systemd would read it as its own"
    rules = ENVIRONMENT.get_template("aide.conf.j2").render()
    for kept in ("/var/lib/aide/aide.db.new", "/var/lib/aide/aide.db"):
        assert f"file:{kept}\n" in rules
        assert kept in shlex.split(post)
    assert "/var/lib/aide/aide.db && exec" in start
    assert "test -e /var/lib/ratssaal/integrity/begun" in noted
    # aide's ends of a comparison that worked; from 14 on it did not (aide(1)).
    assert "SuccessExitStatus=1 2 3 4 5 6 7" in service

    def compared(place: str) -> bool:
        named = [rule for rule in re.findall(r"^(/\S+) Content$", rules, re.M) if re.match(rule, place)]
        return bool(named) and not [rule for rule in re.findall(r"^!(\S+)$", rules, re.M) if re.match(rule, place)]

    assert compared("/etc/cron.d/x")
    assert compared("/root/.ssh/authorized_keys")
    assert compared("/home/a/.ssh/authorized_keys")
    assert compared("/usr/share/jitsi-meet/libs/app.bundle.min.js")
    assert not compared("/var/log/jitsi/jvb.log")
    assert not compared("/home/a/letter")
    assert not compared("/etc/resolv.conf")


@pytest.mark.parametrize(
    ("database", "begun", "done"),
    [(True, True, "--update"), (True, False, "--update"), (False, False, "--init"), (False, True, "")],
)
def test_no_second_beginning_where_the_database_is_gone(
    tmp_path: Path, *, database: bool, begun: bool, done: str
) -> None:
    service = ENVIRONMENT.get_template("integrity.service.j2").render().splitlines()
    (start,) = [line.removeprefix("ExecStart=") for line in service if line.startswith("ExecStart=")]
    *shell, script = shlex.split(start)
    script = script.replace("/var/lib/aide/", f"{tmp_path}/").replace("/var/lib/ratssaal/integrity/", f"{tmp_path}/")
    (tmp_path / "aide").write_text('#!/bin/sh\necho "$2"\n')
    (tmp_path / "aide").chmod(0o755)
    if database:
        (tmp_path / "aide.db").write_text("x")
    if begun:
        (tmp_path / "begun").touch()
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ran = subprocess.run([*shell, script], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, done) if done else ran.returncode == 90
    assert done or "aide.db is gone" in ran.stdout


@pytest.mark.parametrize("major", [12, 13])
def test_login_defs_cost_whoever_guesses_and_lock_nobody_out(major: int) -> None:
    given = {"ansible_facts": {"ratssaal_host": {"major": major, "umask": "027"}}}
    lines = ENVIRONMENT.get_template("login.defs.j2").render(given).splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    values: dict[str, str] = {name: value for name, value in rows}
    assert len(values) == len(rows)
    assert (values["ENCRYPT_METHOD"], values["YESCRYPT_COST_FACTOR"]) == ("YESCRYPT", "7")
    assert values["UMASK"] == "027", "as the host had it"
    assert int(values["SHA_CRYPT_MIN_ROUNDS"]) >= 5000
    # sshd lets nobody in whose password ran out, whatever the key.
    assert (values["PASS_MAX_DAYS"], values["PASS_MIN_DAYS"]) == ("99999", "0")
    # shadow complains about words that its release does not know.
    assert ("FAILLOG_ENAB" in values, "HOME_MODE" in values) == (major == 12, major == 13)
