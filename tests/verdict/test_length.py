"""Entropy beyond length: what the length explains is taken out, what it does not stays."""

from __future__ import annotations

import numpy as np
import pytest

from gradsentry.verdict.entropy import beyond_length


def made(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(1, 200, n)
    return 0.2 * np.log(tokens) + generator.normal(0, 0.02, n), tokens


def test_length_is_taken_out_and_the_scale_is_a_standard_deviation() -> None:
    entropies, tokens = made(3000)
    beyond = beyond_length(entropies, tokens)
    assert abs(np.corrcoef(beyond, np.log(tokens))[0, 1]) < 0.1 < np.corrcoef(entropies, np.log(tokens))[0, 1]
    assert beyond.std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_poisoned_share_does_not_move_the_rest(share: float) -> None:
    entropies, tokens = made(3000)
    bad = np.random.default_rng(1).random(3000) < share
    beyond = beyond_length(np.where(bad, entropies + 0.2, entropies), tokens)
    assert np.median(beyond[bad]) > 3
    assert abs(np.median(beyond[~bad])) < 1


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_few_rows_and_equal_ones_get_numbers(n: int) -> None:
    assert np.isfinite(beyond_length(*made(n))).all()
    assert beyond_length(np.full(n, 0.5), np.full(n, 4)).tolist() == [0.0] * n
