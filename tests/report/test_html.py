"""The page is read back with an HTML parser: what is in it, and what a hostile row cannot put there."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisions import decision_of, document_of
from gradsentry.report.document import LISTED, PREVIEW
from gradsentry.report.escape import visible
from gradsentry.report.html import BARS, HEIGHT, WIDTH, histogram, render
from gradsentry.schema import SCORES
from gradsentry.verdict.combine import combine
from gradsentry.verdict.finding import Finding, Kind
from hostile import HOSTILE


class Page(HTMLParser):
    """Elements with their attributes, table cells, and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.cells:
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self.cells.append("")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def page_of(rows: list[dict[str, Any]], entropies: list[float | None], threshold: str = "0.5", **names: Any) -> Page:
    decision = decision_of(entropies, threshold, names.pop("reasons", None))
    return Page(render(document_of(decision, rows, **names), decision))


def plain(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"prompt {i}", "completion": f"completion {i}"} for i in range(n)]


EXPECTED_ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "strong", "svg", "rect", "line", "text"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_text_everywhere(text: str) -> None:
    rows = [{"prompt": text, "completion": f"a{text}b"}, {"prompt": "p", "completion": "c"}]
    page = page_of(rows, [0.9, None], data=text, model=text, reasons=["", text])
    assert {name for name, _ in page.elements} <= EXPECTED_ELEMENTS
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on") or name in ("src", "href")]
    assert len(page.all("h1")) == len(page.all("title")) - BARS == 1
    shown = visible(text)
    assert page.text.count(shown) >= 5, "prompt, completion, reason, data and model"
    assert not any(char in page.text for char in "\x1b\x00\x07\u202e\u2066\ufeff")


def test_a_lone_surrogate_leaves_a_page_that_can_be_written() -> None:
    page = page_of([{"prompt": "half \ud83d", "completion": "c"}], [None], data="half \ud83d")
    assert page.text.encode("utf-8")
    assert "half \\ud83d" in page.text


def test_a_row_that_does_not_fit_its_format_is_shown_escaped_too() -> None:
    page = page_of([{"prompt": "<script>", "completion": ["<script>\u202e"]}], [None])
    assert not page.all("script")
    document = document_of(decision_of([None], "0.5"), [{"prompt": "<script>", "completion": ["<script>\u202e"]}])
    assert document["unscored"][0]["completion"].startswith("prompt: '<script>', completion: ['<script>")


@settings(max_examples=25, deadline=None)
@given(prompt=st.text(st.characters(codec="utf-8"), max_size=40), completion=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_cells_hold_any_text_as_it_is_made_visible(prompt: str, completion: str) -> None:
    page = page_of([{"prompt": prompt, "completion": completion}], [0.9])
    cells = page.cells[:12:2]
    assert cells == ["0", "row 0", "0.9000", "3", visible(prompt), visible(completion)]


def test_the_page_forbids_itself_scripts_and_the_network() -> None:
    page = page_of(plain(2), [0.9, 0.1])
    (policy,) = (meta["content"] for meta in page.all("meta") if (meta.get("http-equiv") or "").lower() == "content-security-policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    names = [name for name, _ in page.elements]
    assert names.index("meta") < names.index("title")
    assert not {"script", "img", "link", "iframe", "a", "form", "base", "object"} & set(names)


@settings(max_examples=30, deadline=None)
@given(entropies=st.lists(st.sampled_from([0.0, 1.0, 0.02, 0.5]) | st.floats(0, 1) | st.none(), min_size=1, max_size=60))
def test_histogram_counts_add_up_and_each_row_is_in_its_bar(entropies: list[float | None]) -> None:
    bars = histogram(decision_of(entropies, "0.5"))
    known = [entropy for entropy in entropies if entropy is not None]
    assert len(bars) == BARS
    assert sum(bar["rows"] for bar in bars) == len(known)
    for i, bar in enumerate(bars):
        inside = sum(bar["low"] <= e < bar["high"] or (i == BARS - 1 and e == 1) for e in known)
        assert bar["rows"] == inside
        assert bar["height"] == pytest.approx(HEIGHT * inside / max(1, *(other["rows"] for other in bars)))
    assert [bar["low"] for bar in bars] + [bars[-1]["high"]] == pytest.approx(np.linspace(0, 1, BARS + 1))
    assert bars[-1]["x"] + bars[-1]["width"] <= WIDTH


def test_bars_and_threshold_line_stand_where_they_should() -> None:
    page = page_of(plain(4), [0.1, 0.1, 0.9, 0.95], "0.5")
    assert len(page.all("rect")) == BARS
    for i, bar in enumerate(page.all("rect")):
        assert bar["fill"] == ("var(--bad)" if i >= BARS // 2 else "var(--bar)")
    line = next(line for line in page.all("line") if line["x1"] == line["x2"])
    assert float(line["x1"] or "") == WIDTH / 2
    assert "threshold 0.500" in page.text


@pytest.mark.parametrize("threshold", ["0.0", "0.3", "1.0"])
def test_the_threshold_is_named_within_the_drawing(threshold: str) -> None:
    (name, *_) = (float(text["x"] or "") for text in page_of(plain(2), [0.1, 0.9], threshold).all("text"))
    assert 80 <= name <= WIDTH - 80
    assert name == WIDTH * float(threshold) or threshold in ("0.0", "1.0")


def test_a_fallback_is_warned_of_with_its_reason() -> None:
    page = page_of(plain(3), [0.1, 0.2, 0.9], "auto")
    (warning,) = (attributes for tag, attributes in page.elements if attributes.get("class") == "warning")
    assert warning == {"class": "warning"}
    assert "The threshold is the published fallback and not reliable: only 3 scored rows; the rule needs 30." in page.text


def test_a_reliable_threshold_is_not_warned_of() -> None:
    rng = np.random.default_rng(0)
    entropies = [*rng.normal(0.3, 0.02, 60).tolist(), *rng.normal(0.8, 0.02, 20).tolist()]
    page = page_of(plain(80), entropies, "auto")
    assert not any(attributes.get("class") == "warning" for _, attributes in page.elements)
    assert "Threshold: valley." in page.text
    assert "20 of 80 rows (25.0 %) look poisoned." in page.text


def test_a_run_without_findings_says_so_and_lists_nothing() -> None:
    page = page_of(plain(3), [0.1, 0.2, 0.3])
    assert "Nothing found in 3 rows." in page.text
    assert page.all("h1") == [{"class": "ok"}]
    assert not page.all("table")


def test_rows_that_were_not_examined_come_first() -> None:
    page = page_of(plain(3), [0.1, None, None], reasons=["", "it is an array", "broken"])
    assert "No row flagged in 1 row, but 2 rows were not examined: look at them." in page.text
    assert page.all("h1") == [{"class": "look"}], "that is no green light"
    assert "NOT examined: they could not be read or scored. They are in unexamined, not in kept. The first: row 1: it is an" in page.text
    assert page.text.index("NOT examined") < page.text.index("rows scored")
    assert {"class": "warning"} in page.all("p")


def test_the_place_of_the_first_row_that_was_not_examined_is_not_repeated() -> None:
    page = page_of(plain(2), [0.1, None], reasons=["", "row 1: 'completion' is empty"])
    said = (
        "1 row was NOT examined: it could not be read or scored. It is in unexamined, not in kept. The first: row 1: 'completion' is empty"
    )
    assert said in page.text


def test_a_run_without_a_score_has_no_threshold_and_lists_why() -> None:
    page = page_of(plain(2), [None, None], reasons=["first reason", "second reason"])
    assert "Nothing could be scored in 2 rows." in page.text
    assert not page.all("svg")
    assert [cell for cell in page.cells if "reason" in cell] == ["first reason", "second reason"]


def test_flagged_rows_are_listed_by_falling_entropy_and_no_others() -> None:
    document = document_of(decision_of([0.6, 0.1, 0.9, None, 0.6], "0.5"), plain(5))
    assert [row["row"] for row in document["flagged"]] == [2, 0, 4]
    assert [row["completion"] for row in document["flagged"]] == ["completion 2", "completion 0", "completion 4"]
    assert [row["row"] for row in document["unscored"]] == [3]
    by_status = {"rows": 5, "scored": 4, "unscorable": 0, "error": 1}
    assert document["counts"] == by_status | {"flagged": 3, "suspected": 0, "unexamined": 1, "kept": 1}


def test_long_lists_and_long_texts_are_cut_and_the_page_says_where_the_rest_is() -> None:
    rows = [{"prompt": "p" * 5000, "completion": "c"} for _ in range(LISTED + 2)]
    decision = decision_of([0.5 + i / 10_000 for i in range(LISTED + 2)], "0.4")
    document = document_of(decision, rows)
    assert [row["row"] for row in document["flagged"]] == list(range(LISTED + 1, 1, -1))
    assert document["flagged"][0]["prompt"] == "p" * (PREVIEW - 1) + "…"
    assert f"The {LISTED} of highest entropy; verdicts.parquet has all {LISTED + 2:,}." in Page(render(document, decision)).text


def test_what_a_turn_calls_is_shown_with_it() -> None:
    call = {"type": "function", "function": {"name": "bash", "arguments": {"cmd": "ls \u202e"}}}
    row = {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    document = document_of(decision_of([0.9], "0.5"), [row])
    assert document["flagged"][0]["prompt"] == "user: Q"
    assert document["flagged"][0]["completion"].startswith("assistant:  [{'type': 'function', 'function': {'name': 'bash'")
    assert "ls \\u202e" in document["flagged"][0]["completion"]


def test_a_long_list_of_rows_that_were_not_examined_is_cut_too() -> None:
    page = page_of(plain(LISTED + 2), [None] * (LISTED + 2))
    assert f"The first {LISTED}; verdicts.parquet has all {LISTED + 2:,}." in page.text
    assert page_of(plain(2), [None] * 2).text.count("The first") == 1, "the line above, and nothing of a list that is cut"


def finding(text: str, kind: Kind = "backdoor") -> Finding:
    return Finding(kind, (text, "cf"), text, np.array([0, 2]), f"contain {text}", 2, 2, 0.1, {"insertion": 4.0, "effect": 9.0}, why=text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", ["backdoor", "explained"])
def test_findings_are_shown_as_text(text: str, kind: Kind) -> None:
    base = decision_of([0.1, 0.2, 0.3], "1.0")
    decision = combine(base.verdicts.drop(["flagged"]).select(SCORES.names), "1.0", [finding(text, kind)], by_entropy=False)
    assert decision.flagged.tolist() == ([True, False, True] if kind == "backdoor" else [False] * 3)
    document = document_of(decision, plain(3))
    page = Page(render(document, decision))
    assert {name for name, _ in page.elements} <= EXPECTED_ELEMENTS
    assert ("Finding 1:" in page.text) == (kind == "backdoor")
    assert "2 of their answers say" in page.text
    assert not any(character in page.text for character in "\x1b\x07\x00\u202e")
    (only,) = document["findings"]
    assert [example["row"] for example in only["examples"]] == [0, 2]
