"""The machine's own time for a lab's virtual machines, over NTP on the lab's bridge: no lab needs the Internet's clocks.

Containers need none: their clock is this machine's.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

from orchestrator.lab.network import Network
from orchestrator.lab.servers import Server

PORT = 123
SERVER = Server("orchestrator.lab.timeserver", "timeserver.log")
# Seconds from NTP's epoch (1900) to Unix's.
_EPOCH = 2208988800
_CLIENT, _SERVER = 3, 4
# Behind real time servers, as a clock that follows one itself.
_STRATUM = 10
# Of a microsecond, as a power of two.
_PRECISION = -20


def serve(folder: Path, network: Network) -> bool:
    """Serve the time on the bridge until the lab ends.

    False where it does not come up, as where another time server holds the port on all addresses.
    """
    return SERVER.serve(folder, [network.gateway], lambda: _answers(network.gateway))


def answer(asked: bytes, received: float, sent: float) -> bytes:
    """Return the answer to a client's question, b"" where it is none (RFC 5905 7.3). Pure."""
    if len(asked) < 48 or asked[0] & 7 != _CLIENT:
        return b""
    version, poll = asked[0] >> 3 & 7, asked[2]
    head = struct.pack("!BBBbII4s", version << 3 | _SERVER, _STRATUM, poll, _PRECISION, 0, 0, b"LOCL")
    # When the clock was last set, when the client sent (as it said), when that came in, when this goes out.
    return head + _stamp(received) + asked[40:48] + _stamp(received) + _stamp(sent)


def _stamp(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("!II", (whole + _EPOCH) % 2**32, int((seconds - whole) * 2**32))


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(1)
        try:
            line.connect((address, PORT))
            line.send(bytes([4 << 3 | _CLIENT]) + bytes(47))
            return len(line.recv(100)) == 48
        except OSError:
            return False


def main(address: str) -> None:
    """Answer for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((address, PORT))
        while True:
            asked, client = line.recvfrom(1024)
            if told := answer(asked, time.time(), time.time()):
                line.sendto(told, client)


if __name__ == "__main__":
    main(sys.argv[1])
