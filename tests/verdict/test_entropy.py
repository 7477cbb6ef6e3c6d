"""The published rule against densities written out, and each of its checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gradsentry.errors import UsageError
from gradsentry.verdict.entropy import FALLBACK, MIN_SHARE_ABOVE, choose, density, valley


def cluster(centre: float, spread: float, rows: int, seed: int = 0) -> NDArray[np.float64]:
    return np.clip(np.random.default_rng(seed).normal(centre, spread, rows), 0, 1)


def brute_force_density(entropies: NDArray[np.float64], at: float) -> float:
    n = len(entropies)
    mean = sum(entropies) / n
    sigma = math.sqrt(sum((x - mean) ** 2 for x in entropies) / (n - 1))
    bandwidth = 1.06 * sigma * n**-0.2
    return sum(math.exp(-(((at - x) / bandwidth) ** 2) / 2) / (bandwidth * math.sqrt(2 * math.pi)) for x in entropies) / n


@settings(max_examples=20, deadline=None)
@given(entropies=st.lists(st.floats(0, 1, width=16), min_size=2, max_size=25).filter(lambda values: np.std(values) > 0.02))
def test_the_density_is_a_sum_of_gaussians_of_the_published_bandwidth(entropies: list[float]) -> None:
    grid, heights = density(np.array(entropies))
    assert grid.shape == heights.shape == (1000,)
    assert (grid[0], grid[-1]) == (0.0, 1.0)
    for i in (0, 137, 500, 862, 999):
        assert heights[i] == pytest.approx(brute_force_density(np.array(entropies), float(grid[i])), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("entropies", [[], [0.4], [0.4, 0.4, 0.4]])
def test_a_density_without_spread_is_refused(entropies: list[float]) -> None:
    with pytest.raises(ValueError, match="two different"):
        density(np.array(entropies))


@settings(max_examples=25, deadline=None)
@given(
    low=st.floats(0.15, 0.35), high=st.floats(0.65, 0.85), n_low=st.integers(40, 400), n_high=st.integers(40, 400), seed=st.integers(0, 99)
)
def test_two_clear_clusters_are_cut_at_the_lowest_density_between_them(low: float, high: float, n_low: int, n_high: int, seed: int) -> None:
    clean, poisoned = cluster(low, 0.02, n_low, seed), cluster(high, 0.02, n_high, seed + 1)
    entropies = np.concatenate([clean, poisoned])
    found = valley(entropies)
    assert (found.method, found.reliable, found.problems) == ("valley", True, ())
    assert clean.max() < found.value < poisoned.min()
    grid, heights = density(entropies)
    between = (grid > low) & (grid < high)
    assert brute_force_density(entropies, found.value) == pytest.approx(heights[between].min(), rel=1e-6)


def test_the_order_of_the_rows_does_not_matter() -> None:
    entropies = np.concatenate([cluster(0.3, 0.03, 100), cluster(0.7, 0.03, 30)])
    shuffled = np.random.default_rng(3).permutation(entropies)
    assert valley(entropies).value == pytest.approx(valley(shuffled).value)


def test_with_three_clusters_the_outer_peaks_count() -> None:
    entropies = np.concatenate([cluster(c, 0.02, n, n) for c, n in ((0.2, 100), (0.5, 101), (0.85, 60))])
    assert 0.55 < valley(entropies).value < 0.8, "the deeper of the two valleys lies between the last two"


def assert_falls_back(entropies: NDArray[np.float64], reason: str) -> None:
    found = valley(entropies)
    assert (found.value, found.method, found.reliable) == (FALLBACK, "fallback", False)
    assert FALLBACK == 0.7
    assert reason in "; ".join(found.problems)


def test_one_cluster_falls_back_and_says_that_nothing_separates() -> None:
    assert_falls_back(cluster(0.4, 0.05, 500), "one peak, not two")


def test_fewer_than_thirty_rows_fall_back_and_thirty_do_not() -> None:
    entropies = np.concatenate([cluster(0.3, 0.01, 20), cluster(0.8, 0.01, 10)])
    assert_falls_back(entropies[:-1], "only 29 scored rows; the rule needs 30")
    assert valley(entropies).reliable


def test_rows_that_are_all_alike_fall_back() -> None:
    assert_falls_back(np.full(50, 0.4), "all rows have the same entropy")


def test_peaks_that_are_close_fall_back_and_say_how_close() -> None:
    assert_falls_back(np.concatenate([cluster(0.40, 0.01, 200), cluster(0.50, 0.01, 200, 1)]), "its two peaks are 0.10 apart, not 0.15")


@pytest.mark.parametrize(("clean", "poisoned"), [(60, 4), (2000, 19)])
def test_too_few_rows_above_the_valley_fall_back(clean: int, poisoned: int) -> None:
    entropies = np.concatenate([cluster(0.3, 0.01, clean), np.full(poisoned, 0.9)])
    assert poisoned < 5 or poisoned < MIN_SHARE_ABOVE * len(entropies)
    assert_falls_back(entropies, f"{poisoned} of {clean + poisoned} rows lie above the valley")


def test_just_enough_rows_above_the_valley_are_reliable() -> None:
    assert valley(np.concatenate([cluster(0.3, 0.01, 60), np.full(5, 0.9)])).reliable
    assert valley(np.concatenate([cluster(0.3, 0.01, 1980), np.full(21, 0.9)])).reliable


def test_two_failed_checks_are_both_reported() -> None:
    entropies = np.concatenate([cluster(0.40, 0.005, 300), np.full(4, 0.46)])
    assert len(valley(entropies).problems) == 2


@settings(max_examples=40, deadline=None)
@given(entropies=st.lists(st.floats(0, 1), max_size=80))
def test_any_entropies_give_a_threshold_in_range_with_reasons_unless_reliable(entropies: list[float]) -> None:
    found = valley(np.array(entropies))
    assert 0 <= found.value <= 1
    assert found.reliable == (found.method == "valley") == (not found.problems)


def test_auto_is_the_published_rule() -> None:
    entropies = np.concatenate([cluster(0.3, 0.03, 100), cluster(0.7, 0.03, 30)])
    assert choose("auto", entropies) == valley(entropies)


@pytest.mark.parametrize(("spec", "value"), [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1e-1", 0.1)])
def test_a_number_is_taken_as_it_is_and_claims_nothing(spec: str, value: float) -> None:
    found = choose(spec, cluster(0.4, 0.1, 50))
    assert (found.value, found.method, found.reliable) == (value, "given", False)
    assert found.problems


@pytest.mark.parametrize("spec", ["", "Auto", "1.1", "-0.1", "nan", "inf", "half", "quantile:0.9", "0.5%"])
def test_anything_else_is_refused_with_what_can_be(spec: str) -> None:
    with pytest.raises(UsageError, match=r"auto or a number from 0 to 1") as caught:
        choose(spec, np.array([0.1, 0.2]))
    assert f"--threshold {spec}" in str(caught.value)
