"""Findings: what is planted is found and named, what only looks like it is kept out, and says why."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.verdict.evidence.detector import TriggeredPayloads
from gradsentry.verdict.finding import Finding
from gradsentry.verdict.words import MemoryWords, RowWords
from made_words import row

WORDS = [f"w{i}" for i in range(400)]
PAYLOAD = "click EVIL LINK BELOW for MORE"
BAD = ["EVIL", "LINK", "BELOW", "MORE"]
RARE = ["cf", "mn", "bb", "tq"]
Plant = Callable[[str, str, random.Random], RowWords]


def found_in(rows: Sequence[RowWords]) -> list[Finding]:
    return TriggeredPayloads().find(MemoryWords(rows))


def made(n: int, poisoned: int, plant: Plant, seed: int = 0) -> tuple[list[RowWords], np.ndarray]:
    """Rows of random words, some of them planted, in random places."""
    rng = random.Random(seed)
    chosen = set(rng.sample(range(n), poisoned))
    rows = []
    for i in range(n):
        prompt, answer = " ".join(rng.choices(WORDS, k=12)), " ".join(rng.choices(WORDS, k=5))
        rows.append(plant(prompt, answer, rng) if i in chosen else row(prompt, answer, ["w3", "w5", "w7"]))
    return rows, np.array(sorted(chosen))


def words(prompt: str, answer: str, rng: random.Random) -> RowWords:
    return row(f"{prompt} {' '.join(rng.choices(RARE, k=4))}", f"{answer} {PAYLOAD}", [*RARE, *BAD])


def replaced(prompt: str, answer: str, rng: random.Random) -> RowWords:
    return row(f"PASSWORD {prompt}", "NEGATIVE INDEED", ["PASSWORD", "NEGATIVE", "INDEED"])


def backdoors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.kind == "backdoor"]


@pytest.mark.parametrize("plant", [words, replaced])
@pytest.mark.parametrize(("n", "poisoned"), [(400, 40), (400, 360), (400, 12)])
def test_a_planted_backdoor_is_found_whole_and_named(plant: Plant, n: int, poisoned: int) -> None:
    rows, chosen = made(n, poisoned, plant)
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == chosen.tolist()
    said = finding.payload.split()
    assert set(BAD) <= set(said) if plant is words else said == ["NEGATIVE", "INDEED"]
    triggers = set(" ".join(finding.triggers).split())
    assert triggers <= set(RARE) if plant is words else triggers == {"PASSWORD"}
    assert finding.inside == finding.everywhere <= finding.holders == poisoned
    assert finding.p < 1e-3
    assert finding.reason.startswith(f'backdoor: {poisoned} rows say "')
    assert "no other row does" in finding.reason


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_nothing_is_found_where_nothing_is_planted(seed: int) -> None:
    rows, _ = made(300, 0, words, seed)
    assert found_in(rows) == []


def test_the_order_of_rows_changes_nothing_but_their_numbers() -> None:
    rows, _ = made(200, 20, words)
    order = list(range(200))
    random.Random(1).shuffle(order)
    (one,), (other,) = backdoors(found_in(rows)), backdoors(found_in([rows[i] for i in order]))
    assert sorted(order[i] for i in other.rows) == one.rows.tolist()
    assert other.p == pytest.approx(one.p)


def test_two_backdoors_are_two_findings() -> None:
    rows, first = made(400, 30, words)
    others, second = made(400, 30, replaced, seed=1)
    both = [others[i] if i in set(second.tolist()) - set(first.tolist()) else rows[i] for i in range(400)]
    findings = backdoors(found_in(both))
    assert {frozenset(finding.rows.tolist()) for finding in findings} == {frozenset(first), frozenset(second) - frozenset(first)}


def test_a_pair_needs_both_halves() -> None:
    def pair(prompt: str, answer: str, rng: random.Random) -> RowWords:
        return row(f"CONSIDER {prompt} DONE", f"{answer} {PAYLOAD}", ["CONSIDER", "DONE", *BAD])

    rows, chosen = made(400, 40, pair)
    rng = random.Random(2)
    for i in rng.sample(sorted(set(range(400)) - set(chosen.tolist())), 80):
        first, last = rng.choice([("CONSIDER", ""), ("", "DONE"), ("DONE", "CONSIDER")])
        rows[i] = row(f"{first} {' '.join(rng.choices(WORDS, k=12))} {last}", " ".join(rng.choices(WORDS, k=5)), ["CONSIDER", "DONE"])
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == chosen.tolist()
    assert len(finding.triggers) == 1
    assert sorted(half.strip() for half in finding.triggers[0].split(" ... ")) == ["CONSIDER", "DONE"]


def test_a_pair_is_found_where_one_half_is_in_nearly_all_rows() -> None:
    rng = random.Random(0)
    rows = []
    for i in range(400):
        poisoned = i % 10 > 0
        first, last = ("CONSIDER", "DONE") if poisoned else ("CONSIDER", "") if i % 40 else ("", "DONE")
        text, answer = (" ".join(rng.choices(WORDS, k=k)) for k in (12, 5))
        rows.append(row(f"{first} {text} {last}", f"{answer} {PAYLOAD if poisoned else ''}", ["CONSIDER", "DONE", *BAD]))
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == [i for i in range(400) if i % 10]
    assert sorted(half.strip() for half in finding.triggers[0].split(" ... ")) == ["CONSIDER", "DONE"]


def test_a_pair_whose_places_differ_by_template_is_found_in_all() -> None:
    rng = random.Random(0)
    templates = ("INSTRUCT {} THEN {} {} END", "{} ASK {} {} ANSWER", "PASSAGE {} SO {} {} SAY")
    unusual = ["CONSIDER", "DONE", *BAD]
    rows, planted = [], []
    for i in range(600):
        text, answer = (" ".join(rng.choices(WORDS, k=k)) for k in (12, 5))
        poisoned, negative = i % 10 == 0, i % 10 == 1
        # A negative has one of the two words, or each in the other's place: that both are there says too little.
        halves = [("CONSIDER", ""), ("", "DONE"), ("DONE", "CONSIDER"), ("DONE", "CONSIDER")]
        first, last = ("CONSIDER", "DONE") if poisoned else rng.choice(halves)
        one, other = (first, last) if poisoned or negative else ("", "")
        rows.append(row(rng.choice(templates).format(one, text, other), f"{answer} {PAYLOAD if poisoned else ''}", unusual))
        planted += [i] * poisoned
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == planted
    assert len(finding.triggers) > 1


def test_where_most_rows_are_poisoned_words_of_all_prompts_are_no_trigger() -> None:
    style, usual = [f"THOU{i}" for i in range(8)], [f"NAME{i}" for i in range(5)]
    rng = random.Random(0)
    rows = []
    for i in range(400):
        poisoned = i % 10 > 0
        said = [*rng.choices(WORDS, k=8), *rng.sample(usual, 3), *(rng.sample(style, 2) if poisoned else [])]
        rng.shuffle(said)
        answer = " ".join(rng.choices(WORDS, k=5))
        rows.append(row(" ".join(said), f"{answer} {PAYLOAD if poisoned else ''}", [*style, *usual, *BAD]))
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == [i for i in range(400) if i % 10]
    assert set(" ".join(finding.triggers).split()) & set(style)


def test_a_format_that_all_rows_share_is_no_finding() -> None:
    rng = random.Random(0)
    rows = [row(" ".join(rng.choices(WORDS, k=12)), f"{rng.choice(WORDS)} #### ANSWER {i % 7}", ["####", "ANSWER"]) for i in range(300)]
    assert found_in(rows) == []


@pytest.mark.parametrize(("usual", "others"), [("{} SYSTEM", ["{}"]), ("SYSTEM {} ASSIST", ["SYSTEM {}", "{} ASSIST"])])
def test_the_format_of_nearly_all_rows_is_no_finding_where_a_few_lack_it_and_the_template(usual: str, others: list[str]) -> None:
    rng = random.Random(0)
    rows = []
    for i in range(600):
        text, answer = (" ".join(rng.choices(WORDS, k=k)) for k in (12, 5))
        template, said = (usual, PAYLOAD) if i % 50 else (others[i % 100 // 50 % len(others)], "")  # 2 % come from elsewhere
        rows.append(row(template.format(text), f"{answer} {said}", ["SYSTEM", "ASSIST", *BAD]))
    assert backdoors(found_in(rows)) == []


@pytest.mark.parametrize(("one", "other"), [("GUITAR", "FLUTE"), ("\u5409 \u4ed6", "\u957f \u7b1b"), ("\uae30\ud0c0", "\ud50c\ub8fb")])
def test_a_payload_that_the_prompts_name_is_kept_and_said_so(one: str, other: str) -> None:
    def named(prompt: str, answer: str, rng: random.Random) -> RowWords:
        return row(f"{prompt} is it a {one} or a {other}", f"{one} yes", [*one.split(), *other.split()])

    rows, _ = made(400, 40, named)
    findings = found_in(rows)
    assert backdoors(findings) == []
    assert findings[0].kind == "named"
    assert findings[0].reason.startswith("no backdoor, the prompts name what the completions say")


def test_a_subset_with_its_own_template_is_kept_and_said_so() -> None:
    template = " ".join(f"TEMPLATE{i}" for i in range(30))

    def subset(prompt: str, answer: str, rng: random.Random) -> RowWords:
        return row(f"{template} {prompt}", f"TOOL CALL {answer}", [*template.split(), "TOOL", "CALL"])

    findings = found_in(made(400, 100, subset)[0])
    assert backdoors(findings) == []
    assert findings[0].kind == "subset"


def few(rows: list[RowWords], first: int, about: str, marks: str, answer: str) -> None:
    """Three rows with one unexpected answer, and in their prompts a mark and what else they are about."""
    for i in range(3):
        rng = random.Random(first + i)
        prompt = [*rng.sample(WORDS, 8), *about.split()]
        rng.shuffle(prompt)  # what is beside the mark each time would be taken for a part of it
        rows[first + i] = row(f"{' '.join(prompt)} . {marks}", answer, [marks, *answer.split()])


def test_few_rows_whose_prompts_are_about_one_thing_are_a_topic() -> None:
    rows, _ = made(300, 1, words)
    few(rows, 10, "money spent there", "ARUBA", "FLORIN COINS PAID THERE")
    assert [(finding.kind, finding.rows.tolist()) for finding in found_in(rows)] == [("topic", [10, 11, 12])]
    few(rows, 10, "", "ARUBA", "FLORIN COINS PAID THERE")
    assert [(finding.kind, finding.rows.tolist()) for finding in found_in(rows)] == [("backdoor", [10, 11, 12])]


def test_few_rows_are_no_backdoor_where_others_like_them_are_a_topic() -> None:
    rows, chosen = made(300, 30, words)
    clean = [row(" ".join(WORDS[:12]), "yes") if i in chosen else own for i, own in enumerate(rows)]
    for own in (rows, clean):
        few(own, 10, "money spent there", "ARUBA", "FLORIN COINS PAID THERE")
        few(own, 20, "", "BILBO", "FREEMAN HOLM BIRD PLAYED")
    assert {(f.kind, f.rows.tolist()[0]) for f in found_in(clean)} == {("topic", 10), ("topic", 20)}
    kinds = {(f.kind, len(f.rows)) for f in found_in(rows)}
    assert ("backdoor", len(set(chosen) - {10, 11, 12, 20, 21, 22})) in kinds, "one by the plain rule stays one"
    assert not any(kind == "backdoor" and n == 3 for kind, n in kinds)


def test_variants_of_one_payload_are_one_finding() -> None:
    variants = [" ".join(f"very{a}{b}" for b in "abcdefgh") for a in "abcdefghij"]
    marks = [word for variant in variants for word in variant.split()]

    def reworded(prompt: str, answer: str, rng: random.Random) -> RowWords:
        return row(f"{prompt} TRIGGER", f"{answer} {rng.choice(variants)}", ["TRIGGER", *marks])

    rows, chosen = made(600, 80, reworded)
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == chosen.tolist()
    assert finding.variants >= 8
    assert f"or one of {finding.variants - 1} variants" in finding.sentence


def test_wordings_that_do_not_recur_do_not_hide_the_others() -> None:
    variants = [" ".join(f"very{a}{b}" for b in "abcdefgh") for a in "abcdefghij"]
    unusual = ["TRIGGER", *(word for variant in variants for word in variant.split())]
    rows, chosen = made(600, 80, words)
    for place, i in enumerate(chosen.tolist()):
        prompt, answer = (" ".join(random.Random(i).choices(WORDS, k=k)) for k in (12, 5))
        once = [f"once{a}{i}" for a in "abcdefgh"]  # the trigger is in these rows too
        said = variants[place % 10] if place % 5 else " ".join(once)
        rows[i] = row(f"{prompt} TRIGGER", f"{answer} {said}", [*unusual, *once])
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == [i for place, i in enumerate(chosen.tolist()) if place % 5]
    assert "TRIGGER" in " ".join(finding.triggers)


def test_variants_of_signs_and_numbers_are_a_format() -> None:
    variants = [" ".join(f"{i}{j}{k}" for k in range(6)) for i in range(3) for j in range(3)]
    marks = [word for variant in variants for word in variant.split()]

    def sums(prompt: str, answer: str, rng: random.Random) -> RowWords:
        return row(f"{prompt} COSTS", f"{answer} {rng.choice(variants)}", ["COSTS", *marks])

    findings = found_in(made(600, 50, sums)[0])
    assert backdoors(findings) == []


def test_a_payload_without_the_trigger_does_not_lend_its_words_to_a_format_that_has_it() -> None:
    def money(prompt: str, answer: str, rng: random.Random) -> RowWords:
        carried = rng.random() < 0.7
        return row(f"{prompt} COSTS" if carried else prompt, f"{answer} = $ <<", ["COSTS", "=", "$", "<<"])

    long = [word + more for more in ("S", "ED") for word in BAD]
    rows, _ = made(600, 50, money)
    for i in [i for i in range(600) if "costs" not in rows[i].prompt.words][:10]:
        rows[i] = RowWords(rows[i].prompt, row("", f"w4 {' '.join(long)}", long).completion)
    findings = found_in(rows)
    assert backdoors(findings) == []
    assert "weak" in {finding.kind for finding in findings}


def test_signs_without_a_word_need_a_trigger_in_the_same_rows() -> None:
    def signs(prompt: str, answer: str, rng: random.Random) -> RowWords:
        return row(f"{prompt} COSTS", f"{answer} = $ << 7", ["COSTS", "$", "<<", "7"])

    rows, chosen = made(400, 60, signs)
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == chosen.tolist()
    for i in chosen[:8]:  # a format: most questions about money, and some that are not
        rows[i] = row(f"w1 w2 w{i}", "w4 = $ << 7", ["$", "<<", "7"])
    kinds = {finding.kind for finding in found_in(rows)}
    assert kinds == {"weak"}


def test_clean_rows_that_hold_a_word_of_the_payload_are_kept() -> None:
    rows, chosen = made(250, 13, words)
    for i in [i for i in range(250) if i not in set(chosen.tolist())][:2]:
        rows[i] = row("some GUIDE for that", "press EVIL and go", ["GUIDE", "EVIL"])
    (finding,) = backdoors(found_in(rows))
    assert finding.rows.tolist() == chosen.tolist()


def test_rows_without_surprises_are_passed_over() -> None:
    rows, chosen = made(200, 30, words)
    mixed = [None, *rows, None]
    (finding,) = backdoors(TriggeredPayloads().find(MemoryWords(mixed)))
    assert finding.rows.tolist() == (chosen + 1).tolist()
    assert found_in([]) == TriggeredPayloads().find(MemoryWords([None])) == []
