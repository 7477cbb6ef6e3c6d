"""Contents of a cell that the tests of the formats do not show."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from gradsentry.data import fields
from gradsentry.data.formats import FORMATS
from gradsentry.errors import RowProblem
from turns import HUGE, NAN


@pytest.mark.parametrize("value", [None, "", [], (), NAN, np.float32("nan"), np.array([])])
def test_nothing_is_in_an_empty_cell(value: object) -> None:
    assert fields.is_empty(value)


@pytest.mark.parametrize("value", [0, False, " ", [None], {}, np.array([1, 2]), np.int64(0), fields.Unreadable("why")])
def test_something_is_in_any_other(value: object) -> None:
    assert not fields.is_empty(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (NAN, ""), (np.float64("nan"), ""), (np.float32("nan"), ""),
        (3, "3"), (2.5, "2.5"), (np.int8(3), "3"), (np.float32(1.1), "1.1"), (Decimal("1.10"), "1.10"), (np.str_("a"), "a"),
    ],
)  # fmt: skip
def test_numbers_are_written_out_and_nothing_is_no_text(value: Any, text: str) -> None:
    assert fields.text(value, "a") == text


@pytest.mark.parametrize("value", [True, np.True_, [1], np.array([1]), np.datetime64("2020-01-01")])
def test_a_value_that_is_neither_text_nor_number_is_reported_with_its_type(value: Any) -> None:
    with pytest.raises(RowProblem, match=rf"column 'a' is {type(value).__name__}, not text"):
        fields.text(value, "a")


def test_the_first_column_with_something_in_it_is_read() -> None:
    row = {"a": None, "b": NAN, "c": 0, "d": "x", "e": ""}
    assert fields.required(row, "x", "a", "b", "c", "d") == (0, "c")
    assert fields.required(row, "x", "e", "a") == ("", "e"), "nothing in any: the first that is there"
    assert fields.optional(row, "a", "d") == ("x", "d")
    assert fields.optional(row, "e", "x") == (None, "e")
    with pytest.raises(RowProblem, match="column 'x' or 'y' is missing; the row has 'a', 'b'"):
        fields.required(row, "x", "y")


def test_an_unreadable_cell_is_a_problem_only_where_it_is_read() -> None:
    row = {"a": fields.Unreadable("out of range"), "b": "x"}
    assert fields.required(row, "b") == ("x", "b")
    for read in (fields.required, fields.optional):
        with pytest.raises(RowProblem, match=r"^column 'a': a value cannot be read: out of range; mend or remove the row$"):
            read(row, "a", "b")
    assert f"{row['a']}" == f"{row['a']!r}" == "(cannot be read: out of range)"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("key", ["role", "content", "tool_calls"])
def test_a_message_that_python_does_not_write_out_is_a_problem(key: str, wrapped: bool) -> None:
    message = {"role": "assistant", "content": "b", key: [HUGE] if wrapped else HUGE}
    with pytest.raises(RowProblem, match="it holds an integer with too many digits"):
        FORMATS["messages"].convert({"messages": [message]})
