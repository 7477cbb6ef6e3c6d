"""Loading from directories that are right, wrong, broken or hostile; all of them tiny."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLNetConfig,
    XLNetLMHeadModel,
)

from elsewhere import Elsewhere
from gradsentry.errors import ModelError
from gradsentry.model import embedded
from gradsentry.model.load import KERNEL_CACHES, load_model, pick_device, pick_dtype, weights_stamp
from tiny import tiny_llama


def load(path: Path | str, **options: Any) -> Any:
    return load_model(path, **({"device": "cpu", "dtype": "float32"} | options))


@pytest.fixture
def changed(tmp_path: Path, model_dir: Path) -> Callable[[dict[str, bytes | None]], Path]:
    """A copy of the model directory with these files replaced, or deleted where None."""

    def changed(files: dict[str, bytes | None]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(model_dir, folder)
        for name, content in files.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content)
        return folder

    return changed


def test_a_directory_loads_frozen_in_eval_mode_with_the_weights_that_were_saved(model_dir: Path, llama: PreTrainedModel) -> None:
    loaded = load(str(model_dir))
    assert loaded.name == str(model_dir)
    assert (loaded.revision, loaded.dtype, loaded.max_length) == ("", "float32", 256)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    for name, value in llama.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], value, rtol=0, atol=0)
    assert loaded.tokenizer.chat_template
    assert loaded.tokenizer("Paris")["input_ids"]


def test_a_path_and_its_text_load_the_same(model_dir: Path) -> None:
    assert load(model_dir).stamp == load(str(model_dir)).stamp


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_requested_dtype_is_loaded(model_dir: Path, dtype: str) -> None:
    loaded = load(model_dir, dtype=dtype)
    assert loaded.dtype == dtype
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_a_model_with_tied_weights_is_complete(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = LlamaConfig(
        vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=True
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load(tmp_path).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_without_a_name_the_embedded_model_is_loaded(monkeypatch: pytest.MonkeyPatch, model_dir: Path) -> None:
    monkeypatch.setattr(embedded, "locate", lambda: str(model_dir))
    assert load_model(device="cpu", dtype="float32").name == embedded.NAME


def test_importing_gradsentry_leaves_the_environment_alone_and_loading_a_model_bounds_torchs_kernel_caches(model_dir: Path) -> None:
    program = f"""
import os
before = dict(os.environ)
import gradsentry, gradsentry.config, gradsentry.api, gradsentry.scorer
assert dict(os.environ) == before, set(os.environ) - set(before)
os.environ["LRU_CACHE_CAPACITY"] = "7"
from gradsentry.model.load import KERNEL_CACHES, load_model
load_model({str(model_dir)!r}, device="cpu")
print([os.environ[name] for name in KERNEL_CACHES])
"""
    bare = {name: value for name, value in os.environ.items() if name not in KERNEL_CACHES}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=bare)
    assert result.stdout == "['64', '7']\n", result.stderr


# What is not a model


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such model directory: .*absent; give a directory, a \.gguf file or a Hub id"):
        load(tmp_path / "absent")


@pytest.mark.parametrize("name", ["./absent", "../absent", "~/absent-model"])
def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="no such model directory"):
        load(name)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model directory: it has no config\.json"):
        load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="is not a model directory"):
        load(tmp_path / "file")


def test_a_directory_without_weights_is_refused(changed: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"has no weights: no \.safetensors file"):
        load(changed({"model.safetensors": None}))


def test_a_missing_gguf_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such model: .*absent\.gguf"):
        load(tmp_path / "absent.gguf")


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_weights_that_are_only_pickles_are_refused_unread_and_the_flag_named(changed: Callable[..., Path], tmp_path: Path) -> None:
    folder = changed({"model.safetensors": None})
    torch.save({"bomb": Bomb(tmp_path / "exploded")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as .bin files, which are pickles .* --allow-pickle"):
        load(folder)
    assert not (tmp_path / "exploded").exists()


def test_pickled_weights_load_when_they_are_allowed(changed: Callable[..., Path], llama: PreTrainedModel) -> None:
    folder = changed({"model.safetensors": None})
    torch.save(llama.state_dict(), folder / "pytorch_model.bin")
    assert weights_stamp(load(folder, allow_pickle=True).model) == weights_stamp(llama)


def test_a_hub_id_that_cannot_be_reached_is_named_in_the_error() -> None:
    with pytest.raises(ModelError, match=r"cannot load the model 'nobody/no-such-model': .*check the id and the network"):
        load("nobody/no-such-model")


def test_code_that_a_model_brings_is_not_run_and_the_flag_named(changed: Callable[..., Path], tmp_path: Path) -> None:
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"}}
    folder = changed(
        {
            "config.json": json.dumps(own).encode(),
            "own.py": f"open({str(tmp_path / 'exploded')!r}, 'w')\n".encode(),
            "tokenizer_config.json": json.dumps({"auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}).encode(),
        }
    )
    with pytest.raises(ModelError, match="--trust-remote-code"):
        load(folder)
    assert not (tmp_path / "exploded").exists()


BROKEN: dict[str, dict[str, bytes | None]] = {
    "config is no JSON": {"config.json": b"{"},
    "config is a list": {"config.json": b"[]"},
    "config of an unknown kind": {"config.json": b'{"model_type": "nothing-known"}'},
    "config with a text for a number": {"config.json": b'{"model_type": "llama", "hidden_size": "wide"}'},
    "weights are empty": {"model.safetensors": b""},
    "weights are noise": {"model.safetensors": b"\xff" * 100},
    "tokenizer is no JSON": {"tokenizer.json": b"{"},
    "tokenizer is another JSON": {"tokenizer.json": b'{"added_tokens": [], "model": {"type": "None"}}'},
    "no tokenizer": {"tokenizer.json": None, "tokenizer_config.json": None, "chat_template.jinja": None},
}


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_directory_is_one_error_with_its_name(changed: Callable[..., Path], files: dict[str, bytes | None]) -> None:
    folder = changed(files)
    with pytest.raises(ModelError, match="cannot load the model") as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "neither a local directory" not in str(caught.value)


def test_truncated_weights_are_refused(changed: Callable[..., Path], model_dir: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the model"):
        load(changed({"model.safetensors": (model_dir / "model.safetensors").read_bytes()[:-100]}))


def test_layers_that_no_file_has_are_not_made_up(changed: Callable[..., Path], model_dir: Path) -> None:
    config = json.loads((model_dir / "config.json").read_text())
    folder = changed({"config.json": json.dumps(config | {"num_hidden_layers": 3}).encode()})
    with pytest.raises(ModelError, match=r"its files are not complete; the weights lack model\.layers\.2\."):
        load(folder)


def test_a_model_saved_without_its_head_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_llama().model.save_pretrained(tmp_path)  # pyright: ignore
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"it has no output projection; the weights lack lm_head\.weight"):
        load(tmp_path)


def tiny_bert(kind: type[PreTrainedModel]) -> PreTrainedModel:
    return kind(BertConfig(vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))


def test_an_encoder_is_refused_because_it_has_no_output_projection(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_bert(BertModel).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no output projection"):
        load(tmp_path)


def test_a_masked_language_model_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_bert(BertForMaskedLM).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a masked language model"):
        load(tmp_path)


def tiny_xlnet() -> PreTrainedModel:
    torch.manual_seed(0)
    return XLNetLMHeadModel(XLNetConfig(vocab_size=400, d_model=32, n_layer=2, n_head=4, d_inner=64))


@pytest.mark.parametrize("made", [lambda: tiny_bert(BertForPreTraining), tiny_xlnet], ids=["bert", "xlnet"])
@pytest.mark.parametrize("device_map", [None, {"": "cpu"}])
def test_a_model_that_sees_later_tokens_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, made: Callable[[], PreTrainedModel], device_map: Any
) -> None:
    torch.manual_seed(0)
    made().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="sees the tokens that it should predict; give a causal one"):
        load(tmp_path, device_map=device_map)


# Devices and types


@pytest.mark.parametrize("where", ["to", "from_pretrained"])
def test_a_model_that_does_not_fit_is_refused_with_advice(model_dir: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def full(*_args: Any, **_options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 MiB.\nMore")

    monkeypatch.setattr(LlamaForCausalLM, where, full)
    words = r"tiny does not fit into the memory of cpu in float32: CUDA out of .* MiB\.; .*--dtype.*--device.*--gpus-per-worker.*smaller"
    with pytest.raises(ModelError, match=words):
        load(model_dir)


def test_another_error_on_the_way_to_the_device_is_no_lack_of_memory(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: Any, **_options: Any) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(LlamaForCausalLM, "to", broken)
    with pytest.raises(RuntimeError, match="unspecified"):
        load(model_dir)


def test_a_model_that_was_put_off_its_devices_in_part_is_refused(model_dir: Path) -> None:
    layers = {"model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "disk"}
    rest = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    words = r"does not fit onto 1 device: 0\.\d\d MiB of its weights \(model\.layers\.1\..* \.\.\.\) were left off; .*--gpus-per-worker"
    with pytest.raises(ModelError, match=words):
        load(model_dir, device_map=layers | rest)


def test_a_bad_dtype_is_refused_with_the_valid_ones(model_dir: Path) -> None:
    with pytest.raises(ModelError, match="--dtype fp8: it can be auto, float32, bfloat16, float16"):
        load(model_dir, dtype="fp8")


@pytest.mark.parametrize("device", ["banana", "", "cuda:99"])
def test_a_bad_device_is_refused(model_dir: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"--device {device}: "):
        load(model_dir, device=device)


def test_automatic_choices_are_ones_that_work() -> None:
    device = pick_device("auto")
    assert torch.ones(2, device=device, dtype=pick_dtype("auto", device)).sum().item() == 2
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_dtype("float16", torch.device("cpu")) is torch.float16


@pytest.mark.parametrize(
    ("capabilities", "dtype"), [({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": False}, torch.float32)]
)
def test_bfloat16_is_automatic_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_dtype("auto", torch.device("cpu")) is dtype


# Stamps


def test_a_device_map_places_the_model_and_scores_the_same(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, mapped = load(model_dir), load(model_dir, device_map={"": "cpu"})
    assert mapped.stamp == whole.stamp
    ids = torch.arange(8)[None]
    torch.testing.assert_close(mapped.model(ids).logits, whole.model(ids).logits, rtol=0, atol=0)
    monkeypatch.setattr("gradsentry.model.load.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install accelerate"):
        load(model_dir, device_map="auto")


def test_the_stamp_survives_saving_and_loading(model_dir: Path, llama: PreTrainedModel) -> None:
    assert weights_stamp(load(model_dir).model) == weights_stamp(llama) == weights_stamp(tiny_llama())
    assert load(model_dir).stamp == load(model_dir).stamp


def test_the_stamp_changes_with_the_first_values_of_any_weight() -> None:
    model = tiny_llama()
    stamps = [weights_stamp(model)]
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.view(-1)[0] += 0.5
        stamps.append(weights_stamp(model))
    assert len(set(stamps)) == len(stamps) > 10


def test_the_stamp_is_made_on_the_cpu() -> None:
    class OnMps:
        def named_parameters(self) -> list[tuple[str, torch.Tensor]]:
            return [(name, Elsewhere.of(parameter)) for name, parameter in tiny_llama().named_parameters()]

    assert weights_stamp(OnMps()) == weights_stamp(tiny_llama())  # pyright: ignore[reportArgumentType]


def test_shapes_with_equal_first_values_have_different_stamps() -> None:
    stamps = set()
    for vocabulary in (400, 401):
        model = tiny_llama(vocabulary)
        for parameter in model.parameters():
            torch.nn.init.ones_(parameter)
        stamps.add(weights_stamp(model))
    assert len(stamps) == 2
