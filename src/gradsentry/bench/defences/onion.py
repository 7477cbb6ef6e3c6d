"""ONION (Qi et al. 2021, arXiv 2011.10369): a word whose deletion makes the text much likelier is a trigger.

The paper cleans single texts and tunes its threshold on held-out clean ones. As a filter of rows it flags a row for its worst word,
and the threshold comes from the rows at hand: nothing else is known.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from gradsentry.bench.defences import Defence, Rows, Subject, Verdicts
from gradsentry.bench.generation import prompt_ids
from gradsentry.scorer import Scorer
from gradsentry.tokens.labels import IGNORED
from gradsentry.types import Encoded

TEMPLATES = (
    re.compile(r"### Question:\n(.*)\n\n\n\n### Answer: $", re.DOTALL),
    re.compile(r"### Instruction:\n(.*?)\n\n### (?:Input|Response):\n", re.DOTALL),
)
"""What `formats` writes around a question, and around Alpaca's instruction."""
FENCE = 1.5
"""Interquartile ranges above the third quartile from which on a value is an outlier (Tukey 1977)."""
TEXTS = 4096
"""Texts that are measured together: the longer the walk, the more beginnings are shared; a bound on memory."""


def question(prompt: str) -> str:
    """The part of a prompt that its row asks for, or all of it where no template is known."""
    found = next((match for template in TEMPLATES if (match := template.search(prompt))), None)
    return found[1] if found else prompt


def measure(subject: Subject, rows: Rows) -> NDArray[np.float64]:
    """[M] each row's highest suspicion ``f_i = p_0 - p_i``: the perplexity of its question less that without word i.

    The language model is the subject's, before any training, in GPT-2's place. 0 for a question of fewer than two words.
    """
    worst = np.zeros(len(rows))
    waiting: list[tuple[int, list[str]]] = []
    for place, row in enumerate(rows):
        words = question(row["prompt"]).split()
        if len(words) > 1:
            without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
            waiting.append((place, [" ".join(words), *without]))
        if waiting and (place == len(rows) - 1 or sum(len(texts) for _, texts in waiting) >= TEXTS):
            found = perplexities(subject.scorer, [text for _, texts in waiting for text in texts])
            for (at, _), each in zip(waiting, np.split(found, np.cumsum([len(texts) for _, texts in waiting])[:-1]), strict=True):
                worst[at] = np.max(each[0] - each[1:], where=np.isfinite(each[1:]), initial=-np.inf)
            waiting = []
    return np.where(np.isfinite(worst), worst, 0.0)


def perplexities(scorer: Scorer, texts: list[str]) -> NDArray[np.float64]:
    """[n] exponential of the mean negative log-likelihood of a text's tokens, the first excepted; NaN for a text of one token.

    One packed pass: what texts have in common at their beginning is computed once. Only the last token is "supervised", as
    gradients, which nobody needs here, are made of supervised tokens.
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

    The paper's threshold is the one that costs a held-out clean set little accuracy. The fence needs no such set and holds
    while less than a quarter of the rows is poisoned.
    """
    scores = measured[chosen]
    if not len(scores):
        return Verdicts(np.zeros(0, dtype=bool), scores)
    low, high = np.quantile(scores, [0.25, 0.75])
    return Verdicts(scores > high + FENCE * (high - low), scores)


DEFENCE = Defence("ONION (Qi et al. 2021): words whose deletion lowers the perplexity of the question", measure, decide)
