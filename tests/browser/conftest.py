"""The browser that pages are looked at with; without one, the tests that need it are skipped and say why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "examples" / "space"))

from chrome import Browser, programs, started


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; one for all tests of a worker, so a test sets size and colours itself."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    try:
        binary, driver = programs()
    except FileNotFoundError as error:
        pytest.skip(f"no browser: {error}")
    with started(binary, driver) as window:
        yield window


@pytest.fixture(scope="session")
def space_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Option of the Space -> folder: a tiny trained model with its tokenizer, its core mask, and texts."""
    from hf_langcore import compute_core_mask
    from hf_langcore.data.mini import mini_corpora
    from hf_langcore.recipes.pretraining import TinyModel, pretrain

    size = {"vocab_size": 400, "hidden_size": 48, "intermediate_size": 96, "layers": 2, "heads": 2}
    corpora = mini_corpora(["en", "de"], sentences=200)
    model, tokenizer = pretrain(corpora, shape=TinyModel(block_size=48, steps=250, **size), progress=False)
    core_mask = compute_core_mask(
        model, tokenizer, corpora, fraction=0.05, max_tokens=2000, block_size=48, progress=False
    )
    folders = {name: tmp_path_factory.mktemp(name) for name in ("model", "mask", "data")}
    for saved, name in ((model, "model"), (tokenizer, "model"), (core_mask, "mask")):
        saved.save_pretrained(folders[name])
    for language, texts in mini_corpora(["en", "de"], sentences=40, start=200).items():
        (folders["data"] / f"{language}.txt").write_text("\n".join(texts), encoding="utf-8")
    return {name: str(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def explorer(space_folders: dict[str, str]) -> Any:
    """The explorer of that model."""
    from explorer import load_explorer

    return load_explorer(*space_folders.values())
