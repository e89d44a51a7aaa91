"""Compression as an `evaluate` measurement, without network.

Example:
    >>> measurement = load_compression_measurement()  # doctest: +SKIP
    >>> measurement.compute(data=["Hallo Welt."], language=["de"], model=model, tokenizer=tokenizer)  # doctest: +SKIP
    {'bits_per_byte': {'de': 2.1}, 'ratio': {'de': 3.8}, 'bytes': {'de': 11}, 'total_bits_per_byte': 2.1}
"""

from __future__ import annotations

from typing import Any

from hf_langcore.compression.measuring import evaluate_compression
from hf_langcore.data import DEFAULT_BLOCK_SIZE
from hf_langcore.evaluation.measurement import by_language, information
from hf_langcore.extras import require

_DESCRIPTION = (
    "Bits per byte and compression ratio per language: the sum of -log2 p over all tokens, per UTF-8 byte of text. Figures of "
    "models with different vocabularies can be compared. It takes a live model and tokenizer, not a model id."
)
_INPUTS = """
Args:
    data (list of str): the texts.
    language (list of str): the language of each text.
    model: a causal language model.
    tokenizer: its tokenizer.
    block_size, stride, batch_size, round_trip: as in hf_langcore.evaluate_compression.
Returns:
    bits_per_byte, ratio, bytes: language -> figure; total_bits_per_byte: of all languages together; identical: language -> whether
    the text came back, where round_trip was asked for.
"""


def load_compression_measurement() -> Any:
    """An `evaluate.Measurement` whose `compute(data=, language=, model=, tokenizer=)` gives bits per byte.

    Raises:
        MissingExtraError: `evaluate` is not installed.
    """
    evaluate = require("evaluate", extra="evaluate", feature="The compression measurement")

    class CoreCompression(evaluate.Measurement):  # type: ignore[name-defined,misc]
        """Compression per language as hf_langcore.evaluate_compression measures it."""

        def _info(self) -> Any:
            return information(evaluate, _DESCRIPTION, _INPUTS)

        def _compute(  # noqa: PLR0917 evaluate decides what is passed, by name
            self,
            data: list[str],
            language: list[str],
            model: Any = None,
            tokenizer: Any = None,
            block_size: int = DEFAULT_BLOCK_SIZE,
            stride: int | None = None,
            batch_size: Any = "auto",
            round_trip: bool = False,  # noqa: FBT001, FBT002 passed by name
        ) -> dict[str, Any]:
            report = evaluate_compression(
                model,
                tokenizer,
                by_language(data, language, model, tokenizer),
                block_size=block_size,
                stride=stride,
                batch_size=batch_size,
                compressors=(),
                round_trip=round_trip,
                progress=False,
            )
            scores = report.only()
            found: dict[str, Any] = {
                "bits_per_byte": report.bits_per_byte,
                "ratio": report.ratio,
                "bytes": {code: one.bytes for code, one in scores.items()},
                "total_bits_per_byte": report.total().bits_per_byte,
            }
            trips = {code: one.round_trip.identical for code, one in scores.items() if one.round_trip is not None}
            return {**found, "identical": trips} if round_trip else found

    return CoreCompression()
