"""Models in one GGUF file: written by the library's own writer, read as a directory is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gradsentry.errors import ModelError
from gradsentry.model import embedded
from gradsentry.model.load import load_model

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    **{
        f"model.layers.{layer}.{ours}": f"blk.{layer}.{theirs}"
        for layer in range(2)
        for ours, theirs in {
            **{f"self_attn.{letter}_proj": f"attn_{letter}" for letter in "qkv"},
            **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
            "self_attn.o_proj": "attn_output",
            "input_layernorm": "attn_norm",
            "post_attention_layernorm": "ffn_norm",
        }.items()
    },
}


def write_gguf(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, without: str = "") -> None:
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(400)
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    names = sorted(core["vocab"], key=core["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(names + [f"<unused{i}>" for i in range(400 - len(names))])
    writer.add_token_types([3] * 3 + [1] * 397)
    writer.add_token_merges([" ".join(pair) for pair in core["merges"]])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(0)
    for name, value in model.state_dict().items():
        if (theirs := GGUF_NAMES[name.removesuffix(".weight")]) != without:
            writer.add_tensor(f"{theirs}.weight", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_loads_with_its_tokenizer(tmp_path: Path, llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama, tokenizer)
    loaded = load_model(tmp_path / "tiny.gguf", device="cpu", dtype="float32")
    assert loaded.name == str(tmp_path / "tiny.gguf")
    assert loaded.tokenizer("Paris")["input_ids"] == tokenizer("Paris")["input_ids"]
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        torch.testing.assert_close(loaded.model.state_dict()[name], llama.state_dict()[name], rtol=0, atol=0)


def test_a_gguf_file_that_lacks_a_weight_is_refused(tmp_path: Path, llama: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama, tokenizer, without="blk.1.attn_q")
    with pytest.raises(ModelError, match=r"the weights lack model\.layers\.1\.self_attn\.q_proj\.weight"):
        load_model(tmp_path / "tiny.gguf", device="cpu", dtype="float32")


def test_a_file_that_is_only_named_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.gguf").write_bytes(b"GGUF" + b"\xff" * 200)
    with pytest.raises(ModelError, match=r"cannot load the model .*noise\.gguf"):
        load_model(tmp_path / "noise.gguf", device="cpu", dtype="float32")


def test_loading_and_converting_a_gguf_file_shows_no_bar(
    tmp_path: Path,
    llama: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama, tokenizer)
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "gguf_file", lambda: tmp_path / "tiny.gguf")
    with caplog.at_level(logging.INFO, "gradsentry"):
        loaded = load_model(device="cpu", dtype="bfloat16")
    torch.testing.assert_close(loaded.model.state_dict()["lm_head.weight"], llama.state_dict()["lm_head.weight"].bfloat16())
    load_model(tmp_path / "tiny.gguf", device="cpu", dtype="float32")
    assert not [text for text in capsys.readouterr() if "%|" in text or "it/s" in text]
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["unpacking the embedded model once"]
    list(tqdm([1], desc="bars of others are back"))
    assert "bars of others are back" in capsys.readouterr().err
