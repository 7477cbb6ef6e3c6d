"""What every filter of one pass has in common, and the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradsentry.bench.filters import FILTERS, ONE_PASS, SLOW
from gradsentry.bench.training import TargetModel
from gradsentry.errors import UsageError

ABLATIONS = ("paper-k4", "paper-k8", "paper-uncropped")
QUICK = [name for name in FILTERS if name not in (*SLOW, *ABLATIONS)]
MEASURED: dict[Any, Any] = {}
"""By the function that measured: rows are looked at once, as the runner does it."""


def measured(name: str, target: TargetModel, rows: list[dict[str, str]]) -> Any:
    measure = FILTERS[name].measure
    if measure not in MEASURED:
        MEASURED[measure] = measure(target, rows)
    return MEASURED[measure]


@pytest.fixture(scope="module")
def rows(planted: Any) -> list[dict[str, str]]:
    """With one row that cannot be scored."""
    return [*planted[0][:120], {"prompt": "nothing", "completion": ""}, *planted[0][120:]]


@pytest.mark.parametrize("name", QUICK)
def test_verdicts_follow_the_chosen_rows_in_their_order(name: str, target: TargetModel, rows: list[dict[str, str]]) -> None:
    found, decide = measured(name, target, rows), FILTERS[name].decide
    chosen = np.random.default_rng(1).permutation(len(rows))[:150]
    order = np.random.default_rng(2).permutation(150)
    first = decide(found, chosen, [rows[i] for i in chosen], 3)
    again = decide(found, chosen, [rows[i] for i in chosen], 3)
    turned = decide(found, chosen[order], [rows[i] for i in chosen[order]], 3)
    assert first.flagged.dtype == bool
    assert first.flagged.shape == (150,)
    assert first.flagged.tolist() == again.flagged.tolist()
    if name != "random":
        assert first.flagged[order].tolist() == turned.flagged.tolist()
    if first.scores is None or again.scores is None or turned.scores is None:
        assert name in ("graceful", "none")
        return
    assert first.scores.shape == (150,)
    assert np.isfinite(first.scores).all()
    np.testing.assert_array_equal(first.scores, again.scores)
    if first.flagged.any() and not first.flagged.all():
        assert first.scores[first.flagged].min() >= first.scores[~first.flagged].max()
    if name != "random":
        np.testing.assert_allclose(first.scores[order], turned.scores, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in QUICK if name not in ("duplicates", "random", "none")])
def test_a_row_is_measured_by_itself(name: str, target: TargetModel, rows: list[dict[str, str]]) -> None:
    """The verdicts of some of the measured rows are those of measuring these rows alone."""
    assert FILTERS[name].per_row
    chosen = np.random.default_rng(4).permutation(len(rows))[:100]
    own = [rows[i] for i in chosen]
    among = FILTERS[name].decide(measured(name, target, rows), chosen, own, 0)
    alone = FILTERS[name].decide(FILTERS[name].measure(target, own), np.arange(100), own, 0)
    assert among.flagged.tolist() == alone.flagged.tolist()
    if among.scores is not None and alone.scores is not None:
        np.testing.assert_allclose(among.scores, alone.scores, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("few", [[], [{"prompt": "a", "completion": ""}], [{"prompt": "a", "completion": " b"}] * 3])
def test_no_rows_unscorable_rows_and_equal_rows_are_no_error(name: str, few: list[dict[str, str]], target: TargetModel) -> None:
    found = FILTERS[name].measure(target, few)
    verdicts = FILTERS[name].decide(found, np.arange(len(few)), few, 0)
    assert verdicts.flagged.shape == (len(few),)
    if len(few) < 2:
        assert not verdicts.flagged.any()


def test_an_unknown_defence_is_reported_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"filter 'gracefull' is unknown, did you mean 'graceful'\?; there are paper, .*graceful, "):
        FILTERS["gracefull"]
    with pytest.raises(UsageError, match="filter 'x' is unknown; there are paper"):
        FILTERS["x"]


@pytest.mark.parametrize("name", QUICK)
def test_every_defence_says_what_it_is(name: str) -> None:
    assert name in FILTERS
    assert FILTERS[name].about
    assert FILTERS[name] is FILTERS[name]


def test_one_forward_pass_serves_four() -> None:
    assert set(ONE_PASS) <= set(FILTERS)
    assert len({FILTERS[name].measure for name in ("paper", "evidence", "length", "loss")}) == 1
