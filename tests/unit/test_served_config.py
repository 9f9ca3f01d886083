"""What config.js says is read as a browser would, or said not to be known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.verification.checks import test_recordings, test_signalling_ways
from orchestrator.verification.servedconfig import Expression, NoConfiguration, computed, read_config, setting
from orchestrator.verification.sheet import Sheet
from tests.unit.asked import Said, faults_of, sheet_of, subject_of
from tests.unit.outside_cases import faults, noted


def test_config_is_read_as_a_browser_would() -> None:
    config = read_config(
        """
        var subdomain = ""; // { not this
        /* var config = { recordingService: { enabled: false } }; */
        var config = {
            hosts: { domain: 'meet.example.org', muc: 'conference.' + subdomain + 'meet.example.org' },
            bosh: 'https://meet.example.org/http-bind', // a // in a text
            "recordingService": { enabled: true, /* hint, */ sharingEnabled: f(1, [2]) },
            list: [1, 'two', { three: 3.5 },], negative: -1, none: null,
        };
        config.localRecording = { disable: true };
        config.p2p.enabled = false;
        if (config.p2p.enabled == true) { config.list = []; }
        """
    )
    assert setting(config, "hosts.domain") == "meet.example.org"
    assert str(setting(config, "hosts.muc")) == "'conference.' + subdomain + 'meet.example.org'"
    assert setting(config, "bosh") == "https://meet.example.org/http-bind"
    assert setting(config, "recordingService.enabled") is True
    assert str(setting(config, "recordingService.sharingEnabled")) == "f(1, [2])"
    assert setting(config, "localRecording.disable") is True
    assert setting(config, "p2p.enabled") is False
    assert setting(config, "negative") == -1
    assert setting(config, "none") is None
    assert setting(config, "no.such.key") is None
    for broken in ("<html>", "var config = { a: [1, ", "var config = { + }"):
        with pytest.raises(NoConfiguration):
            read_config(broken)


_OBJECT = "var config = { a: { b: false, list: [1] }, text: 'x', recordingService: { enabled: false } };\n"


@pytest.mark.parametrize(
    ("statements", "value"),
    [
        ("config['a'].b = true;", True),
        ('config["a"]["b"] = true\nconfig.c = 1', True),
        ("config.c = 1\n\nconfig . a . b = true;", True),
        ("if (x) { y(); }\nconfig.a.b = true;", True),
        # Upstream's own lines for older clients.
        ("config.a = config.a || {};\nconfig.a.b = true;", True),
        ("config.c = config.c || {};\nconfig.c.d = config.c.d || {};\nconfig.c.d.e = 1;", False),
        ("// config.a.b = true;\nvar said = 'config.a.b = true; see config.js';", False),
        ("if (config.a.b == true || config !== null) { y(); }", False),
        ("var other = { config: 1, b: 2 }; interface_config.a.b = true; $config.a.b = true;", False),
        ("show(config.text.length); config.text.replace('x', 'y');", False),
        ("config.text.b = 1; config.list = change(config.a.list);", False),
    ],
)
def test_plain_statements_after_the_object_are_followed(statements: str, value: bool) -> None:
    config = read_config(_OBJECT + statements)
    assert setting(config, "a.b") is value
    assert setting(config, "recordingService.enabled") is False
    assert config.unread == ""


@pytest.mark.parametrize(
    "statements",
    [
        "if (meeting()) { config.a.b = true; }",
        "if (meeting())\n    config.a.b = true;",
        "if (x) y(); else config.a.b = true;",
        "for (;;) config.a.b = true;",
        "x && (config.a.b = true);",
        "var y = config.a.b = true;",
        "config.c = config.a.b = true;",
        "config.a.b ||= true;",
        "config.a.b = false\n  || true;",
        "change(config.a);",
        "var a = config.a; a.b = true;",
        "delete config.a;",
        "config.a = make();",
        "config.a = make(); config.a.b = false;",
        "config.a[key] = true;",
        "window.config.a.b = true;",
        "function later() { config.a.b = true; } config.a.b = false; later();",
    ],
)
def test_what_else_is_done_with_a_key_makes_it_unknown(statements: str) -> None:
    config = read_config(_OBJECT + statements)
    assert isinstance(setting(config, "a.b"), Expression)
    # No other key is meant.
    assert setting(config, "recordingService.enabled") is False


@pytest.mark.parametrize(
    "script",
    [
        _OBJECT + "Object.assign(config, more);",
        _OBJECT + "config[key] = true;",
        _OBJECT + "config = make();",
        _OBJECT + "window['config'].recordingService = { enabled: true };",
        _OBJECT + "config?.recordingService.enable();",
        "function later(x) { change(config); }\n" + _OBJECT + "later();",
    ],
)
def test_what_is_done_with_the_whole_object_makes_every_key_unknown(script: str) -> None:
    config = read_config(script)
    for name in ("a.b", "text", "no.such.key"):
        assert isinstance(setting(config, name), Expression)


def test_what_is_below_a_computed_value_is_computed() -> None:
    config = read_config(
        "var config = { recordingService: make(), p2p: { stunServers: [ { urls: 'stun:' + host } ] } };"
    )
    assert str(setting(config, "recordingService.enabled")) == "make()"
    assert [str(found) for found in computed(config)] == ["make()", "'stun:' + host"]
    config = read_config("var config = { a: false\n || true, b: 1 };")
    assert isinstance(setting(config, "a"), Expression)


def test_upstreams_configuration_is_wholly_understood() -> None:
    packages = Path(__file__).parents[2] / "orchestrator/lab/standins/packages"
    script = (packages / "jitsi-meet-web-config/config.js").read_text()
    ending = "config.flags = config.flags || {};\nconfig.flags.sourceNameSignaling = true;\n"
    for served in (script, script + ending):
        config = read_config(served)
        assert (config.unread, list(computed(config))) == ("", [])


def test_recording_settings_that_cannot_be_read_do_not_pass() -> None:
    def judged(script: str, **settings: Any) -> str:
        said: Said = {"curl": script}
        return faults_of(sheet_of(test_recordings.test_recording_settings, said, subject=subject_of(**settings)))

    assert judged("var config = { localRecording: { disable: true } };") == ""
    assert judged("var config = {};") == "localRecording.disable: not set"
    assert judged("var config = { localRecording: { disable: false } };") == "localRecording.disable: false"
    assert "fileRecordingsEnabled: true" in judged("var config = { fileRecordingsEnabled: true };")
    told = "var config = { localRecording: { disable: false, notifyAllParticipants: true } };"
    assert judged(told, jitsi_local_recording=True) == ""
    assert "notifyAllParticipants: not set" in judged("var config = {};", jitsi_local_recording=True)
    assert (
        judged("var config = { dropbox: { appKey: 'x' }, localRecording: { disable: true } };") == "dropbox.appKey: x"
    )


@pytest.mark.parametrize(
    ("script", "unknown"),
    [
        ("recordingService: { enabled: on() }", ["recordingService.enabled, which config.js computes: on()"]),
        ("recordingService: make()", ["recordingService.enabled, which config.js computes: make()"]),
        ("dropbox: make()", ["dropbox.appKey, which config.js computes: make()"]),
        (
            "e2ee: make()",
            ["whether end-to-end encryption is offered, which config.js computes: e2ee.disabled: make()"],
        ),
    ],
)
def test_recording_settings_that_only_a_browser_can_tell_are_not_judged(script: str, unknown: list[str]) -> None:
    def judged(script: str) -> Sheet:
        return sheet_of(test_recordings.test_recording_settings, {"curl": script}, subject=subject_of())

    sheet = judged(f"var config = {{ {script}, localRecording: {{ disable: true }} }};")
    assert (sheet.faults, sheet.untested) == ([], unknown)
    all_of_it = judged("var config = { localRecording: { disable: true } }; change(config);")
    assert all_of_it.faults == []
    assert [said.partition(",")[0] for said in all_of_it.untested] == [
        *("recordingService.enabled", "liveStreaming.enabled", "fileRecordingsEnabled", "liveStreamingEnabled"),
        *("dropbox.appKey", "whether end-to-end encryption is offered", "localRecording.disable"),
    ]


_OFF = "var config = { e2ee: { disabled: true } };"
_OLD_OFF = "var config = {}; config.testing = { disableE2EE: true };"
_ON = "var config = { e2ee: { disabled: false, externallyManagedKey: false }, testing: { disableE2EE: false } };"


@pytest.mark.parametrize(
    ("script", "declared", "fault"),
    [
        (_ON, True, ""),
        ("var config = {};", True, ""),
        (_OFF, False, ""),
        (_OLD_OFF, False, ""),
        (_OFF, True, "end-to-end encryption is not offered (e2ee.disabled: true)"),
        (_OLD_OFF, True, "end-to-end encryption is not offered (testing.disableE2EE: true)"),
        (_ON + "config.e2ee.disabled = 'yes';", True, "end-to-end encryption is not offered (e2ee.disabled: yes)"),
        (_ON, False, "end-to-end encryption is offered"),
        ("var config = {};", False, "end-to-end encryption is offered"),
    ],
)
def test_end_to_end_encryption_is_offered_as_the_site_declares(script: str, declared: bool, fault: str) -> None:
    subject = subject_of(jitsi_e2ee=declared, jitsi_local_recording=True)
    sheet = sheet_of(test_recordings.test_recording_settings, {"curl": script}, subject=subject)
    faults = [(seen, wanted) for seen, wanted in sheet.faults if "end-to-end" in seen]
    assert faults == ([(fault, "offered" if declared else "not offered, as jitsi_e2ee declares")] if fault else [])
    assert sheet.untested == []


def test_end_to_end_encryption_that_only_a_browser_can_tell_is_not_judged() -> None:
    computed = "var config = { e2ee: { disabled: isGuest() }, localRecording: { disable: true } };"
    sheet = sheet_of(test_recordings.test_recording_settings, {"curl": computed}, subject=subject_of(jitsi_e2ee=True))
    assert sheet.faults == []
    (untested,) = sheet.untested
    assert untested.endswith("which config.js computes: e2ee.disabled: isGuest()")
    both = computed + "config.testing = { disableE2EE: true };"
    assert "not offered (testing.disableE2EE: true)" in faults_of(
        sheet_of(test_recordings.test_recording_settings, {"curl": both}, subject=subject_of(jitsi_e2ee=True))
    )


def _ways(bosh: str) -> Sheet:
    """Return what is found of the addresses of signalling where one of them is written like this."""
    script = f"var config = {{ bosh: {bosh}, websocket: 'wss://m.example/xmpp-websocket' }};"
    return noted(test_signalling_ways._judge_ways, "config.js", script, "m.example")


def test_addresses_of_signalling_that_config_computes_are_not_judged() -> None:
    sheet = _ways("'https://' + host")
    assert sheet.faults == []
    assert sheet.untested == ["config.js: bosh, which config.js computes: 'https://' + host"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("'https://m.example/' + subdir + 'http-bind'", False),
        ('"https://m.example/" + config.subdir', False),
        ("'https://m.example/x' + subdir", False),
        ("'http://m.example/' + subdir + 'http-bind'", True),
        ("'https://other.example/' + subdir", True),
    ],
)
def test_what_is_added_behind_host_and_slash_changes_neither(value: str, *, fault: bool) -> None:
    sheet = _ways(value)
    assert (faults(sheet), sheet.untested) == ([f"config.js: bosh {value}"] * fault, [])


@pytest.mark.parametrize(
    "value",
    [
        "'https://m.example' + rest",
        "'https://m.example/' + a ? 'http://x.example/' : b",
        "'https://m.example/' && other",
        "'https://m.example/'.replace('m', x) + a",
        "('https://m.example/' + a, b)",
        "prefix + 'https://m.example/'",
        "'https://m.example\\x2ex.example/' + a",
        "'https://a@m.example/' + a",
        "'https://m.example/' + f()",
        "'config' + a",
    ],
)
def test_any_other_way_to_compute_an_address_is_not_judged(value: str) -> None:
    sheet = _ways(value)
    assert sheet.faults == []
    assert "bosh, which config.js computes" in sheet.untested[0]
