"""The texts of rows, and the surprise of their words."""

from __future__ import annotations

import numpy as np
import pytest

from gradsentry.report.rows import KEPT, RowText, Turn, decoded, shades, turns_of
from gradsentry.types import ChatSample, Surprises, TextSample, TokenSample, Vocabulary
from gradsentry.verdict.words import RowWords, split_words


def words_of(parts: list[tuple[str, bool, bool]]) -> RowWords:
    """Words of tokens (text, supervised, special); token i has i nats."""
    vocabulary = Vocabulary([text.encode() for text, _, _ in parts], np.array([special for *_, special in parts]))
    n = len(parts)
    return split_words(
        Surprises(np.arange(n, dtype=np.int32), np.arange(n, dtype=np.float16), np.array([mine for _, mine, _ in parts])), vocabulary
    )


def shaded(turns: list[Turn], words: RowWords) -> list[list[tuple[str, float]]]:
    text = RowText("here", tuple(turns))
    return [[(turn.text[slice(*span)], nats) for span, nats in own] for turn, own in zip(turns, shades(text, words), strict=True)]


def test_the_words_of_a_plain_row_have_their_surprise() -> None:
    words = words_of([("What", False, False), (" is", False, False), (" it?", False, False), (" No", True, False), ("w", True, False)])
    turns = [Turn("", "What is it?", False), Turn("", " Now", True)]
    assert shaded(turns, words) == [[("What", 8), ("is", 1), ("it", 2), ("?", 0)], [("Now", 7)]]


def test_turns_of_a_chat_are_found_in_what_the_template_made_of_them() -> None:
    parts = [
        ("<s>", False, True), ("user\n", False, False), ("No", False, False), ("</s>", False, True),
        ("assistant\n", False, False), ("Yes", True, False), ("</s>", True, True),
        ("user\n", False, False), ("No", False, False), ("</s>", False, True), ("assistant\n", False, False), ("Yes", True, False),
    ]  # fmt: skip
    turns = [Turn("user", " No ", False), Turn("assistant", "Yes", False), Turn("user", "No", False), Turn("assistant", "Yes", True)]
    assert shaded(turns, words_of(parts)) == [[("No", 2)], [("Yes", 5)], [("No", 8)], [("Yes", 11)]]


def test_a_turn_that_the_model_did_not_read_so_has_no_shades() -> None:
    words = words_of([("What", False, False), (" No", True, False)])
    assert shaded([Turn("", "What was cut", False), Turn("", " No", True)], words) == [[], [("No", 1)]]
    assert shades(RowText("here", (Turn("", "What", False),)), None) == [[]]


def test_token_ids_are_shown_as_text_where_it_is_known() -> None:
    turns = turns_of(TokenSample((5, 6, 7), (-100, 6, 7)))
    assert [turn.text for turn in turns] == ["1 token ids", "6 7"]
    text = RowText("here", turns, is_text=False)
    words = words_of([("What", False, False), (" is", True, False), (" <b>", True, False)])
    assert [(turn.text, turn.is_answer) for turn in decoded(text, words).turns] == [("What", False), (" is <b>", True)]
    assert decoded(text, None) is text
    plain = RowText("here", turns_of(TextSample("p", "c")))
    assert decoded(plain, words) is plain


def test_all_texts_of_a_chat_are_turns() -> None:
    call = [{"function": {"name": "ls"}}]
    prompt = ({"role": "system", "content": "S"}, {"role": "user", "content": "Q"})
    answer = {"role": "assistant", "content": "", "reasoning_content": "because", "tool_calls": call, "weight": 1, "name": ""}
    turns = turns_of(ChatSample(prompt, (answer,), tools=({"name": "ls"},)))
    assert [(turn.role, turn.text) for turn in turns] == [
        ("tools", "[{'name': 'ls'}]"),
        ("system", "S"),
        ("user", "Q"),
        ("assistant", f"reasoning_content: because tool_calls: {call}"),
    ]
    assert [turn.is_answer for turn in turns] == [False, False, False, True]


@pytest.mark.parametrize("extra", [0, 1, 1000])
def test_long_texts_are_kept_to_a_limit_and_the_rest_is_counted(extra: int) -> None:
    turns = turns_of(TextSample("p" * (KEPT + extra), "c" * 10))
    assert [(len(turn.text), turn.beyond) for turn in turns] == [(KEPT, extra), (10, 0)]
