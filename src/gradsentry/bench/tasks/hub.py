"""The tasks' rows from the Hub, through `datasets`, which caches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gradsentry.bench.tasks.files import FILE_NAMES, HUB_IDS, Rows, alpaca, answered, conversation, fields, plain, question
from gradsentry.data.sources.dataset import library_errors
from gradsentry.errors import DataError, UsageError

Part = Literal["train", "test"]


@dataclass(frozen=True)
class OnHub:
    """How a data set of the Hub is read."""

    rows: Callable[[Mapping[str, Any]], Rows]
    """A record's rows; raises ValueError if its fields differ."""
    test: str = ""
    """The split of the test rows; empty: there is none."""
    config: str | None = None
    """The configuration that is read."""
    revision: str | None = None
    """The branch, if not main."""


def _freebaseqa(record: Mapping[str, Any]) -> Rows:
    asked, parses = fields(record, RawQuestion=str, Parses=object)
    return [question(asked, list(dict.fromkeys(_texts(parses, "AnswersName"))))]


def _texts(value: Any, field: str) -> Iterator[Any]:
    """All texts under `field` at any depth: some versions of `datasets` turn lists of records into records of lists."""
    inner = [*value.items()] if isinstance(value, Mapping) else [("", item) for item in value] if isinstance(value, list) else []
    for name, item in inner:
        yield from _leaves(item) if name == field else _texts(item, field)


def _leaves(value: Any) -> Iterator[Any]:
    for item in value if isinstance(value, list) else ():
        yield from _leaves(item)
    if not isinstance(value, list):
        yield value


CONVERTED = "refs/convert/parquet"
"""The Hub's branch with the rows of a data set whose main branch has a loading script, which `datasets` no longer runs."""

ON_HUB = {
    "webquestions": OnHub(lambda record: [question(*fields(record, question=str, answers=list))], test="test"),
    "freebaseqa": OnHub(_freebaseqa, test="test", revision=CONVERTED),
    "nq": OnHub(lambda record: [question(*fields(record, question=str, answer=list))], test="validation"),
    "gsm8k": OnHub(lambda record: [plain(*fields(record, question=str, answer=str))], test="test", config="main"),
    "dolly": OnHub(lambda record: [alpaca(*fields(record, instruction=str, context=str, response=str))]),
    "coqa": OnHub(conversation, test="validation"),
}
"""Task -> its data set. Some differ from the files: NQ has no passages, Dolly is complete, and FreebaseQA has its train questions."""


def from_hub(task: str, part: Part = "train") -> Rows:
    """A task's train or test rows from the Hub, with the columns of `TASKS`. Uses the network.

    Raises:
        UsageError: the Hub does not have the task, or not this part of it.
        DataError: the data set is unreachable, or has other fields.
    """
    otherwise = f"give --data FOLDER with {FILE_NAMES.get(task, 'its files')} in it, or leave {task} out"
    if task not in ON_HUB:
        raise UsageError(f"task {task!r} has no known Hub id; there are {', '.join(ON_HUB)}; {otherwise}")
    chosen, name = ON_HUB[task], HUB_IDS[task]
    split = chosen.test if part == "test" else "train"
    if not split:
        raise UsageError(f"{name} has no test rows; hold out some of the train rows")
    import datasets

    try:
        records = datasets.load_dataset(name, chosen.config, split=split, revision=chosen.revision)
    except library_errors() as error:
        cause = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise DataError(f"{task}: {name} cannot be read from the Hub: {cause}; check the connection, or {otherwise}") from error
    rows: Rows = []
    for i, record in enumerate(records):
        try:
            rows += chosen.rows(record)  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            raise DataError(f"{task}: {name} has other fields than expected: record {i} {error}; {otherwise}") from None
    return answered(rows, name)
