"""Reading files of facts and minimal pairs; whatever is wrong in one is named with the file and the entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.knowledge.items import Fact, KnowledgeSet, MinimalPair
from hf_langcore.strict_json import read_json

FORMAT_VERSION = 1

KNOWLEDGE_LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ru", "zh")
"""The languages that this library brings facts and minimal pairs in."""

_FOLDER = Path(__file__).parent / "languages"
_LIMIT = 16 << 20  # bytes of a file
_FACT_KEYS = frozenset({"id", "kind", "prompt", "right", "wrong"})
_PAIR_KEYS = frozenset({"phenomenon", "grammatical", "ungrammatical"})
_FILE_KEYS = frozenset({"format_version", "language", "joiner", "facts", "minimal_pairs"})


def load_knowledge(
    data: str | Path | Sequence[str | Path] | None = None, languages: Sequence[str] | None = None
) -> dict[str, KnowledgeSet]:
    """Facts and minimal pairs by language.

    Args:
        data: A file, several files, or a folder of `.json` files, one for each language; None for the built-in ones.
        languages: Codes to take; all if None.

    Raises:
        CorpusError: A file is missing or not as it should be, or two are in one language.
        InputError: There is nothing in one of the languages.
    """
    found: dict[str, KnowledgeSet] = {}
    for path in _files(data):
        read = read_knowledge(path)
        if read.language in found:
            raise CorpusError(f"{path}: another file is in {read.language!r} already. Put both into one file.")
        found[read.language] = read
    missing = [code for code in languages or () if code not in found]
    if missing or (languages is not None and not languages):
        raise InputError(
            f"There are no facts or minimal pairs in {missing or list(languages or ())}; there are some in {sorted(found)}. Leave "
            "those languages out, or give a file for each."
        )
    return {code: found[code] for code in languages or found}


def read_knowledge(path: str | Path) -> KnowledgeSet:
    """The facts and minimal pairs of one file.

    A file is a JSON object: `format_version` (1), `language`, `joiner` (what stands between prompt and completion, a space
    if it is left out), `facts` (each with `id`, `kind`, `prompt`, `right`, and `wrong`, a list) and `minimal_pairs` (each
    with `phenomenon`, `grammatical`, `ungrammatical`); one of the two lists may be missing.

    Raises:
        CorpusError: It is not like that; the message names the entry.
    """
    file = Path(path)
    try:
        values = read_json(file, limit=_LIMIT)
        return _set_of(values)
    except ValueError as error:
        raise CorpusError(
            f"{file} is no file of facts and minimal pairs: {error}. The file for English in hf_langcore/knowledge/languages is "
            "an example."
        ) from error


def _files(data: str | Path | Sequence[str | Path] | None) -> list[Path]:
    if data is None:
        return [_FOLDER / f"{code}.json" for code in KNOWLEDGE_LANGUAGES]
    if not isinstance(data, (str, Path)):
        files = [Path(one) for one in data]
        where = "the list of files"
    elif Path(data).is_dir():
        files = sorted(Path(data).glob("*.json"))
        where = f"the folder {str(data)!r}"
    else:
        return [Path(data)]
    if not files:
        raise CorpusError(
            f"There is no file in {where}. Name JSON files of facts and minimal pairs, one for each language."
        )
    return files


def _set_of(values: Any) -> KnowledgeSet:
    _require_keys(values, _FILE_KEYS, needed={"format_version", "language"}, what="the file")
    if values["format_version"] != FORMAT_VERSION or isinstance(values["format_version"], bool):
        raise ValueError(f"format_version is {values['format_version']!r}, this version reads {FORMAT_VERSION}")
    joiner = values.get("joiner", " ")
    if not isinstance(joiner, str):
        raise ValueError(f"joiner should be a text, such as a space, it is {joiner!r}")  # noqa: TRY004 one kind of error
    facts = tuple(_fact(entry, what) for what, entry in _entries(values, "facts"))
    pairs = tuple(_pair(entry, what) for what, entry in _entries(values, "minimal_pairs"))
    if not facts and not pairs:
        raise ValueError("it has neither facts nor minimal_pairs")
    _require_different([fact.name for fact in facts], "facts", "id")
    _require_different([pair.grammatical for pair in pairs], "minimal_pairs", "grammatical sentence")
    return KnowledgeSet(_text(values, "language", "the file"), joiner, facts, pairs)


def _entries(values: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    listed = values.get(name, [])
    if not isinstance(listed, list):
        raise ValueError(f"{name} should be a list, it is of type {type(listed).__name__}")  # noqa: TRY004
    for number, entry in enumerate(listed):
        yield f"{name}[{number}]", entry


def _fact(entry: Any, what: str) -> Fact:
    _require_keys(entry, _FACT_KEYS, needed=_FACT_KEYS, what=what)
    name, kind, prompt, right = (_text(entry, key, what) for key in ("id", "kind", "prompt", "right"))
    wrong = entry["wrong"]
    if not isinstance(wrong, list) or not wrong or not all(isinstance(one, str) and one.strip() for one in wrong):
        raise ValueError(f"{what} ({name}): wrong should be a list of at least one text, it is {wrong!r}")
    if len({right, *wrong}) != 1 + len(wrong):
        raise ValueError(f"{what} ({name}): two completions are the same: {[right, *wrong]}")
    return Fact(name, kind, prompt, right, tuple(wrong))


def _pair(entry: Any, what: str) -> MinimalPair:
    _require_keys(entry, _PAIR_KEYS, needed=_PAIR_KEYS, what=what)
    pair = MinimalPair(*(_text(entry, key, what) for key in ("phenomenon", "grammatical", "ungrammatical")))
    if pair.grammatical == pair.ungrammatical:
        raise ValueError(f"{what}: both sentences are {pair.grammatical!r}")
    return pair


def _require_keys(entry: Any, known: frozenset[str], *, needed: frozenset[str] | set[str], what: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{what} should be an object, it is of type {type(entry).__name__}")  # noqa: TRY004
    missing, unknown = sorted(needed - set(entry)), sorted(set(entry) - known)
    if missing or unknown:
        problem = f"lacks {missing}" if missing else f"has {unknown}, which mean nothing"
        raise ValueError(f"{what} {problem}; expected are {sorted(known)}")


def _text(entry: Mapping[str, Any], key: str, what: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what}: {key} should be a text, it is {value!r}")
    return value


def _require_different(values: Sequence[str], name: str, key: str) -> None:
    seen: dict[str, int] = {}
    for number, value in enumerate(values):
        if value in seen:
            raise ValueError(f"{name}[{number}] has the same {key} as {name}[{seen[value]}]: {value!r}")
        seen[value] = number
