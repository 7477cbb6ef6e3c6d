"""Options as keyword arguments: an editor knows them all, and a misspelt one is refused with the name that it resembles."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import gradsentry
from answered import ROWS, run
from gradsentry.api import preview_decision, redecide, scan
from gradsentry.config import DecisionOptions, ScanConfig, ScanOptions
from gradsentry.errors import UsageError


def test_the_keyword_arguments_are_the_fields_of_the_config() -> None:
    hints = get_type_hints(ScanConfig)
    assert get_type_hints(ScanOptions) == {name: kind for name, kind in hints.items() if name != "model"} | {"threshold": str | float}
    assert get_type_hints(DecisionOptions).items() < hints.items()


@pytest.mark.parametrize("function", [scan, gradsentry.Scorer.__init__, redecide, preview_decision])
def test_no_function_takes_just_any_option(function: Any) -> None:
    (options,) = [p for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD]
    assert options.annotation in ("Unpack[ScanOptions]", "Unpack[DecisionOptions]")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("treshold", "there is no option 'treshold'; did you mean 'threshold'?"),
        ("losson", "there is no option 'losson'; did you mean 'loss_on'?"),
        ("Format", "there is no option 'Format'; did you mean 'format'?"),
        ("tokeniser", "there is no option 'tokeniser'; did you mean 'tokenizer'?"),
        ("zzz", "there is no option 'zzz'; there are allow, allow_pickle, compile, config, crop"),
    ],
)
def test_a_misspelt_option_is_refused_before_anything_is_read(name: str, message: str, tmp_path: Path) -> None:
    wrong: Any = {name: "x"}
    for call in (lambda: scan(tmp_path / "no.jsonl", **wrong), lambda: gradsentry.Scorer(tmp_path / "no model", **wrong)):
        with pytest.raises(UsageError) as error:
            call()
        assert str(error.value).startswith(message)


def test_a_decision_refuses_options_that_would_need_another_scan(model_dir: Path, tmp_path: Path) -> None:
    first = run(ROWS, model_dir, tmp_path / "run")
    wrong: Any = {"crop": "none"}
    for decide in (redecide, preview_decision):
        with pytest.raises(UsageError, match="there is no option 'crop'; there are allow, keep_unexamined, policy, strict, threshold"):
            decide(tmp_path / "run", 0.5, **wrong)
    decision, config = preview_decision(tmp_path / "run", 0.5, strict=True)
    assert (config.threshold, config.strict) == ("0.5", True)
    assert decision.counts["rows"] == first.counts["rows"]


def test_the_command_line_knows_the_same_options() -> None:
    assert {item.name for item in dataclasses.fields(ScanConfig)} == {"model", *get_type_hints(ScanOptions)}
