"""Special tokens that a row's text spells out, apart from those of template, BOS and EOS."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from gradsentry.tokens.encode import encode_fitted
from gradsentry.tokens.special_tokens import spelled_special_tokens
from gradsentry.types import ChatSample, LossOn, Sample, TextSample, TokenSample

END, BOS = "<|end|>", "<|bos|>"
parts = st.lists(st.sampled_from(["word", " and", END, BOS, ".", "\n"]), min_size=1, max_size=6).map("".join)


def chat(*texts: str) -> ChatSample:
    turns = tuple({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts))
    return ChatSample(turns[:-1], turns[-1:])


def spelled(
    sample: Sample, tokenizer: PreTrainedTokenizerFast, max_length: int = 1000, loss_on: LossOn = "completion"
) -> list[tuple[str, int]]:
    """The special tokens that a row spells out, each with the number of equal tokens before it that it does not spell out."""
    (found,) = encode_fitted([sample], tokenizer, loss_on, max_length)
    assert isinstance(found, tuple), found
    ids = found[0][0]
    places = spelled_special_tokens(sample, ids, tokenizer)
    return [(str(tokenizer.convert_ids_to_tokens(ids[at])), sum(ids[i] == ids[at] for i in range(at) if i not in places)) for at in places]


def test_a_text_spells_out_its_tokens_and_not_the_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    assert spelled(TextSample("a b", "c"), tokenizer) == []
    assert spelled(TextSample(f"a {END} b", f"c{END}"), tokenizer) == [(END, 0), (END, 0)]
    assert spelled(TextSample(f"{BOS}a", "c"), tokenizer) == [(BOS, 0)]
    assert spelled(TokenSample((0, 1, 2), (0, 1, 2)), tokenizer) == []


def test_a_conversation_does_not_spell_out_the_tokens_of_its_template(tokenizer: PreTrainedTokenizerFast) -> None:
    assert spelled(chat("a", "b", "c", "d"), tokenizer) == []
    assert spelled(chat("a", "b", f"c{END}", "d"), tokenizer) == [(END, 2)]
    assert spelled(chat(f"{END}a", "b", f"c {BOS} {END} e", f"d{END}"), tokenizer) == [(END, 0), (BOS, 0), (END, 2), (END, 3)]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(parts, min_size=2, max_size=5).filter(lambda texts: len(texts) % 2 == 0))
def test_every_token_that_a_conversation_spells_out_is_found(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> None:
    found = [token for token, _ in spelled(chat(*texts), tokenizer)]
    assert found == [token for text in texts for token in (END if piece == "E" else BOS for piece in _order(text))]


def _order(text: str) -> str:
    return "".join(c for c in text.replace(END, "E").replace(BOS, "B") if c in "EB")


@pytest.mark.parametrize("max_length", range(6, 30))
def test_positions_in_a_cut_row_count_from_its_new_start(tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
    sample = chat(f"one two {END} three {BOS} four", f"five {END} six seven")
    (whole,), (cut,) = (encode_fitted([sample], tokenizer, "completion", length) for length in (1000, max_length))
    assert isinstance(whole, tuple)
    assert isinstance(cut, tuple)
    ids, left = whole[0][0], cut[0][0]
    start = next(i for i in range(len(ids)) if ids[i : i + len(left)] == left)
    places = spelled_special_tokens(sample, ids, tokenizer)
    assert len(places) == 3
    assert spelled_special_tokens(sample, left, tokenizer) == tuple(at - start for at in places if start <= at < start + len(left))


def test_without_a_template_the_plain_text_counts(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token=END, bos_token=BOS)
    sample = ChatSample(
        ({"role": "user", "content": f"a{END}"},), ({"role": "assistant", "content": "b"},), plain=TextSample(f"a{END}", "b")
    )
    assert spelled(sample, bare) == [(END, 0)]


def test_where_a_template_changes_the_turns_all_special_tokens_are_reported(tokenizer: PreTrainedTokenizerFast) -> None:
    odd = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token=END, bos_token=BOS)
    odd.chat_template = "{% for m in messages %}{{ m['content'].split('<|end|>')[-1] }}<|end|>{% endfor %}"
    assert spelled(chat(f"a{END}{BOS}b", "c"), odd, loss_on="all") == [(BOS, 0), (END, 0), (END, 0)]
