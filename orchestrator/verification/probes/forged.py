"""Tries to log in with tokens that nobody signed, each over a connection of its own, and tells how each was answered.

The job: `addresses` (of the site), `domain`, `pin` (as for the conversation), `issuer`, `audience` and `app_id` as the site
declares them, `keys` (the provider's public ones: `kid`, `pem`). The secrets: `token`, whose claims are lent where it is declared.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from . import forgeries, rooms, xmpp

LIMIT = 30.0
"""Seconds for all of it."""
AT_ONCE = 4
"""So many connections at the same time: the site bounds what comes from one address."""
AGAIN = 2.0
"""Seconds until who got no answer is asked once more."""

Facts = dict[str, Any]


def run(job: dict[str, Any], secrets: dict[str, str]) -> Facts:
    """Try each forged token and return what came of it."""
    facts: Facts = {"gaps": []}
    with tempfile.TemporaryDirectory() as folder:
        own = _own_key(Path(folder), facts)
        declared = _declared(job, secrets, facts)
        forged = list(forgeries.forgeries(job, declared, own, int(time.time())))
    facts["tried"] = asyncio.run(_all(job, forged))
    return facts


def _own_key(folder: Path, facts: Facts) -> forgeries.OwnKey | None:
    try:
        return forgeries.OwnKey(folder)
    except (OSError, subprocess.SubprocessError) as error:
        facts["gaps"].append(f"tokens signed with a key of our own: the vantage point's openssl made none: {error}")
        return None


def _declared(job: dict[str, Any], secrets: dict[str, str], facts: Facts) -> str:
    token = secrets.get("token", "")
    try:
        forgeries.parts(token or "e30.e30.")
    except ValueError:
        facts["gaps"].append("tokens with the declared one's claims: it is no token that can be read")
        return ""
    if token and not job["pin"]:
        facts["gaps"].append("tokens with the declared one's claims: the certificate is not known, so none is told")
        return ""
    return token


async def _all(job: dict[str, Any], forged: list[forgeries.Forgery]) -> list[Facts]:
    turns = asyncio.Semaphore(AT_ONCE)
    tasks = [asyncio.create_task(_one(job, each, turns)) for each in forged]
    done, _ = await asyncio.wait(tasks, timeout=LIMIT)
    late = {"reason": f"not answered within {LIMIT:g} s"}
    for task in tasks:
        task.cancel()
    return [
        {"kind": each.kind, **(task.result() if task in done else late)}
        for each, task in zip(forged, tasks, strict=True)
    ]


async def _one(job: dict[str, Any], forged: forgeries.Forgery, turns: asyncio.Semaphore) -> Facts:
    async with turns:
        seen = await _logged_in(job, forged)
        if "reason" in seen:
            await asyncio.sleep(AGAIN)
            seen = await _logged_in(job, forged)
        return seen


async def _logged_in(job: dict[str, Any], forged: forgeries.Forgery) -> Facts:
    """Log in as the web client does; only the server's refusal is one."""
    address = next(filter(xmpp.has_way, job["addresses"]), str(job["addresses"][0]))
    client = xmpp.Client(address, job["domain"])
    try:
        await client.open(
            query=xmpp.token_query(forged.token, rooms.room_name()), pin=job["pin"] if forged.lent else ""
        )
    except (xmpp.Refused, xmpp.NoAnswer) as error:
        return {"reason": str(error)}
    try:
        await client.login(job["domain"])
    except xmpp.Refused as refusal:
        return {"admitted": False, "condition": str(refusal)}
    except xmpp.NoAnswer as silence:
        return {"reason": str(silence)}
    finally:
        await client.close()
    return {"admitted": True, "condition": ""}
