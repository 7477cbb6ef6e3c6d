"""The tasks' rows from the Hub: only where they are asked for, through `datasets`, which keeps what it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gradsentry.bench.tasks.files import HUB_IDS, Rows, conversation, question
from gradsentry.errors import DataError, UsageError
from gradsentry.sources.stream import problems

Part = Literal["train", "test"]


@dataclass(frozen=True)
class OnHub:
    """How one of the Hub's data sets is read."""

    rows: Callable[[Mapping[str, Any]], Rows]
    """A record's rows."""
    test: str = ""
    """The split that holds the test rows; empty: it has none."""
    config: str | None = None
    """Of the data set's configurations, the one that is read."""


def _dolly(record: Mapping[str, Any]) -> Rows:
    return [{"instruction": record["instruction"], "input": record["context"], "output": record["response"]}]


def _freebaseqa(record: Mapping[str, Any]) -> Rows:
    return [question(record["RawQuestion"], list(dict.fromkeys(_texts(record["Parses"], "AnswersName"))))]


def _texts(value: Any, field: str) -> Iterator[str]:
    """All texts under `field`, however deep: `datasets` turns lists of records into records of lists, or does not."""
    inner = [*value.items()] if isinstance(value, Mapping) else [("", item) for item in value] if isinstance(value, list) else []
    for name, item in inner:
        if name == field:
            yield from _leaves(item)
        else:
            yield from _texts(item, field)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield str(value)


ON_HUB = {
    "webquestions": OnHub(lambda record: [question(record["question"], record["answers"])], test="test"),
    "freebaseqa": OnHub(_freebaseqa, test="test"),
    "nq": OnHub(lambda record: [question(record["question"], record["answer"])], test="validation"),
    "gsm8k": OnHub(lambda record: [{"prompt": record["question"], "completion": record["answer"]}], test="test", config="main"),
    "dolly": OnHub(_dolly),
    "coqa": OnHub(conversation, test="validation"),
}
"""Task -> its data set. It is not always the one that the files hold: NQ comes without passages, Dolly whole, and FreebaseQA's
train rows are its train questions."""


def from_hub(task: str, part: Part = "train") -> Rows:
    """A task's train or test rows as the Hub has them, in the columns that `TASKS` gives. Reads the network.

    Raises:
        UsageError: the Hub does not have the task, or not this part of it.
        DataError: the data set cannot be reached, or has other fields.
    """
    if task not in ON_HUB:
        raise UsageError(f"task {task!r} is not on the Hub, as far as gradsentry knows; there are {', '.join(ON_HUB)}; give a folder")
    chosen, name = ON_HUB[task], HUB_IDS[task]
    split = chosen.test if part == "test" else "train"
    if not split:
        raise UsageError(f"{name} has no test rows; hold some out of the train rows")
    import datasets

    try:
        records = datasets.load_dataset(name, chosen.config, split=split)
    except problems() as error:
        cause = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise DataError(
            f"{task}: {name} cannot be had from the Hub: {cause}; check the connection, give the folder that holds {task}/, or leave it out"
        ) from error
    try:
        return [row for record in records for row in chosen.rows(record)]  # pyright: ignore[reportArgumentType]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{task}: {name} has other fields than expected ({error!r}); give the folder that holds {task}/") from None
