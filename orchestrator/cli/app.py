"""The command `ratssaal`: a table of commands, each loaded when it is called.

`ratssaal --help` imports nothing but click: the tool is typed all day.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from orchestrator.cli.streams import forgive
from orchestrator.exitcodes import ExitCode

# command -> (module, attribute, its line in --help)
COMMANDS = {
    "new": ("new", "new", "Write a new site."),
    "users": ("users", "users", "Accounts of the people who may open rooms."),
    "preflight": ("preflight", "preflight", "Look whether a site is ready; touch nothing."),
    "plan": ("plan", "plan", "Show what provisioning would do; touch nothing."),
    "provision": ("change", "provision", "Install and configure the site's hosts."),
    "harden": ("change", "harden", "Harden SSH, kernel and services."),
    "verify": ("verify", "verify", "Prove what the hosts really are."),
    "audit": ("audit", "audit", "Let independent auditors look at the hosts."),
    "drift": ("drift", "drift", "Show what differs from what was applied last."),
    "status": ("status", "status", "Show how the hosts and services are."),
    "runs": ("runs", "runs", "Show who did what, when, with which result."),
    "unlock": ("unlock", "unlock", "Clear the lock of a run that is dead."),
    "lab": ("lab", "lab", "Throwaway hosts on this machine."),
    "rehearse": ("rehearse", "rehearse", "Provision, harden and verify a throwaway host."),
    "completion": ("completion", "completion", "Print the shell's completion script."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used; their help lines stand in the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which an operator needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"orchestrator.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what would end it by force lets it clean up."""
        from orchestrator.cli.console import colours
        from orchestrator.cli.ending import in_good_order

        ctx.color = colours()
        with in_good_order():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or name the nearest one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else " `ratssaal --help` lists them."
            raise click.UsageError(f"There is no command {name}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from orchestrator import __version__

        click.echo(f"ratssaal {__version__}")
        ctx.exit()


def _width() -> int:
    """Return how wide help is written: as click does it, but without `shutil`, whose import takes a tenth of `--help`."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError, AttributeError):
        columns = 80
    return max(min(columns or 80, 80) - 2, 50)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "terminal_width": _width()})
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version)
def cli(debug: bool) -> None:
    """A town's own video conferences: provision, harden and verify Jitsi Meet."""
    if debug:
        os.environ["RATSSAAL_DEBUG"] = "1"


def main() -> None:
    """Run the command line and end the process with a promised exit code (docs/exit-codes.md)."""
    forgive()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are printed, tracebacks only with --debug."""
    try:
        return int(cli.main(arguments, prog_name="ratssaal", standalone_mode=False) or ExitCode.OK)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return _ended(stop)
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo("interrupted; the same command again goes on", err=True)
        _notes(error)
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        # Not needed by --help and what else goes well, so not imported before.
        from orchestrator.cli import failure

        return failure.tell(error, as_json="--json" in arguments)


def _notes(error: BaseException) -> None:
    from orchestrator.cli import console

    console.notes(error)


def _ended(stop: SystemExit) -> int:
    from orchestrator.errors import Ended

    if isinstance(stop, Ended):
        click.echo(f"ended by {stop.name}; the same command again goes on", err=True)
        _notes(stop)
    return int(stop.code or ExitCode.OK)


if __name__ == "__main__":
    main()
