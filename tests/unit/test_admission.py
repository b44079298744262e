"""What is let in: by tokens and time where the load is known, by inputs elsewhere."""

import pytest

from embedscale.core.embedding import EngineLoad
from embedscale.core.errors import Overloaded
from embedscale.embedding.admission import Admission, require_room


@pytest.mark.parametrize(
    ("load", "tokens", "remaining", "retry_after"),
    [
        (EngineLoad(0, 100, 10.0), 1000, 0.1, None),  # idle: anything
        (EngineLoad(90, 100, 10.0), 10, None, None),
        (EngineLoad(90, 100, 10.0), 11, None, 9.0),
        (EngineLoad(90, 100, None), 11, None, 1.0),
        (EngineLoad(90, 100, None), 10, 0.01, None),
        (EngineLoad(80, 100, 10.0), 10, 11.3, None),
        (EngineLoad(80, 100, 10.0), 10, 11.2, 8.0),
        (EngineLoad(80, 100, 10.0), 0, 0.1, None),  # all cached
        (None, 1000, 0.1, None),
    ],
)
def test_room_is_measured_in_tokens_and_time(
    load: EngineLoad | None, tokens: int, remaining: float | None, retry_after: float | None
) -> None:
    if retry_after is None:
        require_room(load, tokens, remaining)
        return
    with pytest.raises(Overloaded) as caught:
        require_room(load, tokens, remaining)
    assert caught.value.retry_after == pytest.approx(retry_after)


def test_inputs_count_only_where_the_load_is_not_known() -> None:
    admission = Admission(10)
    with admission.admit(8, None), admission.admit(500, EngineLoad(0, 1, None)):
        with pytest.raises(Overloaded), admission.admit(3, None):
            pass
        with admission.admit(2, None):
            pass
    with admission.admit(11, None):
        pass
