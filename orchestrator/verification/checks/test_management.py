"""From where the hosts are administered: SSH answers the declared networks and nobody else."""

from __future__ import annotations

import ipaddress

import pytest
import testinfra.host

from orchestrator.verification.admission import policy
from orchestrator.verification.asking import ask, json_of, text
from orchestrator.verification.declarations import answered_for
from orchestrator.verification.networks import Network, plain, within
from orchestrator.verification.nftables import RULESET, Ruleset
from orchestrator.verification.openings import admitted
from orchestrator.verification.reach import Target, targets
from orchestrator.verification.sheet import Sheet
from orchestrator.verification.sockets import SS, sockets
from orchestrator.verification.sshsocket import SSH_SOCKET, for_sshd
from orchestrator.verification.subject import Subject

_KNOCK = "timeout 3 bash -c ': </dev/tcp/{address}/{port}' 2>/dev/null && echo open || echo closed"
# Link-local addresses are the neighbours'.
_NEIGHBOURS = [ipaddress.ip_network("fe80::/10")]
_OPEN = "SSH answers every address (firewall_management_sources)"


def _declared(subject: Subject) -> list[str]:
    return [str(source) for flow in subject.flows() if flow["id"] == "ssh" for source in flow["sources"]]


def _everywhere(sources: list[str]) -> bool:
    return any(ipaddress.ip_network(source).prefixlen == 0 for source in sources)


def _other(subject: Subject, target: Target, ssh: int) -> list[int]:
    """Return a port of a service of ours that lets in the vantage point, the highest beside SSH's; [] where there is none."""
    flows = [flow for flow in subject.flows() if flow["service"] != "extra"]
    return [port for port in policy(flows, "tcp", target).ports(single=True) if port != ssh][-1:]


def _within(source: Network | str, declared: list[str]) -> bool:
    return within(source, [ipaddress.ip_network(each) for each in declared])


@pytest.mark.control("NET-06")
def test_ssh_is_let_in_from_the_management_only(host: testinfra.host.Host, subject: Subject, sheet: Sheet) -> None:
    """The loaded firewall, for every port on which sshd listens."""
    declared = _declared(subject)
    listening, held, loaded = ask(host, SS, SSH_SOCKET, RULESET)
    if _everywhere(declared):
        answered_for(subject, "NET-06", sheet, _OPEN)
        return
    ports = {socket.port for socket in for_sshd(sockets(text(listening)), text(held))}
    ruleset = Ruleset(json_of(loaded)["nftables"])
    chains = ruleset.dropping()
    sheet.expect(bool(chains), f"{len(chains)} input chains drop by default", "one: else everybody reaches sshd")
    sheet.expect(bool(ports), f"sshd listens on {', '.join(map(str, sorted(ports))) or 'no port'}", "a port")
    for port in sorted(ports) if chains else ():
        sources = admitted(ruleset.openings(), "tcp", port)
        strangers = [source for source in sources if not _within(source, declared) and not within(source, _NEIGHBOURS)]
        for name in plain(strangers):
            sheet.expect(False, f"{port}/tcp (SSH) is let in from {name}", f"only from {', '.join(declared)}")
        if not strangers:
            sheet.expect(True, f"{port}/tcp (SSH) is let in from {', '.join(declared)} only", "")


@pytest.mark.control("NET-06")
def test_ssh_does_not_answer_strangers(
    host: testinfra.host.Host, outside: testinfra.host.Host, subject: Subject, sheet: Sheet
) -> None:
    """The vantage point knocks at SSH's port; what it may expect depends on where it stands.

    Where a port that lets in everybody is silent, too, silence proves nothing.
    """
    del host
    declared = _declared(subject)
    port = int(subject.topology["hosts"][subject.name]["ssh_port"])
    if _everywhere(declared):
        answered_for(subject, "NET-06", sheet, _OPEN)
        return
    reached = targets(outside, subject, sheet, "bash")
    others = [_other(subject, target, port) for target in reached]
    doors = [(target.address, each) for target, other in zip(reached, others, strict=True) for each in (port, *other)]
    knocks = ask(outside, *(_KNOCK.format(address=address, port=each) for address, each in doors))
    opened = {door for door, knocked in zip(doors, knocks, strict=True) if text(knocked).strip() == "open"}
    for target, other in zip(reached, others, strict=True):
        open_ = (target.address, port) in opened
        seen = f"SSH {'answers' if open_ else 'does not answer'} on {target.bracketed}:{port}"
        if target.source and _within(ipaddress.ip_network(target.source), declared):
            sheet.expect(True, f"{seen}, asked from within the management networks", "")
        elif open_ and not target.sure:
            sheet.could_not_look(f"{seen}; how the host sees us is not known")
        elif not open_ and other and (target.address, other[0]) not in opened:
            sheet.could_not_look(
                f"{seen}, nor does {other[0]}/tcp, which lets us in: whether anything gets there is not known"
            )
        else:
            sheet.expect(not open_, seen, f"no answer to us: only to {', '.join(declared)}")
