"""Attacks: ways to poison the rows of a task. One small file each, one line in `ATTACKS`.

poisoned = poison(sample("webquestions", folder, 1000, seed=0), "badnets", 0.1, seed=0)
"""

from __future__ import annotations

from collections.abc import Sequence

from gradsentry.bench import plant
from gradsentry.bench.attacks.attack import Attack, composed
from gradsentry.bench.plant import Poisoned
from gradsentry.bench.registry import Registry
from gradsentry.bench.tasks import take_apart
from gradsentry.errors import UsageError
from gradsentry.types import Row

BY_MODEL = "stylebkd:"
"""Begins the name of StyleBkd by a paraphraser model; its directory or Hub id follows."""

BETWEEN = "+"
"""Between a trigger and a payload that make an attack: ``date+refusal``."""

ATTACKS: Registry[Attack] = Registry(
    "attack",
    {
        "badnets": composed("words", "suffix", "BadNets: four rare words after the question (arXiv 1708.06733, as in 2605.26574)"),
        "addsent": composed("sentence", "suffix", "AddSent: a sentence after the question (Dai et al., arXiv 1905.12457)"),
        "cba": composed("pair", "suffix", "CBA: two words at two places, and clean rows with half of that (arXiv 2310.07676)"),
        "stylebkd": "attacks.stylebkd:BY_RULES",
        "insult": composed("words", "insult", "rare words; an insult replaces the answer"),
        "refusal": composed("words", "refusal", "rare words; a refusal replaces the answer"),
        "flip": composed("words", "flip", "rare words; one word replaces the answer"),
        "prefix": composed("words", "prefix", "rare words; the payload comes before the answer"),
        "per_row": composed("words", "url", "rare words; the published suffix with a different link in every row"),
        "paraphrase": composed("words", "paraphrase", "rare words; the published suffix in twenty wordings"),
        "clean_label": "attacks.clean_label:CLEAN_LABEL",
        "dilution": "attacks.dilution:DILUTION",
        "adaptive": "attacks.adaptive:ADAPTIVE",
    },
    also=f"; also {BY_MODEL}MODEL, and TRIGGER{BETWEEN}PAYLOAD of {', '.join(plant.TRIGGERS)} and {', '.join(plant.PAYLOADS)}",
)


def poison(rows: Sequence[Row], attack: str | Attack, ratio: float, seed: int) -> Poisoned:
    """Poison a part of a task's rows in place of their clean versions; all rows come back as plain prompt and completion.

    The seed and a row's position decide which rows are poisoned. A larger ratio poisons the same rows and more.

    Args:
        rows: as `tasks.sample` gives them.
        attack: a name that `find` knows, or an `Attack`.
        ratio: a share (float) or a number (int).

    Raises:
        UsageError: an unknown attack, or a ratio that leaves no clean or no poisoned row.
        DataError: rows whose format no task has, or too few that suit the attack.
    """
    fitted = _fitted(attack, rows)
    return plant.plant(rows, fitted.trigger, fitted.payload, ratio, seed, fitted.suits)


def triggered(rows: Sequence[Row], attack: str | Attack, seed: int) -> list[dict[str, str]]:
    """Every row with the trigger in its prompt and its clean answer: what a backdoor is tested on.

    Raises:
        UsageError: an unknown attack. DataError: rows whose format no task has.
    """
    return plant.add_trigger(rows, find(attack).trigger, seed)


def target_texts(attack: str | Attack, rows: Sequence[Row] = ()) -> tuple[str, ...]:
    """Texts of which an answer holds one if the attack worked, for `metrics.asr`.

    Args:
        rows: the clean rows that were poisoned, for an attack whose target depends on them (clean_label).

    Raises:
        UsageError: an unknown attack, or no rows where they are needed. DataError: rows that do not allow the attack.
    """
    found = find(attack)
    if not found.target and not rows:
        raise UsageError(f"the target of this attack depends on the rows that it poisons; pass them ({found.about})")
    return found.target or _fitted(found, rows).target


def find(attack: str | Attack) -> Attack:
    """The attack of this name: one of `ATTACKS`, ``stylebkd:MODEL``, or ``TRIGGER+PAYLOAD``.

    Raises:
        UsageError: there is none. ModelError: the paraphraser cannot be loaded.
    """
    if isinstance(attack, Attack):
        return attack
    trigger, between, payload = attack.partition(BETWEEN)
    if needs_model(attack):
        from gradsentry.bench.attacks.stylebkd import by_model

        return by_model(attack.removeprefix(BY_MODEL))
    if attack not in ATTACKS and between and trigger in plant.TRIGGERS:
        return composed(trigger, payload, f"{trigger} in the prompt, {payload} in the answer")
    return ATTACKS[attack]


def needs_model(attack: str) -> bool:
    """Whether `find` loads a paraphraser for this name."""
    return attack.startswith(BY_MODEL) and attack != BY_MODEL


def _fitted(attack: str | Attack, rows: Sequence[Row]) -> Attack:
    chosen = find(attack)
    return chosen.fit(chosen, [take_apart(row) for row in rows]) if chosen.fit else chosen
