"""The GPU benchmark runs to its end where there is no GPU, and measures what it states."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gpu import SHAPES, busy_share, compared, random_model, random_rows, section, within

from gradsentry import Scorer
from gradsentry.types import Encoded

ROOT = Path(__file__).parent.parent.parent


def test_one_command_measures_every_way(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    found = {each["way"]: each for each in result["results"]}
    assert list(found) == ["recipe as published", "recipe, frozen", "padded forward pass", "scan"]
    assert all(each["ms_a_row"] > 0 for each in found.values())
    scan = found["scan"]
    rows = random_rows(24, 12, 8)
    assert scan["unique_tokens"] == len({tuple(row.input_ids[:n]) for row in rows for n in range(1, len(row.input_ids))})
    assert 0 < scan["of_peak"] < 1.2
    assert 0 < scan["busy"] <= 1.01
    assert result["peak_flops"] > 1e8
    assert {each["place"] for each in result["eigenvalues"]} >= {"cpu"}
    assert result["entropies"][0]["largest"] == 0
    assert section(result) in done.stdout
    assert "recipe as published" in section(result)


def test_a_command_without_data_is_refused() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / "gpu.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--data" in done.stderr


def test_the_large_models_have_their_published_sizes() -> None:
    for name, parameters in (("7B", 6.74e9), ("8B, grouped heads", 8.03e9)):
        model = random_model(SHAPES[name], torch.device("meta"), torch.bfloat16)
        assert sum(part.numel() for part in model.parameters()) == pytest.approx(parameters, rel=0.005)
        assert model.dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


def test_a_moved_entropy_is_seen() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 1000}
    one, other = (Scorer(random_model(shape, torch.device("cpu"), dtype), object()) for dtype in (torch.float32, torch.bfloat16))  # pyright: ignore
    exact, rounded = compared("m", {"same": one, "rounded": other}, one, random_rows(8, 5, 12))
    assert exact["largest"] == 0
    assert 0 < rounded["median"] <= rounded["largest"] < 0.1


def test_an_idle_device_is_not_busy() -> None:
    a = torch.randn(400, 400)
    assert busy_share(lambda: [a @ a for _ in range(50)], torch.device("cpu")) > 3 * busy_share(
        lambda: time.sleep(0.2), torch.device("cpu")
    )


def test_token_ids_fit_the_vocabulary_and_unsupervised_labels_stay() -> None:
    (row,) = within([Encoded(0, [5, 1007], [-100, 1007])], 1000)
    assert (row.input_ids, row.labels) == ([5, 7], [-100, 7])
