"""What each layer says about relations and parts of speech: linear probes per layer, within and across languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.errors import InputError
from hf_langcore.modes import adapters_in_force, alterations
from hf_langcore.probing.linear import DEFAULT_ITERATIONS, DEFAULT_PENALTY
from hf_langcore.probing.probe_report import ProbeReport, TransferReport
from hf_langcore.probing.representations import (
    Labelled,
    Pooling,
    WordVectors,
    labelled_relations,
    labelled_words,
    word_vectors,
)
from hf_langcore.probing.runs import (
    DEFAULT_MAX_ITEMS,
    DEFAULT_SEEDS,
    DEFAULT_TEST_SHARE,
    ProbePlan,
    choose_languages,
    probe_labelled,
    transfer_labelled,
)
from hf_langcore.probing.treebanks import Sentence

Task = Literal["relation", "upos"]


def probe_layers(
    model: nn.Module,
    tokenizer: Any,
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    train_languages: Sequence[str],
    test_languages: Sequence[str] | None = None,
    task: Task = "relation",
    pooling: Pooling = "mean",
    layers: Sequence[int] | None = None,
    max_sentences: int | None = None,
    batch_size: int = 16,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    max_items: int = DEFAULT_MAX_ITEMS,
    test_share: float = DEFAULT_TEST_SHARE,
    penalty: float = DEFAULT_PENALTY,
    max_iterations: int = DEFAULT_ITERATIONS,
    control: bool = False,
    center: bool = False,
    progress: bool = True,
) -> ProbeReport:
    """Train a linear probe on each layer in some languages and test it in others.

    The probe reads frozen hidden states: the vector of a word for its part of speech, h(dependent) - h(head) for the relation
    between two words. The same sentence numbers are held out in all languages, so that in parallel treebanks no
    translation of a test sentence is trained on. Languages of unequal treebanks are fine.

    Args:
        model: An encoder or decoder of transformers as it is now; adapters in its layers and open edits count.
        tokenizer: Its tokenizer.
        treebanks: Language -> sentences, as from `load_treebanks`.
        train_languages: One probe is trained on all of these together, on equal numbers of items of each.
        test_languages: Where it is tested; all languages of `treebanks` where None.
        task: "relation" or "upos".
        pooling: "mean", "first" or "last" token of each word.
        layers: Which layers, 0 being the embeddings; None for all.
        max_sentences: Only so many of the first sentences of each language.
        batch_size: Sentences per forward pass.
        seeds: Each holds out other sentences and draws other training items.
        max_items: Training items of one probe, of all its languages together.
        test_share: Share of the sentences to hold out.
        penalty: L2 penalty of the probe, the inverse of scikit-learn's C.
        max_iterations: Of its optimizer.
        control: Also measure the control task (random labels of word types), which takes as long again.
        center: Take each language's mean vector off its vectors first: that removes what tells languages apart, and needs no
            label. The mean is that of the sentences that are not held out.
        progress: Show progress bars.

    Raises:
        CorpusError: A language has no treebank, or too few sentences or labels.
        InputError: An option is out of range.
        MissingExtraError: scikit-learn is not installed (`pip install "hf_langcore[probing]"`).
        NonFiniteError: Hidden states are not finite.
        UnsupportedModelError: The model gives no hidden states.
    """
    plan = ProbePlan(tuple(seeds), max_items, test_share, penalty, max_iterations, control, center)
    tested = list(treebanks if test_languages is None else test_languages)
    chosen = choose_languages(treebanks, [*train_languages, *tested])
    vectors = word_vectors(
        model,
        tokenizer,
        chosen,
        pooling=pooling,
        max_sentences=max_sentences,
        batch_size=batch_size,
        layers=layers,
        progress=progress,
    )
    return probe_labelled(
        labelled(vectors, task),
        train_languages=train_languages,
        test_languages=tested,
        plan=plan,
        task=task,
        layer_numbers=next(iter(vectors.values())).layer_numbers,
        settings=circumstances(model, vectors, pooling),
        progress=progress,
    )


def transfer_matrix(
    model: nn.Module,
    tokenizer: Any,
    treebanks: Mapping[str, Sequence[Sentence]],
    *,
    languages: Sequence[str] | None = None,
    task: Task = "relation",
    pooling: Pooling = "mean",
    layers: Sequence[int] | None = None,
    max_sentences: int | None = None,
    batch_size: int = 16,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    max_items: int = DEFAULT_MAX_ITEMS,
    test_share: float = DEFAULT_TEST_SHARE,
    penalty: float = DEFAULT_PENALTY,
    max_iterations: int = DEFAULT_ITERATIONS,
    control: bool = False,
    center: bool = False,
    progress: bool = True,
) -> TransferReport:
    """Train probes on each language and test them on every one.

    Args:
        model: As of `probe_layers`.
        tokenizer: Its tokenizer.
        treebanks: Language -> sentences.
        languages: Which; all of `treebanks` where None.
        task: As of `probe_layers`, and so are the other options.
        pooling: How a word's tokens become one vector.
        layers: Which layers; None for all.
        max_sentences: Per language.
        batch_size: Sentences per forward pass.
        seeds: Of splits and draws.
        max_items: Training items of one probe.
        test_share: Share of the sentences to hold out.
        penalty: L2 penalty.
        max_iterations: Of the optimizer.
        control: Also measure the control task.
        center: Take each language's mean vector off its vectors first.
        progress: Show progress bars.

    Raises:
        CorpusError: A language has no treebank, or too few sentences or labels.
        InputError: An option is out of range.
        MissingExtraError: scikit-learn is not installed.
    """
    plan = ProbePlan(tuple(seeds), max_items, test_share, penalty, max_iterations, control, center)
    chosen = choose_languages(treebanks, list(treebanks if languages is None else languages))
    vectors = word_vectors(
        model,
        tokenizer,
        chosen,
        pooling=pooling,
        max_sentences=max_sentences,
        batch_size=batch_size,
        layers=layers,
        progress=progress,
    )
    return transfer_labelled(
        labelled(vectors, task),
        plan=plan,
        task=task,
        layer_numbers=next(iter(vectors.values())).layer_numbers,
        settings=circumstances(model, vectors, pooling),
        progress=progress,
    )


def labelled(vectors: Mapping[str, WordVectors], task: str) -> dict[str, Labelled]:
    """Language -> what a probe for a task reads.

    Raises:
        InputError: There is no such task.
    """
    if task not in get_args(Task):
        raise InputError(f"task must be one of {', '.join(get_args(Task))}, got {task!r}.")
    label = labelled_relations if task == "relation" else labelled_words
    return {language: label(found) for language, found in vectors.items()}


def circumstances(model: nn.Module, vectors: Mapping[str, WordVectors], pooling: str) -> dict[str, Any]:
    """What a report says of the model and its words."""
    config: Any = getattr(unwrap(model), "config", None)
    return {
        "model": str(getattr(config, "name_or_path", "") or getattr(config, "model_type", "")),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "pooling": pooling,
        "edits": alterations(model),
        "adapters": adapters_in_force(model),
        "words": {language: len(found.upos) for language, found in vectors.items()},
        "words_cut": sum(found.words_cut for found in vectors.values()),
        "words_without_tokens": sum(found.words_without_tokens for found in vectors.values()),
    }
