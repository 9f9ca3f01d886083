"""Recordings: that none are made, and that what lies there is neither open nor old."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import pytest
import testinfra.host

from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.servedconfig import Config, Expression, read_config, setting
from orchestrator.verification.sheet import NotApplicable, Sheet
from orchestrator.verification.subject import Subject
from orchestrator.verification.webserver import places

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
# Every file below a directory of recordings, and every film below what nginx serves that no package brought along:
# "time|directory|path". An empty directory of recordings has one line without a path. Links are followed, and so is what is
# mounted below: recordings outgrow the disk on which they begin.
_RECORDINGS = r"""
configured=$(cat /etc/jitsi/jibri/*.conf /etc/jitsi/jibri/*.json 2>/dev/null |
    sed -nE 's/^[^#]*recordings?[-_]directory"?[[:space:]]*[=:][[:space:]]*"?([^",}]+).*/\1/p')
files='( -fstype proc -o -fstype sysfs ) -prune -o -type f'
for folder in /srv/recordings /tmp/recordings $configured; do
    [ -d "$folder" ] || continue
    echo "|$folder|"
    find -L "$folder" $files -printf "%T@|$folder|%p\n"
done
nginx -T 2>/dev/null | sed -nE 's/^[[:space:]]*(root|alias)[[:space:]]+([^;$]+).*/\2/p' | sort -u | while read -r folder; do
    find -L "$folder" $files \( -iname '*.mp4' -o -iname '*.webm' -o -iname '*.mkv' -o -iname '*.flv' -o -iname '*.mov' \
        -o -iname '*.m3u8' \) -printf '%T@ %p\n' 2>/dev/null | while read -r time path; do
        dpkg -S "$path" >/dev/null 2>&1 || echo "$time|$folder|$path"
    done
done
true"""


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


def _look(subject: Subject, shown: str, nginx: str, sheet: Sheet) -> tuple[list[str], list[Recording]]:
    """Return what lies there; raises NotApplicable where nothing does. What nginx hands out must be known for that."""
    folders, files = _recordings(shown)
    if subject.signalling and "server" not in nginx:
        sheet.could_not_look(
            "nginx does not tell its configuration (nginx -t says why), so what it hands out is unknown"
        )
    elif not folders and not files:
        raise NotApplicable(
            "there is no directory of recordings (/srv/recordings, /tmp/recordings, Jibri's), and no film below what nginx serves"
        )
    return folders, files


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
    """Each recording that the web server could hand out is asked for without a login."""
    shown, config = ask(host, _RECORDINGS, NGINX)
    folders, files = _look(subject, text(shown), text(config), sheet)
    served = places(text(config), str(subject.settings["jitsi_domain"]))
    urls = {place.url(file.path): file.path for file in files[:TRIED] for place in served if place.covers(file.path)}
    address = subject.addresses[0]
    results = ask(host, *(_fetch(url, path, address) for url, path in urls.items()))
    for url, result in zip(urls, results, strict=True):
        _judge_answer(url, text(result).split(), sheet)
    _judge_listings(host, list(urls), address, sheet)
    sheet.expect(True, f"{len(files)} files in {', '.join(folders)}; {len(urls)} addresses tried", "")
    if len(files) > TRIED and urls:
        sheet.could_not_look(f"only the newest {TRIED} of {len(files)} recordings were tried")


def _fetch(url: str, path: str, address: str) -> str:
    """Return a command that tells the status, and whether the body begins as the recording does."""
    name, _, port = url.split("/")[2].partition(":")
    curl = f"curl -sk -m 8 --resolve {name}:{port or 443}:{shlex.quote(address)}"
    quoted = shlex.quote(url)
    return (
        f"{curl} -o /dev/null -w '%{{http_code}}' {quoted}; "
        f'if [ "$({curl} -r 0-63 {quoted} | head -c 64 | cksum)" = "$(head -c 64 {shlex.quote(path)} | cksum)" ]; '
        "then echo ' recording'; else echo ' other'; fi"
    )


def _judge_answer(url: str, answer: list[str], sheet: Sheet) -> None:
    code, body = answer
    if code.startswith("3"):
        sheet.could_not_look(f"{url} answers {code}: whether a login follows was not tried")
        return
    open_ = code.startswith("2") and body == "recording"
    seen = f"{url} answers {code}{' with the recording' if open_ else ''}"
    sheet.expect(not open_, seen, "401 or 403 without a login")


def _judge_listings(host: testinfra.host.Host, urls: list[str], address: str, sheet: Sheet) -> None:
    """Nobody is shown which recordings there are."""
    above = sorted({url.rpartition("/")[0] + "/" for url in urls})
    names = {folder: [url.rpartition("/")[2] for url in urls if url.startswith(folder)] for folder in above}
    commands = []
    for folder in above:
        name, _, port = folder.split("/")[2].partition(":")
        resolve = f"--resolve {name}:{port or 443}:{shlex.quote(address)}"
        commands.append(f"curl -sk -m 8 {resolve} {shlex.quote(folder)} | head -c 100000; true")
    for folder, result in zip(above, ask(host, *commands), strict=True):
        listed = [name for name in names[folder] if name in text(result)]
        sheet.expect(not listed, f"{folder} lists {', '.join(listed) or 'nothing'}", "no list of recordings")


@pytest.mark.control("VKS-09")
def test_recordings_are_young(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The age of what really lies there; who deletes it does not matter here."""
    shown, config, now = ask(host, _RECORDINGS, NGINX, "date +%s")
    folders, files = _look(subject, text(shown), text(config), sheet)
    today = int(text(now))
    for file in files:
        days = (today - file.time) / 86400
        if days > RETENTION_DAYS:
            sheet.expect(False, f"{file.path} is {days:.0f} days old", f"gone after {RETENTION_DAYS} days")
    oldest = f"the oldest {(today - min(file.time for file in files)) / 86400:.0f} days old" if files else "empty"
    sheet.expect(True, f"{', '.join(folders)}: {len(files)} files, {oldest}", "")
