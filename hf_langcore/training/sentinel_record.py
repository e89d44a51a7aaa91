"""`sentinel.json`: what a sentinel has seen, from the first step of a run on, also across resumptions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_langcore.errors import ConfigurationError
from hf_langcore.evaluation import LanguageScore, PerplexityReport
from hf_langcore.files import replace_text
from hf_langcore.training.sentinel_breaches import Breach, mean
from hf_langcore.training.sentinel_drift import Drift

SENTINEL_FILE = "sentinel.json"
FORMAT = "hf_langcore.sentinel"
FORMAT_VERSION = 1
PREFIX = "sentinel/"

REMEDY = (
    "Copy the sentinel's files from the output folder in which the run began, or start again without "
    "resume_from_checkpoint, in another output_dir."
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One look at the model.

    Attributes:
        step: Optimizer steps that were made before.
        epoch: Position in the data, in epochs.
        scores: Language -> score.
        drift: What has moved since training began.
        seconds: How long it took.
        label: Name of its column in the report.
    """

    step: int
    epoch: float
    scores: Mapping[str, LanguageScore]
    drift: Drift
    seconds: float
    label: str

    def ratios(self, baseline: Measurement) -> dict[str, float]:
        """Language -> perplexity divided by that of the baseline."""
        return {
            language: _ratio(one.perplexity, baseline.scores[language].perplexity)
            for language, one in self.scores.items()
        }

    def logs(self, baseline: Measurement) -> dict[str, float]:
        """What the Trainer's trackers get."""
        drift = {"drift_max": self.drift.largest, "core_moved": self.drift.core_moved, "core_l2": self.drift.core_l2}
        figures = {
            **{f"ppl_{language}": one.perplexity for language, one in self.scores.items()},
            "ppl_mean": mean(self.scores),
            "worst_ratio": max(self.ratios(baseline).values()),
            **{name: value for name, value in drift.items() if value is not None},
            "seconds": self.seconds,
        }
        return {f"{PREFIX}{name}": value for name, value in figures.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinity becomes the string "inf"."""
        scores = {name: {"nll": _json(one.nll), "tokens": one.tokens} for name, one in self.scores.items()}
        drift = {name: _json(value) for name, value in asdict(self.drift).items()}
        return {
            "step": self.step,
            "epoch": self.epoch,
            "label": self.label,
            "seconds": self.seconds,
            "scores": scores,
            "drift": drift,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """What `to_dict` wrote."""
        scores = {name: LanguageScore(float(one["nll"]), int(one["tokens"])) for name, one in values["scores"].items()}
        moved: dict[str, Any] = {name: _number(value) for name, value in values["drift"].items()}
        drift = Drift(**moved)
        return cls(values["step"], values["epoch"], scores, drift, values["seconds"], values["label"])


@dataclass
class SentinelRecord:
    """Everything that a sentinel has seen in a run.

    Attributes:
        settings: How the text was measured, as in a PerplexityReport, and the limits.
        measurements: In the order in which they were made; the first is the baseline.
        breaches: Limits that were passed.
        stopped_because: Why the sentinel ended training, or None.
        train_seconds: Wall time of training, measurements included.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    stopped_because: str | None = None
    train_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of all measurements."""
        return sum(one.seconds for one in self.measurements)

    @property
    def time_share(self) -> float:
        """Share of training that measuring took."""
        return self.seconds / self.train_seconds if self.train_seconds else 0.0

    def report(self) -> PerplexityReport:
        """Language x step.

        Raises:
            ConfigurationError: Nothing was measured yet.
        """
        if not self.measurements:
            raise ConfigurationError("The sentinel has measured nothing yet: call trainer.train() first.")
        return PerplexityReport({one.label: one.scores for one in self.measurements}, settings=self.settings)

    def up_to(self, step: int) -> SentinelRecord:
        """Without what was seen after a step, for a run that resumes there."""
        return SentinelRecord(
            settings=self.settings,
            measurements=[one for one in self.measurements if one.step <= step],
            breaches=[one for one in self.breaches if one.step <= step],
            train_seconds=self.train_seconds,
        )

    def require_texts(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Refuse to compare figures of other texts with the baseline.

        Args:
            settings: How the texts of this run were cut, with their digest.
            folder: Where the record was read.

        Raises:
            ConfigurationError: The baseline is of other texts, or missing.
        """
        if not self.measurements or self.settings.get("text_sha256") != settings.get("text_sha256"):
            raise ConfigurationError(
                f"{folder / SENTINEL_FILE} was measured on other texts, or on texts cut differently (block_size, "
                "max_tokens, seed), so its baseline cannot be compared with. Resume with the sentinel that the run began "
                "with, or start again in another output_dir."
            )

    def to_json(self) -> str:
        """As JSON text."""
        values = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "stopped_because": self.stopped_because,
            "measuring_seconds": self.seconds,
            "train_seconds": self.train_seconds,
            "breaches": [one.to_dict() for one in self.breaches],
            "measurements": [one.to_dict() for one in self.measurements],
        }
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, folder: Path) -> None:
        """Write `sentinel.json`, all or nothing."""
        replace_text(folder / SENTINEL_FILE, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> SentinelRecord:
        """Read `sentinel.json`.

        Raises:
            ConfigurationError: It is missing, damaged or of another version.
        """
        path = folder / SENTINEL_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (values["format"], values["format_version"]) != (FORMAT, FORMAT_VERSION):
                raise ConfigurationError(f"{path} was written by another version of hf_langcore. {REMEDY}")
            return cls(
                settings=values["settings"],
                measurements=[Measurement.from_dict(one) for one in values["measurements"]],
                breaches=[Breach.from_dict(one) for one in values["breaches"]],
                stopped_because=values["stopped_because"],
                train_seconds=values["train_seconds"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(
                f"Training resumes from a checkpoint of a run with a sentinel, but {path} is missing or damaged "
                f"({type(error).__name__}), so what the model could do before that run is not known. {REMEDY}"
            ) from error


def _ratio(now: float, before: float) -> float:
    return now / before if math.isfinite(before) else 1.0


def _number(value: Any) -> Any:
    return math.inf if value == "inf" else value


def _json(value: Any) -> Any:
    return "inf" if isinstance(value, float) and not math.isfinite(value) else value
