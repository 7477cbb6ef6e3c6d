"""Where ``explain`` marks a trigger and a payload that ``report.json`` has as escapes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gradsentry
from gradsentry.escape import visible
from gradsentry.report.explain import explain


@pytest.mark.parametrize(
    ("trigger", "payload"),
    [
        ("cf", "click here"),
        ("cf \u200bbb", "click\there"),
        ("\u3164", "CLICK p\u0430ypal"),
        ("p\u0430ypal", "\u202egpj.exe"),
    ],
)
def test_trigger_and_payload_are_marked_as_the_row_writes_them(trigger: str, payload: str, model_dir: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"\u0430\u200d What is {trigger} and {trigger}?", "completion": f" Well\u00a0then: {payload} now"}]
    gradsentry.scan(rows, model=model_dir, out=tmp_path / "run", format="prompt-completion")
    evidence = pq.read_table(tmp_path / "run" / "evidence.parquet")
    place = evidence.schema.get_field_index("finding")
    pq.write_table(
        evidence.set_column(place, evidence.schema.field(place), pa.array([1], evidence.schema.types[place])),
        tmp_path / "run" / "evidence.parquet",
    )
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    report["findings"] = [{"kind": "backdoor", "triggers": [visible(trigger)], "payload": visible(payload), "effect": None}]
    (tmp_path / "run" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    found = explain(tmp_path / "run", 0)
    assert [found.text(supervised=False)[slice(*span)] for span in found.trigger] == [trigger] * 2
    assert [found.text(supervised=True)[slice(*span)] for span in found.effect] == [payload]
