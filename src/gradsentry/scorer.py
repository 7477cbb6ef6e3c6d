"""Rows -> scores: formats, tokens, bins, one forward pass a bin, spectra. Knows no files but the model's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradsentry import encode, spectrum
from gradsentry.batching import bins
from gradsentry.config import ScanConfig
from gradsentry.errors import RowProblem, UsageError
from gradsentry.formats import FORMATS, Format, apply_mapping, detect, parse_mapping
from gradsentry.models import LoadedModel, load_model, weights_stamp
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
        self.config = config or ScanConfig(**options)
        self.loaded = self._load(model, tokenizer)
        self.head = output_projection(self.loaded.model)
        vocabulary, width = head_width(self.head)
        self.widths = spectrum.crop_widths(vocabulary, width, self.config.crop)
        self.max_length = min(self.config.max_length or self.loaded.max_length, self.loaded.max_length)
        self.mapping = parse_mapping(self.config.map)
        self.format: Format | None = None
        if self.config.format is not None:
            if self.config.format not in FORMATS:
                raise UsageError(f"--format {self.config.format}: it can be {', '.join(FORMATS)}")
            self.format = FORMATS[self.config.format]

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
        return LoadedModel(model, tokenizer, type(model).__name__, "", weights_stamp(model))

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
        scores: dict[int, Score] = {}
        rows: list[Encoded] = []
        for item in self.encode(records):
            if isinstance(item, Score):
                scores[item.row] = item
            else:
                rows.append(item)
        progress(len(scores), 0)
        for score in self.score_encoded(rows, progress):
            scores[score.row] = score
        return [scores[record.row] for record in records]

    def score_encoded(self, rows: Sequence[Encoded], progress: Progress = _nothing) -> Iterable[Score]:
        """Scores of rows that are tokens already, in the order in which they were computed."""
        for positions in bins([len(row.input_ids) for row in rows], self.config.token_budget):
            batch = [rows[i] for i in positions]
            yield from self._score_batch(batch)
            progress(len(batch), sum(len(row.input_ids) for row in batch))

    def encode(self, records: Sequence[Record]) -> Iterable[Encoded | Score]:
        """What each record becomes: tokens, or a score that says why not."""
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

    def _score_batch(self, batch: Sequence[Encoded]) -> Iterable[Score]:
        """One forward pass and the spectra of its rows."""
        factors = head_factors(self.loaded.model, *self._pad(batch), widths=self.widths)
        for row, value, loss in zip(batch, entropies(factors), row_losses(factors), strict=True):
            if value != value:  # NaN or infinite logits: an overflow in the model, no fault of the row
                reason = f"the model's logits are not finite in {self.loaded.dtype}; try --dtype float32"
                yield Score(row.row, "error", n_tokens=row.n_tokens, reason=reason)
            else:
                yield Score(row.row, "scored", value, row.n_tokens, loss, row.note)

    def _pad(self, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor, Tensor]:
        """input_ids, attention_mask, labels, each [B, S], padded on the right."""
        longest = max(len(row.input_ids) for row in batch)
        device = self.loaded.model.device
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, encode.IGNORED)
        for i, row in enumerate(batch):
            ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
            labels[i, : len(row.labels)] = torch.tensor(row.labels)
            mask[i, : len(row.input_ids)] = 1
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
