"""Values of the right type that a service could not take, or that would open something, are told before any host is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest

from orchestrator import content
from orchestrator.inventory import valuerules
from orchestrator.inventory.specs import load_options

OPTIONS = load_options()
NUMBERS = sorted(name for name, option in OPTIONS.items() if option.type == "int")
_REALM = "https://id.example.org/realms/town/protocol/openid-connect"
_LOGIN = {"app_id": "town", "login_url": f"{_REALM}/auth?client_id=meet"}


def _said(name: str, value: Any) -> str:
    assert name in OPTIONS, f"{name} is no variable"
    return " | ".join(
        f"{list(at)} {message}; {hint}" for at, message, hint in valuerules.faults(name, value, Path("/"))
    )


def test_every_rule_is_for_a_variable_that_there_is() -> None:
    assert {name for name in valuerules._RULES if not name.startswith("ansible_")} <= set(OPTIONS)
    assert set(OPTIONS) >= valuerules._NEVER_EMPTY


@pytest.mark.parametrize("name", sorted(name for name in valuerules._RULES if name in OPTIONS))
def test_defaults_are_accepted(name: str) -> None:
    assert _said(name, OPTIONS[name].default) == ""


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1])
def test_no_number_may_be_none_at_all(name: str, value: int) -> None:
    assert f"{value} is not allowed" in _said(name, value)


def test_there_are_numbers() -> None:
    assert {"coturn_max_bps", "prosody_max_occupants", "jitsi_conference_log_days"} <= set(NUMBERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jicofo_max_memory", "256m"),
        ("jicofo_max_memory", "128m"),
        ("videobridge_max_memory", "4G"),
        ("videobridge_max_memory", "6144M"),
        ("videobridge_max_memory", "1024g"),
        ("coturn_user_quota", 1),
        ("coturn_max_bps", 2**31 - 1),
        ("prosody_max_occupants", 2),
        ("certificates_days", 825),
        ("firewall_confirm_seconds", 10),
        ("hardening_confirm_seconds", 3600),
        ("base_ntp_servers", ["ntp.town.example", "Ntp1", "192.0.2.123", "2001:db8::7b", "0.debian.pool.ntp.org"]),
        ("base_address6", "2001:db8::10"),
        ("base_address6", "fd00::10"),
        ("vendor_repository_suite", "stable/"),
        ("vendor_repository_suite", "./"),
        ("vendor_repository_suite", "/"),
        ("vendor_repository_suite", "bookworm-backports"),
        ("hardening_ssh_allow_groups", ["helpdesk", "_ssh", "IT-Admins", "it.admins@town.example", "machines$"]),
        ("hardening_ssh_allow_groups", ["42it", "it+ops", "bürger"]),
        ("base_ntp_servers", ["ntp_1.town.local"]),
        ("jitsi_jwt", {"app_id": "town", "login_url": f"{_REALM}/auth?client_id=a", "token_service_url": f"{_REALM}/"}),
        ("jitsi_jwt", {"app_id": "town", "login_url": "https://id.example.org/{room}"}),
        ("web_security_contact", "security@town.example"),
        ("web_security_contact", "mailto:security@town.example?cc=it@town.example"),
        ("web_security_contact", "mailto:security@town.example?subject=hole"),
        ("web_security_contact", "https://town.example/holes"),
        ("web_security_contact", "tel:+49-391-540"),
        ("web_security_contact", "+49 391 / 540-0"),
        ("web_security_contact", ""),
    ],
)
def test_what_a_service_takes_is_accepted(name: str, value: Any) -> None:
    assert _said(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("jicofo_max_memory", "1024", "[] '1024' is no size of a heap; a number with m or g, such as 3072m"),
        ("jicofo_max_memory", "", "'' is no size of a heap"),
        ("jicofo_max_memory", "1 g", "'1 g' is no size of a heap"),
        ("jicofo_max_memory", "1024m\n", "is no size of a heap"),
        ("jicofo_max_memory", "1024mb", "'1024mb' is no size of a heap"),
        ("videobridge_max_memory", "3,5g", "'3,5g' is no size of a heap"),
        ("videobridge_max_memory", "3m", "'3m' is no size of a heap"),
        ("videobridge_max_memory", "127m", "128m to 1024g"),
        ("videobridge_max_memory", "3072g", "128m to 1024g"),
        ("videobridge_max_memory", "0g", "128m to 1024g"),
        ("videobridge_max_memory", "3072m -XX:+UseZGC", "is no size of a heap"),
        ("videobridge_max_memory", "$(id)", "is no size of a heap"),
        ("coturn_user_quota", 0, "1 to 2147483647; 0 would be no limit at all"),
        ("coturn_total_quota", 0, "1 to 2147483647; 0 would be no limit at all"),
        ("coturn_max_bps", 2**32, "4294967296 is not allowed"),
        ("prosody_max_occupants", 1, "2 to 2147483647; 0 would be no limit at all"),
        ("certificates_days", 826, "826 is not allowed; 1 to 825"),
        ("firewall_confirm_seconds", 9, "10 to 3600"),
        ("hardening_confirm_seconds", 86400, "10 to 3600"),
        ("base_ntp_servers", ["192.0.2.1", "192.0.2.300"], "[1] '192.0.2.300' is neither a host's name nor an address"),
        ("base_ntp_servers", ["ntp.example.org iburst"], "is neither"),
        ("base_ntp_servers", ["https://ntp.example.org"], "is neither"),
        ("base_ntp_servers", ["ntp.example.org\nallow"], "is neither"),
        ("base_ntp_servers", ["-ntp.example.org"], "is neither"),
        ("base_ntp_servers", [""], "is neither"),
        ("base_address6", "::1", "::1 is not the address of a host"),
        ("base_address6", "2001:db8::10%eth0", "is not the address of a host"),
        ("base_address6", "::ffff:192.0.2.1", "is not the address of a host"),
        ("jitsi_accounts", {"anna": "   "}, "the account anna has no password"),
        ("jitsi_jwt", {**_LOGIN, "token_service_url": f"{_REALM}/token"}, "is not the address below which /token lies"),
        ("jitsi_jwt", {**_LOGIN, "token_service_url": f"{_REALM}?a=b"}, "is not the address below which /token lies"),
        ("jitsi_jwt", {"token_service_url": _REALM}, "there is a token service, but login_url holds no question"),
        ("jitsi_jwt", {"login_url": f"{_REALM}/auth", "token_service_url": _REALM}, "login_url holds no question"),
        ("jitsi_jwt", {"logout_url": "http://id.example.org/logout"}, "is no https address"),
        ("base_address6", "fe80::1", "fe80::1 is not the address of a host"),
        ("base_address6", "ff02::1", "ff02::1 is not the address of a host"),
        (
            "vendor_repository_suite",
            "stable main",
            "'stable main' is no suite of a repository; one word, such as stable/",
        ),
        ("vendor_repository_suite", "stable/\n", "is no suite"),
        ("vendor_repository_suite", "", "'' is no suite"),
        ("vendor_repository_url", "", "'' is no repository address"),
        ("hardening_ssh_allow_groups", ["helpdesk", "*"], "[1] '*' is no name of a group"),
        ("hardening_ssh_allow_groups", ["!root"], "'!root' is no name of a group"),
        ("hardening_ssh_allow_groups", ["it?"], "is no name"),
        ("hardening_ssh_allow_groups", ["domain users"], "is no name"),
        ("hardening_ssh_allow_groups", ["adm,users"], "is no name"),
        ("hardening_ssh_allow_groups", ["adm\nPermitRootLogin yes"], "is no name"),
        ("hardening_ssh_allow_groups", [""], "is no name"),
        ("hardening_ssh_allow_groups", ["1000"], "is no name"),
        ("web_security_contact", "room 12", "[] 'room 12' is no contact for security.txt; for example security@"),
        ("web_security_contact", "http://town.example/holes", "is no contact"),
        ("web_security_contact", "https:///holes", "is no contact"),
        ("web_security_contact", "town.example/holes", "is no contact"),
        ("web_security_contact", "mailto:somebody", "is no contact"),
        ("web_security_contact", "a@town.example\nExpires: never", "is no contact"),
        ("web_security_contact", "https://town.example/\nExpires: never", "is no contact"),
    ],
)
def test_what_would_fail_late_or_open_something_is_refused(name: str, value: Any, said: str) -> None:
    assert said in _said(name, value)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("videobridge/templates/config.j2", 'VIDEOBRIDGE_MAX_MEMORY="512m"'),
        ("jicofo/templates/environment.j2", 'JICOFO_MAX_MEMORY="256m"'),
    ],
)
def test_settings_that_a_shell_reads_stand_in_quotes(template: str, line: str) -> None:
    text = (content.root() / "roles" / template).read_text()
    rows = jinja2.Template(text).render(videobridge_max_memory="512m", jicofo_max_memory="256m").splitlines()
    assert line in rows
    assert all(row.startswith("#") or row.partition("=")[2].startswith('"') for row in rows if row)
