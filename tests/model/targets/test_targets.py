"""Which target a parameter's name selects."""

from __future__ import annotations

import re

import pytest

from gradsentry.errors import ModelError
from gradsentry.model.targets import Head, pick_target
from tiny import made

HEADS = {
    "llama": ["lm_head.weight"],
    "qwen2-tied": ["lm_head.weight", "model.embed_tokens.weight"],
    "gpt2": ["lm_head.weight", "transformer.wte.weight"],
}


@pytest.mark.parametrize("name", HEADS)
def test_the_target_is_the_output_projections_weight_under_all_its_names(name: str) -> None:
    model = made(name)
    head = Head(model, "none")
    assert pick_target(head, None) is head
    for parameter, _ in model.named_parameters(remove_duplicate=False):
        if parameter in HEADS[name]:
            assert pick_target(head, parameter) is head
        else:
            words = f"--target {re.escape(parameter)}: gradsentry scores the gradient of lm_head.weight; .* backward pass"
            with pytest.raises(ModelError, match=words):
                pick_target(head, parameter)


def test_a_target_that_the_model_does_not_have_is_refused_with_the_right_name() -> None:
    with pytest.raises(ModelError, match=r"--target lm_head: the model has no such parameter; .* lm_head.weight"):
        pick_target(Head(made("llama"), "none"), "lm_head")


@pytest.mark.parametrize("modules", [["lm_head"], ["q_proj"]])
def test_in_a_lora_wrapper_the_target_keeps_its_name(modules: list[str]) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(made("llama"), LoraConfig(target_modules=modules))
    head = Head(model, "none")
    assert pick_target(head, "lm_head.weight") is head
    whole = "base_model.model.lm_head.base_layer.weight" if "lm_head" in modules else "base_model.model.lm_head.weight"
    assert pick_target(head, whole) is head
    for wrong in ("base_model.model.model.embed_tokens.weight", f"{whole.rpartition('.')[0]}.lora_A.default.weight"):
        with pytest.raises(ModelError, match="--target"):
            pick_target(head, wrong)
