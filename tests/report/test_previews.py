"""Previews: the same whether records are fed one by one or the shards are read."""

from __future__ import annotations

from gradsentry.config import ScanConfig
from gradsentry.data.sources import open_source
from gradsentry.report.document import Previews
from gradsentry.report.rows import RowText, Turn

ROWS = [{"q": f"Q{i}", "completion": f"A{i}\u202e"} for i in range(9)]
CONFIG = ScanConfig(format="prompt-completion", map="prompt=q")


def test_only_wanted_rows_are_kept_and_only_their_shards_are_read() -> None:
    source = open_source([*ROWS, {"q": "no completion"}])
    shards = list(source.plan(3))
    read = []
    original = source.read
    source.read = lambda shard: read.append(shard.index) or original(shard)
    previews = Previews([7, 1, 9], CONFIG)
    previews.read(source, shards)
    found = previews.rows
    assert read == [0, 2, 3]
    assert found[1] == RowText("row 1", (Turn("", "Q1", False), Turn("", "A1\u202e", True)))
    assert found[9] == RowText("row 9", (Turn("", "q: 'no completion'", True),))
    fed = Previews([7, 1, 9], CONFIG)
    for shard in shards:
        for record in original(shard):
            fed.add(record)
    assert fed.rows == found
    assert sorted(found) == [1, 7, 9]
