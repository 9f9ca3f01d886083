"""What a browser is served: a child program that loads pages in headless Chromium and prints facts as JSON.

A browser cannot be shipped to a vantage point reached over SSH, so it runs on the control node (in the lab inside the outside
network namespace). It knows the given names and addresses only: every other name is unknown to it, so that
neither a page nor Chromium itself, which asks its maker for updates and accounts, reaches anybody else. What a page asks
for is noted before it fails. Not seen: what a worker asks for and the policy refuses it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Request, WebSocket

SECONDS = 60
_START_SECONDS, _LOAD_SECONDS = 30, 15
# A page is taken as complete after a second without a new request.
_QUIET_SECONDS, _SETTLE_SECONDS = 1.0, 6.0
_HERE = Path(__file__).parent
# Chromium's sandbox does not start as root, and without it a page would run as root.
_UNPRIVILEGED = (
    "setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs"
)
ROOM = "{room}"


def browser_command(job: Mapping[str, Any]) -> str:
    """Return the command that prints a job's facts where `RATSSAAL_PYTHON` names the control node's Python.

    The job: `names` (name to address), `pages` (paths of the first name; ROOM becomes a room's name that nobody uses),
    `origins` (those that the policy must let through). The facts: see `_look`; only
    {"missing": what} where the browser cannot run. The command ends within SECONDS.
    """
    words = shlex.quote(json.dumps(job, sort_keys=True))
    return f'timeout -k 5 {SECONDS} "$RATSSAAL_PYTHON" -m {__name__} {words}'


class _Log:
    """Every address that a page asked for, once a page and kind."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], bool] = {}
        self.paths: dict[Page, str] = {}
        self.changed = time.monotonic()
        self.open = True

    def note(self, page: str, kind: str, url: str, refused: bool) -> None:
        """Keep an address; what a policy refused once stays refused."""
        if self.open and re.match(r"(?!data:|blob:|about:|chrome)[\w-]+:", url):
            key = (page, kind, url)
            if key not in self.rows:
                self.changed = time.monotonic()
            self.rows[key] = self.rows.get(key, False) or refused

    def request(self, request: Request) -> None:
        """Note a request, and that the policy refused it where it did."""
        self.note(self._page(request), request.resource_type, request.url, request.failure == "csp")

    def socket(self, page: str) -> Callable[[WebSocket], None]:
        """Return what notes a page's web sockets."""
        return lambda socket: self.note(page, "websocket", socket.url, False)

    def saw(self, source: Mapping[str, Any], kind: str, url: str) -> None:
        """Note what the script in the page saw: a refusal by the policy, or an address that is asked by UDP."""
        self.note(
            self.paths.get(source["page"], "window"), kind, url, kind not in ("RTCPeerConnection", "WebTransport")
        )

    def _page(self, request: Request) -> str:
        if request.service_worker:
            return "service worker"
        return self.paths.get(request.frame.page, "window") if _has_frame(request) else "window"


def _has_frame(request: Request) -> bool:
    from playwright.sync_api import Error

    try:
        return bool(request.frame)
    except Error:  # the request that opens a page comes before its frame
        return False


def _look(context: BrowserContext, job: Mapping[str, Any]) -> dict[str, Any]:
    """Load the pages and return what was seen.

    `pages`: path, status, policy; `requests`: page, kind, url, refused (by the policy); of all pages `cookies` and
    `storage` (kind to names); of the last page that has settings: its path as `holder`, `settings` (window.config before
    the application begins), `branding`, `upstream` (the version of upstream's library, "" where it does not run), `generator`; `trial`:
    what the policy stops and lets through there.
    """
    log, domain, room = _Log(), next(iter(job["names"])), f"ratssaal-{secrets.token_hex(8)}"
    context.on("request", log.request)
    context.on("requestfailed", log.request)
    context.expose_binding("ratssaalSaw", log.saw)
    context.add_init_script(path=_HERE / "browser.js")
    facts: dict[str, Any] = {"browser": context.browser.version if context.browser else "", "pages": []}
    opened = []
    for path in job["pages"]:
        opened.append(context.new_page())
        facts["pages"].append(_load(opened[-1], path, f"https://{domain}{path.replace(ROOM, room)}", log))
    _settle(opened[-1], log)
    holder, storage = opened[0], defaultdict[str, set[str]](set)
    for path, page in zip(job["pages"], opened, strict=True):
        held = page.evaluate((_HERE / "browser_facts.js").read_text())
        for hint in held.pop("hints"):
            log.note(path, "hint", hint, False)
        # Session storage belongs to one tab: no other page sees what this one put there.
        for kind, names in held.pop("storage").items():
            storage[kind].update(names)
        if held["settings"] is not None or page is holder:
            facts.update(held, holder=path)
            holder = page
    facts["storage"] = {kind: sorted(names) for kind, names in storage.items()}
    facts["cookies"] = [f"{cookie['name']} ({cookie['domain']})" for cookie in context.cookies()]
    log.open = False
    facts["trial"] = holder.evaluate((_HERE / "browser_trial.js").read_text(), job["origins"])
    facts["requests"] = [
        {"page": page, "kind": kind, "url": url.replace(room, ROOM), "refused": refused}
        for (page, kind, url), refused in log.rows.items()
    ]
    return facts


def _load(page: Page, path: str, address: str, log: _Log) -> dict[str, Any]:
    """Load a page and return its status and policy; notes the connections that its headers announce."""
    from playwright.sync_api import TimeoutError as TooLate

    log.paths[page] = path
    page.on("websocket", log.socket(path))
    try:
        response = page.goto(address, wait_until="load", timeout=_LOAD_SECONDS * 1000)
    except TooLate as late:
        raise TimeoutError(f"{address} was not loaded within {_LOAD_SECONDS} s") from late
    headers = response.all_headers() if response else {}
    for announced in re.findall(r"<([^>]*)>\s*;[^,]*(?:preconnect|dns-prefetch)", headers.get("link", "")):
        log.note(path, "hint", announced, False)
    status = response.status if response else 0
    return {"path": path, "status": status, "policy": headers.get("content-security-policy", "")}


def _settle(page: Page, log: _Log) -> None:
    end = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < min(end, log.changed + _QUIET_SECONDS):
        page.wait_for_timeout(100)


def _program(home: Path, chromium: str) -> Path:
    """Return a program that starts Chromium with a home of its own, as nobody where we are root."""
    dropping = _UNPRIVILEGED if os.geteuid() == 0 else ""
    own = f"HOME={home} TMPDIR={home} XDG_RUNTIME_DIR={home} XDG_CONFIG_HOME={home} XDG_CACHE_HOME={home}"
    program = home / "chromium"
    program.write_text(f'#!/bin/sh\nexec {dropping} env {own} {chromium} "$@"\n')
    program.chmod(0o755)
    (home / "profile").mkdir()
    if os.geteuid() == 0:
        for folder in (home, home / "profile"):
            shutil.chown(folder, "nobody", "nogroup")
    return program


@contextmanager
def launched(chromium: str, *arguments: str) -> Iterator[BrowserContext]:
    """Run headless Chromium with a profile of its own, as nobody where we are root; nothing of it stays.

    Raises playwright's Error where it does not start, ImportError where Playwright is not installed.
    """
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory(prefix="ratssaal-browser-", ignore_cleanup_errors=True) as home,
        sync_playwright() as p,
    ):
        context = p.chromium.launch_persistent_context(
            Path(home) / "profile",
            executable_path=_program(Path(home), chromium),
            args=list(arguments),
            chromium_sandbox=True,
            ignore_https_errors=True,
            timeout=_START_SECONDS * 1000,
        )
        try:
            yield context
        finally:
            context.close()


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's facts; raises playwright's Error where a page does not load or the browser does not start."""
    chromium = shutil.which("chromium")
    if not chromium:
        return {"missing": "Chromium on the control node (apt-get install chromium)"}
    if find_spec("playwright") is None:
        return {"missing": "Playwright on the control node (pip install 'ratssaal[browser]')"}
    # Playwright brings a Node.js of its own that wants this library; a Debian 12 without recommended packages lacks it.
    if find_library("atomic") is None:
        return {"missing": "libatomic on the control node (apt-get install libatomic1)"}
    targets = [f"MAP {name} {f'[{address}]' if ':' in address else address}" for name, address in job["names"].items()]
    arguments = (
        f"--host-resolver-rules={', '.join([*targets, 'MAP * ~NOTFOUND'])}",
        # Whether the certificate fits is another control's question; a site's own authority is in no browser's store.
        "--ignore-certificate-errors",
        "--no-proxy-server",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
    )
    with launched(chromium, *arguments) as context:
        return _look(context, job)


def main(arguments: list[str]) -> int:
    """Write a job's facts, or say in one line why there are none and return 1."""
    # `timeout` ends us so; Playwright's driver and Chromium end when their pipes close.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))
    try:
        sys.stdout.write(json.dumps(run(json.loads(arguments[0]))) + "\n")
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
