"""The lab takes the machine's own package sources and settings, and only what is Debian's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import orchestrator.lab
from orchestrator.lab.aptsources import KEYRING, apt_settings, debian_sources, settings_files

DEB822 = """\
Types: deb deb-src
# a comment inside a paragraph
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "lists").mkdir()
    return tmp_path / "apt"


def rewritten(apt: Path, release: int = 13) -> list[tuple[str, str, str]]:
    """Return (URI, suite, components) of what a host gets."""
    text = debian_sources(release, apt, apt.parent / "lists")
    assert text.count(f"Signed-By: {KEYRING}\n") == text.count("Types: deb\n")
    return re.findall(r"URIs: (\S+)\nSuites: (\S+)\nComponents: (.+)\n", text)


def test_deb822_sources_get_the_wanted_codename(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    assert rewritten(apt) == [
        ("http://mirror.example/debian", "trixie", "main non-free-firmware"),
        ("http://mirror.example/debian", "trixie-updates", "main non-free-firmware"),
        ("http://mirror.example/security", "trixie-security", "main"),
    ]
    assert [suite for _, suite, _ in rewritten(apt, 12)] == ["bookworm", "bookworm-updates", "bookworm-security"]


def test_one_line_sources_with_options_and_comments(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://mirror.example/old bookworm main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian stable main # x\n"
        "deb-src http://mirror.example/debian stable main\n"
    )
    assert rewritten(apt, 12) == [("http://mirror.example/debian", "bookworm", "main")]


@pytest.mark.parametrize(
    "line",
    [
        "deb http://third.example/debian bookworm stable",
        "deb [signed-by=/etc/apt/keyrings/third.gpg] http://third.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-backports main",
        "deb http://third.example/node nodistro main",
        "deb file:/srv/packages bookworm main",
    ],
)
def test_third_party_sources_are_left_out(apt: Path, line: str) -> None:
    (apt / "sources.list").write_text(line + "\n")
    with pytest.raises(LookupError, match="no Debian package source"):
        rewritten(apt)
    (apt / "sources.list.d/debian.sources").write_text(DEB822)
    assert {uri for uri, _, _ in rewritten(apt)} == {"http://mirror.example/debian", "http://mirror.example/security"}


@pytest.mark.parametrize(("origin", "taken"), [("Debian", True), ("Third", False)])
def test_the_origin_that_a_repository_states_decides(apt: Path, origin: str, taken: bool) -> None:
    (apt / "sources.list").write_text("deb http://mirror.example/some/where/ bookworm main\n")
    index = apt.parent / "lists/mirror.example_some_where_dists_bookworm_InRelease"
    index.write_text(f"-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: {origin}\nSuite: oldstable\n")
    if taken:
        assert rewritten(apt) == [("http://mirror.example/some/where/", "trixie", "main")]
    else:
        with pytest.raises(LookupError):
            rewritten(apt)


def test_disabled_sources_are_left_out(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n"))
    assert [suite for _, suite, _ in rewritten(apt)] == ["trixie", "trixie-updates"]


def test_mirror_lists_of_cloud_images_are_resolved(apt: Path) -> None:
    mirrors = apt / "debian.list"
    mirrors.write_text("http://mirror.example/debian\n")
    (apt / "sources.list.d/debian.sources").write_text(
        f"Types: deb\nURIs: mirror+file://{mirrors}\nSuites: bookworm\nComponents: main\n"
    )
    assert rewritten(apt) == [("http://mirror.example/debian", "trixie", "main")]


def test_download_settings_are_inherited_and_others_are_not(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.touch()
    settings = apt_settings(
        environment={},
        dump='Acquire::http "";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        f'Acquire::https::CaInfo "{authority}";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'Dir::Cache::pkgcache "";\n'
        'DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";\n',
    )
    assert settings.splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        f'Acquire::https::CaInfo "{authority}";',
        'Acquire::Check-Valid-Until "false";',
    ]
    assert settings_files(settings) == [authority]


@pytest.mark.parametrize("proxy", ["http://localhost:3142", "http://127.0.0.1:3142", "http://[::1]:3142"])
def test_a_proxy_on_the_loopback_is_reached_at_the_bridge(proxy: str) -> None:
    dump = f'Acquire::http::Proxy "{proxy}";\n'
    assert apt_settings("198.18.7.1", {}, dump).splitlines() == [
        'Acquire::http::Proxy "http://198.18.7.1:3142";',
        'Acquire::http::Proxy::198.18.7.1 "DIRECT";',
    ]
    assert apt_settings("", {}, dump) == dump


def test_a_proxy_of_the_environment_counts_unless_apt_has_its_own() -> None:
    environment = {"http_proxy": "http://user:word@localhost:1"}
    assert '"http://user:word@198.18.1.1:1"' in apt_settings("198.18.1.1", environment, "")
    assert "localhost" not in apt_settings("", environment, 'Acquire::http::Proxy "http://proxy.example:2";\n')


def test_the_lab_names_no_mirror_itself() -> None:
    for path in Path(orchestrator.lab.__path__[0]).glob("*.py"):
        hosts = re.findall(r"https?://[a-z0-9-]+\.[a-z0-9.-]+", path.read_text())
        assert hosts == [], path
