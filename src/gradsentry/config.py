"""The options of a scan. A field's `help` is also the command line's, which replaces {formats} and {policies} by the registries' names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from gradsentry.errors import UsageError
from gradsentry.types import LossOn

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""Precision of a model."""


def option(default: Any, help: str, *, scores: bool = False) -> Any:
    """A field with its help text; `scores` marks options that change a score and so belong to the run's identity."""
    return field(default=default, metadata={"help": help, "scores": scores})


def parse_threshold(spec: str) -> float | None:
    """The number of ``--threshold``, in [0, 1]; None for ``auto``.

    Raises:
        UsageError: neither.
    """
    if spec == "auto":
        return None
    try:
        number = float(spec)
    except ValueError:
        number = float("nan")
    if 0 <= number <= 1:
        return number
    raise UsageError(f"--threshold {spec}: give auto or a number from 0 to 1")


def parse_workers(spec: str) -> int | None:
    """``auto`` -> None, anything else a number of processes, at least 1.

    Raises:
        UsageError: neither.
    """
    if spec == "auto":
        return None
    if str(spec).isdecimal() and int(spec) > 0:
        return int(spec)
    raise UsageError(f"--workers {spec}: it can be auto or a number, at least 1")


def check_names(options: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse options with other names than the known ones.

    Raises:
        UsageError: the message names the option, and the known one that it resembles.
    """
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise UsageError(f"there is no option {name!r}; {advice}")


class DecisionOptions(TypedDict, total=False):
    """Options of a decision, as keyword arguments. `ScanConfig` describes them."""

    policy: str
    strict: bool
    keep_unexamined: bool
    allow: str | None


class ScanOptions(DecisionOptions, total=False):
    """The fields of `ScanConfig` as keyword arguments, for editors and type checkers."""

    threshold: str | float
    crop: Literal["reference", "none"]
    target: str | None
    format: str | None
    map: str | None
    loss_on: LossOn | None
    split: str | None
    name: str | None
    revision: str | None
    streaming: bool
    max_length: int | None
    dtype: Dtype
    device: str
    workers: str
    gpus_per_worker: int
    compile: bool
    token_budget: int | None
    shard_rows: int
    trust_remote_code: bool
    allow_pickle: bool
    overwrite: bool


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """Options of `gradsentry.scan` and `gradsentry scan`."""

    model: str | None = option(
        None,
        "Base model that will be fine-tuned: a directory, a .gguf file or a Hub id. Default: the embedded SmolLM2-135M-Instruct.",
        scores=True,
    )
    policy: str = option("evidence", "Rule that flags rows. {policies}.")
    threshold: str = option(
        "auto",
        "Entropy above which a row is flagged: auto (the published valley, for --policy paper or --strict), or a number in [0, 1].",
    )
    strict: bool = option(False, "With --policy evidence: flag rows above the published threshold too, reliable or not.")
    crop: Literal["reference", "none"] = option(
        "reference", "Part of the gradient whose spectrum is taken: the published eighths, or all of it.", scores=True
    )
    target: str | None = option(
        None, "Parameter whose gradient is scored: the output projection's weight, lm_head.weight in most models. Any other is refused."
    )
    format: str | None = option(None, "Format of the rows: {formats}. Default: detected.", scores=True)
    map: str | None = option(
        None, "Columns of the format and your columns that hold them, for example prompt=question,completion=reply.", scores=True
    )
    loss_on: LossOn | None = option(
        None, "Supervised tokens: the last answer, every assistant turn, or all. Default: depends on the format.", scores=True
    )
    split: str | None = option(None, "Split of a data set that has several. Default: all of them.", scores=True)
    name: str | None = option(
        None,
        "Configuration of a Hub data set or directory that has several, or a data set of LLaMA-Factory's dataset_info.json.",
        scores=True,
    )
    revision: str | None = option(None, "Branch, tag or commit of a Hub data set. Default: the newest.", scores=True)
    streaming: bool = option(False, "Read a Hub data set or a directory as a stream, without a copy of the whole on disk.")
    max_length: int | None = option(
        None, "Longest row in tokens; longer rows are cut, and the column n_cut has the number. Default: the model's context.", scores=True
    )
    dtype: Dtype = option("auto", "Precision of the model. auto: bfloat16 where the device has fast bfloat16, else float32.", scores=True)
    device: str = option("auto", "Device of the model: auto, cpu, cuda, cuda:1, mps.")
    workers: str = option("1", "Worker processes, each with its own model: a number, or auto for one per CUDA device.")
    gpus_per_worker: int = option(1, "CUDA devices over which one worker spreads its model: for a model larger than one device.")
    compile: bool = option(
        False, "Compile the model before scoring (needs a C++ compiler on a CPU): takes a minute, then less time per row.", scores=True
    )
    token_budget: int | None = option(
        None, "Tokens in one batch, padding included: lower it if memory runs out. Default: by device; a resumed run keeps its number."
    )
    shard_rows: int = option(
        512, "Rows in a shard. A stopped run loses at most one shard's work; larger shards make fewer files.", scores=True
    )
    trust_remote_code: bool = option(False, "Run Python code that comes with the model. Only for models that you trust.")
    allow_pickle: bool = option(False, "Load .bin weights, which are pickles and can run code. Only for models that you trust.")
    keep_unexamined: bool = option(False, "Put rows that were not examined into kept. Default: they go to unexamined.*.")
    allow: str | None = option(
        None, "File of dismissed findings and rows, which are kept and do not count: lines of the reviews.jsonl of a run."
    )
    overwrite: bool = option(False, "Replace another run in the directory given by --out.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", str(self.threshold))  # Python callers may give a number
        parse_threshold(self.threshold)
        parse_workers(self.workers)
        for name, annotation in get_type_hints(ScanConfig).items():
            choices = [choice for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal for choice in get_args(part)]
            if choices and getattr(self, name) not in (*choices, None):
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: it can be {', '.join(choices)}")
        if self.strict and self.policy == "paper":
            raise UsageError(
                "--strict adds the published rule to the evidence, and --policy paper is that rule; use --strict with --policy evidence"
            )
        for name in ("token_budget", "shard_rows", "max_length", "gpus_per_worker"):
            value = getattr(self, name)
            least = 2 if name == "max_length" else 1
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} {value}: it must be at least {least}")

    def as_dict(self) -> dict[str, Any]:
        """All options, as in the manifest."""
        return asdict(self)

    def score_options(self) -> dict[str, Any]:
        """The options that change a score; they are part of the run's identity."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.metadata["scores"]}
