"""What a site has loosened is found, and every setting of the roles has been judged."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.inventory.loosened import loosened, table
from orchestrator.inventory.specs import load_options

# Whichever value these have, nobody is let in, nothing is kept and nobody is contacted that the default would not; or a control
# of its own judges them.
NEUTRAL = {
    *("base_address6", "base_ntp_servers", "base_timezone", "ratssaal_lab"),
    *("certificates_ca_certificate", "certificates_chain_file", "certificates_key_file", "certificates_pkcs12_file"),
    *("certificates_source", "coturn_max_bps", "coturn_total_quota", "coturn_user_quota"),
    # By default SSH answers everybody (NET-06): whatever is chosen is narrower.
    *("firewall_confirm_seconds", "firewall_management_sources", "hardening_confirm_seconds", "hardening_notice"),
    *("jicofo_max_memory", "jitsi_auth", "jitsi_domain", "jitsi_language", "jitsi_lobby", "jitsi_name"),
    "jitsi_support_contact",
    *("jitsi_turn_domain", "jitsi_turn_tls", "prosody_max_occupants", "videobridge_max_memory"),
    *("jitsi_jwt.app_id", "jitsi_jwt.audiences", "jitsi_jwt.issuers", "jitsi_jwt.jwks_url"),
    "jitsi_jwt.client_id",
    *("vendor_repository_fingerprint", "vendor_repository_key", "vendor_repository_suite", "vendor_repository_url"),
    *("vendor_repository_versions", "verification_admins", "verification_declarations", "verification_probe_account"),
    *(
        "verification_probe_token_command",
        "verification_probe_plain_token_command",
        "verification_vantage",
        "verification_vantage_key_file",
    ),
    *("web_logo_file", "web_pages", "web_security_contact"),
}


def defaults() -> dict[str, Any]:
    return {name: option.default for name, option in load_options().items()}


def test_every_setting_is_judged() -> None:
    """Whoever adds a setting decides whether it can loosen anything (loosened.yml) or not (NEUTRAL above)."""
    rows = set(table())
    split = {name.partition(".")[0] for name in rows | NEUTRAL if "." in name}
    settings = {name for name, option in load_options().items() if not option.secret} - split
    settings |= {f"{name}.{part}" for name in split for part in load_options()[name].options}
    assert rows & NEUTRAL == set()
    assert rows | NEUTRAL == settings


def test_rows_are_whole() -> None:
    for setting, row in table().items():
        assert set(row) == {"when", "en", "de"}, setting
        assert row["when"] in ("other", "more", "less"), setting
        assert row["en"].endswith("."), setting
        assert row["de"].endswith("."), setting


def test_the_defaults_loosen_nothing() -> None:
    assert loosened(defaults()) == ()
    assert loosened({}) == ()


@pytest.mark.parametrize(
    ("setting", "value", "shown", "default"),
    [
        ("jitsi_p2p", True, "true", "false"),
        ("jitsi_stay_logged_in", True, "true", "false"),
        ("jitsi_e2ee", False, "false", "true"),
        ("jitsi_conference_log_days", 30, "30", "7"),
        ("web_hsts_seconds", 60, "60", "63072000"),
        (
            "jitsi_allowed_origins",
            ["https://a.example", "https://b.example"],
            "https://a.example, https://b.example",
            "",
        ),
        (
            "hardening_skip",
            {"OS-08": {"who": "IT", "why": "ticket 17"}, "OS-09": {"who": "IT", "why": "18"}},
            "OS-08: (who: IT; why: ticket 17); OS-09: (who: IT; why: 18)",
            "",
        ),
        (
            "firewall_extra_flows",
            [{"proto": "tcp", "port": "9100", "purpose": "monitoring"}],
            "(proto: tcp; port: 9100; purpose: monitoring)",
            "",
        ),
    ],
)
def test_loosened_setting_is_told(setting: str, value: Any, shown: str, default: str) -> None:
    (found,) = loosened(defaults() | {setting: value})
    assert (found.setting, found.value, found.default) == (setting, shown, default)
    assert found.meaning_en
    assert found.meaning_de


def test_a_part_of_a_setting_is_told_by_itself() -> None:
    token = {"app_id": "town", "login_url": "https://login.example.org/{room}"}
    (found,) = loosened(defaults() | {"jitsi_jwt": token})
    assert (found.setting, found.value) == ("jitsi_jwt.login_url", "https://login.example.org/{room}")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("jitsi_conference_log_days", 1), ("web_hsts_seconds", 99_999_999), ("jitsi_jwt", {"app_id": "town"})],
)
def test_what_is_stricter_or_neutral_is_not_told(setting: str, value: Any) -> None:
    assert loosened(defaults() | {setting: value}) == ()
