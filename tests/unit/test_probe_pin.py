"""Nothing of ours is told to somebody who serves another certificate than the host itself: neither a password nor a token."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from orchestrator.verification.probes import xmpp


@pytest.fixture
def somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[bytes]]]:
    """A TLS server with a certificate of its own; yields the certificate's hash and what it is told, as it comes."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    ]
    subprocess.run([*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context, told = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[bytes]()
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def serve() -> None:
            with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as line:
                told.append(line.recv(4096))

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        port = listening.getsockname()[1]
        monkeypatch.setattr(xmpp, "connect", lambda url, **how: connect(url, **{**how, "port": port}))
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        yield hashlib.sha256(der).hexdigest(), told
        server.join(20)


def _open(pin: str) -> None:
    asyncio.run(xmpp.Client("127.0.0.1", "meet.example").open(query="?room=r&token=SECRET", pin=pin))


def test_a_token_is_not_told_to_somebody_else(somebody: tuple[str, list[bytes]]) -> None:
    _, told = somebody
    with pytest.raises(xmpp.Refused, match="another certificate is served here"):
        _open("0" * 64)
    assert b"".join(told) == b""


def test_it_is_told_to_who_serves_the_pinned_one(somebody: tuple[str, list[bytes]]) -> None:
    """Which this server, no web server, answers with an end."""
    pin, told = somebody
    with pytest.raises(xmpp.NoAnswer):
        _open(pin)
    assert b"token=SECRET" in b"".join(told)
