"""Rows -> scores: formats, tokens, batches, one forward pass a batch, spectra. Knows no files but the model's."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradsentry import spectrum
from gradsentry.config import ScanConfig, parse_workers
from gradsentry.data.formats import Format
from gradsentry.data.formats.detect import parse_mapping, settle, to_sample
from gradsentry.errors import ModelError, RowProblem, UsageError
from gradsentry.model import memory
from gradsentry.model.batches.attention import compiled
from gradsentry.model.batches.prefix_tree import Ints
from gradsentry.model.batches.states import RowStates, apart, packed_states, packs, padded_batches
from gradsentry.model.forward import check_target, known_ids
from gradsentry.model.load import LoadedModel, check_causal, load_model
from gradsentry.model.memory import out_of_memory
from gradsentry.model.targets.head import Head, RowGradient
from gradsentry.tokens import encode
from gradsentry.tokens.special_tokens import spelled_special_tokens
from gradsentry.tokens.vocabulary import read_vocabulary
from gradsentry.types import Encoded, Progress, Record, Row, Sample, Score, Surprises, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Made = TypeVar("Made")

Work = Callable[[Sequence[Encoded], int], Iterator[tuple[list[Encoded], Made]]]
"""From rows and the tokens of a batch to what is made of them, a few rows at a time."""


Floats = NDArray[np.float32]

HIGHEST = float(np.finfo(np.float16).max)


class Scorer:
    """Scores rows with one model. Made once, used for any number of rows.

    Args:
        model: a directory, ``.gguf`` file or Hub id, None for the embedded model, or a loaded transformers model (its
            `tokenizer` is then needed; it is used in eval mode and left as it was).
        tokenizer: for a loaded model.
        options: fields of `ScanConfig`: crop, target, format, map, loss_on, dtype, device, token_budget, max_length ...

    Raises:
        ModelError: the model cannot be loaded, has no output projection or sees later tokens, or `target` is another.
        UsageError: options that cannot be.

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
        self.format: Format | None = settle(self.config.format, self.mapping, []) if self.config.format else None
        self.loaded = self._load(model, tokenizer)
        check_target(self.loaded.model, self.config.target)
        self.head = Head(self.loaded.model, self.config.crop)
        self.max_length = min(self.config.max_length or self.loaded.max_length, self.loaded.max_length)
        self.memory = memory.plan(self.loaded.model, self.config.token_budget, parse_workers(self.config.workers) or 1)
        self.token_budget = self.memory.token_budget
        self.packs = packs(self.loaded.model)
        """Whether rows are computed without padding and what they have in common once; else row beside row, padded."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the model's tokens stand for."""
        return read_vocabulary(self.loaded.tokenizer)

    def _load(self, model: Any, tokenizer: Any) -> LoadedModel:
        if model is None or isinstance(model, (str, os.PathLike)):
            loaded = load_model(
                model if model is not None else self.config.model,
                dtype=self.config.dtype,
                device=self.config.device,
                device_map="auto" if self.config.gpus_per_worker > 1 else None,
                trust_remote_code=self.config.trust_remote_code,
                allow_pickle=self.config.allow_pickle,
            )
            if self.config.compile:
                compiled(loaded.model)
            return loaded
        if tokenizer is None:
            raise UsageError("a loaded model needs its tokenizer: Scorer(model, tokenizer)")
        check_causal(type(model).__name__, model)
        return LoadedModel(model, tokenizer, type(model).__name__, "")

    def detect(self, rows: Iterable[Row]) -> Format:
        """Settle the format from some rows, unless it was given.

        Raises:
            DataError: no format fits. UsageError: a column named by `map` is in none of the rows.
        """
        if self.format is None:
            self.format = settle(self.config.format, self.mapping, list(rows))
        return self.format

    def score(self, rows: Iterable[Row], progress: Progress | None = None) -> list[Score]:
        """Scores of rows in memory, in their order; `Score.row` counts from 0.

        Raises:
            DataError: the format cannot be told from the rows.
        """
        records = [Record(i, f"row {i}", row, "" if row is not None else f"row {i}: it is None, not a row") for i, row in enumerate(rows)]
        return self.score_records(records, progress)

    def score_records(self, records: Sequence[Record], progress: Progress | None = None) -> list[Score]:
        """Scores of records in their order: every record gets exactly one, whatever is wrong with it."""
        return self.score_prepared(self.prepare(records), progress)

    def prepare(self, records: Sequence[Record]) -> list[Encoded | Score]:
        """What each record becomes, in order: tokens, or a score that says why not. No model: may run beside the scoring."""
        items = {item.row: item for item in self._encode(records)}
        return [items[record.row] for record in records]

    def score_prepared(self, items: Sequence[Encoded | Score], progress: Progress | None = None) -> list[Score]:
        """Scores of what `prepare` returned, in its order."""
        scores = {item.row: item for item in items if isinstance(item, Score)}
        progress = progress or Progress()
        progress.advance(len(scores), 0)
        for score in self.score_encoded([item for item in items if isinstance(item, Encoded)], progress):
            scores[score.row] = score
        return [scores[item.row] for item in items]

    def score_encoded(self, rows: Sequence[Encoded], progress: Progress | None = None) -> Iterator[Score]:
        """Scores of rows that are tokens already, in the order in which they were computed."""
        progress = progress or Progress()
        for (row, *_), score in self._within_memory(rows, lambda some, budget: self._score_within(some, budget, progress)):
            if score is None:
                progress.advance(1, 0)
                reason = f"its {len(row.input_ids)} tokens do not fit into memory; try --max-length"
                score = Score(row.row, "error", n_tokens=row.n_tokens, reason=reason)
            yield score

    def supervised_states(self, rows: Sequence[Encoded]) -> Iterator[tuple[list[Encoded], list[Tensor], list[Tensor]]]:
        """What enters the head where supervised tokens are predicted, batch by batch, for who makes something else of it than scores.

        Returns:
            Rows of a batch; for each [T, d] states and the [T] tokens that they predict.

        Raises:
            ModelError: not even a row alone fits into the device's memory.
        """
        for members, batch in self._within_memory(rows, self._batches):
            if batch is None:
                length = len(members[0].input_ids)
                raise ModelError(f"out of memory for a row of {length} tokens alone; take shorter rows")
            yield members, [state.supervised for state in batch], self._targets(members, batch)

    def _within_memory(self, rows: Sequence[Encoded], work: Work[Made]) -> Iterator[tuple[list[Encoded], Made | None]]:
        """What `work` makes of the rows; where a batch does not fit into the device's memory, what is left is tried in smaller ones,
        at last row by row, the longest first. One that does not fit alone comes with None, and the others go on as before."""
        waiting, budget, alone = list(rows), self.token_budget, False
        while waiting:
            done: set[int] = set()
            attempt = [max(waiting, key=lambda row: len(row.input_ids))] if alone else waiting
            full = False
            try:
                for members, made in work(attempt, budget):
                    done.update(row.row for row in members)
                    yield members, made
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                full = True
            if full and alone:
                done.add(attempt[0].row)
                yield attempt, None
                budget, alone = self.token_budget, False
            elif full and budget == 1:
                alone = True
            elif full:
                budget = _smaller(budget)
            waiting = [row for row in waiting if row.row not in done]

    def _batches(self, rows: Sequence[Encoded], token_budget: int) -> Iterator[tuple[list[Encoded], list[RowStates]]]:
        """Rows and their states, batch by batch, in the order in which they are computed."""
        states = packed_states if self.packs else padded_batches
        for group in apart(self.loaded.model, rows):
            for batch in states(self.loaded.model, group, token_budget):
                yield [group[state.member] for state in batch], batch

    def _score_within(self, rows: Sequence[Encoded], token_budget: int, progress: Progress) -> Iterator[tuple[list[Encoded], Score]]:
        """Each row and its score, in the order in which they are computed."""
        before = np.empty(0, dtype=np.float32)  # surprises of the row before, whose beginning the next may share
        for members, batch in self._batches(rows, token_budget):
            losses = self._losses(members, batch)
            gradients = self._gradients(members, batch)
            spectra = spectrum.solve_all([gradient.grams for gradient in gradients])
            for row, state, loss, gradient, values in zip(members, batch, losses, gradients, spectra, strict=True):
                before = _surprise(row, state, loss, gradient.losses, before)
                yield [row], self._score(row, gradient, values, before)
            progress.advance(len(batch), sum(len(row.input_ids) for row in members))

    def _encode(self, records: Sequence[Record]) -> Iterable[Encoded | Score]:
        """The items of `prepare` as they come: first what cannot be read, then the rest."""
        format = self.format or self.detect([record.value for record in records[:100] if record.value is not None])
        readable: list[tuple[int, Sample]] = []
        for record in records:
            if record.value is None:
                yield Score(record.row, "error", reason=record.error)
                continue
            try:
                readable.append((record.row, to_sample(record.value, format, self.mapping)))
            except RowProblem as problem:
                yield Score(record.row, problem.status, reason=f"{record.place}: {problem.reason}")
        places = {record.row: record.place for record in records}
        loss_on = self.config.loss_on or format.loss_on
        samples, model_ids = [sample for _, sample in readable], known_ids(self.loaded.model)
        results = encode.encode_fitted(samples, self.loaded.tokenizer, loss_on, self.max_length, model_ids)
        for (row, sample), result in zip(readable, results, strict=True):
            if isinstance(result, RowProblem):
                yield Score(row, result.status, reason=f"{places[row]}: {result.reason}")
            else:
                (input_ids, labels), n_cut, note = result
                specials = spelled_special_tokens(sample, input_ids, self.loaded.tokenizer)
                yield Encoded(row, input_ids, labels, n_cut, note, specials)

    def _gradients(self, rows: Sequence[Encoded], states: Sequence[RowStates]) -> list[RowGradient]:
        return self.head.gradients([state.supervised for state in states], self._targets(rows, states))

    def _targets(self, rows: Sequence[Encoded], states: Sequence[RowStates]) -> list[Tensor]:
        """For each row [T], its supervised tokens."""
        return [_tokens(row, state.supervised_at, state.supervised) for row, state in zip(rows, states, strict=True)]

    def _losses(self, rows: Sequence[Encoded], states: Sequence[RowStates]) -> Sequence[Tensor]:
        """For each row [M], of the unsupervised tokens that it does not share with the row before."""
        wanted = [_tokens(row, state.others_at, state.others) for row, state in zip(rows, states, strict=True)]
        losses = self.head.losses(torch.cat([state.others for state in states]), torch.cat(wanted))
        return losses.split([len(part) for part in wanted])

    def _score(self, row: Encoded, gradient: RowGradient, values: Tensor, surprise: Floats) -> Score:
        """One row's score from the singular values of its gradient."""
        if not values.isfinite().all():  # NaN or infinite logits: an overflow in the model, no fault of the row
            reason = f"the model's logits are not finite in {self.loaded.dtype}; try --dtype float32"
            return Score(row.row, "error", n_tokens=row.n_tokens, reason=reason)
        loss = float(gradient.losses.cpu().double().mean())
        completion = np.asarray(row.labels) != encode.IGNORED
        completion[0] = False
        tokens, specials = np.asarray(row.input_ids, dtype=np.int32), np.asarray(row.spelled_specials, dtype=np.int32)
        surprises = Surprises(tokens, surprise.clip(0, HIGHEST).astype(np.float16), completion, specials)
        entropy = float(spectrum.entropy(values))
        return Score(row.row, "scored", entropy, row.n_tokens, loss, row.note, row.n_cut, surprises, _shares(values))


def _smaller(budget: int) -> int:
    """Tokens of a batch where `budget` were too many."""
    budget = max(1, budget // 4)
    log.warning("out of memory: going on with %d tokens in a batch; a scan's --token-budget sets it from the start", budget)
    return budget


def _shares(values: Tensor) -> Floats:
    """The largest singular values, largest first, as shares of their sum."""
    top = values.topk(min(spectrum.RANK, len(values))).values
    return (top / top.sum().clamp_min(spectrum.FLOOR)).float().cpu().numpy()


def _tokens(row: Encoded, positions: Ints, beside: Tensor) -> Tensor:
    """The row's tokens at these positions, on the device of the states that predict them."""
    return torch.from_numpy(np.asarray(row.input_ids, dtype=np.int64)[positions]).to(beside.device)


def _surprise(row: Encoded, state: RowStates, losses: Tensor, completion: Tensor, before: Floats) -> Floats:
    """[S] losses of all tokens of a row, those of a shared beginning taken from the row before."""
    found = np.zeros(len(row.input_ids), dtype=np.float32)
    found[: state.shared] = before[: state.shared]
    found[state.others_at] = losses.cpu()
    found[state.supervised_at] = completion.cpu()
    return found
