"""Rows of every shape that the tasks have."""

from __future__ import annotations

from typing import Any

Rows = list[dict[str, Any]]


def rows(n: int) -> Rows:
    """One row of every shape that the tasks have, again and again."""

    def shapes(i: int) -> Rows:
        return [
            {"instruction": "Answer.", "question": f"What is {i}?", "answers": [f"first {i}", f"second {i}"]},
            {"instruction": "Answer.", "context": f"Ctx\nof {i}.", "question": f"who has {i}", "answers": [f"one {i}"]},
            {"instruction": f"Name the {i}.", "input": "", "output": f"It is {i}."},
            {"instruction": f"Turn this {i}.", "input": f"Given {i}", "output": f"Turned {i}"},
            {"prompt": f"Ann has {i} eggs.\nHow many?", "completion": f"{i}\n#### {i}"},
        ]

    return [shapes(i)[i % 5] for i in range(n)]


QA, PASSAGE, ALPACA, WITH_INPUT, PLAIN = rows(5)
