"""Texts of an experiment: what is learned from is never measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.recipes.bench.texts import Texts, load_texts


def write(folder: Path, files: dict[str, list[str]]) -> Path:
    for name, lines in files.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_folders_of_train_and_test(tmp_path: Path) -> None:
    """They are taken as they are, in the languages asked for."""
    names = {"train/en": ["a", "b"], "test/en": ["c"], "train/zh": ["d"], "test/zh": ["e"], "train/no": ["f"]}
    texts = load_texts(write(tmp_path / "news", names))
    assert texts.train == {"en": ["a", "b"], "zh": ["d"]}
    assert texts.test == {"en": ["c"], "zh": ["e"]}
    assert (texts.name, texts.is_generated, texts.languages) == ("news", False, ["en", "zh"])
    assert load_texts(tmp_path / "news", ["zh"]).languages == ["zh"]
    with pytest.raises(CorpusError, match="'no'"):
        load_texts(tmp_path / "news", ["no"])


@pytest.mark.parametrize(("count", "kept"), [(2, 1), (10, 2), (3, 1)])
def test_one_folder_is_parted(tmp_path: Path, count: int, kept: int) -> None:
    """The last documents are kept for measuring, at least one on each side."""
    lines = [f"text {number}" for number in range(count)]
    texts = load_texts(write(tmp_path, {"en": lines}))
    assert list(texts.train["en"]) + list(texts.test["en"]) == lines
    assert len(texts.test["en"]) == kept


def test_mappings_and_generated_texts() -> None:
    """Generated texts say so; all of their train documents differ from those to measure on."""
    assert load_texts({"en": ["a", "b"]}).train == {"en": ["a"]}
    texts = load_texts("mini", ["en", "zh"], mini_documents=20)
    assert texts.is_generated
    assert len(texts.train["zh"]) == 16
    assert not set(texts.train["en"]) & set(texts.test["en"])


def test_the_digest_is_of_every_text() -> None:
    """Language, order and words count."""
    one = Texts({"en": ["a", "b"]}, {"en": ["c"]}, "x")
    assert one.digest() == Texts({"en": ["a", "b"]}, {"en": ["c"]}, "another name").digest()
    others = [
        ({"en": ["b", "a"]}, {"en": ["c"]}),
        ({"en": ["a"]}, {"en": ["b", "c"]}),
        ({"de": ["a", "b"]}, {"de": ["c"]}),
    ]
    assert len({one.digest(), *(Texts(train, test, "x").digest() for train, test in others)}) == 4


def test_bad_input() -> None:
    """Each message says what is needed."""
    with pytest.raises(CorpusError, match="1 document"):
        load_texts({"en": ["only one"]})
    with pytest.raises(CorpusError, match="same languages"):
        Texts({"en": ["a"]}, {"de": ["b"]}, "x")
    with pytest.raises(CorpusError, match="ja"):
        load_texts({"en": ["a", "b"]}, ["ja"])
    with pytest.raises(InputError, match="test_share"):
        load_texts({"en": ["a", "b"]}, test_share=1.0)
