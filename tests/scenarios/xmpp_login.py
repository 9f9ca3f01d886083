"""Runs on a lab host, by standard input: a log-in by BOSH at the public address; prints the server's answers.

Arguments: the domain, the SASL mechanism, a query for the address (a token), and for PLAIN a user and a password.
"""

import base64
import re
import sys
import urllib.request

domain, mechanism, query, *account = sys.argv[1:]
host = domain.removeprefix("guest.")
address = f"https://{host}/http-bind{query}"


def post(body: str) -> str:
    """Send one BOSH body and return the answer (XEP-0124)."""
    request = urllib.request.Request(address, body.encode(), {"Content-Type": "text/xml; charset=utf-8"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


SPACE = "xmlns='http://jabber.org/protocol/httpbind'"
opening = post(
    f"<body {SPACE} rid='1000' to='{domain}' wait='5' hold='1' ver='1.6' xml:lang='en' "
    "xmlns:xmpp='urn:xmpp:xbosh' xmpp:version='1.0'/>"
)
print(opening)
sid = re.search(r"sid=['\"]([^'\"]+)", opening)
if sid:
    initial = base64.b64encode("\0".join(["", *account]).encode()).decode() if account else ""
    auth = f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{initial}</auth>"
    print(post(f"<body {SPACE} rid='1001' sid='{sid.group(1)}'>{auth}</body>"))
