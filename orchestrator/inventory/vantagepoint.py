"""Where outside checks look from, as the site declares it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class VantagePoint:
    """A parsed `verification_vantage`: the control node (`local`), one of its network namespaces (`netns`), a host (`ssh`)."""

    kind: str
    name: str = ""
    user: str = ""
    port: int = 22

    def __str__(self) -> str:
        """Return it as a finding states it."""
        match self.kind:
            case "ssh":
                return f"{self.name} (by SSH)"
            case "netns":
                return f"the control node's network namespace {self.name}"
        return "the control node"


def parse(text: str) -> VantagePoint:
    """Return the vantage point that a setting names; raises ValueError saying what is wrong with it."""
    if not text:
        return VantagePoint("local")
    parts = urlsplit(text)
    if parts.scheme not in ("ssh", "netns") or not parts.hostname or parts.path.strip("/") or parts.password:
        raise ValueError(f"{text!r} is no vantage point")
    if parts.scheme == "netns":
        # A namespace's name keeps its capital letters, which urlsplit's hostname does not.
        return VantagePoint("netns", parts.netloc)
    return VantagePoint("ssh", parts.hostname, parts.username or "", parts.port or 22)
