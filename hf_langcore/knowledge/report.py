"""What a model knew, entry by entry, and shares of it with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hf_langcore.errors import InputError
from hf_langcore.files import json_text
from hf_langcore.knowledge.bootstrap import Estimate, estimate
from hf_langcore.knowledge.scores import Alternatives, FactScore, PairScore, lifts
from hf_langcore.knowledge.table import COLUMNS, cells_of
from hf_langcore.printing import printed

FORMAT_VERSION = 1

What: TypeAlias = Literal["facts", "pairs"]


@dataclass(frozen=True)
class KnowledgeReport:
    """Everything that was asked and answered.

    Attributes:
        facts: Language by language.
        pairs: Likewise.
        settings: Digest of the entries, bootstrap, model and moment.
    """

    facts: tuple[FactScore, ...]
    pairs: tuple[PairScore, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        """Codes, in the order in which they were asked."""
        return list(dict.fromkeys(one.language for one in (*self.facts, *self.pairs)))

    def groups(self, what: What, language: str | None = None) -> list[str]:
        """Kinds of facts or phenomena of pairs, of one language or of all."""
        return list(dict.fromkeys(one.group for one in self._entries(what, language, None)))

    def accuracy(
        self, what: What, *, language: str | None = None, group: str | None = None, per_byte: bool = False
    ) -> Estimate:
        """Share of the entries in which the right alternative is the likeliest.

        The interval is a bootstrap over entries; a fact counts as one entry in all languages together.

        Args:
            what: "facts" or "pairs".
            language: One language; all if None.
            group: One kind of facts or one phenomenon; all if None.
            per_byte: Compare log-likelihoods per UTF-8 byte.

        Raises:
            InputError: There is no such entry.
        """
        entries = self._entries(what, language, group)
        return self._estimate(entries, [one.credit(per_byte=per_byte) for one in entries])

    def margin(
        self, what: What, *, language: str | None = None, group: str | None = None, per_byte: bool = False
    ) -> Estimate:
        """How much likelier the right alternative is than the mean of the others, in nats; the arguments are `accuracy`'s."""
        entries = self._entries(what, language, group)
        return self._estimate(entries, [one.margin(per_byte=per_byte) for one in entries])

    def lift(self, *, language: str | None = None, group: str | None = None) -> Estimate | None:
        """How much a fact's prompt adds to the right completion, in nats, beside the prompts after which it is wrong.

        The finest of the figures: zero for a model that does not look at the prompt, whichever words it prefers. None where no
        right completion is a wrong one elsewhere.

        Args:
            language: One language; all if None.
            group: One kind of facts; all if None.

        Raises:
            InputError: There is no such fact.
        """
        self._entries("facts", language, group)
        found = lifts(one for one in self.facts if language in {None, one.language} and group in {None, one.group})
        return self._interval([value for _, value in found], [name for name, _ in found]) if found else None

    def chance(self, what: What, *, language: str | None = None, group: str | None = None) -> float:
        """Accuracy of a model that tells nothing apart."""
        entries = self._entries(what, language, group)
        return sum(one.chance for one in entries) / len(entries)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: a summary by language and group, and every entry."""
        return {
            "format_version": FORMAT_VERSION,
            "summary": [_plain(row) for row in self._summary()],
            "facts": [_plain(asdict(one)) for one in self.facts],
            "pairs": [_plain(asdict(one)) for one in self.pairs],
            "settings": dict(self.settings),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        return json_text(self.to_dict(), path, indent=1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KnowledgeReport:
        """Read what `to_dict` gave.

        Raises:
            InputError: It is no such report.
        """
        try:
            if values["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {values['format_version']!r}")  # noqa: TRY301
            facts = tuple(FactScore(**_entry(one)) for one in values["facts"])
            pairs = tuple(PairScore(**_entry(one)) for one in values["pairs"])
            return cls(facts, pairs, dict(values["settings"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is no report of facts and minimal pairs ({type(error).__name__}: {error}). Measure again."
            ) from error

    def to_markdown(self) -> str:
        """The summary as a table."""
        lines = ["| " + " | ".join(COLUMNS) + " |", "| --- | --- | --- |" + " ---: |" * (len(COLUMNS) - 3)]
        lines += ["| " + " | ".join(cells_of(row)) + " |" for row in self._summary()]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table that rich prints."""
        from rich.table import Table

        table = Table(title="Facts and minimal pairs", header_style="bold", title_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in COLUMNS[:3] else "right")
        for row in self._summary():
            table.add_row(*cells_of(row))
        return table

    def _entries(self, what: What, language: str | None, group: str | None) -> Sequence[Alternatives]:
        if what not in {"facts", "pairs"}:
            raise InputError(f'Expected "facts" or "pairs", got {what!r}.')
        every: Sequence[Alternatives] = self.facts if what == "facts" else self.pairs
        entries = [one for one in every if language in {None, one.language} and group in {None, one.group}]
        if not entries:
            known = sorted({(one.language, one.group) for one in every})
            raise InputError(f"There are no {what} with language={language!r}, group={group!r}; there are {known}.")
        return entries

    def _estimate(self, entries: Sequence[Alternatives], values: Sequence[float]) -> Estimate:
        # The same fact in several languages is one entry: what a model knows of France is not known eight times over.
        return self._interval(values, [one.name for one in entries])

    def _interval(self, values: Sequence[float], clusters: Sequence[str]) -> Estimate:
        settings = self.settings
        return estimate(values, clusters, resamples=settings.get("resamples", 1000), seed=settings.get("seed", 0))

    def _summary(self) -> list[dict[str, Any]]:
        rows = []
        for what in ("facts", "pairs"):
            if not (self.facts if what == "facts" else self.pairs):
                continue
            for language in (None, *self.languages):
                if language is not None and not any(one.language == language for one in getattr(self, what)):
                    continue
                groups = self.groups(what, language) if language is not None or what == "facts" else []
                rows += [self._row(what, language, group) for group in (None, *groups)]
        return rows

    def _row(self, what: What, language: str | None, group: str | None) -> dict[str, Any]:
        chosen: dict[str, Any] = {"language": language, "group": group}
        return {
            "what": what,
            **chosen,
            "items": len(self._entries(what, language, group)),
            "chance": self.chance(what, **chosen),
            "accuracy": self.accuracy(what, **chosen),
            "accuracy_per_byte": self.accuracy(what, **chosen, per_byte=True),
            "margin": self.margin(what, **chosen),
            "lift": self.lift(**chosen) if what == "facts" else None,
        }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    if isinstance(value, Estimate):
        return {key: _number(each) for key, each in asdict(value).items()}
    if isinstance(value, tuple):
        return [_number(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "-inf" if value < 0 else "inf"
    return value


def _entry(values: Mapping[str, Any]) -> dict[str, Any]:
    likely = tuple(float(one) for one in values["log_likelihoods"])
    return {**values, "log_likelihoods": likely, "texts": tuple(map(str, values["texts"]))}
