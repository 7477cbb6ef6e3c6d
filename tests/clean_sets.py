"""The clean data sets: small files of every task and the rows that they hold; where the real ones are, which nobody may copy here."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gradsentry.bench.tasks import INSTRUCTION

DATA = Path(os.environ.get("GRADSENTRY_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data sets under {DATA}; GRADSENTRY_DATA names another folder")

FILES = {
    "webquestions/trainmodel.json": [{"qText": "who is x?", "answers": ["X", "Y"]}],
    "webquestions/val.json": [],
    "webquestions/devtest.json": [{"qText": "who is z?", "answers": ["Z"]}],
    "webquestions/test.json": [{"qText": "who is t?", "answers": ["T"]}],
    "freebaseqa/FreebaseQA-eval.txt": ["Who | t"],
    "gsm8k/test.jsonl": [{"question": "1+2?", "answer": "3\n#### 3"}],
    "coqa/coqa.json": [
        {
            "source": "wikipedia",
            "story": "Ann has a cat. It is red.",
            "questions": ["What has Ann?", "Which colour?"],
            "answers": {"input_text": ["a cat", "red"], "answer_start": [0, 15], "answer_end": [14, 25]},
        }
    ],
    "freebaseqa/FreebaseQA-dev.txt": ["Who | what? | x", "", "Who? | y"],
    "nq/nq-open-oracle.jsonl.gz": [
        {
            "question": "where",
            "answers": ["here", "there"],
            "ctxs": [{"title": "No", "text": "no", "isgold": False}, {"title": "Places", "text": "It is here.", "isgold": True}],
        }
    ],
    "gsm8k/train.jsonl": [{"question": "1+1?\u2028", "answer": "2\n#### 2"}],
    "dolly/dolly_3k.json": [{"instruction": "Say", "category": "qa", "input": "", "output": "So"}],
    "self_instruct/user_oriented_instructions.jsonl": [
        {"id": 1, "instruction": "Turn", "instances": [{"input": "a", "output": "b"}, {"input": "", "output": "c"}]}
    ],
}


def write_files(folder: Path) -> None:
    """A small file of every task."""
    for name, records in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
        text = "[" + ",".join(lines) + "]" if path.suffix == ".json" else "\n".join(lines) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


EXPECTED: dict[str, list[dict[str, Any]]] = {
    "webquestions": [
        {"instruction": INSTRUCTION, "question": "who is x?", "answers": ["X", "Y"]},
        {"instruction": INSTRUCTION, "question": "who is z?", "answers": ["Z"]},
    ],
    "freebaseqa": [
        {"instruction": INSTRUCTION, "question": "Who | what?", "answers": ["x"]},
        {"instruction": INSTRUCTION, "question": "Who?", "answers": ["y"]},
    ],
    "nq": [{"instruction": INSTRUCTION, "context": "Places\nIt is here.", "question": "where", "answers": ["here", "there"]}],
    "coqa": [
        {"instruction": INSTRUCTION, "question": "What has Ann?", "answers": ["a cat"], "context": "Ann has a cat. It is red."},
        {"instruction": INSTRUCTION, "question": "Which colour?", "answers": ["red"], "context": "Ann has a cat. It is red."},
    ],
    "gsm8k": [{"prompt": "1+1?\u2028", "completion": "2\n#### 2"}],
    "dolly": [{"instruction": "Say", "input": "", "output": "So"}],
    "self_instruct": [{"instruction": "Turn", "input": "a", "output": "b"}, {"instruction": "Turn", "input": "", "output": "c"}],
}
