"""Prompts: the first words of texts, or lines of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_langcore.data import Corpora, corpora_from_folder, read_texts
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.language_id import is_dense
from hf_langcore.strict_json import parse_json

_CHARACTERS = 2  # of a word, where words are not parted by spaces


def first_words(texts: Corpora, *, words: int | None, prompts: int | None = None) -> dict[str, list[str]]:
    """Prompts that are the beginnings of texts.

    Args:
        texts: Language -> texts.
        words: Words of each text, two characters for a word where there are no spaces; None takes whole texts.
        prompts: At most so many in each language; None for all texts.

    Raises:
        InputError: A number is below 1.
    """
    for name, value in (("words", words), ("prompts", prompts)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a whole number of at least 1 or None, got {value!r}.")
    found: dict[str, list[str]] = {}
    for language, source in texts.items():
        begun = (text.strip() if words is None else _beginning(text, words) for text in read_texts(language, source))
        found[language] = list(dict.fromkeys(one for one in begun if one))[:prompts]
    return found


def read_prompts(
    path: str | Path, languages: Sequence[str] | None = None, *, words: int | None = None, prompts: int | None = None
) -> dict[str, list[str]]:
    """Prompts from a folder with one file of texts per language, or from a `.jsonl` file.

    Args:
        path: The folder; or a file whose lines are objects with `language` and `prompt`.
        languages: Codes to take; all if None.
        words: First words of each text; None takes all of it.
        prompts: At most so many in each language.

    Raises:
        CorpusError: A line is not like that, or a language has no prompt.
    """
    if Path(path).is_dir():
        return first_words(corpora_from_folder(path, languages), words=words, prompts=prompts)
    found = _lines(Path(path))
    missing = [code for code in languages or () if code not in found]
    if missing or not found:
        raise CorpusError(f"{path} has no prompts in {missing or 'any language'}; there are some in {sorted(found)}.")
    return first_words({code: found[code] for code in languages or found}, words=words, prompts=prompts)


def _lines(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        # Only line feeds end a line: JSON may have other separators, such as U+2028, inside of its strings.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"Cannot read prompts from {str(path)!r}: {error}. Name a folder with one file per language, or a .jsonl file."
        ) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            entry = _entry(path, number, line)
            found.setdefault(entry["language"], []).append(entry["prompt"])
    return found


def _entry(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        entry = parse_json(line)
    except ValueError as error:
        raise CorpusError(f"{path}, line {number}: no JSON ({error}).") from error
    if not isinstance(entry, dict) or not all(
        isinstance(entry.get(key), str) and entry[key].strip() for key in ("language", "prompt")
    ):
        raise CorpusError(f'{path}, line {number}: expected {{"language": "de", "prompt": "..."}}, got {line[:80]!r}.')
    return entry


def _beginning(text: str, words: int) -> str:
    split = text.split()
    # Hangul is dense, and has spaces.
    if is_dense(text) and len(split) * 2 * _CHARACTERS < len("".join(split)):
        return text.strip()[: _CHARACTERS * words]
    return " ".join(split[:words])
