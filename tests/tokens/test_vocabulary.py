"""The vocabulary against the texts that its tokens spell."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from gradsentry.tokens.labels import IGNORED
from gradsentry.tokens.vocabulary import read_vocabulary
from gradsentry.types import TokenSample
from rendered import BOS, EOS, one, problem


@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_a_vocabulary_spells_every_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    known = read_vocabulary(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(known.pieces[i] for i in ids).decode() == text  # pyright: ignore


def test_a_vocabulary_has_the_bytes_of_sentencepieces_fallback() -> None:
    words = ["<unk>", "a", "\u2581b", *(f"<0x{byte:02X}>" for byte in range(256))]
    core = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])  # pyright: ignore
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    pieces = read_vocabulary(made).pieces
    assert pieces[1:3] == [b"a", b" b"]
    assert pieces[3:] == [bytes([byte]) for byte in range(256)]


def test_ids_may_have_gaps(tokenizer: PreTrainedTokenizerFast) -> None:
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    last = max(core["model"]["vocab"], key=core["model"]["vocab"].__getitem__)
    core["model"]["vocab"][last] = 450
    gapped = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(core)), eos_token=EOS, bos_token=BOS)
    assert len(gapped) == len(tokenizer) < 450
    known = read_vocabulary(gapped)
    assert len(known.pieces) == len(known.special) == 451
    assert known.pieces[450] == read_vocabulary(tokenizer).pieces[-1]
    assert (known.pieces[449], known.special[449]) == (b"", False)
    assert one(TokenSample((5, 450), (IGNORED, 450)), gapped) == ([5, 450], [IGNORED, 450])
    assert "token id 451 is outside the tokenizer's 451" in problem(TokenSample((5, 451), (IGNORED, 451)), gapped).reason
