"""The published recipe, written plainly from its description (arXiv 2605.26574, section 4): what gradsentry is timed against.

One row at a time, the dense gradient of the loss with respect to the output projection by autograd, the reference crop,
a randomised SVD of rank 16, the entropy. `frozen` freezes everything but the head, which spares the backward pass through
the network; as published, tied embeddings let it run through all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gradsentry import spectrum


@contextmanager
def prepared(model: nn.Module, frozen: bool) -> Iterator[nn.Parameter]:
    """The model with gradients on for what the recipe trains, and the head's weight; restored after."""
    head = model.get_output_embeddings()
    tied = head.weight
    if frozen:
        model.requires_grad_(False)
        head.weight = nn.Parameter(tied.detach().clone())  # untied, so that only the head's use of it has a gradient
    else:
        model.requires_grad_(True)
    try:
        yield head.weight
    finally:
        head.weight = tied
        model.requires_grad_(False)


def published_entropy(model: nn.Module, weight: nn.Parameter, input_ids: torch.Tensor, labels: torch.Tensor) -> float:
    """Spectral entropy of one row, input_ids and labels [1, S]."""
    loss = model(input_ids=input_ids, labels=labels).loss
    (gradient,) = torch.autograd.grad(loss, weight)
    rows, columns = spectrum.crop_widths(*gradient.shape, "reference")
    _, values, _ = torch.svd_lowrank(gradient[:rows, :columns].float(), q=spectrum.RANK)
    return float(spectrum.entropy(values))
