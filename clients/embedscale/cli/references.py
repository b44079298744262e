"""Names of evaluations as people type them: whole, or so much of the id that it can be no other."""

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb

SHORT = 8
"""Digits of an id that tables show."""
_PREFIX = "evaluations/"
_WHOLE = 32


async def found(client: AsyncEvaluationClient, reference: str) -> pb.Evaluation:
    """Return the evaluation meant. Raises CommandFailed if there is none, or if there are several."""
    wanted = reference.removeprefix(_PREFIX)
    if len(wanted) >= _WHOLE:
        return await client.get(_PREFIX + wanted)
    matches = [one async for one in client.list() if wanted and identifier(one).startswith(wanted)]
    if not matches:
        raise CommandFailed(f"no evaluation begins with {wanted!r}; `evalctl list` shows all", EXIT_USER)
    if len(matches) > 1:
        several = ", ".join(identifier(one) for one in matches[:5])
        raise CommandFailed(f"{len(matches)} evaluations begin with {wanted!r}: {several}", EXIT_USER)
    return matches[0]


def identifier(evaluation: pb.Evaluation) -> str:
    """Id without what all names begin with."""
    return evaluation.name.removeprefix(_PREFIX)


def state(evaluation: pb.Evaluation) -> str:
    """State in small letters, with the place in the queue or the attempt where they matter."""
    word = pb.EvaluationState.Name(evaluation.state).removeprefix("EVALUATION_STATE_").lower()
    if evaluation.queue_position:
        return f"waiting ({ordinal(evaluation.queue_position)})"
    return f"{word} (attempt {evaluation.attempt})" if evaluation.attempt > 1 else word


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
