"""`evalctl completion`: what a shell needs to complete commands, models, data sets and evaluations."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: evalctl completion bash > ~/.local/share/bash-completion/completions/evalctl
    zsh:  evalctl completion zsh > "${fpath[1]}/_evalctl"
    fish: evalctl completion fish > ~/.config/fish/completions/evalctl.fish

    Example: evalctl completion bash > ~/.local/share/bash-completion/completions/evalctl
    """
    made = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    click.echo(made(root, {}, "evalctl", "_EVALCTL_COMPLETE").source())  # type: ignore[misc]
