"""Rooms as a stranger, a guest and a member find them: who opens one, who waits, which servers are named, whether media would flow."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

import pytest
import testinfra.host

from orchestrator.inventory import derivations
from orchestrator.verification.asking import ask, json_of, probe, text
from orchestrator.verification.reach import first_way, no_way
from orchestrator.verification.servedconfig import (
    Config,
    Expression,
    NoConfiguration,
    computed,
    read_config,
    setting,
    without_comments,
)
from orchestrator.verification.sheet import NotApplicable, NotTested, Sheet
from orchestrator.verification.subject import Subject

_DECLARE = "declare verification_probe_account, or verification_probe_token_command where people log in by tokens"
# What the host serves, told by the host itself: the probe tells a password to nobody else.
_PIN = (
    "timeout ${{PATIENCE:-9}} openssl s_client -connect {target}:443 -servername {domain} </dev/null 2>/dev/null"
    " | openssl x509 -noout -fingerprint -sha256 2>/dev/null || echo none"
)
_SERVER = re.compile(r"\b(?:stuns?|turns?):(?://)?(\[[0-9a-fA-F:.]+\]|[\w.-]+)")
# The only port at which a bridge is let reach people, whatever address of its own it is offered with.
_MEDIA = (str(derivations.MEDIA_PORT), "udp")
# The old key decides where the new one is missing (jitsi-meet:react/features/base/config/reducer.ts).
_BUTTON = ("securityUi.hideLobbyButton", "hideLobbyButton")

# How the probe says that it could not go there (probes/stun.py, probes/conversation.py).
_NO_WAY = "no way there"

Facts = dict[str, Any]


def served_pin(host: testinfra.host.Host, subject: Subject) -> str:
    """Return the SHA-256 of the certificate that the host says that it serves, "" where it serves none.

    Raises NotApplicable for a host to which nobody comes for a meeting.
    """
    if not subject.signalling:
        raise NotApplicable("people meet at another host")
    target = f"[{subject.address}]" if ":" in subject.address else subject.address
    (served,) = ask(host, _PIN.format(target=target, domain=subject.settings["jitsi_domain"]))
    pin = text(served).strip().rpartition("=")[2].replace(":", "").lower()
    return "" if pin == "none" else pin


def _conversation(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject) -> Facts:
    """Return what the probe found at this host; raises NotTested where there was no conversation at all."""
    pin, names = served_pin(host, subject), derivations.xmpp_domains(subject.settings)
    job = {
        "address": subject.address,
        "addresses": list(subject.addresses),
        "pin": pin,
        **{name: names[name] for name in ("domain", "guest", "muc", "focus")},
    }
    (told,) = ask(outside, probe("conversation", job))
    facts: Facts = json_of(told)
    return facts


def _member(facts: Facts) -> str:
    """Return why nothing can be said of members, "" where something can."""
    member = facts.get("member", {})
    if member.get("admitted") is None:
        reason = member.get("reason") or member.get("condition") or facts.get("incomplete") or "no member logged in"
        return f"{reason}; {_DECLARE}" if "declared" in reason else str(reason)
    return "" if member["admitted"] else f"the declared member cannot log in: {member['condition']}"


def _entered(facts: Facts, *path: str) -> tuple[str, str]:
    """Return how an attempt to enter a room ended, and what was said; ("", why) where there was none."""
    found: Any = facts
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return "", str((found or {}).get("reason") or facts.get("incomplete") or "it was not tried")
        found = found[name]
    return (found["outcome"] if found["outcome"] != "no answer" else ""), found["condition"]


@pytest.mark.control("VKS-01")
def test_only_members_open_rooms(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """A guest gets into no room that no member opened, a stranger does not become a member; a member is tried, too."""
    facts = _conversation(host, outside, subject)
    stranger = facts.get("stranger", {})
    if "admitted" in stranger:
        said = "is admitted" if stranger["admitted"] else f"is refused ({stranger['condition']})"
        sheet.expect(not stranger["admitted"], f"a stranger at the members' domain {said}", "refused")
    else:
        sheet.could_not_look(f"a stranger's log-in: {stranger.get('reason', 'not tried')}")
    _judge_guest_alone(facts, str(subject.settings.get("jitsi_auth")), sheet)
    _judge_member(facts, sheet)


def _judge_guest_alone(facts: Facts, auth: str, sheet: Sheet) -> None:
    outcome, said = _entered(facts, "room_without_member", "enter")
    if not outcome:
        sheet.could_not_look(f"a guest before a room that nobody opened: {said}")
        return
    where = {"joined": "gets into", "lobby": "waits in the lobby of", "refused": f"is refused ({said}) by"}[outcome]
    sheet.expect(outcome != "joined", f"a guest {where} a room that nobody opened", "refused, or waiting")
    # With tokens Jicofo knows no log-in: the room may be asked for, and the guest is held by the lobby.
    request = facts["room_without_member"]["request"]
    if auth == "internal" and not request.get("silent"):
        said = "opens a room" if request["ready"] else f"refuses ({request['condition']})"
        sheet.expect(not request["ready"], f"asked by a guest, the focus {said}", "refused: not-authorized")


def _judge_member(facts: Facts, sheet: Sheet) -> None:
    """What nobody can do proves nothing: the same must work for a member. A token alone makes no moderator."""
    why = _member(facts)
    outcome, said = _entered(facts, "meeting", "enter")
    claims = facts.get("member", {}).get("claims", {})
    if not why and outcome != "joined":
        why = f"the declared member does not get into a room of its own: {said or outcome}"
    if why:
        sheet.could_not_look(why)
        return
    sheet.expect(facts["meeting"]["request"]["ready"], "a member opens a room", "ready")
    if "claims" in facts["member"]:
        _judge_plain_token(facts, claims, sheet)
    _judge_guest_in_meeting(facts, sheet)


def _judge_plain_token(facts: Facts, claims: Facts, sheet: Sheet) -> None:
    """A token without the moderator claim makes no owner: the member's own, or the one that is declared for this."""
    plain = facts.get("plain", {})
    if claims.get("moderator") is False:
        _expect_no_owner(bool(facts.get("owner", {}).get("owner")), "", sheet)
    elif not plain:
        why = "the declared one has it" if claims.get("moderator") else "the declared one cannot be read"
        hint = "declare verification_probe_plain_token_command"
        sheet.could_not_look(f"whether a token without the moderator claim makes an owner, as {why}; {hint}")
    elif plain.get("claims", {}).get("moderator") is not False:
        sheet.could_not_look(
            "verification_probe_plain_token_command: its token does not say that it makes no moderator"
        )
    else:
        for name, where in {"plain_alone": ", alone in a new room", "plain_in_meeting": ", in a meeting"}.items():
            outcome, said = _entered(facts, name, "enter")
            if outcome in ("joined", "lobby"):
                _expect_no_owner(bool(facts[name]["owner"]), where, sheet)
                continue
            said = plain.get("condition") or said
            gap = f"what a token without the moderator claim makes{where}: its holder gets nowhere: {said}"
            sheet.could_not_look(gap)


def _expect_no_owner(owner: bool, where: str, sheet: Sheet) -> None:
    became = "becomes the room's owner" if owner else "does not become owner"
    sheet.expect(not owner, f"a token without the moderator claim {became}{where}", "no owner")


def _judge_guest_in_meeting(facts: Facts, sheet: Sheet) -> None:
    """What a guest is at the end: who comes in as nobody may be made an owner a moment later."""
    meeting = facts.get("guest_in_meeting", {})
    lobby = meeting.get("lobby", {})
    ways = {"who comes to a meeting": (meeting, "enter"), "who is let in from the lobby": (lobby, "after_admission")}
    for who, (place, entered) in ways.items():
        if "stays" in place:
            last = place["stays"]
            moderates = last["affiliation"] == "owner" or last["role"] == "moderator"
            said = f"{last['affiliation']}, {last['role']}"
            sheet.expect(not moderates, f"a guest {who} is {said} in the end", "no owner and no moderator")
        elif place.get(entered, {}).get("outcome") == "joined":
            sheet.could_not_look(f"what a guest {who} becomes: {meeting.get('reason', 'not watched')}")
    if not any("stays" in place for place, _ in ways.values()):
        _, said = _entered(facts, "guest_in_meeting", "enter")
        sheet.could_not_look(f"what a guest becomes in a meeting: {said or 'none got in'}")


@pytest.mark.control("VKS-02")
def test_guests_wait(host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The lobby is offered and works, and guests wait as the site declares."""
    facts = _conversation(host, outside, subject)
    offered = facts.get("offered", {})
    if "lobby" in offered:
        said = "offers a lobby" if offered["lobby"] else "offers no lobby"
        sheet.expect(offered["lobby"], f"the site {said} to its clients", "a lobby")
    else:
        sheet.could_not_look(f"whether there is a lobby: {offered.get('reason', 'not tried')}")
    _judge_button(_config(outside, subject, sheet)[1], sheet)
    outcome, said = _entered(facts, "room_without_member", "enter")
    if outcome:
        inside = outcome == "joined" or facts["room_without_member"].get("let_in")
        sheet.expect(not inside, f"before a host is there, a guest is {'let in' if inside else 'kept out'}", "kept out")
    else:
        sheet.could_not_look(f"a guest before a host is there: {said}")
    _judge_lobby(facts, str(subject.settings.get("jitsi_lobby")), sheet)


def _judge_button(config: Config | None, sheet: Sheet) -> None:
    if config is None:
        return
    values = [setting(config, name) for name in _BUTTON]
    hidden = next((value for value in values if value is not None), False)
    if isinstance(hidden, Expression):
        sheet.could_not_look(f"whether the lobby's button is hidden, which config.js computes: {hidden}")
    else:
        sheet.expect(not hidden, f"the lobby's button is {'hidden' if hidden else 'shown'} in config.js", "shown")


def _judge_lobby(facts: Facts, policy: str, sheet: Sheet) -> None:
    """In a running meeting: in at once or into the lobby, as declared; and nobody leaves the lobby without being let in."""
    why = _member(facts)
    outcome, said = _entered(facts, "guest_in_meeting", "enter")
    if why or not outcome:
        sheet.could_not_look(why or f"a guest in a running meeting: {said}")
        return
    wanted = "joined" if policy == "wait_for_host" else "lobby"
    sheet.expect(outcome == wanted, f"a guest who comes to a running meeting: {outcome} {said}".strip(), wanted)
    guest = facts["guest_in_meeting"]
    if facts["member"].get("claims", {}).get("moderator") is False:
        sheet.could_not_look("waiting in the lobby: the declared token makes no moderator, who could let anybody in")
        return
    if "lock" in guest:
        sheet.expect(not guest["lock"], f"a moderator switches the lobby on: {guest['lock'] or 'done'}", "done")
        outcome, said = _entered(facts, "guest_in_meeting", "enter_locked")
        sheet.expect(outcome == "lobby", f"a guest who comes then: {outcome or said}", "lobby")
    lobby = guest.get("lobby")
    if lobby is None:
        sheet.could_not_look(f"waiting in the lobby: {guest.get('reason', 'no guest got there')}")
        return
    waits = not lobby.get("let_in_unasked") and _entered(lobby, "again")[0] == "lobby"
    sheet.expect(waits, f"in the lobby a guest {'waits' if waits else 'does not wait'}", "waits")
    sheet.expect(bool(lobby.get("seen_by_moderator")), f"the moderator {_sees(lobby)} who waits", "sees")
    ended, said = _entered(lobby, "after_admission")
    sheet.expect(ended == "joined", f"let in by the moderator, the guest is: {ended or said}", "joined")


def _sees(lobby: Facts) -> str:
    return "sees" if lobby.get("seen_by_moderator") else "does not see"


@pytest.mark.control("TRN-04")
def test_only_own_servers_are_handed_out(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """What clients are told: by signalling, as guest and as member (XEP-0215), and by config.js as served."""
    facts = _conversation(host, outside, subject)
    own = _own_names(subject)
    for who in ("guest", "member"):
        told = facts.get(f"services_{who}", {})
        if "services" not in told:
            why = _member(facts) if who == "member" else ""
            sheet.could_not_look(why or f"what a {who} is told: {told.get('reason', 'nothing')}")
            continue
        rows = told["services"]
        sheet.expect(bool(rows), f"a {who} is told {len(rows)} servers", "the site's own STUN and TURN")
        _judge_servers(f"a {who} is told", [(f"{row['type']}:", str(row.get("host", ""))) for row in rows], own, sheet)
    served, config = _config(outside, subject, sheet)
    if config is not None:
        _judge_named(config, sheet)
    _judge_servers("config.js names", [("", name.strip("[]")) for name in _SERVER.findall(served)], own, sheet)


def _judge_named(config: Config, sheet: Sheet) -> None:
    """A client that is told none takes a third party's (lib-jitsi-meet:modules/xmpp/xmpp.ts DEFAULT_STUN_SERVERS)."""
    servers = setting(config, "p2p.stunServers")
    unknown = ", ".join(map(str, computed(servers)))
    if unknown:
        sheet.could_not_look(f"which servers p2p.stunServers names, which config.js computes: {unknown}")
        return
    said = "does not name" if servers is None else "names"
    sheet.expect(servers is not None, f"config.js {said} p2p.stunServers", "named, with own servers")


def _judge_servers(who: str, servers: Iterable[tuple[str, str]], own: set[str], sheet: Sheet) -> None:
    for kind, name in servers:
        sheet.expect(name.lower() in own, f"{who} {kind}{name}", f"only {', '.join(sorted(own))}")


def _own_names(subject: Subject) -> set[str]:
    """Return every name and address under which the site's own servers are reached."""
    names = {str(subject.settings["jitsi_domain"]), derivations.turn_domain(subject.settings)}
    for row in subject.topology["hosts"].values():
        names |= {str(row[key]) for key in ("address", "address6") if row[key]}
    return {name.lower() for name in names}


def _config(outside: testinfra.host.Host, subject: Subject, sheet: Sheet) -> tuple[str, Config | None]:
    """Return config.js as it is served over the first address that is reached: its text without comments, and its values.

    What cannot be had is noted, and "" or None in its place.
    """
    domain = subject.settings["jitsi_domain"]
    resolve = f"--resolve '{domain}:443:{first_way(outside, subject)}'"
    (served,) = ask(outside, f"curl -sfk -m 10 {resolve} https://{domain}/config.js")
    if served.rc != 0:
        sheet.could_not_look(f"config.js is not served (curl ended with {served.rc})")
        return "", None
    script = text(served)
    try:
        return without_comments(script), read_config(script)
    except NoConfiguration as problem:
        sheet.could_not_look(f"config.js cannot be read: {problem}")
        return without_comments(script), None


@pytest.mark.control("TRN-04")
def test_the_bridge_asks_no_foreign_server(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The file that the running bridge was started with, read by its own tool; newer than the process, it tells nothing.

    A bridge asks such a server at its start only (ice4j:ice/harvest/StunMappingCandidateHarvester.java), so no socket shows it.
    """
    if not subject.bridge:
        raise NotApplicable("no bridge runs here")
    (shown,) = ask(host, _BRIDGE_STUN)
    facts = json_of(shown)
    if not facts["file"]:
        raise NotTested("no bridge runs, or it was started without -Dconfig.file")
    if facts["changed_after_start"]:
        sheet.could_not_look(f"{facts['file']} was changed after the bridge was started")
    servers, own = facts["addresses"], _own_names(subject)
    foreign = [server for server in servers if (server.rpartition(":")[0].strip("[]") or server).lower() not in own]
    said = ", ".join(foreign or servers) or "nobody"
    sheet.expect(not foreign, f"{facts['file']}: the bridge asks {said} for its address", "nobody, or an own server")


# HOCON can say one thing in many ways, so the tool that upstream depends on reads it (jitsi-videobridge: debian/control ruby-hocon).
# The older file and options of the command line count as well (ice4j:ice/harvest/HarvestConfig.kt).
_BRIDGE_STUN = r"""python3 - <<'END'
import json, os, pathlib, re, subprocess
KEYS = ("ice4j.harvest.mapping.stun.addresses", "org.ice4j.ice.harvest.STUN_MAPPING_HARVESTER_ADDRESSES")
def bridge():
    boot = int(re.search(r"^btime (\d+)", pathlib.Path("/proc/stat").read_text(), re.M)[1])
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ticks = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        except (OSError, IndexError):
            continue
        if words[0].endswith("java") and any("jitsi-videobridge" in word for word in words):
            options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("-D"))
            return options, boot + ticks / os.sysconf("SC_CLK_TCK")
    return {}, 0.0
def names(text):
    return re.findall(r'[^\s,"\[\]]+', text)
def plainly(text):
    # Whom a list on one line names wherever such a key stands, and nothing is taken from elsewhere; None where it may be said otherwise.
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "//"))]
    keys = [line for line in lines if re.search(r"(?<![\w-])addresses", line)]
    plain = not any(word in line for line in lines for word in ("include", "\\", "+="))
    if plain and all(re.fullmatch(r"\s*addresses\s*=\s*\[[^\[\]#/]*\]\s*", line) for line in keys):
        return [name for line in keys for name in names(line.partition("=")[2])]
options, born = bridge()
file = options.get("config.file", "")
found = {"file": file, "changed_after_start": False, "addresses": []}
if file:
    path = pathlib.Path(file)
    found["changed_after_start"] = path.stat().st_mtime > born + 2
    listed = plainly(path.read_text(errors="replace"))
    # Where nobody is named, the tool, which takes as long as a third of all other commands, need not be asked.
    if listed != []:
        said = subprocess.run(["hocon", "-f", file, "get", KEYS[0]], capture_output=True, text=True)
        broken = said.returncode != 0 and "find the given path" not in said.stdout + said.stderr
        if broken and listed is None:
            raise SystemExit(f"hocon cannot read {file}: {said.stderr or said.stdout}")
        # It fails over a nickname such as 12e34567-..., which upstream's package makes at random and without quotes.
        found["addresses"] = listed if broken else names(said.stdout) if said.returncode == 0 else []
    old = path.parent / "sip-communicator.properties"
    rows = [row.partition("=")[::2] for row in old.read_text().splitlines()] if old.is_file() else []
    values = [value for name, value in [*options.items(), *rows] if name.strip().startswith(KEYS)]
    found["addresses"] += [name for value in values for name in names(value)]
print(json.dumps(found))
END"""


@pytest.mark.control("AVL-02")
def test_a_meeting_starts(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """Two members are offered a session, with the bridges' own addresses, and each of these answers."""
    facts = _conversation(host, outside, subject)
    for address, door in facts.get("websocket", {}).items():
        if door.get("reason") == _NO_WAY:
            sheet.could_not_look(no_way(address))
            continue
        opened = door.get("open")
        sheet.expect(bool(opened), f"WebSocket at {address}: {'open' if opened else door.get('reason')}", "open")
    why = _member(facts)
    if why and facts.get("member", {}).get("admitted") is not False:
        sheet.could_not_look(why)
        return
    sheet.expect(not why, why or "a member logs in", "a member logs in")
    sessions = facts.get("sessions", {})
    if _entered(facts, "meeting", "enter")[0] == "lobby":
        sheet.could_not_look("the declared token makes no moderator, so the member waits in the lobby as guests do")
        return
    if "offers" not in sessions:
        reason = sessions.get("reason") or facts.get("meeting", {}).get("reason") or facts.get("incomplete")
        outcome, said = _entered(facts, "meeting", "enter")
        sheet.expect(False, f"no meeting of two starts: {reason or said or outcome}", "a session for both")
        return
    second = sessions["second"]
    if "claims" not in facts["member"]:
        sheet.expect(second["owner"], f"a host who logs in beside a guest's connection {_owns(second)}", "moderates")
    for number, offer in enumerate(sessions["offers"], 1):
        _judge_offer(f"member {number}", offer, subject, sheet)


def _owns(second: Facts) -> str:
    return "moderates" if second["owner"] else "stays a guest"


def _judge_offer(who: str, offer: Facts, subject: Subject, sheet: Sheet) -> None:
    sheet.expect(offer["offered"], f"{who}: {'a session' if offer['offered'] else offer.get('reason')}", "a session")
    if not offer["offered"]:
        return
    sealed = offer["fingerprint"] and offer["credentials"]
    sheet.expect(sealed, f"{who}: {'with' if sealed else 'without'} fingerprint and credentials", "with both")
    own = _bridge_addresses(subject)
    for (address, port, protocol), row in _candidates(offer).items():
        known = any(address in entry.values() for entry in own)
        sheet.expect(known, f"{who}: offered {address} ({row.get('type')})", "a bridge's own address")
        place = f"{f'[{address}]' if ':' in address else address}:{port}/{protocol}"
        if known and (port, protocol) != _MEDIA:
            sheet.expect(False, f"{who}: offered {place}", f"{'/'.join(_MEDIA)}, the media port")
        _judge_answer(f"{who}: {place}", row, sheet)
    _judge_families(who, offer, own, sheet)


def _candidates(offer: Facts) -> dict[tuple[str, str, str], Facts]:
    """Return what is offered by address, port and protocol: one address may stand there with several ports."""
    rows = [row for row in offer["candidates"] if _is_address(row.get("ip"))]
    return {
        (_plain(row["ip"]), str(row.get("port") or "no port"), str(row.get("protocol")).lower()): row for row in rows
    }


def _judge_families(who: str, offer: Facts, own: list[dict[str, str]], sheet: Sheet) -> None:
    """A bridge that is offered at all is offered on each of its addresses, on the port that is let in."""
    offered = _candidates(offer)
    addresses = {address for address, *_ in offered}
    chosen = [entry for entry in own if addresses & {address for address in entry.values() if address}] or own
    missing = [a for entry in chosen for a in entry.values() if a and (a, *_MEDIA) not in offered]
    sheet.expect(
        not missing, f"{who}: {f'not offered {missing}' if missing else 'every family offered'}", "all offered"
    )


def _judge_answer(where: str, row: Facts, sheet: Sheet) -> None:
    reason = str(row.get("reason", ""))
    if reason.startswith(_NO_WAY):
        sheet.could_not_look(f"{where}: the vantage point has {reason}")
        return
    answered = bool(row.get("answered")) and bool(row.get("signed"))
    said = "answers" if answered else f"does not answer ({reason or 'not signed with the password'})"
    sheet.expect(answered, f"{where} {said}", "an answer to the session's STUN request")
    sheet.expect(
        not row.get("wrong_password_answered"), f"{where} refuses a wrong password", "no answer to a wrong one"
    )


def _bridge_addresses(subject: Subject) -> list[dict[str, str]]:
    hosts = subject.topology["hosts"].values()
    rows = [row for row in hosts if derivations.BRIDGES in row["groups"]]
    return [{key: _plain(row[key]) for key in ("address", "address6")} for row in rows]


def _plain(address: str) -> str:
    return str(ipaddress.ip_address(address)) if address else ""


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True
