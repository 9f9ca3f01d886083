"""The checks under plain pytest with testinfra's own SSH backend, for the tests and for the bench."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.lab.lab import LabSite


@contextmanager
def plain_pytest(site: LabSite, *, shared: bool) -> Iterator[list[str]]:
    """Yield the command, without hosts and checks, for an environment with ANSIBLE_VAULT_PASSWORD_FILE.

    testinfra sets no ControlPath, and OpenSSH then makes a connection for each command; `shared`: one for all commands of a
    user, closed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="ratssaal-cp-") as folder:
        config, sockets = Path(folder) / "ssh_config", Path(folder) / "cp"
        sockets.mkdir()
        config.write_text(
            f"Host *\n IdentityFile {site.key_file}\n UserKnownHostsFile {site.known_hosts}\n IdentitiesOnly yes\n"
            f" ControlPath {f'{sockets}/%C' if shared else 'none'}\n"
        )
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "orchestrator.verification.plugin", "-c", os.devnull]
        try:
            yield [*argv, "-p", "no:cacheprovider", f"--ratssaal-site={site.path}", f"--ssh-config={config}"]
        finally:
            for socket in sockets.iterdir():
                subprocess.run(
                    ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "any"], capture_output=True, check=True
                )
