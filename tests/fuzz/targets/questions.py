"""What language models answer: at most as many questions as were asked for, whose words are in the answer.

The first byte is how many are asked for, and whether the answer is cut.
"""

from random import Random

from embedscale.evaluator.generation.parsing import read
from tests.fuzz.mutating import mutated_json

_CUT = 128
_REFUSALS = ("I cannot", "I'm sorry")


def check(data: bytes) -> None:
    if not data:
        return
    answer = data[1:].decode("utf-8", "replace")
    count = 1 + data[0] % 5
    found = read(answer, count, _REFUSALS, is_cut=data[0] >= _CUT)
    assert (found.failure is None) == bool(found.questions)
    assert len(found.questions) <= count
    assert found.surplus == 0 or len(found.questions) == count
    for question in found.questions:
        assert question.text == " ".join(question.text.split())
        assert question.text.isprintable()
    if not answer.strip().startswith(("{", "[", "```")):  # in JSON letters may be escaped
        assert all(_words(question.text) in _words(answer) for question in found.questions)
    assert read(answer, count, _REFUSALS, is_cut=data[0] >= _CUT) == found


def mutate(data: bytes, pick: Random) -> bytes | None:
    changed = mutated_json(data[1:], pick)
    return None if changed is None else data[:1] + changed


def _words(text: str) -> str:
    return "".join(character for character in text if character.isalnum())
