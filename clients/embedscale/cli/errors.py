"""How commands fail: one clear line on standard error and an exit code that scripts can rely on."""

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

import click

from embedscale.client import (
    ClientError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from embedscale.client import errors as client_errors

EXIT_USER = 2
"""The command, its arguments or its data are wrong."""
EXIT_SERVER = 3
"""A server failed, or none answers."""
EXIT_INTERRUPTED = 130
"""Ctrl-C."""
EXIT_TERMINATED = 143
"""SIGTERM."""

_USER_ERRORS = (InvalidArgument, NotFound, PermissionDenied, Unauthenticated)
_USER_REASONS = {
    "MODEL_NOT_FOUND",
    "EVALUATION_NOT_FOUND",
    "DATASET_NOT_FOUND",
    "DATASET_INVALID",
    "DATASET_FORBIDDEN",
    "INVALID_FIELD",
    "INPUT_TOO_LONG",
    "NOT_COMPARABLE",
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
    """Run a coroutine as a command, and turn what it raises into a line and an exit code."""

    @functools.wraps(command)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            asyncio.run(command(*arguments, **options))
        except KeyboardInterrupt:
            _end("interrupted", EXIT_INTERRUPTED)
        except asyncio.CancelledError:
            _end("terminated", EXIT_TERMINATED)
        except CommandFailed as error:
            _end(str(error), error.code)
        except client_errors.Unavailable as error:
            _end(f"{error.message}; is the cluster up? `evalctl up --detach` starts one on this machine", EXIT_SERVER)
        except ClientError as error:
            wrong = isinstance(error, _USER_ERRORS) and not isinstance(error, FailedPrecondition)
            _end(error.message, EXIT_USER if wrong else EXIT_SERVER)

    return run


def _end(message: str, code: int) -> None:
    click.echo(f"evalctl: {message}", err=True)
    sys.exit(code)
