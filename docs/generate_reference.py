"""Writes `docs/reference.md` from the code itself: commands, settings, metrics, models. `make docs` runs it."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import click
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel

from embedscale.cli.exit_codes import EXIT_CODES
from embedscale.cli.main import main
from embedscale.cli.plan import Plan
from embedscale.cli.variables import VARIABLES
from embedscale.embedder import telemetry as embedder
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding import telemetry as embedding
from embedscale.embedding.catalog import LocalModel, RemoteModel, UpstreamEntry, load_catalog
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator import telemetry as evaluator
from embedscale.evaluator.generation.chat_catalog import ChatEntry
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy import telemetry as openai_proxy
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit import telemetry as every_server
from embedscale.servicekit.embedding_access import EmbeddingAccess
from embedscale.servicekit.settings import ListenerSettings, ServerSettings

PAGE = Path(__file__).with_name("reference.md")
SETTINGS: dict[str, type[BaseModel]] = {
    "Every server": ListenerSettings,
    "Every server but the gateway": ServerSettings,
    "Embedder and proxy": EmbeddingServerSettings,
    "Evaluator and gateway": EmbeddingAccess,
    "`python -m embedscale.embedder`": EmbedderSettings,
    "`python -m embedscale.openai_proxy`": ProxySettings,
    "`python -m embedscale.openai_gateway`": GatewaySettings,
    "`python -m embedscale.evaluator`": EvaluatorSettings,
}
METRICS: dict[str, ModuleType] = {
    "Every server": every_server,
    "Embedder and proxy": embedding,
    "Embedder": embedder,
    "Proxy": openai_proxy,
    "Evaluator": evaluator,
}


def page() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        "Written by `make docs` from the code; do not edit.",
        "## Commands",
        *commands(),
        "### Exit codes",
        "\n".join(table(("code", "meaning"), ((str(code), meaning) for code, meaning in EXIT_CODES.items()))),
        "### Environment variables",
        "\n".join(table(("variable", "meaning"), ((f"`{name}`", meaning) for name, meaning in VARIABLES.items()))),
        "### Fields of a plan",
        "`evalctl run -f plan.yaml`; [an example](cli.md#plans).",
        "\n".join(table(("field", "default", "meaning"), plan_fields())),
        "## Settings of the servers",
        "Each is a flag of `python -m MODULE`, or an environment variable: `--redis-url` is `EMBEDSCALE_REDIS_URL`. "
        "Lists and mappings are JSON in the environment.",
        *settings(),
        "## Metrics",
        "Prometheus metrics on `--metrics-port`; [what to look at](guide-telemetry.md). A model's label is its name in "
        "the catalog. Beside these there are `process_*` and `python_*`, of the process and of Python.",
        *metrics(),
        "## Catalog",
        *catalog(),
    ]
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[str]:
    """Help of `evalctl` and each of its commands."""
    for path, command in _tree("evalctl", main):
        with click.Context(command, info_name=path, help_option_names=["-h", "--help"], terminal_width=110) as context:
            yield f"### `{path}`\n\n```text\n{command.get_help(context)}\n```"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(row)} |"


def plan_fields() -> Iterator[Sequence[str]]:
    """Fields of `evalctl run -f`."""
    for name, field in Plan.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`"
        yield f"`{name}`", default, str(field.description)


def _tree(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in sorted(command.list_commands(context)):
            if one := command.get_command(context, name):
                yield from _tree(f"{path} {name}", one)


def settings() -> Iterator[str]:
    """Fields of settings, each where it is defined: first what servers share."""
    for title, kind in SETTINGS.items():
        shared = [name.lower() for name, base in SETTINGS.items() if base in kind.__mro__[1:]]
        beside = f"Beside those of *{'*, *'.join(shared)}*:\n\n" if shared else ""
        yield f"### {title}\n\n" + beside + "\n".join(table(("flag", "default", "meaning"), _fields(kind)))


def _fields(kind: type[BaseModel]) -> Iterator[Sequence[str]]:
    own = inspect.get_annotations(kind)
    for name, field in kind.model_fields.items():
        if name in own:
            default = "none" if field.default in (None, "", [], {}) else f"`{field.default}`"
            yield f"`--{name.replace('_', '-')}`", default, " ".join(str(field.description).split())


def metrics() -> Iterator[str]:
    """Metrics, by the servers that have them."""
    for title, module in METRICS.items():
        yield f"### {title}\n\n" + "\n".join(table(("metric", "labels", "meaning"), map(_metric, collectors(module))))


def collectors(module: ModuleType) -> list[Counter | Gauge | Histogram]:
    """Metrics that a module defines, in its order."""
    return [one for one in vars(module).values() if isinstance(one, Counter | Gauge | Histogram)]


def _metric(collector: Counter | Gauge | Histogram) -> Sequence[str]:
    (metric,) = collector.describe()
    name = f"{metric.name}_total" if isinstance(collector, Counter) else metric.name
    return f"`{name}`", ", ".join(collector._labelnames) or "none", metric.documentation


def catalog() -> Iterator[str]:
    """Shipped models, and the fields of an entry."""
    rows = ["| model | engine | source | licence |", "|---|---|---|---|"]
    for name, model in sorted(load_catalog().models.items()):
        source = model.upstream if isinstance(model, RemoteModel) else model.source.hub or model.source.package
        rows.append(f"| `{name}` | {model.engine} | `{source}` | {model.license} |")
    yield "\n".join(rows)
    entries: dict[str, type[BaseModel]] = {
        "Local models": LocalModel,
        "Remote models": RemoteModel,
        "Upstreams": UpstreamEntry,
        "Chat models": ChatEntry,
    }
    for title, kind in entries.items():
        fields = [f"| `{name}` | {field.description} |" for name, field in kind.model_fields.items()]
        yield f"### {title}\n\n" + "\n".join(["| field | meaning |", "|---|---|", *fields])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
