"""The text of every token of a tokenizer, as bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from gradsentry.types import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\ufffd"
"""What a tokenizer decodes a part of a character to."""


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's largest id + 1. Its `len` is less where ids have gaps."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def read_vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The text of each token in the middle of a text, and the special tokens; an id without a token (a gap) has an empty text.

    Each token is decoded after another one, because tokenizers of the SentencePiece kind strip a space from the beginning of a text.
    """
    before = tokenizer(["a"], add_special_tokens=False, verbose=False)["input_ids"][0][-1:]  # pyright: ignore
    length = len(tokenizer.decode(before, clean_up_tokenization_spaces=False))
    ids = sorted(set(tokenizer.get_vocab().values()))
    decoded = tokenizer.batch_decode([[*before, i] for i in ids], clean_up_tokenization_spaces=False)  # pyright: ignore
    texts = {i: text[length:] for i, text in zip(ids, decoded, strict=True)}
    pieces = [texts.get(i, "").encode("utf-8", "replace") for i in range(vocabulary_size(tokenizer))]
    broken = [i for i, text in texts.items() if REPLACEMENT in text]
    for i, token in zip(broken, tokenizer.convert_ids_to_tokens(broken), strict=True):
        pieces[i] = _raw_bytes(token, pieces[i])
    special = np.zeros(len(pieces), dtype=bool)
    special[[i for i in tokenizer.all_special_ids if i < len(pieces)]] = True
    return Vocabulary(pieces, special)


def _raw_bytes(token: str, decoded: bytes) -> bytes:
    """The bytes of a token that is a part of a character.

    Tokenizers write such a token as ``<0xE4>`` (SentencePiece's byte fallback) or with one letter a byte (byte-level BPE, as GPT-2's).
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if fallback := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
        return bytes.fromhex(fallback[1])
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return bytes(letters[letter] for letter in token) if letters.keys() >= set(token) else decoded
