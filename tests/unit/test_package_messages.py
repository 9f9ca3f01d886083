"""What is said where packages cannot be installed: apt's own words, as Debian 12 and 13 print them, and what they mean."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.unit.applied import code, load

__all__ = ["code"]

FULL = "the disk of this host is full. Hint: free space below /var, then run again"
UNSIGNED = "a package repository is not signed by the pinned key. Hint: compare vendor_repository_key with its owner's"
LOCKED = "another process took apt's lock meanwhile. Hint: wait until it ends, then run again"
TIME = "a package repository's index is not of this host's time. Hint: compare `date` there with a clock; "
CHANGING = "a package repository hands out something else than its index names: as a rule it is being changed. Hint: "
NOTHING = "there is no package repository at an address. Hint: compare vendor_repository_url, "
AWAY = "a package repository cannot be reached from this host. Hint: try `apt-get update` there"
SAID = {
    "key-other": UNSIGNED,
    "key-changed": UNSIGNED,
    "unsigned": UNSIGNED,
    "badsig": UNSIGNED,
    "nokeyfile": UNSIGNED,
    "notfound": NOTHING,
    "refused": AWAY,
    "resolve": AWAY,
    "hash": CHANGING,
    "hashsum": CHANGING,
    "future": TIME,
    "expired": TIME,
    "full-lists": FULL,
    "full-archives": FULL,
    "full-unpack": FULL,
    "lock-install": LOCKED,
    "lock-lists": LOCKED,
    "nopackage": "apt-get -q failed:",
}


def _recorded(debian: int) -> dict[str, str]:
    text = (Path(__file__).parent / f"recorded/apt-{debian}.txt").read_text()
    _, *parts = re.split("^== ", text, flags=re.MULTILINE)
    return {name: output for name, _, output in (part.partition("\n") for part in parts)}


RECORDED = {debian: _recorded(debian) for debian in (12, 13)}


@pytest.mark.parametrize("debian", RECORDED)
def test_every_recorded_case_is_judged(debian: int) -> None:
    assert set(RECORDED[debian]) == set(SAID)


@pytest.mark.parametrize("debian", RECORDED)
@pytest.mark.parametrize("case", SAID)
def test_apts_own_words_are_explained_and_kept(code: Any, debian: int, case: str) -> None:
    output = RECORDED[debian][case]
    first, *rest = code.apt.explain(["apt-get", "-q", "update"], output).splitlines()
    assert first.startswith(SAID[case])
    assert rest == output.strip().splitlines()[-12:]
    assert rest


def test_a_second_source_of_the_same_repository(code: Any) -> None:
    """As upstream's handbook has it added by hand; apt's words (apt:apt-pkg/deb/debmetaindex.cc)."""
    said = "E: Conflicting values set for option Signed-By regarding source https://download.jitsi.org/ stable/: a != b"
    told = code.apt.explain(["apt-get", "update"], said)
    assert told.startswith("another file below /etc/apt names the same repository")
    assert told.endswith(said)


def test_what_nobody_knows_is_told_as_it_is(code: Any) -> None:
    lines = [f"line {number}" for number in range(20)]
    said = code.apt.explain(["dpkg", "--configure", "-a"], "\n".join(lines)).splitlines()
    assert said == ["dpkg --configure failed:", *lines[-12:]]


class _Ended(Exception):
    """What ends a step."""


def _step(**params: Any) -> Any:
    def fail(**told: Any) -> None:
        raise _Ended(told)

    return SimpleNamespace(params=params, fail=fail, check_mode=False, changed=False)


def _packages(code: Any) -> Any:
    """Return the look at packages that begins no command of its own."""
    made = object.__new__(code.packages.Packages)
    made.step, made.done = _step(), ["install prosody"]
    return made


@pytest.fixture
def apt(tmp_path: Path) -> Any:
    """Return a command line of an apt-get that prints a recorded output at each call, the last one again and again."""

    def make(*outputs: str) -> list[str]:
        for number, output in enumerate(outputs):
            (tmp_path / f"output{number}").write_text(output)
        program = tmp_path / "apt-get"
        program.write_text(
            f"#!/bin/sh\ncd {tmp_path}\nn=$(cat count 2>/dev/null || echo 0)\necho $((n + 1)) >count\n"
            f"[ $n -lt {len(outputs)} ] || n={len(outputs) - 1}\ncat output$n\n[ ! -s output$n ] || exit 100\n"
        )
        program.chmod(0o755)
        return [str(program), "update"]

    return make


def test_a_command_that_fails_ends_the_step_with_its_meaning_and_what_was_done(code: Any, apt: Any) -> None:
    with pytest.raises(_Ended) as ended:
        _packages(code).run(apt(RECORDED[13]["key-other"]))
    (told,) = ended.value.args
    assert told["msg"].startswith(UNSIGNED)
    assert "Missing key BB4B49CEA91AFF6370269F1E3315C8F587F33E79" in told["msg"]
    assert told["actions"] == ["install prosody"]


@pytest.mark.parametrize("case", ["nopackage", "resolve", "hashsum"])
def test_old_lists_are_read_anew_once(code: Any, apt: Any, case: str) -> None:
    mended: list[bool] = []
    assert _packages(code).run(apt(RECORDED[13][case], ""), mend=lambda: mended.append(True)) == ""
    assert mended == [True]


@pytest.mark.parametrize("case", ["full-unpack", "lock-install"])
def test_what_new_lists_cannot_mend_is_told_at_once(code: Any, apt: Any, case: str) -> None:
    mended: list[bool] = []
    with pytest.raises(_Ended, match=re.escape(SAID[case])):
        _packages(code).run(apt(RECORDED[13][case], ""), mend=lambda: mended.append(True))
    assert mended == []


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock as apt does."""
    program = (
        "import fcntl, sys, time\nhandle = open(sys.argv[1], 'w')\nfcntl.lockf(handle, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_who_holds_apts_lock_is_named(
    code: Any, holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code.apt, "_LOCKS", (str(tmp_path / "free"), str(tmp_path / "lock")))
    monkeypatch.setattr(code.apt.time, "sleep", lambda seconds: None)
    with pytest.raises(_Ended) as ended:
        code.apt.wait_for_locks(_step(lock_timeout=0.1))
    said = ended.value.args[0]["msg"]
    assert said.startswith(f"apt on this host is locked by process {holder.pid} ({sys.executable} -c import fcntl")
    assert said.endswith("since more than 0.1 s. Hint: wait until it ends, then run again")


def test_a_lock_that_is_given_up_meanwhile_is_waited_for(
    code: Any, holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(seconds: float) -> None:
        holder.kill()
        holder.wait()

    monkeypatch.setattr(code.apt, "_LOCKS", (str(tmp_path / "lock"),))
    monkeypatch.setattr(code.apt.time, "sleep", end)
    code.apt.wait_for_locks(_step(lock_timeout=60))
    assert holder.returncode is not None


pinned_key = load("filter_plugins/ratssaal.py").pinned_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Fingerprint by name of two keys, each in NAME.asc (armoured) and NAME.gpg; "" is their folder."""
    folder = tmp_path_factory.mktemp("keys")
    base = ["gpg", "--homedir", str(folder), "--batch", "--quiet", "--passphrase", "", "--yes"]
    found = {"": str(folder)}
    folder.chmod(0o700)
    try:
        for name in ("jitsi", "other"):
            who = f"{name}@example.org"
            subprocess.run([*base, "--quick-generate-key", who, "ed25519", "sign", "never"], check=True)
            subprocess.run([*base, "--output", str(folder / f"{name}.gpg"), "--export", who], check=True)
            subprocess.run([*base, "--output", str(folder / f"{name}.asc"), "--armor", "--export", who], check=True)
            listed = subprocess.run(
                [*base, "--with-colons", "--list-keys", who], capture_output=True, text=True, check=True
            )
            (found[name],) = re.findall(r"^fpr:+([0-9A-F]{40}):$", listed.stdout, re.MULTILINE)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "gpg-agent"], check=False)
    return found


@pytest.mark.parametrize(("name", "armoured"), [("jitsi.asc", True), ("jitsi.gpg", False)])
def test_the_pinned_key_is_taken_in_both_forms(keys: dict[str, str], name: str, armoured: bool) -> None:
    fingerprint = keys["jitsi"]
    wanted = {"path": f"{keys['']}/{name}", "armoured": armoured}
    in_groups = " ".join(re.findall("....", fingerprint)).lower()
    for pin in ("", fingerprint, in_groups):
        assert pinned_key(name, pin, keys[""]) == wanted
    assert pinned_key(f"{keys['']}/{name}", fingerprint, "/nowhere") == wanted


@pytest.mark.parametrize("name", ["jitsi.asc", "jitsi.gpg"])
def test_another_key_than_the_pinned_one(keys: dict[str, str], name: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        pinned_key(name, keys["other"], keys[""])
    assert f"vendor_repository_key: {keys['']}/{name} does not have the fingerprint {keys['other']}" in str(
        caught.value
    )
    with pytest.raises(AnsibleFilterError, match="does not have the fingerprint"):
        pinned_key(name, keys["jitsi"][:16], keys[""])


def test_a_second_key_beside_the_pinned_one(keys: dict[str, str], tmp_path: Path) -> None:
    """apt trusts every key of the file."""
    folder = Path(keys[""])
    (tmp_path / "both.gpg").write_bytes((folder / "jitsi.gpg").read_bytes() + (folder / "other.gpg").read_bytes())
    assert pinned_key("both.gpg", "", str(tmp_path))
    with pytest.raises(AnsibleFilterError, match="or other keys too"):
        pinned_key("both.gpg", keys["jitsi"], str(tmp_path))


@pytest.mark.parametrize("name", ["jitsi.asc", ""])
def test_a_key_file_that_is_not_there_is_told_with_where_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        pinned_key(name, "", str(tmp_path))
    assert f"vendor_repository_key: no file {tmp_path / name} on the control node. Hint: fetch " in str(caught.value)
    assert "https://download.jitsi.org/jitsi-key.gpg.key" in str(caught.value)
    assert "`ratssaal preflight --accept-keys` does that" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n"])
def test_a_file_that_is_no_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "jitsi.asc").write_bytes(content)
    with pytest.raises(
        AnsibleFilterError, match=f"vendor_repository_key: {tmp_path}/jitsi.asc is no OpenPGP public key"
    ):
        pinned_key("jitsi.asc", "", str(tmp_path))


def test_what_only_looks_like_a_key_is_not_the_pinned_one(tmp_path: Path) -> None:
    (tmp_path / "jitsi.gpg").write_bytes(b"\x99\x01nothing of the kind")
    with pytest.raises(AnsibleFilterError, match="does not have the fingerprint"):
        pinned_key("jitsi.gpg", "A" * 40, str(tmp_path))


def test_a_pin_is_compared_without_gpg(keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert pinned_key("jitsi.asc", keys["jitsi"], keys[""])["armoured"] is True
