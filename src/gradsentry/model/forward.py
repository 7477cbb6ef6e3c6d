"""From a model and a batch to what enters its output projection ("head"): one forward pass, no backward pass.

The head is found with `get_output_embeddings`. A hook in front of it takes the states and lets none of them through, so
that logits are made nowhere but in `head.py`, a block at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradsentry.errors import ModelError

HALF = (torch.bfloat16, torch.float16)


def output_projection(model: nn.Module) -> nn.Module:
    """The module whose output are the logits; with a LoRA adapter on it, the adapter's wrapper.

    Raises:
        ModelError: the model has none (an encoder, a classifier).
    """
    getter = getattr(model, "get_output_embeddings", None)
    head = getter() if getter is not None else None
    if not isinstance(head, nn.Module):
        raise ModelError(
            f"{type(model).__name__} has no output projection (get_output_embeddings() gives {head!r}); "
            "gradsentry needs a causal language model, such as one that AutoModelForCausalLM loads"
        )
    return head


def head_width(head: nn.Module) -> tuple[int, int]:
    """(V, d) of an output projection."""
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ModelError(f"the output projection {type(head).__name__} has no [V, d] weight")
    return int(weight.shape[0]), int(weight.shape[1])


def known_ids(model: Any) -> int:
    """How many token ids the model knows: the rows of its input embeddings, or of its head if those are fewer."""
    return min(len(model.get_input_embeddings().weight), head_width(output_projection(model))[0])


def check_target(model: Any, name: str | None) -> None:
    """Refuse a parameter other than the one whose gradient is scored: the output projection's weight, by any of its names.

    Args:
        name: as `named_parameters` has it; inside a LoRA wrapper also as the model has it without. None: whatever it is.

    Raises:
        ModelError: another parameter, or none of the model's.
    """
    if name is None:
        return
    weight = output_projection(model).weight
    names = [found for found, parameter in model.named_parameters(remove_duplicate=False) if parameter is weight]
    names += [found.removeprefix("base_model.model.").replace(".base_layer.", ".") for found in names]
    if name in names:
        return
    right = names[-1] if names else "the output projection's weight"  # of tied ones the embedding's comes first
    if name in dict(model.named_parameters(remove_duplicate=False)):
        why = f"gradsentry scores the gradient of {right}; that of another parameter takes a backward pass and is no part of the method"
    else:
        why = f"the model has no such parameter; the one whose gradient is scored is {right}"
    raise ModelError(f"--target {name}: {why}")


@contextmanager
def scoring(model: Any) -> Iterator[None]:
    """The model as it scores; all is put back after. In eval mode (no dropout), no parameter asks for a gradient (no graph),
    and a model in half precision keeps what stands between its matrix products in float32.

    In plain bfloat16 the states that layer after layer adds to would be rounded each time.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    dtype = model.dtype  # a model asks its first parameter, which may be a vector
    half = dtype in HALF
    # A norm takes states and parameters of one dtype only; vectors cost nothing to widen, matrix products narrow them again.
    vectors = [(parameter, parameter.data) for parameter in model.parameters() if half and parameter.ndim == 1]
    for parameter, data in vectors:
        parameter.data = data.float()
    hook = model.get_input_embeddings().register_forward_hook(lambda _module, _args, output: output.float()) if half else None
    try:
        # Gradients are on for the leaf behind the head alone.
        with torch.enable_grad(), torch.autocast(model.device.type, dtype=dtype if half else torch.bfloat16, enabled=half):
            yield
    finally:
        if hook is not None:
            hook.remove()
        for parameter, data in vectors:
            parameter.data = data
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


def takes_positions(model: Any) -> bool:
    """Whether the model's forward pass takes explicit positions."""
    return "position_ids" in inspect.signature(model.forward).parameters


def states_before_head(model: Any, input_ids: Tensor, **forward: Any) -> Tensor:
    """What the model hands to its output projection.

    Args:
        model: a causal language model. input_ids: [B, S]. forward: more arguments of its forward pass.

    Returns:
        [B, S, d], in the dtype in which the model has them there.

    Raises:
        ModelError: the model did not send its states through its output projection, or not all of them.
    """
    taken: list[Tensor] = []

    def take(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        taken.append(args[0].detach())
        none = 0 if type(module) is nn.Linear else 1  # a wrapped or quantised head may not stand an empty input
        return (args[0][:, :none], *args[1:])

    hook = output_projection(model).register_forward_pre_hook(take)
    try:
        with scoring(model):
            model(input_ids=input_ids, use_cache=False, **forward)
    finally:
        hook.remove()
    if len(taken) != 1 or taken[0].shape[:2] != input_ids.shape:
        raise ModelError(f"{type(model).__name__} did not send its states through its output projection")
    return taken[0]


def sees_ahead(model: Any) -> float:
    """How far a token moves the states before it, as a share of their norm: 0 but for rounding in a causal model, NaN where a
    state is no number. Two rows of four tokens that differ in the last."""
    *first, last, other = (known_ids(model) * i // 7 for i in range(1, 6))
    ids = torch.tensor([[*first, last], [*first, other]], device=model.device)
    one, two = states_before_head(model, ids)[:, :-1].float()
    return float(((one - two).norm(dim=-1) / one.norm(dim=-1)).max())
