"""Whatever bytes a text file holds, it is refused as a whole or every row of it is read and kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.data.sources import open_source
from gradsentry.errors import DataError

BOM = b"\xef\xbb\xbf"
PIECES = [b"\xff", b"\xc3\xa9", b"\r\n", b"\n", b"\r", b"\0", b'{"a":1}', b'{"a":', b'"', b'""', b"\\"]
PIECES += [b"[", b"]", b"{", b"}", b",", b"a", b" ", b"\t", b"1", b"a,b\n"]
ANY_BYTES = st.builds(lambda bom, body: bom + b"".join(body), st.sampled_from([b"", BOM]), st.lists(st.sampled_from(PIECES)))


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv", "data.tsv"])
@given(data=ANY_BYTES, shard_rows=st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_no_row_is_lost(tmp_path_factory, name, data, shard_rows):
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(data)
    try:
        source = open_source(folder / name)
        shards = source.plan(shard_rows)
    except DataError:
        return
    records = [record for shard in shards for record in source.read(shard)]
    assert [record.row for record in records] == list(range(len(records)))
    assert all((record.value is None) == bool(record.error) for record in records)
    kept = folder / f"kept.{source.suffix}"
    assert source.split([False] * len(records), [kept, folder / "flagged"]) == (len(records), 0)
    if source.kind != "json":
        assert _dense(kept.read_bytes()) == _dense(data)
        if records:
            again = open_source(kept)
            assert [r.value for s in again.plan(2) for r in again.read(s)] == [r.value for r in records]


def _dense(data: bytes) -> bytes:
    """The bytes without white space and without the byte order mark, which a file without rows does not get."""
    return data.removeprefix(BOM).translate(None, b" \t\r\n")
