"""`evalctl`: one file a command, imported when it runs."""

import click

from embedscale.cli import bash_completion  # noqa: F401 - it says how bash completes
from embedscale.cli.exit_codes import EXIT_CODES
from embedscale.cli.lazy import LazyGroup
from embedscale.tracing.exporting import start_tracing
from embedscale.tracing.spans import span

COMMANDS = {
    "up": ("up:up", "Start embedder, proxy, evaluator and Redis on this machine."),
    "down": ("up:down", "Stop the cluster of this machine."),
    "demo": (
        "demo:demo",
        "Start a cluster, evaluate three models in five languages, print the table, draw the chart, stop the cluster.",
    ),
    "context": ("context:context", "Choose the cluster that commands talk to."),
    "doctor": ("doctor:doctor", "Check everything between here and the cluster's models, and say what to do."),
    "models": ("models:models", "List the models that the cluster serves, or show one of them."),
    "embed": ("embed:embed", "Embed TEXTS, or the lines of files or of standard input."),
    "cache": ("cache:cache", "Look into the cache of embeddings, fill it and empty it."),
    "datasets": ("datasets:datasets", "List data sets, make them of documents, take them in and audit them."),
    "run": ("run:run", "Evaluate every MODEL on every data set, live, and print a table."),
    "compare": ("compare:compare", "Compare the evaluations ID: which model is better, and on which queries."),
    "list": ("list:list_evaluations", "List evaluations, the newest first."),
    "show": ("show:show", "Show the evaluation ID, which may be shortened."),
    "watch": ("watch:watch", "Follow the evaluation ID to its end; Ctrl-C ends only the watching."),
    "cancel": ("stop:cancel", "Stop the evaluations ID, wherever they run; those that have ended stay as they are."),
    "delete": ("stop:delete", "Forget the evaluations ID with their events and results; those that run are stopped."),
    "export": ("export:export", "Write the succeeded evaluation ID to files named by its id."),
    "report": ("report:report", "Write which model to choose, and why, to one HTML file that needs no network."),
    "completion": ("completion:completion", "Print the completion script of SHELL."),
    "version": ("version:version", "Print the versions of evalctl and what it stands on."),
}

_CODES = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())

_COLLECTOR_SECONDS = 2.0


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog=_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--context", "context_name", envvar="EVALCTL_CONTEXT", metavar="NAME",
              help="Cluster to talk to, by the name that `evalctl context set` gave it.")  # fmt: skip
@click.pass_context
def main(context: click.Context, context_name: str | None) -> None:  # noqa: ARG001
    """Serve embedding models and measure which one is best on your documents and languages.

    Example: evalctl --context production list
    """
    start_tracing("evalctl", _COLLECTOR_SECONDS)
    context.with_resource(span(f"evalctl {context.invoked_subcommand}", kind="CLIENT"))
