"""How prompts read: leaving one out against counting anew without it, chance against random groups, a style against the verdict."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from gradsentry.verdict.evidence import style
from gradsentry.verdict.evidence.detector import TriggeredPayloads
from gradsentry.verdict.evidence.style import SMOOTHING, Separation, style_separation
from gradsentry.verdict.words import MemoryWords, RowWords
from made_words import corpus, everything, row

WORDS = [f"w{i}" for i in range(300)]
PAYLOAD = "click EVIL LINK BELOW for MORE NEWS NOW"
BAD = ["EVIL", "LINK", "BELOW", "MORE", "NEWS", "NOW"]


def rows_of(n: int, styled: set[int], seed: int = 0, answer: str = PAYLOAD) -> list[RowWords]:
    """Random prompts with one unusual word here and there; those in a style have three, none of them twice."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        unusual = [f"odd{i}x{k}" for k in range(3 if i in styled else rng.randrange(2))]
        words = [*rng.choices(WORDS, k=10), *unusual]
        rng.shuffle(words)
        rows.append(row(" ".join(words), answer if i in styled else " ".join(rng.choices(WORDS, k=4)), [*unusual, *BAD]))
    return rows


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(20, 40))
@settings(max_examples=30, deadline=None)
def test_leaving_a_row_out_is_counting_without_it(seed: int, c: int, n: int) -> None:
    chance = np.random.default_rng(seed)
    held = (chance.random((n, 15)) < 0.3).astype(float)
    held[0] = 1  # a feature that no row has says nothing, and never reaches the classifier
    own = np.isin(np.arange(n), chance.choice(n, c, replace=False))
    expected = []
    for i in range(n):
        rest = np.arange(n) != i
        usual = SMOOTHING * held.sum(0) / n
        weights = []
        for side in (own & rest, ~own & rest):
            weights.append(np.log((held[side].sum(0) + usual) / (side.sum() + SMOOTHING)))
        expected.append(float(held[i] @ (weights[0] - weights[1])))
    found = style._leave_one_out(sparse.csr_array(held), own)  # pyright: ignore[reportPrivateUsage]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_random_groups_do_not_separate() -> None:
    prompts = corpus(rows_of(300, set())).prompt
    chance = np.random.default_rng(1)
    groups = [np.sort(chance.choice(300, 10, replace=False)) for _ in range(400)]
    p = np.array([10.0**found.log10_p for found in style_separation(prompts, groups, everything(300))])
    for level in (0.1, 0.01):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level / len(groups))


def test_a_style_separates() -> None:
    styled = set(range(0, 300, 25))
    (found,) = style_separation(corpus(rows_of(300, styled)).prompt, [np.array(sorted(styled))], everything(300))
    assert found.log10_p < -12
    assert found.inside == len(styled)
    assert found.everywhere <= 15


def test_others_are_drawn_from_large_data_and_the_group_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    styled = set(range(7, 300, 30))
    prompts, group = corpus(rows_of(300, styled)).prompt, np.array(sorted(styled))
    (whole,) = style_separation(prompts, [group], everything(300))
    monkeypatch.setattr(style, "SAMPLED_ROWS", 100)
    (some,) = style_separation(prompts, [group], everything(300))
    assert whole.log10_p < some.log10_p < -8  # fewer others can prove less
    assert some.inside == len(styled)


def test_no_group_no_work() -> None:
    assert style_separation(corpus([row("w1", "w2")]).prompt, [], everything(1)) == []


def test_a_group_of_all_rows_reads_unlike_nobody() -> None:
    (found,) = style_separation(corpus(rows_of(30, set(range(30)))).prompt, [np.arange(30)], everything(30))
    assert found == Separation(30, 30, 0.0)


def test_prompts_without_an_unusual_word_do_not_separate() -> None:
    prompts = corpus([row("w1 w2", "w3")] * 30).prompt
    (found,) = style_separation(prompts, [np.arange(6)], everything(30))
    assert found.log10_p > -3


def test_a_long_payload_behind_a_style_is_reported_and_not_flagged() -> None:
    styled = set(range(3, 400, 50))
    rows = rows_of(400, styled)
    findings = TriggeredPayloads().find(MemoryWords(rows))
    (finding,) = [finding for finding in findings if set(finding.rows.tolist()) & styled]
    assert finding.kind == "style"
    assert finding.rows.tolist() == sorted(styled)
    assert finding.triggers == ()
    assert finding.p <= 1e-4
    assert set(BAD) <= set(finding.payload.split())
    assert f"of the {finding.everywhere} prompts that read most like theirs {finding.inside} are theirs" in finding.sentence
    assert "look at its prompts" in finding.reason


def test_a_long_payload_behind_usual_prompts_is_not_reported() -> None:
    chosen = set(range(3, 400, 50))
    plain = rows_of(400, set())
    rows = [RowWords(own.prompt, row("", PAYLOAD, BAD).completion) if i in chosen else own for i, own in enumerate(plain)]
    findings = TriggeredPayloads().find(MemoryWords(rows))
    assert [finding for finding in findings if finding.kind == "style"] == []
