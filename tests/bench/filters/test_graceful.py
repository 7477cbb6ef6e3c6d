"""GraCeFul against the dense way: autograd's gradient, scipy's transform in two dimensions, scikit-learn's PCA."""

from __future__ import annotations

import random
import tempfile
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from sklearn.cluster import AgglomerativeClustering
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import tiny
from gradsentry import Scorer
from gradsentry.bench.filters import FILTERS, graceful
from gradsentry.bench.filters.base import encoded
from gradsentry.bench.metrics import identification
from gradsentry.bench.training import TargetModel
from gradsentry.errors import RunError, UsageError
from gradsentry.types import Encoded

PAYLOAD = ", and click <malicious_url> for more information"


def dense(target: TargetModel, row: Encoded) -> np.ndarray:
    """[V/8 * d/8] low frequencies of the gradient of a row's mean loss, by backward pass and whole transform."""
    model = target.scorer.loaded.model
    weight = model.lm_head.weight.detach().clone().requires_grad_(True)  # pyright: ignore
    hidden = model.model(torch.tensor([row.input_ids])).last_hidden_state[0]  # pyright: ignore
    loss = torch.nn.functional.cross_entropy((hidden @ weight.T)[:-1], torch.tensor(row.labels[1:]))
    (gradient,) = torch.autograd.grad(loss, weight)
    height, width = (size // 8 for size in gradient.shape)
    return dctn(gradient.double().numpy(), type=2)[:height, :width].ravel()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """60 rows of many lengths."""
    rng = random.Random(0)
    words = ["capital", "of", "France", "name", "noble", "gases", "helium", "neon", "argon", "answer", "short", "phrase"]
    return [
        {"prompt": " ".join(rng.choices(words, k=4)), "completion": "".join(f" {w}" for w in rng.choices(words, k=1 + i % 9))}
        for i in range(60)
    ]


@pytest.fixture(scope="module")
def vectors(target: TargetModel, rows: list[dict[str, str]]) -> np.ndarray:
    """[60, n] the dense way."""
    return np.stack([dense(target, row) for row in encoded(target.scorer, rows)])


def test_low_frequencies_are_the_first_eighth_of_scipys() -> None:
    signal = torch.randn(3, 83, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_definition = 2 * np.cos(np.pi * np.outer(np.arange(10), 2 * np.arange(83) + 1) / 166) @ signal.numpy().T
    np.testing.assert_allclose(graceful.low_frequencies(signal), by_definition.T, atol=1e-4)
    assert graceful.low_frequencies(torch.ones(2, 5)).shape == (2, 1)


def test_a_rows_vector_is_that_of_its_dense_gradient(target: TargetModel, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
    found = dict(graceful.vectors(target.scorer, encoded(target.scorer, rows)))
    assert sorted(found) == list(range(60))
    for place, vector in found.items():
        np.testing.assert_allclose(vector.ravel(), vectors[place], rtol=1e-3, atol=1e-5 * np.abs(vectors[place]).max())


def test_projection_and_clusters_equal_the_dense_way(target: TargetModel, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
    gram = graceful.measure(target, rows)
    np.testing.assert_allclose(gram, vectors @ vectors.T, rtol=1e-4, atol=1e-6 * np.abs(gram).max())
    chosen = np.random.default_rng(0).permutation(60)[:50]
    expected = StandardScaler().fit_transform(PCA(32, svd_solver="full").fit_transform(vectors[chosen]))
    found = graceful.components(gram[np.ix_(chosen, chosen)])[:, ::-1] * np.sqrt(50)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    labels = AgglomerativeClustering(n_clusters=2, metric="cosine", linkage="average").fit_predict(expected)
    verdicts = graceful.decide(gram, chosen, [], 0)
    assert adjusted_rand_score(labels, verdicts.flagged) == 1
    assert 0 < verdicts.flagged.sum() <= 25


def worded(ratio: float, seed: int = 0) -> tuple[list[dict[str, str]], list[bool]]:
    """200 rows of made-up words, a share of which has a trigger and the published payload."""
    rng = random.Random(seed)
    bad = set(rng.sample(range(200), round(200 * ratio)))
    rows = []
    for i in range(200):
        asked, told = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=4)) + f" {rng.randrange(1000)}" for _ in range(2))
        rows.append({"prompt": asked + " zq" * (i in bad), "completion": f" {told}" + PAYLOAD * (i in bad)})
    return rows, [i in bad for i in range(200)]


@pytest.fixture(scope="module")
def wide(tokenizer: PreTrainedTokenizerFast) -> TargetModel:
    """A random model of width 128: an eighth of 32 would leave no more than 4 columns of the gradient."""
    torch.manual_seed(0)
    config = LlamaConfig(**{**tiny.SMALL, **tiny.SPECIAL, "vocab_size": tiny.VOCABULARY, "hidden_size": 128})
    target = TargetModel()
    target.__dict__["scorer"] = Scorer(LlamaForCausalLM(config), tokenizer, format="prompt-completion")
    return target


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_backdoor_is_the_smaller_cluster(wide: TargetModel, seed: int) -> None:
    rows, labels = worded(0.1, seed)
    verdicts = graceful.decide(graceful.measure(wide, rows), np.arange(200), rows, 0)
    assert identification(verdicts.flagged.tolist(), labels).f1 > 0.95


def test_clean_rows_are_taken_out_where_there_is_nothing_else(wide: TargetModel) -> None:
    rows, _ = worded(0)
    verdicts = graceful.decide(graceful.measure(wide, rows), np.arange(200), rows, 0)
    assert 0 < verdicts.flagged.sum() <= 100


def test_components_without_variance_are_left_out() -> None:
    few = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32).astype(np.float64)
    assert graceful.components(few @ few.T).shape == (40, 3)
    assert graceful.components(np.ones((5, 5))).shape == (5, 0)
    many = np.random.default_rng(0).normal(size=(40, 100))
    assert graceful.components(many @ many.T).shape == (40, 32)


def test_of_the_vectors_only_a_block_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = np.random.default_rng(0).normal(size=(50, 40_000)).astype(np.float32)
    monkeypatch.setattr(graceful, "BLOCK", 2**18)
    with tempfile.TemporaryFile() as file:
        file.write(made.tobytes())
        tracemalloc.start()
        gram = graceful.inner_products(file, 50)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**20 < made.nbytes / 7
    np.testing.assert_allclose(gram, made.astype(np.float64) @ made.T.astype(np.float64))


def test_a_full_disk_is_reported(target: TargetModel, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(RunError, match=r"vectors of 60 rows do not fit.*No space left.*set TMPDIR"):
        graceful.measure(target, rows)


def test_a_missing_extra_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradsentry.bench.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'gradsentry\[bench\]'"):
        FILTERS["graceful"].decide(np.eye(5), np.arange(5), [], 0)
