"""`evalctl up` and `evalctl down`: the whole cluster on this machine."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from embedscale.cli.errors import CommandFailed, asynchronous
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.home import ClusterState, Home
from embedscale.cli.local_cluster import (
    DEFAULT_MODELS,
    START_SECONDS,
    LocalCluster,
    Ports,
)

_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1


@click.command()
@click.option("--detach", "-d", is_flag=True, help="Return once it is ready, and leave it running.")
@click.option("--model", "models", multiple=True, default=DEFAULT_MODELS, show_default=True,
              help="Local model of the catalog to host; repeat for several.")  # fmt: skip
@click.option("--embedder-port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--proxy-port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--evaluator-port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--openai-port", type=click.IntRange(0, 65535),
              help="Serve OpenAI's HTTP API too, in front of all models. 0: a free one; off without it.")  # fmt: skip
@click.option("--redis-port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--chat-models", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="YAML file of chat models for `datasets generate`; by default chat-models.yaml in the home, if "
              "there is one.")  # fmt: skip
@asynchronous
async def up(
    detach: bool,
    models: Sequence[str],
    embedder_port: int,
    proxy_port: int,
    evaluator_port: int,
    openai_port: int | None,
    redis_port: int,
    chat_models: Path | None,
) -> None:
    """Start embedder, proxy, evaluator and Redis on this machine.

    Without --detach it stays in the foreground, and Ctrl-C stops everything.

    Example: evalctl up --detach
    """
    ports = Ports(embedder_port, proxy_port, evaluator_port, redis_port, openai_port)
    if detach:
        await _detached(Home(), ports, models, chat_models)
    else:
        await _in_foreground(Home(), ports, models, chat_models)


@click.command()
@asynchronous
async def down() -> None:
    """Stop the cluster of this machine.

    Example: evalctl down
    """
    home = Home()
    owner = home.owner()
    if owner is None:
        raise CommandFailed(f"no cluster is up in {home.folder}", EXIT_USER)
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while home.owner() is not None:
        if time.monotonic() > deadline:
            raise CommandFailed(f"process {owner} has not stopped after {_STOP_SECONDS:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)
    click.echo("stopped")


async def _in_foreground(home: Home, ports: Ports, models: Sequence[str], chat_models: Path | None) -> None:
    if chat_models is None and home.chat_models.is_file():
        chat_models = home.chat_models
    with home.owned():
        local = LocalCluster(home, ports, click.echo, models, chat_models)
        async with local as state:
            home.publish(replace(state, pid=os.getpid()))
            click.echo(f"ready; logs in {home.logs}; Ctrl-C stops it")
            await local.watch()


async def _detached(home: Home, ports: Ports, models: Sequence[str], chat_models: Path | None) -> None:
    if (running := home.cluster()) is not None:
        _refuse_options()
        return _say_ready(running, "already up")
    flags = [f"--{name}-port={port}" for name, port in vars(ports).items() if port is not None]
    flags += [f"--model={name}" for name in models]
    flags += [f"--chat-models={chat_models.absolute()}"] if chat_models else []
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "up.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "embedscale.cli", "up", *flags]
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _say_ready(await _published(home, supervisor), "ready", models[0])
    except BaseException as error:
        supervisor.terminate()
        code = await asyncio.to_thread(supervisor.wait)
        if isinstance(error, TimeoutError):
            lines = log.read_text().strip().splitlines() or ["it said nothing"]
            raise CommandFailed(lines[-1].removeprefix("evalctl: "), code or 3) from None
        raise


def _refuse_options() -> None:
    """Raise CommandFailed for options that a cluster that is up cannot take any more."""
    context = click.get_current_context()
    given = [f"--{name.replace('_', '-')}" for name in context.params if name != "detach" and _is_given(context, name)]
    if given:
        named = ", ".join(given).replace("--models", "--model")
        raise CommandFailed(f"already up: {named} would have no effect; `evalctl down` first", EXIT_USER)


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


async def _published(home: Home, supervisor: "subprocess.Popen[bytes]") -> ClusterState:
    """Return the cluster once it is ready. Raises TimeoutError when it ended before, or took too long."""
    deadline = time.monotonic() + START_SECONDS + _STOP_SECONDS
    while (state := home.cluster()) is None or state.pid != supervisor.pid:
        if supervisor.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(_POLL_SECONDS)
    return state


def _say_ready(state: ClusterState, word: str, model: str = DEFAULT_MODELS[0]) -> None:
    click.echo(f"{word}: evaluator {state.evaluation_address}, embedding {', '.join(state.embedding_addresses)}")
    if state.openai_url:
        click.echo(f"OpenAI's API: {state.openai_url}")
    click.echo(f"next: evalctl run --model {model} --dataset builtin:velmar/en")
