"""What our modules tell of a host, without a host."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from orchestrator import content
from tests.unit.test_preflight_local import NAMES, Authority


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, content.root() / "playbooks" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


host_capabilities = _load("library/host_capabilities.py")
given_certificate = _load("action_plugins/given_certificate.py")


def test_hosts_of_package_sources(tmp_path: Path) -> None:
    """A mirror that holds Debian and Jitsi under one name must not lose its Debian half to our pin."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example.org/debian sid main\ndeb http://cache:3142/debian bookworm main\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: https://user:word@mirror.town.example/debian\n"
    )
    (tmp_path / "sources.list.d/six.list").write_text(
        "deb [signed-by=/k.gpg] http://[2001:db8::1]:80/debian bookworm main\n"
    )
    (tmp_path / "sources.list.d/ratssaal-vendor.sources").write_text("URIs: https://download.jitsi.org\n")
    assert host_capabilities._apt_hosts(str(tmp_path)) == ["2001:db8::1", "cache", "mirror.town.example"]


def test_pkcs12_in_any_order_becomes_a_chain(tmp_path: Path) -> None:
    """PKCS#12 keeps no order; what preflight calls fit must not fail on the host."""
    a, path = Authority(), tmp_path / "all.p12"
    protection = serialization.BestAvailableEncryption(b"word")
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"x", a.leaf_key, a.leaf, [a.root, a.middle], protection))
    arguments = {"source": "pkcs12", "pkcs12_file": "all.p12", "pkcs12_password": "word"}
    chain, key = given_certificate._read(arguments, tmp_path)
    assert chain == [a.leaf, a.middle, a.root]
    assert given_certificate._problems(chain, key, NAMES) == []
