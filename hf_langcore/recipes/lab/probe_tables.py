"""The figures of the probes: curves over layers, layer by language, language by language, and tagging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hf_langcore.probing.probe_report import ProbeReport, TransferReport
from hf_langcore.probing.scores import ProbeScore
from hf_langcore.probing.tagging_report import TaggingReport
from hf_langcore.recipes.lab.syntax import TASKS
from hf_langcore.report.parts import Cell, Curves, Matrix, Spread, Table


@dataclass(frozen=True, slots=True)
class Findings:
    """All reports of one model.

    Attributes:
        name: Of the model.
        is_encoder: It reads from both sides.
        layers: Task -> probes of each layer.
        transfer: Task -> probes of one language each, at the best layer.
        tagging: Zero-shot and few-shot.
    """

    name: str
    is_encoder: bool
    layers: Mapping[str, ProbeReport]
    transfer: Mapping[str, TransferReport]
    tagging: TaggingReport

    @property
    def kind(self) -> str:
        """For the names of parts."""
        return "encoder" if self.is_encoder else "model"

    def in_words(self) -> str:
        """Where the best layer is and what it is worth, one sentence for each task."""
        said = [f"**{self.name}.**"]
        for task, report in self.layers.items():
            best, unseen = report.best_layer(), report.unseen_languages
            guess = np.mean([report.scores[best][code].majority for code in unseen])
            said.append(
                f"{TASKS[task].capitalize()}: in languages that the probe has not learnt from, layer {best} of "
                f"{report.layers[-1]} is best, {report.mean_accuracy(best, unseen):.3f} right on average (embeddings "
                f"{report.mean_accuracy(report.layers[0], unseen):.3f}, last layer "
                f"{report.mean_accuracy(report.layers[-1], unseen):.3f}, guessing {guess:.3f}); in those that it learnt from "
                f"{report.mean_accuracy(best, report.train_languages):.3f}."
            )
        return " ".join(said)


def layer_curves(task: str, found: Sequence[Findings], baseline: ProbeReport) -> Curves:
    """Mean accuracy over layers, of languages learnt from and of others, with the range over seeds."""
    lines: dict[str, dict[int, tuple[float, float, float]]] = {}
    for one in found:
        report = one.layers[task]
        lines[f"{one.name}: learnt from"] = _by_layer(report, report.train_languages)
        lines[f"{one.name}: others"] = _by_layer(report, report.unseen_languages)
    lines["untrained: learnt from"] = _by_layer(baseline, baseline.train_languages)
    lines["untrained: others"] = _by_layer(baseline, baseline.unseen_languages)
    x = sorted({layer for line in lines.values() for layer in line})
    complete = {label: [line[at] for at in x] for label, line in lines.items() if len(line) == len(x)}
    first = found[0].layers[task]
    guesses = [score.majority for score in first.scores[first.layers[0]].values()]
    return Curves(
        f"{task}_layers",
        f"Probes for the {TASKS[task]} by layer: languages learnt from, and others",
        x_label="layer (0: embeddings)",
        y_label="share right",
        x=tuple(map(float, x)),
        lines={label: tuple(line[at][0] if at in line else None for at in x) for label, line in lines.items()},
        bands={
            label: (tuple(low for _, low, _ in line), tuple(high for _, _, high in line))
            for label, line in complete.items()
        },
        level=float(np.mean(guesses)),
        note="Means over languages; bands are the smallest and largest of the seeds. The horizontal line is guessing: always the "
        "most frequent label.",
    )


def language_matrix(task: str, one: Findings) -> Matrix:
    """Accuracy by language and layer."""
    report = one.layers[task]
    return Matrix(
        f"{task}_languages_{one.kind}",
        f"{one.name}: probes for the {TASKS[task]} by language and layer",
        rows=tuple(_marked(code, report) for code in report.languages),
        columns=tuple(f"layer {layer}" if layer else "embeddings" for layer in report.layers),
        values=tuple(
            tuple(report.scores[layer][code].accuracy for layer in report.layers) for code in report.languages
        ),
        unit="share right",
        note="A star marks languages that the probe learnt from (other sentences of them).",
    )


def language_table(task: str, found: Sequence[Findings], baseline: ProbeReport) -> Table:
    """Each language at the best layer of each model, with its interval, beside what is found without a model."""
    columns, rows = ["language"], []
    for one in found:
        best = one.layers[task].best_layer()
        columns += [f"{one.name}, layer {best}", f"{one.name}, embeddings", f"{one.name}, control task"]
    for code in found[0].layers[task].languages:
        row: list[Cell] = [_marked(code, found[0].layers[task])]
        for one in found:
            report = one.layers[task]
            score = report.scores[report.best_layer()][code]
            row += [spread(score), spread(report.scores[report.layers[0]][code]), score.control]
        blank = baseline.scores[baseline.best_layer()][code]
        rows.append((*row, spread(blank), blank.majority))
    return Table(
        f"{task}_best",
        f"Probes for the {TASKS[task]} at the best layer, by language",
        (*columns, f"untrained, layer {baseline.best_layer()}", "guessing"),
        tuple(rows),
        note="With 95 % intervals over test sentences. The control task says something of the languages learnt "
        "from only. The best layer is the one whose mean over the languages that were not learnt from is highest: it is chosen by what it is judged by, which flatters it a little. A star marks languages learnt from.",
    )


def transfer_part(task: str, one: Findings) -> Matrix:
    """Learnt from by tested on, at the best layer."""
    report = one.transfer[task]
    layer = report.layers[0]
    values = report.accuracy(layer)
    return Matrix(
        f"{task}_transfer_{one.kind}",
        f"{one.name}: from language to language, {TASKS[task]}, layer {layer}",
        rows=tuple(values),
        columns=tuple(report.languages),
        values=tuple(tuple(row[code] for code in report.languages) for row in values.values()),
        unit="share right",
        note="A row is the one language that a probe learnt from, a column the language that it was tested on, always on held-out "
        "sentences; means over seeds. Each probe learns from as many items.",
    )


def tagging_table(one: Findings) -> Table:
    """Target languages by number of their sentences: with the sources, and on these sentences alone."""
    report = one.tagging
    columns = ["language"]
    for shot in report.shots:
        columns += [f"sources and {shot}" if shot else "sources only", *([f"{shot} alone"] if shot else [])]
    rows: list[tuple[Cell, ...]] = []
    for code in report.languages:
        cells: list[Cell] = []
        for shot in report.shots:
            cells += [spread(report.joint[shot][code]), *([spread(report.alone[shot][code])] if shot else [])]
        rows.append((code, *cells))
    figures = zip(*(row[1:] for row in rows), strict=True)
    means = [float(np.mean([cell.value for cell in column if isinstance(cell, Spread)])) for column in figures]
    return Table(
        f"tagging_{one.kind}",
        f"{one.name}: tagging languages that were not learnt from, with no or few of their sentences",
        tuple(columns),
        (*rows, ("mean", *means)),
        note=f"Share of words with the right part of speech, layer {report.layer} (the one that tags the sources best); the model "
        f"is not trained. Sources are {', '.join(report.train_languages)}. Alone: trained on these sentences of the target only. "
        "The penalty is the same for few and many items, so that taggers of few sentences are held back more. "
        "95 % intervals over test sentences.",
        last_is_total=True,
    )


def spread(score: ProbeScore) -> Spread:
    """An accuracy with its interval."""
    return Spread(score.accuracy, score.low, score.high)


def _by_layer(report: ProbeReport, languages: Sequence[str]) -> dict[int, tuple[float, float, float]]:
    """Layer -> mean over languages, and the smallest and largest of the seeds."""
    found = {}
    for layer in report.layers:
        seeds = np.mean([report.scores[layer][code].by_seed for code in languages], axis=0)
        found[layer] = (float(seeds.mean()), float(seeds.min()), float(seeds.max()))
    return found


def _marked(code: str, report: ProbeReport) -> str:
    return f"{code} *" if code in report.train_languages else code
