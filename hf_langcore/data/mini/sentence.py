"""A generated sentence: its tokens with tags and heads, its text, and its CoNLL-U form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MiniToken:
    """One syntactic word.

    Attributes:
        form: The word as written; Vietnamese words may hold spaces, as in Universal Dependencies.
        upos: Universal part-of-speech tag.
        head: 1-based index of the governing token, 0 for the root, as in CoNLL-U.
        deprel: Universal dependency relation to the head.
        space_after: Whether a space separates it from what follows.
    """

    form: str
    upos: str
    head: int
    deprel: str
    space_after: bool = True


@dataclass(frozen=True, slots=True)
class MiniSentence:
    """A sentence of the mini corpus.

    Attributes:
        language: ISO 639-1 code.
        tokens: The words and punctuation marks in surface order.
    """

    language: str
    tokens: tuple[MiniToken, ...]

    @property
    def text(self) -> str:
        """The sentence as it is written, without a space at its end."""
        return "".join([t.form + " " if t.space_after else t.form for t in self.tokens]).rstrip()

    def to_conllu(self, sentence_id: str | None = None) -> str:
        """The sentence as one CoNLL-U block of ten columns, closed by the empty line that the format asks for.

        Args:
            sentence_id: Written as `# sent_id` where given.

        Returns:
            The comment lines, one line a token, and an empty line.
        """
        comments = [f"# sent_id = {sentence_id}"] if sentence_id is not None else []
        comments.append(f"# text = {self.text}")
        rows = [_row(number, token) for number, token in enumerate(self.tokens, start=1)]
        return "\n".join([*comments, *rows]) + "\n\n"


def _row(number: int, token: MiniToken) -> str:
    misc = "_" if token.space_after else "SpaceAfter=No"
    columns = (str(number), token.form, "_", token.upos, "_", "_", str(token.head), token.deprel, "_", misc)
    return "\t".join(columns)
