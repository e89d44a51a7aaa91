"""Rows that the base model finds far harder or far easier than the other rows of the data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from hf_langcore.architecture import unwrap
from hf_langcore.auditing.findings import Check, Finding
from hf_langcore.auditing.parts import Part, View, excerpt
from hf_langcore.data import start_token, usable_block_size, windows_of
from hf_langcore.data.blocks import IGNORED
from hf_langcore.data.rows import Form, tokenise
from hf_langcore.evaluation import window_losses

_BUFFERED = 128  # rows that are scored together
_GROUP = 30  # rows of a language from which they are judged among themselves
_FEWEST_ROWS = 20
_FEWEST_TOKENS = 8  # the mean of fewer says little
_SMALLEST_SPREAD = 0.05  # nats per token: rows that agree better than this do not make an outlier


@dataclass(frozen=True, slots=True)
class Scored:
    """What the model says about a row.

    Attributes:
        row: Its position.
        nll: Mean negative log-likelihood of its trained tokens, in nats.
        tokens: How many these are.
        shown: The piece of text that a finding shows.
    """

    row: int
    nll: float
    tokens: int
    shown: Part


class PerplexityCheck(Check):
    """Scores every row and finds outliers among rows of the same language.

    Only tokens that would be trained are scored, without the special tokens that a template puts around a turn: a
    base model has never seen them. Each window starts with the start token of `evaluate_perplexity`.

    Args:
        model: A causal LM.
        tokenizer: Its tokenizer.
        form: The form of the rows.
        outlier_z: Robust z-scores below which a row is too easy (boilerplate) and above which it is too hard (noise).
        max_length: Tokens after which training would cut a row; None scores all.
        block_size: Tokens per window.
        batch_size: Windows per forward pass.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        form: Form,
        outlier_z: tuple[float, float],
        max_length: int | None,
        block_size: int,
        batch_size: int | Literal["auto"],
        bos_token_id: int | None,
    ) -> None:
        self.model, self.tokenizer, self.form = model, tokenizer, form
        self.low, self.high = outlier_z
        self.max_length, self.batch_size = max_length, batch_size
        self.block_size = usable_block_size(unwrap(model), block_size)
        self.start = start_token(tokenizer, bos_token_id)
        self.scored: list[Scored] = []
        self.languages: Sequence[str | None] = ()
        eos = getattr(tokenizer, "eos_token_id", None)
        self._special = {self.start.id, eos, *(getattr(tokenizer, "all_special_ids", None) or ())}
        self._waiting: list[tuple[View, list[int], list[bool]]] = []

    def examine(self, view: View) -> Iterable[Finding]:
        """Tokenise the row; a full buffer is scored."""
        if view.problem is None:
            ids, trained = self._tokens(view)
            if any(trained):
                end = len(trained) - trained[::-1].index(True)  # what comes behind is neither scored nor context
                self._waiting.append((view, ids[:end], trained[:end]))
        if len(self._waiting) >= _BUFFERED:
            self._score()
        return ()

    def finish(self) -> Iterator[Finding]:
        """The findings that need all rows."""
        self._score()
        judged = [one for one in self.scored if one.tokens >= _FEWEST_TOKENS and math.isfinite(one.nll)]
        for one in self.scored:
            if not math.isfinite(one.nll):
                yield self._finding(one, "high_perplexity", math.inf)
        for one, value in zip(judged, robust_z(judged, self._groups(judged)), strict=True):
            if value > self.high or value < self.low:
                yield self._finding(one, "high_perplexity" if value > 0 else "low_perplexity", value)

    def settings(self) -> dict[str, Any]:
        """What the report says about the model."""
        config = getattr(unwrap(self.model), "config", None)
        return {
            "model": getattr(config, "_name_or_path", None) or None,
            "revision": getattr(config, "_commit_hash", None),
            "block_size": self.block_size,
            "start_token": self.start.source,
        }

    def _tokens(self, view: View) -> tuple[list[int], list[bool]]:
        """The row's tokens without a leading start token, and which of them count; none where it cannot be read."""
        try:
            row = tokenise(view.row, self.tokenizer, form=self.form, max_length=self.max_length)
        except Exception:  # noqa: BLE001 what a template refuses is the template check's business
            return [], []
        ids, labels = row["input_ids"], row["labels"]
        if ids[:1] == [self.start.id]:
            ids, labels = ids[1:], labels[1:]
        return ids, [label != IGNORED and token not in self._special for token, label in zip(ids, labels, strict=True)]

    def _score(self) -> None:
        width, stride = self.block_size - 1, max(1, self.block_size // 2)
        cut = [list(windows_of(ids, self.start.id, width, stride)) for _, ids, _ in self._waiting]
        flat = [window for windows in cut for window in windows]
        losses = iter(window_losses(self.model, flat, pad_id=self.start.id, batch_size=self.batch_size))
        for (view, _, trained), windows in zip(self._waiting, cut, strict=True):
            tokens = torch.cat([next(losses) for _ in windows])[torch.tensor(trained)].double()
            shown = max(
                (part for part in view.parts if part.role is None or part.role == "assistant"),
                key=_length,
                default=None,
            )
            piece = Part(shown.name, excerpt(shown.text)) if shown else Part("row", "")
            self.scored.append(Scored(view.number, float(tokens.mean()), len(tokens), piece))
        self._waiting.clear()

    def _groups(self, judged: Sequence[Scored]) -> list[str | None]:
        languages = [self.languages[one.row] if one.row < len(self.languages) else None for one in judged]
        return [language if languages.count(language) >= _GROUP else None for language in languages]

    def _finding(self, one: Scored, kind: str, value: float) -> Finding:
        perplexity = math.exp(min(one.nll, 700.0)) if math.isfinite(one.nll) else one.nll
        detail = f"perplexity {perplexity:.4g} over {one.tokens} tokens, robust z {value:+.1f}"
        return Finding(one.row, "perplexity", kind, one.shown.name, detail, one.shown.text, abs(value))


def robust_z(rows: Sequence[Scored], groups: Sequence[str | None]) -> list[float]:
    """How many robust standard deviations each row lies from the median of its group.

    The spread is 1.4826 times the median absolute deviation, at least 0.05 nats; for rows shorter than the median it
    grows with the root of the ratio, since the mean of few tokens scatters more. Rows of no group are judged against
    all. Fewer than 20 rows are not judged (0).
    """
    nll = np.array([one.nll for one in rows])
    tokens = np.array([one.tokens for one in rows], dtype=float)
    names = np.array([group or "" for group in groups])
    values = np.zeros(len(rows))
    for name in set(names.tolist()):
        chosen = names == name
        basis = chosen if name else np.ones(len(rows), dtype=bool)
        if basis.sum() < _FEWEST_ROWS:
            continue
        middle = np.median(nll[basis])
        spread = max(_SMALLEST_SPREAD, 1.4826 * float(np.median(np.abs(nll[basis] - middle))))
        wider = np.sqrt(np.maximum(1.0, np.median(tokens[basis]) / tokens[chosen]))
        values[chosen] = (nll[chosen] - middle) / (spread * wider)
    return [float(value) for value in values]


def _length(part: Part) -> int:
    return len(part.text)
