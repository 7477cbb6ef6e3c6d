"""Results on disk: gone on with after any end, never mixed, never lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradsentry.bench.results import opened
from gradsentry.errors import RunError

CONFIGURATION = {"model": "tiny", "dtype": "float32"}


def test_what_was_added_is_there_again_in_its_order(tmp_path: Path) -> None:
    results = opened(tmp_path / "new" / "bench", CONFIGURATION)
    for number in (3, 1, 2):
        results.add(f"cell {number}", {"f1": number / 3, "words": "ü\u2028"})
    again = opened(tmp_path / "new" / "bench", CONFIGURATION)
    assert again.found == results.found
    assert list(again.found) == ["cell 3", "cell 1", "cell 2"]


@settings(deadline=None)  # the first call opens the folder, which a loaded machine takes its time for
@given(cut=st.integers(1, 60))
def test_a_line_that_was_not_finished_is_measured_again(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bench")
    results = opened(folder, CONFIGURATION)
    results.add("one", {"f1": 1})
    whole = results.path.read_bytes()
    results.add("two", {"f1": 0.5, "long": "x" * 60})
    results.path.write_bytes(results.path.read_bytes()[: len(whole) + cut])
    again = opened(folder, CONFIGURATION)
    assert list(again.found) == ["one"]
    again.add("two", {"f1": 0.25})
    assert [json.loads(line)["f1"] for line in results.path.open()] == [1, 0.25]


def test_results_of_another_configuration_are_refused_with_what_differs(tmp_path: Path) -> None:
    opened(tmp_path, CONFIGURATION).add("one", {})
    with pytest.raises(RunError, match=r"another configuration \(model: 'tiny', now 'other'\); choose another --out"):
        opened(tmp_path, CONFIGURATION | {"model": "other"})
    assert list(opened(tmp_path, CONFIGURATION).found) == ["one"]


def test_results_of_other_rows_are_refused_and_more_tasks_may_follow(tmp_path: Path) -> None:
    opened(tmp_path, CONFIGURATION, {"nq": "a"}).add("one", {})
    opened(tmp_path, CONFIGURATION, {"gsm8k": "b"})
    for data in ({"nq": "a", "gsm8k": "b"}, {"nq": "a"}, None):
        assert list(opened(tmp_path, CONFIGURATION, data).found) == ["one"]
    with pytest.raises(RunError, match=r"holds results of other rows of gsm8k; choose another --out, or the earlier data"):
        opened(tmp_path, CONFIGURATION, {"nq": "a", "gsm8k": "c"})


def test_another_attack_of_the_same_name_is_refused_and_more_attacks_may_follow(tmp_path: Path) -> None:
    for attacks in ({"own": "a"}, {"mine": "b"}, {"own": "a", "mine": "b"}, None):
        opened(tmp_path, CONFIGURATION, {"nq": "a"}, attacks)
    with pytest.raises(RunError, match=r"holds results of another attack named own; choose another --out, or the earlier attacks"):
        opened(tmp_path, CONFIGURATION, {"nq": "a"}, {"own": "c"})


def test_results_of_the_first_version_are_read_under_todays_names(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"key": "a", "defence": "paper"}\n')
    assert opened(tmp_path, None).found == {"a": {"key": "a", "filter": "paper"}}


def test_reading_alone_changes_nothing_of_what_a_bench_is_adding(tmp_path: Path) -> None:
    results = opened(tmp_path, CONFIGURATION)
    results.add("one", {})
    with results.path.open("a") as file:
        file.write('{"key": "tw')
    before = results.path.read_bytes()
    assert list(opened(tmp_path, None).found) == ["one"]
    assert results.path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bench.json", "{", "bench.json is not JSON"),
        ("bench.json", "[]", "bench.json is not a JSON object"),
        ("results.jsonl", '{"key": "a"}\n', "results.jsonl exists without the bench.json"),
    ],
)
def test_files_that_are_not_ours_are_refused_and_left(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=said):
        opened(tmp_path, CONFIGURATION)
    assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("below", ["", "new/bench"])
def test_a_file_where_the_folder_should_be_is_reported(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=rf"--out .*: {tmp_path / 'file'} is a file; give a directory"):
        opened(tmp_path / "file" / below, CONFIGURATION)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_configuration_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path, CONFIGURATION, {"nq": "a"}).add("one", {})
    before = (tmp_path / "bench.json").read_bytes()

    def killed(path: Path, text: str, **_: object) -> int:
        path.write_bytes(text.encode()[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, CONFIGURATION, {"gsm8k": "b"})
    assert (tmp_path / "bench.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "results.jsonl"}


def test_a_line_that_is_no_result_is_reported_with_its_number(tmp_path: Path) -> None:
    results = opened(tmp_path, CONFIGURATION)
    results.add("one", {})
    with results.path.open("a") as file:
        file.write('{"f1": 1}\n')
    with pytest.raises(RunError, match=r"results.jsonl:2 is not a result of a bench"):
        opened(tmp_path, CONFIGURATION)
