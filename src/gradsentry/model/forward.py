"""Model and batch -> the states that enter the output projection ("head"): one forward pass, no backward pass.

`get_output_embeddings` finds the head. A hook before it takes the states and passes none of them on, so that only
`targets/head.py` computes logits, one block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from gradsentry.errors import ModelError

HALF = (torch.bfloat16, torch.float16)


def output_projection(model: nn.Module) -> nn.Module:
    """The module whose output is the logits; if it has a LoRA adapter, the adapter's wrapper.

    Raises:
        ModelError: the model has no output projection (an encoder, a classifier).
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
    """(V, d) of an output projection.

    Raises:
        ModelError: it has no [V, d] weight.
    """
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ModelError(f"the output projection {type(head).__name__} has no [V, d] weight")
    return int(weight.shape[0]), int(weight.shape[1])


def known_ids(model: Any) -> int:
    """Number of token ids that the model knows: rows of its input embeddings or of its head, whichever are fewer."""
    return min(len(model.get_input_embeddings().weight), head_width(output_projection(model))[0])


_ACTIVE: ContextVar[Any] = ContextVar("model that is in scoring mode", default=None)


@contextmanager
def scoring(model: Any) -> Iterator[None]:
    """Put a model into the state in which it scores, and restore it on exit.

    Inside, the model is in eval mode (no dropout) and its parameters require no gradient (no graph). A model in half precision
    computes its matrix products in that precision and its states in float32: bfloat16 states would be rounded at each layer's
    addition. Entering the context visits every module and parameter, so a caller with many batches enters it once around all of
    them; entering it again inside costs nothing.
    """
    if _ACTIVE.get() is model:
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    dtype = model.dtype  # before vectors are widened: a model's dtype is that of its first parameter
    half = dtype in HALF
    # A norm needs states and parameters of one dtype. Widening vectors costs nothing; autocast narrows them for matrix products.
    vectors = [(parameter, parameter.data) for parameter in model.parameters() if half and parameter.ndim == 1]
    for parameter, data in vectors:
        parameter.data = data.float()
    hook = model.get_input_embeddings().register_forward_hook(lambda _module, _args, output: output.float()) if half else None
    active = _ACTIVE.set(model)
    try:
        # Gradients are enabled for the leaf behind the head only.
        with torch.enable_grad(), torch.autocast(model.device.type, dtype=dtype if half else torch.bfloat16, enabled=half):
            yield
    finally:
        _ACTIVE.reset(active)
        if hook is not None:
            hook.remove()
        for parameter, data in vectors:
            parameter.data = data
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


def states_before_head(model: Any, input_ids: Tensor, **forward: Any) -> Tensor:
    """The states that enter the model's output projection.

    Args:
        model: a causal language model. input_ids: [B, S]. forward: further arguments of its forward pass.

    Returns:
        [B, S, d], in the dtype in which they enter the projection.

    Raises:
        ModelError: the model did not send all of its states through its output projection.
    """
    taken: list[Tensor] = []

    def take(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        taken.append(args[0].detach())
        n_passed = 0 if type(module) is nn.Linear else 1  # a wrapped or quantised head may fail on an empty input
        return (args[0][:, :n_passed], *args[1:])

    hook = output_projection(model).register_forward_pre_hook(take)
    try:
        with scoring(model):
            model(input_ids=input_ids, use_cache=False, **forward)
    finally:
        hook.remove()
    if len(taken) != 1 or taken[0].shape[:2] != input_ids.shape:
        raise ModelError(f"{type(model).__name__} did not send its states through its output projection")
    return taken[0]
