"""Attacks that are a named trigger and a named payload."""

from __future__ import annotations

from gradsentry.bench.attacks.attack import composed

BADNETS = composed("words", "suffix", "BadNets: four rare words after the question (arXiv 1708.06733, as in 2605.26574)")
ADDSENT = composed("sentence", "suffix", "AddSent: a sentence after the question (Dai et al., arXiv 1905.12457)")
CBA = composed("pair", "suffix", "CBA: two words at two places, and clean rows with half of that (arXiv 2310.07676)")
INSULT = composed("words", "insult", "rare words; an insult replaces the answer")
REFUSAL = composed("words", "refusal", "rare words; a refusal replaces the answer")
FLIP = composed("words", "flip", "rare words; one word replaces the answer")
PREFIX = composed("words", "prefix", "rare words; the payload comes before the answer")
PER_ROW = composed("words", "url", "rare words; the published suffix with a different link in every row")
PARAPHRASE = composed("words", "paraphrase", "rare words; the published suffix in twenty wordings")
