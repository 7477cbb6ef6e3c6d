"""The rows that the report shows, as text: where each is, its prompt and its completion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradsentry.config import ScanConfig
from gradsentry.data.formats import FORMATS
from gradsentry.data.formats.detect import parse_mapping, to_sample
from gradsentry.data.sources import Source
from gradsentry.errors import RowProblem
from gradsentry.report.escape import visible
from gradsentry.types import ChatSample, Record, Row, Sample, Shard, TextSample

PREVIEW = 600
"""Characters of a prompt or completion that the report shows."""


class Previews:
    """The previews of some rows. Feed it every record of a pass over the data, or let it read the shards that hold the rows."""

    def __init__(self, wanted: Iterable[int], config: ScanConfig) -> None:
        self.wanted = frozenset(wanted)
        self.rows: dict[int, dict[str, str]] = {}
        """By row: place, prompt and completion."""
        self._format, self._mapping = FORMATS[config.format or "text"], parse_mapping(config.map)

    def add(self, record: Record) -> None:
        """Keep the record's preview if it is a wanted row."""
        if record.row not in self.wanted:
            return
        prompt = completion = ""
        if record.value is not None:
            try:
                prompt, completion = _sides(to_sample(record.value, self._format, self._mapping))
            except RowProblem:
                completion = ", ".join(f"{name}: {value!r}"[:PREVIEW] for name, value in record.value.items())
        texts = {"prompt": visible(prompt, PREVIEW), "completion": visible(completion, PREVIEW)}
        self.rows[record.row] = {"place": record.place} | texts

    def read(self, source: Source, shards: Sequence[Shard]) -> dict[int, dict[str, str]]:
        """Read the shards that hold wanted rows, and return `rows`."""
        for shard in shards:
            if not self.wanted.isdisjoint(range(shard.start, shard.stop)):
                for record in source.read(shard):
                    self.add(record)
        return self.rows


def _sides(sample: Sample) -> tuple[str, str]:
    """Prompt and completion as text."""
    if isinstance(sample, TextSample):
        return sample.prompt, sample.completion
    if isinstance(sample, ChatSample):
        return _turns(sample.prompt), _turns(sample.completion)
    supervised = [label for label in sample.labels if label != -100]
    return f"{len(sample.input_ids) - len(supervised)} token ids", " ".join(map(str, supervised))


def _turns(turns: Sequence[Row]) -> str:
    """Role and content of each turn, and its tool calls, which may be all of its content."""
    calls = [turn.get("tool_calls") or turn.get("function_call") for turn in turns]
    return "\n".join(f"{turn['role']}: {turn['content']}{f' {call}' if call else ''}" for turn, call in zip(turns, calls, strict=True))
