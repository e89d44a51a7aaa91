"""What each layer knows of syntax: probes by layer and language, from language to language, and tagging with few sentences.

After Xu et al. 2022 (2212.10879): vectors of words and h(dependent) - h(head) of relations, one linear probe per layer,
trained on some languages and tested on the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.probing.probe_report import ProbeReport, TransferReport
from hf_langcore.probing.representations import Labelled
from hf_langcore.probing.runs import ProbePlan, probe_labelled, transfer_labelled
from hf_langcore.probing.tagging import tag_labelled
from hf_langcore.probing.tagging_report import TaggingReport
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench.workbench import Bench, Subject
from hf_langcore.recipes.lab.probe_tables import (
    Findings,
    language_matrix,
    language_table,
    layer_curves,
    tagging_table,
    transfer_part,
)
from hf_langcore.recipes.lab.syntax import TASKS, SubjectWords, source_languages, syntax_facts, untrained
from hf_langcore.report.parts import Part, Section

_WHAT = (
    "Hidden states are read for every word of parsed sentences, as the mean over its tokens, and a logistic regression is trained "
    "on each layer: on the vector of a word for its part of speech, on h(dependent) - h(head) for the relation between two "
    "words. It learns from {sources} together and is tested on other sentences of these and on {others} other languages. The same "
    "sentence numbers are held out everywhere, so that no translation of a test sentence was learnt from."
)
_NOT_SHOWN = (
    "**Not shown:** that the model uses what a probe finds. Guessing always says the most frequent label of the training items; "
    "the control task gives each word type a random label, which a probe can only learn by heart; the untrained model has the same "
    "shape and random weights, so that what it reaches needs no training but the words. Intervals are over test sentences, "
    "bands are the smallest and largest of the seeds, which also draw other training items."
)


@dataclass(frozen=True, slots=True)
class _Study:
    """The probes of one bench; every report is kept."""

    bench: Bench
    treebanks: Mapping[str, Sequence[Sentence]]
    sources: tuple[str, ...]
    plan: ProbePlan
    max_sentences: int

    def words(self, subject: Subject) -> SubjectWords:
        is_shown = self.bench.progress.is_shown
        return SubjectWords(subject, self.treebanks, max_sentences=self.max_sentences, progress=is_shown)

    def layers(self, words: SubjectWords, task: str) -> ProbeReport:
        def make() -> Any:
            found = probe_labelled(
                words.items(task),
                train_languages=self.sources,
                plan=self.plan,
                task=task,
                layer_numbers=words.layer_numbers,
            )
            return found.to_dict()

        return ProbeReport.from_dict(self._kept("probe-layers", words.subject, {"task": task}, make))

    def transfer(self, words: SubjectWords, task: str, layer: int) -> TransferReport:
        def make() -> Any:
            place = words.layer_numbers.index(layer)
            items = {code: _one_layer(one, place) for code, one in words.items(task).items()}
            plan = replace(self.plan, control=False)
            return transfer_labelled(items, plan=plan, task=task, layer_numbers=[layer]).to_dict()

        settings = {"task": task, "layer": layer}
        return TransferReport.from_dict(self._kept("probe-transfer", words.subject, settings, make))

    def tagging(self, words: SubjectWords, shots: Sequence[int]) -> TaggingReport:
        def make() -> Any:
            found = tag_labelled(
                words.items("upos"),
                train_languages=self.sources,
                target_languages=[code for code in self.treebanks if code not in self.sources],
                shots=shots,
                plan=self.plan,
                layer_numbers=words.layer_numbers,
            )
            return found.to_dict()

        return TaggingReport.from_dict(self._kept("tagging", words.subject, {"shots": list(shots)}, make))

    def _kept(self, name: str, subject: Subject, own: Mapping[str, Any], make: Any) -> Any:
        settings = {
            "subject": subject.digest,
            "treebanks": self.bench.companions["treebanks"],
            "sources": list(self.sources),
            "max_sentences": self.max_sentences,
            **self.plan.settings(),
            **own,
        }
        return self.bench.kept(name, settings, make)


def probes(
    bench: Bench,
    *,
    train_languages: tuple[str, ...] = (),
    max_sentences: int = 200,
    max_items: int = 3000,
    seeds: int = 3,
    shots: tuple[int, ...] = (0, 10, 50),
    control: bool = True,
    center: bool = False,
) -> Section:
    """Layer curves, transfer between languages, and tagging, of the model and of the encoder if there is one.

    Args:
        bench: Model, treebanks, an encoder, and a folder.
        train_languages: What probes learn from; Arabic, English, Russian and Chinese if empty.
        max_sentences: Only so many of the first sentences of each language.
        max_items: Words or relations that a probe learns from, of all its languages together.
        seeds: Times that sentences are held out and items drawn.
        shots: Sentences of the target language that a tagger also learns from.
        control: Also probe for random labels of word types.
        center: Take each language's mean vector off its vectors first.
    """
    if seeds < 1:
        raise InputError(f"seeds is a number of repetitions, at least 1, got {seeds!r}.")
    started = time.perf_counter()
    banks = bench.require_treebanks()
    first = bench.settings.seed
    plan = ProbePlan(tuple(range(first, first + seeds)), max_items, control=control, center=center)
    study = _Study(bench, banks, source_languages(banks, train_languages), plan, max_sentences)
    bench.progress.expect(len(TASKS) + (2 * len(TASKS) + 1) * len(bench.subjects))
    found = [_probe(study, subject, shots) for subject in bench.subjects]
    blank = study.words(untrained(bench.subjects[0], seed=first))
    baseline = {task: study.layers(blank, task) for task in TASKS}
    own = {"max_items": max_items, "seeds": seeds, "shots": list(shots), "control": control, "center": center}
    facts = {**syntax_facts(bench, study.sources, max_sentences), **own}
    others = len(banks) - len(study.sources)
    text = (
        _WHAT.format(sources=", ".join(study.sources), others=others),
        *(one.in_words() for one in found),
        _NOT_SHOWN,
    )
    parts = _parts(found, baseline)
    return Section("probes", "What each layer knows of syntax", text, parts, facts, time.perf_counter() - started)


def _probe(study: _Study, subject: Subject, shots: Sequence[int]) -> Findings:
    words = study.words(subject)
    layers = {task: study.layers(words, task) for task in TASKS}
    transfer = {task: study.transfer(words, task, report.best_layer()) for task, report in layers.items()}
    return Findings(subject.name, subject.is_encoder, layers, transfer, study.tagging(words, shots))


def _parts(found: Sequence[Findings], baseline: Mapping[str, ProbeReport]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for task in TASKS:
        parts += [layer_curves(task, found, baseline[task]), language_table(task, found, baseline[task])]
        parts += [language_matrix(task, one) for one in found]
        parts += [transfer_part(task, one) for one in found]
    return (*parts, *(tagging_table(one) for one in found))


def _one_layer(items: Labelled, place: int) -> Labelled:
    return replace(items, layers=items.layers[place : place + 1])
