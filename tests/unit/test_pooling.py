"""Pooling against loops over tokens."""

import pytest
import torch

from embedscale.embedder.pooling import POOLINGS, cls, last_token, mean

LENGTHS = (1, 4, 7, 3)


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(len(LENGTHS), max(LENGTHS), 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.tensor([[1] * length + [0] * (max(LENGTHS) - length) for length in LENGTHS])


def test_mean_is_the_mean_of_the_tokens_that_are_not_padding(hidden: torch.Tensor, mask: torch.Tensor) -> None:
    pooled = mean(hidden, mask)
    assert pooled.shape == (4, 5)
    for row, length in enumerate(LENGTHS):
        for column in range(5):
            expected = sum(hidden[row, token, column].item() for token in range(length)) / length
            assert pooled[row, column].item() == pytest.approx(expected, abs=1e-6)


def test_cls_is_the_first_token(hidden: torch.Tensor, mask: torch.Tensor) -> None:
    for row, pooled in enumerate(cls(hidden, mask).tolist()):
        assert pooled == hidden[row][0].tolist()


def test_last_token_is_the_last_one_that_is_not_padding(hidden: torch.Tensor, mask: torch.Tensor) -> None:
    for row, pooled in enumerate(last_token(hidden, mask).tolist()):
        assert pooled == hidden[row][LENGTHS[row] - 1].tolist()


@pytest.mark.parametrize("name", POOLINGS)
def test_what_stands_in_the_padding_does_not_matter(name: str, hidden: torch.Tensor, mask: torch.Tensor) -> None:
    before = POOLINGS[name](hidden, mask)
    hidden[mask == 0] = 1e6
    assert torch.equal(POOLINGS[name](hidden, mask), before)


@pytest.mark.parametrize("name", POOLINGS)
def test_padding_may_be_on_either_side(name: str, hidden: torch.Tensor, mask: torch.Tensor) -> None:
    moved = torch.stack([row.roll(len(row) - length, 0) for row, length in zip(hidden, LENGTHS, strict=True)])
    torch.testing.assert_close(POOLINGS[name](moved, mask.flip(1)), POOLINGS[name](hidden, mask))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_row_is_pooled_alike_alone_and_in_a_batch(name: str, hidden: torch.Tensor, mask: torch.Tensor) -> None:
    together = POOLINGS[name](hidden, mask)
    for row, length in enumerate(LENGTHS):
        alone = POOLINGS[name](hidden[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_texts_in_half_precision_stay_near_their_tokens(name: str, dtype: torch.dtype) -> None:
    tokens = 8192
    pooled = POOLINGS[name](torch.full((1, tokens, 3), 12.0, dtype=dtype), torch.ones(1, tokens, dtype=torch.long))
    assert pooled.float().tolist() == [[pytest.approx(12.0, rel=0.01)] * 3]


def test_every_pooling_has_the_name_that_catalogs_use() -> None:
    assert {"mean": mean, "cls": cls, "last_token": last_token} == POOLINGS
