"""Which domains Prosody serves, by the running process's own word, and what each offers on the client port before TLS."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.verification.sheet import Sheet

# `served` gives the virtual hosts: nobody logs in at a component, which the list marks by its kind in brackets. Where Prosody does
# not tell, those that a site of ours has are asked, and `named` says so.
SERVED = r"""
import re, subprocess
def served(usual):
    ask = ["prosodyctl", "shell", "host:list()"]
    try:
        done = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20)
        told = done.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        told = str(error)
    hosts = re.findall(r"^(?:\| )?([^\s|:]+)$", told, re.M)
    named = re.search(r"^OK: \d+ hosts", told, re.M)
    return (hosts, True, "") if named and hosts else (usual, False, " ".join(told.split())[:120])
"""
# A client says to whom it speaks, and is answered by the features that it may begin with (RFC 6120 4.3.2).
_STREAMS = r"""
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def offered(domain):
    told, ended = b"", rb"</stream:features>|<stream:features[^>]*/>|</stream:stream>"
    opening = (
        f'<?xml version="1.0"?><stream:stream to="{domain}" version="1.0" xmlns="jabber:client" '
        'xmlns:stream="http://etherx.jabber.org/streams">'
    )
    try:
        with socket.create_connection(("127.0.0.1", 5222), 3) as line:
            line.settimeout(3)
            line.sendall(opening.encode())
            while not re.search(ended, told) and (part := line.recv(65536)):
                told += part
    except OSError:
        pass
    return told.decode(errors="replace")
hosts, named, said = served(json.loads(sys.argv[1]))
with ThreadPoolExecutor(8) as pool:
    print(json.dumps({"named": named, "said": said, "domains": dict(zip(hosts, pool.map(offered, hosts)))}))
"""


def streams(usual: Iterable[str]) -> str:
    """Return the command for what each domain answers to a client that has said no more than to whom it speaks, as JSON."""
    return f"python3 -c {shlex.quote(SERVED + _STREAMS)} {shlex.quote(json.dumps(list(usual)))}"


def note_unnamed(told: Mapping[str, Any], sheet: Sheet) -> None:
    """Note that there may be domains that were not asked."""
    if not told["named"]:
        sheet.could_not_look(f"Prosody does not tell which domains it serves: {told['said'] or 'no answer'}")
