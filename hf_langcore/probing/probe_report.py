"""ProbeReport and TransferReport: layer x language, as numbers, JSON values and console tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.files import json_text
from hf_langcore.printing import printed
from hf_langcore.probing.scores import ProbeScore
from hf_langcore.strict_json import parse_json

FORMAT_VERSION = 1

Cells = Mapping[int, Mapping[str, ProbeScore]]


class ProbeReport:
    """How well linear probes do: one for each layer, tested on each language.

    Attributes:
        task: "relation", "upos" or what the caller called it.
        train_languages: What the probes were trained on.
        scores: Layer -> language -> score; layer 0 are the embeddings.
        settings: How it was measured: model, pooling, seeds, items, share of held-out sentences, open edits.
    """

    def __init__(
        self, task: str, train_languages: Sequence[str], scores: Cells, *, settings: Mapping[str, Any] | None = None
    ) -> None:
        if not scores or not all(scores.values()):
            raise InputError("A ProbeReport needs scores of at least one layer and one language.")
        if len({tuple(row) for row in scores.values()}) > 1:
            raise InputError("All layers of a ProbeReport need the same languages, in the same order.")
        self.task = task
        self.train_languages = tuple(train_languages)
        self.scores = {int(layer): dict(row) for layer, row in scores.items()}
        self.settings = dict(settings or {})

    @property
    def layers(self) -> list[int]:
        """The layers, in order."""
        return list(self.scores)

    @property
    def languages(self) -> list[str]:
        """The languages that were tested, in order."""
        return list(next(iter(self.scores.values())))

    @property
    def unseen_languages(self) -> list[str]:
        """Tested languages that the probes were not trained on."""
        return [language for language in self.languages if language not in self.train_languages]

    @property
    def accuracy(self) -> dict[int, dict[str, float]]:
        """Layer -> language -> accuracy."""
        return self._figures(lambda score: score.accuracy)

    @property
    def macro_f1(self) -> dict[int, dict[str, float]]:
        """Layer -> language -> macro F1."""
        return self._figures(lambda score: score.macro_f1)

    def mean_accuracy(self, layer: int, languages: Sequence[str] | None = None) -> float:
        """Mean accuracy of a layer over languages, each counting the same; over all that were tested where None."""
        chosen = self.languages if languages is None else list(languages)
        if layer not in self.scores or not chosen or not set(chosen) <= set(self.languages):
            raise InputError(
                f"The report has the layers {self.layers} and languages {self.languages}, not {layer}, {chosen}."
            )
        return sum(self.scores[layer][language].accuracy for language in chosen) / len(chosen)

    def best_layer(self, languages: Sequence[str] | None = None) -> int:
        """The layer of the highest mean accuracy, the lowest of equals.

        Args:
            languages: Over which; by default those that the probes were not trained on, or all where there are none. It is
                chosen by what it is judged by, so its accuracy is a little flattered.
        """
        chosen = languages or self.unseen_languages or self.languages
        return max(self.layers, key=lambda layer: (self.mean_accuracy(layer, chosen), -layer))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "task": self.task,
            "train_languages": list(self.train_languages),
            "settings": self.settings,
            "best_layer": self.best_layer(),
            "scores": {
                str(layer): {language: score.to_dict() for language, score in row.items()}
                for layer, row in self.scores.items()
            },
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        return json_text(self.to_dict(), path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProbeReport:
        """The reverse of `to_dict`.

        Raises:
            InputError: These are no values of a report, or of a newer format.
        """
        if not isinstance(values, Mapping) or values.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"Expected the values of a probe report of format {FORMAT_VERSION}, which `to_dict` gives. Newer formats need a "
                "newer hf_langcore."
            )
        try:
            scores = {
                int(layer): {str(language): ProbeScore.from_dict(score) for language, score in row.items()}
                for layer, row in values["scores"].items()
            }
            return cls(str(values["task"]), list(values["train_languages"]), scores, settings=values["settings"])
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"These are no values of a probe report ({error!r}). Pass what `to_dict` gave."
            ) from error

    @classmethod
    def from_json(cls, source: str | Path) -> ProbeReport:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises:
            InputError: It is no report.
        """
        is_text = isinstance(source, str) and source.lstrip().startswith("{")
        try:
            values = parse_json(str(source) if is_text else Path(source).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"Cannot read a probe report from {str(source)[:80]!r}: {error}.") from error
        return cls.from_dict(values)

    def __rich__(self) -> Any:
        """The table that rich prints: a row for each language, a column for each layer."""
        from rich.table import Table

        caption = "*: trained on other sentences of it; ±: 95 % interval over sentences. " + _caption(self.settings)
        table = Table(title=self._title(), caption=caption, header_style="bold", title_justify="left")
        table.add_column("language")
        for layer in self.layers:
            table.add_column(f"layer {layer}" if layer else "embeddings", justify="right")
        table.add_column("guess", justify="right")
        for row in self._rows():
            table.add_row(*row)
        return table

    def __str__(self) -> str:
        return printed(self, width=max(100, 12 * (len(self.layers) + 3)))

    def __repr__(self) -> str:
        best = self.best_layer()
        return f"ProbeReport({self.task}, {len(self.languages)} languages, best layer {best}: {self.mean_accuracy(best):.3f})"

    def _title(self) -> str:
        return f"Accuracy of linear probes for {self.task}, trained on {', '.join(self.train_languages)}"

    def _rows(self) -> list[list[str]]:
        """Cells of the table: languages, then means over those trained on and those not."""
        rows = []
        for language in self.languages:
            scores = [self.scores[layer][language] for layer in self.layers]
            name = f"{language} *" if language in self.train_languages else language
            rows.append([name, *(_with_interval(score) for score in scores), f"{scores[0].majority:.3f}"])
        seen = [language for language in self.languages if language in self.train_languages]
        for name, chosen in (("mean of trained *", seen), ("mean of others", self.unseen_languages)):
            if len(chosen) > 1:
                rows.append([name, *(f"{self.mean_accuracy(layer, chosen):.3f}" for layer in self.layers), ""])
        return rows

    def _figures(self, figure: Callable[[ProbeScore], float]) -> dict[int, dict[str, float]]:
        return {layer: {code: figure(score) for code, score in row.items()} for layer, row in self.scores.items()}


class TransferReport:
    """Probes that were trained on one language each and tested on all: train x test, for each layer.

    Attributes:
        reports: Train language -> its report.
    """

    def __init__(self, reports: Mapping[str, ProbeReport]) -> None:
        if not reports:
            raise InputError("A TransferReport needs at least one report.")
        first = next(iter(reports.values()))
        for name, report in reports.items():
            if (report.layers, report.languages) != (first.layers, first.languages):
                raise InputError(f"All reports need the same layers and languages; that of {name!r} has others.")
        self.reports = dict(reports)

    @property
    def layers(self) -> list[int]:
        """The layers, in order."""
        return next(iter(self.reports.values())).layers

    @property
    def languages(self) -> list[str]:
        """The languages that were tested, in order."""
        return next(iter(self.reports.values())).languages

    def accuracy(self, layer: int) -> dict[str, dict[str, float]]:
        """Train language -> test language -> accuracy, of one layer."""
        if layer not in self.layers:
            raise InputError(f"The report has the layers {self.layers}, not {layer}.")
        return {train: report.accuracy[layer] for train, report in self.reports.items()}

    def mean_transfer(self, layer: int) -> float:
        """Mean accuracy of a layer over all pairs of two different languages.

        Raises:
            InputError: There is no such layer, or no such pair.
        """
        pairs = [value for train, row in self.accuracy(layer).items() for test, value in row.items() if test != train]
        if not pairs:
            raise InputError("There is no pair of two different languages. Name at least two.")
        return sum(pairs) / len(pairs)

    def best_layer(self) -> int:
        """The layer of the highest mean transfer, the lowest of equals."""
        return max(self.layers, key=lambda layer: (self.mean_transfer(layer), -layer))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "reports": {one: self.reports[one].to_dict() for one in self.reports},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransferReport:
        """The reverse of `to_dict`.

        Raises:
            InputError: These are no values of a report.
        """
        try:
            return cls({str(name): ProbeReport.from_dict(report) for name, report in values["reports"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"These are no values of a transfer report ({error!r}). Pass what `to_dict` gave."
            ) from error

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table that rich prints, of the best layer: a row for each train language, a column for each test language."""
        from rich.table import Table

        layer = self.best_layer() if len(self.languages) > 1 else self.layers[0]
        first = next(iter(self.reports.values()))
        title = f"Accuracy of linear probes for {first.task}, layer {layer}; row: trained on, column: tested on"
        table = Table(title=title, caption=_caption(first.settings), header_style="bold", title_justify="left")
        table.add_column("")
        for language in self.languages:
            table.add_column(language, justify="right")
        for train, row in self.accuracy(layer).items():
            table.add_row(train, *(f"{row[test]:.2f}" for test in self.languages))
        return table


def _with_interval(score: ProbeScore) -> str:
    return f"{score.accuracy:.3f} ±{(score.high - score.low) / 2:.3f}"


def _caption(settings: Mapping[str, Any]) -> str:
    wanted = ("model", "pooling", "seeds", "max_items", "edits")
    named = [f"{key} {settings[key]}" for key in wanted if settings.get(key)]
    return ", ".join(named)
