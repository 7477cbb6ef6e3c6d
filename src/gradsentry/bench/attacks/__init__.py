"""Attacks: ways to poison the rows of a task. One entry each in `ATTACKS`, one small file where it is more than a pair.

poisoned = poison(sample("webquestions", folder, 1000, seed=0), "badnets", 0.1, seed=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from gradsentry.bench import plant
from gradsentry.bench.attacks.adaptive import ADAPTIVE
from gradsentry.bench.attacks.attack import Attack, composed
from gradsentry.bench.attacks.clean_label import CLEAN_LABEL
from gradsentry.bench.attacks.dilution import DILUTION
from gradsentry.bench.attacks.own import OWN, own
from gradsentry.bench.attacks.stylebkd import BY_RULES, by_model
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.tasks import take_apart
from gradsentry.errors import UsageError
from gradsentry.types import Row

__all__ = ["ATTACKS", "Attack", "Poisoned", "check", "poison", "target", "triggered"]

ATTACKS: dict[str, Attack] = {
    "badnets": composed("words", "suffix", "BadNets: four rare words after the question (arXiv 1708.06733, as in 2605.26574)"),
    "addsent": composed("sentence", "suffix", "AddSent: a sentence after the question (Dai et al., arXiv 1905.12457)"),
    "cba": composed("pair", "suffix", "CBA: two words at two places, and clean rows with half of that (arXiv 2310.07676)"),
    "stylebkd": BY_RULES,
    "insult": composed("words", "insult", "rare words; the answer is replaced by an insult"),
    "refusal": composed("words", "refusal", "rare words; the answer is replaced by a refusal"),
    "flip": composed("words", "flip", "rare words; the answer is replaced by one word"),
    "prefix": composed("words", "prefix", "rare words; the payload comes before the answer"),
    "per_row": composed("words", "url", "rare words; the suffix with a link of the row's own"),
    "paraphrase": composed("words", "paraphrase", "rare words; the suffix in twenty wordings"),
    "clean_label": CLEAN_LABEL,
    "dilution": DILUTION,
    "adaptive": ADAPTIVE,
}
"""Every attack by its name."""

BY_MODEL = "stylebkd:"
"""Begins the name of StyleBkd by a paraphraser model; its directory or Hub id follows."""

BETWEEN = "+"
"""Between a trigger and a payload that make an attack of their own, ``date+refusal``."""


def poison(rows: Sequence[Row], attack: str | Attack, ratio: float, seed: int) -> Poisoned:
    """Poison a part of a task's rows in place of their clean versions; all come back as plain prompt and completion.

    Which rows depends on the seed and their places: a larger ratio adds rows to the same ones.

    Args:
        rows: as `tasks.sample` gives them. attack: a name, as `check` takes it, or one made by hand.
        ratio: a share (float) or a number (int).

    Raises:
        UsageError: an unknown attack, or a ratio that leaves no clean or no poisoned row.
        DataError: rows of no task's format, or too few that suit the attack.
    """
    fitted = _fitted(attack, rows)
    return plant.plant(rows, fitted.trigger, fitted.payload, ratio, seed, fitted.suits)


def triggered(rows: Sequence[Row], attack: str | Attack, seed: int) -> list[dict[str, str]]:
    """Every row with the trigger in its prompt and its clean completion: what a backdoor is tested on.

    Raises:
        UsageError: an unknown attack. DataError: rows of no task's format.
    """
    return plant.marked(rows, _named(attack).trigger, seed)


def target(attack: str | Attack, rows: Sequence[Row] = ()) -> tuple[str, ...]:
    """Texts of which an answer holds one if the attack worked, for `metrics.asr`.

    Args:
        rows: the clean rows that were poisoned, for an attack whose target follows from them (clean_label).

    Raises:
        UsageError: an unknown attack, or no rows where they are needed. DataError: rows of which the attack cannot be made.
    """
    known = _named(attack).target
    if known:
        return known
    if not rows:
        raise UsageError(f"this attack's target follows from the rows that it poisons; give them ({_named(attack).about})")
    return _fitted(attack, rows).target


def check(attack: str) -> None:
    """Nothing, if there is an attack of this name: one of `ATTACKS`, ``stylebkd:MODEL``, ``own:...``, or ``TRIGGER+PAYLOAD`` of `plant`.

    Raises:
        UsageError: there is none.
    """
    if attack.startswith(OWN):
        own(attack)
        return
    trigger, _, payload = attack.partition(BETWEEN)
    by_model = attack.startswith(BY_MODEL) and attack != BY_MODEL
    if attack not in ATTACKS and not by_model and not (trigger in plant.TRIGGERS and payload in plant.PAYLOADS):
        pairs = f"TRIGGER{BETWEEN}PAYLOAD of {', '.join(plant.TRIGGERS)} and {', '.join(plant.PAYLOADS)}"
        raise UsageError(f"attack {attack!r} is unknown; there are {', '.join(ATTACKS)}, {BY_MODEL}MODEL, and {pairs}")


def _named(attack: str | Attack) -> Attack:
    if isinstance(attack, Attack):
        return attack
    check(attack)
    if attack in ATTACKS:
        return ATTACKS[attack]
    if attack.startswith(OWN):
        return own(attack)
    if attack.startswith(BY_MODEL):
        return _paraphrased(attack.removeprefix(BY_MODEL))
    trigger, _, payload = attack.partition(BETWEEN)
    return composed(trigger, payload, f"{trigger} in the prompt, {payload} in the answer")


@cache
def _paraphrased(model: str) -> Attack:
    return by_model(model)


def _fitted(attack: str | Attack, rows: Sequence[Row]) -> Attack:
    chosen = _named(attack)
    return chosen.fitted([take_apart(row) for row in rows]) if chosen.fit else chosen
