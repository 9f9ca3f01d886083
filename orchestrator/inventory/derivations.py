"""What follows from the topology: flows, listeners, names, TURN peers, the browser's policy.

Pure functions over plain dictionaries, standard library only: the Python side imports this module, and
`playbooks/filter_plugins/ratssaal.py` loads the same file for the roles. One derivation, not two.

A topology is `{"hosts": {name: {"address", "address6", "groups", "ssh_port"}}, "settings": {...}}`; the settings are
the site-wide variables of the roles by their own names.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Topology = Mapping[str, Any]
Settings = Mapping[str, Any]
Flow = dict[str, Any]
Listener = dict[str, Any]
Step = Mapping[str, Any]

SIGNALLING = "jitsi_signalling"
BRIDGES = "jitsi_bridges"
TURN = "turn_servers"
GROUPS = (SIGNALLING, BRIDGES, TURN)

ANYWHERE = ("0.0.0.0/0", "::/0")
RELAY_PORTS = "49152-65535"
"""coturn's own default range (Debian: coturn turnserver.conf, min-port and max-port)."""

MEDIA_PORT = 10000
STUN_PORT = 3478
TURN_TLS_PORT = 5349
TURN_PROXY_PORT = 5348
"""Where coturn takes TLS from nginx's SNI switch, on loopback only, behind a PROXY protocol header."""
WEB_TLS_LOOPBACK_PORT = 4443
"""Where nginx's web server takes TLS from its own SNI switch, on loopback only, behind a PROXY protocol header."""

# IANA special-purpose registries (RFC 6890 and successors): what upstream's turnserver.conf denies
# (jitsi-meet:doc/debian/jitsi-meet-turn/turnserver.conf), plus the IPv6 forms that embed an IPv4 address.
_SPECIAL_RANGES = (
    "0.0.0.0-0.255.255.255",
    "10.0.0.0-10.255.255.255",
    "100.64.0.0-100.127.255.255",
    "127.0.0.0-127.255.255.255",
    "169.254.0.0-169.254.255.255",
    "172.16.0.0-172.31.255.255",
    "192.0.0.0-192.0.0.255",
    "192.0.2.0-192.0.2.255",
    "192.88.99.0-192.88.99.255",
    "192.168.0.0-192.168.255.255",
    "198.18.0.0-198.19.255.255",
    "198.51.100.0-198.51.100.255",
    "203.0.113.0-203.0.113.255",
    "224.0.0.0-255.255.255.255",
    # The unspecified address reaches loopback too (CVE-2020-26262 in coturn); the rest holds IPv4 addresses (RFC 4291 2.5.5.1).
    "::-::ffff:ffff",
    "64:ff9b::-64:ff9b::ffff:ffff",
    "::ffff:0.0.0.0-::ffff:255.255.255.255",
    "100::-100::ffff:ffff:ffff:ffff",
    "2001::-2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::-2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fec0::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)
_EVERYTHING = ("0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


def topology_from_hostvars(
    hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], settings: Settings
) -> dict[str, Any]:
    """Build a topology from what Ansible resolved; hosts outside our groups are left out."""
    names: list[str] = []
    for group in GROUPS:
        names.extend(name for name in groups.get(group, ()) if name not in names)
    hosts = {}
    for name in names:
        variables = hostvars[name]
        hosts[str(name)] = {
            "address": str(variables.get("ansible_host") or name),
            "address6": str(variables.get("base_address6") or ""),
            "groups": [group for group in GROUPS if name in groups.get(group, ())],
            "ssh_port": int(variables.get("ansible_port") or 22),
        }
    return {"hosts": hosts, "settings": dict(settings)}


def turn_domain(settings: Settings) -> str:
    """Return the name under which TURN over TLS is offered: declared, or `turn.` before the site's name."""
    return str(settings.get("jitsi_turn_domain") or "") or f"turn.{settings['jitsi_domain']}"


def xmpp_domains(settings: Settings) -> dict[str, str]:
    """Return every XMPP domain by its role (jitsi-meet:doc/debian/jitsi-meet-prosody/prosody.cfg.lua-jvb.example)."""
    domain = str(settings["jitsi_domain"])
    names = {
        "auth": "auth",
        "internal": "internal.auth",
        "muc": "conference",
        "lobby": "lobby",
        "guest": "guest",
        "focus": "focus",
        "breakout": "breakout",
        "recorder": "recorder",
        "avmoderation": "avmoderation",
        "endconference": "endconference",
        "speakerstats": "speakerstats",
        "metadata": "metadata",
        "polls": "polls",
    }
    return {"domain": domain, **{role: f"{label}.{domain}" for role, label in names.items()}}


def certificate_names(topology: Topology, host: str) -> list[str]:
    """Return the DNS names that the host's certificate must carry, the most important first.

    The site's own CA also signs Prosody's name for Jicofo and the bridges; a bought certificate need not carry it,
    because no browser ever sees it.
    """
    settings, groups = topology["settings"], _groups(topology, host)
    names: list[str] = []
    if SIGNALLING in groups:
        names.append(str(settings["jitsi_domain"]))
    if TURN in groups:
        names.append(turn_domain(settings))
    if SIGNALLING in groups and str(settings.get("certificates_source") or "own_ca") == "own_ca":
        names.append(xmpp_domains(settings)["auth"])
    return list(dict.fromkeys(names))


def ice_servers(settings: Settings) -> list[dict[str, Any]]:
    """Return our own STUN and TURN services, for Prosody's `external_services` and for config.js.

    Plain STUN and TURN by UDP, TURN over TLS by TCP; no other server is ever named. `secret` says whether the client
    needs credentials made from `coturn_secret`.
    """
    name = turn_domain(settings)
    tls_port = TURN_TLS_PORT if settings.get("jitsi_turn_tls") == "port5349" else 443
    credentials = {"secret": True, "ttl": 86400, "algorithm": "turn"}
    return [
        {"type": "stun", "host": name, "port": STUN_PORT, "transport": "udp", "secret": False},
        {"type": "turn", "host": name, "port": STUN_PORT, "transport": "udp", **credentials},
        {"type": "turns", "host": name, "port": tls_port, "transport": "tcp", **credentials},
    ]


def turn_denied_peers(topology: Topology) -> list[str]:
    """Return the address ranges that coturn must not relay to.

    Without peer-to-peer calls the bridges are the only peers there are, so everything else is denied; with them any
    public address may be a peer, and all special-purpose ranges, the networks of the administration and the site's own
    hosts without a bridge are denied.
    """
    if not topology["settings"].get("jitsi_p2p"):
        return list(_EVERYTHING)
    bridges = set(_addresses(topology, BRIDGES))
    own = [str(entry[key]) for entry in topology["hosts"].values() for key in ("address", "address6") if entry[key]]
    management = [_text(network) for network in management_networks(topology["settings"])]
    return [*_SPECIAL_RANGES, *management, *(address for address in dict.fromkeys(own) if address not in bridges)]


def management_networks(settings: Settings) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the networks that the site declares for its administration; one that is everybody's is nobody's."""
    declared = [ipaddress.ip_network(str(source)) for source in settings.get("firewall_management_sources") or ()]
    return [network for network in declared if network.prefixlen]


def turn_allowed_peers(topology: Topology) -> list[str]:
    """Return the addresses that coturn may relay to although a denied range holds them: the site's bridges."""
    denied = [_range(text) for text in turn_denied_peers(topology)]
    allowed = []
    for address in _addresses(topology, BRIDGES):
        value = ipaddress.ip_address(address)
        if any(low.version == value.version and int(low) <= int(value) <= int(high) for low, high in denied):
            allowed.append(address)
    return allowed


def bridge_addresses(topology: Topology, host: str, present: Collection[str]) -> list[str]:
    """Return the addresses that a bridge offers; [] means all that it has, where the declared one is a translation's.

    `present` are those of the host's own interfaces. One that is declared and not there yet, as IPv6 may be at a boot, stays.
    """
    entry = topology["hosts"][host]
    declared = [str(ipaddress.ip_address(a)) for a in (entry["address"], entry["address6"]) if a]
    return declared if declared[0] in {str(ipaddress.ip_address(a)) for a in present} else []


def bridge_private(topology: Topology, host: str) -> bool:
    """Say whether the bridge has no address that upstream's health check calls valid.

    Java's notion decides (`isSiteLocalAddress`, link-local, loopback: jitsi-videobridge:jvb/src/main/kotlin/org/jitsi/
    videobridge/health/JvbHealthChecker.kt), not the IANA registries.
    """
    entry = topology["hosts"][host]
    addresses = [ipaddress.ip_address(a) for a in (entry["address"], entry["address6"]) if a]
    local = [
        ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fec0::/10", "fc00::/7")
    ]
    return all(
        a.is_loopback or a.is_link_local or any(a.version == n.version and a in n for n in local) for a in addresses
    )


def flows(topology: Topology, host: str) -> list[Flow]:
    """Return the inbound flows to allow on the host; everything else is dropped. Loopback is not a flow."""
    settings, groups, entry = (topology["settings"], _groups(topology, host), topology["hosts"][host])
    management = list(settings.get("firewall_management_sources") or ANYWHERE)
    result = [_flow("ssh", "tcp", int(entry.get("ssh_port") or 22), management, "sshd", "administration")]
    if SIGNALLING in groups:
        result.append(_flow("http", "tcp", 80, ANYWHERE, "nginx", "redirect to HTTPS"))
        result.append(_flow("https", "tcp", 443, ANYWHERE, "web", "web page and signalling"))
        remote = [_network(a) for a in _addresses(topology, BRIDGES, without=host)]
        if remote:
            result.append(_flow("xmpp", "tcp", 5222, remote, "prosody", "signalling of the bridges"))
    if BRIDGES in groups:
        result.append(_flow("media", "udp", MEDIA_PORT, ANYWHERE, "jitsi-videobridge2", "audio and video"))
    if TURN in groups:
        result.extend(_turn_flows(topology, host))
    for number, extra in enumerate(settings.get("firewall_extra_flows") or ()):
        port = extra["port"] if "-" in str(extra["port"]) else int(extra["port"])
        sources = list(extra.get("sources") or ANYWHERE)
        purpose = str(extra.get("purpose") or "declared by the operator")
        result.append(_flow(f"extra-{number + 1}", str(extra["proto"]), port, sources, "extra", purpose))
    return result


def _turn_flows(topology: Topology, host: str) -> list[Flow]:
    settings = topology["settings"]
    result = [_flow("turn", "udp", STUN_PORT, ANYWHERE, "coturn", "STUN and TURN")]
    if settings.get("jitsi_turn_tls") == "port5349":
        result.append(_flow("turns", "tcp", TURN_TLS_PORT, ANYWHERE, "coturn", "TURN over TLS"))
    elif SIGNALLING not in _groups(topology, host):
        result.append(_flow("turns", "tcp", 443, ANYWHERE, "coturn", "TURN over TLS"))
    # A relayed peer speaks to the relay ports. Without peer-to-peer calls the only peers are the bridges.
    peers = ANYWHERE if settings.get("jitsi_p2p") else [_network(a) for a in _addresses(topology, BRIDGES)]
    if peers:
        result.append(_flow("turn-relay", "udp", RELAY_PORTS, peers, "coturn", "relayed audio and video"))
    return result


def listeners(topology: Topology, host: str) -> list[Listener]:
    """Return every listening socket that may exist on the host.

    `address` is "*" (any local address), "127.0.0.1" (loopback, IPv4 or IPv6) or a literal; `port` is a number or
    "lo-hi"; `process` is the name that `ss` shows.
    """
    settings, groups, entry = (topology["settings"], _groups(topology, host), topology["hosts"][host])
    result = [_listener("tcp", "*", int(entry.get("ssh_port") or 22), "sshd"), *_system_listeners()]
    if SIGNALLING in groups:
        result += [_listener("tcp", "*", 80, "nginx"), *_web_listeners(settings, groups)]
        remote_bridges = bool(_addresses(topology, BRIDGES, without=host))
        result.append(_listener("tcp", "*" if remote_bridges else "127.0.0.1", 5222, "lua5.4"))
        result.append(_listener("tcp", "127.0.0.1", 5280, "lua5.4"))
        result.append(_listener("tcp", "127.0.0.1", 8888, "java"))
    if BRIDGES in groups:
        result.append(_listener("udp", "*", MEDIA_PORT, "java"))
        result.append(_listener("tcp", "127.0.0.1", 8080, "java"))
    if TURN in groups:
        result.append(_listener("udp", "*", STUN_PORT, "turnserver"))
        result.append(_listener("udp", "*", RELAY_PORTS, "turnserver"))
        if settings.get("jitsi_turn_tls") == "port5349":
            result.append(_listener("tcp", "*", TURN_TLS_PORT, "turnserver"))
        elif SIGNALLING in groups:
            # coturn listens with the PROXY protocol on its own addresses; the firewall lets only the host itself in.
            own = [str(entry[key]) for key in ("address", "address6") if entry[key]]
            result += [_listener("tcp", address, TURN_PROXY_PORT, "turnserver") for address in own]
        else:
            result.append(_listener("tcp", "*", 443, "turnserver"))
    return result


def _web_listeners(settings: Settings, groups: Sequence[str]) -> list[Listener]:
    """Return who answers on port 443: nginx, or HAProxy before it where TURN shares the port."""
    if TURN in groups and settings.get("jitsi_turn_tls") != "port5349":
        return [_listener("tcp", "*", 443, "haproxy"), _listener("tcp", "127.0.0.1", WEB_TLS_LOOPBACK_PORT, "nginx")]
    return [_listener("tcp", "*", 443, "nginx")]


def _system_listeners() -> list[Listener]:
    """Return the sockets of Debian's own network, name and time services."""
    return [
        _listener("udp", "127.0.0.53", 53, "systemd-resolve"),
        _listener("tcp", "127.0.0.53", 53, "systemd-resolve"),
        _listener("udp", "127.0.0.54", 53, "systemd-resolve"),
        _listener("tcp", "127.0.0.54", 53, "systemd-resolve"),
        _listener("udp", "127.0.0.1", 323, "chronyd"),
        _listener("udp", "*", 68, "systemd-network"),
        _listener("udp", "*", 68, "dhclient"),
        _listener("udp", "*", 68, "dhcpcd"),
        _listener("udp", "*", 546, "systemd-network"),
        _listener("udp", "*", 546, "dhclient"),
        _listener("udp", "*", 546, "dhcpcd"),
    ]


def content_security_policy(settings: Settings) -> str:
    """Return the value of the Content-Security-Policy header.

    It is what enforces "no third-party requests": `disableThirdPartyRequests` in config.js can be overridden in the
    address bar (jitsi-meet:react/features/base/config/configWhitelist.ts), a header cannot.

    * `script-src 'unsafe-inline'`: upstream's index.html puts config.js, interface_config.js and the title into inline
      scripts by server-side includes (jitsi-meet:index.html), so neither a hash nor a nonce is known beforehand. Scripts
      from elsewhere stay forbidden, and what a script may contact is bounded by `connect-src`.
    * `'wasm-unsafe-eval'`, `worker-src blob:`: noise suppression, virtual backgrounds and end-to-end encryption are
      WebAssembly and workers made from blobs.
    * `style-src 'unsafe-inline'`: the user interface writes style attributes and elements at run time.
    """
    domain = str(settings["jitsi_domain"])
    declared = [str(origin) for origin in settings.get("jitsi_allowed_origins") or ()]
    identity = identity_origins(settings)
    embedding = [str(origin) for origin in settings.get("jitsi_embedding_origins") or ()]
    directives = {
        "default-src": ["'self'"],
        "script-src": ["'self'", "'unsafe-inline'", "'wasm-unsafe-eval'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:", *declared],
        "media-src": ["'self'", "data:", "blob:", *declared],
        "font-src": ["'self'", "data:"],
        # 'self' covers wss: of the same host only by the third edition of the standard; older Safari needs it named.
        "connect-src": ["'self'", f"wss://{domain}", *declared, *identity],
        "worker-src": ["'self'", "blob:"],
        "frame-src": ["'self'", *declared, *identity],
        "frame-ancestors": ["'self'", *embedding],
        "form-action": ["'self'", *identity],
        "base-uri": ["'self'"],
        "object-src": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(dict.fromkeys(values))}" for name, values in directives.items())


def identity_origins(settings: Settings) -> list[str]:
    """Return the origins of the identity provider: declared ones, log-in, log-out and source of tokens; [] without JWT."""
    if settings.get("jitsi_auth") != "jwt":
        return []
    token = settings.get("jitsi_jwt") or {}
    origins = [str(origin) for origin in token.get("identity_origins") or ()]
    # Logging out takes place in a frame.
    for key in ("login_url", "token_service_url", "logout_url"):
        parts = urlsplit(str(token.get(key) or ""))
        if parts.scheme and parts.netloc:
            origins.append(f"{parts.scheme}://{parts.netloc}")
    return list(dict.fromkeys(origins))


def control_path(value: str, site: str | Path) -> Path:
    """Return a file's path on the control node: absolute, below the home directory, or relative to the site."""
    # Path.expanduser raises for a user that does not exist; such a path is merely one without a file.
    return Path(site).resolve() / os.path.expanduser(value)


def _groups(topology: Topology, host: str) -> Sequence[str]:
    groups: Sequence[str] = topology["hosts"][host]["groups"]
    return groups


def _addresses(topology: Topology, group: str, *, without: str = "") -> list[str]:
    found: list[str] = []
    for name, entry in topology["hosts"].items():
        if group in entry["groups"] and name != without:
            found.extend(str(entry[key]) for key in ("address", "address6") if entry[key])
    return found


def _network(address: str) -> str:
    return str(ipaddress.ip_network(address))


def _text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Return a network as coturn names ranges: its first and last address, or the only one."""
    return str(network[0]) if network.num_addresses == 1 else f"{network[0]}-{network[-1]}"


def _range(text: str) -> tuple[Any, Any]:
    low, _, high = text.partition("-")
    return ipaddress.ip_address(low), ipaddress.ip_address(high or low)


def _flow(name: str, proto: str, port: int | str, sources: Iterable[str], service: str, purpose: str) -> Flow:
    return {"id": name, "proto": proto, "port": port, "sources": list(sources), "service": service, "purpose": purpose}


def _listener(proto: str, address: str, port: int | str, process: str) -> Listener:
    return {"proto": proto, "address": address, "port": port, "process": process}


def security_contact(settings: Settings) -> str:
    """Return where holes are to be reported, as security.txt names it (RFC 9116 2.5.3); "" where nobody is declared."""
    contact = str(settings.get("web_security_contact") or settings.get("jitsi_support_contact") or "").strip()
    if contact.startswith(("https://", "mailto:", "tel:")):
        return contact
    if "@" in contact and " " not in contact:
        return f"mailto:{contact}"
    number = "".join(letter for letter in contact if letter in "+0123456789")
    return f"tel:{number}" if len(number) > 5 and set(contact) <= set("+0123456789 ()/-.") else ""


def without_skipped(parts: Mapping[str, Any], skipped: Mapping[str, Any]) -> list[Any]:
    """Return the parts of hardening by control, without the controls that the site leaves alone. Raises ValueError."""
    _answered_for(skipped)
    return [part for control, part in parts.items() if control not in skipped]


def steps_or_undo(parts: Mapping[str, Sequence[Step]], skipped: Mapping[str, Any]) -> list[Step]:
    """Return the steps of hardening by control; of controls that the site leaves alone those that take back what there is of them.

    On a host that never had any of it they find nothing to do. Packages stay as they are. Raises ValueError.
    """
    _answered_for(skipped)
    chosen = [_undo(steps) if control in skipped else steps for control, steps in parts.items()]
    return [step for steps in chosen for step in steps]


def _undo(steps: Sequence[Step]) -> list[Step]:
    """Return what takes steps with files and units back: units of ours end before their files go, the others run on without them."""
    files = [row for step in steps for row in step.get("files", ())]
    units = [row for step in steps for row in step.get("units", ())]
    made = {row["dest"] for row in files}
    own = [row for row in reversed(units) if f"/etc/systemd/system/{row['name']}" in made]
    ended = [_only(row, "name", state="stopped") | ({"enabled": False} if "enabled" in row else {}) for row in own]
    kept = [_only(row, "name", "health", state="kept") for row in units]
    # What is not ours by its name has others' files in it, or goes only where it begins with our mark.
    ours = [row for row in files if "ratssaal" in row["dest"] or row.get("state") != "directory"]
    unmade = [
        _only(row, "dest", "restarts", "reloads", state="absent" if "ratssaal" in row["dest"] else "given_back")
        for row in ours
    ]
    # Of ours systemd forgets its files by the last step, and the host that they were to be restarted.
    undo: list[Step] = [{"units": ended}, {"files": unmade}, {"units": kept}]
    return [step for step in undo if any(step.values())]


def _only(row: Step, *keys: str, state: str) -> dict[str, Any]:
    return {key: row[key] for key in keys if key in row} | {"state": state}


def _answered_for(skipped: Mapping[str, Any]) -> None:
    """Raise ValueError where nobody answers for leaving a control alone, without a reason or a last day: it would be forgotten."""
    for control, row in skipped.items():
        if not (isinstance(row, Mapping) and all(str(row.get(key) or "").strip() for key in ("who", "why", "until"))):
            raise ValueError(
                f"hardening_skip: who leaves {control} alone, why and until when? write {control}: "
                "{who: A. Meier, why: 'what was decided', until: 2027-03-31}"
            )
