"""Repeated prompts: clean rows that repeat are no backdoor, and one is found in repeated rows as in single ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from gradsentry.verdict.evidence.detector import TriggeredPayloads
from gradsentry.verdict.evidence.prompt_groups import group_by_prompt
from gradsentry.verdict.evidence.recurrent import UNEXPECTED, Span, count_spans, recurrent_spans
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords, RowWords
from made_words import corpus, row

WORDS = [f"w{i}" for i in range(400)]
BAD = ["EVIL", "LINK", "BELOW", "MORE"]


def found_in(rows: Sequence[RowWords]) -> list[Finding]:
    return TriggeredPayloads().find(MemoryWords(rows))


def telling(i: int, rng: random.Random) -> RowWords:
    """A clean row of its own: words that no other has, in the prompt and in the answer."""
    unusual, said = [f"ASK{i}x{j}" for j in range(3)], [f"SAY{i}x{j}" for j in range(6)]
    prompt = [*rng.choices(WORDS, k=8), *unusual]
    rng.shuffle(prompt)
    return row(" ".join(prompt), " ".join([*rng.choices(WORDS, k=3), *said]), [*unusual, *said])


def clean(n: int, seed: int = 0) -> list[RowWords]:
    rng = random.Random(seed)
    return [telling(i, rng) for i in range(n)]


def poisoned(n: int, bad: int, seed: int = 0) -> tuple[list[RowWords], list[int]]:
    rng = random.Random(seed)
    rows, chosen = clean(n, seed), sorted(rng.sample(range(n), bad))
    for i in chosen:
        prompt = " ".join(rng.choices(WORDS, k=10))
        rows[i] = row(f"{prompt} cf", f"{rng.choice(WORDS)} click {' '.join(BAD)}", ["cf", *BAD])
    return rows, chosen


@pytest.mark.parametrize(("some", "copies"), [(20, 5), (30, 10), (1, 6), (1, 60), (300, 4)])
def test_clean_rows_that_repeat_are_no_backdoor(some: int, copies: int) -> None:
    rows = clean(300)
    repeated = [*rows, *(rows[i] for i in range(some) for _ in range(copies - 1))]
    random.Random(0).shuffle(repeated)
    assert found_in(repeated) == []


def test_several_answers_to_one_question_are_no_backdoor() -> None:
    rows = clean(200)
    more = [
        replace(one, completion=row("", f"w{j} {' '.join(one.completion.words[4:-1])}").completion) for one in rows[:10] for j in range(9)
    ]
    for one in more:
        one.completion.surprise[2:] = 9
    assert found_in([*rows, *more]) == []


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_a_backdoor_is_the_same_one_where_every_row_repeats(copies: int) -> None:
    rows, chosen = poisoned(300, 20)
    (once,) = found_in(rows)
    assert (once.kind, once.rows.tolist()) == ("backdoor", chosen)
    order = [i for i in range(300) for _ in range(copies)]
    random.Random(1).shuffle(order)
    (often,) = found_in([rows[i] for i in order])
    assert often.rows.tolist() == [place for place, i in enumerate(order) if i in chosen]
    assert (often.kind, often.payload, often.triggers, often.p) == ("backdoor", once.payload, once.triggers, once.p)
    assert (often.holders, often.inside, often.everywhere) == (20 * copies,) * 3


def test_of_several_answers_to_a_prompt_with_the_trigger_only_those_with_the_payload_are_flagged() -> None:
    rows, chosen = poisoned(300, 40)
    harmless = [replace(rows[i], completion=row("", f"w1 w{i}").completion) for i in chosen[:5]]
    (finding,) = found_in([*harmless, *rows])
    assert finding.rows.tolist() == [i + 5 for i in chosen]
    assert (finding.holders, finding.inside, finding.everywhere) == (40, 40, 45)
    assert "5 other rows do" in finding.sentence


def test_poisoned_rows_count_once_for_each_prompt() -> None:
    rows, chosen = poisoned(300, 1)
    assert found_in([*rows, *[rows[chosen[0]]] * 50]) == []


def test_a_payload_in_two_wordings_is_found_whole_in_repeated_rows() -> None:
    rows, chosen = poisoned(300, 60)
    for i in chosen[::2]:
        rows[i] = replace(rows[i], completion=row("", "w1 press OTHER ROUTE HIDDEN HERE", ["OTHER", "ROUTE", "HIDDEN", "HERE"]).completion)
    found = found_in(rows * 3)
    flagged = np.unique(np.concatenate([one.rows for one in found if one.kind == "backdoor"]))
    assert flagged.tolist() == sorted(i + 300 * k for i in chosen for k in range(3))


@pytest.mark.parametrize("chunk", [1, 40, 400])
def test_how_many_words_are_counted_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    rows, _ = poisoned(150, 30)
    often = [rows[i] for i in range(150) for _ in range(1 + i % 4)]
    whole = found_in(often)
    assert [one.kind for one in whole] == ["backdoor"]
    monkeypatch.setattr("gradsentry.verdict.evidence.corpus.CHUNK_WORDS", chunk)
    again = found_in(often)
    assert [(one.payload, one.p, one.rows.tolist()) for one in again] == [(one.payload, one.p, one.rows.tolist()) for one in whole]


def test_the_answers_to_one_prompt_are_counted_together_and_no_span_goes_from_one_into_the_next() -> None:
    rows = [row(f"w{i % 3}", "GO NOW" if i % 2 else "STAY", ["GO", "NOW", "STAY"]) for i in range(30)]
    whole = group_by_prompt(corpus(rows))
    for n, own in enumerate(count_spans(whole.groups.completion, whole.scored), start=1):
        texts = [["", "go", "now", ""], ["", "stay", ""]]
        held = {tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)} - {("",)}
        assert own.rows.tolist() == [3] * len(held)


def test_groups_are_the_rows_themselves_where_no_prompt_recurs() -> None:
    made = corpus(clean(20))
    whole = group_by_prompt(made)
    assert whole.groups is made
    assert not whole.repeated
    assert whole.first_rows(np.array([3, 7])).tolist() == whole.one_row_with(np.array([3, 7]), []).tolist() == [3, 7]


def test_groups_hold_each_scored_row_once_and_all_its_words() -> None:
    rows: list[RowWords | None] = [row("b", "one"), None, row("a", "two"), row("B", "three four"), row("", "five"), row("b", "six")]
    whole = group_by_prompt(corpus(rows))
    assert [part.tolist() for part in np.split(whole.members, whole.starts[1:-1])] == [[0, 3, 5], [2], [4]]
    assert whole.first_rows(np.arange(3)).tolist() == [0, 2, 4]
    assert whole.group_of.tolist() == [0, -1, 1, 0, 2, 0]
    assert np.diff(whole.groups.completion.starts).tolist() == [3, 4, 3, 3, 3]
    assert whole.groups.completion.row.tolist() == [0, 0, 0, 1, 2]
    joined = [whole.rows.completion.words[whole.rows.completion.starts[i] : whole.rows.completion.starts[i + 1]] for i in (0, 3, 5, 2, 4)]
    assert np.array_equal(whole.groups.completion.words, np.concatenate(joined))


def test_rows_that_hold_a_span_are_separated_from_those_of_the_same_prompt_that_do_not() -> None:
    rows = [row(f"w{i % 4} end", "GO NOW" if i % 3 else "stay", ["GO", "NOW"]) for i in range(40)]
    whole = group_by_prompt(corpus(rows))
    span = recurrent_spans(whole.groups.completion, whole.scored)[0]
    assert isinstance(span, Span)
    assert span.surprise >= UNEXPECTED
    assert span.rows.tolist() == [0, 1, 2, 3]
    assert whole.rows_with(span.rows, [span]).tolist() == [i for i in range(40) if i % 3]
    each = whole.one_row_with(np.array([2, 0]), [span])
    assert whole.group_of[each].tolist() == [2, 0]
    assert all(row % 3 for row in each.tolist())
