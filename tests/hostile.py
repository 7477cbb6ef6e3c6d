"""Texts that strangers may put into a data set to steer a page or a terminal."""

from __future__ import annotations

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></table><iframe src='http://evil'></iframe>",
    '" onmouseover="alert(1)',
    "'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt;&#x3c;",
    "<!-- ",
    "]]></style></title><script>",
    "\x1b[2J\x1b]0;title\x07",
    "user\u202e\u2066gpj.exe",
    "bell \x07 and \x00 and \ufeff",
]
