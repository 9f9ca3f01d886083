"""What is done to a host so that one control notices: kernel, limits, clock, packages, dumps, accounts, sudo, TURN, signalling."""

from __future__ import annotations

from orchestrator.evidence.results import Result
from tests.scenarios.breaks import Break
from tests.scenarios.conftest import RELOAD_SSH

_SYSCTL = "/etc/sysctl.d/99-zz-ratssaal.conf"
_DEVICES = "/etc/modprobe.d/80-ratssaal-devices.conf"
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends"
_TURN = "/etc/turnserver.conf"
_PROSODY = "/etc/prosody/prosody.cfg.lua"
# A reload does not reach this setting; who talked to Prosody talks to it anew.
_RESTART_PROSODY = "systemctl restart prosody && sleep 2 && systemctl restart jicofo jitsi-videobridge2 && sleep 10"
# A time service that asks nobody: chronyd runs without the right to set the clock, which a container lacks.
_CLOCK = "systemd-run -q --unit=clock chronyd -x -n -f /dev/null && sleep 2"
_SUDO = (
    "touch /usr/local/bin/planted && chmod 0777 /usr/local/bin/planted"
    " && echo '%planted ALL=(ALL) NOPASSWD: /usr/local/bin/planted' > /etc/sudoers.d/planted"
    " && mkdir -p /opt/planted && chown nobody /opt/planted"
    " && echo '%planted ALL=(ALL) /opt/planted/later' >> /etc/sudoers.d/planted"
)
_ACCOUNTS = (
    "useradd -o -u 0 -g 0 -M planted; sed -i 's/^turnserver:[^:]*:/turnserver::/' /etc/shadow;"
    " usermod -s /bin/bash prosody"
)
_SITE = "/etc/nginx/sites-available/*.conf"
_HOST = "/etc/prosody/conf.avail/meet.*.cfg.lua"
_KEYS = "/root/.ssh/authorized_keys"
_SSHD = "/etc/ssh/sshd_config.d/00-ratssaal.conf"
_JVB = "/etc/jitsi/videobridge/jvb.conf"
_RESTART_JVB = "systemctl restart jitsi-videobridge2 && sleep 8"
# A guest who logs in to Prosody's own port without TLS, as somebody on the host or a bridge's could where a domain takes it.
_LOOSE_GUEST = (
    f"sed -i 's/^VirtualHost \"guest[.].*/&\\n    c2s_require_encryption = false/' {_HOST} && {_RESTART_PROSODY}"
)
_PLAIN = (
    "domain=$(basename /etc/prosody/conf.avail/meet.*.cfg.lua .cfg.lua) && systemd-run -q --unit=guest python3 -c "
    '\'import socket, sys, time; s = socket.create_connection(("127.0.0.1", 5222)); '
    's.sendall(f"<stream:stream to=\\"guest.{sys.argv[1]}\\" version=\\"1.0\\" xmlns=\\"jabber:client\\" '
    'xmlns:stream=\\"http://etherx.jabber.org/streams\\">".encode()); time.sleep(1); '
    's.sendall(b"<auth xmlns=\\"urn:ietf:params:xml:ns:xmpp-sasl\\" mechanism=\\"ANONYMOUS\\"/>"); time.sleep(900)\' $domain'
    " && sleep 3"
)

# A package of the scanner's name without a program: the real one takes a minute to fetch.
_SCANNER = (
    "mkdir -p /root/scanner/DEBIAN && cd /root && printf 'Package: clamav-daemon\\nVersion: 99\\nArchitecture: all\\n"
    "Maintainer: x <x@localhost>\\nDescription: x\\n' > scanner/DEBIAN/control && dpkg-deb -b scanner >/dev/null"
    " && dpkg -i scanner.deb >/dev/null"
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
        repaired=Result.NOT_TESTED,
    ),
    Break(
        "NET-06",
        "nft add rule inet ratssaal input ip saddr 203.0.113.0/24 accept && nft add rule inet ratssaal input tcp dport 22 accept",
        "22/tcp (SSH) is let in from anywhere",
        # A rule without a port opens coturn's inner one, too.
        also=("NET-03", "NET-05"),
        more=("22/tcp (SSH) is let in from 203.0.113.0/24",),
    ),
    Break(
        "NET-11",
        f"sed -i '/limit_req zone=rooms/d; /limit_req zone=nowhere/d; /limit_req zone=bosh/d' {_SITE}"
        " && systemctl reload nginx && sleep 1",
        "signalling by BOSH: without limit",
        more=("rooms: without limit", "addresses that lead nowhere: none refused of 4800"),
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
        "mkdir -p /etc/default/grub.d && echo 'GRUB_CMDLINE_LINUX=\"quiet mitigations=off\" # slow' > /etc/default/grub.d/planted.cfg",
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
        "mount -o remount,suid,dev,exec /tmp && mount -o remount,bind,nosuid,exec /dev && umount /home"
        " && mount -o remount,bind,nosuid,nodev,exec /var/log",
        "/tmp is mounted rw;",
        more=(
            "/dev is mounted rw,nosuid;",
            "/home is no mount of its own: / is mounted rw",
            "/var/log is mounted rw,nosuid,nodev;",
        ),
    ),
    Break(
        "OS-06",
        "mount -o remount,hidepid=off /proc",
        "any user sees the processes of others in /proc",
        repaired=Result.NOT_TESTED,
    ),
    Break("OS-10", _CLOCK, "chrony says: Not synchronised", "systemctl stop clock", repaired=Result.NOT_TESTED),
    Break(
        "OS-11",
        f"{_APT} install inetutils-telnetd >/dev/null 2>&1",
        "inetutils-telnetd is installed",
        repaired=Result.NOT_TESTED,
    ),
    # A container of the lab has neither modprobe nor modules; its files count where it has the one.
    Break(
        "OS-11",
        f"{_APT} install kmod >/dev/null 2>&1 && cp -p {_DEVICES} /root"
        f" && sed -i '/usb-storage/s#/bin/true#/sbin/modprobe --ignore-install usb-storage#' {_DEVICES}",
        "modprobe loads usb-storage",
        f"mv /root/80-ratssaal-devices.conf {_DEVICES}; {_APT} purge kmod >/dev/null 2>&1",
        repaired=Result.NOT_TESTED,
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
    # Upstream's start script asks for heap dumps in /tmp, and the last option of a kind wins.
    Break(
        "OS-12",
        "sed -i 's/-XX:-HeapDumpOnOutOfMemoryError/-XX:+HeapDumpOnOutOfMemoryError/' /etc/jitsi/videobridge/config"
        f" && {_RESTART_JVB}",
        "jitsi-videobridge2 writes heap dumps to /tmp",
        more=("jitsi-videobridge2: heap dumps stay 10d",),
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
        "rm /etc/sudoers.d/planted /usr/local/bin/planted; rmdir /opt/planted",
        more=(
            "/usr/local/bin/planted, which sudo runs, is 777 root:root",
            "/opt/planted, where a program that sudo would run does not exist, is 755 nobody:root",
        ),
    ),
    Break(
        "ACC-04",
        "DEBIAN_FRONTEND=noninteractive pam-auth-update --disable pwquality && usermod -p '$1$salt$planted' operator",
        "a new password is not tested (pam_pwquality)",
        "usermod -p '!' operator; DEBIAN_FRONTEND=noninteractive pam-auth-update --enable pwquality",
        more=("operator's password is hashed by MD5",),
    ),
    Break(
        "ACC-03",
        f"cp -a {_KEYS} /root/kept && ssh-keygen -q -t ed25519 -N '' -f /root/stranger && cat /root/stranger.pub >> {_KEYS}"
        " && useradd -m -s /bin/bash stranger && echo stranger:stranger | chpasswd",
        "a key that nobody declared opens root: SHA256:",
        f"userdel -rf stranger; mv /root/kept {_KEYS}; rm -f /root/stranger*",
        more=("stranger may log in and is nobody's",),
    ),
    Break(
        "ACC-06",
        f"cp -a {_SSHD} /root/sshd && cp -a /etc/pam.d/sshd /root/pam-sshd && sed -i 's/^MaxStartups.*/MaxStartups 1000/;"
        f" /^PerSourceMaxStartups/d; s/^PerSourcePenalties.*/PerSourcePenalties no/' {_SSHD}"
        f" && sed -i '1i auth required pam_faillock.so preauth even_deny_root' /etc/pam.d/sshd && {RELOAD_SSH}",
        "sshd: connections without a log-in 1000",
        f"mv /root/pam-sshd /etc/pam.d/sshd; mv /root/sshd {_SSHD} && {RELOAD_SSH}",
        more=("of one address none", "sshd: penalties no", "pam_faillock locks root after attempts of strangers"),
    ),
    Break(
        "ACC-06",
        f"sed -i 's/\"ratssaal_logins\";//' {_HOST} && {_RESTART_PROSODY}",
        "Prosody looked at 11 wrong passwords in a row, and at more",
        uses="Prosody",
    ),
    Break(
        "ACC-07",
        f'cp -a {_PROSODY} /root && sed -i \'s/^modules_enabled = {{/& "register_ibr";/; s/^modules_disabled.*//;'
        f" s/^allow_registration = false/allow_registration = true/' {_PROSODY} && {_RESTART_PROSODY}",
        "lets strangers make an account",
        f"mv /root/prosody.cfg.lua {_PROSODY} && {_RESTART_PROSODY}",
        repaired=Result.NOT_TESTED,
        uses="Prosody",
    ),
    Break("ACC-08", "rm /etc/profile.d/ratssaal-idle.sh", "an idle shell ends never"),
    Break(
        "TRN-03",
        f"cp -a {_TURN} /root && sed -i '/^no-software-attribute/d; s/^user-quota=.*/user-quota=0/; /^max-bps/d' {_TURN}"
        " && systemctl restart coturn && sleep 2",
        "user-quota 0",
        f"mv /root/turnserver.conf {_TURN} && systemctl restart coturn && sleep 2",
        more=("max-bps not set", "names Coturn"),
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
    Break("OS-13", "systemctl stop ratssaal-integrity.timer", "(ratssaal-integrity.timer) is inactive"),
    Break(
        "OS-13",
        "touch -d '3 days ago' /var/lib/aide/aide.db && chmod 0644 /var/lib/aide/aide.db",
        "last compared 72 hours ago",
        "systemctl start ratssaal-integrity.service",
        more=("what it is compared with is 644 root",),
    ),
    # It makes no new one by itself: what was planted meanwhile would be in it.
    Break(
        "OS-13",
        "mv /var/lib/aide/aide.db /root; ! systemctl start ratssaal-integrity.service 2>/dev/null && ! test -e /var/lib/aide/aide.db",
        "is gone (/var/lib/aide/aide.db)",
        "mv /root/aide.db /var/lib/aide/ && touch -d '1 day ago' /var/lib/aide/aide.db"
        " && systemctl start ratssaal-integrity.service",
        more=("the last comparison failed",),
    ),
    Break(
        "OS-14",
        _SCANNER,
        "clamav-daemon is inactive",
        "dpkg -P clamav-daemon >/dev/null; rm -r /root/scanner /root/scanner.deb",
        repaired=Result.NOT_TESTED,
    ),
    Break(
        "CRY-08",
        f"{_LOOSE_GUEST} && {_PLAIN} && cp -a {_JVB} /root"
        f" && sed -i 's/USERNAME = \"jvb\"/& \\n DISABLE_CERTIFICATE_VERIFICATION = true/' {_JVB}"
        f" && {_RESTART_JVB}",
        "a session from 127.0.0.1 at Prosody is insecure",
        f"systemctl stop guest; mv /root/jvb.conf {_JVB}; sed -i '/c2s_require_encryption = false/d' {_HOST}"
        f" && {_RESTART_PROSODY}",
        also=("CRY-07",),
        more=("the bridge talks to Prosody with disable-certificate-verification true",),
        uses="Prosody",
    ),
    Break(
        "CRY-07",
        f"sed -i 's/c2s_require_encryption = true/c2s_require_encryption = false/' {_PROSODY} && {_RESTART_PROSODY}",
        "TLS not required",
        f"sed -i 's/c2s_require_encryption = false/c2s_require_encryption = true/' {_PROSODY} && {_RESTART_PROSODY}",
        uses="Prosody",
    ),
]
