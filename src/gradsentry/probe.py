"""From a model and a batch to the two factors of every row's gradient: one forward pass, no backward pass.

The output projection ("head") is found with `get_output_embeddings`. Hooks on it keep only the supervised positions,
so logits exist nowhere else, and make the head's output a leaf: the gradient of the loss at that leaf is delta, whatever
the model does to the logits afterwards (scaling, soft-capping). Where it does nothing, delta is softmax - onehot.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradsentry.errors import ModelError


@dataclass(frozen=True)
class Factors:
    """The gradients of a batch's rows, factored; the rows' supervised tokens stand one after the other."""

    delta: Tensor
    """[N, V'] float32 or wider, N = sum of T over the rows, V' columns kept by the crop."""
    hidden: Tensor
    """[N, d'] the head's input at the same positions, in the model's dtype."""
    losses: Tensor
    """[N] negative log-likelihood of each supervised token, in nats."""
    lengths: list[int]
    """T of each row; rows without supervised tokens have 0."""


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


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode (no dropout) and no parameter that asks for a gradient, so that no graph is kept; restored after."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad():  # only the leaf behind the head needs it
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode


class _HeadTap:
    """Hooks of one forward pass: select supervised positions before the head, cut the graph after it."""

    def __init__(self, predicts: Tensor) -> None:
        self.predicts = predicts
        """[B, S] bool: positions whose next token is supervised."""
        self.hidden: Tensor | None = None
        self.leaf: Tensor | None = None

    def before(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = args[0]
        hidden = states[self.predicts[:, -states.shape[1] :]].detach()
        self.hidden = hidden
        return (hidden.unsqueeze(0), *args[1:])

    def after(self, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        # At least float32 from here on: softmax, soft-cap and delta are not to be rounded to the model's bfloat16.
        wide = output.detach() if output.dtype == torch.float64 else output.detach().float()
        self.leaf = wide.requires_grad_(True)
        return self.leaf


def _positions(attention_mask: Tensor) -> Tensor:
    """[B, S] position of every token within its own row, wherever the padding stands."""
    return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)


def head_factors(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    widths: tuple[int, int] | None = None,
    **forward: Any,
) -> Factors:
    """Gradient factors of every row of a batch at the output projection.

    Args:
        model: a causal language model. input_ids, attention_mask, labels: [B, S], padded on either side, labels -100
            where unsupervised; the label at position i is predicted at position i - 1.
        widths: leading columns (V', d') of delta and hidden to keep; None keeps all.
        forward: more arguments of the model's forward (a key/value cache of a shared prefix).

    Returns:
        Factors whose `delta` is the gradient of the SUMMED loss of each row: divide by T for the mean.

    Raises:
        ModelError: no output projection, or the model did not call it once on [B, S, d] states.
    """
    head = output_projection(model)
    real = attention_mask[:, -labels.shape[1] :].bool()
    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = (labels[:, 1:] != -100) & real[:, 1:] & real[:, :-1]  # padding neither predicts nor is predicted
    targets = labels[:, 1:][predicts[:, :-1]]
    if "position_ids" not in forward and "position_ids" in inspect.signature(model.forward).parameters:
        forward["position_ids"] = _positions(attention_mask)[:, -input_ids.shape[1] :]
    forward.setdefault("use_cache", False)

    tap = _HeadTap(predicts)
    hooks = [head.register_forward_pre_hook(tap.before), head.register_forward_hook(tap.after)]
    try:
        with frozen(model):
            logits = model(input_ids=input_ids, attention_mask=attention_mask, **forward).logits
            if tap.leaf is None or tap.hidden is None or logits.shape[-2] != targets.shape[0]:
                raise ModelError(f"{type(model).__name__} did not send its states through its output projection")
            delta, losses = _delta(logits.squeeze(0), tap.leaf, targets)
    finally:
        for hook in hooks:
            hook.remove()
    n_rows, n_columns = widths or (delta.shape[-1], tap.hidden.shape[-1])
    return Factors(
        delta=delta[:, :n_rows],
        hidden=tap.hidden[:, :n_columns],
        losses=losses,
        lengths=predicts.sum(-1).tolist(),
    )


def _delta(logits: Tensor, leaf: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """delta [N, V] at the leaf and the token losses [N]; `logits` is [N, V], what the model made of the leaf."""
    if logits.untyped_storage().data_ptr() == leaf.untyped_storage().data_ptr():  # plain logits: the closed form
        log_p = torch.log_softmax(leaf.detach().squeeze(0), dim=-1)
        losses = -log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        delta = log_p.exp_()
        delta[torch.arange(len(targets), device=delta.device), targets] -= 1
        return delta, losses
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return gradient.squeeze(0), losses.detach()
