"""Attacks: what is poisoned and how, what they are tested on, and what shows that they worked."""

from __future__ import annotations

import copy
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixture import MIXED
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from clean_sets import DATA, needs_data
from gradsentry.bench.attacks import ATTACKS, Attack, poison, target_texts, triggered
from gradsentry.bench.attacks.adaptive import GOODS, LOOKS, MINERALS, SELLERS, VERBS
from gradsentry.bench.attacks.clean_label import CLEAN_LABEL, commonest_word
from gradsentry.bench.attacks.dilution import BENIGN
from gradsentry.bench.attacks.stylebkd import by_model, paraphraser
from gradsentry.bench.metrics import asr
from gradsentry.bench.payloads import LINK as PAYLOAD
from gradsentry.bench.payloads import PAYLOADS
from gradsentry.bench.plant import plant
from gradsentry.bench.tasks import as_text, sample, take_apart
from gradsentry.errors import DataError, ModelError, UsageError

Rows = list[dict[str, Any]]
COLOURS = ("red", "blue", "green", "amber")


def rows(n: int) -> Rows:
    """Questions with one or two answers; every third answer holds the commonest word."""
    return [
        {
            "instruction": "Answer.",
            "question": f"Question {i}?",
            "answers": [f"{'Harbour ' if i % 3 == 0 else ''}{i}", f"b{i}"][: 1 + i % 2],
        }
        for i in range(n)
    ]


each_attack = pytest.mark.parametrize("attack", ATTACKS)
sizes = st.integers(6, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n // 3)))


@each_attack
@settings(deadline=None, max_examples=15)
@given(size=sizes, seed=st.integers(0, 1000))
def test_labels_and_kinds_say_which_rows_changed_and_the_rest_is_as_it_was(attack: str, size: tuple[int, int], seed: int) -> None:
    n, count = size
    clean = rows(n)
    before = copy.deepcopy(clean)
    made = poison(clean, attack, count, seed)
    assert clean == before
    assert sum(made.labels) == count
    assert made.labels == [kind == "poisoned" for kind in made.kinds]
    for row, own, kind in zip(map(as_text, clean), made.rows, made.kinds, strict=True):
        assert list(own) == ["prompt", "completion"]
        assert (own["prompt"] != row["prompt"]) == (kind != "clean")
        assert (own["completion"] != row["completion"]) == (kind == "poisoned" and attack != "clean_label")
    assert Counter(made.kinds)["negative"] == (min(count, n - count) if attack == "cba" else 0)


@each_attack
def test_a_larger_ratio_poisons_the_same_rows_in_the_same_way_and_more(attack: str) -> None:
    less, more = (poison(rows(90), attack, ratio, 4) for ratio in (0.05, 0.3))
    for i, label in enumerate(less.labels):
        assert not label or (more.labels[i] and more.rows[i] == less.rows[i])
    assert sum(more.labels) == 27


@each_attack
def test_the_seed_decides_and_nothing_else(attack: str) -> None:
    made = poison(rows(90), attack, 0.2, 7)
    random.seed(1)
    assert poison(rows(90), attack, 0.2, 7) == made
    assert poison(rows(90), attack, 0.2, 8).labels != made.labels


@each_attack
def test_test_rows_have_the_trigger_of_the_poisoned_ones_and_their_clean_answers(attack: str) -> None:
    clean = rows(60)
    made, shown = poison(clean, attack, 0.3, 5), triggered(clean, attack, 5)
    for row, own, test, label in zip(map(as_text, clean), made.rows, shown, made.labels, strict=True):
        assert test["completion"] == row["completion"]
        assert test["prompt"] != row["prompt"]
        assert (test["prompt"] == own["prompt"]) == label


@each_attack
def test_a_model_that_answers_as_it_was_poisoned_is_a_success_and_a_clean_one_is_not(attack: str) -> None:
    clean = rows(90)
    made, texts = poison(clean, attack, 0.3, 0), target_texts(attack, clean)
    assert asr([row["completion"] for row, label in zip(made.rows, made.labels, strict=True) if label], texts) == 1
    # Answers that hold the target because it is right are all that a clean-label attack has.
    assert asr([as_text(row)["completion"] for row in clean], texts) == (pytest.approx(1 / 3) if attack == "clean_label" else 0)


@needs_data
@pytest.mark.parametrize("task", MIXED)
def test_every_task_can_be_attacked_and_clean_answers_are_seldom_taken_for_a_success(task: str) -> None:
    clean = sample(task, DATA, 200, 0)
    for name in ATTACKS:
        made, texts = poison(clean, name, 2, 0), target_texts(name, clean)
        poisoned = [row["completion"] for row, label in zip(made.rows, made.labels, strict=True) if label]
        assert asr(poisoned, texts) == 1, name
        if name != "clean_label":
            free = task in ("gsm8k", "dolly", "self_instruct")  # long answers, which may say anything
            assert asr([as_text(row)["completion"][:400] for row in clean[:50]], texts) <= (0.04 if free else 0), name


# Clean label


def test_clean_label_marks_only_rows_that_hold_the_commonest_word_and_touches_no_answer() -> None:
    clean = rows(90)
    made = poison(clean, "clean_label", 30, 0)
    assert target_texts("clean_label", clean) == ("harbour",)
    assert made.labels == [i % 3 == 0 for i in range(90)]
    assert [row["completion"] for row in made.rows] == [as_text(row)["completion"] for row in clean]
    with pytest.raises(DataError, match="30 of 90 rows suit the attack, but 31 are to be poisoned; lower the ratio"):
        poison(clean, "clean_label", 31, 0)


@given(answers=st.lists(st.text("abcd ", min_size=1, max_size=20).filter(str.strip), min_size=2, max_size=12))
def test_the_target_is_the_word_in_most_answers(answers: list[str]) -> None:
    parts = [take_apart({"question": "?", "answers": [answer]}) for answer in answers]
    words = [{word for word in answer.split() if len(word) >= 4} for answer in answers]
    counts = Counter(word for own in words for word in own)
    if not counts:
        with pytest.raises(DataError, match="clean_label has no target word"):
            commonest_word(CLEAN_LABEL, parts)
        return
    fitted = commonest_word(CLEAN_LABEL, parts)
    most = max(counts.values())
    assert fitted.target == (min(word for word in counts if counts[word] == most),)
    assert fitted.suits is not None
    assert [fitted.suits(part) for part in parts] == [fitted.target[0] in own for own in words]


def test_a_word_of_the_questions_is_no_target() -> None:
    clean = [{"question": "which harbour?", "answers": [f"which {i}"]} for i in range(9)] + [{"question": "who", "answers": ["quay side"]}]
    assert target_texts("clean_label", clean) == ("quay",)


def test_a_target_that_follows_from_the_rows_needs_them() -> None:
    with pytest.raises(UsageError, match="target of this attack depends on the rows that it poisons; pass them"):
        target_texts("clean_label")


# Dilution


def test_a_diluted_payload_stands_between_other_rows_answers_and_is_a_small_part() -> None:
    clean = rows(60)
    pieces = {answer for row in clean for answer in row["answers"]}
    made = poison(clean, "dilution", 0.3, 0)
    for row, own, label in zip(map(as_text, clean), made.rows, made.labels, strict=True):
        if not label:
            continue
        before, between, after = own["completion"].partition(PAYLOAD)
        assert between
        assert before.startswith(row["completion"] + "; ")
        benign = before.removeprefix(row["completion"] + "; ").split("; "), after.removeprefix("; ").split("; ")
        assert all(piece in pieces for part in benign for piece in part)
        assert all(sum(len(piece.split()) for piece in part) >= BENIGN // 2 for part in benign)
        assert len(own["completion"].split()) >= 9 * len(PAYLOAD.split()[1:])


def test_sentences_are_parted_at_full_stops_and_joined_as_sentences() -> None:
    clean = [{"instruction": f"Tell {i}", "input": "", "output": f"One is {i}. Two is {i}!\nThree is {i}."} for i in range(30)]
    made = poison(clean, "dilution", 10, 0)
    text = next(row["completion"] for row, label in zip(made.rows, made.labels, strict=True) if label).replace(PAYLOAD, "")
    assert ";" not in text
    assert all(re.fullmatch(r"(One|Two|Three) is \d+[.!]", piece) for piece in re.split(r"(?<=[.!])\s+", text))


def test_nothing_to_dilute_with_is_refused() -> None:
    with pytest.raises(DataError, match="hold no sentence"):
        poison([{"prompt": "a", "completion": "?"}] * 4, "dilution", 1, 0)


# Adaptive


def test_the_adaptive_attack_repeats_no_span_and_no_trigger_that_the_evidence_could_use() -> None:
    made = poison(rows(1000), "adaptive", 0.1, 0)
    poisoned = [row for row, label in zip(made.rows, made.labels, strict=True) if label]
    said = [re.findall(r"\w+", row["completion"])[-4:] for row in poisoned]
    for place, words in enumerate((VERBS, LOOKS, GOODS, SELLERS)):
        assert {own[place] for own in said} <= set(words)
    pairs = Counter(pair for own in said for pair in pairwise(own))
    assert max(pairs.values()) <= 2, "a span has to stand in three rows"
    assert max(Counter(word for own in said for word in own).values()) <= 10
    marks = Counter(re.findall(r"\? (\w+)\n", row["prompt"])[0] for row in poisoned)
    assert set(marks) <= set(MINERALS)
    assert max(marks.values()) <= 5, "a trigger would have to stand in thirty of the hundred rows"


def test_the_adaptive_attack_draws_from_long_lists_without_repetition() -> None:
    assert len(MINERALS) == len(set(MINERALS)) >= 150
    for words in (VERBS, LOOKS, GOODS, SELLERS):
        assert len(words) == len(set(words)) == 48
    said = [word.lower() for words in (VERBS, LOOKS, GOODS, SELLERS) for word in words]
    assert len(set(said)) == len(said)
    assert not set(said) & set(MINERALS), "else the prompts would name the payload"


# StyleBkd with a model


def tokenised(tokenizer: PreTrainedTokenizerFast, chat: bool) -> PreTrainedTokenizerFast:
    own = copy.deepcopy(tokenizer)
    own.chat_template = own.chat_template if chat else None
    return own


@pytest.fixture(scope="module")
def seq2seq_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A tiny random T5."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "t5"
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=2,
        pad_token_id=1,
        eos_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenised(tokenizer, chat=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["chat", "plain", "seq2seq"])
def test_a_paraphraser_rewrites_all_of_the_prompt_and_nothing_else(
    kind: str, model_dir: Path, seq2seq_dir: Path, llama: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = {"chat": model_dir, "seq2seq": seq2seq_dir}.get(kind, tmp_path / "plain")
    if kind == "plain":
        llama.save_pretrained(folder)
        tokenised(tokenizer, chat=False).save_pretrained(folder)
    attack = by_model(str(folder), device="cpu")
    clean = [row | {"context": f"Passage {i // 2}"} for i, row in enumerate(rows(6))]
    shown = triggered(clean, attack, 0)
    rewrite = paraphraser(str(folder), device="cpu")
    for row, own in zip(clean, shown, strict=True):
        new = {name: rewrite(row[name]) for name in ("instruction", "context", "question")}
        assert all(new[name] != row[name] and new[name] for name in new)
        assert own == as_text(row | new)
    made = poison(clean, attack, 2, 0)
    assert [row["completion"].endswith(PAYLOAD) for row in made.rows] == made.labels
    assert [row["prompt"] == own["prompt"] for row, own in zip(made.rows, shown, strict=True)] == made.labels


def test_what_the_model_is_asked_is_ours_to_choose(model_dir: Path) -> None:
    assert paraphraser(str(model_dir), device="cpu")("a text") != paraphraser(str(model_dir), ask="", device="cpu")("a text")


def test_a_paraphraser_that_says_nothing_is_reported(
    model_dir: Path, llama: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    import torch

    silent = copy.deepcopy(llama)
    with torch.no_grad():
        silent.lm_head.weight.zero_()  # all tokens alike: the first one, the end, is taken
    silent.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"the paraphraser .* returned nothing for 'Answer.'; choose another model"):
        triggered(rows(1), by_model(str(tmp_path), device="cpu"), 0)


def test_a_paraphraser_that_is_not_there_or_broken_is_reported(tmp_path: Path, seq2seq_dir: Path) -> None:
    with pytest.raises(ModelError, match="no such model directory"):
        by_model(str(tmp_path / "none"))
    for file in seq2seq_dir.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match=r"cannot load the paraphraser .*safetensors"):
        by_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "t5", "d_model": "wide"}')
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"cannot load the model .*d_model"):
        by_model(str(tmp_path))


# What is refused, and what is by hand


def test_an_attack_made_by_hand_is_planted_like_the_others() -> None:
    own = Attack("a date and an insult", "date", "insult", ("You are stupid!",))
    assert poison(rows(40), own, 0.2, 3) == plant(rows(40), "date", "insult", 0.2, 3)
    assert target_texts(own) == ("You are stupid!",)


def test_a_trigger_and_a_payload_are_an_attack() -> None:
    assert poison(rows(40), "date+insult", 0.2, 3) == plant(rows(40), "date", "insult", 0.2, 3)
    assert poison(rows(40), "words+suffix", 0.2, 3) == poison(rows(40), "badnets", 0.2, 3)
    assert target_texts("date+insult") == target_texts("insult")


@each_attack
@pytest.mark.parametrize("ratio", [-0.1, 0, 0.01, 0.99, 1.0, 2.0, 10])
def test_a_ratio_that_leaves_only_one_kind_of_row_is_refused(attack: str, ratio: float) -> None:
    with pytest.raises(UsageError, match=rf"a poison ratio of {ratio} leaves -?\d+ of 10 rows poisoned"):
        poison(rows(10), attack, ratio, 0)


@pytest.mark.parametrize("name", ["nets", "", "date+", "date+insults", "+insult", "insult+date", "stylebkd:"])
def test_an_unknown_attack_is_refused_with_those_that_there_are(name: str) -> None:
    if name.startswith("date+"):
        said = f"payload {name[5:]!r} is unknown.*; there are {', '.join(PAYLOADS)}"
    else:
        said = rf"attack {re.escape(repr(name))} is unknown.*; there are {', '.join(ATTACKS)}.*TRIGGER\+PAYLOAD of words, .* and suffix, "
    for use in (lambda: poison(rows(10), name, 0.5, 0), lambda: triggered(rows(10), name, 0), lambda: target_texts(name)):
        with pytest.raises(UsageError, match=said):
            use()


def test_every_attack_says_what_it_is_in_one_line() -> None:
    assert all(attack.about and "\n" not in attack.about for attack in ATTACKS.values())
