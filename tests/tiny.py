"""Tiny random-weight models that tests make from a config."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)


def tiny_llama(vocabulary: int = 400, positions: int = 256) -> PreTrainedModel:
    """A random Llama of two layers, always the same."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=2,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


VOCABULARY = 400
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 0, "pad_token_id": 0}


def gpt2() -> PreTrainedModel:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=2, eos_token_id=0, **sizes))  # pyright: ignore


def tied_qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=VOCABULARY, tie_word_embeddings=True, **SMALL, **SPECIAL))  # pyright: ignore


def softcapped_gemma2() -> PreTrainedModel:
    # A cap of 0.3 on logits of spread 0.5 bends them a lot: the closed form for plain logits would be far off.
    config = Gemma2Config(vocab_size=VOCABULARY, head_dim=8, final_logit_softcapping=0.3, sliding_window=8, **SMALL, **SPECIAL)  # pyright: ignore
    return Gemma2ForCausalLM(config)


def windowed_mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(vocab_size=VOCABULARY, sliding_window=8, **SMALL, **SPECIAL))  # pyright: ignore


def scaled_cohere() -> PreTrainedModel:
    return CohereForCausalLM(CohereConfig(vocab_size=VOCABULARY, logit_scale=3.0, **SMALL, **SPECIAL))  # pyright: ignore


def divided_granite() -> PreTrainedModel:
    return GraniteForCausalLM(GraniteConfig(vocab_size=VOCABULARY, logits_scaling=0.3, **SMALL, **SPECIAL))  # pyright: ignore


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": tiny_llama,
    "gpt2": gpt2,
    "qwen2-tied": tied_qwen2,
    "gemma2-softcapped": softcapped_gemma2,
    "cohere-scaled": scaled_cohere,
    "granite-scaled": divided_granite,
    "mistral-windowed": windowed_mistral,
}


def made(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    torch.manual_seed(0)
    return MODELS[name]().to(dtype).eval()  # pyright: ignore
