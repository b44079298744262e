"""How commands fail: one clear line on standard error and an exit code that scripts can rely on."""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import click

from embedscale.cli.exit_codes import EXIT_INTERRUPTED, EXIT_SERVER, EXIT_TERMINATED, EXIT_UNREAD, EXIT_USER
from embedscale.client import ClientError
from embedscale.client import errors as client_errors

_USER_REASONS = {
    "MODEL_NOT_FOUND",
    "EVALUATION_NOT_FOUND",
    "DATASET_NOT_FOUND",
    "DATASET_INVALID",
    "DATASET_FORBIDDEN",
    "INVALID_FIELD",
    "INPUT_TOO_LONG",
    "EVALUATION_NOT_FINISHED",
    "NOT_COMPARABLE",
    "GENERATION_LIMIT",
}

Parameters = ParamSpec("Parameters")


class CommandFailed(Exception):
    """Ends the command with a line and an exit code."""

    def __init__(self, message: str, code: int = EXIT_SERVER) -> None:
        super().__init__(message)
        self.code = code


def from_reason(reason: str, message: str) -> CommandFailed:
    """Fail as an error of a server says, by the name of its reason."""
    return CommandFailed(message, EXIT_USER if reason in _USER_REASONS else EXIT_SERVER)


def asynchronous(command: Callable[Parameters, Coroutine[Any, Any, None]]) -> Callable[Parameters, None]:
    """Run a coroutine as a command; SIGTERM ends it as Ctrl-C does; what it raises becomes a line and an exit code."""

    @functools.wraps(command)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        asyncio.run(_until_terminated(command(*arguments, **options)))

    return reported(run)


def blocking(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Run a command that waits on this thread, as for its input, where an event loop would not hear of Ctrl-C.

    SIGTERM ends it as Ctrl-C does; what it raises becomes a line and an exit code.
    """

    @functools.wraps(command)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*arguments, **options)
        finally:
            signal.signal(signal.SIGTERM, before)

    return reported(run)


def reported(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Run a command; what it raises becomes a line and an exit code."""

    @functools.wraps(command)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            _end("interrupted", EXIT_INTERRUPTED)
        except asyncio.CancelledError:
            _end("terminated", EXIT_TERMINATED)
        except CommandFailed as error:
            _end(str(error), error.code)
        except ClientError as error:
            failure = _from_client(error)
            _end(str(failure), failure.code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
            sys.exit(EXIT_UNREAD)
        except OSError as error:
            _end(f"{error.filename or 'input or output'}: {error.strerror or error}", EXIT_USER)

    return run


def _terminate(*_: object) -> None:
    raise asyncio.CancelledError


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.current_task()
    if task:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


def _from_client(error: ClientError) -> CommandFailed:
    if error.reason:
        return from_reason(error.reason, error.message)
    if isinstance(error, client_errors.Unavailable):
        return CommandFailed(f"{error.message}; is the cluster up? `evalctl up --detach` starts one on this machine")
    wrong = isinstance(error, client_errors.InvalidArgument | client_errors.NotFound | client_errors.PermissionDenied)
    return CommandFailed(error.message, EXIT_USER if wrong else EXIT_SERVER)


def _end(message: str, code: int) -> None:
    click.echo(f"evalctl: {message}", err=True)
    sys.exit(code)
