"""The factored spectrum against dense linear algebra, and what must hold for any entropy."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elsewhere import Elsewhere
from gradsentry import spectrum


def dense(delta: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(delta.double().mT @ hidden.double() / delta.shape[-2])


@settings(max_examples=60, deadline=None)
@given(
    n_tokens=st.integers(1, 40),
    vocabulary=st.integers(1, 50),
    width=st.integers(1, 30),
    rank=st.integers(1, 40),
    seed=st.integers(0, 10_000),
)
def test_equals_the_dense_svd_for_any_shape_and_rank(n_tokens: int, vocabulary: int, width: int, rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n_tokens, rank, dtype=torch.float64, generator=generator)
    delta = mixed @ torch.randn(rank, vocabulary, dtype=torch.float64, generator=generator)
    hidden = torch.randn(n_tokens, width, dtype=torch.float64, generator=generator)
    values = spectrum.singular_values(delta, hidden)
    expected = dense(delta, hidden)
    assert values.shape == (min(n_tokens, vocabulary, width),)
    assert bool((values[:-1] >= values[1:]).all())
    # Squaring in the Gram costs half the digits of values that are zero in exact arithmetic.
    torch.testing.assert_close(values, expected[: len(values)], rtol=1e-6, atol=1e-6 * float(expected[0]) + 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_leading_values_keep_the_precision_of_their_input(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(1)
    delta, hidden = (torch.randn(30, n, generator=generator).to(dtype) for n in (200, 64))
    torch.testing.assert_close(spectrum.singular_values(delta, hidden), dense(delta, hidden)[:30], rtol=tolerance, atol=0)


def test_leading_dimensions_are_a_batch_and_padding_with_zero_rows_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    delta, hidden = (torch.randn(3, 12, n, generator=generator, dtype=torch.float64) for n in (50, 20))
    together = spectrum.singular_values(delta, hidden)
    for i in range(3):
        torch.testing.assert_close(together[i], spectrum.singular_values(delta[i], hidden[i]))
    padded = spectrum.singular_values(*(torch.nn.functional.pad(x, (0, 0, 0, 5)) for x in (delta, hidden)))
    torch.testing.assert_close(padded[:, :12] * 17 / 12, together)


def test_chunks_over_the_vocabulary_change_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(4, 2 * spectrum.GRAM_CHUNK_COLUMNS + 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(spectrum.gram(factor), factor @ factor.T)


def test_factors_of_different_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same T"):
        spectrum.singular_values(torch.ones(3, 5), torch.ones(4, 5))
    with pytest.raises(ValueError, match="T = 0"):
        spectrum.singular_values(torch.ones(0, 5), torch.ones(0, 5))


values_lists = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40)


@given(values=values_lists, k=st.integers(2, 20))
def test_entropy_equals_its_definition(values: list[float], k: int) -> None:
    top = sorted(values, reverse=True)[:k]
    p = [v / sum(top) for v in top]
    expected = -sum(x * math.log(x) for x in p) / math.log(k)
    assert float(spectrum.entropy(torch.tensor(values, dtype=torch.float64), k)) == pytest.approx(expected, abs=1e-9)


@given(values=values_lists, factor=st.floats(1e-3, 1e3), k=st.integers(2, 20))
def test_entropy_is_bounded_by_the_number_of_values_and_blind_to_scale(values: list[float], factor: float, k: int) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    result = float(spectrum.entropy(tensor, k))
    assert 0 <= result <= math.log(min(len(values), k)) / math.log(k) + 1e-9
    assert float(spectrum.entropy(tensor * factor, k)) == pytest.approx(result, abs=1e-9)


def test_equal_values_have_entropy_one_and_a_single_one_has_zero() -> None:
    assert float(spectrum.entropy(torch.ones(16))) == pytest.approx(1.0)
    assert float(spectrum.entropy(torch.tensor([3.0]))) == 0.0
    assert spectrum.entropy(torch.ones(5, 16)).shape == (5,)


def test_a_gradient_that_is_zero_gets_the_least_suspicious_score() -> None:
    assert float(spectrum.entropy(torch.zeros(16))) == 0.0


@pytest.mark.parametrize("values", [[-1.0, 2.0], [float("nan"), 1.0], [float("inf")]])
def test_entropy_refuses_what_cannot_be_singular_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        spectrum.entropy(torch.tensor(values))
    with pytest.raises(ValueError, match="at least 2"):
        spectrum.entropy(torch.ones(3), k=1)


def test_crops() -> None:
    assert spectrum.crop_widths(32000, 4096, "reference") == (4000, 512)
    assert spectrum.crop_widths(32000, 4096, "none") == (32000, 4096)
    assert spectrum.crop_widths(4, 4, "reference") == (1, 1)
    with pytest.raises(ValueError, match="'half'"):
        spectrum.crop_widths(10, 10, "half")


@pytest.mark.parametrize("values", [[2.5], [0.0], [1.0, 0.0]])
def test_the_least_entropy_is_zero_without_a_sign(values: list[float]) -> None:
    assert math.copysign(1, float(spectrum.entropy(torch.tensor(values)))) == 1


def test_a_device_without_float64_has_its_entropy_computed_on_the_cpu() -> None:
    values = torch.tensor([3.0, 2.0, 1.0])
    assert float(spectrum.entropy(Elsewhere.of(values))) == float(spectrum.entropy(values))
