"""Reading the word tables of the grammars: plain text, one row a concept, columns parted by blanks."""

from __future__ import annotations

from hf_langcore.data.mini.phrase import Phrase, Word


def table(text: str) -> dict[str, tuple[str, ...]]:
    """Rows of `concept form form ...`; an underscore stands for a space inside a form, "-" for no form."""
    rows = (line.split() for line in text.strip().splitlines())
    return {row[0]: tuple("" if cell == "-" else cell.replace("_", " ") for cell in row[1:]) for row in rows}


def phrases(text: str) -> dict[str, Phrase]:
    """Rows of `concept word word ...`, each word as in `phrase_of`."""
    rows = (line.strip().split(maxsplit=1) for line in text.strip().splitlines())
    return {concept: phrase_of(notation) for concept, notation in rows}


def phrase_of(notation: str) -> Phrase:
    """A fixed phrase written as `form/UPOS/relation` words; the one without a relation is the root.

    `relation@2` hangs the word on the second word of the phrase instead of the root. A form that ends in an
    apostrophe joins the next word.
    """
    cells = [cell.split("/") for cell in notation.split()]
    root = next(at for at, cell in enumerate(cells) if cell[-1] == cell[1])
    return Phrase(tuple(_word(cell, at, root) for at, cell in enumerate(cells)), root)


def _word(cell: list[str], at: int, root: int) -> Word:
    form = cell[0].replace("_", " ")
    if at == root:
        return Word(form, cell[1])
    deprel, _, head = cell[2].partition("@")
    target = int(head) - 1 if head else root
    return Word(form, cell[1], deprel, target - at, joins_right=form.endswith("'"))
