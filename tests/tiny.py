"""Tiny random-weight models that tests make from a config."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel


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
