"""A model writes general data: in batches, kept on disk, the same for every batch size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset, Features, List, Value
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import unwrap
from hf_langcore.binding import weights_digest
from hf_langcore.data import Corpora, check_batch_size, require_decoder_only
from hf_langcore.data.shares import shares_of, split_rows
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.modes import eval_mode
from hf_langcore.replay.prompts import UNCONDITIONAL, prompts_of, start_of, turn_of
from hf_langcore.replay.settings import ReplaySettings, check_settings
from hf_langcore.replay.store import ReplayStore, Written, key_of
from hf_langcore.replay.writer import Writer

_BATCH = 32


@dataclass(frozen=True)
class Replay:
    """What a model has written.

    Attributes:
        rows: `text` (or `messages`), `language`, and `source`: "unconditional", "seeded" or "chat".
        dropped: Language -> flaw -> attempts that were left out: "empty", "repeating", or, of an instruction that leaves
            no room for an answer, "too long".
        generated: Attempts that were generated now; the others were kept from before.
    """

    rows: Dataset
    dropped: Mapping[str, Mapping[str, int]]
    generated: int


def generate_general_data(
    model: nn.Module,
    tokenizer: Any,
    texts: Corpora | None = None,
    *,
    rows: int = 1000,
    settings: ReplaySettings | None = None,
    batch_size: int | Literal["auto"] = "auto",
    cache_dir: str | Path | None = None,
    text_column: str = "text",
    progress: bool = True,
) -> Dataset:
    """Let a model write general data, to be mixed into its own fine-tuning.

    Each text begins with the start token, goes on with the first tokens of a given text, where there are any, and is
    sampled from there. With `settings.chat` the model writes what a user might ask, after the opening of the user's turn
    in its chat template, and then the answer. Texts that are empty or run in a loop are dropped, and others are written
    instead.

    Each text has random numbers of its own, drawn from the seed, the language and its number, so that the same texts
    come in batches of any size, up to the rounding of the logits, which can depend on the batch.

    Args:
        model: A causal LM as it is now, bare or wrapped.
        tokenizer: Its tokenizer.
        texts: Language -> texts whose first `settings.seed_tokens` tokens begin the rows; rows are shared equally. None
            for texts that begin with nothing.
        rows: How many rows are wanted.
        settings: Lengths, temperature, nucleus and seed.
        batch_size: Rows that are written at once; "auto" for 32, and fewer where the GPU's memory does not hold them.
        cache_dir: Folder that keeps finished batches. A second call with the same model, tokenizer, texts and settings
            generates nothing, and one for more rows only those.
        text_column: Column of data sets and tables.
        progress: Show a progress bar.

    Returns:
        Rows with `text` (or `messages` with `settings.chat`), `language` and `source`.

    Raises:
        InputError: `rows`, `batch_size` or a setting is out of range.
        CorpusError: A language has no text, or the model writes nothing of use.
        ConfigurationError: `settings.chat` without a chat template.
        UnsupportedModelError: The model cannot generate.
    """
    replay = generate_replay(
        model,
        tokenizer,
        texts,
        rows=rows,
        settings=settings,
        batch_size=batch_size,
        cache_dir=cache_dir,
        text_column=text_column,
        progress=progress,
    )
    return replay.rows


def generate_replay(
    model: nn.Module,
    tokenizer: Any,
    texts: Corpora | None = None,
    *,
    rows: int = 1000,
    settings: ReplaySettings | None = None,
    batch_size: int | Literal["auto"] = "auto",
    cache_dir: str | Path | None = None,
    text_column: str = "text",
    progress: bool = True,
) -> Replay:
    """Like `generate_general_data`, with what was dropped and how much was generated."""
    settings = settings if settings is not None else ReplaySettings()
    check_settings(
        rows=rows, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p
    )
    size = check_batch_size(batch_size) or _BATCH
    if not hasattr(model, "generate"):
        raise UnsupportedModelError(f"{type(model).__name__} has no `generate`; self-replay needs a causal LM.")
    require_decoder_only(unwrap(model), "Self-replay")
    turn = turn_of(tokenizer) if settings.chat else None
    opening = turn.opening if turn is not None else start_of(tokenizer)
    prompts = prompts_of(tokenizer, texts, opening=opening, seed_tokens=settings.seed_tokens, text_column=text_column)
    writer = Writer(model, tokenizer, settings, turn, size)
    writer.fit_to(max((prompt for listed in prompts.values() for prompt in listed), key=len))
    digest = _digest(model)
    folder = None if cache_dir is None else Path(cache_dir)
    wanted = split_rows(rows, shares_of(list(prompts), None))
    with eval_mode(model), tqdm(total=rows, unit="row", desc="self-replay", disable=not progress) as bar:
        for (language, listed), count in zip(prompts.items(), wanted, strict=True):
            key = key_of(model=digest, tokenizer=tokenizer, language=language, prompts=listed, settings=settings)
            writer.write(language, listed, count, ReplayStore(folder, key), bar)
    return Replay(_dataset(writer.accepted, settings), writer.dropped, writer.generated)


def _digest(model: Any) -> str:
    """The identity of the weights, with those of adapters."""
    digest = weights_digest(model)
    if getattr(model, "peft_config", None) is None:
        return digest
    together = hashlib.blake2b(f"{digest}|{getattr(model, 'active_adapters', None)}".encode(), digest_size=32)
    for name, value in model.state_dict().items():
        together.update(name.encode())
        together.update(value.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes())
    return together.hexdigest()


def _dataset(accepted: Mapping[str, list[Written]], settings: ReplaySettings) -> Dataset:
    message = {"role": Value("string"), "content": Value("string")}
    content = {"messages": List(message)} if settings.chat else {"text": Value("string")}
    features = Features({**content, "language": Value("string"), "source": Value("string")})
    rows = []
    for language, entries in accepted.items():
        source = "chat" if settings.chat else UNCONDITIONAL if language == UNCONDITIONAL else "seeded"
        rows += [{**_content(entry), "language": language, "source": source} for entry in entries]
    return Dataset.from_list(rows, features=features)


def _content(entry: Written) -> dict[str, Any]:
    if entry.instruction is None:
        return {"text": entry.text}
    return {
        "messages": [
            {"role": "user", "content": entry.instruction},
            {"role": "assistant", "content": entry.text},
        ]
    }
