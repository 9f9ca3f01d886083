"""The way to the vault's password, and the vault itself: read, change, write back atomically."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from orchestrator.errors import InvalidSite, Problem, UsageError
from orchestrator.inventory import ansible_tools
from orchestrator.inventory.secret import Secret

VAULT = Path("group_vars/all/vault.yml")
HEADER = "$ANSIBLE_VAULT;"
_COMMAND = "--vault-password-command"


def default_password_file(site_name: str) -> Path:
    """Return where a generated vault password lies: outside the site, so that it is never committed with it."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "ratssaal" / f"{site_name}.vault-password"


def within(site: Path, password_file: Path) -> Problem | None:
    """Return what is wrong with a password file that lies in the site; a program that asks elsewhere may lie there."""
    if not Path(os.path.realpath(password_file)).is_relative_to(os.path.realpath(site)) or os.access(
        password_file, os.X_OK
    ):
        return None
    hint = "whoever gets a copy of the site would have its secrets too; put the file elsewhere"
    return Problem("the vault's password must not lie in the site", str(password_file), hint)


def one_source(password_file: Path | None, password_command: str) -> None:
    """Raise UsageError where somebody names two sources of the password, of which one would be passed over."""
    if password_file is not None and password_command:
        hint = "give --vault-password-file or --vault-password-command"
        raise UsageError("the vault's password comes from a file and from a command", hint=hint)


class VaultAccess:
    """How Ansible gets the vault's password.

    A password file is handed over by its path. A command's output or a typed password is put, for as long as the
    context is open, into a file with mode 0600 in memory-backed storage outside the site. Without any source the access
    is empty: `ansible_args()` is [] and the site's validation reports what is missing.
    """

    def __init__(
        self,
        password_file: Path | None = None,
        *,
        command: str = "",
        ask: Callable[[], str] | None = None,
        source: str = "",
    ) -> None:
        self._file = password_file
        self._command = command
        self._ask = ask
        self._temporary: Path | None = None
        self.source = source or ("file" if password_file else "command" if command else "prompt" if ask else "none")

    @classmethod
    def locate(
        cls,
        site: Path,
        *,
        password_file: Path | None = None,
        password_command: str = "",
        ask: Callable[[], str] | None = None,
    ) -> VaultAccess:
        """Return the first source there is: option, command, environment, the generated file, a question.

        A generated file lies in `~/.config/ratssaal/`, or as `vault-password` beside the site's directory (as in labs).
        `ask` is given only where somebody sits at a terminal; it returns the typed password. Raises UsageError for both
        options at once.
        """
        one_source(password_file, password_command)
        if password_file is not None:
            return cls(password_file, source="--vault-password-file")
        if password_command:
            return cls(command=password_command, source=_COMMAND)
        environment = os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE")
        if environment:
            return cls(Path(environment).expanduser(), source="ANSIBLE_VAULT_PASSWORD_FILE")
        site = site.resolve()
        for generated in (site.parent / "vault-password", default_password_file(site.name)):
            if os.path.isfile(generated):
                return cls(generated, source=str(generated))
        return cls(ask=ask)

    def ansible_args(self) -> list[str]:
        """Return the arguments for Ansible's tools; [] when there is no password at all.

        Raises InvalidSite when a file is missing or a command fails. Call `close()` or leave the context afterwards.
        """
        if self._file is not None:
            if not os.path.isfile(self._file):
                message = f"the vault password file does not exist (named by {self.source})"
                raise _missing(message, str(self._file))
            return ["--vault-password-file", os.path.realpath(self._file)]
        if self._temporary is None:
            password = self._obtain()
            if password is None:
                return []
            self._temporary = _write_temporary(password)
        return ["--vault-password-file", str(self._temporary)]

    def misplaced(self, site: Path) -> Problem | None:
        """Return what is wrong with where a site's password lies."""
        return within(site, self._file) if self._file is not None else None

    def close(self) -> None:
        """Remove the temporary password file, if there is one."""
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _obtain(self) -> Secret | None:
        if self._command:
            try:
                result = subprocess.run(
                    shlex.split(self._command), capture_output=True, text=True, timeout=120, check=False
                )
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                raise _missing(f"the vault password command cannot be run: {error}", _COMMAND) from error
            if result.returncode != 0 or not result.stdout.strip():
                reason = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}, no output"]
                raise _missing(f"the vault password command gave no password: {reason[0]}", _COMMAND)
            lines = len(result.stdout.strip().splitlines())
            if lines > 1:
                hint = "it must print the password alone, such as: sh -c 'pass show ratssaal/SITE | head -n 1'"
                raise InvalidSite([Problem(f"the vault password command printed {lines} lines", _COMMAND, hint)])
            return Secret(result.stdout.rstrip("\r\n"))
        return Secret(self._ask()) if self._ask is not None else None


def _missing(message: str, where: str) -> InvalidSite:
    hint = "ratssaal ... --vault-password-file FILE, or --vault-password-command 'pass show ratssaal/SITE'"
    return InvalidSite([Problem(message, where, hint)])


def _write_temporary(password: Secret) -> Path:
    candidates = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm", tempfile.gettempdir())
    directory = next(d for d in candidates if d and os.access(d, os.W_OK))
    descriptor, name = tempfile.mkstemp(prefix="ratssaal-", dir=directory)  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w") as handle:
        handle.write(password.reveal() + "\n")
    return Path(name)


def vault_problem(site: Path, shown: str = "") -> Problem | None:
    """Return why a site's vault cannot be opened with any password; `shown` is its path as a person would type it."""
    path = site / VAULT
    where = shown or str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Problem("is no regular file", where, f"ls -l {where}")
        encrypted = path.read_text(errors="replace").startswith(HEADER)
    except FileNotFoundError:
        hint = "restore it from your backup; ratssaal new writes one for a new site"
        return Problem("the vault is missing", where, hint)
    except OSError as error:
        return Problem(f"cannot be read: {error.strerror}", where, f"ls -l {where}")
    return None if encrypted else Problem("the vault is not encrypted", f"{where}:1", f"ansible-vault encrypt {path}")


def damaged(message: str) -> bool:
    """Say whether Ansible's message is about a vault's form, which no password mends."""
    return re.search(r"unhexlify error|vaulttext format error|Cipher '", message) is not None


def closed(message: str, where: str, access: VaultAccess) -> Problem:
    """Return what is wrong where Ansible could not open a vault."""
    if damaged(message):
        hint = "it was cut off or altered: restore it from your backup"
        return Problem(f"the vault is damaged: {message}", where, hint)
    hint = f"the password came from {access.source}; give the right one with --vault-password-file FILE"
    return Problem(f"the vault cannot be decrypted: {message}", where, hint)


def read_vault(site: Path, access: VaultAccess) -> dict[str, Any]:
    """Return the vault's plain values; raise InvalidSite when it is missing, not encrypted or cannot be opened."""
    path = site / VAULT
    if problem := vault_problem(site):
        raise InvalidSite([problem])
    if misplaced := access.misplaced(site):
        raise InvalidSite([misplaced])
    arguments = access.ansible_args()
    if not arguments:
        raise _missing("there is no password for the vault", f"{path}:1")
    try:
        values = yaml.safe_load(ansible_tools.vault_decrypt(path, arguments)) or {}
    except ansible_tools.ToolFailed as error:
        raise InvalidSite([closed(str(error), f"{path}:1", access)]) from error
    except yaml.YAMLError as error:
        hint = f"ansible-vault edit {path}"
        raise InvalidSite([Problem("the decrypted vault is not valid YAML", f"{path}:1", hint)]) from error
    if not isinstance(values, dict):
        raise InvalidSite([Problem("the decrypted vault is not a mapping", f"{path}:1", f"ansible-vault edit {path}")])
    return values


def write_vault(site: Path, values: Mapping[str, Any], access: VaultAccess) -> None:
    """Encrypt the values and put them in the vault's place in one step (temporary file, fsync, rename)."""
    text = _COMMENT + yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    try:
        encrypted = ansible_tools.vault_encrypt(text, access.ansible_args())
    except ansible_tools.ToolFailed as error:
        hint = f"the password came from {access.source}; give a right one with --vault-password-file FILE"
        raise InvalidSite([Problem(f"the vault cannot be encrypted: {error}", str(site / VAULT), hint)]) from error
    try:
        write_private(site / VAULT, encrypted)
    except OSError as error:
        raise _unwritable(site / VAULT, error) from error


def _unwritable(path: Path, error: OSError) -> InvalidSite:
    hint = f"its directory must be writable: ls -ld {path.parent}"
    return InvalidSite([Problem(f"cannot be written: {error.strerror}", str(path), hint)])


def _closed_directory(path: Path, error: OSError) -> Problem:
    return Problem(f"cannot be read: {error.strerror}", str(path), f"ls -ld {shlex.quote(str(path))}")


@contextmanager
def changed_vault(site: Path, access: VaultAccess) -> Iterator[dict[str, Any]]:
    """Yield the vault's values to change; they are written back when the block ends without an error.

    Two changes at the same time wait for each other on a lock of the directory.
    """
    try:
        directory = os.open((site / VAULT).parent, os.O_RDONLY)
    except OSError as error:
        raise InvalidSite([vault_problem(site) or _closed_directory((site / VAULT).parent, error)]) from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        values = read_vault(site, access)
        yield values
        write_vault(site, values, access)
    finally:
        os.close(directory)


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file atomically, with mode 0600 where it is new; what it replaces hands on its mode, group and owner.

    Otherwise a colleague, who reads the file through its group, would be locked out by the first change.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content if isinstance(content, bytes) else content.encode())
            handle.flush()
            _as_before(handle.fileno(), path)
            os.fsync(handle.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _as_before(descriptor: int, path: Path) -> None:
    try:
        before = path.stat()
    except OSError:
        return
    for owner in (before.st_uid, -1):
        with suppress(PermissionError):  # only root gives a file to another owner, and nobody to a foreign group
            os.fchown(descriptor, owner, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            return


_COMMENT = "# Generated secrets. Change people with `ratssaal users`, anything else with `ansible-vault edit`.\n"


class _Dumper(yaml.SafeDumper):
    """Writes PEM blocks as readable blocks."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _represent_text)
