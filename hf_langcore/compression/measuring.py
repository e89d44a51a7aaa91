"""Bits per byte of a model on texts, which tokenizers do not change, beside what general compressors need."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.compression.archivers import ARCHIVERS, archive, require_archivers
from hf_langcore.compression.codec import DEFAULT_STREAMS, compress, decompress
from hf_langcore.compression.report import CompressionReport, LanguageCompression, RoundTrip
from hf_langcore.data import DEFAULT_BLOCK_SIZE, Corpora, read_texts, require_corpora, require_decoder_only
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.evaluation import LanguageScore, prepare_scoring, score
from hf_langcore.evaluation.perplexity import OnNonFinite


def evaluate_compression(
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    stride: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    max_bytes: int | None = None,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    compressors: Sequence[str] = ARCHIVERS,
    round_trip: bool = False,
    chunk: int | None = None,
    streams: int = DEFAULT_STREAMS,
    condition: str = "model",
    on_nonfinite: OnNonFinite = "error",
    progress: bool = True,
) -> CompressionReport:
    """Measure how well a model compresses texts, per language.

    The figures are ideal code lengths, the sum of -log2 p of all tokens, from fast parallel passes: an arithmetic coder with the
    same windows needs a few bytes more, and `round_trip=True` shows that with one that runs. Each document is scored on its own, as in
    `evaluate_perplexity`. Since text is counted in bytes, models with different vocabularies can be compared.

    Args:
        model: A causal LM, as it is now.
        tokenizer: Its tokenizer. Text that it does not give back exactly is scored as what it makes of it; `compress` keeps such
            parts as bytes.
        corpora: Language -> texts.
        block_size: Tokens per window, the start token included; at most the model's context (Huang et al. 2024: 1900).
        stride: Tokens that each further window of a long document scores; half a window if None (Huang et al.: 512).
        batch_size: Windows per forward pass.
        max_bytes: Whole documents per language until there are so many bytes of text, at least one.
        seed: Shuffles the documents; None keeps their order.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        compressors: What to compare with: any of "gzip", "zstd", "xz".
        round_trip: Also compress and decompress the texts of each language really, as one file with a line break between documents.
        chunk: Of the round trip; see `compress`.
        streams: Of the round trip; see `compress`.
        condition: Name of the model in the report.
        on_nonfinite: What NaN or infinite losses do: "error", or "inf".
        progress: Show a progress bar.

    Returns:
        A report with one condition: `.bits_per_byte["zh"]`, `.ratio["zh"]`, `.total()`, `.adjusted_percent()`.

    Raises:
        CorpusError: A text is missing, empty or too short.
        NonFiniteError: The loss is NaN or infinite and `on_nonfinite` is "error".
        UnsupportedModelError: The model has an encoder.
        MissingExtraError: zstandard, or constriction for a round trip, is not installed.

    Example:
        >>> evaluate_compression(model, tokenizer, {"en": ["A text."]}).bits_per_byte["en"]  # doctest: +SKIP
        1.93
    """
    require_decoder_only(unwrap(model), feature="Measuring compression")
    require_archivers(compressors)
    texts = read_documents(corpora, text_column=text_column, seed=seed, max_bytes=max_bytes)
    task = prepare_scoring(model, tokenizer, texts, block_size=block_size, stride=stride, bos_token_id=bos_token_id)
    found = score(
        model, task, batch_size=batch_size, condition=condition, on_nonfinite=on_nonfinite, progress=progress
    )
    scores = {language: _compression(one, texts[language]) for language, one in found.only().items()}
    if round_trip:
        scores = {
            language: LanguageCompression(
                one.bits,
                one.bytes,
                one.tokens,
                prove_round_trip(
                    model,
                    tokenizer,
                    "\n".join(texts[language]),
                    context=block_size,
                    chunk=chunk,
                    streams=streams,
                    bos_token_id=bos_token_id,
                    progress=progress,
                ),
            )
            for language, one in scores.items()
        }
    settings = {**found.settings, "tokens_sha256": found.settings["text_sha256"], "text_sha256": _digest(texts)}
    return CompressionReport(
        {condition: scores},
        {language: {name: archive(name, documents) for name in compressors} for language, documents in texts.items()},
        {condition: weight_bytes(model)},
        {condition: settings},
    )


def prove_round_trip(
    model: nn.Module,
    tokenizer: Any,
    data: bytes | str,
    *,
    context: int = DEFAULT_BLOCK_SIZE,
    chunk: int | None = None,
    streams: int = DEFAULT_STREAMS,
    bos_token_id: int | None = None,
    progress: bool = False,
) -> RoundTrip:
    """Compress, decompress and compare; the options are those of `compress`."""
    started = time.perf_counter()
    blob = compress(
        model,
        tokenizer,
        data,
        context=context,
        chunk=chunk,
        streams=streams,
        bos_token_id=bos_token_id,
        progress=progress,
    )
    returned = decompress(model, tokenizer, blob, max_bytes=None, progress=progress)
    size = len(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return RoundTrip(size, len(blob), returned == data, round(time.perf_counter() - started, 2))


def read_documents(
    corpora: Corpora, *, text_column: str = "text", seed: int | None = None, max_bytes: int | None = None
) -> dict[str, list[str]]:
    """Whole documents of each language, up to a number of bytes.

    Raises:
        CorpusError: A text is missing or empty.
        InputError: `max_bytes` is no positive whole number.
    """
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1):
        raise InputError(f"max_bytes must be a whole number of at least 1, or None, got {max_bytes!r}.")
    found: dict[str, list[str]] = {}
    for language, source in require_corpora(corpora).items():
        documents, size = found.setdefault(language, []), 0
        for text in read_texts(language, source, text_column=text_column, seed=seed):
            documents.append(text)
            size += len(text.encode("utf-8", "surrogatepass"))
            if max_bytes is not None and size >= max_bytes:
                break
        if not documents:
            raise CorpusError(f"{language!r}: there is no text to compress. Check that the file is not empty.")
    return found


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights in their dtypes, tied ones once."""
    unique = {id(parameter): parameter for parameter in unwrap(model).parameters()}
    return sum(parameter.numel() * parameter.element_size() for parameter in unique.values())


def _compression(one: LanguageScore, documents: Sequence[str]) -> LanguageCompression:
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in documents)
    return LanguageCompression(one.nll * one.tokens / math.log(2), size, one.tokens)


def _digest(texts: dict[str, list[str]]) -> str:
    digest = hashlib.sha256()
    for language, documents in texts.items():
        for text in [language, *documents]:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f"{len(data)}:".encode() + data)
        digest.update(b";")
    return digest.hexdigest()
