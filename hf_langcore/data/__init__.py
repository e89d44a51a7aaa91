"""Texts: corpora of any form, blocks and windows of tokens, mixtures, and the built-in mini corpus."""

from __future__ import annotations

from hf_langcore.data.blocks import (
    DEFAULT_BLOCK_SIZE,
    CutText,
    StartToken,
    Window,
    check_batch_size,
    cut_text,
    encode,
    pack_blocks,
    start_token,
    usable_block_size,
    vocabulary_size,
    windows_of,
)
from hf_langcore.data.corpora import Corpora, corpora_from_folder, hub_source, read_texts, require_corpora

__all__ = [
    "DEFAULT_BLOCK_SIZE",
    "Corpora",
    "CutText",
    "StartToken",
    "Window",
    "check_batch_size",
    "corpora_from_folder",
    "cut_text",
    "encode",
    "hub_source",
    "pack_blocks",
    "read_texts",
    "require_corpora",
    "start_token",
    "usable_block_size",
    "vocabulary_size",
    "windows_of",
]
