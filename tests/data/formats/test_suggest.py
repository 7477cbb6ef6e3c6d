"""The message about unknown columns has the option that reads them."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from gradsentry.data.formats.detect import apply_mapping, detect, parse_mapping, settle
from gradsentry.errors import DataError
from turns import assistant, user

TURNS = [user("Q"), assistant("A")]
FITS: list[tuple[dict[str, Any], str]] = [
    ({"input": "q", "response": "a"}, "prompt=input,completion=response"),
    ({"answer_text": "a", "id": "7", "UserQuery": "q"}, "prompt=UserQuery,completion=answer_text"),
    ({"q": "x", "a": "y", "source": "web"}, "prompt=q,completion=a"),
    ({"reply": "a", "title": "t"}, "prompt=title,completion=reply"),
    ({"left": "a", "right": "t", "n": 4}, "prompt=left,completion=right"),
    ({"Frage": "q", "prompt_text": "p"}, "prompt=prompt_text,completion=Frage"),
    ({"body": "a text", "n": 4}, "text=body"),
    ({"dialogue": TURNS, "id": "x"}, "messages=dialogue"),
    ({"turns": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "id": "x"}, "conversations=turns"),
    ({"query": "q", "response_chosen": "a", "response_rejected": "b"}, "prompt=query,chosen=response_chosen,rejected=response_rejected"),
    ({"better": TURNS, "worse": [user("Q"), assistant("B")]}, "chosen=better,rejected=worse"),
    ({"my question": "q", "my answer": "a"}, "prompt=my question,completion=my answer"),
]


@pytest.mark.parametrize(("row", "mapping"), FITS)
def test_the_message_proposes_the_map_that_reads_the_rows(row: dict[str, Any], mapping: str) -> None:
    with pytest.raises(DataError) as refused:
        detect([row])
    found = re.search(r"if this is what they are, give (--map .*) \(formats: ", str(refused.value))
    assert found
    assert shlex.split(found[1]) == ["--map", mapping]
    format = settle(None, parse_mapping(mapping), [row])
    format.convert(apply_mapping(row, parse_mapping(mapping)))


@pytest.mark.parametrize("row", [{"x": 1, "y": 2}, {"a,b": "t", "c=d": "u"}, {"one": "a", "two": "b", "three": "c"}])
def test_nothing_is_proposed_where_the_columns_do_not_show_it(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="name the columns of prompt and answer, for example --map"):
        detect([row])
