"""Serves the review page to the browser of one person on this machine, and to nobody else."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from gradsentry.errors import GradsentryError, UsageError
from gradsentry.escape import visible
from gradsentry.review.desk import Desk

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Names under which a browser may ask; under any other, a foreign page has given its own name this address (DNS rebinding)."""
MOST_BYTES = 16 * 1024
"""Of a form."""
FIELDS = ("fingerprint", "decision", "reason", "expires")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""No script, no other site, no frame, no copy. With "no-referrer" a browser would send our forms without their origin."""


class ReviewServer(ThreadingHTTPServer):
    """A server on this machine's own address. Its page is at `url`, which holds a random token.

    Args:
        port: 0 for a free one.

    Raises:
        UsageError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, desk: Desk, port: int = 0) -> None:
        self.desk, self.token, self.lock = desk, secrets.token_urlsafe(32), threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise UsageError(f"--port {port}: {problem}; give another, or leave it out for a free one") from None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection is no error of ours."""


class _Answer(NamedTuple):
    status: int
    text: str
    kind: str = "text/plain"
    location: str | None = None
    """Where the browser goes then."""


class _Refused(Exception):
    """The request gets this status and this text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = 30
    server_version, sys_version = "gradsentry", ""

    def do_GET(self) -> None:
        self._answer(self._page)

    def do_POST(self) -> None:
        self._answer(self._decide)

    def _answer(self, make: Callable[[], _Answer]) -> None:
        """Check who asks, and send what `make` returns."""
        try:
            self._check_who_asks()
            with self.server.lock:
                answer = make()
        except _Refused as refused:
            answer = _Answer(refused.status, str(refused))
        except GradsentryError as error:
            answer = _Answer(400 if isinstance(error, UsageError) else 409, str(error))
        except OSError as error:
            answer = _Answer(500, f"{error.filename or ''}: {error.strerror or error}")
        self._send(answer)

    def _check_who_asks(self) -> None:
        if self._host not in self._hosts:
            raise _Refused(403, "this server answers to its own address only")
        if not hmac.compare_digest(self.path.encode(), f"/{self.server.token}/".encode()):
            raise _Refused(404, "no page is here: open the address that gradsentry review printed")

    @property
    def _host(self) -> str | None:
        given = self.headers.get_all("Host", [])
        return given[0] if len(given) == 1 else None

    @property
    def _hosts(self) -> list[str]:
        return [f"{name}:{self.server.server_port}" for name in NAMES]

    def _page(self) -> _Answer:
        return _Answer(200, self.server.desk.page(), "text/html")

    def _decide(self) -> _Answer:
        if self.headers.get_all("Origin") != [f"http://{self._host}"]:
            raise _Refused(403, "decisions are taken from the forms of the review page only")
        values = self._form()
        self.server.desk.decide(*(values[name] for name in FIELDS))
        place = values["fingerprint"].replace(":", "-")  # one that the desk knows, so without line ends
        return _Answer(303, "saved", location=f"/{self.server.token}/#{place}")

    def _form(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/x-www-form-urlencoded":
            raise _Refused(415, "this is no form")
        if not (length.isascii() and length.isdecimal()) or int(length[:9]) > MOST_BYTES:
            raise _Refused(413, f"the form has more than {MOST_BYTES} bytes, or does not say how many")
        try:
            body = self.rfile.read(int(length)).decode()
            given = parse_qs(body, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=len(FIELDS))
            return {name: given.get(name, [""])[0] for name in FIELDS}
        except ValueError:
            raise _Refused(400, "the form cannot be read") from None

    def _send(self, answer: _Answer) -> None:
        body = (answer.text if answer.kind == "text/html" else visible(answer.text) + "\n").encode("utf-8", "replace")
        headers = HEADERS | {"Content-Type": f"{answer.kind}; charset=utf-8", "Content-Length": str(len(body))}
        self.send_response(answer.status)
        for name, value in (headers | ({"Location": answer.location} if answer.location else {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses, an unknown method or a malformed request, as a text that quotes nothing."""
        self._send(_Answer(int(code), "this request is not answered"))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: their addresses hold the token."""
