"""The library's perplexity as an `evaluate` measurement, without network.

Example:
    >>> measurement = load_perplexity_measurement()  # doctest: +SKIP
    >>> measurement.compute(data=["Hallo Welt."], language=["de"], model=model, tokenizer=tokenizer)  # doctest: +SKIP
    {'perplexity': {'de': 31.4}, 'nll': {'de': 3.45}, 'tokens': {'de': 4}, 'mean_perplexity': 31.4}
"""

from __future__ import annotations

from typing import Any

import datasets

from hf_langcore.data import DEFAULT_BLOCK_SIZE
from hf_langcore.errors import InputError
from hf_langcore.evaluation.perplexity import evaluate_perplexity
from hf_langcore.extras import require

_DESCRIPTION = (
    "Perplexity per language: exp(sum of negative log-likelihoods / tokens). Token-weighted, every window starts with "
    "BOS, every token is scored once. It takes a live model and tokenizer, not a model id."
)
_INPUTS = """
Args:
    data (list of str): the texts.
    language (list of str): the language of each text.
    model: a causal language model.
    tokenizer: its tokenizer.
    block_size, batch_size, max_tokens: as in hf_langcore.evaluate_perplexity.
Returns:
    perplexity, nll, tokens: language -> figure; mean_perplexity: their geometric mean.
"""


def information(evaluate: Any, description: str, inputs: str) -> Any:
    """What `evaluate` wants to know of a measurement of texts and their languages.

    Args:
        evaluate: The module.
        description: What is measured.
        inputs: The arguments of `compute`, and what it returns.
    """
    features = datasets.Features({"data": datasets.Value("string"), "language": datasets.Value("string")})
    return evaluate.MeasurementInfo(description=description, citation="", inputs_description=inputs, features=features)


def by_language(data: list[str], language: list[str], model: Any, tokenizer: Any) -> dict[str, list[str]]:
    """Language -> texts, for a measurement that needs a model besides.

    Raises:
        InputError: The model or its tokenizer is missing.
    """
    if model is None or tokenizer is None:
        raise InputError("compute needs model= and tokenizer=: a live model object and its tokenizer.")
    corpora: dict[str, list[str]] = {}
    for code, text in zip(language, data, strict=True):
        corpora.setdefault(code, []).append(text)
    return corpora


def load_perplexity_measurement() -> Any:
    """An `evaluate.Measurement` whose `compute(data=, language=, model=, tokenizer=)` gives this library's figures.

    Raises:
        MissingExtraError: `evaluate` is not installed.
    """
    evaluate = require("evaluate", extra="evaluate", feature="The perplexity measurement")

    class CorePerplexity(evaluate.Measurement):  # type: ignore[name-defined,misc]
        """Perplexity per language as hf_langcore.evaluate_perplexity measures it."""

        def _info(self) -> Any:
            return information(evaluate, _DESCRIPTION, _INPUTS)

        def _compute(  # noqa: PLR0917 evaluate decides what is passed, by name
            self,
            data: list[str],
            language: list[str],
            model: Any = None,
            tokenizer: Any = None,
            block_size: int = DEFAULT_BLOCK_SIZE,
            batch_size: Any = "auto",
            max_tokens: int | None = None,
        ) -> dict[str, Any]:
            report = evaluate_perplexity(
                model,
                tokenizer,
                by_language(data, language, model, tokenizer),
                block_size=block_size,
                batch_size=batch_size,
                max_tokens=max_tokens,
                progress=False,
            )
            return {
                "perplexity": report.perplexity,
                "nll": report.nll,
                "tokens": report.tokens,
                "mean_perplexity": report.mean(),
            }

    return CorePerplexity()
