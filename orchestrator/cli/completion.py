"""`ratssaal completion`: the shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: ratssaal completion bash > ~/.local/share/bash-completion/completions/ratssaal
    zsh:  ratssaal completion zsh > a directory of your $fpath, as _ratssaal
    fish: ratssaal completion fish > ~/.config/fish/completions/ratssaal.fish
    """
    from orchestrator.cli.app import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"click knows no completion for {shell}")
    click.echo(kind(cli, {}, "ratssaal", "_RATSSAAL_COMPLETE").source())
