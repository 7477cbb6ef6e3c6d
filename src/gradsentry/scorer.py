"""Rows -> scores: formats, tokens, batches, one forward pass per batch, spectra. It reads no files except the model's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gradsentry import spectrum
from gradsentry.config import ScanConfig, ScanOptions, check_names, parse_workers
from gradsentry.data.formats.detect import DETECTION_ROWS, parse_mapping, settle, to_sample
from gradsentry.errors import ModelError, RowProblem, UsageError
from gradsentry.model import memory
from gradsentry.model.batches.attention import compile_body
from gradsentry.model.batches.states import BatchStates, states_in_batches
from gradsentry.model.checks import check_causal, pick_packing
from gradsentry.model.device import HostCopy, Sizes
from gradsentry.model.forward import known_ids, scoring
from gradsentry.model.load import LoadedModel, load_model
from gradsentry.model.memory import in_fitting_batches, one_behind
from gradsentry.model.targets import Head, pick_target
from gradsentry.sides import joined
from gradsentry.tokens.chat import with_left_out_texts
from gradsentry.tokens.encode import encode_fitted
from gradsentry.tokens.labels import IGNORED
from gradsentry.tokens.special_tokens import spelled_special_tokens
from gradsentry.tokens.vocabulary import read_vocabulary
from gradsentry.types import ChatSample, Encoded, OneAnswer, Progress, Record, Row, Score, SidesSample, Surprises, Vocabulary

FLOAT16_MAX = float(np.finfo(np.float16).max)


class Scorer:
    """Scores rows with one model.

    Args:
        model: a directory, ``.gguf`` file or Hub id, None for the embedded model, or a loaded transformers model, which
            needs its `tokenizer`. A loaded model is in eval mode while it scores, and is restored after.
        tokenizer: the tokenizer of a loaded model.
        sizes: how much the device computes at once; None takes what `model.device` has for it.
        options: fields of `ScanConfig`: crop, target, format, map, loss_on, dtype, device, token_budget, max_length ...

    Raises:
        ModelError: the model cannot be loaded, has no output projection or sees later tokens, or `target` is another parameter.
        UsageError: invalid options.

    Example:
        >>> scores = Scorer(device="cpu").score([{"prompt": "2 + 2 =", "completion": " 4"}])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        config: ScanConfig | None = None,
        sizes: Sizes | None = None,
        **options: Unpack[ScanOptions],
    ) -> None:
        check_names(options, {*ScanOptions.__annotations__, "model", "tokenizer", "config"})
        self.config = replace(config or ScanConfig(), **options)
        self.mapping = parse_mapping(self.config.map)
        self.format = settle(self.config.format, self.mapping, []) if self.config.format else None
        """Of the rows; None until the first rows settle it."""
        self.loaded = self._load(model, tokenizer)
        self.dtype = self.loaded.dtype  # read once: while a model scores, some of its parameters are float32
        processes = parse_workers(self.config.workers) or 1
        self.memory = memory.plan(self.loaded.model, self.config.token_budget, processes, sizes)
        threads = self.memory.sizes.solving_threads
        self.solving = ThreadPoolExecutor(threads, "solving") if threads > 1 else None
        self.head = Head(self.loaded.model, self.config.crop, self.memory.sizes)
        self.target = pick_target(self.head, self.config.target)
        self.max_length = min(self.config.max_length or self.loaded.max_length, self.loaded.max_length)
        self.packing = pick_packing(self.loaded.model, self.memory.sizes)
        """How batches are packed: no padding, and common prefixes computed once. None: they are padded."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The text of the model's tokens."""
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
                compile_body(loaded.model)
            return loaded
        if tokenizer is None:
            raise UsageError("a loaded model needs its tokenizer: Scorer(model, tokenizer)")
        check_causal(type(model).__name__, model)
        return LoadedModel(model, tokenizer, type(model).__name__, "")

    def score(self, rows: Iterable[Row], progress: Progress | None = None) -> list[Score]:
        """Scores of rows in memory, in their order; `Score.row` counts from 0.

        Raises:
            DataError: the format cannot be detected from the rows.
        """
        records = [Record(i, f"row {i}", row, "" if row is not None else f"row {i}: it is None, not a row") for i, row in enumerate(rows)]
        return self.score_records(records, progress)

    def score_records(self, records: Sequence[Record], progress: Progress | None = None) -> list[Score]:
        """Scores of records in their order: each record gets exactly one, also if it is unreadable."""
        return self.score_prepared(self.prepare(records), progress)

    def prepare(self, records: Sequence[Record]) -> list[Encoded | Score]:
        """For each record, in order, its tokens, or a score that says why it has none. May run in another thread while the model scores."""
        if self.format is None:  # a scan settles it from the data set before it loads the model
            self.format = settle(None, self.mapping, [record.value for record in records[:DETECTION_ROWS] if record.value is not None])
        items: dict[int, Encoded | Score] = {}
        readable: list[tuple[Record, str, OneAnswer, str]] = []
        for record in records:
            if record.value is None:
                items[record.row] = Score(record.row, "error", reason=record.error)
                continue
            try:
                sample = to_sample(record.value, self.format, self.mapping)
                sides = sample.sides if isinstance(sample, SidesSample) else (("", sample),)
                readable += [(record, side, *self._with_left_out_texts(one)) for side, one in sides]
            except RowProblem as problem:
                items[record.row] = Score(record.row, problem.status, reason=f"{record.place}: {problem.reason}")
        samples, loss_on = [sample for _, _, sample, _ in readable], self.config.loss_on or self.format.loss_on
        results = encode_fitted(samples, self.loaded.tokenizer, loss_on, self.max_length, known_ids(self.loaded.model))
        for (record, side, sample, left_out), result in zip(readable, results, strict=True):
            before = items.get(record.row)  # of another side
            if isinstance(before, Score):
                continue
            if isinstance(result, RowProblem):
                named = f"{side}: {result.reason}" if side else result.reason
                items[record.row] = Score(record.row, result.status, reason=f"{record.place}: {named}")
            else:
                (input_ids, labels), n_cut, cut = result
                note = "; ".join(filter(None, (left_out, cut)))
                specials = spelled_special_tokens(sample, input_ids, self.loaded.tokenizer)
                encoded = Encoded(record.row, input_ids, labels, n_cut, note, specials, side, is_first=before is None)
                items[record.row] = replace(before, others=(*before.others, encoded)) if before else encoded
        return [items[record.row] for record in records]

    def _with_left_out_texts(self, sample: OneAnswer) -> tuple[OneAnswer, str]:
        """See `tokens.chat.with_left_out_texts`; a sample that goes through no chat template unchanged."""
        if isinstance(sample, ChatSample) and getattr(self.loaded.tokenizer, "chat_template", None):
            return with_left_out_texts(sample, self.loaded.tokenizer)
        return sample, ""

    def scoring(self) -> AbstractContextManager[None]:
        """The model in scoring mode, for a caller that scores many times: entering the mode visits every parameter."""
        return scoring(self.loaded.model)

    def score_prepared(
        self, items: Sequence[Encoded | Score], progress: Progress | None = None, token_budget: int | None = None
    ) -> list[Score]:
        """Scores of what `prepare` returned, in its order.

        Args:
            token_budget: tokens in a batch, padding included; None: as the options or the free memory have it.
        """
        scores = {item.row: item for item in items if isinstance(item, Score)}
        progress = progress or Progress()
        progress.advance(len(scores), 0)
        answers = [one for item in items if isinstance(item, Encoded) for one in (item, *item.others)]
        numbered = [replace(one, row=number, others=()) for number, one in enumerate(answers)]
        found = {score.row: score for score in self.score_encoded(numbered, progress, token_budget)}
        of_answers = iter([found[number] for number in range(len(answers))])
        for item in items:
            if isinstance(item, Encoded):
                scores[item.row] = joined(item, [next(of_answers) for _ in (item, *item.others)])
        return [scores[item.row] for item in items]

    def score_encoded(self, rows: Sequence[Encoded], progress: Progress | None = None, token_budget: int | None = None) -> list[Score]:
        """Scores of tokenised rows, in the order in which they are computed; arguments as for `score_prepared`."""
        progress, token_budget = progress or Progress(), token_budget or self.memory.token_budget
        scores: list[Score] = []
        with self.scoring():
            for (row, *_), score in in_fitting_batches(rows, token_budget, partial(self._score_batches, progress=progress)):
                if score is None:
                    progress.advance(int(row.is_first), 0)
                    reason = f"its {len(row.input_ids)} tokens do not fit into memory; try --max-length"
                    score = Score(row.row, "error", n_tokens=row.n_tokens, reason=reason)
                scores.append(score)
        return scores

    def supervised_states(self, rows: Sequence[Encoded]) -> Iterator[tuple[list[Encoded], list[Tensor], list[Tensor]]]:
        """The states before the head that predict supervised tokens, batch by batch, for callers that compute more than scores.

        The model is in scoring mode only while a batch is computed, not while the caller works with it.

        Yields:
            The rows of a batch, and for each [T, d] states and the [T] tokens that they predict.

        Raises:
            ModelError: a row alone does not fit into the device's memory.
        """
        for members, batch in in_fitting_batches(rows, self.memory.token_budget, self._states):
            if batch is None:
                length = len(members[0].input_ids)
                raise ModelError(f"out of memory for a row of {length} tokens alone; take shorter rows")
            states, tokens = zip(*batch.supervised.by_row(), strict=True)
            yield members, list(states), list(tokens)

    def _states(self, rows: Sequence[Encoded], token_budget: int) -> Iterator[tuple[list[Encoded], BatchStates]]:
        return states_in_batches(self.loaded.model, rows, token_budget, self.packing)

    def _score_batches(self, rows: Sequence[Encoded], token_budget: int, progress: Progress) -> Iterator[tuple[list[Encoded], Score]]:
        """Each row and its score, in the order in which they are computed. The host works on a batch while the device computes the next."""
        nlls = np.empty(0, dtype=np.float32)  # of the previous row: the next one may share its first tokens
        for batch in one_behind(self._computed(rows, token_budget)):
            for row, (score, own) in zip(batch.rows, self._finished(batch, nlls), strict=True):
                yield [row], score
                nlls = own
            progress.advance(sum(row.is_first for row in batch.rows), sum(len(row.input_ids) for row in batch.rows))

    def _computed(self, rows: Sequence[Encoded], token_budget: int) -> Iterator[_Computed]:
        """The device's part: one batch after the other, without waiting for their results."""
        for members, batch in self._states(rows, token_budget):
            supervised, others = batch.supervised, batch.unsupervised
            losses = self.head.losses(others.states, others.tokens)
            found = self.target.gradients(supervised.states, supervised.tokens, supervised.lengths)
            sides = [side for pair in found.gram_pairs for side in (pair.left, pair.right)]
            copy = HostCopy([losses, found.losses, *sides], self.head.device)
            yield _Computed(members, batch.n_shared, others.positions, supervised.positions, found.members, copy)

    def _finished(self, batch: _Computed, nlls: NDArray[np.float32]) -> Iterator[tuple[Score, NDArray[np.float32]]]:
        """The host's part: each row's score and the [S] negative log-likelihoods of its tokens.

        Args:
            nlls: of the row before the first.
        """
        losses, supervised_losses, *sides = batch.copy.wait()
        members: list[list[int]] = []
        pairs: list[spectrum.GramPair] = []
        for group, left, right in zip(batch.groups, sides[::2], sides[1::2], strict=True):
            counts = [self.target.n_values(len(batch.supervised_at[i])) for i in group]
            for n in sorted(set(counts)):  # without padding: solving takes time with the third power of the size
                at = [place for place, count in enumerate(counts) if count == n]
                members.append([group[place] for place in at])
                pairs.append(spectrum.GramPair(left[at, :n, :n], right[at, :n, :n]))
        solved = map(_spectra, pairs) if self.solving is None else self.solving.map(_spectra, pairs)
        spectra = {i: found for group, every in zip(members, solved, strict=True) for i, found in zip(group, every, strict=True)}
        parts = _split(losses, batch.unsupervised_at), _split(supervised_losses, batch.supervised_at)
        for i, (row, loss, supervised_loss) in enumerate(zip(batch.rows, *parts, strict=True)):
            previous, nlls = nlls, np.zeros(len(row.input_ids), dtype=np.float32)  # 0 for the first token
            nlls[: batch.n_shared[i]] = previous[: batch.n_shared[i]]
            nlls[batch.unsupervised_at[i]] = loss
            nlls[batch.supervised_at[i]] = supervised_loss
            yield self._score(row, spectra[i], supervised_loss, nlls), nlls

    def _score(self, row: Encoded, found: _Spectrum | None, losses: NDArray[np.float32], nlls: NDArray[np.float32]) -> Score:
        """One row's score from its spectrum, the [T] losses of its supervised tokens and the [S] of all of its tokens."""
        if found is None:  # an overflow in the model, not an error in the row
            reason = f"the model's logits are not finite in {self.dtype}; try --dtype float32"
            return Score(row.row, "error", n_tokens=row.n_tokens, reason=reason)
        supervised = np.asarray(row.labels) != IGNORED
        supervised[0] = False
        tokens, specials = np.asarray(row.input_ids, dtype=np.int32), np.asarray(row.spelled_specials, dtype=np.int32)
        surprises = Surprises(tokens, nlls.clip(0, FLOAT16_MAX).astype(np.float16), supervised, specials)
        loss = float(losses.mean(dtype=np.float64))
        return Score(row.row, "scored", found.entropy, row.n_tokens, loss, row.note, row.n_cut, surprises, found.shares)


@dataclass(frozen=True)
class _Computed:
    """A batch whose results are on their way to the host."""

    rows: list[Encoded]
    n_shared: list[int]
    """See `BatchStates`."""
    unsupervised_at: list[NDArray[np.int64]]
    """Positions of each row's tokens whose losses are known but not supervised."""
    supervised_at: list[NDArray[np.int64]]
    """Positions of each row's supervised tokens."""
    groups: list[list[int]]
    """See `Gradients.members`."""
    copy: HostCopy
    """Losses of the unsupervised tokens, of the supervised tokens, and both sides of each group's Gram matrices."""


@dataclass(frozen=True)
class _Spectrum:
    """The singular values of one row's gradient."""

    entropy: float
    shares: NDArray[np.float32]
    """See `Score.spectrum`."""


def _spectra(pair: spectrum.GramPair) -> list[_Spectrum | None]:
    """The spectra of rows, None for one that is not finite; `pair` has matrices [rows, n, n]."""
    values = spectrum.solve(pair)
    finite = values.isfinite().all(-1)
    values = values.masked_fill(~finite[:, None], 0)
    top = values[:, : spectrum.RANK]
    shares = (top / top.sum(-1, keepdim=True).clamp_min(spectrum.FLOOR)).float().numpy()
    found = zip(finite.tolist(), spectrum.entropy(values).tolist(), shares, strict=True)
    return [_Spectrum(entropy, part) if good else None for good, entropy, part in found]


def _split(losses: Tensor, positions: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """The losses of each row, of those of all rows one behind the other."""
    return np.split(losses.float().numpy(), np.cumsum([len(part) for part in positions])[:-1])
