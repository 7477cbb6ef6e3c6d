"""Shared prefixes: the partition against brute force, and scores that do not change by sharing."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from gradsentry import Scorer, prefix
from gradsentry.types import Encoded
from test_probe import MODELS, SMALL, made
from tiny import tiny_llama


def encoded(row: int, ids: list[int], prompt: int) -> Encoded:
    return Encoded(row, ids, [-100] * prompt + ids[prompt:])


def computed(rows: list[Encoded], groups: list[prefix.Group]) -> int:
    return sum(g.length for g in groups) + sum(len(rows[i].input_ids) - g.length for g in groups for i in g.members)


prompts = st.lists(
    st.lists(st.integers(0, 1), min_size=1, max_size=6).map(lambda bits: [bit for bit in bits for _ in range(5)]), max_size=6
)


@settings(max_examples=150, deadline=None)
@given(prompts=prompts)
def test_the_partition_computes_the_fewest_tokens(prompts: list[list[int]]) -> None:
    rows = [encoded(i, [*prompt, 7, 8], len(prompt)) for i, prompt in enumerate(prompts)]
    groups = prefix.group_by_prefix(rows)
    assert sorted(i for group in groups for i in group.members) == list(range(len(rows)))
    for group in groups:
        starts = {tuple(rows[i].input_ids[: group.length]) for i in group.members}
        assert len(starts) == 1
        assert all(group.length <= prefix.shareable(rows[i]) for i in group.members)
    # Brute force over every cut of the sorted rows into runs.
    order = sorted(range(len(rows)), key=lambda i: rows[i].input_ids[: prefix.shareable(rows[i])])
    best = sum(len(row.input_ids) for row in rows)
    for n_cuts in range(len(rows)):
        for cuts in combinations(range(1, len(rows)), n_cuts):
            total = 0
            for start, end in zip((0, *cuts), (*cuts, len(rows)), strict=True):
                members = [rows[i] for i in order[start:end]]
                limit = min(prefix.shareable(row) for row in members)
                length = next((n for n in range(limit, 0, -1) if len({tuple(row.input_ids[:n]) for row in members}) == 1), 0)
                length = length if length >= prefix.LEAST and len(members) > 1 else 0
                total += length + sum(len(row.input_ids) - length for row in members)
            best = min(best, total)
    assert computed(rows, groups) == best


def test_a_prefix_never_takes_the_token_that_predicts_the_first_supervised_one() -> None:
    rows = [encoded(i, [1] * 20 + [2 + i, 3], 20) for i in range(4)]
    assert prefix.shareable(rows[0]) == 19
    (group,) = prefix.group_by_prefix(rows)
    assert group.length == 19


@pytest.mark.parametrize("name", MODELS)
def test_scores_with_shared_prefixes_equal_scores_without(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = made(name, torch.float32)
    scorer = Scorer(model, tokenizer, crop="none", token_budget=90)
    generator = torch.Generator().manual_seed(0)
    passages = [torch.randint(3, 400, (n,), generator=generator).tolist() for n in (12, 20, 31)]
    rows = []
    for i in range(12):
        ids = passages[i % 3] + torch.randint(3, 400, (4 + i,), generator=generator).tolist()
        rows.append(encoded(i, ids, len(passages[i % 3]) + 2))
    groups = prefix.group_by_prefix(rows)
    assert sum(group.length for group in groups) == 12 + 20 + 31
    shared = {score.row: score for score in scorer.score_encoded(rows)}
    assert scorer.shares
    scorer.shares = False
    alone = {score.row: score for score in scorer.score_encoded(rows)}
    for i in range(12):
        assert shared[i].entropy == pytest.approx(alone[i].entropy, abs=1e-5)
        assert shared[i].loss == pytest.approx(alone[i].loss, abs=1e-5)
        assert shared[i].n_tokens == alone[i].n_tokens


def test_models_whose_window_is_shorter_than_the_rows_do_not_share(tokenizer: PreTrainedTokenizerFast) -> None:
    config = MistralConfig(vocab_size=400, sliding_window=16, **SMALL)  # pyright: ignore
    torch.manual_seed(0)
    model = MistralForCausalLM(config).eval()
    assert not prefix.can_share(model, 9)
    assert prefix.can_share(model, 8)
    assert prefix.can_share(tiny_llama(), 10_000)
    rows = [encoded(i, [5] * 20 + [6 + i, 7, 8], 20) for i in range(3)]
    together = list(Scorer(model, tokenizer).score_encoded(rows))
    for row, score in zip(rows, sorted(together, key=lambda score: score.row), strict=True):
        assert score.entropy == pytest.approx(next(iter(Scorer(model, tokenizer).score_encoded([row]))).entropy, abs=1e-5)


def test_a_model_in_train_mode_is_scored_without_dropout_in_its_prefixes_too(tokenizer: PreTrainedTokenizerFast) -> None:
    model = made("gpt2", torch.float32).train()  # GPT-2's default dropout is 0.1
    rows = [encoded(i, [5 + j for j in range(30)] + [40 + i, 7, 8, 9], 31) for i in range(3)]
    first, second = ({s.row: s for s in Scorer(model, tokenizer).score_encoded(rows)} for _ in range(2))
    assert first == second
    assert model.training
    assert {s.row: s for s in Scorer(model.eval(), tokenizer).score_encoded(rows)} == first
