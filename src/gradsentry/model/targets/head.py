"""The output projection as a target: from the states before it to token losses and Gram matrices, block by block.

Letters: N supervised tokens of several rows in sequence, T of one row, V vocabulary, d hidden width, V' and d' the parts that
the crop keeps, c some columns of V.

For plain logits the gradient of a token's loss at the head's output is ``delta = softmax(logits) - onehot(label)``. Some models
scale or soft-cap the head's output, element by element. For those the model's own code runs on each block, and delta is the
vector-Jacobian product through it.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradsentry import spectrum
from gradsentry.model.device import CPU, Sizes, to_device
from gradsentry.model.forward import head_width, output_projection, scoring
from gradsentry.model.targets.factors import Gradients

log = logging.getLogger(__name__)


class Head:
    """A model's output projection, evaluated block by block.

    Its methods take `states` [N, d], what enters the head before each token, and `labels` [N], those tokens.

    Args:
        model: a causal language model. crop: see `spectrum.crop_widths`. sizes: how much the device computes at once.
    """

    def __init__(self, model: Any, crop: str, sizes: Sizes = CPU) -> None:
        self.model = model
        self.module: Any = output_projection(model)
        self.vocabulary, self.width = head_width(self.module)
        self.device: torch.device = self.module.weight.device
        """The head's device. A model spread over several devices may have its states on another one."""
        self.rows, self.columns = spectrum.crop_widths(self.vocabulary, self.width, crop)
        self.sizes = sizes
        self.block_tokens = max(1, sizes.logit_bytes // (4 * self.vocabulary))
        """Tokens whose whole logits fit into a block."""

    def gradients(self, states: Tensor, labels: Tensor, lengths: Sequence[int]) -> Gradients:
        """The gradient of each row; `lengths` has the number of supervised tokens of each, one row behind the other in `states`.

        Rows of similar length share a block of logits and a batch of Gram matrices, so the rows are sorted by length.
        """
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        starts = np.cumsum([0, *lengths])
        places = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in order])
        there, back = to_device(np.stack([places, np.argsort(places)]), self.device)
        states, labels = states.to(self.device)[there], labels.to(self.device)[there]
        losses, members, pairs = [], [], []
        start = 0
        with scoring(self.model):
            for block in self._blocks(order, lengths):
                stop = start + sum(lengths[i] for i in block)
                found, groups = self._gradients_in_block(states[start:stop], labels[start:stop], [lengths[i] for i in block])
                losses.append(found)
                for rows, pair in groups:
                    members.append([block[i] for i in rows])
                    pairs.append(pair)
                start = stop
        return Gradients(torch.cat(losses)[back], members, pairs)

    def n_values(self, n_tokens: int) -> int:
        """Number of singular values of a row with so many supervised tokens."""
        return min(n_tokens, self.columns)

    def _blocks(self, order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
        """Rows whose logits fit into one block together, or one longer row."""
        block: list[int] = []
        tokens = 0
        for i in order:
            if block and tokens + lengths[i] > self.block_tokens:
                yield block
                block, tokens = [], 0
            block.append(i)
            tokens += lengths[i]
        yield block

    def losses(self, states: Tensor, labels: Tensor) -> Tensor:
        """[N] float32 negative log-likelihoods in nats, for tokens whose gradient is not needed."""
        states, labels = states.to(self.device), labels.to(self.device)
        if len(states) == 0:  # a wrapped or quantised head may fail on an empty input
            return states.new_empty(0, dtype=torch.float32)
        with scoring(self.model):
            slices = self._softmax_slices(states, labels)
            losses = [nn.functional.cross_entropy(logits.detach(), wanted, reduction="none").float() for logits, _, wanted in slices]
        return torch.cat(losses)

    def deltas(self, states: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """[n, V] gradients of the token losses at the head's output without any crop, a block of n consecutive tokens at a time.

        Together with the states they are the factors of ``delta^T hidden``, for callers that need more than its spectrum.
        """
        states, labels = states.to(self.device), labels.to(self.device)
        for hidden, wanted in zip(states.split(self.block_tokens), labels.split(self.block_tokens), strict=True):
            with scoring(self.model):  # closed before the yield: the caller's own computation must not run under the model's autocast
                logits, leaf = self._logits(self._output(hidden))
                delta = self._delta(logits.detach().softmax(-1), wanted, 0, logits, leaf)
            yield delta

    def _gradients_in_block(
        self, hidden: Tensor, labels: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, list[tuple[range, spectrum.GramPair]]]:
        """Losses [N] of rows whose logits fit into one block together, or of one longer row, and their Gram matrices by groups of rows."""
        whole = 4 * len(labels) * self.rows <= self.sizes.logit_bytes
        deltas, losses, norms = [], [], []
        for logits, leaf, wanted in self._softmax_slices(hidden, labels):
            log_p = torch.log_softmax(logits.detach(), dim=-1)
            losses.append(-log_p.gather(-1, wanted[:, None]).squeeze(-1))
            if whole:
                softmax = log_p[:, : self.rows].exp()
                deltas.append(self._delta(softmax, wanted, 0, logits[:, : self.rows], leaf)[:, : self.rows])
            else:
                norms.append(logits.detach()[:, 0] - log_p[:, 0])
        if not whole:
            pieces = self._delta_columns(hidden, labels, torch.cat(norms))
            pair = spectrum.gram_pair(pieces, hidden[:, : self.columns])
            return torch.cat(losses), [(range(1), spectrum.GramPair(pair.left[None], pair.right[None]))]
        delta, hidden = torch.cat(deltas), hidden[:, : self.columns]
        groups = []
        for rows in self._groups(lengths):
            tokens = slice(sum(lengths[: rows.start]), sum(lengths[: rows.stop]))
            padded = [_padded(part[tokens], lengths[rows.start : rows.stop]) for part in (delta, hidden)]
            groups.append((rows, spectrum.gram_pair([padded[0]], padded[1])))
        return torch.cat(losses), groups

    def _groups(self, lengths: Sequence[int]) -> Iterator[range]:
        """Consecutive rows whose Gram matrices are made together; `lengths` ascends.

        Rows with more tokens than columns have matrices of another kind (see `spectrum.gram_pair`) and are groups of their own.
        """
        start = 0
        for i in range(1, len(lengths) + 1):
            longest = min(self.sizes.gram_padding * lengths[start], self.columns if lengths[start] <= self.columns else math.inf)
            if i == len(lengths) or lengths[i] > longest:
                yield range(start, i)
                start = i

    def _softmax_slices(self, states: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits, the leaf of their graph, and labels, of as many tokens as go through the softmax at a time."""
        step = self.sizes.softmax_tokens if self.plain else self.block_tokens
        for hidden, block_labels in zip(states.split(self.block_tokens), labels.split(self.block_tokens), strict=True):
            for output, wanted in zip(self._output(hidden).split(step), block_labels.split(step), strict=True):
                yield *self._logits(output), wanted

    def _delta_columns(self, hidden: Tensor, labels: Tensor, norms: Tensor) -> Iterator[Tensor]:
        """[T, c] columns of one row's delta from left to right, as many at a time as a block holds.

        Args:
            norms: [T] logarithm of each token's softmax denominator.
        """
        width = max(1, self.sizes.logit_bytes // (4 * len(labels)))
        for start in range(0, self.rows, width):
            stop = min(start + width, self.rows)
            logits, leaf = self._logits(self._output(hidden, start, stop))
            softmax = (logits.detach() - norms[:, None]).exp()
            yield self._delta(softmax, labels, start, logits, leaf)

    def _output(self, hidden: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """[N, c] the head's output for the vocabulary's columns from start to stop."""
        stop = self.vocabulary if stop is None else stop
        if stop - start == self.vocabulary:
            return self.module(hidden)
        if type(self.module) is nn.Linear:
            bias = None if self.module.bias is None else self.module.bias[start:stop]
            weight = self.module.weight[start:stop]
            return nn.functional.linear(hidden.to(weight.dtype), weight, bias)
        # An adapter or a quantised head cannot compute some columns alone: compute whole logits, a block of tokens at a time.
        return torch.cat([self.module(part)[:, start:stop] for part in hidden.split(self.block_tokens)])

    def _logits(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The model's logits [N, c] in float32 or float64, and the leaf of their graph; plain logits are the leaf itself."""
        leaf = output.detach() if output.dtype == torch.float64 else output.detach().float()
        if self.plain:
            return leaf, leaf
        leaf.requires_grad_(True)
        return self._behind_head(self._model_without_layers, leaf.unsqueeze(0)).squeeze(0), leaf

    def _delta(self, softmax: Tensor, labels: Tensor, start: int, logits: Tensor, leaf: Tensor) -> Tensor:
        """softmax - onehot for the columns from start on, taken back through what the model does behind its head."""
        at = labels - start
        inside = (at >= 0) & (at < softmax.shape[-1])
        softmax.scatter_add_(-1, at.clamp(0, softmax.shape[-1] - 1)[:, None], -inside[:, None].to(softmax.dtype))
        if logits.grad_fn is None:
            return softmax
        return torch.autograd.grad(logits, leaf, softmax)[0]

    @cached_property
    def plain(self) -> bool:
        """Whether the model returns its head's output unchanged."""
        return torch.equal(self._behind_head(self.model, self._probe), self._probe)

    @cached_property
    def _model_without_layers(self) -> Any:
        """The model with a stub in place of its layers, which does the same behind its head; the model itself where that fails."""
        try:
            bare = _without_layers(self.model, torch.zeros(1, 1, self.width, dtype=self.model.dtype, device=self.device))
            if torch.equal(self._behind_head(bare, self._probe), self._behind_head(self.model, self._probe)):
                return bare
        except Exception as error:  # the stub runs in a model's own code, which may raise anything
            log.debug("all layers run for the code behind the head: %s", error)
        return self.model

    @property
    def _probe(self) -> Tensor:
        """[1, 1, V] an output of the head that any scaling or capping would change."""
        return torch.linspace(-1e4, 1e4, self.vocabulary, device=self.device)[None, None]

    def _behind_head(self, model: Any, output: Tensor) -> Tensor:
        """What the model's forward pass makes of this output of its head, [1, N, c] -> [1, N, c]."""
        hook = self.module.register_forward_hook(lambda _module, _args, _output: output)
        try:
            one = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
            return model(input_ids=one, use_cache=False).logits.to(output.device)
        finally:
            hook.remove()


def _padded(tokens: Tensor, lengths: Sequence[int]) -> Tensor:
    """[rows, longest, n] of the tokens [N, n] of rows one behind the other, with zeros behind the shorter ones."""
    longest = max(lengths)
    if len(tokens) == longest * len(lengths):
        return tokens.view(len(lengths), longest, -1)
    places = np.concatenate([i * longest + np.arange(length) for i, length in enumerate(lengths)])
    padded = tokens.new_zeros(len(lengths) * longest, tokens.shape[-1])
    return padded.index_copy_(0, to_device(places, tokens.device), tokens).view(len(lengths), longest, -1)


class _Stub(nn.Module):
    """Takes the place of a model's layers and returns the same states whatever it gets."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_args: Any, **_options: Any) -> Any:
        from transformers.modeling_outputs import MoeModelOutputWithPast  # has the fields of dense models too

        return MoeModelOutputWithPast(last_hidden_state=self.hidden)  # pyright: ignore[reportArgumentType]


def _without_layers(model: Any, hidden: Tensor) -> Any:
    """A shallow copy of the model whose layers are a stub that returns `hidden`. The model itself is not changed.

    Raises:
        LookupError: the model does not keep its layers in a module apart from its head.
    """
    layers = model.get_decoder()
    path = next((name for name, module in model.named_modules() if module is layers), "")
    if not path or output_projection(model) in layers.modules():
        raise LookupError("its layers are no module apart from its head")

    def replaced(parent: nn.Module, names: list[str]) -> nn.Module:
        if not names:
            return _Stub(hidden)
        duplicate = copy.copy(parent)
        child = replaced(parent.get_submodule(names[0]), names[1:])
        duplicate.__dict__["_modules"] = {**parent._modules, names[0]: child}
        return duplicate

    return replaced(model, path.split("."))
