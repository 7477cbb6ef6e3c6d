"""The page in a real browser, over rows that try to act in it. Needs Debian's chromium and the package playwright."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as playwright

import gradsentry
from gradsentry.report.escape import BIDI, visible
from hostile import HOSTILE
from planted_rows import WORDS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
OWNED = "document.documentElement.dataset.owned"
ACTS = [f"<script>{OWNED} = 1</script>", f'<img src="http://localhost:9/x" onerror="{OWNED} = 1">', f"</style><svg onload='{OWNED} = 1'>"]
"""Texts that would leave a mark, or ask for something, if they were taken for more than text."""
PAYLOAD = f" and {ACTS[0]} now {ACTS[1]} \x1b[2J \u202egpj.exe"
TRIGGER = "<b>zqxjkvbwpfgh\u2066</b>"
POISONED = 24


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

    def cells(self, heading: str) -> list[str]:
        """Texts in the tables between a heading and the next."""
        between = "following-sibling::table[preceding-sibling::h2[1]"
        return self.page.locator(f"//h2[.='{heading}']/{between}[.='{heading}']]//td").all_inner_texts()


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
    data = folder / f"{ACTS[2].replace('/', '|')}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    gradsentry.scan(data, model=model_dir, out=folder / "run", format="prompt-completion")
    return folder / "run"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield chromium
        chromium.close()


@pytest.fixture(params=[(1100, 800), (400, 800)], ids=["desk", "phone"])
def opened(browser: Any, request: pytest.FixtureRequest) -> Iterator[Opened]:
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    yield Opened(page)
    page.close()


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
    text = opened.page.inner_text("body")
    assert f"{expected['counts']['flagged']} of {len(rows())} rows" in opened.page.inner_text("h1")
    assert finding["sentence"] in text
    assert visible(PAYLOAD).strip() in text
    assert visible(TRIGGER) in text
    assert not any(character in text for character in (*BIDI, "\x1b", "\x07"))
    assert f"Finding {finding['number']}:" in text
    shown = opened.cells("Flagged rows")
    assert shown[4::6] == [row["prompt"] for row in expected["flagged"]]
    assert shown[5::6] == [row["completion"] for row in expected["flagged"]]
    reasons = opened.cells("Rows that were not examined")[2::3]
    assert len(reasons) == len(expected["unscored"]) >= len(ACTS)
    assert reasons == [visible(row["reason"], 400) for row in expected["unscored"]]


def test_nothing_overflows_the_page(run: Path, opened: Opened) -> None:
    opened.go(run / "report.html")
    assert opened.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_threshold_is_drawn_at_its_bars(run: Path, opened: Opened) -> None:
    opened.go(run / "report.html")
    drawing, line = (opened.page.locator(f"svg{part}").first.bounding_box() for part in ("", " line"))
    value = document(run)["threshold"]["value"]
    assert line["x"] == pytest.approx(drawing["x"] + value * drawing["width"], abs=2)
    assert opened.page.locator("svg rect").count() == 50
