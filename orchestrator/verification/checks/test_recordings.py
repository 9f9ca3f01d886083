"""Recordings: that none are made, and that what lies there is neither open nor old."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.doors import Door, fetch, judge_fetched, listed, listing
from orchestrator.verification.handedout import Handing, handed_out
from orchestrator.verification.servedconfig import Config, Expression, read_config, setting
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject

RETENTION_DAYS = 30
# Either switches end-to-end encryption off, and neither is set in upstream's (lib-jitsi-meet:modules/e2ee/E2EEncryption.js).
_NO_END_TO_END = ("e2ee.disabled", "testing.disableE2EE")
# At most this many recordings are tried by HTTP, the newest first.
TRIED = 20
NGINX = "nginx -T 2>/dev/null; true"
JICOFO_DEBUG = "curl -sf -m 20 http://127.0.0.1:8888/debug || echo '{}'"
# jibri:src/main/resources/reference.conf (recording.recordings-directory is /tmp/recordings) and jibri:README.md.
_JIBRI = (
    "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' jibri 2>/dev/null; "
    "grep -lsx java /proc/[0-9]*/comm | while read -r comm; do tr '\\0' ' ' <${comm%comm}cmdline; echo; done | grep -ci jibri; true"
)
# Every file below a directory of recordings, "time|directory|path". An empty one has one line without a path. Links are
# followed, and so is what is mounted below: recordings outgrow the disk on which they begin.
_FILES = "'(' -fstype proc -o -fstype sysfs ')' -prune -o -type f"
_RECORDINGS = rf"""
configured=$(cat /etc/jitsi/jibri/*.conf /etc/jitsi/jibri/*.json 2>/dev/null |
    sed -nE 's/^[^#]*recordings?[-_]directory"?[[:space:]]*[=:][[:space:]]*"?([^",}}]+).*/\1/p')
for folder in /srv/recordings /tmp/recordings $configured; do
    [ -d "$folder" ] || continue
    echo "|$folder|"
    find -L "$folder" {_FILES} -printf "%T@|$folder|%p\n"
done
true"""
_FILMS = ("mp4", "webm", "mkv", "flv", "mov", "m3u8")


def _films(folders: list[str]) -> str:
    """Return the command for every film below what nginx hands out that no package brought along, shown as recordings are."""
    named = " -o ".join(f"-iname '*.{ending}'" for ending in _FILMS)
    return (
        f"for folder in {' '.join(map(shlex.quote, folders))}; do "
        f"find -L \"$folder\" {_FILES} '(' {named} ')' -printf '%T@ %p\\n' 2>/dev/null | while read -r time path; do "
        'dpkg -S "$path" >/dev/null 2>&1 || echo "$time|$folder|$path"; done; done; true'
    )


@dataclass(frozen=True, slots=True, order=True)
class Recording:
    """One file, when it was last written (seconds since 1970), and the directory that it belongs to."""

    time: float
    folder: str
    path: str


def _recordings(shown: str) -> tuple[list[str], list[Recording]]:
    """Return the directories of recordings and the files, the newest first; a file below two directories counts once."""
    folders: list[str] = []
    files: dict[str, Recording] = {}
    for line in shown.splitlines():
        time, folder, path = line.split("|", 2)
        folders.append(folder)
        if path:
            files.setdefault(path, Recording(float(time), folder, path))
    return list(dict.fromkeys(folders)), sorted(files.values(), reverse=True)


def _look(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> tuple[list[str], list[Recording], Handing]:
    """Return what lies there and what nginx hands out; raises NotApplicable where nothing does, as far as that is known."""
    shown, config = ask(host, _RECORDINGS, NGINX)
    handing = handed_out(text(config), subject)
    (films,) = ask(host, _films(handing.folders)) if handing.folders else (None,)
    folders, files = _recordings(text(shown) + (text(films) if films else ""))
    silent = subject.signalling and not handing.servers
    if silent:
        sheet.could_not_look(
            "nginx does not tell its configuration (nginx -t says why), so what it hands out is unknown"
        )
    elif not handing.note_unknown(sheet) and not folders and not files:
        raise NotApplicable(
            "there is no directory of recordings (/srv/recordings, /tmp/recordings, Jibri's), and no film below what nginx serves"
        )
    return folders, files, handing


@pytest.mark.control("VKS-06")
def test_recorder(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """No Jibri is installed or runs, and Jicofo looks for none."""
    package, debug = ask(host, _JIBRI, *([JICOFO_DEBUG] if subject.signalling else ["echo '{}'"]))
    *installed, running = text(package).splitlines()
    present = [line.rpartition(" ")[0] for line in installed if line.endswith(" installed")]
    sheet.expect(not present, f"{', '.join(present) or 'no Jibri'} is installed", "no recorder")
    sheet.expect(running == "0", f"{running} processes of Jibri", "none")
    if not subject.signalling:
        return
    # jicofo:jicofo/src/main/kotlin/org/jitsi/jicofo/JicofoServices.kt: "null" where no brewery is configured
    state: dict[str, Any] = json_of(debug)
    for key in ("jibri_detector", "sip_jibri_detector"):
        if key not in state:
            sheet.could_not_look(f"Jicofo does not say whether it looks for recorders ({key})")
            continue
        none = state[key] in ("null", None)
        sheet.expect(none, f"Jicofo has {'no ' if none else 'a '}{key.replace('_', ' ')}", "no brewery of recorders")


@pytest.mark.control("VKS-06")
def test_recording_settings(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """config.js as this host serves it to a browser."""
    if not subject.signalling:
        raise NotApplicable("the web server does not run here")
    domain = subject.settings["jitsi_domain"]
    resolve = f"--resolve '{domain}:443:{subject.addresses[0]}'"
    (served,) = ask(host, f"curl -sfk -m 20 {resolve} https://{domain}/config.js")
    config = read_config(text(served))
    for path in ("recordingService.enabled", "liveStreaming.enabled", "fileRecordingsEnabled", "liveStreamingEnabled"):
        _judge_setting(config, path, (False, None), sheet)
    _judge_setting(config, "dropbox.appKey", (None, "", False), sheet)
    _judge_end_to_end(config, bool(subject.settings.get("jitsi_e2ee", True)), sheet)
    local = "notifyAllParticipants" if subject.settings["jitsi_local_recording"] else "disable"
    _judge_setting(config, f"localRecording.{local}", (True,), sheet)


def _judge_setting(config: Config, path: str, wanted: tuple[Any, ...], sheet: Sheet) -> None:
    """Note a setting and what it should be, the first of what is wanted. What only a browser could compute is not known."""
    value = setting(config, path)
    if isinstance(value, Expression):
        sheet.could_not_look(f"{path}, which config.js computes: {value}")
    else:
        sheet.expect(value in wanted, f"{path}: {_shown(value)}", _shown(wanted[0]))


def _judge_end_to_end(config: Config, wanted: bool, sheet: Sheet) -> None:
    """Whether moderators can switch end-to-end encryption on, under which no server could record."""
    values = {name: setting(config, name) for name in _NO_END_TO_END}
    computed = [f"{name}: {value}" for name, value in values.items() if isinstance(value, Expression)]
    off = [f"{name}: {_shown(value)}" for name, value in values.items() if value and not isinstance(value, Expression)]
    if computed and not off:
        sheet.could_not_look(
            f"whether end-to-end encryption is offered, which config.js computes: {', '.join(computed)}"
        )
        return
    said = f"not offered ({', '.join(off)})" if off else "offered"
    declared = "" if wanted else ", as jitsi_e2ee declares"
    sheet.expect(
        (not off) is wanted, f"end-to-end encryption is {said}", f"{'' if wanted else 'not '}offered{declared}"
    )


def _shown(value: Any) -> str:
    return {True: "true", False: "false", None: "not set"}.get(value, str(value)) if _plain(value) else str(value)


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


@pytest.mark.control("VKS-08")
def test_recordings_are_closed(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """Each recording that the web server could hand out is asked for without a login, and so is the list that it stands in."""
    folders, files, handing = _look(host, subject, sheet)
    asked = [(door, path, file.path) for file in files[:TRIED] for door, path in handing.asked(file.path, sheet)]
    above: dict[tuple[Door, str], list[str]] = {}
    for door, path, _ in asked:
        before, _, name = path.rpartition("/")
        above.setdefault((door, before + "/"), []).append(name)
    results = ask(host, *(fetch(*each) for each in asked), *(listing(*each) for each in above))
    for (door, path, _), result in zip(asked, results[: len(asked)], strict=True):
        judge_fetched(door, path, result, sheet, what="the recording", wanted="401 or 403 without a login")
    for ((door, path), names), result in zip(above.items(), results[len(asked) :], strict=True):
        shown = listed(door, path, result, sheet)
        found = [name for name in names if name in shown]
        sheet.expect(not found, f"{door.base}{path} lists {', '.join(found) or 'nothing'}", "no list of recordings")
    sheet.expect(True, f"{len(files)} files in {', '.join(folders)}; {len(asked)} addresses tried", "")
    if len(files) > TRIED and asked:
        sheet.could_not_look(f"only the newest {TRIED} of {len(files)} recordings were tried")


@pytest.mark.control("VKS-09")
def test_recordings_are_young(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The age of what really lies there; who deletes it does not matter here."""
    (now,) = ask(host, "date +%s", _RECORDINGS, NGINX)[:1]
    folders, files, _ = _look(host, subject, sheet)
    today = int(text(now))
    for file in files:
        days = (today - file.time) / 86400
        if days > RETENTION_DAYS:
            sheet.expect(False, f"{file.path} is {days:.0f} days old", f"gone after {RETENTION_DAYS} days")
    oldest = f"the oldest {(today - min(file.time for file in files)) / 86400:.0f} days old" if files else "empty"
    sheet.expect(True, f"{', '.join(folders)}: {len(files)} files, {oldest}", "")
