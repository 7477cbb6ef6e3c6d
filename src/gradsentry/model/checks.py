"""Checks of a model before it scores: is it complete, on its devices, causal, and can its rows be packed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradsentry.errors import ModelError
from gradsentry.model.batches.attention import NotPackable
from gradsentry.model.batches.states import BatchStates, packed_states, padded_states
from gradsentry.model.device import CPU, Sizes
from gradsentry.model.forward import known_ids, output_projection, states_before_head
from gradsentry.types import Encoded

log = logging.getLogger(__name__)

ROUNDING_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Largest difference between two states, relative to their norm, that rounding can explain in each dtype."""

PACKABLE_LAYER_TYPES = {"full_attention", "sliding_attention"}
"""Layer types of a transformers configuration that packed batches support."""


def check_complete(label: str, model: Any, missing: Iterable[str]) -> None:
    """Refuse a model for which transformers only warns: parameters without weights, or an encoder with a new head.

    Args:
        missing: names of parameters that no weights file has.

    Raises:
        ModelError: the files lack parameters, or the model is a masked language model.
    """
    absent = sorted(set(missing) & {name for name, _ in model.named_parameters()})
    if absent:
        head = {id(parameter) for parameter in output_projection(model).parameters()}
        lacks_head = any(id(parameter) in head for name, parameter in model.named_parameters() if name in absent)
        what = "it has no output projection" if lacks_head else "its files are not complete"
        raise ModelError(f"{label} cannot score: {what}; the weights lack {', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''}")
    if any("MaskedLM" in name for name in model.config.architectures or ()):
        raise ModelError(f"{label} is a masked language model: it sees the tokens that it should predict; give a causal one")


def check_placed(label: str, model: Any) -> None:
    """Refuse a model with weights that accelerate left off the devices and would load for each forward pass.

    Raises:
        ModelError: some weights are on the meta device.
    """
    away = {name: parameter for name, parameter in model.named_parameters() if parameter.is_meta}
    if not away:
        return
    size = sum(parameter.numel() * parameter.element_size() for parameter in away.values()) / 2**20
    devices = len({parameter.device for parameter in model.parameters() if not parameter.is_meta})
    raise ModelError(
        f"{label} does not fit onto {devices} device{'' if devices == 1 else 's'}: {size:,.2f} MiB of its weights ({', '.join([*away][:3])}"
        f"{' ...' if len(away) > 3 else ''}) were left off; use more --gpus-per-worker, --dtype bfloat16 or a smaller model"
    )


def check_causal(label: str, model: Any) -> None:
    """Refuse a model whose states depend on later tokens: its loss on a token that it has seen means nothing.

    Raises:
        ModelError: the model is not causal. A trial decides, because some such models load as causal ones (BERT as a decoder).
    """
    if change_by_later_token(model) > ROUNDING_TOLERANCE[model.dtype]:
        raise ModelError(f"{label} sees the tokens that it should predict; give a causal one")


def change_by_later_token(model: Any) -> float:
    """Largest change of a state when a later token changes, relative to its norm, for two rows of four tokens.

    In a causal model it is 0 except for rounding. It is NaN if a state is not finite.
    """
    *first, last, other = (known_ids(model) * i // 7 for i in range(1, 6))
    ids = torch.tensor([[*first, last], [*first, other]], device=model.device)
    one, two = states_before_head(model, ids)[:, :-1].float()
    return float(((one - two).norm(dim=-1) / one.norm(dim=-1)).max())


def pick_packing(model: Any, sizes: Sizes) -> Sizes | None:
    """The sizes with which packed batches give this model's states; None if its rows must be padded.

    The variable-length kernel serves only some models: it has no soft caps, and not every head width or dtype.
    """
    ways = [sizes, replace(sizes, variable_length=False)] if sizes.variable_length else [sizes]
    return next((way for way in ways if can_pack(model, way)), None)


def can_pack(model: Any, sizes: Sizes = CPU) -> bool:
    """Whether packed batches give this model's states; a few short rows are computed packed and alone, and compared.

    A trial decides, because a configuration does not say what the model's attention does, and a wrong guess gives wrong scores.
    """
    config = model.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or PACKABLE_LAYER_TYPES)
    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    if not (takes_positions and layer_types <= PACKABLE_LAYER_TYPES and model._can_set_attn_implementation()):
        return False
    token = [(7 * i * i + 3 * i + 1) % config.vocab_size for i in range(40)]
    # Rows with long, short and no common prefixes, which fill several batches of 16 tokens. Five short ones behind one beginning
    # share a batch, so that the variable-length kernel merges the results of two calls there.
    ids = [token[:12], [*token[:9], *token[20:24]], [*token[:9], *token[30:36]], token[24:30], token[:12]]
    ids += [[*token[:11], *token[i : i + 2]] for i in range(20, 25)]
    rows = [Encoded(i, row, row) for i, row in enumerate(ids)]
    try:
        packed = {i: states for batch in packed_states(model, rows, 16, sizes) for i, states in _by_row(batch)}
    except (NotPackable, ModelError, RuntimeError, TypeError, ValueError, LookupError) as error:
        log.debug("rows are padded, not packed: %s", error)
        return False
    alone = [next(padded_states(model, [row], 1)).supervised.states for row in rows]
    worst = max(float(((packed[i] - states).norm(dim=-1) / states.norm(dim=-1)).max()) for i, states in enumerate(alone))
    log.debug("packed and padded states differ by %.1e", worst)
    return worst <= ROUNDING_TOLERANCE[model.dtype]


def _by_row(batch: BatchStates) -> Iterator[tuple[int, Tensor]]:
    """Each row's index and the states before its supervised tokens."""
    return ((member, states) for member, (states, _) in zip(batch.members, batch.supervised.by_row(), strict=True))
