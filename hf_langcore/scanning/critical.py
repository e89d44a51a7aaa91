"""Critical dimensions: norm gains, rows, columns and single weights that make perplexity explode.

Candidates come from activations (one forward pass), from gradients (one backward pass), from the weights alone and from the
concentration of a core mask. Each is edited, measured and restored: all of them on an excerpt of the text, the strongest on
all of it, beside matched controls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import DEFAULT_BLOCK_SIZE, Corpora, require_decoder_only
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import prepare_scoring
from hf_langcore.evaluation.circumstances import circumstances
from hf_langcore.masks import CoreMask
from hf_langcore.scanning.candidates import require_kinds
from hf_langcore.scanning.options import Options
from hf_langcore.scanning.proposals import SOURCES, Request, propose
from hf_langcore.scanning.result import CriticalDimension, CriticalScan
from hf_langcore.scanning.stages import run_stages
from hf_langcore.scanning.tensors import Tensors, norm_weights
from hf_langcore.scanning.verification import Reuse, Session

__all__ = ["CriticalDimension", "find_critical_dimensions", "norm_weights"]

KINDS = ("norm", "row", "column", "weight")


def find_critical_dimensions(  # noqa: PLR0913 options by keyword
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    *,
    kinds: Sequence[str] = KINDS,
    sources: Sequence[str] = SOURCES,
    core_mask: CoreMask | None = None,
    dimensions: Sequence[Any] = (),
    factors: Sequence[float] = (0.0, 10.0),
    matrix_factors: Sequence[float] = (0.0,),
    candidates: int | None = 512,
    confirm: int = 32,
    controls: int = 8,
    min_ratio: float = 2.0,
    reuse: Reuse = "auto",
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = 512,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    progress: bool = True,
) -> CriticalScan:
    """Find the dimensions and single weights whose edit alone makes perplexity explode.

    Every candidate is really edited in the weights, measured and restored, first on about 1024 tokens of the text; the
    `confirm` strongest are measured again on all of it. One is reported as critical when

    - the 95 % interval of its perplexity ratio lies above `min_ratio`, and
    - its edit raises the loss more than twice (of gains: 1.5 times) as much as the same edit of each of its matched controls: other places of
      the same tensor, drawn at random; for single weights those nearest in magnitude and the largest others of the same row
      and column. The few strongest places of a tensor are no controls, so that two special ones do not hide each other.

    Of edits that do equally much (within 10 % of the rise in loss) the smallest is reported first.

    Args:
        model: A causal LM, bare or wrapped; every bit of it is restored. With active adapters the edits act on the effective
            weights.
        tokenizer: Any callable with transformers' tokenizer interface.
        corpora: Language -> texts.
        kinds: What is edited: "norm" (single gains of norms), "row" and "column" (of matrices, in nn.Linear orientation) and
            "weight" (single entries of matrices).
        sources: Who proposes candidates: "activations" (one forward pass), "gradients" (one backward pass), "weights".
        core_mask: A mask of the model; the rows, columns and gains in which it concentrates are candidates, too.
        dimensions: Further candidates: (name, index), (name, index, axis) of a matrix, (name, (row, column)).
        factors: Factors for the effective gain of norm dimensions; each is tried, the worst counts.
        matrix_factors: The same for rows, columns and single weights.
        candidates: At most so many places are edited; None edits all norm dimensions and whatever is proposed besides.
        confirm: How many of them are measured on the whole text.
        controls: Controls of each of those that pass `min_ratio`, and of the strongest four.
        min_ratio: The least perplexity ratio that counts as critical.
        reuse: "auto" leaves out the layers below an edit where that gives the same losses bit for bit; "off" never does.
        block_size: Tokens per window.
        batch_size: Windows per forward pass.
        max_tokens: At most so many scored tokens per language.
        seed: Shuffles the documents, None keeps their order; also of the controls.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        progress: Show a progress bar.

    Returns:
        The critical dimensions, strongest first, as a sequence that is empty where there are none; `.measured` has all that
        were edited.

    Raises:
        UnsupportedModelError: The model has nothing of the kinds that are asked for, or is quantised.
        CorpusError: A text is missing, empty or too short to tell.
        InputError: An option or a dimension is out of range.
        NonFiniteError: The model gives NaN or infinity without any edit.

    Example:
        >>> scan = find_critical_dimensions(model, tokenizer, corpora)  # doctest: +SKIP
        >>> scan[0].parameter, scan[0].index, scan[0].perplexity_ratio  # doctest: +SKIP
        ('model.layers.1.mlp.down_proj.weight', (2533, 7890), 152.9)
    """
    _require_kinds_of_values(sources, factors, matrix_factors, core_mask)
    _require_whole(candidates=candidates, confirm=confirm, controls=controls, seed=seed)
    request = Request(require_kinds(kinds), tuple(sources), core_mask, tuple(dimensions), candidates)
    options = Options(tuple(factors), tuple(matrix_factors), confirm, controls, min_ratio, seed or 0)
    _require_usual(request, options)
    require_decoder_only(unwrap(model), "The search for critical dimensions")
    task = prepare_scoring(
        model,
        tokenizer,
        corpora,
        block_size=block_size,
        max_tokens=max_tokens,
        seed=seed,
        bos_token_id=bos_token_id,
        text_column=text_column,
    )
    tensors = Tensors.of(model)
    notes = _missing(model, tensors, request)
    about = {**task.settings, **circumstances(model), **request.to_dict(), **options.to_dict(), "notes": notes}
    with Session(model, tensors, reuse=reuse) as session:
        chosen = propose(model, tensors, task, request)
        return run_stages(
            session, model, tensors, task, chosen, options, settings=about, batch_size=batch_size, progress=progress
        )


def _require_kinds_of_values(sources: Any, factors: Any, matrix_factors: Any, core_mask: Any) -> None:
    if isinstance(sources, str) or not sources:
        raise InputError(f"sources are some of {list(SOURCES)}, in a list, got {sources!r}.")
    for name, values in {"factors": factors, "matrix_factors": matrix_factors}.items():
        is_list = isinstance(values, Sequence) and not isinstance(values, str)
        if not is_list or not all(isinstance(one, Real) and not isinstance(one, bool) for one in values):
            raise InputError(f"{name} are numbers in a list, such as [0, 10], got {values!r}.")
    if core_mask is not None and not isinstance(core_mask, CoreMask):
        raise InputError(
            f"core_mask is a CoreMask, got {core_mask!r:.80}. Load it with CoreMask.from_pretrained(...)."
        )


def _require_whole(**numbers: Any) -> None:
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{name} is a whole number, got {value!r}.")


def _require_usual(request: Request, options: Options) -> None:
    if not options.factors or not options.matrix_factors or (request.limit is not None and request.limit < 1):
        raise InputError(
            f"Pass at least one factor and one candidate, got factors={options.factors!r}, "
            f"matrix_factors={options.matrix_factors!r}, candidates={request.limit!r}."
        )
    if not all(math.isfinite(factor) for factor in (*options.factors, *options.matrix_factors)):
        raise InputError(f"Factors are finite numbers, got {(*options.factors, *options.matrix_factors)!r}.")
    if not set(request.sources) <= set(SOURCES):
        raise InputError(f"sources are some of {list(SOURCES)}, got {list(request.sources)!r}.")
    if options.confirm < 1 or options.controls < 1 or not options.min_ratio > 1:
        raise InputError(
            f"confirm and controls are at least 1 and min_ratio is above 1, got confirm={options.confirm!r}, "
            f"controls={options.controls!r}, min_ratio={options.min_ratio!r}."
        )


def _missing(model: nn.Module, tensors: Tensors, request: Request) -> list[str]:
    """What is asked for and not there, in words.

    Raises:
        UnsupportedModelError: Nothing that is asked for is there.
    """
    notes = []
    if "norm" in request.kinds and not tensors.norms:
        if set(request.kinds) == {"norm"}:
            norm_weights(model)
        notes.append("norm dimensions were skipped: the model has no norm weights")
    if set(request.kinds) != {"norm"} and not tensors.matrices:
        if "norm" not in request.kinds or not tensors.norms:
            raise UnsupportedModelError(
                f"{type(model).__name__} has no weight matrices in its decoder layers to scan."
            )
        notes.append("rows, columns and single weights were skipped: the decoder layers have no weight matrices")
    return notes
