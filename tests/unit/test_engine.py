"""Plan, events, journal and lock, without a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orchestrator import processes
from orchestrator.engine import journal
from orchestrator.engine.ansible import Converge, plays, run, socket_folder
from orchestrator.engine.events import Event, EventReader
from orchestrator.errors import TaskFailed
from orchestrator.inventory.ansible_tools import environment
from orchestrator.inventory.vault import VaultAccess, read_vault
from orchestrator.operations.converge import converge_plan
from orchestrator.operations.status import judge
from tests.unit.site_cases import Case

ROOT = Path(__file__).resolve().parents[2]


def test_plan_of_both_verbs_is_that_of_each(case: Case) -> None:
    site = case.load()
    both, one, other = (converge_plan(site, verb) for verb in ("provision+harden", "provision", "harden"))
    names = [step.name for step in both.steps]
    assert names == [*(step.name for step in one.steps), *(step.name for step in other.steps)]
    assert names[:2] == ["Base system", "Firewall"]
    assert names[-1] == "Hardening"
    assert both.playbooks == ("site.yml",)
    assert all(step.hosts for step in both.steps)


def test_every_role_is_in_a_step() -> None:
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    used = {role for _, _, names in plays("site.yml") for role in names}
    assert roles - used == {"verification"}  # settings only


def test_the_arguments_of_every_role_are_looked_at() -> None:
    variables = yaml.safe_load((ROOT / "roles/jitsi/vars/main.yml").read_text())
    used = {role for _, _, names in plays("site.yml") for role in names}
    assert set(variables["__jitsi_roles"]) == used


def test_plain_ansible_tells_the_mistakes_of_all_roles_before_it_connects(case: Case) -> None:
    case.append("jitsi_auth: nobody\ncertificates_days: many\n")
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(case.path / "hosts.yml")]
    argv += ["--vault-password-file", str(case.password_file), str(ROOT / "playbooks/site.yml")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "jitsi_auth" in done.stdout
    assert "certificates_days" in done.stdout
    assert "unreachable=0" in done.stdout
    assert "TASK [jitsi : What this host is]" not in done.stdout


def test_a_long_home_moves_the_control_sockets_to_a_private_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert socket_folder(Path("/home/anna/.ansible/cp")) == {}
    assert list(tmp_path.iterdir()) == []
    long = Path("/home") / ("x" * 70) / ".ansible/cp"
    (folder,) = socket_folder(long).values()
    assert Path(folder).parent == tmp_path
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert socket_folder(long) == {"ANSIBLE_SSH_CONTROL_PATH_DIR": folder}
    Path(folder).chmod(0o755)
    with pytest.raises(TaskFailed, match="not a directory of yours alone"):
        socket_folder(long)


def test_reader_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    reader = EventReader(path)
    assert list(reader.read()) == []
    path.write_text('{"event": "play", "at": 1, "name": "Base"}\n{"event": "res')
    assert list(reader.read()) == [Event("play", "Base")]
    with path.open("a") as handle:
        handle.write('ult", "at": 2, "task": "t", "host": "h1", "status": "changed", "seconds": 0.5}\n')
    assert list(reader.read()) == [Event("result", "t", "h1", "changed")]


def test_ansible_sees_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_STRATEGY", "no-such-strategy")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all:\n  hosts: {}\n")
    seen: list[Event] = []
    converge = Converge("site.yml", inventory, check=True)
    code = run(converge, events=tmp_path / "events", console=tmp_path / "console", on_event=seen.append)
    assert code == 0, (tmp_path / "console").read_text()
    assert seen[-1].kind == "stats"


def test_a_password_program_sees_the_same_environment_everywhere(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks a password store whose session stands in the environment, when the site is read and when a playbook runs."""
    program = tmp_path / "ask-the-store"
    program.write_text(
        '#!/bin/sh\n[ "$BW_SESSION" = open ] && exec cat "$PASSWORD_STORE_DIR/key"\necho no >&2; exit 1\n'
    )
    program.chmod(0o700)
    (tmp_path / "store").mkdir()
    (tmp_path / "store/key").write_text(case.password_file.read_text())
    monkeypatch.setenv("BW_SESSION", "open")
    monkeypatch.setenv("PASSWORD_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("ANSIBLE_STRATEGY", "no-such-strategy")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    assert read_vault(case.path, VaultAccess(program))
    inventory = case.path / "none.yml"
    inventory.write_text("all:\n  hosts: {}\n")
    converge = Converge("site.yml", inventory, ("--vault-password-file", str(program)), check=True)
    code = run(converge, events=tmp_path / "events", console=tmp_path / "console", on_event=lambda event: None)
    assert code == 0, (tmp_path / "console").read_text()
    assert not {"ANSIBLE_STRATEGY", "PYTHONSTARTUP"} & set(environment())


def test_what_the_tools_print_is_utf_8_whatever_the_locale(case: Case) -> None:
    code = "import sys; from pathlib import Path; from orchestrator.inventory import ansible_tools as a\n"
    code += "print(ascii(a._run(['printf', r'\\303\\244'])))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "'\\xe4'\n"


def test_journal_survives_a_cut_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = journal.Journal("town", "provision")
    log.write("run-started", verb="provision", owner="a@b", pid=os.getpid(), process=processes.token(os.getpid()))
    log.write("step-started", step="Base system")
    assert journal.read_run(log.path).state == journal.RUNNING
    with log.file.open("a") as handle:
        handle.write('{"at": "x", "what": "step-en')
    record = journal.read_run(log.path)
    assert (record.state, record.step, record.owner) == (journal.RUNNING, "Base system", "a@b")


def test_run_of_a_dead_process_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = journal.Journal("town", "harden")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    token = processes.token(child.pid)
    assert token
    log.write("run-started", verb="harden", owner="a@b", pid=child.pid, process=token)
    assert journal.read_run(log.path).state == journal.RUNNING
    child.kill()
    child.communicate()
    assert journal.read_run(log.path).state == journal.INTERRUPTED
    log.write("step-ended", step="x", changed=3)
    log.write("run-ended", result=journal.DONE)
    assert [(r.verb, r.state, r.changed) for r in journal.runs("town")] == [("harden", journal.DONE, 3)]


def test_a_run_that_changed_nothing_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    log = journal.Journal("town", "check")
    log.write("run-started", verb="harden", check=True)
    log.write("run-ended", result=journal.DONE)
    assert journal.read_run(log.path).verb == "harden --check"


def test_process_token_tells_a_later_process_from_an_earlier_one() -> None:
    mine = processes.token(os.getpid())
    assert mine
    assert mine != processes.token(1)
    assert processes.token(2**22 + 1) == ""


def test_plan_is_json(case: Case) -> None:
    from dataclasses import asdict

    plan = converge_plan(case.load(), "harden")
    assert json.loads(json.dumps(asdict(plan)))["steps"][0]["name"] == "Hardening"


HEALTHY = {
    "units": {"nginx": {"state": "active"}},
    "bridge_health": 200,
    "bridges": [{"operational": True}],
    "pending": [],
}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"units": {"nginx": {"state": "failed"}}}, "nginx is failed"),
        ({"units": {}}, "nothing is provisioned yet"),
        ({"bridge_health": 500}, "the bridge answers 500 when asked for its health"),
        ({"bridge_health": 0}, "the bridge answers nothing when asked for its health"),
        ({"bridges": None}, "Jicofo does not answer"),
        ({"bridges": [{"operational": False}]}, "Jicofo knows no operational bridge"),
        ({"pending": ["nginx.service"]}, "nginx.service waits for a restart: run provision again"),
    ],
)
def test_status_names_each_fault(change: dict[str, object], fault: str | None) -> None:
    faults = judge(("jitsi_signalling", "jitsi_bridges"), {**HEALTHY, **change})
    assert faults == ([fault] if fault else [])
