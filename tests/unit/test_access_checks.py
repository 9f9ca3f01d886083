"""What ACC-01, CRY-10 and ACC-05 make of conditions, arguments, owners and modes that a lab host does not have."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification import sshd
from orchestrator.verification.checks import test_access
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import faults_of, printed, set_acl, sheet_of, subject_of

SSHD = "allowgroups root\nmaxauthtries 4\n" + "".join(f"{name} {row[0]}\n" for name, row in test_access.WANTED.items())
FURTHER: dict[str, Any] = {
    "conditional": [],
    "arguments": "sshd: /usr/sbin/sshd -D",
    "later": "",
    "newest": "/etc/ssh/sshd_config",
    "changed": 1000.9,
    "read": 1000.0,
    "runs": True,
}


def _sshd(shown: str = SSHD, **further: Any) -> Sheet:
    said = {"mkdir -p /run/sshd; sshd -T": shown, "python3 - <<": json.dumps({**FURTHER, **further})}
    return sheet_of(test_access.test_sshd, said)


def test_sshd_as_wanted_has_no_fault() -> None:
    sheet = _sshd(
        conditional=[["Match User x in /f", "passwordauthentication", "no"], ["Match all in /f", "forcecommand", "x"]]
    )
    assert sheet.faults == []
    assert _sshd(runs=False, changed=2000.0).faults == []


@pytest.mark.parametrize(
    ("further", "seen"),
    [
        ({"conditional": [["Match User backup in /f", "passwordauthentication", "yes"]]}, "passwordauthentication yes (Match User"),
        ({"conditional": [["Match Group staff in /f", "challengeresponseauthentication", "yes"]]}, "challengeresponse"),
        ({"conditional": [["Match Address 10.0.0.0/8 in /f", "permitrootlogin", "yes"]]}, "permitrootlogin yes"),
        ({"conditional": [["Match User x in /f", "maxauthtries", "1"]]}, "maxauthtries 1"),
        ({"arguments": "sshd: /usr/sbin/sshd -D -o PasswordAuthentication=yes"}, "passwordauthentication yes (sshd's arguments)"),
        ({"arguments": "sshd: /usr/sbin/sshd -Do PasswordAuthentication=yes"}, "passwordauthentication yes (sshd's arguments)"),
        ({"arguments": "sshd: /usr/sbin/sshd -DeoPasswordAuthentication yes"}, "passwordauthentication yes (sshd's arguments)"),
        ({"later": "-oPermitRootLogin=yes"}, "permitrootlogin yes (SSHD_OPTS in /etc/default/ssh)"),
        ({"later": "-4o PermitRootLogin=yes"}, "permitrootlogin yes (SSHD_OPTS in /etc/default/ssh)"),
        ({"conditional": [["Match User x in /f", "gssapiauthentication", "yes"]]}, "gssapiauthentication yes (Match User x"),
        ({"conditional": [["Match User x in /f", "hostbasedauthentication", "yes"]]}, "hostbasedauthentication yes (Match"),
        ({"conditional": [["Match User x in /f", "skeyauthentication", "yes"]]}, "skeyauthentication yes (Match User x"),
        ({"arguments": "sshd: /usr/sbin/sshd -D -f /root/sshd"}, "sshd's arguments name /root/sshd"),
        ({"arguments": "sshd: /usr/sbin/sshd -Df/root/sshd"}, "sshd's arguments name /root/sshd"),
        ({"changed": 1001.0}, "sshd was not reloaded since /etc/ssh/sshd_config changed"),
    ],
)  # fmt: skip
def test_what_sshd_does_not_tell_of_itself_is_found(further: dict[str, Any], seen: str) -> None:
    sheet = _sshd(**further)
    assert faults_of(sheet).startswith(seen)
    assert len(sheet.faults) == 1


@pytest.mark.parametrize("option", ["gssapiauthentication", "gssapikeyexchange", "hostbasedauthentication"])
def test_a_log_in_without_a_key_is_found(option: str) -> None:
    sheet = _sshd(SSHD.replace(f"{option} no", f"{option} yes"))
    assert faults_of(sheet).startswith(f"{option} yes (for nobody); {option} yes (for root)")


def test_an_sshd_that_is_built_without_gssapi_needs_not_speak_of_it() -> None:
    plain = "".join(f"{line}\n" for line in SSHD.splitlines() if not line.startswith("gssapi"))
    assert _sshd(plain).faults == []
    assert "hostbasedauthentication not there" in faults_of(_sshd(plain.replace("hostbasedauthentication no\n", "")))


def _algorithms(shown: str = "", **further: Any) -> Sheet:
    said = {"mkdir -p /run/sshd; sshd -T": shown, "python3 - <<": json.dumps({**FURTHER, **further})}
    return sheet_of(test_access.test_ssh_algorithms_beyond_the_ordinary, said, subject=subject_of())


def test_weak_algorithms_are_found_under_a_condition_and_among_the_arguments() -> None:
    assert _algorithms().faults == []

    def under(option: str, value: str) -> Sheet:
        return _algorithms(conditional=[["Match User backup in /f", option, value]])

    for option in ("pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"):
        assert under(option, "ssh-ed25519,rsa-sha2-512").faults == []
        found = faults_of(under(option, "rsa-sha2-512,ssh-rsa"))
        assert found == f"{option}: ssh-rsa (Match User backup in /f)"
    assert under("pubkeyacceptedalgorithms", "+ssh-rsa").untested
    weak = _algorithms(arguments="sshd: /usr/sbin/sshd -D -o Ciphers=aes256-ctr,3des-cbc")
    assert faults_of(weak) == "ciphers: 3des-cbc (sshd's arguments)"
    exchange = "gssapikeyexchange {}\ngssapikexalgorithms gss-group14-sha1-,gss-gex-sha1-\n"
    assert _algorithms(exchange.format("no")).faults == []
    assert faults_of(_algorithms(exchange.format("yes"))).startswith("gssapikexalgorithms: gss-group14-sha1-, gss-gex")


def test_of_an_sshd_that_has_not_read_its_files_the_algorithms_are_not_tested() -> None:
    late = _algorithms(changed=2000.0)
    assert late.faults == []
    assert "was not reloaded since /etc/ssh/sshd_config changed" in late.untested[0]
    assert _algorithms(changed=2000.0, runs=False).untested == []


def _read(tmp_path: Path, folder: Path, asked: str = "") -> dict[str, Any]:
    """Return the answer of the command itself, with a directory of a test's own and an sshd that answers as given."""
    command = sshd.FURTHER.replace("/etc/ssh", str(folder)).replace("/etc/default/ssh", str(tmp_path / "default"))
    command = command.replace("/run/sshd", str(tmp_path / "run"))
    running = "echo MainPID=0\necho StateChangeTimestamp=@1500"
    said: dict[str, Any] = json.loads(printed(command, tmp_path, systemctl=running, sshd=asked or "exit 1"))
    return said


def test_files_of_sshd_are_read_as_sshd_does(tmp_path: Path) -> None:
    """The command itself, with a directory of this test's own."""
    folder = tmp_path / "ssh"
    (folder / "sshd_config.d").mkdir(parents=True)
    (folder / "sshd_config").write_text(
        "Include sshd_config.d/*.conf\nPasswordAuthentication yes\n# Match User commented\n"
        f'Match User backup\n\t"PasswordAuthentication"=yes # why\n\tInclude {folder}/inner\n  MATCH group staff\nPermitRootLogin "yes"\n'
    )
    (folder / "sshd_config.d" / "10.conf").write_text("Match Address 10.0.0.0/8\nX11Forwarding yes\n")
    (folder / "inner").write_text("KbdInteractiveAuthentication yes\n")
    end = time.time() + 1000
    os.utime(folder / "sshd_config.d", (end, end))
    (tmp_path / "default").write_text('#SSHD_OPTS=x\nSSHD_OPTS="-o PermitRootLogin=yes"\n')
    said = _read(tmp_path, folder)
    backup, staff = (f"Match {who} in {folder}/sshd_config" for who in ("User backup", "group staff"))
    assert said["conditional"] == [
        [f"Match Address 10.0.0.0/8 in {folder}/sshd_config.d/10.conf", "x11forwarding", "yes"],
        [backup, "passwordauthentication", "yes"],
        [backup, "kbdinteractiveauthentication", "yes"],
        [staff, "permitrootlogin", "yes"],
    ]
    # A file that is gone changes its directory only.
    assert (said["newest"], said["read"]) == (f"{folder}/sshd_config.d", 1500)
    assert said["changed"] == pytest.approx(end)
    assert (said["later"], said["runs"]) == ("-o PermitRootLogin=yes", False)


def test_a_file_that_is_put_back_with_its_old_time_has_changed(tmp_path: Path) -> None:
    """The command itself: as `cp -p` and tar leave it."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    (folder / "sshd_config").write_text("PasswordAuthentication yes\n")
    began = time.time() - 10
    os.utime(folder / "sshd_config", (1000, 1000))
    said = _read(tmp_path, folder)
    assert said["newest"] == f"{folder}/sshd_config"
    assert said["changed"] > began


def test_what_a_condition_gives_in_words_of_its_own_sshd_is_asked_for(tmp_path: Path) -> None:
    """The command itself; what sshd does not know stays as it is written."""
    folder = tmp_path / "ssh"
    folder.mkdir()
    (folder / "sshd_config").write_text(
        "Match User backup\nPubkeyAcceptedKeyTypes +ssh-rsa\nClientAliveInterval 5m\nForceCommand -x\nMaxAuthTries 9\n"
    )
    asked = (
        'case $5 in pub*=+ssh-rsa) echo "pubkeyacceptedalgorithms ssh-ed25519,ssh-rsa";;'
        ' clientaliveinterval=5m) echo "clientaliveinterval 300";; *) exit 1;; esac'
    )
    rows = _read(tmp_path, folder, asked)["conditional"]
    assert [row[1:] for row in rows] == [
        ["pubkeyacceptedkeytypes", "ssh-ed25519,ssh-rsa"],
        ["clientaliveinterval", "300"],
        ["forcecommand", "-x"],
        ["maxauthtries", "9"],
    ]


def _secret(path: str = "/etc/turnserver.conf", mode: int = 0o640, **changed: Any) -> Sheet:
    row = {"path": path, "mode": mode, "owner": "root", "group": "turnserver", "people": [], "anybody": False}
    row |= {"sought": True, "lengths": [22], "distinct": [18], "in_arguments": 0, "granted": [], "of_nginx": False}
    return sheet_of(test_access.test_secrets, {"python3": json.dumps([{**row, **changed}])})


def test_owner_group_and_mode_of_every_secret_count() -> None:
    assert _secret().faults == []
    assert _secret(group="users", mode=0o600).faults == []
    assert _secret(owner="turnserver").faults == []
    assert faults_of(_secret(group="users")) == "/etc/turnserver.conf 0640 root:users"
    assert faults_of(_secret(owner="anna", mode=0o600)) == "/etc/turnserver.conf 0600 anna:turnserver"
    assert "to which anna belongs" in faults_of(_secret(people=["anna"]))
    assert _secret(people=["anna"], mode=0o600).faults == []
    key = "/etc/ratssaal/tls/key.pem"
    own = _secret(key, group="ssl-cert", sought=False, lengths=[], distinct=[])
    assert (own.faults, own.untested) == ([], [])
    assert faults_of(_secret(key, 0o660, group="ssl-cert")) == f"{key} 0660 root:ssl-cert"
    assert faults_of(_secret("/etc/jitsi/jicofo/jicofo.conf", group="turnserver"))
    assert "holds a secret of 8 characters" in faults_of(_secret(lengths=[8], distinct=[8]))
    granted = _secret(granted=[["user", "bob"], ["group", "turnserver"]])
    assert faults_of(granted) == "/etc/turnserver.conf 0640 root:turnserver, and its ACL lets the user bob in"
    assert _secret(granted=[["group", "turnserver"]]).faults == []


def test_a_key_that_nginx_reads_elsewhere_may_be_the_web_servers_and_nobody_elses() -> None:
    key: dict[str, Any] = {"path": "/srv/key.pem", "of_nginx": True, "sought": False, "lengths": [], "distinct": []}
    for group, fits in (("root", True), ("ssl-cert", True), ("www-data", True), ("users", False)):
        assert (_secret(**key, group=group).faults == []) is fits
    assert faults_of(_secret(**{**key, "path": "/etc/ratssaal/tls/key.pem"}, group="www-data"))
    row = {"unread": "which keys nginx reads: nginx -T ends with 1"}
    unread = sheet_of(test_access.test_secrets, {"python3": json.dumps([row])})
    assert (unread.faults, unread.untested) == ([], ["which keys nginx reads: nginx -T ends with 1"])


def test_a_secret_that_is_not_found_in_its_file_is_not_judged() -> None:
    found = _secret()
    assert (found.faults, found.untested) == ([], [])
    sheet = _secret(lengths=[], distinct=[])
    assert sheet.faults == []
    assert sheet.untested == ["how long the secret of /etc/turnserver.conf is: none was found in it"]


def _secrets(tmp_path: Path, nginx: str = "exit 0", **changed: str) -> list[dict[str, Any]]:
    """Return the answer of the command itself, with files of a test's own and an nginx that answers as given."""
    command = test_access._SECRETS.replace('"/etc/', f'"{tmp_path}/')
    for old in ("/var/lib/prosody", "/var/cache/debconf"):
        command = command.replace(old, str(tmp_path / "none"))
    for old, new in changed.items():
        command = command.replace(old, new)
    rows: list[dict[str, Any]] = json.loads(printed(command, tmp_path / "bin", nginx=nginx))
    return rows


def test_what_prosody_includes_is_looked_at_once(tmp_path: Path) -> None:
    """The command itself: a file of its own, a link to one that is looked at anyway, and another include."""
    for name in ("prosody/conf.avail", "prosody/conf.d", "prosody/more"):
        (tmp_path / name).mkdir(parents=True)
    files = ("prosody/conf.d/turn.cfg.lua", "prosody/conf.avail/host.cfg.lua", "prosody/more/x.lua", "own.cfg.lua")
    for name in files:
        (tmp_path / name).write_text("external_service_secret = 'abcdefgh'\n")
        (tmp_path / name).chmod(0o644)
    (tmp_path / "prosody/conf.d/host.cfg.lua").symlink_to("../conf.avail/host.cfg.lua")
    (tmp_path / "prosody/conf.d/own.cfg.lua").symlink_to(tmp_path / "own.cfg.lua")
    (tmp_path / "prosody/prosody.cfg.lua").write_text(
        '-- Include "none"\nInclude "conf.d/*.cfg.lua"\nInclude("more/*.lua")\n'
    )
    rows = _secrets(tmp_path)
    assert [row["path"].removeprefix(f"{tmp_path}/prosody/") for row in rows] == [
        "conf.avail/host.cfg.lua",
        "conf.d/own.cfg.lua",
        "conf.d/turn.cfg.lua",
        "more/x.lua",
    ]
    assert {row["mode"] for row in rows} == {0o644}


def test_whoever_has_the_group_as_the_own_one_belongs_to_it(tmp_path: Path) -> None:
    """The command itself; the people are this test's."""
    (tmp_path / "turnserver.conf").write_text("static-auth-secret=abcdefgh\n")
    people = (
        "class P: pass\nanna, unit = P(), P()\n"
        f"anna.pw_name, anna.pw_uid, anna.pw_gid = 'anna', 1001, {os.getgid()}\n"
        f"unit.pw_name, unit.pw_uid, unit.pw_gid = 'unit', 101, {os.getgid()}\n"
        "pwd.getpwall = lambda: [anna, unit]\nplaces = {"
    )
    (row,) = _secrets(tmp_path, **{"places = {": people})
    assert row["people"] == ["anna"]
    assert (
        _secrets(tmp_path, **{"places = {": people.replace(f"1001, {os.getgid()}", "1001, 54321")})[0]["people"] == []
    )


def test_keys_are_looked_at_where_nginx_reads_them(tmp_path: Path) -> None:
    """The command itself; the site's own key counts once."""
    for name in ("ratssaal/tls/key.pem", "keys/a.pem", "nginx/b.pem", "keys/old.pem", "keys/pass"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("key")
    (tmp_path / "keys/link.pem").symlink_to(tmp_path / "ratssaal/tls/key.pem")
    shown = (
        f"server {{ ssl_certificate {tmp_path}/keys/cert.pem; ssl_certificate_key {tmp_path}/keys/a.pem; }}\n"
        f'    ssl_certificate_key "b.pem";\n    # ssl_certificate_key {tmp_path}/keys/old.pem;\n'
        f"ssl_certificate_key {tmp_path}/keys/link.pem;\nproxy_ssl_certificate_key {tmp_path}/keys/a.pem;\n"
        f"ssl_password_file {tmp_path}/keys/pass;\nssl_certificate_key data:$key;\n"
    )
    rows = _secrets(tmp_path, f"test $1 = -T && cat <<'END'\n{shown}END")
    found = {row["path"].removeprefix(f"{tmp_path}/"): row["of_nginx"] for row in rows if "path" in row}
    assert found == {"keys/a.pem": True, "keys/pass": True, "nginx/b.pem": True, "ratssaal/tls/key.pem": False}
    assert [row["unread"] for row in rows if "unread" in row] == ["a key that nginx takes from data"]
    assert {"unread": "which keys nginx reads: nginx -T ends with 1"} in _secrets(tmp_path, "exit 1")


def test_readers_by_an_acl_are_told(tmp_path: Path) -> None:
    """The command itself; what the mask takes away nobody has."""
    path = tmp_path / "turnserver.conf"
    path.write_text("static-auth-secret=abcdefgh\n")
    path.chmod(0o640)
    assert _secrets(tmp_path)[0]["granted"] == []
    set_acl(path, user=(12345, 4), mask=4)
    (row,) = _secrets(tmp_path)
    assert (row["mode"], row["granted"]) == (0o640, [["user", "12345"]])
    set_acl(path, user=(12345, 4), mask=0)
    assert _secrets(tmp_path)[0]["granted"] == []


def test_files_are_noted_where_they_hold_a_secret_by_any_name(tmp_path: Path) -> None:
    """The command itself; a file that need hold none counts by a word, one that must by being there."""
    for name, content in (
        ("turnserver.conf", "lt-cred-mech\nuser=anna:pass\n"),
        ("jitsi/jicofo/config", "JICOFO_HOST=localhost\n# password=commented\n"),
        ("jitsi/videobridge/config", "JVB_PASSWORD_FILE=/etc/x\n"),
        ("prosody/conf.avail/x.cfg.lua", '-- component_secret = "commented"\nmuc_mapper = "x"\n'),
        ("prosody/conf.avail/y.cfg.lua", "external_service_secret = 'abcdefgh'\n"),
        ("prosody/prosody.cfg.lua", "turncredentials_secret = os.getenv(1)\n"),
        ("ratssaal/tls/key.pem", "key"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o600)
    rows = _secrets(tmp_path)
    assert [row["path"].rpartition("/")[2] for row in rows if not row["sought"]] == ["key.pem"]
    found = {row["path"].removeprefix(f"{tmp_path}/"): row["lengths"] for row in rows}
    assert found == {
        "turnserver.conf": [],
        "jitsi/videobridge/config": [],
        "prosody/conf.avail/y.cfg.lua": [8],
        "prosody/prosody.cfg.lua": [],
        "ratssaal/tls/key.pem": [],
    }


def test_a_copy_among_debconfs_answers_counts_where_others_can_read_it() -> None:
    row = {"path": "/var/cache/debconf/config.dat", "mode": 0o644, "copied": True, "anybody": True}
    sheet = sheet_of(test_access.test_secrets, {"python3": json.dumps([row])})
    assert faults_of(sheet) == "/var/cache/debconf/config.dat 0644 holds a copy of a secret and can be read by anybody"
    row |= {"path": "/var/cache/debconf/passwords.dat", "mode": 0o600, "anybody": False}
    assert sheet_of(test_access.test_secrets, {"python3": json.dumps([row])}).faults == []


def test_copies_of_secrets_are_found_and_not_told(tmp_path: Path) -> None:
    """The command itself; debconf's backup counts, too."""
    (tmp_path / "turnserver.conf").write_text("static-auth-secret=Kanarienvogel\n")
    for name, value in (("config.dat", "other"), ("config.dat-old", "Kanarienvogel"), ("templates.dat", "")):
        (tmp_path / name).write_text(f"Name: jitsi-meet-prosody/turn-secret\nValue: {value}\n")
        (tmp_path / name).chmod(0o644)
    command = test_access._SECRETS.replace('"/etc/', f'"{tmp_path}/').replace("/var/cache/debconf", str(tmp_path))
    command = command.replace("/var/lib/prosody", str(tmp_path / "none")).replace('"nginx"', '"no-nginx"')
    told = printed(command)
    assert "Kanarienvogel" not in told
    copied = [row for row in json.loads(told) if row.get("copied")]
    assert [(row["path"], row["mode"]) for row in copied] == [(f"{tmp_path}/config.dat-old", 0o644)]
