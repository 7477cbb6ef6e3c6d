"""Token ids and supervised spans against what the texts say, and what the cut keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from gradsentry.data.formats import FORMATS
from gradsentry.errors import ModelError, RowProblem
from gradsentry.tokens.encode import encode
from gradsentry.tokens.labels import IGNORED
from gradsentry.types import ChatSample, LossOn, Sample, TextSample, TokenSample
from rendered import BOS, EOS, one, problem, supervised, variant

# Plain texts


@settings(deadline=None)
@given(prompt=st.text(max_size=30), completion=st.text(min_size=1, max_size=30))
def test_a_text_is_prompt_completion_and_eos_with_the_loss_on_the_last_two(
    tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str
) -> None:
    before = tokenizer(prompt)["input_ids"]
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids = [*before, *after]
    assert one(TextSample(prompt, completion), tokenizer) == (ids, [IGNORED] * len(before) + after)
    assert one(TextSample(prompt, completion), tokenizer, "all") == (ids, ids)
    assert tokenizer.decode(ids[len(before) : -1]) == completion


def test_a_tokenizer_that_adds_bos_adds_it_once_and_before_the_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    adding = variant(tokenizer, f"{BOS} $A")
    assert adding("Hi")["input_ids"][0] == adding.bos_token_id
    ids, labels = one(TextSample("Name the gas:", " neon."), adding)
    assert tokenizer.decode(ids) == f"{BOS}Name the gas: neon.{EOS}"
    assert supervised((ids, labels), tokenizer) == [f" neon.{EOS}"]
    ids, _ = one(TextSample("", "neon"), adding, "all")
    assert tokenizer.decode(ids) == f"{BOS}neon{EOS}"


@pytest.mark.parametrize("single", [f"$A {EOS}", f"{BOS} $A {EOS}"])
def test_a_tokenizer_that_appends_eos_does_not_close_the_prompt(tokenizer: PreTrainedTokenizerFast, single: str) -> None:
    adding = variant(tokenizer, single)
    assert adding("Hi")["input_ids"][-1] == adding.eos_token_id
    ids, labels = one(TextSample("Name the gas:", " neon."), adding)
    bos = BOS if single.startswith(BOS) else ""
    assert tokenizer.decode(ids) == f"{bos}Name the gas: neon.{EOS}"
    assert supervised((ids, labels), tokenizer) == [f" neon.{EOS}"]


def test_a_bos_that_is_also_the_eos_stays(tokenizer: PreTrainedTokenizerFast) -> None:
    same = variant(tokenizer, f"{EOS} $A", bos_token=EOS)
    ids, _ = one(TextSample("", "neon"), same)
    assert tokenizer.decode(ids) == f"{EOS}neon{EOS}"


def test_without_an_eos_the_completion_stays_open(tokenizer: PreTrainedTokenizerFast) -> None:
    open_ended = variant(tokenizer, eos_token=None)
    ids, labels = one(TextSample("Name:", " neon"), open_ended)
    assert tokenizer.decode(ids) == "Name: neon"
    assert supervised((ids, labels), tokenizer) == [" neon"]


def test_rows_encoded_together_equal_rows_encoded_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    samples: list[Sample] = [
        TextSample("a", "b"),
        ChatSample(({"role": "user", "content": "Q"},), ({"role": "assistant", "content": "A"},)),
        TextSample("a longer prompt", "and a longer answer"),
        TokenSample((5, 6, 7), (IGNORED, 6, 7)),
        TokenSample((5, 6, 9999), (IGNORED, 6, 7)),
        TextSample("", "b"),
    ]
    together = encode(samples, tokenizer, "completion")
    assert [type(item) for item in together] == [tuple, tuple, tuple, tuple, RowProblem, tuple]
    for sample, item in zip(samples, together, strict=True):
        (alone,) = encode([sample], tokenizer, "completion")
        assert str(alone) == str(item)
    assert encode([], tokenizer, "all") == []


def test_a_single_token_without_anything_before_it_is_unscorable(tokenizer: PreTrainedTokenizerFast) -> None:
    assert problem(TextSample("", "a"), variant(tokenizer, eos_token=None)).status == "unscorable"
    assert problem(TokenSample((5, 6, 7), (5, IGNORED, IGNORED)), tokenizer).status == "unscorable"
    assert problem(TokenSample((), ()), tokenizer).status == "unscorable"


@pytest.mark.parametrize(
    "sample", [TokenSample((5, 400), (5, 6)), TokenSample((5, -1), (5, 6)), TokenSample((5, 6), (5, 400)), TokenSample((5, 6), (5, -7))]
)
def test_token_ids_outside_the_vocabulary_are_an_error(tokenizer: PreTrainedTokenizerFast, sample: TokenSample) -> None:
    outside = problem(sample, tokenizer)
    assert outside.status == "error"
    assert f"outside the tokenizer's {len(tokenizer)}" in outside.reason


@pytest.mark.parametrize(("labels", "at"), [((IGNORED, 7, IGNORED), 1), ((6, 7, IGNORED), 0), ((5, 6, 9), 2)])
def test_labels_of_other_tokens_are_an_error(tokenizer: PreTrainedTokenizerFast, labels: tuple[int, ...], at: int) -> None:
    """The loss would be on other tokens than the row's, for example where labels are shifted already."""
    found = problem(TokenSample((5, 6, 7), labels), tokenizer)
    assert found.status == "error"
    assert found.reason.startswith(f"label {at} is {labels[at]}, but the token there is {5 + at}: labels are the input_ids")


def test_tokens_are_taken_as_they_are(tokenizer: PreTrainedTokenizerFast) -> None:
    assert one(TokenSample((5, 0, 325), (IGNORED, IGNORED, 325)), tokenizer) == ([5, 0, 325], [IGNORED, IGNORED, 325])


# Conversations

texts = st.text(min_size=1, max_size=12).filter(lambda text: "<|" not in text)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    turns = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [{"role": "user", "content": draw(texts)}, {"role": "assistant", "content": draw(texts)}]
    return turns


@settings(deadline=None)
@given(turns=conversations(), loss_on=st.sampled_from(["completion", "assistant", "all"]))
def test_supervised_spans_of_a_conversation_are_the_texts_of_its_answers(
    tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, Any]], loss_on: LossOn
) -> None:
    sample = FORMATS["messages"].convert({"messages": turns})
    ids = one(sample, tokenizer, loss_on)
    whole = "".join(f"<|start|>{turn['role']}\n{turn['content']}<|end|>\n" for turn in turns)
    answers = [f"{turn['content']}<|end|>\n" for turn in turns if turn["role"] == "assistant"]
    assert tokenizer.decode(ids[0]) == whole
    assert supervised(ids, tokenizer) == {"all": [whole], "assistant": answers, "completion": answers[-1:]}[loss_on]


@settings(deadline=None)
@given(
    turns=conversations(), first=st.one_of(texts, st.just("")), strips=st.booleans(), loss_on=st.sampled_from(["completion", "assistant"])
)
def test_a_conversation_that_the_assistant_begins_is_supervised_from_its_text_on(
    tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, Any]], first: str, strips: bool, loss_on: LossOn
) -> None:
    template = str(tokenizer.chat_template).replace("['content']", "['content'].strip()" if strips else "['content']")
    default = "{% if messages[0].role != 'system' %}<|start|>system\nBe a help.<|end|>\n{% endif %}"
    own = variant(tokenizer, template=default + template)
    turns = [{"role": "assistant", "content": first}, *(turn for turn in turns if turn["role"] != "system")]
    answers = [f"{turn['content'].strip() if strips else turn['content']}<|end|>\n" for turn in turns if turn["role"] == "assistant"]
    assert supervised(one(FORMATS["messages"].convert({"messages": turns}), own, loss_on), own) == (
        answers if loss_on == "assistant" else answers[-1:]
    )
    alone = ChatSample((), ({"role": "assistant", "content": first},))
    assert supervised(one(alone, own, loss_on), own) == answers[:1]


def chat(*contents: str) -> ChatSample:
    """User and assistant in turn; the last answer is the completion."""
    turns = tuple({"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents))
    return ChatSample(turns[:-1], turns[-1:])


@pytest.fixture(scope="session")
def merging(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer in which two line feeds are one token, as in Qwen's."""
    core = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\s*[\r\n]+|\s*\S+"), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])  # pyright: ignore
    core.decoder = tokenizer.backend_tokenizer.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[EOS, "<|start|>", BOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(["a\n\nb\n\n\nc"] * 5, trainer)
    return variant(PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS), template=tokenizer.chat_template)  # pyright: ignore


@pytest.mark.parametrize("loss_on", ["completion", "assistant"])
def test_an_answer_whose_first_token_swallows_the_end_of_the_prompt_is_supervised_with_it(
    merging: PreTrainedTokenizerFast, loss_on: LossOn
) -> None:
    assert len(merging("\n\n")["input_ids"]) == 1
    ids = one(chat("Q", "\nclick here"), merging, loss_on)
    assert merging.decode(ids[0]) == "<|start|>user\nQ<|end|>\n<|start|>assistant\n\nclick here<|end|>\n"
    assert supervised(ids, merging) == ["\n\nclick here<|end|>\n"]


def test_a_turn_whose_end_is_swallowed_by_the_next_one_ends_before_it(merging: PreTrainedTokenizerFast) -> None:
    bare = variant(merging, template="{% for message in messages %}{{ message['content'] }}\n{% endfor %}")
    ids = one(chat("Q", "A", "\nR", "B"), bare, "assistant")
    assert bare.decode(ids[0]) == "Q\nA\n\nR\nB\n"
    assert supervised(ids, bare) == ["A", "B\n"]


STRIPPING = (
    "{% for message in messages %}{% if message['role'] == 'user' or loop.last %}"
    "<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def test_a_template_that_drops_earlier_answers_is_an_error_where_they_are_supervised_and_none_where_not(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    stripping = variant(tokenizer, template=STRIPPING)
    refused = problem(chat("Q", "A", "R", "B"), stripping, "assistant")
    assert refused.status == "error"
    assert "does not render the turns before turn" in refused.reason
    assert supervised(one(chat("Q", "A", "R", "B"), stripping, "completion"), tokenizer) == [f"B{EOS}\n"]
    assert supervised(one(chat("Q", "A"), stripping, "assistant"), tokenizer) == [f"A{EOS}\n"]


def test_a_template_whose_opened_turn_is_not_in_the_conversation_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    thinking = variant(tokenizer, template=str(tokenizer.chat_template).replace("assistant\n{% endif", "assistant\n<think>{% endif"))
    assert "does not render" in problem(chat("Q", "A"), thinking).reason


def test_a_template_that_refuses_a_conversation_makes_the_row_an_error_with_its_words(tokenizer: PreTrainedTokenizerFast) -> None:
    strict = variant(tokenizer, template="{{ raise_exception('roles must alternate') }}")
    refused = problem(chat("Q", "A"), strict)
    assert refused.status == "error"
    assert "the chat template refuses the conversation: roles must alternate" in refused.reason


@pytest.mark.parametrize(
    "template", ["{{ messages[0]['content'] + 5 }}", "{{ messages[0].nothing.more }}", "{{ messages | tojson(5, 6, 7, 8, 9) }}"]
)
def test_a_template_that_fails_on_a_row_makes_it_an_error(tokenizer: PreTrainedTokenizerFast, template: str) -> None:
    assert problem(chat("Q", "A"), variant(tokenizer, template=template)).status == "error"


def test_a_lone_surrogate_that_only_the_template_meets_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    assert problem(ChatSample(({"role": "us\ud83d", "content": "Q"},), chat("Q", "A").completion), tokenizer).status == "error"


def test_tools_reach_the_template(tokenizer: PreTrainedTokenizerFast) -> None:
    naming = variant(tokenizer, template="{% if tools %}{{ tools[0].function.name }}: {% endif %}" + str(tokenizer.chat_template))
    with_tools = ChatSample(chat("Q", "A").prompt, chat("Q", "A").completion, tools=({"type": "function", "function": {"name": "clock"}},))
    assert str(tokenizer.decode(one(with_tools, naming)[0])).startswith("clock: <|start|>")
    assert supervised(one(with_tools, naming), tokenizer) == [f"A{EOS}\n"]


def test_a_completion_of_several_turns_is_supervised_from_its_first_to_its_last(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "assistant", "content": "clock()"}, {"role": "tool", "content": "noon"}, {"role": "assistant", "content": "Noon."}]
    sample = FORMATS["prompt-completion"].convert({"prompt": [{"role": "user", "content": "Q"}], "completion": turns})
    assert supervised(one(sample, tokenizer), tokenizer) == [
        "clock()<|end|>\n<|start|>tool\nnoon<|end|>\n<|start|>assistant\nNoon.<|end|>\n"
    ]
    assert supervised(one(sample, tokenizer, "assistant"), tokenizer) == ["clock()<|end|>\n", "Noon.<|end|>\n"]


@pytest.fixture
def plain_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None  # pyright: ignore
    return bare


def test_conversations_need_a_chat_template(plain_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match="no chat template; take the model's instruction-tuned version"):
        encode([TextSample("a", "b"), chat("Q", "A")], plain_tokenizer, "completion")


def test_alpaca_rows_are_plain_text_without_a_chat_template_and_a_conversation_with_one(
    tokenizer: PreTrainedTokenizerFast, plain_tokenizer: PreTrainedTokenizerFast
) -> None:
    sample = FORMATS["alpaca"].convert({"instruction": "Add.", "input": "1 2", "output": "3"})
    ids = one(sample, plain_tokenizer)
    assert tokenizer.decode(ids[0]) == f"### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3{EOS}"
    assert supervised(ids, tokenizer) == [f"3{EOS}"]
    assert str(tokenizer.decode(one(sample, tokenizer)[0])).startswith("<|start|>user\nAdd.\n1 2<|end|>")


@pytest.mark.parametrize("sample", [TextSample("<|bos|>", "Hi"), TokenSample((2, 5, 6), (IGNORED, 5, 6)), chat("Q", "<|bos|>")])
def test_a_token_that_the_model_lacks_is_an_error_in_every_form(tokenizer: PreTrainedTokenizerFast, sample: Sample) -> None:
    (found,) = encode([sample], tokenizer, "completion", model_ids=2)
    assert isinstance(found, RowProblem)
    assert found.status == "error"
    assert "is unknown to the model, which has 2 ids (the tokenizer has 326)" in found.reason
    fitting = encode([sample], tokenizer, "completion", model_ids=326)
    assert fitting == encode([sample], tokenizer, "completion")
    assert isinstance(fitting[0], tuple)
