"""What differs from what was applied last: the comparison of each kind with its negative."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.applied import SECRET, a_file, apply, code, differences

__all__ = ["code"]


def _replaced_by_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.write_text("more\n"), ("content", "as applied", "altered")),
        (lambda path: path.write_text(""), ("content", "as applied", "empty")),
        (lambda path: path.chmod(0o666), ("mode", "0644", "0666")),
        (lambda path: path.unlink(), ("missing", "a file", "nothing")),
        (_replaced_by_a_link, ("type", "a file", "a link")),
    ],
    ids=["content", "emptied", "mode", "missing", "type"],
)
def test_a_file(code: Any, tmp_path: Path, harm: Callable[[Path], None], told: tuple[str, str, str]) -> None:
    path = tmp_path / "one"
    apply(code, a_file(path))
    assert differences(code) == []
    harm(path)
    assert differences(code) == [("file", str(path), *told)]


def test_a_file_that_goes_while_it_is_compared(code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(code, a_file(tmp_path / "one"))
    monkeypatch.setattr(code.files, "read_bytes", lambda _: None)
    assert [row[2] for row in differences(code)] == ["content"]


@pytest.mark.parametrize("whose", ["owner", "group"])
def test_a_file_of_another_owner(code: Any, tmp_path: Path, whose: str) -> None:
    apply(code, a_file(tmp_path / "one"))
    part = code.manifest.read()
    item = part[0]["items"][0]
    mine, item[whose] = item[whose], "nobody-such"
    rows = code.drift.compare(part)
    assert [(row["what"], row["wanted"], row["found"]) for row in rows] == [(whose, "nobody-such", mine)]


def test_links_directories_and_absent_files(code: Any, tmp_path: Path) -> None:
    link, folder, gone = tmp_path / "link", tmp_path / "folder", tmp_path / "gone"
    steps = [{"files": [{"dest": str(link), "link": "/a"}]}, {"files": [{"dest": str(gone), "state": "absent"}]}]
    apply(code, *steps, a_file(folder, state="directory", mode="0750"))
    assert differences(code) == []
    link.unlink()
    link.symlink_to("/b")
    gone.mkdir()
    folder.chmod(0o777)
    assert sorted(differences(code)) == [
        ("file", str(folder), "mode", "0750", "0777"),
        ("file", str(gone), "present", "nothing", "a directory"),
        ("file", str(link), "link", "-> /a", "-> /b"),
    ]


def test_a_file_that_keeps_others_content(code: Any, tmp_path: Path) -> None:
    apply(code, a_file(tmp_path / "own", force=False))
    (tmp_path / "own").write_text("theirs\n")
    assert differences(code) == []
    (tmp_path / "own").write_text("")
    assert [row[2] for row in differences(code)] == ["content"]


def compared(code: Any, *items: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return what differs where one task applied these items."""
    part = {"role": "web", "task": "T", "at": 1, "finished": True, "items": list(items)}
    return [(row["name"], row["what"], row["wanted"], row["found"]) for row in code.drift.compare([part])]


PACKAGES = [
    {"kind": "package", "name": "nginx", "installed": True},
    {"kind": "package", "name": "jicofo", "installed": True, "version": "1.0-1"},
    {"kind": "package", "name": "jicofo", "held": True},
    {"kind": "package", "name": "telnetd", "installed": False},
]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("nginx\t1\tii \njicofo\t1.0-1\thi \ntelnetd\t1\trc \n", []),
        ("nginx\t1\trc \njicofo\t1.0-1\thi \n", [("nginx", "missing", "installed", "not installed")]),
        ("jicofo\t1.0-1\thi \n", [("nginx", "missing", "installed", "not installed")]),
        ("nginx\t1\tiF \njicofo\t1.0-1\thi \n", [("nginx", "missing", "installed", "left half-way by dpkg (iF)")]),
        ("nginx\t1\tii \njicofo\t1.1-1\thi \n", [("jicofo", "version", "1.0-1", "1.1-1")]),
        ("nginx\t1\tii \njicofo\t1.0-1\tii \n", [("jicofo", "hold", "held", "not held")]),
        ("nginx\t1\tii \njicofo\t1.0-1\thi \ntelnetd\t2\tii \n", [("telnetd", "present", "not installed", "2")]),
    ],
    ids=["as-wanted", "removed", "purged", "half-way", "version", "hold", "present"],
)
def test_a_package(code: Any, monkeypatch: pytest.MonkeyPatch, rows: str, told: list[Any]) -> None:
    monkeypatch.setattr(code.comparisons, "run", lambda *argv: (0, rows, ""))
    assert compared(code, *PACKAGES) == told


def test_packages_that_cannot_be_looked_at_are_no_pass(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code.comparisons, "run", lambda *argv: (2, "", "database is gone"))
    assert compared(code, PACKAGES[0]) == [
        ("nginx", "unknown", "a look at it", "it cannot be looked at: dpkg-query: database is gone")
    ]


def _state(load: str = "loaded", active: str = "active", file: str = "enabled") -> dict[str, str]:
    return {"LoadState": load, "ActiveState": active, "UnitFileState": file}


@pytest.mark.parametrize(
    ("wanted", "state", "told"),
    [
        ({"enabled": True, "started": True}, _state(), []),
        ({"enabled": True, "started": True}, _state(file="disabled"), [("enabled", "enabled", "disabled")]),
        ({"enabled": False, "started": True}, _state(), [("enabled", "disabled", "enabled")]),
        ({"started": True}, _state(file="disabled"), []),
        ({"started": True}, _state(active="failed"), [("state", "active", "failed")]),
        ({"started": False}, _state(), [("state", "inactive", "active")]),
        # A timer has it run, or not.
        ({"started": None}, _state(), []),
        ({"started": None}, _state(active="inactive"), []),
        ({"started": True, "effective": "true"}, _state(), []),
        ({"started": True, "effective": "false"}, _state(), [("effect", "what it sets in force", "altered since")]),
        ({"started": True, "effective": "false"}, _state(active="failed"), [("state", "active", "failed")]),
        ({"enabled": True, "started": True}, _state("masked", file="masked"), [("masked", "not masked", "masked")]),
        ({"masked": True}, _state(), [("masked", "masked", "not masked")]),
        ({"masked": True}, _state("masked", "inactive", "masked"), []),
        ({"started": True}, _state("not-found", "inactive", ""), [("missing", "a unit", "no such unit")]),
        ({"started": False, "enabled": False}, _state("not-found", "inactive", ""), []),
    ],
)
def test_a_unit(
    code: Any, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, bool | None], state: dict[str, str], told: list[Any]
) -> None:
    monkeypatch.setattr(code.units, "states_of", lambda names: dict.fromkeys(names, state))
    item = {"kind": "unit", "name": "x.service", "masked": False} | wanted
    assert compared(code, item) == [("x.service", *row) for row in told]


def test_what_somebody_adds_to_a_unit(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there when it was applied is no difference, nor is a file of ours; a name like ours makes none of them."""
    folder = "/etc/systemd/system/x.service.d"
    there = [f"{folder}/{name}.conf" for name in ("10-operator", "50-ratssaal", "80-ratssaal-sandbox")]
    monkeypatch.setattr(code.units, "states_of", lambda names: dict.fromkeys(names, _state()))
    monkeypatch.setattr(code.units, "drop_ins", lambda name: there)
    (item,) = code.units.applied_units([{"name": "x.service", "state": "started"}])
    assert item["drop_ins"] == there[:1]
    monkeypatch.setattr(code.comparisons, "differences", lambda item: {})
    ours = [{"kind": "file", "name": path, "dest": path, "state": "file"} for path in there[1:]]
    parts = [{"role": "web", "task": "w", "items": [item, *ours], "finished": True}]
    assert code.drift.compare(parts) == []
    there += [f"{folder}/99-ratssaal.conf", f"{folder}/99-planted.conf"]
    (row,) = code.drift.compare(parts)
    assert (row["name"], row["what"]) == ("x.service", "settings added")
    assert row["found"] == f"{folder}/99-planted.conf, {folder}/99-ratssaal.conf"
    del item["drop_ins"]
    assert code.drift.compare(parts) == [], "a manifest of an earlier version tells nothing of them"


def test_two_tasks_on_one_unit_add_up(code: Any) -> None:
    web = code.units.applied_units([{"name": "nginx.service", "enabled": True, "state": "started"}])
    sandbox = code.units.applied_units([{"name": "nginx.service", "state": "started"}])
    parts = [{"role": "web", "task": "w", "items": web}, {"role": "hardening", "task": "h", "items": sandbox}]
    (item,) = code.drift.wanted_of(parts)
    assert (item["enabled"], item["started"], item["role"]) == (True, True, "web")


def test_a_kernel_setting(code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code.sysctl, "_kernel_path", lambda name: str(tmp_path / name))
    item = {"kind": "sysctl", "name": "net.x", "value": "1"}
    (tmp_path / "net.x").write_text("1\n")
    assert compared(code, item) == []
    (tmp_path / "net.x").write_text("0\n")
    assert compared(code, item) == [("net.x", "value", "1", "0")]
    (tmp_path / "net.x").unlink()
    assert compared(code, item) == [("net.x", "value", "1", "no such setting")]


def test_what_the_kernel_did_not_take_is_not_noted(code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code.sysctl, "_kernel_path", lambda name: str(tmp_path / name))
    (tmp_path / "one").write_text("1\n")
    (tmp_path / "two").write_text("1\n")
    step = SimpleNamespace(params={"path": "/etc/sysctl.d/x.conf", "values": {"one": 1, "two": 2, "three": 3}})
    assert [item["name"] for item in code.sysctl.applied(step)] == ["/etc/sysctl.d/x.conf", "one"]


@pytest.fixture
def kernel(code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A kernel's settings below a directory of their own, and one sysctl.d folder of others; settings by their usual names."""
    root, others = tmp_path / "sys", tmp_path / "sysctl.d"
    others.mkdir()
    monkeypatch.setattr(code.sysctl, "_KERNEL", f"{root}/")
    monkeypatch.setattr(code.sysctl, "_FOLDERS", (str(others),))

    def set_(name: str, value: str) -> None:
        path = Path(code.sysctl._kernel_path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def step(**values: Any) -> dict[str, Any]:
        named = {name.replace("__", "."): value for name, value in values.items()}
        return {"sysctl": {"path": str(others / "99-ours.conf"), "values": named}}

    return SimpleNamespace(root=root, others=others, set=set_, step=step, now=code.sysctl.now)


def test_an_interface_that_comes_or_goes_is_no_drift_and_one_that_is_other_is(code: Any, kernel: Any) -> None:
    """Docker, VPNs and LXC make and remove them all the time."""
    for interface in ("all", "default", "eth0", "veth1.7"):
        kernel.set(f"net/ipv4/conf/{interface}/send_redirects", "1")
    wanted = kernel.step(**{"net.ipv4.conf.*.send_redirects": 0, "net.ipv4.conf.all.send_redirects": 0})
    made = apply(code, wanted)["changed_settings"]
    assert sorted(made)[1:] == [
        *(f"net.ipv4.conf.{name}.send_redirects" for name in ("all", "default", "eth0")),
        "net/ipv4/conf/veth1.7/send_redirects",
    ]
    assert not apply(code, wanted)["changed"]
    gone = kernel.root / "net/ipv4/conf/veth1.7/send_redirects"
    gone.unlink()
    kernel.set("net/ipv4/conf/docker0/send_redirects", "0")
    assert differences(code) == []
    kernel.set("net/ipv4/conf/docker0/send_redirects", "1")
    assert differences(code) == [("sysctl", "net.ipv4.conf.docker0.send_redirects", "value", "0", "1")]
    assert apply(code, wanted, check=True)["changed_settings"] == ["net.ipv4.conf.docker0.send_redirects"]
    (kernel.root / "net/ipv4/conf/all/send_redirects").unlink()
    (lost, _) = differences(code)
    assert lost == ("sysctl", "net.ipv4.conf.all.send_redirects", "value", "0", "no such setting")


def test_an_interface_of_the_machine_below_is_no_drift(code: Any, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.set("net/ipv4/conf/eth0/send_redirects", "1")
    monkeypatch.setattr(code.sysctl, "settable", lambda name: False)
    done = apply(code, kernel.step(**{"net.ipv4.conf.*.send_redirects": 0}))
    assert done["not_settable"] == ["net.ipv4.conf.eth0.send_redirects"]
    assert differences(code) == []


_BUFFER = {"value": 100, "better": "larger"}
_FILTER = {"value": 2, "better": [1]}


@pytest.mark.parametrize(
    ("rule", "others", "running", "file", "left"),
    [
        (_BUFFER, "", "10", "100", "100"),
        (_BUFFER, "a.b = 50\n", "50", "100", "100"),
        (_BUFFER, "a.b = 900\n", "900", "900", "900"),
        # It has not been loaded yet.
        (_BUFFER, "a.b = 900\n", "100", "900", "900"),
        (_BUFFER, "-a/b=900\na.b = many\n", "900", "100", "900"),
        # By hand, or by our own file when it wanted more: left alone, and not kept for the next boot.
        (_BUFFER, "", "900", "100", "900"),
        (_FILTER, "", "0", "2", "2"),
        (_FILTER, "a.b = 1\n", "1", "1", "1"),
        (_FILTER, "a.b = 1\n", "2", "1", "1"),
        (_FILTER, "a.b = 0\n", "0", "2", "2"),
        (_FILTER, "a.* = 1\n", "1", "1", "1"),
        (_FILTER, "a.* = 1\n-a.b\n", "2", "2", "2"),
        (_FILTER, "# a.b = 1\n;a.b = 1\na.b\n", "2", "2", "2"),
        ({"value": 1, "better": [2, 3]}, "a.b = 2\n", "1", "2", "2"),
        ({"value": 1, "better": [2, 3]}, "a.b = 2\n", "3", "2", "3"),
        ({"value": 1, "better": [2, 3]}, "a.b = 3\n", "2", "3", "3"),
        (0, "a.b = 1\n", "1", "0", "0"),
    ],
)
def test_what_is_better_already_is_kept(
    code: Any, kernel: Any, rule: Any, others: str, running: str, file: str, left: str
) -> None:
    (kernel.others / "50-town.conf").write_text(others)
    kernel.set("a.b", running)
    wanted = kernel.step(a__b=rule)
    ours = kernel.others / "99-ours.conf"
    for check in (True, False):
        step = apply(code, wanted, check=check)
        assert step["changed_settings"] == [str(ours), *(["a.b"] if running != left else [])]
        assert step["not_settable"] == []
        assert ours.exists() is not check
    assert ours.read_text().splitlines()[-1] == f"a.b = {file}"
    assert kernel.now("a.b") == left
    assert not apply(code, wanted)["changed"]
    assert not apply(code, wanted, check=True)["changed"]
    assert differences(code) == []
    kernel.set("a.b", "7")
    assert differences(code) == [("sysctl", "a.b", "value", file, "7")]


def test_our_own_file_keeps_no_value_that_is_not_wanted_any_more(code: Any, kernel: Any) -> None:
    kernel.set("a.b", "10")
    apply(code, kernel.step(a__b={"value": 900, "better": "larger"}))
    apply(code, kernel.step(a__b=_BUFFER))
    assert (kernel.others / "99-ours.conf").read_text().splitlines()[-1] == "a.b = 100"
    # What runs goes with the next boot; until then it is no fault.
    assert kernel.now("a.b") == "900"
    assert differences(code) == []


def test_of_two_files_of_one_name_one_counts(code: Any, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd reads them (sysctl.d(5)): a link to /dev/null takes a packaged file away."""
    packaged = kernel.others.with_name("packaged")
    packaged.mkdir()
    monkeypatch.setattr(code.sysctl, "_FOLDERS", (str(packaged), str(kernel.others)))
    (packaged / "60-x.conf").write_text("a.b = 900\n")
    kernel.set("a.b", "100")
    assert apply(code, kernel.step(a__b=_BUFFER), check=True)["changed_settings"][1:] == ["a.b"]
    (kernel.others / "60-x.conf").symlink_to("/dev/null")
    assert apply(code, kernel.step(a__b=_BUFFER), check=True)["changed_settings"][1:] == []


def test_users_and_groups_of_a_sysusers_file(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"# ours\ng ssh-login - -\nm root ssh-login\nu relay - 'A relay'\n"
    entry = {"dest": "/etc/sysusers.d/x.conf", "state": "file", "bytes": text}
    items = code.files.applied_accounts(entry)
    assert items == [
        {"kind": "user", "name": "relay"},
        {"kind": "group", "name": "ssh-login", "members": ["root"]},
    ]
    assert code.files.applied_accounts(entry | {"dest": "/etc/x.conf"}) == []
    groups = {"ssh-login": ["root"]}

    def getgrnam(name: str) -> Any:
        return SimpleNamespace(gr_mem=groups[name], gr_gid=4711)

    accounts: list[Any] = [SimpleNamespace(pw_name="relay", pw_gid=1, pw_shell="/usr/sbin/nologin")]
    monkeypatch.setattr(code.comparisons.grp, "getgrnam", getgrnam)
    monkeypatch.setattr(code.comparisons.pwd, "getpwnam", lambda name: {a.pw_name: a for a in accounts}[name])
    monkeypatch.setattr(code.comparisons.pwd, "getpwall", lambda: accounts)
    assert compared(code, *items) == []
    groups["ssh-login"] = ["eve"]
    accounts[0] = SimpleNamespace(pw_name="mallory", pw_gid=4711)
    assert compared(code, *items) == [
        ("ssh-login", "members lost", "root", "not in the group"),
        ("ssh-login", "members added", "nobody else", "eve, mallory"),
        ("relay", "missing", "a user", "no such user"),
    ]
    del groups["ssh-login"]
    assert ("ssh-login", "missing", "a group", "no such group") in compared(code, *items)


def test_the_shell_of_a_service(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a task says only that the user is there."""
    step = SimpleNamespace(params=[{"name": "jvb", "shell": "/usr/sbin/nologin"}])
    (item,) = code.users.applied(step)
    relay = SimpleNamespace(pw_shell="/usr/sbin/nologin")
    monkeypatch.setattr(code.users.pwd, "getpwnam", lambda name: {"jvb": relay}[name])
    assert compared(code, item) == []
    relay.pw_shell = ""
    assert compared(code, item) == [("jvb", "shell", "/usr/sbin/nologin", "/bin/sh")]
    assert compared(code, {"kind": "user", "name": "jvb"}) == []
    assert compared(code, item | {"name": "jicofo"}) == [("jicofo", "missing", "a user", "no such user")]


def _stored(folder: Path, user: str, key: str = "aa") -> None:
    path = folder / f"meet%2etest/accounts/{user}.dat"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'return {{\n\t["stored_key"] = "{key}";\n\t["salt"] = "s";\n\t["iteration_count"] = 10000;\n}};\n')


def test_accounts_of_prosody(code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code.accounts, "_DATA", str(tmp_path / "prosody"))
    code.digest.make_key()
    _stored(tmp_path / "prosody", "anna")
    account = {"jid": "anna@meet.test", "password": SECRET}
    step = SimpleNamespace(params={"accounts": [account], "absent_others_in": ["meet.test"], "watched": []})
    items = code.accounts.applied(step)
    assert SECRET not in json.dumps(items)
    assert compared(code, *items) == []
    _stored(tmp_path / "prosody", "eve")
    _stored(tmp_path / "prosody", "anna", key="bb")
    assert compared(code, *items) == [
        ("anna@meet.test", "password", "as applied", "altered"),
        ("meet.test", "present", "no other account", "eve@meet.test"),
    ]
    (tmp_path / "prosody/meet%2etest/accounts/anna.dat").unlink()
    assert ("anna@meet.test", "missing", "an account", "no such account") in compared(code, *items)
    roster = {"kind": "roster", "name": "a for b", "jid": "anna@meet.test", "by": "focus.meet.test"}
    assert compared(code, roster) == [("a for b", "missing", "a subscription", "none")]


_ASKED = """\t[false] = {
\t\t["pending"] = {
\t\t\t["focus.meet.test"] = {
\t\t\t\t["name"] = "presence";
\t\t\t};
\t\t};
\t};
"""
_SEES = '\t["focus.meet.test"] = {\n\t\t["groups"] = {};\n\t\t["subscription"] = "from";\n\t};\n'


@pytest.mark.parametrize(
    ("items", "watched"),
    [
        (_ASKED, False),
        (_SEES, True),
        (_ASKED + _SEES, True),
        (_SEES + _ASKED, True),
        (_SEES.replace("from", "to"), False),
    ],
)
def test_a_component_that_only_asked_sees_nobody(
    code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, items: str, watched: bool
) -> None:
    """Where Prosody starts slowly its component asks before the account lets it see: both stand in the roster then."""
    monkeypatch.setattr(code.accounts, "_DATA", str(tmp_path))
    (tmp_path / "auth%2etest/roster").mkdir(parents=True)
    (tmp_path / "auth%2etest/roster/focus.dat").write_text(f"return {{\n{items}}};\n")
    assert code.accounts.is_watched("focus@auth.test", "focus.meet.test") is watched


TABLE = "table inet ratssaal {\n\tchain input {\n\t\tpolicy drop;\n\t\ttcp dport 22 accept\n\t\ttcp dport 443 accept\n\t}\n}\n"
RULES = {"kind": "ruleset", "name": "inet ratssaal"}


@pytest.mark.parametrize(
    ("loaded", "told"),
    [
        (TABLE, []),
        (TABLE.replace("443", "444"), [("rule lost", 443), ("rule added", 444)]),
        (TABLE.replace("\t}\n}", "\t\ttcp dport 4711 accept\n\t}\n}"), [("rule added", 4711)]),
        (TABLE.replace("\t\ttcp dport 443 accept\n", ""), [("rule lost", 443)]),
        (TABLE.replace("22", "0").replace("443", "22").replace(" 0 ", " 443 "), [("order", 0)]),
        ("", [("missing", 0)]),
    ],
    ids=["as-loaded", "altered", "added", "lost", "order", "missing"],
)
def test_the_firewall(code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loaded: str, told: list[Any]) -> None:
    (tmp_path / "firewall.nft").write_text(TABLE)

    def run(*argv: str) -> tuple[int, str, str]:
        if argv[0] == "unshare":
            return 0, (tmp_path / "firewall.nft").read_text(), ""
        return (0, loaded, "") if loaded else (1, "", "No such file or directory")

    monkeypatch.setattr(code.comparisons, "run", run)
    found = compared(code, RULES | {"file": str(tmp_path / "firewall.nft")})
    assert [row[1] for row in found] == [what for what, _ in told]
    for (_, _, wanted, seen), (_, port) in zip(found, told, strict=True):
        assert not port or f"tcp dport {port} accept" in (wanted, seen)


def test_without_nft_nothing_is_said_to_be_loaded_or_not(
    code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "firewall.nft").write_text(TABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    ((_, what, _, found),) = compared(code, RULES | {"file": str(tmp_path / "firewall.nft")})
    assert (what, found) == ("unknown", "it cannot be looked at: no program nft")
    assert code.drift.other_tables([RULES]) == []


def test_tables_of_others_are_named(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code.comparisons, "run", lambda *argv: (0, "table inet ratssaal\ntable ip nat\n", ""))
    assert code.drift.other_tables([RULES]) == ["ip nat"]


VERIFIED = """\
??5?????? c /etc/nginx/nginx.conf
??5?????? c /etc/turnserver.conf
missing   c /etc/default/haproxy
??5??????   /usr/bin/curl
missing     /usr/share/doc/x/copyright (Permission denied)
something new
"""


def test_what_dpkg_itself_finds(code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str) -> tuple[int, str, str]:
        return (
            (1, VERIFIED, "")
            if argv[0] == "dpkg"
            else (0, "curl: /usr/bin/curl\nlibx:amd64: /usr/share/doc/x/copyright", "")
        )

    monkeypatch.setattr(code.comparisons, "run", run)
    rows = code.drift.verified([{"kind": "file", "name": "/etc/turnserver.conf", "dest": "/etc/turnserver.conf"}])
    assert [(row["name"], row["found"], row["package"]) for row in rows] == [
        ("/etc/nginx/nginx.conf", "altered", ""),
        ("/etc/default/haproxy", "missing", ""),
        ("/usr/bin/curl", "altered", "curl"),
        ("/usr/share/doc/x/copyright", "missing", "libx"),
        ("something new", "told so by dpkg", ""),
    ]
    monkeypatch.setattr(code.comparisons, "run", lambda *argv: (2, "", "no database"))
    with pytest.raises(OSError, match="no database"):
        code.drift.verified([])
