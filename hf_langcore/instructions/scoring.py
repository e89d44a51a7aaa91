"""A model does arithmetic: it writes each solution on its own, and the answers are compared."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.instructions.completion import DEFAULT_BATCH, completion_scores, total_score
from hf_langcore.instructions.matching import ArithmeticMatch, arithmetic_match
from hf_langcore.modes import eval_mode

_SPARE = 8  # tokens beyond the longest right completion, so that one that is too long shows


@dataclass(frozen=True, slots=True)
class ArithmeticScore:
    """How well a model does arithmetic.

    Attributes:
        loss: Mean over the tokens of the right completions, each after the right tokens before it, in nats per token; the end
            token counts.
        exact_match: Share of rows whose generated answer is right.
        digit_match: Mean over the rows of the share of digits of the answer that are right and in place.
        token_match: Share of rows whose greedy completion is the right one to the last token: steps and end token included.
        malformed: Rows in whose generation no answer is found.
        rows: Number of rows.
        by_operation: Operation -> the same figures of its rows.
        generated: What the model wrote, in the order of the rows; empty in `by_operation`.
    """

    loss: float
    exact_match: float
    digit_match: float
    token_match: float
    malformed: int
    rows: int
    by_operation: Mapping[str, ArithmeticScore] = field(default_factory=dict)
    generated: tuple[str, ...] = ()


def evaluate_arithmetic(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = DEFAULT_BATCH,
    max_new_tokens: int | None = None,
    progress: bool = False,
) -> ArithmeticScore:
    """Let a model work out each problem greedily, and score the right solutions too.

    Whatever sampling, penalties or lengths the model's generation config asks for are set aside.

    Args:
        model: A causal LM as it is now, bare or wrapped, prompt and prefix tuning included.
        tokenizer: Its tokenizer.
        rows: As `arithmetic_rows` makes them: `prompt`, `completion`, `answer`, `operation`.
        batch_size: Rows at once.
        max_new_tokens: Tokens after which a solution is cut; those of the longest right completion and a few more if
            None.
        progress: Show a progress bar.

    Raises:
        InputError: There are no rows, one of them lacks a column, or a number is below 1.
        UnsupportedModelError: The model is no causal LM, or it cannot generate.
    """
    if max_new_tokens is not None and max_new_tokens < 1:
        raise InputError(f"max_new_tokens is a number of tokens, at least 1; got {max_new_tokens}.")
    if not hasattr(model, "generate"):
        raise UnsupportedModelError(f"{type(model).__name__} has no `generate`; expected a causal LM of transformers.")
    answers, operations = ([str(row.get(column, "")) for row in rows] for column in ("answer", "operation"))
    scores = completion_scores(model, tokenizer, rows, batch_size=batch_size)
    limit = max_new_tokens or max(score.tokens for score in scores) + _SPARE
    written = greedy_completions(
        model,
        tokenizer,
        [row["prompt"] for row in rows],
        max_new_tokens=limit,
        batch_size=batch_size,
        progress=progress,
    )
    match = arithmetic_match(written, answers, operations=operations)
    by_operation = {
        name: _joined([score for score, own in zip(scores, operations, strict=True) if own == name], part)
        for name, part in match.by_operation.items()
    }
    return _joined(scores, match, by_operation, tuple(written))


def greedy_completions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = DEFAULT_BATCH,
    progress: bool = False,
) -> list[str]:
    """What a model writes after each prompt, always with the likeliest token, up to an end token.

    Args:
        model: A causal LM with transformers' `generate`, bare or wrapped.
        tokenizer: Its tokenizer.
        prompts: Texts to go on from.
        max_new_tokens: Tokens after which a text is cut.
        batch_size: Prompts at once; they are padded on the left, unless the model has virtual tokens, which padding would
            tear from the prompt: then prompts of one length go together.
        progress: Show a progress bar.

    Raises:
        InputError: A prompt has no tokens.
    """
    encoded = [_prompt(tokenizer, prompt) for prompt in prompts]
    ends = _ends(model, tokenizer)
    written: dict[int, str] = {}
    with eval_mode(model), torch.inference_mode(), tqdm(total=len(prompts), unit="row", disable=not progress) as bar:
        for places in _batches(encoded, batch_size, same_length=_has_virtual_tokens(model)):
            batch = [encoded[place] for place in places]
            found = _generated(model, batch, max_new_tokens=max_new_tokens, ends=ends)
            written |= {
                place: tokenizer.decode(tokens, skip_special_tokens=True)
                for place, tokens in zip(places, found, strict=True)
            }
            bar.update(len(batch))
    return [written[place] for place in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], batch_size: int, *, same_length: bool) -> Iterator[list[int]]:
    """Places of prompts that go together: those of about the same length, or of exactly the same."""
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    groups = itertools.groupby(order, key=lambda place: len(prompts[place]) if same_length else 0)
    for _, group in groups:
        places = list(group)
        yield from (places[first : first + batch_size] for first in range(0, len(places), batch_size))


def _has_virtual_tokens(model: Any) -> bool:
    """Whether PEFT puts tokens of its own in front, and so between them and the prompt whatever pads it."""
    configs = getattr(model, "peft_config", None)
    return isinstance(configs, dict) and any(getattr(one, "is_prompt_learning", False) for one in configs.values())


def _generated(
    model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, ends: Sequence[int]
) -> list[list[int]]:
    width = max(map(len, prompts))
    device = next(model.parameters()).device
    filler = ends[0] if ends else 0
    ids = torch.tensor([[filler] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=filler,
        # All of these are said, because what is not comes from the model's own generation config.
        do_sample=False,
        num_beams=1,
        min_length=0,
        min_new_tokens=0,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,
    )
    with warnings.catch_warnings():
        # PEFT's prompt methods count positions themselves, and say so in every batch.
        warnings.filterwarnings("ignore", message="Position ids are not supported", category=UserWarning)
        written = model.generate(input_ids=ids, attention_mask=seen, generation_config=settings)
    return [_until(tokens, ends) for tokens in written[:, width:].tolist()]


def _prompt(tokenizer: Any, text: str) -> list[int]:
    """The prompt's tokens as they are in training; an end token that the tokenizer adds is no part of a prompt."""
    tokens = list(tokenizer(text)["input_ids"])
    if tokens[-1:] == [tokenizer.eos_token_id]:
        tokens = tokens[:-1]
    if not tokens:
        raise InputError(f"The prompt {text!r} has no tokens; a model needs at least one to go on from.")
    return tokens


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokenizer's end token, which training appends, and those that the model's generation config names."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = [tokenizer.eos_token_id, *(own if isinstance(own, (list, tuple)) else [own])]
    return list(dict.fromkeys(token for token in listed if isinstance(token, int)))


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def _joined(
    scores: Sequence[Any],
    match: ArithmeticMatch,
    by_operation: Mapping[str, ArithmeticScore] | None = None,
    generated: tuple[str, ...] = (),
) -> ArithmeticScore:
    forced = total_score(scores)
    return ArithmeticScore(
        loss=forced.loss,
        exact_match=match.exact_match,
        digit_match=match.digit_match,
        token_match=forced.exact_match,
        malformed=match.malformed,
        rows=match.rows,
        by_operation=by_operation or {},
        generated=generated,
    )
