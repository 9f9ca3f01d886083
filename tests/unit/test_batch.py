"""The program that asks a host: bounded in time and output, and its answers read whatever else is printed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.verification import batch
from orchestrator.verification.batch import answers, script


def _running(names: str) -> list[str]:
    return subprocess.run(["pgrep", "-f", names], capture_output=True, text=True, check=False).stdout.split()


def _all_gone(names: str) -> bool:
    """Say whether none of these processes is left; what was killed may take a moment on a busy machine."""
    ends = time.monotonic() + 5
    while _running(names) and time.monotonic() < ends:
        time.sleep(0.05)
    return not _running(names)


@pytest.mark.parametrize("noise", ["", "Welcome!\n{}\n"])
def test_answers_are_read_whatever_a_profile_prints(noise: str) -> None:
    program, mark = script(["echo one", "exit 3", "printf 'M\\374'"], seconds=5)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
    _, rows = answers(["a", "b", "c"], noise + done.stdout, mark)
    assert rows == {"a": (0, b"one\n", b""), "b": (3, b"", b""), "c": (0, b"M\xfc", b"")}
    with pytest.raises(ValueError, match="no answer"):
        answers(["a"], noise, mark)


def test_on_a_slow_host_what_a_command_asks_has_more_time_as_well() -> None:
    for most, patience in ((30, b"9"), (60, b"18")):
        program, mark = script(["echo ${PATIENCE:-none}"], seconds=30, most=most, prelude="time.sleep(1.6)")
        done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
        _, rows = answers(["asked"], done.stdout, mark)
        assert rows["asked"][1].strip() == patience


def test_a_command_that_hangs_ends_with_all_that_it_started() -> None:
    program, mark = script(["sleep 61 & sleep 62", "echo there"], seconds=1)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True, timeout=20)
    _, rows = answers(["slow", "quick"], done.stdout, mark)
    assert rows["slow"] == (124, b"", b"no answer within 1 s")
    assert rows["quick"][1] == b"there\n"
    assert _all_gone("^sleep 6[12]$")


def test_all_commands_together_have_their_time_and_the_answers_of_the_others_are_kept() -> None:
    """Or many that wait for a service that says nothing would be told as a host, or a vantage point, that hangs."""
    program, mark = script(["echo there", *["exec sleep 70"] * 20], seconds=60, together=2)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True, timeout=20)
    assert time.monotonic() - began < 10
    _, rows = answers(["there", *map(str, range(20))], done.stdout, mark)
    assert rows["there"] == (0, b"there\n", b"")
    assert (rows["0"][0], rows["0"][2][:17]) == (124, b"no answer within ")
    assert rows["19"] == (124, b"", b"its turn did not come: the others took all of 2 s")
    assert _all_gone("^sleep 70$")


@pytest.mark.parametrize(("loading", "most", "told"), [(0, 60, b""), (0.6, 60, b"there\n"), (0.6, 1, b"")])
def test_a_host_that_takes_long_to_load_modules_gets_more_time(loading: float, most: int, told: bytes) -> None:
    """An emulated machine needed more than half a minute to let apt build its cache anew."""
    program, mark = script(["sleep 2; echo there"], seconds=1, most=most, prelude=f"time.sleep({loading})")
    program = program.replace(f"'pace': {batch._PACE}", "'pace': 8")  # this machine may be busy itself
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True, timeout=20)
    _, rows = answers(["slow"], done.stdout, mark)
    assert rows["slow"][1] == told


def test_a_command_that_prints_without_end_is_cut_and_the_others_answer() -> None:
    began = time.monotonic()
    for endless in ("sleep 67 & exec cat /dev/zero", "sleep 67 & exec cat /dev/zero >&2"):
        program, mark = script([endless, "echo there", "head -c 1000000 /dev/zero"], seconds=60)
        done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
        _, rows = answers(["endless", "quick", "large"], done.stdout, mark)
        assert rows["endless"] == (124, b"", b"more than 8388608 bytes of output")
        assert rows["quick"] == (0, b"there\n", b"")
        assert rows["large"] == (0, bytes(1_000_000), b"")
    assert time.monotonic() - began < 30
    assert _all_gone("^sleep 67$")


def test_all_commands_together_print_no_more_than_a_round_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_ROUND_BYTES", 250_000)
    commands = [f"head -c 100000 /dev/zero; exit {number}" for number in range(8)]
    program, mark = script([*commands, "echo there"], seconds=60)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
    _, rows = answers([*commands, "small"], done.stdout, mark)
    cut = [row for row in rows.values() if row[0] == 124]
    assert len(cut) >= 5
    assert cut[0][2] == b"more than 250000 bytes of output with that of the other commands"
    assert rows["small"] == (0, b"there\n", b"")


def test_a_command_that_closes_its_outputs_or_drips_still_ends_in_time() -> None:
    hidden, drips = "exec >&- 2>&-; sleep 68", "while :; do echo x; sleep 0.1; done"
    program, mark = script([hidden, drips, "setsid sleep 3 & echo left"], seconds=1)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 10
    _, rows = answers(["hidden", "drips", "left"], done.stdout, mark)
    assert set(rows.values()) == {(124, b"", b"no answer within 1 s")}


def test_commands_end_with_the_program_that_runs_them() -> None:
    program, _ = script(["sleep 63 & sleep 64", "exec sleep 65"], seconds=60)
    child = subprocess.Popen([sys.executable, "-"], stdin=subprocess.PIPE, text=True)
    assert child.stdin is not None
    child.stdin.write(program)
    child.stdin.close()
    names = "^sleep 6[345]$"
    for _ in range(100):
        if len(_running(names)) == 3:
            break
        time.sleep(0.1)
    child.terminate()
    assert child.wait(10) == 1
    assert _all_gone(names)


def test_commands_end_when_nobody_listens_any_more() -> None:
    program, _ = script(["exec sleep 66"], seconds=60)
    child = subprocess.Popen([sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(program)
    child.stdin.close()
    assert child.stdout.readline() == "\n"
    child.stdout.close()
    assert child.wait(10) == 1
    assert _all_gone("^sleep 66$")


def test_the_program_says_that_it_is_at_work_before_all_of_it_is_there() -> None:
    """An emulated host took more than 20 s to load what the program needs, and is no host that hangs."""
    program, _ = script(["true"], seconds=5, prelude="os.read(0, 1)")
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        late = threading.Timer(20, child.kill)
        late.start()
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        late.cancel()
        child.communicate(b"x", timeout=20)
    assert child.returncode == 0


def test_a_python_program_runs_as_by_a_shell() -> None:
    programs = [
        "python3 - <<'END'\nimport sys\nprint(sys.argv, __name__, sys.stdin.read())\nEND",
        "python3 -c 'import sys; print(sys.argv[1:]); sys.exit(3)' 'a b' \"c\"",
        "python3 -c 'import sys; print(sys.argv[1:]); sys.exit(3)' 'a b' c",
        "python3 -c 'import sys; sys.exit(\"no\")'",
        "python3 -c 'print(1); 1 / 0'",
        "python3 -c 'import os; os.write(1, b\"\\xff\"); os.kill(os.getpid(), 9)'",
        "python3 -c 'import os; print(os.getpgid(0) == os.getpid(), sorted(os.listdir(\"/proc/self/fd\")))'",
    ]
    program, mark = script([*programs, *(f"{each}\n:" for each in programs)], seconds=10)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
    _, told = answers([*programs, *(f"{each}\n:" for each in programs)], done.stdout, mark)
    for each in programs[:2]:
        assert told[each][1] == told[f"{each}\n:"][1] != b""
    assert [told[each][0] for each in programs[1:6]] == [3, 3, 1, 1, -9]
    assert told[programs[3]][2] == b"no\n"
    assert told[programs[4]][1] == b"1\n"
    assert b"ZeroDivisionError" in told[programs[4]][2]
    assert told[programs[5]][1] == b"\xff"
    assert told[programs[6]][1] == b"True ['0', '1', '2', '3']\n"


def test_a_python_program_that_hangs_or_never_begins_is_ended() -> None:
    hangs = 'python3 -c \'import subprocess; subprocess.run(["sleep", "67"])\''
    program, mark = script([hangs, "echo there"], seconds=1)
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
    _, told = answers([hangs, "echo there"], done.stdout, mark)
    assert told[hangs] == (124, b"", b"no answer within 1 s")
    assert told["echo there"][1] == b"there\n"
    assert _all_gone("^sleep 67")


def test_python_programs_that_wait_for_their_start_end_with_the_program() -> None:
    waiting = [f"python3 -c 'print({number})'" for number in range(3)]
    program, _ = script([*["exec sleep 69"] * 40, *waiting], seconds=60)
    child = subprocess.Popen([sys.executable, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    child.stdin.write(program)
    child.stdin.close()
    own = ["pgrep", "-P", str(child.pid)]
    for _ in range(100):
        forks = subprocess.run([*own, "python"], capture_output=True, text=True, check=False).stdout.split()
        if len(forks) == 3 and subprocess.run([*own, "sleep"], capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.1)
    assert len(forks) == 3
    child.kill()
    child.wait()
    subprocess.run(["pkill", "-f", "^sleep 69$"], check=True)
    time.sleep(0.5)
    # Who is ended waits as a zombie where the first process of a container reaps nobody.
    assert not [
        pid for pid in forks if Path("/proc", pid, "cmdline").exists() and Path("/proc", pid, "cmdline").read_text()
    ]
