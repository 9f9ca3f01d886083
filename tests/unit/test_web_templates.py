"""What the role web writes for people's browsers, rendered by Ansible: the language, and what config.js offers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import content
from orchestrator.verification.servedconfig import computed, read_config, setting
from orchestrator.verification.webserver import read_nginx
from tests.unit.site_cases import Case

ROLES = content.root() / "roles"
# Language of the site -> of the words that are ours.
LANGUAGES = {"de": "de", "en": "en", "frCA": "en"}
FURTHER = {"deAT": "de", "del": "en", "pt-BR": "en"}
PAGES = ("imprint", "privacy", "accessibility")
_REALM = "https://id.example.org/realms/town/protocol/openid-connect"
_KEYCLOAK = {
    "app_id": "town",
    "login_url": f"{_REALM}/auth?client_id=meet&state={{state}}&code_challenge={{code_challenge}}",
    "token_service_url": f"{_REALM}/",
    "client_id": "meet",
    "logout_url": f"{_REALM}/logout",
}
_ALL = """{% set rendered = {} %}{% for name, case in cases.items() %}
{% set _ = rendered.update({name: lookup("template", case.template, template_vars=case.vars, lstrip_blocks=true)}) %}
{% endfor %}{{ rendered | to_json }}"""


def _render(folder: Path, cases: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """Return the text of each case: a template of the role with the roles' defaults and these variables."""
    given = {
        name: {"template": str(ROLES / "web/templates" / file), "vars": own} for name, (file, own) in cases.items()
    }
    # One task for all: each that writes a file takes half a second.
    tasks = [{"copy": {"content": _ALL, "dest": str(folder / "rendered.json")}, "vars": {"cases": given}}]
    files = [str(ROLES / role / kind / "main.yml") for kind in ("defaults", "vars") for role in ("jitsi", "web")]
    play = {"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([play]))
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "jitsi_domain": "meet.example.org",
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"meet": host}}}))
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(folder / "hosts.yml")]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(content.root() / "ansible.cfg")}
    done = subprocess.run(
        [*argv, str(folder / "play.yml")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rendered: dict[str, str] = json.loads((folder / "rendered.json").read_text())
    return rendered


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is written, by what was chosen."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "imprint.html").write_text("<p>Town & Country</p>\n")
    given = {"web_pages": {"imprint": "imprint.html"}, "jitsi_support_contact": "it@example.org"}
    cases: dict[str, tuple[str, dict[str, Any]]] = {"default config": ("config.js.j2", {})}
    for language in LANGUAGES:
        chosen = {"jitsi_language": language, **given}
        cases[f"{language} config"] = ("config.js.j2", chosen)
        for page in PAGES:
            cases[f"{language} {page}"] = (f"page-{page}.html.j2", chosen)
    for language in FURTHER:
        cases[f"{language} imprint"] = ("page-imprint.html.j2", {"jitsi_language": language, **given})
    cases["pages"] = ("body.html.j2", {})
    cases["English pages"] = ("body.html.j2", {"jitsi_language": "en"})
    cases["tokens config"] = ("config.js.j2", {"jitsi_auth": "jwt", "jitsi_jwt": _KEYCLOAK})
    cases["others config"] = ("config.js.j2", {"jitsi_auth": "internal", "jitsi_jwt": _KEYCLOAK})
    for mode, shared in (("shared", True), ("own port", False)):
        cases[f"{mode} site"] = ("nginx-site.conf.j2", {"__web_shared": shared, "jitsi_tls_directory": "/etc/x"})
    for offered in (True, False):
        cases[f"e2ee {offered}"] = ("config.js.j2", {"jitsi_e2ee": offered})
    return _render(folder, cases)


def test_the_application_asks_for_a_name_and_for_no_address(written: dict[str, str]) -> None:
    config = read_config(written["default config"])
    assert setting(config, "hideEmailInSettings") is True
    # With disableProfile nobody could type one (jitsi-meet: isNameReadOnly).
    assert setting(config, "requireDisplayName") is True
    assert "disableProfile:" not in written["default config"]


def test_the_application_speaks_german_unless_told_otherwise(written: dict[str, str]) -> None:
    assert setting(read_config(written["default config"]), "defaultLanguage") == "de"


def test_a_log_in_by_openid_connect_ends_at_upstreams_page(written: dict[str, str]) -> None:
    """jitsi-meet:static/sso.html puts `https://` before tokenService and `/token` behind it."""
    config = read_config(written["tokens config"])
    assert setting(config, "sso.tokenService") == "id.example.org/realms/town/protocol/openid-connect"
    assert setting(config, "sso.clientId") == "meet"
    assert setting(config, "tokenAuthInline") is True
    assert setting(config, "tokenAuthUrl") == _KEYCLOAK["login_url"]
    assert setting(config, "tokenLogoutUrl") == _KEYCLOAK["logout_url"]
    internal = read_config(written["others config"])
    assert [setting(internal, name) for name in ("sso", "tokenAuthInline", "tokenAuthUrl", "tokenLogoutUrl")] == [
        None
    ] * 4


@pytest.mark.parametrize(
    ("mode", "places"),
    [("shared", ["127.0.0.1:4443 ssl proxy_protocol"]), ("own port", ["443 ssl", "[::]:443 ssl"])],
)
def test_who_tells_no_name_of_ours_is_refused_by_tls_wherever_it_is_spoken(
    written: dict[str, str], mode: str, places: list[str]
) -> None:
    servers = [server for server in read_nginx(written[f"{mode} site"]).block if server.name == "server"]
    said = [{line.name: line.words[1:] for line in server.block} for server in servers]
    listens = [[" ".join(line.words[1:]) for line in server.block if line.name == "listen"] for server in servers]
    assert listens[1:] == [[f"{place} default_server" for place in places], places]
    _, others, site = said
    assert (others["ssl_reject_handshake"], others["return"]) == (["on"], ["421"])
    assert not {"ssl_certificate", "root", "location"} & set(others)
    # OpenSSL takes the version before it knows the name.
    assert (others["ssl_protocols"], others["ssl_ciphers"]) == (site["ssl_protocols"], site["ssl_ciphers"])
    assert "ssl_reject_handshake" not in site


def test_the_pages_lead_to_imprint_privacy_and_accessibility(written: dict[str, str]) -> None:
    """Nothing in upstream's application does. The mobile application opens whole addresses only."""
    for name, words in (
        ("pages", ["Impressum", "Datenschutz", "Barrierefreiheit"]),
        ("English pages", ["Imprint", "Privacy", "Accessibility"]),
    ):
        links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', written[name])
        assert links == list(zip(["/impressum", "/datenschutz", "/barrierefreiheit"], words, strict=True))
    config = read_config(written["default config"])
    for name in (
        "legalUrls.privacy",
        "legalUrls.terms",
        "legalUrls.helpCentre",
        "legalUrls.security",
        "dynamicBrandingUrl",
    ):
        assert str(setting(config, name)).startswith("https://meet.example.org/"), name


def test_verification_understands_all_that_the_role_writes(written: dict[str, str]) -> None:
    for name in [name for name in written if name.endswith(" config") or name.startswith("e2ee ")]:
        config = read_config(written[name])
        assert (config.unread, list(computed(config))) == ("", []), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_application_begins_in_the_sites_language(written: dict[str, str], language: str) -> None:
    """Word for word: upstream has frCA in one release and fr-CA in another (jitsi-meet:lang/languages.json)."""
    assert setting(read_config(written[f"{language} config"]), "defaultLanguage") == language


@pytest.mark.parametrize(
    ("language", "own", "page"),
    [
        *((language, own, page) for language, own in LANGUAGES.items() for page in PAGES),
        *((language, own, "imprint") for language, own in FURTHER.items()),
    ],
)
def test_the_pages_own_words_are_in_the_language_that_they_say(
    written: dict[str, str], language: str, own: str, page: str
) -> None:
    text = written[f"{language} {page}"]
    titles = {
        "de": ("Impressum", "Datenschutzerklärung", "Erklärung zur Barrierefreiheit"),
        "en": ("Imprint", "Privacy notice", "Accessibility statement"),
    }
    title = titles[own][PAGES.index(page)]
    assert text.startswith(f'<!DOCTYPE html>\n<html lang="{own}">\n')
    assert f"<title>{title} – Videokonferenz</title>" in text
    assert f"<h1>{title}</h1>" in text
    assert {"de": "<p>Fragen: it@example.org</p>", "en": "<p>Questions: it@example.org</p>"}[own] in text
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', text)
    assert [path for path, _ in links] == ["/", "/impressum", "/datenschutz", "/barrierefreiheit"]
    assert [word for _, word in links] == {
        "de": ["Start", "Impressum", "Datenschutz", "Barrierefreiheit"],
        "en": ["Start", "Imprint", "Privacy", "Accessibility"],
    }[own]
    undecided = {"de": "Diese Seite ist noch nicht ausgefüllt.", "en": "This page is not filled in yet."}[own]
    assert (undecided in text) is (page != "imprint")
    assert (f"<code>web_pages.{page}</code>" in text) is (page != "imprint")


@pytest.mark.parametrize(
    ("language", "code"),
    [("de", "de"), ("en", "en"), ("frCA", "fr-CA"), ("deAT", "de-AT"), ("del", "del"), ("pt-BR", "pt-BR")],
)
def test_the_operators_text_is_in_the_sites_language_as_browsers_write_it(
    written: dict[str, str], language: str, code: str
) -> None:
    assert f'<div lang="{code}">\n<p>Town & Country</p>\n</div>' in written[f"{language} imprint"]


@pytest.mark.parametrize("offered", [True, False])
def test_end_to_end_encryption_is_offered_as_the_site_says(written: dict[str, str], offered: bool) -> None:
    assert setting(read_config(written[f"e2ee {offered}"]), "e2ee.disabled") is not offered
    assert setting(read_config(written["default config"]), "e2ee.disabled") is False


def _judging_the_role(case: Case) -> Case:
    """The roles' own options: the small ones of the other tests know no language."""
    from orchestrator.inventory.specs import load_options

    return Case(case.path, case.password_file, load_options())


@pytest.mark.parametrize("language", [*LANGUAGES, *FURTHER, "hsb", "zhCN"])
def test_a_language_is_taken(case: Case, language: str) -> None:
    case.append(f"jitsi_language: {language}\n")
    assert _judging_the_role(case).problems() == []


@pytest.mark.parametrize("language", ["deutsch", "DE", "d", "de_DE", "fr-ca", "frCAN", "'de\"'", "''"])
def test_what_is_no_language_is_refused_with_its_place_and_examples(case: Case, language: str) -> None:
    case.append(f"jitsi_language: {language}\n")
    problem = _judging_the_role(case).only_problem()
    assert problem.where == case.at("jitsi_language:")
    assert problem.message.startswith(f"jitsi_language: {yaml.safe_load(language)!r} is no language code")
    assert problem.hint == "for example de, en or frCA"


def test_no_time_zone_is_refused_too(case: Case) -> None:
    case.append('base_timezone: ""\n')
    problem = _judging_the_role(case).only_problem()
    assert problem.where == case.at("base_timezone:")
    assert problem.hint == "for example Europe/Berlin"
