"""What is done to a host so that one control notices: release, restarts, packages, containers, recordings, log levels."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import Break
from tests.scenarios.conftest import RELOAD_SSH

_SOURCES = "cd /etc/apt; grep -rlE '{0}-security' sources.list* | xargs sed -i 's/{0}-security/{1}-security/'"
# A library that only coturn uses, replaced as an upgrade does it: a new file in the old one's place.
_REPLACED = (
    "file=$(grep -om1 '/usr/lib/[^ ]*libevent_core[^ ]*' /proc/$(systemctl show -P MainPID coturn)/maps);"
    ' cp -a "$file" "$file.new" && mv "$file.new" "$file"'
)
# A real container of nothing but `sleep`, by Debian's Podman. The lab's disks are overlays, on which Podman needs vfs.
_CONTAINER = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get install -qq --no-install-recommends podman crun netavark iptables >/dev/null 2>&1
mkdir -p /etc/containers /srv/planted/bin
printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
    >/etc/containers/storage.conf
for file in /usr/bin/sleep $(ldd /usr/bin/sleep | grep -o '/[^ ]*'); do
    mkdir -p /srv/planted$(dirname $file)
    cp -L $file /srv/planted$file
done
podman run -d --name planted --cgroups=disabled --security-opt seccomp=unconfined -p 4713:80 \
    --rootfs /srv/planted /usr/bin/sleep 1000
"""
# What Docker writes where it runs no proxy of its own (moby:libnetwork/drivers/bridge).
_FORWARDED = (
    "iptables -t nat -N DOCKER && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"
    " && iptables -t nat -A DOCKER -p tcp -m tcp --dport 4714 -j DNAT --to-destination 172.17.0.9:80"
)
_CONFIG = "/etc/jitsi/meet/*-config.js"
_JICOFO = "/etc/jitsi/jicofo/jicofo.conf"
_JVB = "/etc/jitsi/videobridge/jvb.conf"
_LOUD = (
    "sed -i 's/local0 warning/local0 debug/' /etc/haproxy/haproxy.cfg;"
    " echo 'error_log /var/log/nginx/error.log info;' > /etc/nginx/conf.d/planted.conf;"
    " echo verbose >> /etc/turnserver.conf; sed -i 's/WARNING/FINE/' /etc/jitsi/jicofo/logging.properties;"
    f" sed -i 's/redact-remote-addresses = true/redact-remote-addresses = false/' {_JVB};"
    " sleep 1; systemctl restart coturn jicofo jitsi-videobridge2; sleep 8"
)

_ROTATION, _UNIT = "/etc/logrotate.d/nginx", "/etc/systemd/system/nginx.service.d/10-ratssaal.conf"
_JOURNAL = "/etc/systemd/journald@conferencing.conf.d"

BREAKS = [
    Break(
        "OS-01",
        _SOURCES.format("trixie", "bookworm"),
        "apt has no lists of trixie's security archive",
        _SOURCES.format("bookworm", "trixie"),
        # Nobody can say whose a source is that apt has never read.
        also=("OS-05",),
    ),
    Break(
        "OS-01",
        "sed -i 's/^13/11/' /etc/debian_version",
        "/etc/debian_version 11",
        "sed -i 's/^11/13/' /etc/debian_version",
    ),
    # In a container the kernel's part stays untested, so without a fault the control never passes there.
    Break(
        "OS-03",
        _REPLACED,
        "coturn.service (turnserver) still runs the replaced /usr/lib/",
        "systemctl restart coturn && sleep 1",
        repaired=Result.NOT_TESTED,
    ),
    Break(
        "OS-03",
        "echo linux-image-amd64 | tee /run/reboot-required /run/reboot-required.pkgs",
        "a reboot is required by linux-image-amd64",
        "rm /run/reboot-required /run/reboot-required.pkgs",
        repaired=Result.NOT_TESTED,
    ),
    Break("OS-04", "apt-mark unhold jicofo", "is not held: any upgrade of the system may change it"),
    Break("VKS-06", f"sed -i '/recordingService/s/false/true/' {_CONFIG}", "recordingService.enabled: true"),
    Break("VKS-06", f"sed -i '/e2ee/s/false/true/' {_CONFIG}", "end-to-end encryption is not offered"),
    Break(
        "VKS-06",
        f"sed -i 's/^  health {{/  jibri.brewery-jid = \"JibriBrewery@internal.auth.x\"\\n  health {{/' {_JICOFO}"
        " && systemctl restart jicofo && sleep 8",
        "Jicofo has a jibri detector",
        f"sed -i '/jibri.brewery-jid/d' {_JICOFO} && systemctl restart jicofo && sleep 8",
    ),
    Break(
        "VKS-08",
        "mkdir /usr/share/jitsi-meet/recordings && echo film > /usr/share/jitsi-meet/recordings/rat.mp4",
        "/recordings/rat.mp4 answers 200 with the recording",
        "rm -r /usr/share/jitsi-meet/recordings",
        repaired=Result.NOT_APPLICABLE,
    ),
    Break(
        "VKS-09",
        "mkdir /srv/planted && ln -s planted /srv/recordings && echo film > /srv/planted/rat.mp4"
        " && touch -d '31 days ago' /srv/planted/rat.mp4",
        "/srv/recordings/rat.mp4 is 31 days old",
        "rm -r /srv/recordings /srv/planted",
        repaired=Result.NOT_APPLICABLE,
    ),
    Break(
        "LOG-01",
        "sed -i 's/log = { warn/log = { debug/' /etc/prosody/prosody.cfg.lua && systemctl reload prosody && sleep 1",
        "Prosody logs debug to /var/log/prosody/prosody.log",
    ),
    Break(
        "LOG-01",
        _LOUD,
        "nginx logs info to /var/log/nginx/error.log",
        "rm /etc/nginx/conf.d/planted.conf; sed -i '/^verbose$/d' /etc/turnserver.conf;"
        " sed -i 's/local0 debug/local0 warning/' /etc/haproxy/haproxy.cfg;"
        " sed -i 's/FINE/WARNING/' /etc/jitsi/jicofo/logging.properties;"
        f" sed -i 's/redact-remote-addresses = false/redact-remote-addresses = true/' {_JVB};"
        " sleep 1; systemctl restart coturn jicofo jitsi-videobridge2; sleep 8",
        also=("TRN-05",),
        more=(
            "HAProxy logs debug",
            "coturn runs with verbose",
            "jicofo: everything at FINE",
            "jitsi-videobridge2: redact-remote-addresses false",
        ),
        uses="/etc/turnserver.conf",
    ),
    Break(
        "NET-04", _CONTAINER, "4713/tcp is published on * by podman's planted", "podman rm -f -t 1 planted", ("NET-01",)
    ),
    Break(
        "NET-04",
        _FORWARDED,
        "4714/tcp is published on any address by a rule in ip nat DOCKER",
        "iptables -t nat -F && iptables -t nat -X DOCKER",
    ),
    Break(
        "LOG-03",
        f"cp -a {_ROTATION} /root/rotation && cp -a {_UNIT} /root/unit && rm {_ROTATION} && sed -i '/^LogNamespace/d' {_UNIT}"
        f" && systemctl daemon-reload && mkdir {_JOURNAL} && printf '[Journal]\\nMaxRetentionSec=70 days\\n' > {_JOURNAL}/planted.conf",
        "no rule rotates /var/log/nginx/",
        f"rm -r {_JOURNAL}; mv /root/unit {_UNIT}; mv /root/rotation {_ROTATION}; systemctl daemon-reload",
        more=("nginx logs into the system journal", "conferencing journal: kept 70 days"),
    ),
    # Files of today by their times, with lines of long ago.
    Break(
        "LOG-03",
        "printf '192.0.2.1 - - [02/Oct/2024:10:00:00 +0200] \"GET / HTTP/1.1\" 200\\n' | gzip > /var/log/nginx/planted.log.3.gz"
        " && printf '2024/10/02 10:00:00 [error] planted\\n' > /var/log/nginx/planted.log.1"
        " && printf 'planted\\n' > /var/log/nginx/planted.log.2",
        "/var/log/nginx/planted.log.3.gz begins ",
        "rm /var/log/nginx/planted.log.*",
        more=("/var/log/nginx/planted.log.1 begins ",),
    ),
    Break(
        "ACC-01",
        "printf 'Match User backup\\nPasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/planted.conf",
        "passwordauthentication yes (Match User backup in /etc/ssh/sshd_config.d/planted.conf)",
        f"rm /etc/ssh/sshd_config.d/planted.conf; {RELOAD_SSH}",
        more=("sshd was not reloaded since /etc/ssh/sshd_config.d",),
    ),
    Break(
        "ACC-05",
        f"chgrp users {_JICOFO} && chmod 0660 /etc/ratssaal/tls/key.pem",
        f"{_JICOFO} 0640 jicofo:users",
        f"chgrp jitsi {_JICOFO}; chmod 0640 /etc/ratssaal/tls/key.pem",
        more=("/etc/ratssaal/tls/key.pem 0660 root:ssl-cert",),
    ),
    Break(
        "OS-02",
        "printf 'APT::Periodic::Enable \"0\";\\n#clear Unattended-Upgrade::Package-Blacklist;\\n' > /etc/apt/apt.conf.d/99planted",
        "APT::Periodic::Enable 0",
        "rm /etc/apt/apt.conf.d/99planted",
        more=("taken without being asked: ca-certificates-java",),
    ),
    # apt was asked a moment ago, and reached nobody who could date the list anew.
    Break(
        "OS-02",
        "cd /var/lib/apt/lists && cp -p *-security_InRelease /root/listed && sed -i 's/^Date: .*/Date: Sat, 03 Jan 2026 09:00:00 UTC/'"
        " *-security_InRelease && touch partial",
        "the security archive's list is ",
        "cd /var/lib/apt/lists && mv /root/listed $(ls *-security_InRelease)",
    ),
    Break(
        "OS-05",
        "cp -L /usr/share/keyrings/debian-archive-keyring.gpg /etc/apt/keyrings/planted.gpg"
        " && sed -i 's#/usr/share/keyrings/debian-archive-keyring#/etc/apt/keyrings/planted#' /etc/apt/sources.list.d/debian.sources",
        "is bound to /etc/apt/keyrings/planted.gpg, among them /etc/apt/keyrings/planted.gpg",
        "sed -i 's#/etc/apt/keyrings/planted#/usr/share/keyrings/debian-archive-keyring#' /etc/apt/sources.list.d/debian.sources;"
        " rm /etc/apt/keyrings/planted.gpg",
    ),
]
