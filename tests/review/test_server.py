"""The review page over HTTP: what it shows and saves, and who may use it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import gradsentry
from browsing import serving
from gradsentry.errors import DataError, RunError, UsageError
from gradsentry.review.desk import Desk
from gradsentry.review.server import MOST_BYTES, ReviewServer
from planted_rows import asked
from typed import COMMAND, clean
from typed import gradsentry as typed

ROWS, BAD = asked(200, 30)
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def run(model_dir: Path, tmp_path: Path) -> Path:
    """A run with one finding of 30 rows."""
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    gradsentry.scan(tmp_path / "data.jsonl", model=model_dir, out=tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def server(run: Path) -> Iterator[ReviewServer]:
    with serving(Desk(run)) as made:
        yield made


class Forms(HTMLParser):
    """The forms of a page, each with its hidden values and the values of its buttons; and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[tuple[dict[str, str], list[str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        assert tag != "script"
        assert not any(name.startswith("on") for name in values)
        if tag == "form":
            assert values["method"] == "post"
            assert "action" not in values
            self.forms.append(({}, []))
        if tag == "input" and values.get("type") == "hidden":
            self.forms[-1][0][values["name"]] = values["value"]
        if tag == "button":
            self.forms[-1][1].append(values["value"])

    def handle_data(self, data: str) -> None:
        self.text += data


def ask(server: ReviewServer, method: str = "GET", path: str | None = None, body: bytes | None = None, **headers: str) -> HTTPResponse:
    """A request whose host is the server's own unless another is given; an empty header is left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, f"/{server.token}/" if path is None else path, skip_host=True, skip_accept_encoding=True)
    given = {"Host": f"127.0.0.1:{server.server_port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in given.items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(body)
    return connection.getresponse()


def post(server: ReviewServer, values: dict[str, str] | bytes, **headers: str) -> HTTPResponse:
    """A form as a browser sends it."""
    body = values if isinstance(values, bytes) else urlencode(values).encode()
    own = {"Origin": f"http://127.0.0.1:{server.server_port}", "Content_Type": FORM, "Content_Length": str(len(body))}
    return ask(server, "POST", body=body, **own | headers)


def page(server: ReviewServer) -> Forms:
    answer = ask(server)
    assert answer.status == 200
    return Forms(answer.read().decode())


def decision(server: ReviewServer, **values: str) -> dict[str, str]:
    return page(server).forms[0][0] | {"decision": "dismissed", "reason": "ours", "expires": ""} | values


def lines(run: Path) -> list[dict[str, Any]]:
    path = run / "reviews.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_dismissal_is_saved_shown_and_obeyed(server: ReviewServer, run: Path) -> None:
    before = page(server)
    assert len(before.forms) == 1 + 30
    assert "With your decisions: 30 rows flagged" in before.text
    assert [buttons for _, buttons in before.forms] == [["dismissed", "accepted"]] * 31
    answer = post(server, decision(server, reason="<b>our</b>\r\n own\u202e", expires="2099-01-31"))
    assert answer.status == 303
    (line,) = lines(run)
    assert answer.headers["Location"] == f"/{server.token}/#{line['fingerprint'].replace(':', '-')}"
    assert (line["decision"], line["reason"], line["expires"]) == ("dismissed", "<b>our</b> own\u202e", "2099-01-31")
    assert line["what"].startswith("30 prompts hold ")
    after = page(server)
    assert "With your decisions: 0 rows flagged, 0 of suspects, 30 dismissed, 200 kept." in after.text
    assert "dismissed: <b>our</b> ownright-to-left override U+202E (until 2099-01-31)" in after.text
    assert after.forms[0][1] == ["dismissed", "accepted", "open"]
    obeyed = typed("filter", "run", cwd=run.parent)
    assert obeyed.returncode == 0, clean(obeyed)
    assert "\\u202e" in obeyed.stdout
    assert (run / "kept.jsonl").read_text() == (run.parent / "data.jsonl").read_text()
    scanned = json.loads((run / "manifest.json").read_text())["config"]["model"]
    repeated = typed("scan", "data.jsonl", "--model", scanned, "--out", "run", cwd=run.parent)
    assert repeated.returncode == 0, "a repeated scan obeys too"
    post(server, decision(server, decision="open", reason=""))
    assert typed("filter", "run", cwd=run.parent).returncode == 1


def test_a_row_is_dismissed_alone(server: ReviewServer, run: Path) -> None:
    form = page(server).forms[1][0]
    assert post(server, decision(server) | form).status == 303
    assert "29 rows flagged, 0 of suspects, 1 dismissed" in page(server).text
    (line,) = lines(run)
    row = int(line["what"].partition(":")[2]) - 1
    assert row in BAD
    result = typed("filter", "run", cwd=run.parent)
    assert "29 of 200 rows" in result.stdout
    assert json.dumps(ROWS[row]) in (run / "kept.jsonl").read_text().splitlines()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fingerprint": "finding:" + "0" * 64}, "no such finding or row is in this review"),
        ({"fingerprint": "x\r\nSet-Cookie: a=b"}, "no such finding or row"),
        ({"decision": "maybe"}, "the decision can be dismissed, accepted, open"),
        ({"reason": " \n "}, "the decision has no reason"),
        ({"expires": "tomorrow"}, "'tomorrow' is no day such as 2027-01-31"),
    ],
)
def test_a_decision_that_is_impossible_is_refused(values: dict[str, str], message: str, server: ReviewServer, run: Path) -> None:
    answer = post(server, decision(server, **values))
    assert answer.status == 400
    assert "Set-Cookie" not in answer.headers
    assert message in answer.read().decode()
    assert lines(run) == []


def test_nobody_without_the_token_or_under_another_name_gets_an_answer(server: ReviewServer, run: Path) -> None:
    own, port = f"/{server.token}/", server.server_port
    values = urlencode(decision(server)).encode()
    form = {"Origin": f"http://127.0.0.1:{port}", "Content_Type": FORM, "Content_Length": str(len(values))}
    for path in ("/", "//", own[:-1], own[:-2] + "/", own + "?x", own + "x", f"http://127.0.0.1:{port}{own}", "/%e4/", own.swapcase()):
        for method, more in (("GET", {}), ("POST", form)):
            answer = ask(server, method, path, values if more else None, **more)
            assert answer.status == 404, path
            assert server.token not in answer.read().decode()
    for host in ("", "evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"127.0.0.1:{port}.evil.example"):
        for method, more in (("GET", {}), ("POST", form)):
            answer = ask(server, method, None, values if more else None, **{"Host": host} | more)
            assert answer.status == 403, host
            assert "finding" not in answer.read().decode()
    assert ask(server, Host=f"localhost:{port}").status == 200
    assert lines(run) == []


def test_decisions_come_from_the_page_alone(server: ReviewServer, run: Path) -> None:
    port, values = server.server_port, decision(server)
    for origin in ("", "null", "http://evil.example", f"https://127.0.0.1:{port}", "http://127.0.0.1", f"http://localhost:{port}"):
        assert post(server, values, Origin=origin).status == 403, origin
    assert ask(server, "GET", f"/{server.token}/?{urlencode(values)}").status == 404
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
        assert ask(server, method).status == 501
    assert lines(run) == []
    local = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert post(server, values, **local).status == 303


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * (MOST_BYTES + 1), {}, 413),
        (b"a=b", {"Content_Length": ""}, 413),
        (b"a=b", {"Content_Length": "-1"}, 413),
        (b"a=b", {"Content_Length": "9" * 5000}, 413),
        (b"a=b", {"Content_Type": "text/plain"}, 415),
        (b"a=b", {"Content_Type": "multipart/form-data; boundary=x"}, 415),
        (b"reason=%ff", {}, 400),
        (b"\xff", {}, 400),
        (b"&".join(b"a=1" for _ in range(50)), {}, 400),
        (b"", {}, 400),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, headers: dict[str, str], status: int, server: ReviewServer, run: Path) -> None:
    assert post(server, body, **headers).status == status
    assert lines(run) == []
    assert ask(server).status == 200, "the server goes on"


def test_a_connection_that_says_nothing_keeps_nobody_waiting(server: ReviewServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)):
        assert ask(server).status == 200


@pytest.mark.parametrize(
    "request_line", [b"GET /\xe4\xff/ HTTP/1.1", b"GET", b"\x16\x03\x01\x02", b"GET / HTTP/9.9", b"GET /" + b"a" * 70_000]
)
def test_bytes_that_are_no_request_of_a_browser_are_refused(request_line: bytes, server: ReviewServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as link:
        link.sendall(request_line + f"\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        answer = link.makefile("rb").read()
    assert b" 200 " not in answer[:20]
    assert b"finding" not in answer
    assert ask(server).status == 200


def test_answers_forbid_scripts_frames_and_copies_and_do_not_name_the_software(server: ReviewServer) -> None:
    for answer in (ask(server), ask(server, path="/"), ask(server, "PUT"), post(server, b"")):
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "script-src" not in policy
        assert policy["form-action"] == "'self'"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "Python" not in answer.headers["Server"]
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 43
    with ReviewServer(server.desk) as other:
        assert other.token != server.token


def test_a_run_that_was_scored_again_meanwhile_takes_no_decision(server: ReviewServer, run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    values = decision(server)
    manifest["identity"]["data"] = "other"
    (run / "manifest.json").write_text(json.dumps(manifest))
    answer = post(server, values)
    assert answer.status == 409
    assert "has changed since this review began" in answer.read().decode()
    assert lines(run) == []


def test_reviews_that_are_broken_meanwhile_are_said_and_stay(server: ReviewServer, run: Path) -> None:
    values = decision(server)
    (run / "reviews.jsonl").write_text("{\n")
    for answer in (ask(server), post(server, values)):
        assert answer.status == 409
        assert "reviews.jsonl:1: it is not valid JSON" in answer.read().decode()
    assert (run / "reviews.jsonl").read_text() == "{\n"


def test_a_run_that_cannot_be_reviewed_is_an_error_with_what_to_do(run: Path, model_dir: Path) -> None:
    folder = run.parent
    with pytest.raises(RunError, match="is no run directory"):
        Desk(folder)
    memory = gradsentry.scan(ROWS[:20], model=model_dir, out=folder / "memory")
    assert memory.run
    with pytest.raises(UsageError, match="made from rows in memory"):
        Desk(memory.run)
    (run / "reviews.jsonl").write_text(json.dumps({"fingerprint": "row:" + "0" * 64, "reason": "x", "run": "abc"}) + "\n")
    result = typed("review", "run", cwd=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert "run/reviews.jsonl:1: the decision is on another scan (abc; the run now has" in clean(result)
    (run / "reviews.jsonl").unlink()
    data = folder / "data.jsonl"
    data.write_text(data.read_text().replace("a", "b"))
    with pytest.raises(RunError, match="has changed since it was scored; scan it again"):
        Desk(run)
    data.unlink()
    with pytest.raises(DataError):
        Desk(run)


def test_the_page_knows_the_file_that_the_run_was_decided_with(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (finding,) = json.loads((run / "report.json").read_text())["findings"]
    (run.parent / "allow.jsonl").write_text(json.dumps({"fingerprint": finding["fingerprint"], "reason": "ours"}))
    assert typed("filter", "run", "--allow", "allow.jsonl", "--threshold", "0.99", cwd=run.parent).returncode == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    desk = Desk(run)
    assert "0 rows flagged, 0 of suspects, 30 dismissed" in Forms(desk.page()).text
    assert desk.next_command == f"gradsentry filter {run} --threshold 0.99 --allow {run.parent / 'allow.jsonl'}"
    (run.parent / "allow.jsonl").unlink()
    with pytest.raises(UsageError, match=r"allow\.jsonl: no such file"):
        Desk(run)


def test_decisions_of_another_scan_are_not_applied(run: Path) -> None:
    (run / "reviews.jsonl").write_text(json.dumps({"fingerprint": "row:" + "0" * 64, "reason": "x", "run": "abc"}) + "\n")
    result = typed("filter", "run", cwd=run.parent)
    assert result.returncode == 2
    assert "its data, model or options have changed" in clean(result)


def test_a_port_that_is_taken_is_an_error(run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = typed("review", "run", "--port", port, cwd=run.parent)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"--port {port}: address already in use; give another, or leave it out for a free one" in clean(result)
    assert typed("review", "run", "--port", "70000", cwd=run.parent).returncode == 2


def test_the_command_prints_its_address_and_ends_with_ctrl_c(run: Path) -> None:
    with (
        subprocess.Popen(
            [*COMMAND, "review", "run"],
            cwd=run.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background inherits that it is ignored
        ) as made,
        ExitStack() as stack,
    ):
        stack.callback(made.kill)  # a test that fails must not wait for a server
        assert made.stdout is not None
        address = made.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]{43}/)", address)
        assert found, made.communicate()
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
        connection.request("GET", found[2])
        assert connection.getresponse().status == 200
        made.send_signal(signal.SIGINT)
        out, err = made.communicate(timeout=60)
    assert (made.returncode, out) == (0, "")
    assert "0 decisions are in run/reviews.jsonl; split the rows by them: gradsentry filter" in err
    assert found[2] not in err, "no log of requests"
    assert "Traceback" not in err
