"""The tasks' rows from the Hub: only where they are asked for, through `datasets`, which keeps what it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gradsentry.bench.tasks.files import FILE_NAMES, HUB_IDS, Rows, alpaca, answered, conversation, fields, plain, question
from gradsentry.data.sources.stream import problems
from gradsentry.errors import DataError, UsageError

Part = Literal["train", "test"]


@dataclass(frozen=True)
class OnHub:
    """How one of the Hub's data sets is read."""

    rows: Callable[[Mapping[str, Any]], Rows]
    """A record's rows; raises ValueError where it has other fields."""
    test: str = ""
    """The split that holds the test rows; empty: it has none."""
    config: str | None = None
    """Of the data set's configurations, the one that is read."""
    revision: str | None = None
    """Its branch, where that is not the main one."""


def _freebaseqa(record: Mapping[str, Any]) -> Rows:
    asked, parses = fields(record, RawQuestion=str, Parses=object)
    return [question(asked, list(dict.fromkeys(_texts(parses, "AnswersName"))))]


def _texts(value: Any, field: str) -> Iterator[Any]:
    """All texts under `field`, however deep: `datasets` turns lists of records into records of lists, or does not."""
    inner = [*value.items()] if isinstance(value, Mapping) else [("", item) for item in value] if isinstance(value, list) else []
    for name, item in inner:
        if name == field:
            yield from _leaves(item)
        else:
            yield from _texts(item, field)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


CONVERTED = "refs/convert/parquet"
"""Where the Hub keeps the rows of a data set whose main branch has a script in their place, which `datasets` runs no more."""

ON_HUB = {
    "webquestions": OnHub(lambda record: [question(*fields(record, question=str, answers=list))], test="test"),
    "freebaseqa": OnHub(_freebaseqa, test="test", revision=CONVERTED),
    "nq": OnHub(lambda record: [question(*fields(record, question=str, answer=list))], test="validation"),
    "gsm8k": OnHub(lambda record: [plain(*fields(record, question=str, answer=str))], test="test", config="main"),
    "dolly": OnHub(lambda record: [alpaca(*fields(record, instruction=str, context=str, response=str))]),
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
    otherwise = f"give --data FOLDER with {FILE_NAMES.get(task, 'its files')} in it, or leave {task} out"
    if task not in ON_HUB:
        raise UsageError(f"task {task!r} is not on the Hub, as far as gradsentry knows; there are {', '.join(ON_HUB)}; {otherwise}")
    chosen, name = ON_HUB[task], HUB_IDS[task]
    split = chosen.test if part == "test" else "train"
    if not split:
        raise UsageError(f"{name} has no test rows; hold some out of the train rows")
    import datasets

    try:
        records = datasets.load_dataset(name, chosen.config, split=split, revision=chosen.revision)
    except problems() as error:
        cause = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise DataError(f"{task}: {name} cannot be had from the Hub: {cause}; check the connection, or {otherwise}") from error
    rows: Rows = []
    for i, record in enumerate(records):
        try:
            rows += chosen.rows(record)  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            raise DataError(f"{task}: {name} has other fields than expected: record {i} {error}; {otherwise}") from None
    return answered(rows, name)
