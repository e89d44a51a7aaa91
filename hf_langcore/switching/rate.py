"""Generations after prompts in many languages, and whether they stay in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from torch import nn
from tqdm.auto import tqdm

from hf_langcore.data import check_batch_size, encode
from hf_langcore.data.blocks import text_config
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.evaluation.circumstances import circumstances
from hf_langcore.language_id import canonical, require_known
from hf_langcore.modes import eval_mode
from hf_langcore.replay import ReplaySettings
from hf_langcore.replay.prompts import start_of, stop_ids_of
from hf_langcore.replay.sampling import continuations, random_numbers
from hf_langcore.switching.judging import Criteria, judge
from hf_langcore.switching.report import Generation, SwitchingReport

_BATCH = 32
_CUT = "\N{REPLACEMENT CHARACTER}"  # what is left of a character whose bytes did not all come


def code_switching_rate(
    model: nn.Module,
    tokenizer: Any,
    prompts: Mapping[str, Sequence[str]],
    *,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    criteria: Criteria | None = None,
    batch_size: int | Literal["auto"] = "auto",
    progress: bool = True,
) -> SwitchingReport:
    """Let a model go on from prompts, and count the texts that leave the prompt's language.

    A text leaves where a window of it is in letters of another script, or where the language identifier finds another
    language `criteria.ratio` times likelier than the prompt's. Each text has random numbers of its own, drawn from the seed,
    the language and its number, so that texts do not depend on the batch, and two states of a model are compared on the
    same draws.

    Args:
        model: A causal LM as it is now, bare or wrapped; open edits count.
        tokenizer: Its tokenizer.
        prompts: Language -> prompts. Prompts longer than the context lose their beginning.
        max_new_tokens: Tokens of each text, at most.
        temperature: Divides the logits.
        top_p: Tokens are drawn from the most probable ones that have this probability together.
        samples: Texts after each prompt.
        seed: Of the draws.
        criteria: When a text has left its language.
        batch_size: Texts at once; "auto" for 32.
        progress: Show a progress bar.

    Raises:
        InputError: A number is out of range, or the identifier does not know a language.
        CorpusError: A language has no prompt, or an empty one.
        UnsupportedModelError: The model cannot generate.

    Example:
        >>> report = code_switching_rate(model, tokenizer, {"de": ["Gestern war"], "zh": ["昨天"]})  # doctest: +SKIP
        >>> report.rate("de")  # doctest: +SKIP
        Rate(value=0.0, low=0.0, high=0.79, count=1)
    """
    settings = ReplaySettings(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise InputError(f"samples must be a whole number of at least 1, got {samples!r}.")
    if not hasattr(model, "generate"):
        raise UnsupportedModelError(f"{type(model).__name__} has no `generate`; code-switching needs a causal LM.")
    size = check_batch_size(batch_size) or _BATCH
    checked = _checked(prompts, "prompts")
    jobs = [
        (language, prompt, sample * len(listed) + number)
        for language, listed in checked.items()
        for sample in range(samples)
        for number, prompt in enumerate(listed)
    ]
    texts: list[str] = []
    with eval_mode(model), tqdm(total=len(jobs), desc="generations", unit="text", disable=not progress) as bar:
        for first in range(0, len(jobs), size):
            texts += _written(model, tokenizer, jobs[first : first + size], settings)
            bar.update(len(texts) - bar.n)
    sampling = {name: getattr(settings, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")}
    facts = {"sampling": {**sampling, "samples": samples}, **circumstances(model)}
    pairs = [(language, prompt, text) for (language, prompt, _), text in zip(jobs, texts, strict=True)]
    return _report(pairs, criteria, facts)


def switching_of_texts(texts: Mapping[str, Sequence[str]], *, criteria: Criteria | None = None) -> SwitchingReport:
    """The same for texts that exist already, such as logged answers of a model.

    Args:
        texts: Language that they should be in -> texts. Empty ones count as too short.
        criteria: When a text has left its language.

    Raises:
        InputError: The identifier does not know a language.
        CorpusError: A language has no text.
    """
    checked = _checked(texts, "texts", may_be_empty=True)
    return _report([(language, "", text) for language, listed in checked.items() for text in listed], criteria, {})


def _report(
    pairs: Sequence[tuple[str, str, str]], criteria: Criteria | None, facts: Mapping[str, Any]
) -> SwitchingReport:
    chosen = criteria or Criteria()
    if chosen.among is not None:
        require_known(chosen.among)
    listed = [
        Generation(language, prompt, text, judge(text, canonical(language), chosen))
        for language, prompt, text in pairs
    ]
    return SwitchingReport(tuple(listed), {"criteria": asdict(chosen), **facts})


def _checked(texts: Mapping[str, Sequence[str]], name: str, *, may_be_empty: bool = False) -> dict[str, Sequence[str]]:
    if not isinstance(texts, Mapping) or not texts:
        raise CorpusError(f"{name} must be a mapping of language codes to lists of texts, got {texts!r:.80}.")
    require_known(list(texts))
    for language, listed in texts.items():
        if isinstance(listed, str) or not listed or not all(isinstance(one, str) for one in listed):
            raise CorpusError(f"{language!r}: {name} must be a list of at least one text, got {listed!r:.80}.")
        empty = [number for number, one in enumerate(listed) if not one.strip()]
        if empty and not may_be_empty:
            raise CorpusError(f"{language!r}: the prompts {empty} are empty, and an empty prompt is in no language.")
    return dict(texts)


def _written(
    model: nn.Module, tokenizer: Any, jobs: Sequence[tuple[str, str, int]], settings: ReplaySettings
) -> list[str]:
    room = _room(model, settings)
    opening = start_of(tokenizer)
    prompts = [[*opening, *encode(tokenizer, prompt)[-room:]] for _, prompt, _ in jobs]
    stop_ids = stop_ids_of(model, tokenizer, None)
    pad_id = getattr(tokenizer, "pad_token_id", None)
    written = continuations(
        model,
        prompts,
        [
            random_numbers([settings.seed, _key(language), number], settings.max_new_tokens)
            for language, _, number in jobs
        ],
        settings,
        stop_ids=stop_ids,
        pad_id=pad_id if pad_id is not None else next(iter(stop_ids), 0),
    )
    return [_decoded(tokenizer, tokens) for tokens in written]


def _room(model: nn.Module, settings: ReplaySettings) -> int:
    """Tokens of a prompt that fit beside the start token and what is to be written."""
    context = getattr(text_config(model), "max_position_embeddings", None)
    if not isinstance(context, int) or context <= 0:
        return 1 << 20
    room = context - settings.max_new_tokens - 1
    if room < 1:
        raise InputError(
            f"max_new_tokens={settings.max_new_tokens} leaves no room for a prompt in a context of {context} tokens. Lower it."
        )
    return room


def _key(language: str) -> int:
    return int.from_bytes(hashlib.sha256(language.encode()).digest()[:8], "big")


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text).strip(_CUT)
