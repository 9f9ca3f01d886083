"""Tokens with nothing to check them by end the run under plain Ansible too, whose inventory nobody has judged before."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import content


@pytest.mark.parametrize(("secret", "code"), [("", 2), ("of the provider", 0)])
def test_an_empty_secret_is_never_written(secret: str, code: int) -> None:
    template = (content.root() / "roles/prosody/templates/host.cfg.lua.j2").read_text()
    (expression,) = re.findall(r"^    app_secret = (\{\{.*\}\})$", template, re.MULTILINE)
    argv = [str(Path(sys.executable).with_name("ansible")), "localhost", "-m", "ansible.builtin.debug"]
    argv += ["-a", f"msg={expression}", "-e", json.dumps({"jitsi_jwt_app_secret": secret})]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("no token can be checked" in done.stdout.partition("localhost |")[2]) is (secret == "")
    assert not secret or f'"{secret}"' in done.stdout
