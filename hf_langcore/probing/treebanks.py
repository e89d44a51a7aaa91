"""Treebanks in CoNLL-U, the format of Universal Dependencies: sentences with parts of speech and dependency trees.

A file is one line per word with ten columns separated by tabs, comments that begin with `#`, and a blank line after each
sentence. Besides words there are lines for multiword tokens (`3-4`, the form that two words share in the text, such as
German "am" for "an dem") and for empty nodes (`5.1`, words that are not in the text); neither takes part in a basic tree, so
both are left out, and the forms of multiword tokens are kept because the text shows these and not the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from hf_langcore.errors import CorpusError
from hf_langcore.extras import require

SUFFIX = ".conllu"

_COLUMNS = 10
_ID, _FORM, _UPOS, _HEAD, _RELATION = 0, 1, 3, 6, 7
_EMPTY = "_"
_LANGUAGE = re.compile(r"[^._]+")
_NUMBER = re.compile(r"[0-9]+")
_HEAD_ADVICE = "Write the ID of the head word, or 0 for the root."


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and its dependency tree.

    Attributes:
        words: Forms of the syntactic words.
        upos: Universal part-of-speech tag of each word.
        heads: 0-based index of each word's head; -1 is the root.
        relations: Relation of each word to its head, without subtype: "nmod:poss" is "nmod".
        text: The running text, from the comment `# text`; None where there is none.
        name: `sent_id` of the sentence, or "".
        line: 1-based line of the file where the sentence starts, its comments included; 0 where it is from no file.
        contractions: First word, end (exclusive) and form of each multiword token.
    """

    words: tuple[str, ...]
    upos: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]
    text: str | None = None
    name: str = ""
    line: int = 0
    contractions: tuple[tuple[int, int, str], ...] = ()


def read_treebank(path: str | Path) -> list[Sentence]:
    """The sentences of a CoNLL-U file.

    A byte order mark, the line ends of Windows, several blank lines, and none at the end of the file are fine.

    Raises:
        CorpusError: The file is missing, is not UTF-8, or has no sentence; or a line is broken: the message names it.
    """
    path = Path(path)
    sentences = [sentence for block in _blocks(path) if (sentence := _sentence(path, block)) is not None]
    if not sentences:
        raise CorpusError(f"{str(path)!r} has no sentence. Expected CoNLL-U: one line per word, ten columns.")
    return sentences


def load_treebanks(folder: str | Path, languages: Sequence[str] | None = None) -> dict[str, list[Sentence]]:
    """Language -> sentences, from a folder of `.conllu` files.

    A file's language is the part of its name before the first "_" or ".": `de.conllu` and `de_pud-ud-test.conllu` are German.
    Several files of one treebank (`de_gsd-ud-dev.conllu`, `de_gsd-ud-train.conllu`) are joined in the order of their names.

    Args:
        folder: The folder.
        languages: Which to read, in this order; None for all, by name.

    Raises:
        CorpusError: There is no such folder, no treebank of a language, two treebanks of one, or a broken line.
    """
    files = _files(Path(folder))
    wanted = (
        list(files)
        if languages is None
        else list(dict.fromkeys([languages] if isinstance(languages, str) else languages))
    )
    missing = [language for language in wanted if language not in files]
    if missing or not wanted:
        raise CorpusError(
            f"{str(folder)!r} has no treebank of {', '.join(map(repr, missing)) or 'no language'}; it has those of "
            f"{', '.join(files)}. Name some of these, or add files such as {missing[0] if missing else 'de'}{SUFFIX}."
        )
    return {language: [one for path in files[language] for one in read_treebank(path)] for language in wanted}


def _files(folder: Path) -> dict[str, list[Path]]:
    """Language -> its files, by name."""
    if not folder.is_dir():
        hint = " It is a file: name the folder that it lies in." if folder.is_file() else ""
        raise CorpusError(f"Expected a folder of {SUFFIX} files, got {str(folder)!r}, which is none.{hint}")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _LANGUAGE.match(path.name)
        if path.suffix == SUFFIX and match:
            found.setdefault(match.group(), []).append(path)
    if not found:
        raise CorpusError(f"{str(folder)!r} has no {SUFFIX} files. Expected names such as de{SUFFIX}.")
    for language, paths in found.items():
        treebanks = {path.name.split("-ud-")[0] for path in paths}
        if len(treebanks) > 1:
            raise CorpusError(
                f"{str(folder)!r} has several treebanks of {language!r}: {', '.join(path.name for path in paths)}. Leave one "
                "there, since figures of different texts cannot be compared."
            )
    return found


@dataclass(slots=True)
class _Draft:
    """A sentence while its lines are read.

    Attributes:
        path: The file, for messages.
        rows: Columns and line number of each word.
        contractions: As in `Sentence`.
        comments: Key -> value.
    """

    path: Path
    rows: list[tuple[list[str], int]] = field(default_factory=list)
    contractions: list[tuple[int, int, str]] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)

    def broken(self, line: int, what: str, advice: str) -> NoReturn:
        """Say where a file is broken."""
        raise CorpusError(f"{str(self.path)!r}, line {line}: {what}. {advice}")

    @property
    def covered(self) -> int:
        """Number of words up to the end of the last multiword token."""
        return self.contractions[-1][1] if self.contractions else 0


def _lines(path: Path) -> list[str]:
    """The file's lines without their ends; other characters that Python takes for line ends are part of a line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(
            f"Cannot read the treebank {str(path)!r}: {error.strerror or error}. Name a readable file."
        ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", error.object[: error.start])) + 1  # without the byte order mark
        raise CorpusError(
            f"{str(path)!r}, line {line}: not UTF-8 ({error.reason}). Convert the file first."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _blocks(path: Path) -> Iterator[list[tuple[int, str]]]:
    """The numbered lines of each sentence."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _sentence(path: Path, block: list[tuple[int, str]]) -> Sentence | None:
    """One sentence; None where a block has comments only, as at the end of some files."""
    draft = _Draft(path)
    for number, line in block:
        if line.startswith("#"):
            _comment(draft, line)
        else:
            _row(draft, number, line.split("\t"))
    first = block[0][0]
    if not draft.rows:
        if draft.comments.keys() & {"text", "sent_id"} or draft.contractions:
            draft.broken(first, "a sentence without words", "Remove its comments, or add one line per word.")
        return None
    if draft.covered > len(draft.rows):
        draft.broken(block[-1][0], "the sentence ends inside a multiword token", "Add a line for each of its words.")
    return Sentence(
        words=tuple(columns[_FORM] for columns, _ in draft.rows),
        upos=tuple(columns[_UPOS] for columns, _ in draft.rows),
        heads=_heads(draft),
        relations=tuple(columns[_RELATION].split(":")[0] for columns, _ in draft.rows),
        text=draft.comments.get("text"),
        name=draft.comments.get("sent_id", ""),
        line=first,
        contractions=tuple(draft.contractions),
    )


def _comment(draft: _Draft, line: str) -> None:
    found = _conllu("parser").parse_comment_line(line)
    draft.comments.update({key: value for key, value in found if value is not None})


@cache
def _conllu(module: str) -> Any:
    return require(f"conllu.{module}", extra="probing", feature="Reading a treebank")


def _row(draft: _Draft, number: int, columns: list[str]) -> None:
    """Take one line of columns: a word, a multiword token or an empty node."""
    if len(columns) != _COLUMNS:
        draft.broken(
            number,
            f"{len(columns)} columns, expected {_COLUMNS}",
            f"Separate the columns with single tabs and write {_EMPTY} into those without a value.",
        )
    identity = _identity(draft, number, columns[_ID])
    if not columns[_FORM].strip():
        draft.broken(number, "no FORM (column 2)", "Write the word there.")
    if isinstance(identity, int):
        _require_values(draft, number, columns)
        draft.rows.append((columns, number))
    elif identity[1] == "-":
        draft.contractions.append((identity[0] - 1, identity[2], columns[_FORM]))


def _identity(draft: _Draft, number: int, value: str) -> int | tuple[int, str, int]:
    """The ID of a line: 3 of a word, (3, "-", 4) of a multiword token, (3, ".", 1) of an empty node."""
    try:
        identity: int | tuple[int, str, int] | None = _conllu("parser").parse_id_value(value)
    except (ValueError, _conllu("exceptions").ParseException):  # the first: too many digits for a number
        identity = None
    if identity is None:
        draft.broken(
            number, f"the ID {value[:20]!r} is not a number", "Write 1, 2, 3, ..., 3-4 for a multiword token, or 3.1."
        )
    done = len(draft.rows)
    if isinstance(identity, int):
        in_order = identity == done + 1
    elif identity[1] == "-":
        in_order = identity[0] == done + 1 and draft.covered <= done
    else:
        in_order = identity[0] == done
    if not in_order:
        draft.broken(
            number,
            f"the ID {value[:20]!r} is out of order after {done} word{'' if done == 1 else 's'}",
            "Number the words of each sentence 1, 2, 3, ..., and put a blank line between sentences.",
        )
    return identity


def _require_values(draft: _Draft, number: int, columns: list[str]) -> None:
    """A word needs a tag, a head and a relation."""
    for column, name in ((_UPOS, "UPOS"), (_HEAD, "HEAD"), (_RELATION, "DEPREL")):
        if columns[column].strip() in {"", _EMPTY} or columns[column].startswith(":"):
            what = f"the word {columns[_FORM]!r} has no {name} (column {column + 1})"
            draft.broken(number, what, "Annotate it, or remove the sentence.")


def _heads(draft: _Draft) -> tuple[int, ...]:
    """0-based heads of a tree: every word leads to a root."""
    heads: list[int] = []
    for columns, number in draft.rows:
        value = columns[_HEAD]
        if not _NUMBER.fullmatch(value):
            draft.broken(number, f"the HEAD {value[:20]!r} is not a number", _HEAD_ADVICE)
        if len(value) > len(str(len(draft.rows))) or int(value) > len(draft.rows):
            draft.broken(
                number, f"the HEAD {value[:20]} is out of range: there are {len(draft.rows)} words", _HEAD_ADVICE
            )
        heads.append(int(value) - 1)
    if -1 not in heads:
        draft.broken(draft.rows[0][1], "the sentence has no root", "One word must have the HEAD 0.")
    _require_tree(draft, heads)
    return tuple(heads)


def _require_tree(draft: _Draft, heads: list[int]) -> None:
    """Refuse cycles."""
    leads_to_root = {-1}
    for word in range(len(heads)):
        path: list[int] = []
        place = word
        while place not in leads_to_root:
            if place in path:
                draft.broken(
                    draft.rows[place][1],
                    f"the heads form a cycle at the word {draft.rows[place][0][_FORM]!r}",
                    "Correct the HEAD column: from every word the heads must lead to the root.",
                )
            path.append(place)
            place = heads[place]
        leads_to_root.update(path)
