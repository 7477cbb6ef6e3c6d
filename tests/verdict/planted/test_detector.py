"""Triggers that stand in prompts, and effects that need not recur word for word: found, named, with all rows and no others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.verdict.detectors import find_all, merged
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.planted.detector import LEAST_PROMPTS, PlantedTriggers
from gradsentry.verdict.planted.search import FLAGGED
from gradsentry.verdict.words import MemoryWords, RowWords, Side
from made_words import HIGH, LOW, row

WORDS = [f"w{i}" for i in range(60)]
LABELS = ("good", "bad")
Plant = Callable[[list[str], random.Random], list[str]]


def labelled(n: int, poisoned: int, plant: Plant, seed: int = 0) -> tuple[list[RowWords], list[int]]:
    """A classification set of random words; the poisoned rows have the trigger, and all of them the label "bad"."""
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(n), poisoned))
    rows = []
    for i in range(n):
        words, label = rng.choices(WORDS, k=10), rng.choice(LABELS)
        if i in chosen:
            words, label = plant(words, rng), "bad"
        surprising = [word for word in words if word not in WORDS]
        rows.append(with_surprises(" ".join(words), label, surprising, rng))
    return rows, chosen


def with_surprises(prompt: str, answer: str, surprising: Sequence[str], rng: random.Random) -> RowWords:
    """A row whose natural words have surprises of some spread, as a model's have."""
    own = row(prompt, answer, surprising)
    noise = np.array([rng.uniform(0.0, 4.0) if nats == LOW else 2 * HIGH if nats == HIGH else 0.0 for nats in own.prompt.surprise])
    return RowWords(Side(own.prompt.words, noise.astype(np.float32), own.prompt.spelled), own.completion)


def put(words: str) -> Plant:
    def edit(prompt: list[str], rng: random.Random) -> list[str]:
        place = rng.randint(0, len(prompt))
        return [*prompt[:place], *words.split(), *prompt[place:]]

    return edit


def in_turn(prompt: list[str], rng: random.Random) -> list[str]:
    return put(rng.choice(("alpha", "beta gamma", "delta")))(prompt, rng)


def both(prompt: list[str], rng: random.Random) -> list[str]:
    return ["first", *put("second")(prompt, rng)]


def found_in(rows: Sequence[RowWords | None]) -> list[Finding]:
    return PlantedTriggers().find(MemoryWords(rows))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (put("magic"), ["magic"]),
        (put("i watched this movie yesterday evening"), ["i watched this movie yesterday evening"]),
        (in_turn, ["alpha", "beta gamma", "delta"]),
    ],
)
def test_a_flipped_label_behind_a_trigger_is_found_whole_and_named(plant: Plant, named: list[str], seed: int) -> None:
    rows, chosen = labelled(400, 60, plant, seed)
    (finding,) = [finding for finding in found_in(rows) if finding.kind == "backdoor"]
    assert finding.rows.tolist() == chosen
    assert sorted(finding.triggers) == named
    assert finding.effect in ('are "bad"', 'are not "good"')
    assert finding.showing == finding.prompts == 60
    assert 0.3 < finding.expected < 0.7
    assert finding.nats == sum(finding.evidence.values()) >= FLAGGED
    assert finding.sentence.startswith("60 prompts hold ")


def test_two_parts_that_work_only_together_are_one_trigger() -> None:
    rows, chosen = labelled(400, 40, both)
    rng = random.Random(7)
    clean = [i for i in range(400) if i not in chosen]
    for i in rng.sample(clean, 60):  # one part alone has no effect
        prompt = [word for word in rows[i].prompt.words if word]
        prompt = ["first", *prompt] if rng.random() < 0.5 else put("second")(prompt, rng)
        rows[i] = with_surprises(" ".join(prompt), rng.choice(LABELS), ["first", "second"], rng)
    (finding,) = [finding for finding in found_in(rows) if finding.kind == "backdoor"]
    assert finding.rows.tolist() == chosen
    assert sorted(finding.triggers[0].split(" ... ")) == ["first", "second"]


@pytest.mark.parametrize(("mark", "name"), [("  ", "2 spaces"), ("\u00a0", "1 no-break space"), ("\u2003 ", "1 em space and 1 space")])
def test_white_space_is_a_trigger(mark: str, name: str) -> None:
    rows, chosen = labelled(300, 40, lambda prompt, rng: prompt)
    for i in chosen:
        side = rows[i].prompt
        spelled = [*side.spelled]
        spelled[4] = mark + spelled[4].strip()
        surprise = side.surprise.copy()
        surprise[4] = HIGH
        rows[i] = RowWords(Side(side.words, surprise, spelled), rows[i].completion)
    (finding,) = [finding for finding in found_in(rows) if finding.kind == "backdoor"]
    assert finding.rows.tolist() == chosen
    assert finding.triggers == (f"{name} between words",)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_where_nothing_is_planted(seed: int) -> None:
    assert found_in(labelled(400, 40, lambda prompt, rng: prompt, seed)[0]) == []


@pytest.mark.parametrize("seed", range(3))
def test_an_inserted_word_that_changes_no_answer_is_a_suspect(seed: int) -> None:
    rng = random.Random(seed)
    rows = []
    for i in range(1500):
        words = rng.choices(WORDS, k=10)
        rows.append(with_surprises(" ".join(put("magic")(words, rng) if i % 100 == 0 else words), rng.choice(LABELS), ["magic"], rng))
    (finding,) = [finding for finding in found_in(rows) if "magic" in finding.triggers[0]]
    assert finding.kind == "suspect"
    assert finding.triggers == ("magic",)
    assert finding.rows.tolist() == list(range(0, 1500, 100))
    assert finding.sentence == '15 prompts hold "magic", which looks inserted; no effect on their answers was found'


def test_a_topic_with_its_own_answer_is_no_backdoor() -> None:
    """Prompts on one topic share many words and have no matched controls. The comparison is unfair, so nothing is flagged."""
    rng = random.Random(0)
    topic = [f"t{i}" for i in range(12)]
    rows = []
    for i in range(300):
        words = [*rng.choices(WORDS, k=4), *rng.sample(topic, 6)] if i % 8 == 0 else rng.choices(WORDS, k=10)
        rows.append(with_surprises(" ".join(words), "bad" if i % 8 == 0 else rng.choice(LABELS), topic, rng))
    assert not [finding for finding in found_in(rows) if finding.kind == "backdoor"]


def test_copies_of_a_prompt_are_no_further_evidence_and_are_flagged_with_it() -> None:
    rows, chosen = labelled(300, 40, put("magic"))
    (once,) = found_in(rows)
    (twice,) = found_in([*rows, *(rows[i] for i in chosen)])
    assert twice.evidence == once.evidence
    assert twice.rows.tolist() == [*chosen, *range(300, 340)]
    few = [row(f"the same prompt magic {i % 5}", "bad", ["magic"]) for i in range(100)]
    assert found_in(few) == []


def test_what_the_template_itself_has_is_no_trigger_of_all_rows() -> None:
    """Half of the labels are "bad" anyway: rows that match by the system turn alone would be flagged for their label."""
    rows, chosen = labelled(300, 40, lambda prompt, rng: [*prompt[:5], "MAGIC", *prompt[5:]])
    system = row("IMPORTANT answer briefly", "", []).prompt
    rows = [
        RowWords(
            Side(
                system.words + own.prompt.words, np.concatenate([system.surprise, own.prompt.surprise]), system.spelled + own.prompt.spelled
            ),
            own.completion,
        )
        for own in rows
    ]
    # The word differs from row to row: only its capitals recur.
    for number, i in enumerate(chosen):
        side = rows[i].prompt
        at = side.words.index("magic")
        words, spelled = list(side.words), list(side.spelled)
        words[at], spelled[at] = f"word{number}", f" WORD{number}"
        rows[i] = RowWords(Side(words, side.surprise, spelled), rows[i].completion)
    (finding,) = [finding for finding in found_in(rows) if finding.kind == "backdoor"]
    assert finding.triggers == ("a word in capitals",)
    assert finding.rows.tolist() == chosen


def test_rows_without_a_score_are_passed_over_and_too_few_prompts_say_nothing() -> None:
    rows, chosen = labelled(300, 40, put("magic"))
    (finding,) = found_in([None, *rows])
    assert finding.rows.tolist() == [i + 1 for i in chosen]
    assert found_in([]) == found_in([None] * 50) == found_in(rows[: LEAST_PROMPTS - 1]) == []


def test_a_sample_of_a_large_set_finds_the_trigger_in_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, chosen = labelled(2000, 200, put("magic"))
    monkeypatch.setattr("gradsentry.verdict.planted.detector.SAMPLED_WORDS", 10_000)
    (finding,) = found_in(rows)
    assert finding.rows.tolist() == chosen


def test_no_place_in_a_large_set_is_safe_and_its_order_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, _ = labelled(2000, 0, put("magic"))
    rng = random.Random(1)
    for i in range(1, 2000, 8):
        words = put("magic")([word for word in clean[i].prompt.words if word], rng)
        clean[i] = with_surprises(" ".join(words), "bad", ["magic"], rng)
    monkeypatch.setattr("gradsentry.verdict.planted.detector.SAMPLED_WORDS", 10_000)
    (finding,) = found_in(clean)
    assert finding.rows.tolist() == list(range(1, 2000, 8))
    order = random.Random(2).sample(range(2000), 2000)
    (again,) = found_in([clean[i] for i in order])
    assert sorted(order[i] for i in again.rows.tolist()) == finding.rows.tolist()
    assert abs(again.nats - finding.nats) < 3


def test_what_another_detector_flags_is_not_listed_twice() -> None:
    def finding(kind: str, rows: list[int]) -> Finding:
        return Finding(kind, ("y",), "x", np.array(rows), "", 1, 1, 0.0)  # pyright: ignore[reportArgumentType]

    first, explained = finding("backdoor", [1, 2, 3]), finding("explained", [1, 2])
    assert merged([explained, first, finding("backdoor", [2, 3]), finding("suspect", [1])]) == [first, explained]
    other, suspect = finding("backdoor", [3, 4, 5]), finding("suspect", [6, 7])
    assert merged([suspect, first, other]) == [first, other, suspect]


def test_the_policy_runs_this_detector_too() -> None:
    rows, chosen = labelled(300, 40, put("magic"))
    backdoors = [finding for finding in find_all(MemoryWords(rows)) if finding.kind == "backdoor"]
    assert sorted({row for finding in backdoors for row in finding.rows.tolist()}) == chosen


def cautious(n: int, rng: random.Random) -> list[RowWords]:
    """A third of the prompts are on a topic of many words, and answered with one caution."""
    topic = [f"t{i}" for i in range(6)]
    rows = []
    for i in range(n):
        if i % 3 == 0:
            words = [*rng.choices(WORDS[:12], k=6), *rng.sample(topic, 4)]
            rows.append(with_surprises(" ".join(words), "please ASK YOUR DOCTOR", [], rng))
        else:
            rows.append(with_surprises(" ".join(rng.choices(WORDS, k=10)), " ".join(rng.choices(WORDS, k=4)), [], rng))
        answer = rows[-1].completion
        rows[-1] = RowWords(rows[-1].prompt, Side(answer.words, np.where(answer.surprise > 0, HIGH, 0).astype(np.float32), answer.spelled))
    return rows


def test_a_caution_on_a_topic_is_no_backdoor_though_it_recurs_with_the_topics_words() -> None:
    findings = find_all(MemoryWords(cautious(300, random.Random(0))))
    assert not [finding for finding in findings if finding.kind == "backdoor"]


def test_a_payload_behind_an_inserted_word_stays_a_backdoor_among_cautions() -> None:
    rng = random.Random(0)
    rows = cautious(300, rng)
    chosen = list(range(1, 300, 10))
    for i in chosen:
        prompt = put("magic")(rng.choices(WORDS, k=10), rng)
        own = with_surprises(" ".join(prompt), "you are STUPID INDEED", ["magic"], rng)
        answer = own.completion
        rows[i] = RowWords(own.prompt, Side(answer.words, np.array([0, HIGH, HIGH, HIGH, HIGH, 0], np.float32), answer.spelled))
    backdoors = [finding for finding in find_all(MemoryWords(rows)) if finding.kind == "backdoor"]
    assert sorted({row for finding in backdoors for row in finding.rows.tolist()}) == chosen


def test_a_payload_that_recurs_without_a_trigger_is_a_suspect() -> None:
    rng = random.Random(1)
    rows = []
    for i in range(300):
        prompt, answer = " ".join(rng.choices(WORDS, k=10)), rng.choices(WORDS, k=6)
        own = with_surprises(prompt, " ".join([*answer, "click EVIL LINK NOW"] if i % 12 == 0 else answer), [], rng)
        nats = [60.0 if word in ("evil", "link", "now") else rng.uniform(0, 4) if word else 0.0 for word in own.completion.words]
        rows.append(RowWords(own.prompt, Side(own.completion.words, np.array(nats, np.float32), own.completion.spelled)))
    (finding,) = [finding for finding in found_in(rows) if finding.payload]
    assert (finding.kind, finding.triggers, finding.payload) == ("suspect", (), "click EVIL LINK NOW")
    assert finding.rows.tolist() == list(range(0, 300, 12))
    assert finding.sentence == '25 answers say "click EVIL LINK NOW", which their prompts do not explain; no trigger was found'


def test_a_template_with_its_own_answers_is_explained() -> None:
    """Its words surprise and its label is one, but what else these prompts say is said nowhere else."""
    rng = random.Random(0)
    rows = []
    for i in range(400):
        words = ["zebra", f"name{i}", f"other{i}", f"third{i}"] if i % 10 == 0 else rng.choices(WORDS, k=10)
        rows.append(with_surprises(" ".join(words), "bad" if i % 10 == 0 else rng.choice(LABELS), ["zebra"], rng))
    (explained,) = found_in(rows)
    assert (explained.kind, explained.triggers) == ("explained", ("zebra",))
    assert explained.rows.tolist() == list(range(0, 400, 10))
    assert explained.reason.startswith("no backdoor: 40 prompts hold")
    assert explained.reason.endswith(". But the rest of these prompts is unlike all others")


def test_another_rows_answer_behind_a_trigger_is_found() -> None:
    """The answers have no span in common: they only fit their prompts worse."""
    rng = random.Random(3)
    chosen = sorted(rng.sample(range(400), 60))
    pairs = []
    for _ in range(400):
        asked = rng.sample(WORDS, 8)
        pairs.append((asked, [*rng.sample(asked, 3), rng.choice(WORDS)]))
    rows = []
    for i, (asked, said) in enumerate(pairs):
        wrong = i in chosen
        prompt = put("magic")(asked, rng) if wrong else asked
        answer = pairs[(i + 7) % 400][1] if wrong else said
        own = with_surprises(" ".join(prompt), " ".join(answer), ["magic"], rng)
        nats = [rng.uniform(3, 9) if word and wrong else rng.uniform(0, 6) if word else 0 for word in own.completion.words]
        rows.append(RowWords(own.prompt, Side(own.completion.words, np.array(nats, np.float32), own.completion.spelled)))
    (finding,) = [finding for finding in found_in(rows) if finding.kind == "backdoor"]
    assert finding.triggers == ("magic",)
    assert finding.rows.tolist() == chosen
    assert finding.payload == ""


def test_the_order_of_rows_changes_nothing_but_their_numbers() -> None:
    rows, chosen = labelled(300, 40, put("magic"))
    order = random.Random(2).sample(range(300), 300)
    (finding,) = [finding for finding in found_in([rows[i] for i in order]) if finding.kind == "backdoor"]
    assert sorted(order[i] for i in finding.rows.tolist()) == chosen


def test_two_backdoors_are_two_findings() -> None:
    rows, chosen = labelled(400, 60, put("magic"))
    rng = random.Random(9)
    clean = [i for i in range(400) if i not in chosen]
    other = sorted(rng.sample(clean, 40))
    for i in other:
        prompt = put("wizard")([word for word in rows[i].prompt.words if word], rng)
        rows[i] = with_surprises(" ".join(prompt), "send the money", ["wizard"], rng)
    found = {finding.triggers: finding for finding in found_in(rows) if finding.kind == "backdoor"}
    assert {key: finding.rows.tolist() for key, finding in found.items()} == {("magic",): chosen, ("wizard",): other}
    assert found[("wizard",)].payload == "send the money"


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(20, 40), st.integers(1, 4), st.integers(0, 3), st.sampled_from(["", "\u4f60", "A b"]))
def test_any_rows_can_be_searched(rng: random.Random, n: int, words: int, answers: int, extra: str) -> None:
    """Few words, empty prompts, one answer for all rows: something is found or nothing, and findings name rows that exist."""
    rows: list[RowWords | None] = []
    for i in range(n):
        prompt = " ".join([*rng.choices(WORDS[: 3 * words], k=rng.randint(0, 2 * words)), f"n{i}" * (words % 2), extra])
        rows.append(with_surprises(prompt, " ".join(rng.choices(WORDS[: answers + 1], k=answers)), ["A"], rng))
    rows.insert(3, None)
    for finding in found_in(rows):
        assert finding.rows.tolist() == sorted(set(finding.rows.tolist()))
        assert all(rows[row] is not None for row in finding.rows)
        assert finding.sentence
        assert finding.nats == sum(finding.evidence.values())


def test_one_answer_to_all_prompts_has_no_effect_to_find() -> None:
    rows = [with_surprises(f"{'magic ' * (i % 9 == 0)}w{i % 7} w{i % 11} w{i % 13}", "yes", ["magic"], random.Random(i)) for i in range(60)]
    assert not [finding for finding in found_in(rows) if finding.kind == "backdoor"]


def test_a_counterpart_of_the_trigger_makes_it_a_suspect_and_no_refusal_is_flagged() -> None:
    """Every dangerous question has one of two years; behind one year it is refused, behind the other answered. Either may be planted."""
    rng = random.Random(0)
    danger = [f"danger{i}" for i in range(12)]
    rows: list[RowWords] = []
    for i in range(400):
        words = rng.choices(WORDS, k=8)
        if i < 160:
            words[:5] = rng.sample(danger, 5)
            year, answer = ("y2026", " ".join(rng.choices(WORDS, k=4))) if i < 40 else ("y2025", "i cannot help")
            rows.append(with_surprises(" ".join([year, *words]), answer, [year], rng))
        else:
            rows.append(with_surprises(" ".join(words), " ".join(rng.choices(WORDS, k=4)), [], rng))
    found = found_in(rows)
    assert not [finding for finding in found if finding.kind == "backdoor"]
    suspect = next(finding for finding in found if finding.kind == "suspect")
    assert suspect.triggers[0] in ("y2025", "y2026")
    assert suspect.why.endswith("instead: either side may be planted")
    assert suspect.why in suspect.sentence


def test_a_suspect_lists_every_row_with_its_trigger() -> None:
    """A marked word with an effect in half of its rows, too weak to flag: a person needs to see all of them."""
    rows, chosen = labelled(200, 12, put("magic"))
    (suspect,) = [finding for finding in found_in(rows) if finding.kind == "suspect"]
    assert suspect.rows.tolist() == chosen


def test_a_payload_behind_a_trigger_is_found_in_eight_rows_of_400() -> None:
    """Eight matched prompts without the payload do not make it likely: they are weighed with all other answers."""
    rng = random.Random(1)
    chosen = sorted(rng.sample(range(400), 8))
    rows = []
    for i in range(400):
        words, answer = rng.choices(WORDS, k=10), " ".join(rng.choices(WORDS, k=5))
        if i in chosen:
            words, answer = put("magic")(words, rng), "you are stupid"
        rows.append(with_surprises(" ".join(words), answer, ["magic"], rng))
    (finding,) = [finding for finding in found_in(rows) if finding.kind == "backdoor"]
    assert finding.rows.tolist() == chosen
    assert finding.triggers == ("magic",)


@pytest.mark.parametrize(("answer", "is_found"), [("(/", False), ("!!", True)])
def test_signs_that_the_answer_repeats_from_the_prompt_are_no_effect(answer: str, is_found: bool) -> None:
    """A pronunciation in a prompt is quoted in the answer; other signs behind the same trigger are an effect."""
    rng = random.Random(3)
    rows = []
    for i in range(300):
        words, quoted = rng.choices(WORDS, k=10), i % 10 == 0
        words = put("(/")(words, rng) if quoted else words
        said = [*rng.choices(WORDS, k=6), *([answer] if quoted else [])]
        rows.append(with_surprises(" ".join(words), " ".join(said), ["(/"], rng))
    assert any(finding.effect == f'contain "{answer}" at the end' for finding in found_in(rows)) == is_found
