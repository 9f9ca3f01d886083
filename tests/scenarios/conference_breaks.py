"""Changes of a host that let strangers in, name a foreign server, or keep meetings from starting."""

from __future__ import annotations

from tests.scenarios.breaks import Break

_PROSODY = "/etc/prosody/conf.avail/meet.*.cfg.lua"
_RESTART_PROSODY = "systemctl restart prosody && sleep 8"
_JICOFO = "/etc/jitsi/jicofo/jicofo.conf"
_JVB = "/etc/jitsi/videobridge/jvb.conf"
_RESTART_BRIDGE = "systemctl restart jitsi-videobridge2 && sleep 10"
_CONFIG = "/etc/jitsi/meet/meet.*-config.js"
_SANDBOX = "/etc/systemd/system/jitsi-videobridge2.service.d/80-ratssaal-sandbox.conf"
_FOREIGN = '{ type = "stun", host = "stun.example.net", port = 19302, transport = "udp" };'
# For sed, with the host's own address put in by the shell.
_MAPPING = """static-mappings = [{local-address = "'$own'", public-address = "203.0.113.7", name = "planted"}]"""

# What looks at the same conversation; each of them must stay quiet where another one is meant.
NEAR = ("VKS-01", "VKS-02", "TRN-04", "AVL-02")
BREAKS = {
    "everybody is a member": Break(
        "VKS-01",
        f'sed -i \'0,/authentication = "internal_hashed"/s//authentication = "jitsi-anonymous"/\' {_PROSODY}'
        f" && {_RESTART_PROSODY}",
        "a stranger at the members' domain is admitted",
        also=("AVL-02",),
    ),
    "the focus asks for no log-in": Break(
        "VKS-01",
        f"sed -i '/authentication {{/,/}}/s/enabled = true/enabled = false/' {_JICOFO} && systemctl restart jicofo && sleep 8",
        "asked by a guest, the focus opens a room",
        also=("VKS-02", "AVL-02"),
    ),
    "rooms come by themselves": Break(
        "VKS-01",
        f"sed -i 's/restrict_room_creation = true -- .kept./restrict_room_creation = false/' {_PROSODY} && {_RESTART_PROSODY}",
        "a guest gets into a room that nobody opened",
        also=("VKS-02",),
    ),
    "no lobby": Break(
        "VKS-02",
        f"sed -i 's/\"muc_lobby_rooms\"; //' {_PROSODY} && {_RESTART_PROSODY}",
        "the site offers no lobby to its clients",
    ),
    "no button": Break(
        "VKS-02",
        f"sed -i 's/hideLobbyButton: false/hideLobbyButton: true/' {_CONFIG}",
        "the lobby's button is hidden",
    ),
    "a foreign server by signalling": Break(
        "TRN-04",
        f"sed -i 's/^external_services = {{/&\\n{_FOREIGN}/' {_PROSODY} && {_RESTART_PROSODY}",
        "a guest is told stun:stun.example.net",
    ),
    "a foreign server in config.js": Break(
        "TRN-04",
        f"sed -i 's#stunServers: \\[#& {{ urls: \"stun:stun.example.net:19302\" }},#' {_CONFIG}",
        "config.js names stun.example.net",
    ),
    "no server in config.js": Break(
        "TRN-04", f"sed -i '/stunServers/d' {_CONFIG}", "config.js does not name p2p.stunServers"
    ),
    "a foreign server for the bridge": Break(
        "TRN-04",
        f"sed -i 's/addresses = \\[\\]/addresses = [\"stun.example.net:3478\"]/' {_JVB} && {_RESTART_BRIDGE}",
        "the bridge asks stun.example.net:3478",
    ),
    "a foreign address": Break(
        "AVL-02",
        f"own=$(hostname -I | cut -d' ' -f1); sed -i 's/^    mapping {{/&\\n{_MAPPING}/' {_JVB} && {_RESTART_BRIDGE}",
        "offered 203.0.113.7 (srflx)",
    ),
    "no media": Break(
        "AVL-02",
        "nft insert rule inet ratssaal input udp dport 10000 drop",
        "10000/udp does not answer",
        "systemctl restart ratssaal-firewall",
    ),
    "no media by IPv6": Break(
        "AVL-02",
        f"sed -i 's/^ProcSubset=all/ProcSubset=pid/' {_SANDBOX} && systemctl daemon-reload && {_RESTART_BRIDGE}",
        "not offered ['2001:",
    ),
}
