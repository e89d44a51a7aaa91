"""The texts of an experiment: some to learn from, others to measure on, and whether anybody wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_langcore.data import Corpora, corpora_from_folder, read_texts
from hf_langcore.data.mini import MINI_LANGUAGES, mini_corpora
from hf_langcore.errors import CorpusError, InputError

MINI = "mini"

_TEST_SHARE = 0.2
_FEWEST_DOCUMENTS = 2
_MINI_DOCUMENTS = 500


@dataclass(frozen=True)
class Texts:
    """Documents per language.

    Attributes:
        train: Language -> documents for importance and training.
        test: Language -> other documents, of the same languages, to measure on.
        name: For reports: the folder's name, or "mini".
        is_generated: Made by the built-in generator and not written by people.
    """

    train: Mapping[str, Sequence[str]]
    test: Mapping[str, Sequence[str]]
    name: str
    is_generated: bool = False

    def __post_init__(self) -> None:
        if not self.train or set(self.train) != set(self.test):
            raise CorpusError(
                f"The same languages are needed to learn from and to measure on: got {sorted(self.train)} and "
                f"{sorted(self.test)}."
            )

    @property
    def languages(self) -> list[str]:
        """Codes, in order."""
        return list(self.test)

    def digest(self) -> str:
        """Hex sha256 of all texts."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            for language, documents in part.items():
                digest.update(f"{language}|{len(documents)}|".encode())
                for text in documents:
                    digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        return digest.hexdigest()


def load_texts(
    data: str | Path | Corpora,
    languages: Sequence[str] | None = None,
    *,
    test_share: float = _TEST_SHARE,
    mini_documents: int = _MINI_DOCUMENTS,
) -> Texts:
    """Texts from a folder, a mapping or the built-in generator.

    Args:
        data: A folder with `train` and `test` folders of one file per language; a folder of one file per language, or a
            mapping of corpora, whose last documents are kept for measuring; or "mini".
        languages: Codes to take; all if None.
        test_share: Part of the documents that is kept for measuring where there is no `test` folder.
        mini_documents: Documents per language of the generated texts.

    Raises:
        CorpusError: A language is missing, or has too few documents to be parted.
        InputError: `test_share` is no share.
    """
    if not 0 < test_share < 1:
        raise InputError(f"test_share must lie strictly between 0 and 1, got {test_share!r}.")
    if isinstance(data, Mapping):
        return _parted(data, languages, test_share, name="texts in memory")
    if str(data) == MINI:
        made = mini_corpora(languages or MINI_LANGUAGES, sentences=8 * mini_documents)
        return _parted(made, None, test_share, name="mini (generated)", is_generated=True)
    root = Path(data)
    if (root / "train").is_dir() and (root / "test").is_dir():
        test = corpora_from_folder(root / "test", languages)
        train = corpora_from_folder(root / "train", list(test))
        return Texts(_read(train), _read(test), root.name)
    return _parted(corpora_from_folder(root, languages), None, test_share, name=root.name)


def _parted(
    corpora: Corpora, languages: Sequence[str] | None, test_share: float, *, name: str, is_generated: bool = False
) -> Texts:
    missing = [language for language in languages or () if language not in corpora]
    if missing:
        raise CorpusError(f"There are no texts for {missing}; there are some for {sorted(corpora)}.")
    documents = _read({language: corpora[language] for language in languages or corpora})
    train, test = {}, {}
    for language, texts in documents.items():
        if len(texts) < _FEWEST_DOCUMENTS:
            raise CorpusError(
                f"{language!r} has {len(texts)} document, and some are needed to learn from and others to measure on. Give "
                "at least two (one a line), or folders `train` and `test`."
            )
        kept = min(len(texts) - 1, max(1, round(test_share * len(texts))))
        train[language], test[language] = texts[:-kept], texts[-kept:]
    return Texts(train, test, name, is_generated)


def _read(corpora: Corpora) -> dict[str, list[str]]:
    return {language: list(read_texts(language, source)) for language, source in corpora.items()}
