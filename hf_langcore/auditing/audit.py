"""`audit_rows`: one pass over a data set, every check on every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import nn
from tqdm.auto import tqdm

from hf_langcore.auditing.duplicates import DuplicateCheck
from hf_langcore.auditing.encoding import EncodingCheck
from hf_langcore.auditing.findings import CHECKS, Check, Finding
from hf_langcore.auditing.language import LanguageCheck
from hf_langcore.auditing.nonwords import NonWordCheck
from hf_langcore.auditing.outliers import PerplexityCheck
from hf_langcore.auditing.parts import View, view_of
from hf_langcore.auditing.repetition import RepetitionCheck
from hf_langcore.auditing.report import AuditReport
from hf_langcore.auditing.template import TemplateCheck
from hf_langcore.data import DEFAULT_BLOCK_SIZE
from hf_langcore.data.rows import Form, form_of, require_chat_template
from hf_langcore.errors import ConfigurationError, CorpusError, InputError

_FEWEST_REPEATS = 3


def audit_rows(
    rows: Any,
    *,
    tokenizer: Any = None,
    model: nn.Module | None = None,
    checks: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    language_column: str | None = None,
    repeats: int = 5,
    repeated_share: float = 0.5,
    no_language: float = 0.3,
    language_ratio: float = 5.0,
    minority: float = 0.2,
    similarity: float = 0.7,
    outlier_z: tuple[float, float] = (-5.0, 5.0),
    max_length: int | None = None,
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    bos_token_id: int | None = None,
    progress: bool = True,
) -> AuditReport:
    """Find noise in training rows; nothing is changed.

    Args:
        rows: Rows of any form that `hf_langcore.data.rows` lists: a `datasets.Dataset` or `IterableDataset`, or a list
            of dictionaries.
        tokenizer: Its chat template decides which markers and roles fit. Needed for rows with `input_ids`.
        model: A causal LM whose perplexity scores each row; needs the tokenizer.
        checks: Names out of `CHECKS`; all that are possible by default (`perplexity` needs a model).
        languages: Codes of the expected languages; None infers them from the rows.
        language_column: Column that declares each row's language, which the row is then held to.
        repeats: Times that a word or phrase has to follow itself; sentences count from three times on.
        repeated_share: Share of a text's phrases of four words that it has said before.
        no_language: Probability from which a piece of text counts as no language: random letters.
        language_ratio: How many times likelier than every expected language a wrong one has to be.
        minority: Languages with at least this share of the largest one's rows are inferred to be expected.
        similarity: Jaccard similarity of phrases of three words from which rows are near duplicates.
        outlier_z: Robust z-scores of the mean loss below and above which a row is too easy or too hard for the model.
        max_length: Tokens after which training would cut a row; what is behind them is not scored.
        block_size: Tokens per window for the model, the start token included.
        batch_size: Windows per forward pass; "auto" keeps the logits below 256 MB.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        progress: Show a progress bar.

    Returns:
        What was found, row by row.

    Raises:
        CorpusError: There are no rows, or they have no known form.
        ConfigurationError: A check lacks what it needs: a model, a tokenizer, a chat template.
        InputError: A check or a language is unknown, or a threshold is out of range.
        MissingExtraError: The extra `audit` is not installed.

    Example:
        >>> rows = [{"text": "the the the the the the the the"}]
        >>> audit_rows(rows, checks=["repetition"], progress=False).counts()
        {'repetition': {'repeated_run': 1}}
    """
    _require_shares(repeated_share=repeated_share, no_language=no_language, minority=minority, similarity=similarity)
    _require_ranges(repeats, language_ratio, outlier_z)
    form = _form(rows, tokenizer)
    chosen = _chosen(checks, form, model=model, tokenizer=tokenizer)
    makers: dict[str, Callable[[], Check]] = {
        "repetition": lambda: RepetitionCheck(repeats=repeats, repeated_share=repeated_share),
        "non_words": lambda: NonWordCheck(no_language=no_language),
        "language": lambda: LanguageCheck(languages, column=language_column, ratio=language_ratio, minority=minority),
        "encoding": EncodingCheck,
        "template": lambda: TemplateCheck(tokenizer, form=form),
        "duplicates": lambda: DuplicateCheck(similarity=similarity),
        "perplexity": lambda: PerplexityCheck(
            model,
            tokenizer,
            form=form,
            outlier_z=outlier_z,
            max_length=max_length,
            block_size=block_size,
            batch_size=batch_size,
            bos_token_id=bos_token_id,
        ),
    }
    made = {name: makers[name]() for name in chosen}
    count, findings = _run(rows, made, form, tokenizer, progress=progress)
    thresholds = {
        "repeats": repeats,
        "repeated_share": repeated_share,
        "no_language": no_language,
        "language_ratio": language_ratio,
        "minority": minority,
        "similarity": similarity,
        "outlier_z": list(outlier_z),
        "max_length": max_length,
    }
    return _report(count, form, made, findings, thresholds)


def _run(
    rows: Any, made: dict[str, Check], form: Form, tokenizer: Any, *, progress: bool
) -> tuple[int, list[Finding]]:
    """Show every row to every check; the number of rows and what was found, row by row."""
    findings: list[Finding] = []
    count = 0
    total = len(rows) if hasattr(rows, "__len__") else None
    for view in tqdm(_views(rows, form, tokenizer), desc="audit", unit="row", total=total, disable=not progress):
        count += 1
        for check in made.values():
            findings += check.examine(view)
    language = made.get("language")
    if isinstance(language, LanguageCheck) and isinstance(scoring := made.get("perplexity"), PerplexityCheck):
        scoring.languages = language.of_row
    for check in made.values():
        findings += check.finish()
    order = {name: place for place, name in enumerate(CHECKS)}
    return count, sorted(findings, key=lambda one: (one.row, order[one.check]))


def _views(rows: Any, form: Form, tokenizer: Any) -> Iterator[View]:
    for number, row in enumerate(rows):
        yield view_of(number, row, form=form, tokenizer=tokenizer)


def _report(
    count: int, form: Form, made: dict[str, Check], findings: list[Finding], thresholds: dict[str, Any]
) -> AuditReport:
    language, scoring = made.get("language"), made.get("perplexity")
    settings: dict[str, Any] = {"form": form, "checks": list(made), "thresholds": thresholds}
    languages: dict[str, int] = {}
    if isinstance(language, LanguageCheck):
        settings |= {"expected_languages": sorted(language.expected()), "declared": language.declared is not None}
        languages = dict(language.counts.most_common())
    if isinstance(scoring, PerplexityCheck):
        settings |= scoring.settings()
    scores = scoring.scored if isinstance(scoring, PerplexityCheck) else []
    return AuditReport(rows=count, findings=findings, languages=languages, scores=scores, settings=settings)


def _chosen(checks: Sequence[str] | None, form: Form, *, model: Any, tokenizer: Any) -> list[str]:
    """The checks to make, in their fixed order.

    Raises:
        InputError: A name is unknown, or there is none.
        ConfigurationError: A check lacks what it needs.
    """
    if isinstance(checks, str) or (checks is not None and (not checks or set(checks) - set(CHECKS))):
        raise InputError(f"checks must be a list of names out of {', '.join(CHECKS)}; got {checks!r}.")
    chosen = [name for name in CHECKS if (name in checks if checks is not None else name != "perplexity" or model)]
    if model is not None and tokenizer is None:
        raise ConfigurationError("A model needs its tokenizer to score rows: pass tokenizer=.")
    if "perplexity" in chosen and model is None:
        raise ConfigurationError("The check `perplexity` needs model= and tokenizer=, the base model to be trained.")
    if tokenizer is not None and {"template", "perplexity"} & set(chosen):
        require_chat_template(tokenizer, form)
    return chosen


def _form(rows: Any, tokenizer: Any) -> Form:
    """The form of the rows.

    Raises:
        CorpusError: There are none, they have no known form, or they can be read only once.
        ConfigurationError: They are tokens and there is no tokenizer.
    """
    if isinstance(rows, (str, bytes, dict)) or not hasattr(rows, "__iter__") or iter(rows) is rows:
        raise CorpusError(
            f"rows must be a data set or a list of dictionaries, which can be read again; got {type(rows).__name__}. "
            "Files are read by hf_langcore.data.sources.load_rows."
        )
    first = next(iter(rows), None)
    if first is None:
        raise CorpusError("There are no rows to audit.")
    if not isinstance(first, dict):
        raise CorpusError(f"Each row must be a dictionary of columns; the first is of type {type(first).__name__}.")
    form = form_of(rows, name="The data set")
    if form == "tokens" and tokenizer is None:
        raise ConfigurationError(
            "Rows with `input_ids` need tokenizer=, the one that they were made with, to be read."
        )
    return form


def _require_shares(**shares: float) -> None:
    for name, value in shares.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise InputError(f"{name} must be a number above 0 and at most 1, got {value!r}.")


def _require_ranges(repeats: int, language_ratio: float, outlier_z: tuple[float, float]) -> None:
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < _FEWEST_REPEATS:
        raise InputError(f"repeats must be a whole number of at least {_FEWEST_REPEATS}, got {repeats!r}.")
    if not language_ratio >= 1:
        raise InputError(f"language_ratio must be a number of at least 1, got {language_ratio!r}.")
    low, high = outlier_z
    if not low < 0 < high:
        raise InputError(
            f"outlier_z must be a negative and a positive number, such as (-5.0, 5.0); got {outlier_z!r}."
        )
