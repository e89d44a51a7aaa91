"""Do languages arrange their relations alike, and what does fine-tuning in one language do to that?"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from hf_langcore.errors import InputError
from hf_langcore.probing.alignment import AlignmentSettings, align_relations
from hf_langcore.probing.alignment_report import AlignmentReport
from hf_langcore.probing.projection import Projection, project
from hf_langcore.probing.prototypes import prototypes
from hf_langcore.probing.representations import labelled_relations, word_vectors
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench.workbench import Bench, Subject
from hf_langcore.recipes.encoder import train_masked
from hf_langcore.recipes.lab.alignment_parts import state_parts
from hf_langcore.recipes.paper.further import (
    FurtherTraining,
    fresh_copy,
    in_order,
    pretrain_further,
    rate_for,
)
from hf_langcore.recipes.paper.further_texts import block_size_for, own_blocks, trained_language
from hf_langcore.report.parts import Part, Section

_ENCODER_RATE = 5e-4
_TEXT = (
    (
        "A relation is the vector h(dependent) - h(head); its **prototype** in a language is the mean over a treebank. "
        "**Similarity** correlates the distances between prototypes of two languages. **Retrieval** rotates the prototypes of one "
        "language onto those of the other without one relation, and asks whether that one lands nearest to its own; the "
        "**held-out error** is how far off it lands, 1 being no better than the mean. The **residual** of a rotation fitted on all "
        "relations is shown because it is often reported: a few points in many dimensions can be rotated onto nearly anything, "
        "so compare it with its shuffled figure. **Transport** is the distance between the labelled clouds, above that between two "
        "samples of one language and as a share of it."
    ),
    (
        "Then a copy of each model is **fine-tuned on the text of one language** and measured on the same sentences with the same "
        "draws. Shuffled figures have the labels of one language exchanged."
    ),
    (
        "**Not shown:** that aligned relations cause transfer. Prototypes of the embedding layer are alike because words that hold "
        "the same relations are, without any syntax being read from the sentence; compare later layers with it. The pictures "
        "suggest and measure nothing."
    ),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all measurements of this section share."""

    banks: Mapping[str, Sequence[Sentence]]
    layers: tuple[int, ...] | None
    settings: AlignmentSettings
    language: str
    steps: int
    seeds: int

    def facts(self) -> dict[str, Any]:
        own = {"languages": list(self.banks), "layers": None if self.layers is None else list(self.layers)}
        return {**own, "settings": asdict(self.settings)}


def alignment(
    bench: Bench,
    *,
    languages: Sequence[str] = (),
    layers: Sequence[int] | None = None,
    sentences: int = 200,
    min_count: int = 10,
    draws: int = 100,
    transport_seeds: int = 2,
    fine_tuning_language: str | None = None,
    fine_tuning_steps: int = 100,
    seeds: int = 2,
) -> Section:
    """How alike languages arrange their relations in each layer, before and after fine-tuning in one language.

    Args:
        bench: The workbench, with treebanks.
        languages: Which to compare; all treebanks if empty.
        layers: Numbers of layers; None for all.
        sentences: At most so many of the first sentences of each language.
        min_count: Relations that a language has more seldom are left out.
        draws: Bootstrap draws over sentences.
        transport_seeds: Subsamples of the transport distance.
        fine_tuning_language: Whose text is trained on; Chinese if None, as in the talk, where the core was looked for in it.
        fine_tuning_steps: Steps of eight blocks (decoder) or sixteen (encoder); 0 leaves fine-tuning out.
        seeds: Fine-tuned copies of each model.

    Raises:
        InputError: There is no treebank of a language, or fewer than two are left.
    """
    banks = bench.require_treebanks()
    missing = [language for language in languages if language not in banks]
    if missing:
        raise InputError(f"There are no treebanks of {missing}; there are those of {list(banks)}. Leave them out.")
    if fine_tuning_steps and seeds < 1:
        raise InputError(f"seeds is a number of fine-tuned copies, at least 1, got {seeds}.")
    plan = _Plan(
        banks={language: banks[language][:sentences] for language in languages or banks},
        layers=None if layers is None else tuple(layers),
        settings=AlignmentSettings(
            max_sentences=sentences,
            min_count=min_count,
            draws=draws,
            procrustes_draws=min(6, draws),
            seeds=transport_seeds,
            seed=bench.settings.seed,
        ),
        language=trained_language(bench, fine_tuning_language),
        steps=fine_tuning_steps,
        seeds=seeds if fine_tuning_steps else 0,
    )
    bench.progress.expect(len(bench.subjects) * (1 + plan.seeds))
    parts = [part for subject in bench.subjects for part in _subject_parts(bench, plan, subject)]
    own = {"fine_tuning_language": plan.language, "fine_tuning_steps": plan.steps, "fine_tuned_copies": plan.seeds}
    facts = {**bench.facts(), **plan.facts(), **own, "subjects": [one.name for one in bench.subjects]}
    return Section(
        name="alignment",
        title="How alike languages arrange their relations, before and after fine-tuning",
        text=_TEXT,
        parts=tuple(parts),
        facts=facts,
    )


def _subject_parts(bench: Bench, plan: _Plan, subject: Subject) -> list[Part]:
    before = AlignmentReport.from_dict(_before(bench, plan, subject))
    layer = _shown_layer(before)
    found = [_after(bench, plan, subject, layer, seed) for seed in range(plan.seeds)]
    after = [AlignmentReport.from_dict(one["alignment"]) for one in found]
    picture = _projection(found[0]["picture"]) if found else None
    return state_parts(subject, before, after, layer=layer, picture=picture, language=plan.language)


def _shown_layer(report: AlignmentReport) -> int:
    """The layer of the matrices and the picture: the most alike of those that read the sentence."""
    places = [place for place, layer in enumerate(report.layers) if layer > 0] or [0]
    mean = report.measures["rsa"].mean
    return report.layers[max(places, key=lambda place: float(mean[place]))]


def _identity(bench: Bench, plan: _Plan, subject: Subject) -> dict[str, Any]:
    companions = {
        **bench.companions,
        "encoder": None,
    }  # a decoder's figures do not depend on it, and an encoder is named
    return {**plan.facts(), "subject": subject.digest, "companions": companions}


def _before(bench: Bench, plan: _Plan, subject: Subject) -> dict[str, Any]:
    def make() -> dict[str, Any]:
        return _measured(bench, plan, subject, subject.model)

    found: dict[str, Any] = bench.kept("alignment", _identity(bench, plan, subject), make)
    return found


def _after(bench: Bench, plan: _Plan, subject: Subject, layer: int, seed: int) -> dict[str, Any]:
    """The same of a fine-tuned copy, with the picture of both."""
    training = {"language": plan.language, "steps": plan.steps, "seed": bench.settings.seed + seed, "layer": layer}

    def make() -> dict[str, Any]:
        model = _fine_tuned(bench, plan, subject, seed=bench.settings.seed + seed)
        picture = _picture(plan, subject, model, layer, seed=bench.settings.seed) if seed == 0 else None
        return {"alignment": _measured(bench, plan, subject, model), "picture": picture}

    found: dict[str, Any] = bench.kept("alignment_after", {**_identity(bench, plan, subject), **training}, make)
    return found


def _measured(bench: Bench, plan: _Plan, subject: Subject, model: nn.Module) -> dict[str, Any]:
    report = align_relations(
        model,
        subject.tokenizer,
        plan.banks,
        layers=plan.layers,
        settings=plan.settings,
        progress=bench.progress.is_shown,
    )
    return report.to_dict()


def _fine_tuned(bench: Bench, plan: _Plan, subject: Subject, *, seed: int) -> nn.Module:
    """A copy, trained further with the objective that it was made by."""
    if subject.is_encoder:
        model = copy.deepcopy(subject.model).float()
        texts = {plan.language: list(bench.texts.train[plan.language])}
        train_masked(model, subject.tokenizer, texts, steps=plan.steps, seed=seed, learning_rate=_ENCODER_RATE)
        return model
    decoder: nn.Module = fresh_copy(bench)
    text = own_blocks(bench, plan.language, block_size=block_size_for(bench, None))
    training = FurtherTraining(rate_for(decoder, None), seed=seed)
    count = plan.steps * training.batch_size
    order = in_order(len(text), seed=seed, passes=-(-count // len(text)))[:count]
    pretrain_further(decoder, text.blocks[order], training)
    return decoder


def _picture(plan: _Plan, subject: Subject, after: nn.Module, layer: int, *, seed: int) -> dict[str, Any]:
    """Prototypes of both states in one embedding, as JSON values."""
    panels = {
        "before": _prototypes(plan, subject, subject.model, layer),
        f"after fine-tuning on {plan.language}": _prototypes(plan, subject, after, layer),
    }
    return asdict(project(panels, seed=seed))


def _prototypes(plan: _Plan, subject: Subject, model: nn.Module, layer: int) -> dict[str, Any]:
    found = {}
    for language, sentences in plan.banks.items():
        vectors = word_vectors(model, subject.tokenizer, {language: sentences}, layers=[layer])[language]
        own = prototypes(labelled_relations(vectors), min_count=plan.settings.min_count)
        found[language] = (own.layers[0], own.labels)
    return found


def _projection(values: Mapping[str, Any]) -> Projection:
    return Projection(**{name: tuple(one) for name, one in values.items()})
