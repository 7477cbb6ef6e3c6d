"""Rows -> scores: formats, tokens, bins, one forward pass a bin, spectra. Knows no files but the model's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradsentry import encode, spectrum
from gradsentry.batching import bins, default_budget, waves
from gradsentry.config import ScanConfig
from gradsentry.errors import RowProblem, UsageError
from gradsentry.formats import FORMATS, Format, apply_mapping, detect, parse_mapping
from gradsentry.models import LoadedModel, load_model
from gradsentry.prefix import Group, PrefixCache, can_share, group_by_prefix, prefix_cache
from gradsentry.probe import Factors, head_factors, head_width, output_projection
from gradsentry.types import Encoded, Record, Row, Sample, Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
"""Called with (rows, tokens) after each batch."""


def _nothing(_rows: int, _tokens: int) -> None:
    pass


class Scorer:
    """Scores rows with one model. Made once, used for any number of rows.

    Args:
        model: a directory, ``.gguf`` file or Hub id, None for the embedded model, or a loaded transformers model (its
            `tokenizer` is then needed; it is used in eval mode and left as it was).
        tokenizer: for a loaded model.
        options: fields of `ScanConfig`: crop, format, map, loss_on, dtype, device, token_budget, max_length ...

    Raises:
        ModelError: the model cannot be loaded or has no output projection. UsageError: options that cannot be.

    Example:
        >>> scores = Scorer(device="cpu").score([{"prompt": "2 + 2 =", "completion": " 4"}])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        config: ScanConfig | None = None,
        **options: Any,
    ) -> None:
        self.config = replace(config or ScanConfig(), **options)
        self.mapping = parse_mapping(self.config.map)
        self.format: Format | None = None
        if self.config.format is not None:
            if self.config.format not in FORMATS:
                raise UsageError(f"--format {self.config.format}: it can be {', '.join(FORMATS)}")
            self.format = FORMATS[self.config.format]
        self.loaded = self._load(model, tokenizer)
        vocabulary, width = head_width(output_projection(self.loaded.model))
        self.widths = spectrum.crop_widths(vocabulary, width, self.config.crop)
        self.max_length = min(self.config.max_length or self.loaded.max_length, self.loaded.max_length)
        self.token_budget = self.config.token_budget or default_budget(self.loaded.model.device)
        self.shares = True
        """Whether prefixes are computed once; turned off where the model's state cannot be shared."""

    def _load(self, model: Any, tokenizer: Any) -> LoadedModel:
        if model is None or isinstance(model, (str, os.PathLike)):
            return load_model(
                model if model is not None else self.config.model,
                dtype=self.config.dtype,
                device=self.config.device,
                trust_remote_code=self.config.trust_remote_code,
                allow_pickle=self.config.allow_pickle,
            )
        if tokenizer is None:
            raise UsageError("a loaded model needs its tokenizer: Scorer(model, tokenizer)")
        return LoadedModel(model, tokenizer, type(model).__name__, "")

    def detect(self, rows: Iterable[Row]) -> Format:
        """Settle the format from some rows, unless it was given.

        Raises:
            DataError: no format fits. UsageError: a column named by `map` is in none of the rows.
        """
        rows = list(rows)
        for ours, theirs in self.mapping.items():
            if rows and not any(theirs in row for row in rows):
                columns = ", ".join(dict.fromkeys(name for row in rows for name in row))
                raise UsageError(f"--map {ours}={theirs}: no row has a column {theirs!r}; there are {columns}")
        if self.format is None:
            self.format = detect(apply_mapping(row, self.mapping) for row in rows)
        return self.format

    def score(self, rows: Iterable[Row], progress: Progress = _nothing) -> list[Score]:
        """Scores of rows in memory, in their order; `Score.row` counts from 0.

        Raises:
            DataError: the format cannot be told from the rows.
        """
        records = [Record(i, f"row {i}", row) for i, row in enumerate(rows)]
        return self.score_records(records, progress)

    def score_records(self, records: Sequence[Record], progress: Progress = _nothing) -> list[Score]:
        """Scores of records in their order: every record gets exactly one, whatever is wrong with it."""
        return self.score_prepared(self.prepare(records), progress)

    def prepare(self, records: Sequence[Record]) -> list[Encoded | Score]:
        """What each record becomes, in order: tokens, or a score that says why not. No model: may run beside the scoring."""
        items = {item.row: item for item in self._encode(records)}
        return [items[record.row] for record in records]

    def score_prepared(self, items: Sequence[Encoded | Score], progress: Progress = _nothing) -> list[Score]:
        """Scores of what `prepare` returned, in its order."""
        scores = {item.row: item for item in items if isinstance(item, Score)}
        progress(len(scores), 0)
        for score in self.score_encoded([item for item in items if isinstance(item, Encoded)], progress):
            scores[score.row] = score
        return [scores[item.row] for item in items]

    def score_encoded(self, rows: Sequence[Encoded], progress: Progress = _nothing) -> Iterable[Score]:
        """Scores of rows that are tokens already, in the order in which they were computed."""
        longest = max((len(row.input_ids) for row in rows), default=0)
        shares = self.shares and can_share(self.loaded.model, longest)
        groups = group_by_prefix(rows) if shares else [Group(0, tuple(range(len(rows))))]
        for wave in waves(groups, self.token_budget):
            cache = self._prefixes(rows, wave)
            members = [(i, which) for which, group in enumerate(wave) for i in group.members]
            cached = [group.length if cache else 0 for group in wave]
            # A token behind a cached prefix costs that prefix's memory and attention, not its matrix products.
            costs = [len(rows[i].input_ids) - cached[which] + cached[which] // 4 for i, which in members]
            for positions in bins(costs, self.token_budget):
                batch = [rows[members[at][0]] for at in positions]
                prefixes = torch.tensor([members[at][1] for at in positions]) if cache else None
                yield from self._score_batch(batch, cache, prefixes)
                progress(len(batch), sum(len(row.input_ids) for row in batch))

    def _prefixes(self, rows: Sequence[Encoded], wave: Sequence[Group]) -> PrefixCache | None:
        """Keys and values of the wave's prefixes; None where there are none to share."""
        if not self.shares or not wave[0].length:
            return None
        shared = [rows[group.members[0]].input_ids[: group.length] for group in wave]
        cache = prefix_cache(self.loaded.model, shared, self.loaded.model.device)
        self.shares = cache is not None
        return cache

    def _encode(self, records: Sequence[Record]) -> Iterable[Encoded | Score]:
        """The items of `prepare` as they come: first what cannot be read, then the rest."""
        format = self.format or self.detect([record.value for record in records[:100] if record.value is not None])
        readable: list[tuple[int, Sample]] = []
        for record in records:
            if record.value is None:
                yield Score(record.row, "error", reason=record.error)
                continue
            try:
                readable.append((record.row, format.convert(apply_mapping(record.value, self.mapping))))
            except RowProblem as problem:
                yield Score(record.row, problem.status, reason=f"{record.place}: {problem.reason}")
        places = {record.row: record.place for record in records}
        tokenizer = self.loaded.tokenizer
        loss_on = self.config.loss_on or format.loss_on
        results = encode.encode([sample for _, sample in readable], tokenizer, loss_on)
        bos = tokenizer.bos_token_id if isinstance(tokenizer.bos_token_id, int) else None
        for (row, _), ids in zip(readable, results, strict=True):
            if isinstance(ids, RowProblem):
                yield Score(row, ids.status, reason=f"{places[row]}: {ids.reason}")
            else:
                (input_ids, labels), note = encode.fit(ids, self.max_length, bos)
                yield Encoded(row, input_ids, labels, note)

    def _score_batch(self, batch: Sequence[Encoded], cache: PrefixCache | None, prefixes: Tensor | None) -> Iterable[Score]:
        """One forward pass and the spectra of its rows; `prefixes` [B] says which cached prefix each row stands behind."""
        factors = self._factors(batch, cache, prefixes)
        for row, value, loss in zip(batch, entropies(factors), row_losses(factors), strict=True):
            if value != value:  # NaN or infinite logits: an overflow in the model, no fault of the row
                reason = f"the model's logits are not finite in {self.loaded.dtype}; try --dtype float32"
                yield Score(row.row, "error", n_tokens=row.n_tokens, reason=reason)
            else:
                yield Score(row.row, "scored", value, row.n_tokens, loss, row.note)

    def _factors(self, batch: Sequence[Encoded], cache: PrefixCache | None, prefixes: Tensor | None) -> Factors:
        model, device = self.loaded.model, self.loaded.model.device
        if cache is None or prefixes is None:
            return head_factors(model, *pad(batch, [0] * len(batch), device), widths=self.widths)
        past, past_mask = cache.rows(prefixes.to(device))
        skipped = cache.lengths[prefixes.to(device)]
        ids, mask, labels = pad(batch, skipped.tolist(), device)
        positions = skipped[:, None] + torch.arange(ids.shape[1], device=device)
        return head_factors(
            model, ids, torch.cat([past_mask, mask], dim=1), labels, widths=self.widths, past_key_values=past, position_ids=positions
        )


def pad(batch: Sequence[Encoded], skipped: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """input_ids, attention_mask, labels, each [B, S], without the first `skipped` tokens, padded on the right."""
    longest = max(len(row.input_ids) - skip for row, skip in zip(batch, skipped, strict=True))
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, encode.IGNORED)
    for i, (row, skip) in enumerate(zip(batch, skipped, strict=True)):
        length = len(row.input_ids) - skip
        ids[i, :length] = torch.tensor(row.input_ids[skip:])
        labels[i, :length] = torch.tensor(row.labels[skip:])
        mask[i, :length] = 1
    return ids.to(device), mask.to(device), labels.to(device)


def entropies(factors: Factors) -> list[float]:
    """Spectral entropy of every row of a batch; NaN where the factors are not finite.

    [T, T] problems of a batch are padded with zeros to one size and solved together, which changes no eigenvalue.
    """
    deltas = factors.delta.split(factors.lengths)
    longest = max(factors.lengths)
    grams = factors.delta.new_zeros((len(deltas), longest, longest), dtype=torch.float64)
    hidden = factors.hidden.new_zeros((len(deltas), longest, factors.hidden.shape[-1]), dtype=torch.float32)
    for i, (delta, states) in enumerate(zip(deltas, factors.hidden.split(factors.lengths), strict=True)):
        grams[i, : len(delta), : len(delta)] = spectrum.gram(delta)
        hidden[i, : len(states)] = states
    finite = grams.isfinite().flatten(1).all(1) & hidden.isfinite().flatten(1).all(1)
    broken = ~finite[:, None, None]
    squares = spectrum.squared_spectrum(grams.masked_fill(broken, 0), hidden.masked_fill(broken, 0))
    values = spectrum.entropy(squares.sqrt())
    return values.masked_fill(~finite, float("nan")).tolist()


def row_losses(factors: Factors) -> list[float]:
    """Mean negative log-likelihood of every row's supervised tokens, in nats."""
    return [float(part.double().mean()) for part in factors.losses.split(factors.lengths)]
