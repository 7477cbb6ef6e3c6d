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
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gradsentry import spectrum
from gradsentry.model.forward import head_width, output_projection, scoring
from gradsentry.model.targets.factors import RowGradient

log = logging.getLogger(__name__)

LOGIT_BLOCK_BYTES = 32 * 2**20
"""Bytes of one float32 block of logits, and the largest whole delta of a row; a larger delta is computed some columns at a time.
Larger blocks are slower on a CPU: they do not fit its cache, and the C library returns them to the system each time."""

SOFTMAX_SLICE_TOKENS = 32
"""Tokens whose logits are converted to float32 and put through the softmax at a time, so that they stay in a CPU's cache."""


class Head:
    """A model's output projection, evaluated block by block.

    Its methods take `states` [N, d], what enters the head before each token, and `labels` [N], those tokens.

    Args:
        model: a causal language model. crop: see `spectrum.crop_widths`. block_bytes: size of a float32 block of logits.
    """

    def __init__(self, model: Any, crop: str, block_bytes: int = LOGIT_BLOCK_BYTES) -> None:
        self.model = model
        self.module: Any = output_projection(model)
        self.vocabulary, self.width = head_width(self.module)
        self.device: torch.device = self.module.weight.device
        """The head's device. A model spread over several devices may have its states on another one."""
        self.rows, self.columns = spectrum.crop_widths(self.vocabulary, self.width, crop)
        self.block_bytes = block_bytes
        self.block_tokens = max(1, block_bytes // (4 * self.vocabulary))
        """Tokens whose whole logits fit into a block."""

    def gradients(self, states: Sequence[Tensor], labels: Sequence[Tensor]) -> list[RowGradient]:
        """The gradient of each row, in order, from its [T, d] states and its [T] supervised tokens."""
        found: list[RowGradient] = []
        states, labels = ([part.to(self.device) for part in parts] for parts in (states, labels))
        with scoring(self.model):
            while len(found) < len(states):
                first = last = len(found)
                tokens = 0
                while last < len(states) and (last == first or tokens + len(labels[last]) <= self.block_tokens):
                    tokens += len(labels[last])
                    last += 1
                found += self._gradients_in_block(states[first:last], labels[first:last])
        return found

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

    def _gradients_in_block(self, states: Sequence[Tensor], labels: Sequence[Tensor]) -> Iterator[RowGradient]:
        """Gradients of rows whose logits fit into one block together, or of one longer row."""
        lengths = [len(part) for part in labels]
        hidden, all_labels = torch.cat(list(states)), torch.cat(list(labels))
        whole = 4 * len(all_labels) * self.rows <= self.block_bytes
        deltas, losses, norms = [], [], []
        for logits, leaf, wanted in self._softmax_slices(hidden, all_labels):
            log_p = torch.log_softmax(logits.detach(), dim=-1)
            losses.append(-log_p.gather(-1, wanted[:, None]).squeeze(-1))
            norms.append(logits.detach()[:, 0] - log_p[:, 0])
            if whole:
                softmax = log_p[:, : self.rows].exp()
                deltas.append(self._delta(softmax, wanted, 0, logits[:, : self.rows], leaf)[:, : self.rows])
        row_losses = torch.cat(losses).split(lengths)
        if whole:
            cropped = hidden[:, : self.columns].split(lengths)
            for delta, part, loss in zip(torch.cat(deltas).split(lengths), cropped, row_losses, strict=True):
                yield RowGradient(spectrum.gram_pair([delta], part), loss)
        else:
            pieces = self._delta_columns(hidden, all_labels, torch.cat(norms))
            yield RowGradient(spectrum.gram_pair(pieces, hidden[:, : self.columns]), row_losses[0])

    def _softmax_slices(self, states: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits, the leaf of their graph, and labels, of as many tokens as go through the softmax at a time."""
        step = SOFTMAX_SLICE_TOKENS if self.plain else self.block_tokens
        for hidden, block_labels in zip(states.split(self.block_tokens), labels.split(self.block_tokens), strict=True):
            for output, wanted in zip(self._output(hidden).split(step), block_labels.split(step), strict=True):
                yield *self._logits(output), wanted

    def _delta_columns(self, hidden: Tensor, labels: Tensor, norms: Tensor) -> Iterator[Tensor]:
        """[T, c] columns of one row's delta from left to right, as many at a time as a block holds.

        Args:
            norms: [T] logarithm of each token's softmax denominator.
        """
        width = max(1, self.block_bytes // (4 * len(labels)))
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
        inside = (labels >= start) & (labels < start + softmax.shape[-1])
        at = inside.nonzero().squeeze(-1)
        softmax[at, labels[at] - start] -= 1
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
