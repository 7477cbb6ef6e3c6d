"""The parameter whose gradient is scored, and what it gives for each row.

A target is a weight [out, in] of a linear layer ``y = W x``. The gradient of a row's summed loss with respect to it is
``delta^T hidden``, with `delta` [T, out] the gradients of the token losses at the layer's output and `hidden` [T, in] the
layer's input at the same tokens. The spectrum of this product needs neither the product nor a whole `delta`: see `spectrum`.

The output projection is the only target so far (`targets/head.py`). Another one is a module here and a line in `pick_target`.
"""

from __future__ import annotations

from gradsentry.errors import ModelError
from gradsentry.model.targets.factors import Gradients, Target
from gradsentry.model.targets.head import Head

__all__ = ["Gradients", "Head", "Target", "pick_target"]


def pick_target(head: Head, name: str | None) -> Target:
    """The target that a parameter's name selects.

    Args:
        head: the model's output projection.
        name: as `named_parameters` has it; in a LoRA wrapper also as the wrapped model has it. All names of a tied weight
            count. None selects the head.

    Raises:
        ModelError: another parameter, or a name that the model does not have.
    """
    parameters = list(head.model.named_parameters(remove_duplicate=False))
    names = [found for found, parameter in parameters if parameter is head.module.weight]
    names += [found.removeprefix("base_model.model.").replace(".base_layer.", ".") for found in names]
    if name is None or name in names:
        return head
    right = names[-1] if names else "the output projection's weight"  # of tied names the embedding's comes first
    if name in dict(parameters):
        why = f"gradsentry scores the gradient of {right}; that of another parameter needs a backward pass and is not supported"
    else:
        why = f"the model has no such parameter; the one whose gradient is scored is {right}"
    raise ModelError(f"--target {name}: {why}")
