"""The review page in a real browser, without JavaScript, over rows that try to act in it. Needs Debian's chromium and playwright."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gradsentry
from browsing import chromium, needs_chromium, serving
from gradsentry.review.desk import Desk
from planted_rows import TRIGGER, asked

pytestmark = needs_chromium

ACT = '</form><script>document.title = "owned"</script><img src="http://localhost:9/x"><form action="http://localhost:9/">'


@pytest.fixture(scope="module")
def run(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose finding has a payload that would act in a page."""
    folder = tmp_path_factory.mktemp("reviewed")
    rows, bad = asked(200, 30)
    for row in bad:
        rows[row]["completion"] = f" yes {ACT}"
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    gradsentry.scan(folder / "data.jsonl", model=model_dir, out=folder / "run")
    return folder / "run"


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    with serving(Desk(run)) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("width", [1280, 400])
def test_a_person_dismisses_and_takes_back_by_the_forms_alone(width: int, browser: Any, address: str, run: Path) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, java_script_enabled=False)
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.goto(address)
    assert TRIGGER in page.locator(".card.backdoor mark.trigger").first.inner_text()
    form = page.locator(".card form").first
    form.get_by_role("button", name="Dismiss").click()
    assert not (run / "reviews.jsonl").exists(), "the browser asks for a reason"
    form.get_by_label("Reason").fill(f"ours {ACT}")
    form.get_by_label("Last day, if any").fill("2099-01-31")
    form.get_by_role("button", name="Dismiss").click()
    page.wait_for_url(f"{address}#finding-*")
    assert page.locator(".card").first.get_attribute("class") == "card dismissed"
    assert f"dismissed: ours {ACT} (until 2099-01-31)" in page.locator(".card .decided").first.inner_text()
    assert "30 dismissed" in page.inner_text("header")
    page.locator(".card form").first.get_by_role("button", name="Take back").click()
    page.wait_for_selector(".card.backdoor")
    decisions = [json.loads(line)["decision"] for line in (run / "reviews.jsonl").read_text().splitlines()]
    assert decisions == ["dismissed", "open"]
    page.locator(".row summary", has_text="Decide on this row alone").first.click()
    row = page.locator(".row form").first
    row.get_by_label("Reason").fill("a joke")
    row.get_by_role("button", name="Dismiss").click()
    page.wait_for_url(f"{address}#row-*")
    assert "29 rows flagged" in page.inner_text("header")
    assert page.locator(".row form").first.is_visible(), "its fold is open"
    assert page.title().startswith("gradsentry review")
    assert {url.partition("#")[0] for url in requests if not url.startswith("data:")} == {address}
    assert messages == []
    width_of = [page.locator(selector).first.bounding_box() for selector in (".card", ".card form", ".row form")]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in width_of)
    (run / "reviews.jsonl").unlink()
    page.close()


def test_a_page_of_another_site_can_neither_read_nor_decide(browser: Any, address: str, run: Path, tmp_path: Path) -> None:
    """It has learnt the address, and posts a form, asks by script, and shows the page in a frame."""
    page = browser.new_page()
    fingerprint = json.loads((run / "report.json").read_text())["findings"][0]["fingerprint"]
    fields = {"fingerprint": fingerprint, "decision": "dismissed", "reason": "x", "expires": ""}
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    text = f'<iframe src="{address}"></iframe><form method="post" action="{address}">{inputs}<button>go</button></form>'
    (tmp_path / "evil.html").write_text(text)
    page.goto((tmp_path / "evil.html").as_uri())
    read = f"fetch('{address}').then(answer => answer.text()).catch(error => 'refused')"
    assert page.evaluate(read) == "refused"
    assert TRIGGER not in page.frames[1].evaluate("document.documentElement.textContent")
    page.get_by_role("button", name="go").click()
    page.wait_for_url(address)
    assert "decisions are taken from the forms of the review page only" in page.inner_text("body")
    assert not (run / "reviews.jsonl").exists()
    page.close()
