"""What only shows from outside: each control turns when the host is changed, and is repaired. Nothing is mocked."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator.evidence.results import Result
from orchestrator.lab.lab import LabSite
from orchestrator.verification.runner import verify
from tests.scenarios.breaks import Break, Series, controls_of, failed, in_batches, name_of
from tests.scenarios.conftest import load, ssh

_NGINX = "/etc/nginx/sites-available/*.conf"
_HEADERS = "/etc/nginx/snippets/ratssaal-headers.conf"
# Looked at with every break here: what speaks of the same services from outside. Ports are scanned with their own breaks.
NEAR: tuple[str, ...] = (
    *("CRY-01", "CRY-02", "CRY-03", "CRY-04", "CRY-05", "CRY-07", "TRN-01", "TRN-02"),
    *("WEB-01", "WEB-02", "WEB-03", "WEB-05", "WEB-06"),
)
_TURN = "/etc/turnserver.conf"
_RESTART_TURN = "systemctl restart coturn && sleep 2"
_KEEP_TURN = f"cp -a {_TURN} /root/"
_GIVE_TURN_BACK = f"mv /root/turnserver.conf {_TURN} && {_RESTART_TURN}"
_PROSODY = "/etc/prosody/prosody.cfg.lua"
# Answers whatever it is told.
_UDP = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((str(), 123)); "
    "[s.sendto(*s.recvfrom(999)) for _ in iter(int, 1)]"
)
_WELL_KNOWN = "/usr/share/jitsi-meet/.well-known"
_OUT_OF_DATE = (
    f"mkdir {_WELL_KNOWN} && printf 'Contact: mailto:holes@example.org\\nExpires: 2020-01-01T00:00:00Z\\n'"
    f" > {_WELL_KNOWN}/security.txt"
)
_HAPROXY, _WEB = "/etc/haproxy/haproxy.cfg", "/etc/nginx/conf.d/ratssaal.conf"


def _another_server(name: str, port: int, condition: str, further: str) -> str:
    """Return what lets another server answer those whose TLS says a thing: HAProxy finds it beside the site's own."""
    server = f"server {{ listen 127.0.0.1:{port} ssl; server_name {name}; access_log off; {further} return 421; }}"
    return (
        f"echo '{server}' >> {_WEB} && sed -i 's/^    default_backend web/    use_backend {name} if {condition}\\n&/' {_HAPROXY}"
        f" && printf '\\nbackend {name}\\n    server {name} 127.0.0.1:{port}\\n' >> {_HAPROXY} && nginx -t -q"
        " && systemctl reload nginx haproxy && sleep 2"
    )


def _without_it(name: str) -> str:
    return f"sed -i '/{name}/d' {_WEB} {_HAPROXY} && systemctl reload nginx haproxy && sleep 2"


_OWN = "/etc/ratssaal/tls"
BREAKS: list[Break] = [
    Break(
        "CRY-01",
        f"sed -i 's/ssl_protocols .*;/ssl_protocols TLSv1.1 TLSv1.2 TLSv1.3;/; s/ssl_ciphers .*;/ssl_ciphers ALL:@SECLEVEL=0;/'"
        f" {_NGINX} && systemctl reload nginx && sleep 1",
        "TLSv1.1 spoken",
        also=("CRY-02",),
    ),
    Break(
        "CRY-01",
        _another_server(
            "planted.old",
            4714,
            "!{ req.ssl_sni -m found }",
            f"ssl_certificate {_OWN}/fullchain.pem; ssl_certificate_key {_OWN}/key.pem; ssl_ciphers ALL:@SECLEVEL=0;"
            " ssl_protocols TLSv1.1 TLSv1.2 TLSv1.3;",
        ),
        "no name:443",
        _without_it("planted.old"),
        also=("NET-01",),
        uses=_HAPROXY,
    ),
    Break(
        "CRY-03",
        "openssl req -x509 -newkey rsa:3072 -nodes -days 90 -subj /CN=intern -addext subjectAltName=DNS:akten.intern.example"
        " -keyout /etc/nginx/other.key -out /etc/nginx/other.pem 2>&1 && "
        + _another_server(
            "planted.intern",
            4715,
            "{ req.ssl_sni -i other.example }",
            "ssl_certificate /etc/nginx/other.pem; ssl_certificate_key /etc/nginx/other.key;",
        ),
        "another certificate, for akten.intern.example",
        _without_it("planted.intern"),
        also=("NET-01",),
        uses=_HAPROXY,
    ),
    Break(
        "CRY-02",
        "sed -i 's/default-bind-ciphers /&ECDHE-ECDSA-AES128-SHA256:/' /etc/haproxy/haproxy.cfg"
        " && systemctl reload haproxy && sleep 2",
        "TLSv1.2 takes TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    ),
    Break(
        "CRY-02",
        "sed -i 's/^ssl_ecdh_curve .*/ssl_ecdh_curve secp224r1:prime256v1;/' /etc/nginx/conf.d/ratssaal.conf"
        " && systemctl reload nginx && sleep 1",
        "TLSv1.2 takes the groups secp224r1",
    ),
    Break(
        "CRY-03",
        "cd /etc/ratssaal/tls && cp -a fullchain.pem /root/ && openssl req -x509 -key key.pem -days 90 -subj /CN=other"
        " -out fullchain.pem",
        "not the one on the host's disk",
        "mv /root/fullchain.pem /etc/ratssaal/tls/",
    ),
    Break(
        "CRY-02",
        f"sed -i 's/^    ciphersuites = \"/&TLS_CHACHA20_POLY1305_SHA256:/; s/^    curveslist = \"/&secp224r1:/' {_PROSODY}"
        " && systemctl restart prosody && sleep 8",
        "TLSv1.3 takes the suite TLS_CHACHA20_POLY1305_SHA256",
        more=("TLSv1.2 takes the group secp224r1",),
    ),
    Break(
        "CRY-03",
        "cd /etc/ratssaal/tls-internal && cp -a fullchain.pem /root/internal.pem && openssl req -x509 -key key.pem -days 90"
        " -subj /CN=other -out fullchain.pem && systemctl restart prosody && sleep 8",
        "verification says 62 (hostname mismatch)",
        "mv /root/internal.pem /etc/ratssaal/tls-internal/fullchain.pem && systemctl restart prosody && sleep 8",
    ),
    # All at once, for each look scans 65535 ports over both families.
    Break(
        "NET-02",
        "systemd-run -q --unit=planted python3 -m http.server 4712 --bind ::"
        f" && systemd-run -q --unit=planted-udp python3 -c '{_UDP}'"
        " && nft add rule inet ratssaal input meta nfproto ipv6 tcp dport 4712 accept"
        " && nft add rule inet ratssaal input udp dport 123 accept"
        " && nft insert rule inet ratssaal input meta nfproto ipv4 tcp dport 80 drop && sleep 1",
        "4712/tcp open",
        "systemctl stop planted planted-udp; systemctl restart ratssaal-firewall",
        also=("NET-01", "NET-03", "CRY-04"),
        more=("80/tcp is filtered", "123/udp open"),
    ),
    Break(
        "TRN-01",
        f"{_KEEP_TURN} && sed -i 's/^use-auth-secret/no-auth/; /^static-auth-secret/d' {_TURN} && {_RESTART_TURN}",
        "a relay without credentials is granted",
        _GIVE_TURN_BACK,
        uses=_TURN,
    ),
    Break(
        "TRN-01",
        f"{_KEEP_TURN} && sed -i 's/^use-auth-secret/lt-cred-mech/; s/^static-auth-secret=.*/user=town:hall/' {_TURN}"
        f" && {_RESTART_TURN}",
        "a relay with the credentials of a guest is refused with 401",
        _GIVE_TURN_BACK,
        also=("TRN-02",),
        uses=_TURN,
    ),
    Break(
        "TRN-02",
        # Towards loopback coturn has a refusal of its own.
        f"sed -i '/^denied-peer-ip/d; $a allow-loopback-peers' {_TURN} && {_RESTART_TURN}",
        "IPv4 relay: sending to 10.0.0.1 is granted",
        uses=_TURN,
        more=(
            *(f"IPv4 relay: sending to {peer} is granted" for peer in ("127.0.0.1", "192.168.0.1", "169.254.169.254")),
            *(
                f"IPv6 relay: sending to {peer} is granted"
                for peer in ("::1", "fd00::1", "fe80::1", "::ffff:127.0.0.1")
            ),
            # Both ends of the administration's networks.
            *(f"IPv4 relay: sending to 198.18.<lab>.{end} is granted" for end in (0, 255)),
            *(f"IPv6 relay: sending to 2001:2:0:<lab>:{end} is granted" for end in (":", "ffff:ffff:ffff:ffff")),
        ),
    ),
    Break(
        "CRY-04",
        "sed -i 's#^    return 301 https.*#    location = /config.js { return 200 x; } location / { return 301 https://$host/; }#'"
        f" {_NGINX} && sed -i 's/max-age=[0-9]*/max-age=3600/' {_HEADERS} && systemctl reload nginx && sleep 1",
        "/config.js (IPv4) answers 200",
        more=(
            "/config.js (IPv6) answers 200",
            "http://other.example/ (IPv4) answers 301 to https://other.example/",
            "Strict-Transport-Security max-age=3600",
        ),
    ),
    Break(
        "WEB-01",
        "sed -i 's/display-capture=(self)/display-capture=*/; s/camera=(self)/camera=()/; s#img-src .self.#& https://third.example#;"
        f" /X-Content-Type-Options/d' {_HEADERS} && systemctl reload nginx && sleep 1;"
        " sed -i 's#</body>#<img src=\"http://third.example/x.png\"></body>#' /usr/share/ratssaal/pages/impressum.html;"
        # Whoever comes by IPv6 gets another one.
        ' sed -i \'s#^    location ~ ^/(impressum#    location = /barrierefreiheit { if ($remote_addr ~ ":") { return 200 "another"; }'
        " root /usr/share/ratssaal/pages; try_files /barrierefreiheit.html =404; }\\n&#'"
        f" {_NGINX} && nginx -t -q && systemctl reload nginx && sleep 1",
        "Permissions-Policy display-capture *",
        more=(
            "Permissions-Policy camera ()",
            "img-src 'self' https://third.example",
            "X-Content-Type-Options not sent",
            "/barrierefreiheit is another over",
            "/impressum (IPv4) answers 200 and fetches http://third.example/x.png",
        ),
    ),
    # As in upstream's own file: the site answers whoever has no server of its own. What it answers names whom it was asked for.
    Break(
        "WEB-01",
        f"sed -i '/^# Who names nobody/,/^}}/d' {_NGINX} && echo 'add_header X-Asked $http_x_forwarded_host always;' >> {_HEADERS}"
        " && nginx -t -q && systemctl reload nginx && sleep 1",
        "https://other.example/ (IPv4) answers 200",
        uses=_HAPROXY,
        more=(
            "https://198.18.<lab>.10/config.js answers 200",
            "(IPv6, -H 'Host: other.example') answers 200",
            "(IPv4, --request-target https://other.example/http-bind) answers 200",
            "-H 'X-Forwarded-Host: other.example') repeats it",
        ),
    ),
    Break(
        "CRY-05",
        f"echo 'ssl_early_data on;' >> /etc/nginx/conf.d/ratssaal.conf && sed -i '/ssl_session_tickets off;/d' {_NGINX}"
        " && systemctl reload nginx && sleep 1",
        "bytes of early data taken",
    ),
    Break(
        "WEB-02",
        f"echo 'add_header Set-Cookie \"planted=1; Path=/; Secure\" always;' >> {_HEADERS} && systemctl reload nginx && sleep 1",
        "sets the cookie planted without HttpOnly, SameSite",
    ),
    Break(
        "WEB-03",
        f"cp -a /etc/nginx /root/nginx && sed -i 's/server_tokens off;/server_tokens on;/' {_NGINX} {_HEADERS}"
        " && sed -i 's/index index.html index.htm;/& autoindex on;/; s#location ~ (.*#location ~ /nothing-of-the-kind {#'"
        f" {_NGINX} && echo planted > /usr/share/jitsi-meet/.env && systemctl reload nginx && sleep 1",
        "/.env (IPv4) answers 200 with a file",
        "rm -r /etc/nginx /usr/share/jitsi-meet/.env && mv /root/nginx /etc/ && systemctl reload nginx && sleep 1",
        more=("tells server: nginx/", "/libs/ (IPv6) lists its files"),
        alone=True,
    ),
    Break(
        "WEB-05",
        f"sed -i '/X-Robots-Tag/d' {_HEADERS} && sed -i 's/Disallow/Allow/' {_NGINX} && systemctl reload nginx && sleep 1",
        "X-Robots-Tag not sent",
        more=("/robots.txt (IPv6) answers 200: user-agent: * allow: /",),
    ),
    # WEB-03 speaks of it too: a file that nobody declared.
    Break(
        "WEB-06",
        _OUT_OF_DATE,
        "expires 2020-01-01T00:00:00Z",
        f"rm -r {_WELL_KNOWN}",
        also=("WEB-03",),
        repaired=Result.NOT_TESTED,
    ),
]


@pytest.fixture(scope="module")
def series(site: LabSite) -> Series:
    """What the rows have done to the host so far."""
    return Series(site)


@pytest.mark.parametrize("batch", in_batches(BREAKS), ids=name_of)
def test_controls_turn(series: Series, batch: tuple[Break, ...]) -> None:
    near = tuple(sorted({*NEAR, *controls_of(batch)}))
    assert series.turn(*batch, controls=near) == controls_of(batch)


def test_one_converge_repairs_it_all(series: Series) -> None:
    assert series.repair(NEAR) == {}


def test_the_whole_scan_goes_unnoticed_by_sshd_and_locks_nobody_out(site: LabSite) -> None:
    """OpenSSH 9.8 and later turn away for minutes who connects again and again without logging in.

    A public address of the host that the inventory does not name is not scanned, and told: nobody's, once that of 6to4 relays.
    """
    since = ssh(site, "date +%s; ip address add 192.88.99.1/32 dev lo").split()[0]
    try:
        (finding,) = verify(load(site), controls=("NET-02",)).findings
    finally:
        ssh(site, "ip address del 192.88.99.1/32 dev lo")
    assert finding.result is Result.NOT_TESTED, finding
    assert finding.reason.startswith("192.88.99.1, a public address of the host, was not looked at (")
    assert "; " not in finding.reason
    for address in (site.hosts[0].address, site.hosts[0].address6):
        assert f"{address}: of 65535 TCP ports, looked at half-open, are open: 22, 80, 443" in finding.seen
    namespace = f"rs-{site.path.name}-out"
    shown = subprocess.run(
        ["ip", "netns", "exec", namespace, "hostname", "-I"], capture_output=True, text=True, check=True
    )
    log = ssh(site, f"journalctl -u ssh --since=@{since} --output=cat")
    assert "Accepted publickey" in log  # the checks' own log-in is there, so the log is the right one
    for ours in shown.stdout.split():
        assert ours not in log
    argv = ["ip", "netns", "exec", namespace, "ssh", "-i", str(site.key_file), "-o", "BatchMode=yes"]
    argv += ["-o", f"UserKnownHostsFile={site.known_hosts}", f"root@{site.hosts[0].address}", "echo let in"]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout == "let in\n"


@pytest.mark.parametrize("family", ["IPv6", "IPv4"])
def test_a_vantage_point_without_a_way_to_one_family_blames_nobody(site: LabSite, family: str) -> None:
    """As an office with IPv4 alone. What was not looked at is said; what one address is enough for is looked at over the other."""
    host = site.hosts[0]
    address = host.address6 if family == "IPv6" else host.address
    route = ["unreachable", f"{address}/{128 if family == 'IPv6' else 32}"]
    change = ["ip", "-n", host.network.outside, "-6" if family == "IPv6" else "-4", "route"]
    subprocess.run([*change, "add", *route], check=True)
    try:
        report = verify(load(site), controls=(*NEAR, "AVL-02", "TRN-04", "VKS-01", "VKS-02", "VKS-03", "VKS-11"))
    finally:
        subprocess.run([*change, "del", *route], check=True)
    assert failed(report) == {}
    results = {finding.control: finding.result for finding in report.findings if finding.vantage != "inside"}
    for control in ("CRY-01", "CRY-04", "WEB-01", "AVL-02"):
        assert results[control] is Result.NOT_TESTED, control
    one_is_enough = ("VKS-01", "VKS-02", "VKS-03", "VKS-11", "TRN-04")
    assert {control: results[control] for control in one_is_enough} == dict.fromkeys(one_is_enough, Result.PASS)
    reasons = "; ".join(finding.reason for finding in report.findings if finding.control == "WEB-01")
    assert f"the vantage point has no way to {address}" in reasons
