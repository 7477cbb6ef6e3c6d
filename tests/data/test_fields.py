"""What a cell may hold beside what the formats' tests show."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from gradsentry.data import fields
from gradsentry.errors import RowProblem
from turns import HUGE, NAN


@pytest.mark.parametrize("value", [None, "", [], (), NAN, np.float32("nan"), np.array([])])
def test_nothing_is_in_an_empty_cell(value: object) -> None:
    assert fields.empty(value)


@pytest.mark.parametrize("value", [0, False, " ", [None], {}, np.array([1, 2]), np.int64(0), fields.Unreadable("why")])
def test_something_is_in_any_other(value: object) -> None:
    assert not fields.empty(value)


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
def test_what_is_neither_text_nor_number_is_told_with_its_type(value: Any) -> None:
    with pytest.raises(RowProblem, match=rf"column 'a' is {type(value).__name__}, not text"):
        fields.text(value, "a")


def test_the_first_column_with_something_in_it_is_read() -> None:
    row = {"a": None, "b": NAN, "c": 0, "d": "x", "e": ""}
    assert fields.first(row, "x", "a", "b", "c", "d") == (0, "c")
    assert fields.first(row, "x", "e", "a") == ("", "e"), "nothing in any: the first that is there"
    assert fields.optional(row, "a", "d") == ("x", "d")
    assert fields.optional(row, "e", "x") == (None, "e")
    with pytest.raises(RowProblem, match="column 'x' or 'y' is missing; the row has 'a', 'b'"):
        fields.first(row, "x", "y")


def test_a_cell_that_could_not_be_read_is_a_problem_only_of_who_reads_it() -> None:
    row = {"a": fields.Unreadable("out of range"), "b": "x"}
    assert fields.first(row, "b") == ("x", "b")
    for read in (fields.first, fields.optional):
        with pytest.raises(RowProblem, match=r"^column 'a': a value cannot be read: out of range; mend or remove the row$"):
            read(row, "a", "b")
    assert f"{row['a']}" == f"{row['a']!r}" == "(cannot be read: out of range)"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("key", ["role", "content", "tool_calls"])
def test_a_message_that_python_does_not_write_out_is_a_problem(key: str, wrapped: bool) -> None:
    with pytest.raises(RowProblem, match="an integer with too many digits"):
        fields.message({"role": "a", "content": "b", key: [HUGE] if wrapped else HUGE}, "messages")
