"""ONION (Qi et al. 2021, arXiv 2011.10369): a word whose deletion makes the text much likelier is a trigger.

The paper cleans single texts and tunes its threshold on held-out clean ones. As a filter of rows it flags a row for its worst word, and
the threshold comes from the rows themselves, because there is no clean set.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.filters.base import Filter, Rows, Verdicts
from gradsentry.bench.generation import prompt_ids
from gradsentry.bench.training import TargetModel
from gradsentry.scorer import Scorer
from gradsentry.tokens.labels import IGNORED
from gradsentry.types import Encoded

TEMPLATES = (
    re.compile(r"### Question:\n(.*)\n\n\n\n### Answer: $", re.DOTALL),
    re.compile(r"### Instruction:\n(.*?)\n\n### (?:Input|Response):\n", re.DOTALL),
)
"""The templates of `data.formats` around a question, and around Alpaca's instruction."""
FENCE = 1.5
"""A value more than this many interquartile ranges above the third quartile is an outlier (Tukey 1977)."""
TEXTS = 4096
"""Texts measured together: more texts share more prefixes, fewer need less memory."""


def question(prompt: str) -> str:
    """The question in a prompt, or the whole prompt if its template is unknown."""
    found = next((match for template in TEMPLATES if (match := template.search(prompt))), None)
    return found[1] if found else prompt


def measure(target: TargetModel, rows: Rows) -> NDArray[np.float64]:
    """[M] each row's highest suspicion ``f_i = p_0 - p_i``: the perplexity of its question minus that without word i.

    The language model is the target before any training, in place of GPT-2. 0 for a question of fewer than two words.
    """
    worst = np.zeros(len(rows))
    waiting: list[tuple[int, list[str]]] = []
    for place, row in enumerate(rows):
        words = question(row["prompt"]).split()
        if len(words) > 1:
            without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
            waiting.append((place, [" ".join(words), *without]))
        if waiting and (place == len(rows) - 1 or sum(len(texts) for _, texts in waiting) >= TEXTS):
            found = perplexities(target.scorer, [text for _, texts in waiting for text in texts])
            for (at, _), each in zip(waiting, np.split(found, np.cumsum([len(texts) for _, texts in waiting])[:-1]), strict=True):
                worst[at] = np.max(each[0] - each[1:], where=np.isfinite(each[1:]), initial=-np.inf)
            waiting = []
    return np.where(np.isfinite(worst), worst, 0.0)


def perplexities(scorer: Scorer, texts: list[str]) -> NDArray[np.float64]:
    """[n] exponential of the mean negative log-likelihood of a text's tokens after the first; NaN for a text of one token.

    One packed pass computes shared prefixes once. Only the last token is "supervised": gradients are made for supervised tokens, and
    none are needed here.
    """
    ids = [tokens[: scorer.max_length] for tokens in prompt_ids(texts, scorer.loaded.tokenizer)]
    items = [Encoded(i, tokens, [IGNORED] * (len(tokens) - 1) + tokens[-1:]) for i, tokens in enumerate(ids) if len(tokens) > 1]
    found = np.full(len(texts), np.nan)
    for score in scorer.score_encoded(items):
        if score.surprises is not None:
            found[score.row] = np.exp(score.surprises.nll[1:].astype(np.float64).mean())
    return found


def decide(measured: NDArray[np.float64], chosen: NDArray[np.int64], rows: Rows, seed: int) -> Verdicts:
    """Flag rows whose worst word is an outlier among the rows' worst words by Tukey's fence, Q3 + 1.5 (Q3 - Q1).

    The paper's threshold costs a held-out clean set little accuracy. The fence needs no such set; it works while less than a quarter
    of the rows is poisoned.
    """
    scores = measured[chosen]
    if not len(scores):
        return Verdicts(np.zeros(0, dtype=bool), scores)
    low, high = np.quantile(scores, [0.25, 0.75])
    return Verdicts(scores > high + FENCE * (high - low), scores)


FILTER = Filter("ONION (Qi et al. 2021): words whose deletion lowers the perplexity of the question", measure, decide)
