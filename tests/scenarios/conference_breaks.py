"""Changes of a host that let strangers in, name a foreign server, or keep meetings from starting."""

from __future__ import annotations

from tests.scenarios.breaks import Break

_PROSODY = "/etc/prosody/conf.avail/meet.*.cfg.lua"
_JICOFO = "/etc/jitsi/jicofo/jicofo.conf"
_JVB = "/etc/jitsi/videobridge/jvb.conf"
_CONFIG = "/etc/jitsi/meet/meet.*-config.js"
_SANDBOX = "/etc/systemd/system/jitsi-videobridge2.service.d/80-ratssaal-sandbox.conf"
_FOREIGN = '{ type = "stun", host = "stun.example.net", port = 19302, transport = "udp" };'
# For sed, with the host's own address put in by the shell.
_MAPPING = """static-mappings = [{local-address = "'$own'", public-address = "203.0.113.7", name = "planted"}]"""
# Who comes in as a guest is made an owner a second later, as plugins of others do it.
_PLANTED = """module:hook("muc-occupant-joined", function (event)
    module:add_timer(1, function () event.room:set_affiliation(true, event.occupant.bare_jid, "owner") end)
end)
"""
_TO_EFFECT = {
    "prosody": "systemctl restart prosody && sleep 8",
    "jicofo": "systemctl restart jicofo && sleep 8",
    "bridge": "systemctl daemon-reload && systemctl restart jitsi-videobridge2 && sleep 10",
    "web": "true",
}
_KEPT = "/root/conference.tar"
KEEP = f"tar -C / -cf {_KEPT} etc/prosody etc/jitsi {_SANDBOX[1:]}"

# What looks at the same conversation; each of them must stay quiet where another one is meant. Therefore two breaks at most are
# looked at together, and those that turn more than one of these alone.
NEAR = ("VKS-01", "VKS-02", "TRN-04", "AVL-02")
# Control, who has to take the change, the change, what is seen of it, who else sees it.
_ROWS: dict[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "everybody is a member": (
        "VKS-01",
        "prosody",
        f'sed -i \'0,/authentication = "internal_hashed"/s//authentication = "jitsi-anonymous"/\' {_PROSODY}',
        "a stranger at the members' domain is admitted",
        ("AVL-02",),
    ),
    "the focus asks for no log-in": (
        "VKS-01",
        "jicofo",
        f"sed -i '/authentication {{/,/}}/s/enabled = true/enabled = false/' {_JICOFO}",
        "asked by a guest, the focus opens a room",
        ("VKS-02", "AVL-02"),
    ),
    "rooms come by themselves": (
        "VKS-01",
        "prosody",
        f"sed -i 's/restrict_room_creation = true -- .kept./restrict_room_creation = false/' {_PROSODY}",
        "a guest gets into a room that nobody opened",
        ("VKS-02",),
    ),
    "everybody becomes an owner after a while": (
        "VKS-01",
        "prosody",
        f"printf '%s' '{_PLANTED}' > /usr/share/ratssaal/prosody-plugins/mod_planted.lua;"
        f' sed -i \'s/"muc_domain_mapper";/& "planted";/\' {_PROSODY}',
        "a guest who comes to a meeting is owner",
        # An owner needs not wait in the lobby.
        ("VKS-02",),
    ),
    "no lobby": (
        "VKS-02",
        "prosody",
        f"sed -i 's/\"muc_lobby_rooms\"; //' {_PROSODY}",
        "the site offers no lobby to its clients",
        (),
    ),
    "no button": (
        "VKS-02",
        "web",
        f"sed -i 's/hideLobbyButton: false/hideLobbyButton: true/' {_CONFIG}",
        "the lobby's button is hidden",
        (),
    ),
    "no button by a line of one's own": (
        "VKS-02",
        "web",
        f"echo 'config.securityUi.hideLobbyButton = true;' | tee -a {_CONFIG}",
        "the lobby's button is hidden",
        (),
    ),
    "a foreign server by signalling": (
        "TRN-04",
        "prosody",
        f"sed -i 's/^external_services = {{/&\\n{_FOREIGN}/' {_PROSODY}",
        "a guest is told stun:stun.example.net",
        (),
    ),
    "a foreign server in config.js": (
        "TRN-04",
        "web",
        f"sed -i 's#stunServers: \\[#& {{ urls: \"stun:stun.example.net:19302\" }},#' {_CONFIG}",
        "config.js names stun.example.net",
        (),
    ),
    "no server in config.js": (
        "TRN-04",
        "web",
        f"sed -i '/stunServers/d' {_CONFIG}",
        "config.js does not name p2p.stunServers",
        (),
    ),
    "a foreign server for the bridge": (
        "TRN-04",
        "bridge",
        f"sed -i 's/addresses = \\[\\]/addresses = [\"stun.example.net:3478\"]/' {_JVB}",
        "the bridge asks stun.example.net:3478",
        (),
    ),
    "a foreign address": (
        "AVL-02",
        "bridge",
        f"own=$(hostname -I | cut -d' ' -f1); sed -i 's/^    mapping {{/&\\n{_MAPPING}/' {_JVB}",
        "offered 203.0.113.7 (srflx)",
        (),
    ),
    "no media by IPv6": (
        "AVL-02",
        "bridge",
        f"sed -i 's/^ProcSubset=all/ProcSubset=pid/' {_SANDBOX}",
        "not offered ['2001:",
        (),
    ),
}
BREAKS = {
    name: Break(
        control,
        f"{change} && {_TO_EFFECT[taker]}",
        seen,
        f"tar -C / -xf {_KEPT} && {_TO_EFFECT[taker]}",
        also,
        alone=control == "VKS-01",
    )
    for name, (control, taker, change, seen, also) in _ROWS.items()
} | {
    f"no media over {family}": Break(
        "AVL-02",
        f"nft insert rule inet ratssaal input meta nfproto {family.lower()} udp dport 10000 drop",
        f"member 1: {address}:10000/udp does not answer",
        "systemctl restart ratssaal-firewall",
        ("NET-03",),
    )
    for family, address in (("IPv4", "198.18.<lab>.10"), ("IPv6", "[2001:2:0:<lab>::10]"))
}
EVERYTHING = "; ".join([*(row[2] for row in _ROWS.values()), *_TO_EFFECT.values()])
