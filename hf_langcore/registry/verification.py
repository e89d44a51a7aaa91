"""Does it hold here? Every coordinate that is known of a model is edited and measured, beside random controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import unwrap
from hf_langcore.data import DEFAULT_BLOCK_SIZE, Corpora
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import ScoringTask, prepare_scoring
from hf_langcore.evaluation.circumstances import circumstances
from hf_langcore.registry.activations import require_residual
from hf_langcore.registry.catalogue import entries as all_entries
from hf_langcore.registry.catalogue import lookup, models, nearby, user_file
from hf_langcore.registry.entry import Entry
from hf_langcore.registry.judging import Thresholds
from hf_langcore.registry.measuring import Bench
from hf_langcore.registry.places import find_places
from hf_langcore.registry.results import Verification
from hf_langcore.registry.verifier import Verifier

MAX_TOKENS = 4096

_SHOWN = 5


def verify(
    model: nn.Module,
    tokenizer: Any = None,
    corpora: Corpora | None = None,
    *,
    model_id: str | None = None,
    entries: Sequence[Entry | Mapping[str, Any]] | None = None,
    path: str | Path | None = None,
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = MAX_TOKENS,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    controls: int = 2,
    explodes_at: float = 2.0,
    harmless_below: float = 1.1,
    level: float = 0.95,
    samples: int = 1000,
    progress: bool = True,
) -> Verification:
    """Measure every coordinate that is known of a model, and say whether it holds here.

    Weights are really edited, measured and restored bit for bit; of massive activations one forward pass shows whether they
    are there, and hooks set them to zero and to their mean at the tokens where they are massive. Random controls of
    the same form, in the same tensor and of similar magnitude, are edited beside them.

    Args:
        model: A causal LM, bare or wrapped, as it is now.
        tokenizer: Any callable with transformers' tokenizer interface; the model's own, by its name, if None.
        corpora: Language -> texts; the built-in corpus if None. Published figures are of long texts: 32 windows of 2048
            tokens of WikiText, say. Short sentences show much smaller effects.
        model_id: What the model is called in the registry; what it was loaded from if None.
        entries: Measure these instead of those of `lookup(model_id)`.
        path: File of the user's own coordinates; see `register`.
        block_size: Tokens per window, the start token included.
        batch_size: Windows per forward pass.
        max_tokens: At most so many scored tokens per language.
        seed: Shuffles the documents, and draws controls and bootstrap samples; None keeps the order and draws with 0.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        controls: Random controls of each edit; each costs a pass over the text.
        explodes_at: From this ratio of perplexities on an edit makes it explode; the whole interval has to be above.
        harmless_below: Up to this ratio an edit does nothing; the whole interval has to be below.
        level: Of the bootstrap intervals.
        samples: Of the bootstrap.
        progress: Show a progress bar.

    Returns:
        One result for each entry that can be measured (notes cannot), with a verdict: "holds", "does not hold",
        "inconclusive" (the text is too short, or the interval contains a threshold) or "missing".

    Raises:
        InputError: Nothing is known of this model, or an argument is wrong.
        UnsupportedModelError: None of the coordinates exists in this model, or a weight that should be edited is
            quantised or on the meta device.
        NonFiniteError: The model gives NaN or infinite losses without any edit.

    Example:
        >>> for one in verify(model, tokenizer, corpora, model_id="mistralai/Mistral-7B-v0.1"):  # doctest: +SKIP
        ...     print(one.entry.coordinate(), one.verdict, one.ratio)
    """
    thresholds = Thresholds(explodes_at, harmless_below)
    if isinstance(controls, bool) or not isinstance(controls, int) or controls < 0:
        raise InputError(f"controls must be a whole number of at least 0, got {controls!r}.")
    known = _known(model, model_id, entries, path)
    missing = {entry.id: reason for entry in known if (reason := _absence(model, entry)) is not None}
    _require_some(known, missing, model_id or name_of(model))
    task = prepare_scoring(
        model,
        _tokenizer(model) if tokenizer is None else tokenizer,
        _mini() if corpora is None else corpora,
        block_size=block_size,
        max_tokens=max_tokens,
        seed=seed,
        bos_token_id=bos_token_id,
        text_column=text_column,
    )
    settings = _settings(model, task, model_id, thresholds, controls=controls)
    bench = Bench(
        model, task, num_controls=controls, level=level, samples=samples, seed=seed or 0, batch_size=batch_size
    )
    verifier = Verifier(bench, _with_groups(known, path), thresholds, missing)
    bar = tqdm(known, desc="verify", unit="entry", disable=not progress)
    results = tuple(verifier.result(entry) for entry in bar)
    return Verification(results, {**settings, "tokens": task.num_tokens, "base_perplexity": bench.base.perplexity})


def name_of(model: nn.Module) -> str | None:
    """What a model was loaded from: a Hub id, or the whole path of a folder; None where that is not known."""
    name = getattr(getattr(unwrap(model), "config", None), "_name_or_path", None)
    if not name:
        return None
    return str(Path(name).resolve()) if Path(name).is_dir() else str(name)


def _known(
    model: nn.Module, model_id: str | None, given: Sequence[Entry | Mapping[str, Any]] | None, path: str | Path | None
) -> list[Entry]:
    """The entries to measure."""
    if given is not None:
        chosen = [_entry(one) for one in given]
        name = model_id or name_of(model) or "the entries given"
    else:
        name = model_id or name_of(model) or ""
        if not name:
            raise InputError(
                "The model does not say what it was loaded from. Pass model_id= (such as 'mistralai/Mistral-7B-v0.1'), or "
                "entries= with coordinates of your own."
            )
        chosen = lookup(name, path=path)
    measurable = [entry for entry in chosen if entry.kind != "note"]
    if measurable:
        return measurable
    if chosen:
        notes = " ".join(entry.note or "" for entry in chosen)
        raise InputError(f"Of {name!r} only notes are known, which name nothing that can be measured: {notes}")
    near = nearby(name, path=path) or models(path=path)[:_SHOWN]
    raise InputError(
        f"Nothing is known of {name!r}. Known models with similar names: {', '.join(near)}; registry.models() lists all. If "
        "yours is one of them under another name, pass model_id=. To add coordinates of your own: registry.register({...}), "
        f"or `langcore scan --register`; they are kept in {user_file(path)}."
    )


def _entry(given: Entry | Mapping[str, Any]) -> Entry:
    if isinstance(given, Entry):
        return given
    try:
        return Entry.from_dict(given)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"This is no entry: {error}. registry.lookup('Llama-2-7b') shows what they look like."
        ) from error


def _absence(model: nn.Module, entry: Entry) -> str | None:
    """Why an entry is not in this model; None where it is."""
    try:
        if entry.kind == "massive_activation":
            require_residual(model, entry)
        else:
            find_places(model, entry)
    except InputError as error:
        return str(error)
    return None


def _require_some(known: Sequence[Entry], missing: Mapping[str, str], name: str | None) -> None:
    if len(missing) < len(known):
        return
    first = known[0]
    raise UnsupportedModelError(
        f"None of the {len(known)} coordinates known of {name or 'this model'} exists in this model. The first, "
        f"{first.coordinate()}: {missing[first.id]} Either this is another revision or another model than the sources "
        "measured (load that one, or pass its model_id=), or its layers have other names here: pass entries= with the names "
        "that it uses."
    )


def _with_groups(known: Sequence[Entry], path: str | Path | None) -> list[Entry]:
    """The entries, and all others that belong to their groups."""
    found = {entry.id: entry for entry in known}
    groups = {(entry.model_id, entry.group) for entry in known if entry.group}
    for entry in all_entries(path=path) if groups else ():
        if (entry.model_id, entry.group) in groups:
            found.setdefault(entry.id, entry)
    return list(found.values())


def _settings(
    model: nn.Module, task: ScoringTask, model_id: str | None, thresholds: Thresholds, *, controls: int
) -> dict[str, Any]:
    here = circumstances(model)
    return {
        **task.settings,
        **here,
        "model": model_id or here["model"],
        "controls": controls,
        "explodes_at": thresholds.explodes_at,
        "harmless_below": thresholds.harmless_below,
    }


def _mini() -> Corpora:
    from hf_langcore.data.mini import mini_corpora

    return mini_corpora()


def _tokenizer(model: nn.Module) -> Any:
    from transformers import AutoTokenizer

    config = getattr(unwrap(model), "config", None)
    name = getattr(config, "_name_or_path", None)
    if not name:
        raise InputError(
            "The model does not say what it was loaded from, so that its tokenizer is not known. Pass tokenizer=."
        )
    try:
        return AutoTokenizer.from_pretrained(name, revision=getattr(config, "_commit_hash", None) or "main")
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the tokenizer of {name!r}: {error} Pass tokenizer=.") from error
