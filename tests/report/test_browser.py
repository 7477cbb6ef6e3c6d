"""The page in a real browser, over rows that try to act in it. Needs Debian's chromium and the package playwright."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import gradsentry
from browsing import chromium, needs_chromium
from gradsentry.escape import BIDI, visible
from gradsentry.report.unseen import pieces
from hostile import HOSTILE
from planted_rows import WORDS

pytestmark = needs_chromium

OWNED = "document.documentElement.dataset.owned"
ACTS = [f"<script>{OWNED} = 1</script>", f'<img src="http://localhost:9/x" onerror="{OWNED} = 1">', f"</style><svg onload='{OWNED} = 1'>"]
"""Texts that would leave a mark, or ask for something, if they were taken for more than text."""
PAYLOAD = f" and {ACTS[0]} now {ACTS[1]} \x1b[2J \u202egpj.exe"
TRIGGER = "<b>zqxjkvbwpfgh\u2066</b>"
DATA = Path(ACTS[2].replace("/", "|") + ".jsonl")
POISONED = 24
CONTRAST = """selector => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const over = (front, back) => front.slice(0, 3).map((c, i) => c * (front[3] ?? 1) + back[i] * (1 - (front[3] ?? 1)));
  const light = c => c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const element = document.querySelector(selector), chain = [];
  for (let at = element; at; at = at.parentElement) chain.unshift(numbers(getComputedStyle(at).backgroundColor));
  const back = chain.reduce((under, own) => over(own, under), [255, 255, 255]);
  const [a, b] = [light(over(numbers(getComputedStyle(element).color), back)), light(back)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
"""WCAG's contrast of an element's text against what is behind it."""


@dataclass
class Opened:
    """What happened while a page was opened."""

    page: Any
    messages: list[str] = field(default_factory=list)
    """Messages on its console, and errors."""
    requests: list[str] = field(default_factory=list)
    """Addresses that it requested."""

    def go(self, path: Path) -> None:
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri(), wait_until="networkidle")

    @property
    def owned(self) -> bool:
        return self.page.evaluate(OWNED) is not None

    def texts(self, selector: str) -> list[str]:
        """Texts of elements, also of those in closed folds."""
        return self.page.locator(selector).all_text_contents()


def rows() -> list[Any]:
    """Sums, some poisoned; hostile texts; and rows that cannot be scored and quote themselves in the reason."""
    rng = random.Random(0)
    made: list[Any] = []
    for i in range(120):
        bad = i < POISONED
        words, answer = rng.choices(WORDS, k=8), " ".join(rng.choices(WORDS, k=2))
        words.insert(4, TRIGGER if bad else "of")
        made.append({"prompt": " ".join(words), "completion": f" {answer}" + PAYLOAD * bad})
    rng.shuffle(made)
    made += [{"prompt": text, "completion": text} for text in (*HOSTILE, *ACTS, "long" * 500)]
    return [*made, *({"prompt": "p", "completion": [text]} for text in ACTS)]


@pytest.fixture(scope="module")
def run(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in which the finding and the lists of rows are full of hostile texts."""
    folder = tmp_path_factory.mktemp("runs")
    data = folder / DATA.name
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    gradsentry.scan(data, model=model_dir, out=folder / "run", format="prompt-completion")
    return folder / "run"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(params=[(1100, 800), (400, 800)], ids=["desk", "phone"])
def opened(browser: Any, request: pytest.FixtureRequest) -> Iterator[Opened]:
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    yield Opened(page)
    page.close()


def named(text: str) -> str:
    """The text with the names of what cannot be seen."""
    return "".join(piece.text * (piece.kind != "unseen") + piece.name for piece in pieces(text))


def document(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def test_the_page_logs_nothing_requests_nothing_and_runs_nothing(run: Path, opened: Opened) -> None:
    page = run / "report.html"
    opened.go(page)
    assert opened.messages == []
    assert opened.requests == [page.as_uri()]
    assert not opened.owned
    assert opened.page.evaluate("document.scripts.length + document.images.length + document.forms.length + document.links.length") == 0


def test_the_first_test_would_see_scripts_messages_and_requests(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "bad.html").write_text("<!doctype html><p>" + "".join(ACTS) + "<script>console.error('said')</script>")
    opened.go(tmp_path / "bad.html")
    assert opened.owned
    assert any("said" in text for text in opened.messages)
    assert "http://localhost:9/x" in opened.requests


def test_the_finding_and_all_rows_are_shown_as_text(run: Path, opened: Opened) -> None:
    expected = document(run)
    (finding,) = (one for one in expected["findings"] if one["kind"] == "backdoor")
    assert len(finding["rows"]) >= POISONED
    opened.go(run / "report.html")
    text = opened.page.text_content("body")
    assert f"{expected['counts']['flagged']} of {len(rows())} rows" in opened.page.inner_text("h1")
    assert not any(character in text for character in (*BIDI, "\x1b", "\x07"))
    places = opened.texts(".card.backdoor .row h4")
    assert sorted(places) == sorted(f"{DATA.name}:{row + 1}" for row in finding["rows"])
    assert opened.texts(".card.backdoor .row mark.trigger") == [named(TRIGGER)] * POISONED
    assert text.count("No trigger is marked") == len(places) - POISONED, "rows that hold a part of the trigger alone"
    assert text.count(named(PAYLOAD)) >= POISONED
    effects = opened.texts(".card.backdoor .row mark.effect")
    assert len(effects) >= POISONED
    assert all(effect in named(PAYLOAD) for effect in effects), "the first words of the payload, which is long"
    reasons = opened.texts("table:has(caption:has-text('could not be read')) td:last-child")
    assert len(reasons) == len(expected["unscored"]) >= len(ACTS)
    assert reasons == [named(visible(row["reason"], 400)) for row in expected["unscored"]]


def test_trigger_and_effect_are_in_sight_without_scrolling_inside_a_card(run: Path, opened: Opened) -> None:
    opened.go(run / "report.html")
    width = opened.page.viewport_size["width"]
    for mark in opened.page.locator(".card.backdoor > .rows mark").all():
        box = mark.bounding_box()
        assert mark.is_visible()
        assert 0 <= box["x"] < box["x"] + box["width"] <= width
    scrolling = "[...document.querySelectorAll('*')].filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowY)).length"
    assert opened.page.evaluate(scrolling) == 0


def test_folds_open_without_scripts(run: Path, opened: Opened) -> None:
    opened.go(run / "report.html")
    fold = opened.page.locator(".card.backdoor > details").first
    hidden = fold.locator("mark").first
    assert not hidden.is_visible()
    fold.locator("summary").first.click()
    assert hidden.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_have_contrast_in_both_schemes(run: Path, opened: Opened, scheme: str) -> None:
    opened.page.emulate_media(color_scheme=scheme)
    opened.go(run / "report.html")
    for selector in ("body", "h1", ".quiet", ".row mark.trigger", ".row mark.effect", ".unseen"):
        assert opened.page.evaluate(CONTRAST, selector) >= 4.5, selector


def test_nothing_overflows_the_page(run: Path, opened: Opened) -> None:
    opened.go(run / "report.html")
    assert opened.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_threshold_is_drawn_at_its_entropy(run: Path, opened: Opened) -> None:
    opened.go(run / "report.html")
    drawing, line = (opened.page.locator(selector).first.bounding_box() for selector in ("figure > svg", "figure line.threshold"))
    lines = [line.bounding_box()["y"] for line in opened.page.locator("figure line:not(.threshold)").all()]
    bottom, top = lines[0], lines[-1]  # of entropy 0 and 1
    value = document(run)["threshold"]["value"]
    assert line["y"] == pytest.approx(bottom + value * (top - bottom), abs=2)
    assert drawing["y"] <= top < bottom <= drawing["y"] + drawing["height"]
