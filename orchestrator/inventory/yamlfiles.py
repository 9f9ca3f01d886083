"""Where things stand in the site's files: every key, host and group with its file and line.

Values come from Ansible; this module supplies the positions, finds what Ansible would only warn about (a key given
twice, a word that is no inventory keyword), and plain values for the case that Ansible cannot read the site at all.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import Problem
from orchestrator.inventory.vault import HEADER

_Loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
# Ansible's inventory gives a day as a text, too.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))
_KEYWORDS = ("hosts", "children", "vars")
# What Ansible reads below group_vars and host_vars; of several files for one owner it takes the first in this order.
_SUFFIXES = ("", ".yml", ".yaml", ".json")


@dataclass(frozen=True, slots=True)
class Key:
    """A variable as it was written: its name, its value's node, and for whom it holds."""

    name: str
    file: Path
    line: int
    node: yaml.Node
    group: str = ""
    host: str = ""


@dataclass(slots=True)
class SiteFiles:
    """Everything that the site's plain files say, with positions; JSON is read as the YAML that it is."""

    path: Path
    keys: list[Key] = field(default_factory=list)
    hosts: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    encrypted: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    # False where something stands in the files that is valid for Ansible but was not read.
    whole: bool = True

    @property
    def hosts_file(self) -> Path:
        """Return the inventory file."""
        return self.path / "hosts.yml"

    def find(self, name: str, host: str = "") -> Key | None:
        """Return the place that decides a variable's value for a host: the last in Ansible's order of precedence."""
        found = [key for key in self.keys if key.name == name and key.host in {"", host}]
        return max(found, key=_precedence, default=None)

    def where(self, name: str, host: str = "", location: Sequence[str | int] = ()) -> str:
        """Return "file:line" of a variable, or of what lies inside it; the vault's file where no plain file has it."""
        key = self.find(name, host)
        if key is None:
            return show(self.encrypted[0]) if self.encrypted else ""
        return f"{show(key.file)}:{_line_within(key, location)}"

    def at_host(self, host: str) -> str:
        """Return "file:line" of a host's first mention."""
        return f"{show(self.hosts_file)}:{self.hosts[host][0][1]}" if self.hosts.get(host) else show(self.hosts_file)


def show(path: Path) -> str:
    """Return a path as a person would type it from here."""
    # Path.resolve raises where links lead round in a circle.
    absolute, here = Path(os.path.realpath(path)), Path.cwd()
    return os.path.relpath(absolute, here) if absolute.is_relative_to(here) else str(absolute)


def read_files(path: Path) -> SiteFiles:
    """Read the positions of hosts.yml, group_vars and host_vars below a site's directory."""
    files = SiteFiles(path)
    root = _compose(files, files.hosts_file)
    if isinstance(root, yaml.MappingNode):
        for name, key, value in _pairs(files, files.hosts_file, root):
            _read_group(files, name, key, value)
    elif root is not None:
        hint = "it starts with `all:`"
        files.problems.append(Problem("hosts.yml is no mapping", f"{show(files.hosts_file)}:1", hint))
    for kind, scope, owners in (("group_vars", "group", files.groups), ("host_vars", "host", files.hosts)):
        try:
            found = list(_variable_files(files, path / kind, owners))
        except OSError as error:
            files.problems.append(_unreadable(error, path / kind))
            continue
        for owner, file in found:
            _read_variables(files, file, {scope: owner})
    return files


def _variable_files(files: SiteFiles, folder: Path, owners: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield (owner, file) of all that Ansible reads below group_vars or host_vars, whatever its name ends with."""
    if not os.path.isdir(folder):
        return
    taken: dict[str, Path] = {}
    for owner, entry in sorted(_owned(folder, {*owners}), key=lambda item: (item[0], _order(item[1]))):
        if owner in taken:
            message = f"Ansible does not read this, because {taken[owner].name} stands beside it"
            files.problems.append(Problem(message, show(entry), f"move it into {show(folder / owner)}/"))
            continue
        taken[owner] = entry
        yield from ((owner, file) for file in (_below(entry) if entry.is_dir() else [entry]))


def _owned(folder: Path, owners: set[str]) -> Iterator[tuple[str, Path]]:
    """Yield (owner, entry) of a folder's entries; a host's name may itself have a dot in it."""
    for entry in _visible(folder):
        if entry.is_dir() or entry.name in owners:
            yield entry.name, entry
        elif entry.suffix in _SUFFIXES:
            yield entry.stem, entry


def _order(entry: Path) -> int:
    return 0 if entry.is_dir() or entry.suffix not in _SUFFIXES else _SUFFIXES.index(entry.suffix)


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in Ansible's order; it enters no folder with a dot in its name."""
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _below(entry) if not entry.suffix else ()
        elif entry.suffix in _SUFFIXES:
            yield entry


def _visible(folder: Path) -> list[Path]:
    """Return a folder's entries without what Ansible skips: hidden ones, such as an editor's lock, and backups."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and not p.name.endswith("~"))


def _read_variables(files: SiteFiles, file: Path, scope: Mapping[str, str]) -> None:
    root = _compose(files, file)
    if isinstance(root, yaml.MappingNode):
        _add_variables(files, file, root, **scope)
    elif root is not None:
        files.problems.append(Problem("the file is no mapping of keys to values", f"{show(file)}:1", "NAME: VALUE"))


def _unreadable(error: OSError, path: Path) -> Problem:
    missing = isinstance(error, FileNotFoundError) and not path.is_symlink()
    hint = "ratssaal new SITE writes a complete site" if missing else f"ls -l {show(path)}"
    return Problem(f"cannot be read: {error.strerror}", show(path), hint)


def _compose(files: SiteFiles, file: Path) -> yaml.Node | None:
    text = read_text(file, files.problems)
    if text is not None and text.startswith(HEADER):
        files.encrypted.append(file)
        return None
    return None if text is None else compose(text, file, files.problems)


def read_text(file: Path, problems: list[Problem]) -> str | None:
    """Return a file's text; None, and why in `problems`, where there is none to read."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # to open a pipe would wait for its writer
            problems.append(Problem("is no regular file", show(file), f"ls -l {show(file)}"))
            return None
        return file.read_text(encoding="utf-8")
    except OSError as error:
        problems.append(_unreadable(error, file))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(Problem("is not UTF-8 text", f"{show(file)}:{line}", "save it as UTF-8"))
    return None


def compose(text: str, file: Path, problems: list[Problem]) -> yaml.Node | None:
    """Return the tree of a file's YAML, which knows its lines; None where it is empty or, as `problems` then say, wrong."""
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = "check indentation, colons and quotes on this line and the one above"
        problems.append(Problem(f"is not valid YAML: {error.problem}", f"{show(file)}:{line}", hint))
        return None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        hint = "remove the character that no editor shows, or write the line anew"
        problems.append(Problem(f"is not valid YAML: {error.reason}", f"{show(file)}:{line}", hint))
        return None
    if node is not None and (within := _within_itself(node)):
        where = f"{show(file)}:{within.start_mark.line + 1}"
        problems.append(Problem("an alias (*) stands inside of what it names (&)", where, "write it out"))
        return None
    return node


def _within_itself(root: yaml.Node) -> yaml.Node | None:
    """Return a node that an alias makes a part of itself: whoever follows it comes to no end."""
    entered: set[int] = set()
    done: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, left = waiting.pop()
        if left:
            entered.discard(id(node))
            done.add(id(node))
        elif id(node) in entered:
            return node
        elif id(node) not in done and not isinstance(node, yaml.ScalarNode):
            entered.add(id(node))
            waiting.append((node, True))
            waiting += [(child, False) for child in _children(node)]
    return None


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)


def _pairs(files: SiteFiles, file: Path, node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield a mapping's keys with their nodes; a key given twice is a problem, because the first is silently lost."""
    seen: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name, line = str(key.value), key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            # Ansible would apply what nobody has judged.
            _unsupported(files, "a merge key (<<) is not supported here", f"{show(file)}:{line}", "write its keys out")
            continue
        if name in seen:
            message = f"{name} is given twice, first in line {seen[name]}"
            files.problems.append(Problem(message, f"{show(file)}:{line}", "remove one of them"))
        seen[name] = line
        yield name, key, value


def _unsupported(files: SiteFiles, message: str, where: str, hint: str) -> None:
    files.problems.append(Problem(message, where, hint))
    files.whole = False


def _add_variables(files: SiteFiles, file: Path, node: yaml.Node, *, group: str = "", host: str = "") -> None:
    for name, key, value in _pairs(files, file, node):
        files.keys.append(Key(name, file, key.start_mark.line + 1, value, group, host))


def _read_group(files: SiteFiles, name: str, key: yaml.Node, node: yaml.Node) -> None:
    file = files.hosts_file
    files.groups.setdefault(name, key.start_mark.line + 1)
    members = files.members.setdefault(name, set())
    for word, word_node, value in _pairs(files, file, node):
        if word == "hosts":
            for host, host_node, variables in _pairs(files, file, value):
                if "[" in host:
                    where = f"{show(file)}:{host_node.start_mark.line + 1}"
                    _unsupported(
                        files, f"the range {host} is not supported", where, "name every host in a line of its own"
                    )
                members.add(host)
                files.hosts.setdefault(host, []).append((name, host_node.start_mark.line + 1))
                _add_variables(files, file, variables, host=host)
        elif word == "children":
            for child, child_node, child_value in _pairs(files, file, value):
                _read_group(files, child, child_node, child_value)
                members |= files.members[child]
        elif word == "vars":
            _add_variables(files, file, value, group=name)
        else:
            nearest = difflib.get_close_matches(word, _KEYWORDS, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else "a group holds hosts, children and vars"
            line = word_node.start_mark.line + 1
            files.problems.append(Problem(f"{word} is no keyword of a group", f"{show(file)}:{line}", hint))


def _precedence(key: Key) -> tuple[int, int, str]:
    """Order as Ansible does: inventory file before group_vars, `all` before other groups, host variables last."""
    in_hosts_file = key.file.name == "hosts.yml"
    if key.host:
        return (2, 0 if in_hosts_file else 1, str(key.file))
    return (0 if key.group == "all" else 1, 0 if in_hosts_file else 1, str(key.file))


def _line_within(key: Key, location: Sequence[str | int]) -> int:
    node, line = key.node, key.line
    for step in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def plain_value(key: Key) -> Any:
    """Return a key's value as YAML alone reads it; tags that only Ansible knows become None."""
    constructor = _Loader("")
    try:
        return constructor.construct_document(key.node)
    except yaml.YAMLError:
        return None
    finally:
        constructor.dispose()
