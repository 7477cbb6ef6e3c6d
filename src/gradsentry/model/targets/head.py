"""From the states before the output projection to losses and Gram matrices, in blocks of a stated size.

Letters: N supervised tokens of several rows one after the other, T of one row, V vocabulary, d hidden width, V' and d'
what the crop keeps of them.

With plain logits the gradient of a token's loss at the head's output is ``delta = softmax(logits) - onehot(label)``. A
model may do more to them (scaling, soft-capping, both element by element): its own code is then run on the block, and
delta is the vector-Jacobian product through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gradsentry import spectrum
from gradsentry.model.forward import head_width, output_projection, scoring

BLOCK = 32 * 2**20
"""Bytes of a float32 block of logits; also what a row's delta may take before it is made in pieces. Larger blocks are slower
on a CPU (they leave its cache, and the C library returns them to the system each time)."""


SLICE = 32
"""Tokens whose logits are raised to float32 and put through the softmax at a time: they stay in a CPU's cache."""


@dataclass(frozen=True)
class RowGradient:
    """One row's gradient at the head, as far as its spectrum and its loss need it."""

    grams: spectrum.Grams
    """[n, n] with n = min(T, d'), of the gradient of the SUMMED loss."""
    losses: Tensor
    """[T] float32, negative log-likelihood of each supervised token in nats."""


class Head:
    """A model's output projection, evaluated block by block.

    Args:
        model: a causal language model. crop: see `spectrum.crop_widths`. block: bytes of a block.
    """

    def __init__(self, model: Any, crop: str, block: int = BLOCK) -> None:
        self.model = model
        self.module = output_projection(model)
        self.vocabulary, self.width = head_width(self.module)
        weight = self.module.weight
        assert isinstance(weight, Tensor)  # or it has no width
        self.device = weight.device
        """Where the head is: of a model over several devices, not where its states come from."""
        self.rows, self.columns = spectrum.crop_widths(self.vocabulary, self.width, crop)
        self.block = block
        self.per_block = max(1, block // (4 * self.vocabulary))
        """Tokens whose whole logits fit into a block."""

    @cached_property
    def plain(self) -> bool:
        """Whether the model returns the head's output as it is."""
        output = torch.linspace(-1e4, 1e4, self.vocabulary, device=self.device)[None, None]
        return torch.equal(self._through_model(output), output)

    def gradients(self, states: Sequence[Tensor], targets: Sequence[Tensor]) -> list[RowGradient]:
        """The gradient of each row, in order.

        Args:
            states: for each row [T, d], what enters the head where a supervised token is predicted. targets: [T] those tokens.
        """
        found: list[RowGradient] = []
        states, targets = ([part.to(self.device) for part in parts] for parts in (states, targets))
        with scoring(self.model):
            while len(found) < len(states):
                first = last = len(found)
                tokens = 0
                while last < len(states) and (last == first or tokens + len(targets[last]) <= self.per_block):
                    tokens += len(targets[last])
                    last += 1
                found += self._some(states[first:last], targets[first:last])
        return found

    def losses(self, states: Tensor, targets: Tensor) -> Tensor:
        """[N] float32 negative log-likelihoods in nats, where no gradient is wanted.

        Args:
            states: [N, d], what enters the head where each token is predicted. targets: [N] those tokens.
        """
        step = SLICE if self.plain else self.per_block
        states, targets = states.to(self.device), targets.to(self.device)
        found = [states.new_empty(0, dtype=torch.float32)]
        if len(states) == 0:  # a wrapped or quantised head may not stand an empty input
            return found[0]
        with scoring(self.model):
            for part, wanted in zip(states.split(self.per_block), targets.split(self.per_block), strict=True):
                for output, goal in zip(self._raw(part).split(step), wanted.split(step), strict=True):
                    logits = self._logits(output)[0].detach()
                    found.append(nn.functional.cross_entropy(logits, goal, reduction="none").float())
        return torch.cat(found)

    def deltas(self, states: Tensor, targets: Tensor) -> Iterator[Tensor]:
        """[n, V] gradients of the tokens' losses at the head's output, all columns whatever the crop, as many tokens at a time as a
        block holds: with the states the factors of ``delta^T hidden``, for who needs more of it than its spectrum.

        Args:
            states: [N, d], what enters the head where each token is predicted. targets: [N] those tokens.
        """
        states, targets = states.to(self.device), targets.to(self.device)
        for part, wanted in zip(states.split(self.per_block), targets.split(self.per_block), strict=True):
            with scoring(self.model):  # not while the caller works with a block: its own sums are not to be rounded as the model's
                logits, leaf = self._logits(self._raw(part))
                delta = self._delta(logits.detach().softmax(-1), wanted, 0, logits, leaf)
            yield delta

    def _some(self, states: Sequence[Tensor], targets: Sequence[Tensor]) -> Iterator[RowGradient]:
        """Rows that fit in one block together, or one row that does not."""
        lengths = [len(part) for part in targets]
        hidden, labels = torch.cat(list(states)), torch.cat(list(targets))
        whole = 4 * len(labels) * self.rows <= self.block
        step = SLICE if self.plain else self.per_block
        deltas, losses, norms = [], [], []
        for part, wanted in zip(hidden.split(self.per_block), labels.split(self.per_block), strict=True):
            raw = self._raw(part)
            for output, goal in zip(raw.split(step), wanted.split(step), strict=True):
                logits, leaf = self._logits(output)
                log_p = torch.log_softmax(logits.detach(), dim=-1)
                losses.append(-log_p.gather(-1, goal[:, None]).squeeze(-1))
                norms.append(logits.detach()[:, 0] - log_p[:, 0])
                if whole:
                    kept = log_p[:, : self.rows].exp()
                    deltas.append(self._delta(kept, goal, 0, logits[:, : self.rows], leaf)[:, : self.rows])
        each_loss = torch.cat(losses).split(lengths)
        if whole:
            narrow = hidden[:, : self.columns].split(lengths)
            for delta, part, loss in zip(torch.cat(deltas).split(lengths), narrow, each_loss, strict=True):
                yield RowGradient(spectrum.grams([delta], part), loss)
        else:
            pieces = self._pieces(hidden, labels, torch.cat(norms))
            yield RowGradient(spectrum.grams(pieces, hidden[:, : self.columns]), each_loss[0])

    def _pieces(self, hidden: Tensor, labels: Tensor, norms: Tensor) -> Iterator[Tensor]:
        """[T, c] columns of one row's delta, c at a time, left to right.

        Args:
            norms: [T] logarithm of the softmax's denominator.
        """
        width = max(1, self.block // (4 * len(labels)))
        for start in range(0, self.rows, width):
            stop = min(start + width, self.rows)
            logits, leaf = self._logits(self._raw(hidden, start, stop))
            delta = (logits.detach() - norms[:, None]).exp()
            yield self._delta(delta, labels, start, logits, leaf)

    def _raw(self, hidden: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """[N, c] the head's output for the vocabulary's columns from start to stop."""
        stop = self.vocabulary if stop is None else stop
        if stop - start == self.vocabulary:
            return self.module(hidden)
        if type(self.module) is nn.Linear:
            bias = None if self.module.bias is None else self.module.bias[start:stop]
            weight = self.module.weight[start:stop]
            return nn.functional.linear(hidden.to(weight.dtype), weight, bias)
        # An adapter or a quantised head has no columns to be had alone: whole logits for as many tokens as a block holds.
        return torch.cat([self.module(part)[:, start:stop] for part in hidden.split(self.per_block)])

    def _logits(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The model's logits [N, c], at least float32, and the leaf that they were made of (itself where they are plain)."""
        leaf = raw.detach() if raw.dtype == torch.float64 else raw.detach().float()
        if self.plain:
            return leaf, leaf
        leaf.requires_grad_(True)
        return self._through_model(leaf.unsqueeze(0)).squeeze(0), leaf

    def _delta(self, softmax: Tensor, labels: Tensor, start: int, logits: Tensor, leaf: Tensor) -> Tensor:
        """softmax - onehot for the columns from start on, taken back through what the model does behind its head."""
        inside = (labels >= start) & (labels < start + softmax.shape[-1])
        at = inside.nonzero().squeeze(-1)
        softmax[at, labels[at] - start] -= 1
        if logits.grad_fn is None:
            return softmax
        return torch.autograd.grad(logits, leaf, softmax)[0]

    def _through_model(self, output: Tensor) -> Tensor:
        """What the model's forward pass makes of this output of its head, [1, N, c] -> [1, N, c]."""
        hook = self.module.register_forward_hook(lambda _module, _args, _output: output)
        try:
            one = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
            return self.model(input_ids=one, use_cache=False).logits.to(output.device)
        finally:
            hook.remove()
