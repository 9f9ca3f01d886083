"""What is done to a host so that one control notices: kernel, limits, clock, packages, dumps, accounts, sudo, TURN, signalling."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import Break

_SYSCTL = "/etc/sysctl.d/80-ratssaal.conf"
_TURN = "/etc/turnserver.conf"
_PROSODY = "/etc/prosody/prosody.cfg.lua"
# A reload does not reach this setting; who talked to Prosody talks to it anew.
_RESTART_PROSODY = "systemctl restart prosody && sleep 2 && systemctl restart jicofo jitsi-videobridge2 && sleep 10"
# A time service that asks nobody: chronyd runs without the right to set the clock, which a container lacks.
_CLOCK = "systemd-run -q --unit=planted chronyd -x -n -f /dev/null && sleep 2"
_SUDO = (
    "touch /usr/local/bin/planted && chmod 0777 /usr/local/bin/planted"
    " && echo '%planted ALL=(ALL) NOPASSWD: /usr/local/bin/planted' > /etc/sudoers.d/planted"
)
_ACCOUNTS = (
    "useradd -o -u 0 -g 0 -M planted; sed -i 's/^turnserver:[^:]*:/turnserver::/' /etc/shadow;"
    " usermod -s /bin/bash prosody"
)

BREAKS = [
    Break(
        "NET-09",
        "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv6.conf.host0.accept_redirects=1"
        f" && sed -i 's/all.send_redirects = 0/all.send_redirects = 1/' {_SYSCTL}",
        "net.ipv4.conf.all.rp_filter is 0",
        more=(
            "net.ipv6.conf.host0.accept_redirects is 1",
            "net.ipv4.conf.all.send_redirects is 1 in the files of sysctl.d",
        ),
    ),
    # In a container the kernel's part stays untested, so without a fault these never pass there.
    Break(
        "OS-06",
        f"sed -i 's/kptr_restrict = 2/kptr_restrict = 0/' {_SYSCTL}",
        "kernel.kptr_restrict is 0 in the files of sysctl.d",
        repaired=Result.NOT_TESTED,
    ),
    Break(
        "OS-06",
        "mkdir -p /etc/default/grub.d && echo 'GRUB_CMDLINE_LINUX=\"quiet mitigations=off\"' > /etc/default/grub.d/planted.cfg",
        "the boot loader's files say mitigations=off",
        "rm -r /etc/default/grub.d",
        repaired=Result.NOT_TESTED,
    ),
    Break(
        "NET-10",
        "sed -i '/^LimitNOFILE/d' /etc/systemd/system/coturn.service.d/10-ratssaal.conf && systemctl daemon-reload"
        f" && sed -i 's/rmem_max = 10485760/rmem_max = 212992/' {_SYSCTL}",
        "coturn: LimitNOFILESoft 1024",
        more=("net.core.rmem_max is 212992 in the files of sysctl.d",),
        repaired=Result.NOT_TESTED,
    ),
    Break(
        "OS-09",
        "mount -o remount,suid,dev /tmp",
        "/tmp is mounted rw,",
        "mount -o remount,nosuid,nodev /tmp",
    ),
    Break("OS-10", _CLOCK, "chrony says: Not synchronised", "systemctl stop planted", repaired=Result.NOT_TESTED),
    Break(
        "OS-11",
        "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends inetutils-telnetd >/dev/null 2>&1",
        "inetutils-telnetd is installed",
    ),
    Break(
        "OS-12",
        "sed -i '/^LimitCORE/d' /etc/systemd/system/coturn.service.d/80-ratssaal-sandbox.conf && systemctl daemon-reload"
        " && systemctl restart coturn && rm /etc/security/limits.d/80-ratssaal.conf && sleep 2",
        "coturn: core dumps up to",
        more=("logins: core dumps up to infinity",),
    ),
    Break(
        "OS-12",
        "touch -d '4 days ago' /var/cache/jicofo/java_pid7.hprof",
        "/var/cache/jicofo/java_pid7.hprof is older than 3 days",
        "rm /var/cache/jicofo/java_pid7.hprof",
    ),
    Break(
        "ACC-02",
        _ACCOUNTS,
        "planted is root by its user ID 0",
        "userdel -f planted; sed -i 's/^turnserver::/turnserver:!:/' /etc/shadow; usermod -s /usr/sbin/nologin prosody",
        more=("turnserver needs no password (/etc/shadow)", "the service account prosody logs in with /bin/bash"),
    ),
    Break(
        "ACC-04",
        _SUDO,
        "sudo asks %planted for no password (/usr/local/bin/planted)",
        "rm /etc/sudoers.d/planted /usr/local/bin/planted",
        more=("/usr/local/bin/planted, which sudo runs, is 777 root:root",),
    ),
    Break("ACC-08", "rm /etc/profile.d/ratssaal-idle.sh", "an idle shell ends never"),
    Break(
        "TRN-03",
        f"cp -a {_TURN} /root && sed -i '/^no-software-attribute/d; s/^user-quota=.*/user-quota=0/' {_TURN}"
        " && systemctl restart coturn && sleep 2",
        "user-quota 0",
        f"mv /root/turnserver.conf {_TURN} && systemctl restart coturn && sleep 2",
        more=("names Coturn",),
        uses=_TURN,
    ),
    Break(
        "TRN-05",
        f"cp -a {_TURN} /root && sed -i 's#^log-file=.*#log-file=/var/lib/turn/turn.log#' {_TURN}"
        " && systemctl restart coturn && sleep 2",
        "it writes /var/lib/turn/turn.log",
        f"mv /root/turnserver.conf {_TURN} && systemctl restart coturn && sleep 2; rm -f /var/lib/turn/turn.log",
        uses=_TURN,
    ),
    Break(
        "CRY-07",
        f"sed -i 's/c2s_require_encryption = true/c2s_require_encryption = false/' {_PROSODY} && {_RESTART_PROSODY}",
        "TLS not required",
        f"sed -i 's/c2s_require_encryption = false/c2s_require_encryption = true/' {_PROSODY} && {_RESTART_PROSODY}",
    ),
]
