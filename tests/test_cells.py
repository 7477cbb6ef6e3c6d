"""What a cell may hold beside what the formats' tests show."""

from __future__ import annotations

import numpy as np
import pytest

from gradsentry import cells
from gradsentry.errors import RowProblem
from gradsentry.formats import FORMATS


@pytest.mark.parametrize("value", [None, "", []])
def test_nothing_is_in_an_empty_cell(value: object) -> None:
    assert cells.empty(value)


@pytest.mark.parametrize("value", [0, False, " ", [None], {}, np.array([]), np.array([1, 2])])
def test_something_is_in_any_other(value: object) -> None:
    assert not cells.empty(value)


def test_an_array_of_a_caller_is_a_problem_of_its_row_and_no_failure() -> None:
    with pytest.raises(RowProblem, match="column 'input_ids' is ndarray, not a list of token ids"):
        FORMATS["tokens"].convert({"input_ids": np.array([1, 2]), "labels": np.array([1, 2]), "text": "t"})
