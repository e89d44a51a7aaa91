"""Self-replay before training: the base model writes general data, which is mixed in as one more source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.data import corpora_from_folder
from hf_langcore.data.rows import Rows
from hf_langcore.replay import SELF_REPLAY, ReplaySettings, generate_general_data

_FOLDER = "self_replay"


def replayed_rows(model: str | nn.Module, tokenizer: Any, args: Any) -> dict[str, Rows]:
    """The rows that the model writes if the configuration asks for them; nothing otherwise.

    The main process generates and keeps them on disk, the others read them.

    Args:
        model: The base model, or its name.
        tokenizer: Its tokenizer; loaded by the model's name if None.
        args: The configuration, with the fields `self_replay_...`.

    Returns:
        "self-replay" -> rows, or an empty mapping.

    Raises:
        InputError: A setting is out of range.
        CorpusError: The folder of texts is missing or empty, or the model writes nothing of use.
    """
    rows = getattr(args, "self_replay_rows", 0)
    if not rows or args.general_data_ratio == 0:
        return {}
    settings = ReplaySettings(
        max_new_tokens=args.self_replay_tokens,
        temperature=args.self_replay_temperature,
        top_p=args.self_replay_top_p,
        seed=args.seed if args.data_seed is None else args.data_seed,
    )
    texts = None if args.self_replay_texts is None else corpora_from_folder(args.self_replay_texts)
    kept = Path(args.self_replay_cache) if args.self_replay_cache else Path(args.output_dir) / _FOLDER
    writer = _loaded(model, args)
    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(model if isinstance(model, str) else _name_of(model))
    with args.main_process_first(desc="self-replay"):
        written = generate_general_data(
            writer,
            tokenizer,
            texts,
            rows=rows,
            settings=settings,
            cache_dir=kept,
            progress=not args.disable_tqdm and args.process_index == 0,
        )
    return {SELF_REPLAY: written.select_columns(["text"])}


def _name_of(model: Any) -> str:
    return str(model.config._name_or_path)  # noqa: SLF001 transformers has no other place for it


def _loaded(model: str | nn.Module, args: Any) -> nn.Module:
    """The model where it is to be trained, except where that is decided later or elsewhere."""
    if isinstance(model, str):
        loaded: nn.Module = AutoModelForCausalLM.from_pretrained(model, **(args.model_init_kwargs or {}))
        return loaded.to(args.device)
    is_placed = getattr(model, "hf_device_map", None) is not None or getattr(model, "is_quantized", False)
    return model if is_placed or args.fsdp or args.deepspeed else model.to(args.device)
