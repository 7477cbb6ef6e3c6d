"""What tests share: no network, and tiny random-weight models made from a config."""

from __future__ import annotations

import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from answered import ROWS
from forked import use_forks
from tiny import tiny_llama
from typed import gradsentry, rows_as_lines

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens with a ChatML-like template; adds no BOS."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    core.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    special = ["<|end|>", "<|start|>", "<|bos|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    text = ["What is the capital of France? Paris.", "Name the noble gases: helium; neon; argon.", "The answer is a short phrase."]
    core.train_from_iterator(text * 5, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", bos_token="<|bos|>", pad_token="<|end|>")
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    return tiny_llama()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast, llama: PreTrainedModel) -> Path:
    """The tiny Llama and its tokenizer as a local model directory."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def scanned(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished run of 40 rows, in which nothing is flagged."""
    folder = tmp_path_factory.mktemp("scanned")
    (folder / "data.jsonl").write_text(rows_as_lines())
    assert gradsentry("scan", "data.jsonl", "--model", model_dir, "--out", "run", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    """A file of `ROWS`, one broken, one without an answer, one that is spaced in its own way."""
    path = tmp_path / "data.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    lines[5] = '{"prompt": "broken", '
    lines[7] = json.dumps({"prompt": "empty", "completion": ""})
    lines[9] = '{"id":9,  "completion" : " spaced",   "prompt":"kept byte for byte \\u00e9"}'
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that start at once."""
    use_forks(monkeypatch)
