"""TaggingReport: target language x number of target sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.printing import printed
from hf_langcore.probing.probe_report import FORMAT_VERSION
from hf_langcore.probing.scores import ProbeScore

Scores = Mapping[int, Mapping[str, ProbeScore]]


class TaggingReport:
    """How well taggers do in languages of which they have seen few sentences or none.

    Attributes:
        train_languages: Source languages.
        layer: The layer whose vectors were tagged.
        joint: Number of target sentences -> target language -> score, of taggers trained on the sources and these.
        alone: The same of taggers trained on the target sentences alone: what the sources add is `joint` minus this.
        settings: How it was measured.
    """

    def __init__(
        self,
        train_languages: Sequence[str],
        *,
        layer: int,
        joint: Scores,
        alone: Scores,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not joint or not all(joint.values()):
            raise InputError("A TaggingReport needs scores of at least one number of sentences and one language.")
        self.train_languages = tuple(train_languages)
        self.layer = layer
        self.joint = {int(shot): dict(row) for shot, row in joint.items()}
        self.alone = {int(shot): dict(row) for shot, row in alone.items()}
        self.settings = dict(settings or {})

    @property
    def shots(self) -> list[int]:
        """Numbers of target sentences, in order."""
        return list(self.joint)

    @property
    def languages(self) -> list[str]:
        """Target languages, in order."""
        return list(next(iter(self.joint.values())))

    @property
    def accuracy(self) -> dict[int, dict[str, float]]:
        """Number of target sentences -> language -> accuracy with the sources."""
        return {shot: {code: score.accuracy for code, score in row.items()} for shot, row in self.joint.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "train_languages": list(self.train_languages),
            "layer": self.layer,
            "settings": self.settings,
            "joint": _values(self.joint),
            "alone": _values(self.alone),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaggingReport:
        """The reverse of `to_dict`.

        Raises:
            InputError: These are no values of a report.
        """
        try:
            return cls(
                list(values["train_languages"]),
                layer=int(values["layer"]),
                joint=_cells(values["joint"]),
                alone=_cells(values["alone"]),
                settings=values["settings"],
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"These are no values of a tagging report ({error!r}). Pass what `to_dict` gave."
            ) from error

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table that rich prints: a row for each language, a column for each number of sentences."""
        from rich.table import Table

        title = f"Tagging accuracy on frozen vectors of layer {self.layer}, sources {', '.join(self.train_languages)}"
        caption = "In brackets: trained on the target sentences alone. ±: 95 % interval over sentences."
        table = Table(title=title, caption=caption, header_style="bold", title_justify="left")
        table.add_column("language")
        for shot in self.shots:
            table.add_column(f"{shot} sentence{'' if shot == 1 else 's'}", justify="right")
        for language in self.languages:
            table.add_row(language, *(self._cell(shot, language) for shot in self.shots))
        return table

    def _cell(self, shot: int, language: str) -> str:
        score = self.joint[shot][language]
        figure = f"{score.accuracy:.3f} ±{(score.high - score.low) / 2:.3f}"
        return figure if shot not in self.alone else f"{figure} ({self.alone[shot][language].accuracy:.3f})"


def _values(scores: Scores) -> dict[str, dict[str, Any]]:
    return {str(shot): {code: score.to_dict() for code, score in row.items()} for shot, row in scores.items()}


def _cells(values: Mapping[str, Mapping[str, Any]]) -> dict[int, dict[str, ProbeScore]]:
    return {
        int(shot): {str(code): ProbeScore.from_dict(score) for code, score in row.items()}
        for shot, row in values.items()
    }
