"""A client of Prosody's HTTP binding that runs on the host itself: what a stranger is offered before any log-in."""

from __future__ import annotations

import json
import shlex

from orchestrator.verification.prosody import SERVED

# Speaks to Prosody's own port, as nginx does; in whose name it comes stands in a header that Prosody believes nginx only.
# 192.0.2.0/24 belongs to nobody (RFC 5737).
_CLIENT = r"""
import base64, http.client, json, random, re, sys
job = json.loads(sys.argv[1])
class Client:
    def __init__(self, domain, source):
        self.line = http.client.HTTPConnection("127.0.0.1", 5280, timeout=5)
        self.domain, self.source, self.rid, self.sid = domain, source, random.randrange(2**20, 2**40), ""
        made = self.send("", f"to='{domain}' wait='1' hold='1' ver='1.6' xml:lang='en' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'")
        self.sid = (re.findall(r"\bsid=['\"]([^'\"]+)", made) or [""])[0]
        self.features = made if "features" in made else made + (self.send("") if self.sid else "")
    def send(self, inner, further=""):
        self.rid += 1
        sid = f" sid='{self.sid}'" if self.sid else ""
        body = f"<body rid='{self.rid}'{sid} {further} xmlns='http://jabber.org/protocol/httpbind'>{inner}</body>"
        headers = {"Host": job["host"], "Content-Type": "text/xml", "X-Forwarded-For": self.source}
        self.line.request("POST", "/http-bind", body, headers)
        return self.line.getresponse().read().decode(errors="replace")
    def close(self):
        if self.sid:
            self.send("", "type='terminate'")
        self.line.close()
"""
_REGISTRATION = r"""
from concurrent.futures import ThreadPoolExecutor
def asked(domain):
    client = Client(domain, "192.0.2.76")
    query = f"<iq type='get' id='r1' to='{domain}' xmlns='jabber:client'><query xmlns='jabber:iq:register'/></iq>"
    told = client.send(query) if client.sid else ""
    given = re.search(r"<iq[^>]*type=['\"]result['\"]", told)
    found = {
        "session": bool(client.sid), "offered": "iq-register" in client.features, "form": bool(given),
        "ways": re.findall(r"<mechanism>([^<]*)</mechanism>", client.features),
    }
    try:
        client.close()
    except (OSError, http.client.HTTPException):
        pass
    return found
hosts, named, said = served(job["domains"])
with ThreadPoolExecutor(8) as pool:
    print(json.dumps({"named": named, "said": said, "domains": dict(zip(hosts, pool.map(asked, hosts)))}))
"""
_GUESSES = r"""
name, found = f"ratssaal-probe-{random.randrange(2**40):x}", []
source = "192.0.2." + str(random.randrange(80, 250))
client = Client(job["host"], source)
for _ in range(job["tries"]):
    word = base64.b64encode(f"\0{name}\0{random.randrange(2**60):x}".encode()).decode()
    told = client.send(f"<auth mechanism='PLAIN' xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{word}</auth>") if client.sid else ""
    if "<failure" not in told and client.sid:
        told += client.send("")
    condition = re.search(r"<failure[^>]*><([a-z-]+)", told)
    found.append(condition.group(1) if condition else "closed" if "terminate" in told or not told else "no answer")
    if found[-1] != "not-authorized":
        break
try:
    client.close()
except (OSError, http.client.HTTPException):
    pass
print(json.dumps(found))
"""


def registration(host: str, domains: list[str]) -> str:
    """Return the command that asks each domain that Prosody serves for an account; prints what came of it as JSON.

    `domains` are asked where Prosody does not tell which it serves.
    """
    return _command(SERVED + _REGISTRATION, {"host": host, "domains": domains})


def guesses(host: str, tries: int) -> str:
    """Return the command that tries wrong passwords of an account that does not exist; prints each refusal as JSON."""
    return _command(_GUESSES, {"host": host, "tries": tries})


def _command(script: str, job: dict[str, object]) -> str:
    return f"python3 -c {shlex.quote(_CLIENT + script)} {shlex.quote(json.dumps(job, sort_keys=True))}"
