"""What the page does, without the page: one model, its core, and edits that are taken back, one after another."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, logging
from transformers.pytorch_utils import Conv1D

from hf_langcore import CoreMask, PerplexityReport, compute_core_mask, evaluate_perplexity, perturb, scale_dimension
from hf_langcore.errors import InputError

SEARCHED = ("ar", "es", "ru", "zh", "ko", "vi")  # languages of the built-in corpus that a core is computed from
FRACTION = 0.03
SEARCH_TOKENS = 1000  # per language: enough for an impression on a free machine, not for a core worth publishing
SEARCH_SENTENCES = 400  # texts are measured on later sentences
MEASURED_TOKENS = 128  # per language


@dataclass(frozen=True, slots=True)
class RegionEdit:
    """Damage a region.

    Attributes:
        region: "core", "complement" or "random" (as large as the core, tensor by tensor).
        how: "zero", "scale" or "noise".
        amount: The factor of "scale"; for "noise" standard deviations of each tensor.
        seed: Of the random region and of the noise.
    """

    region: str = "core"
    how: str = "zero"
    amount: float = 1.0
    seed: int = 0

    def open(self, model: Any, core_mask: CoreMask) -> Any:
        """Apply it; the handle restores it."""
        regions = {
            "core": lambda: core_mask,
            "complement": core_mask.complement,
            "random": lambda: core_mask.random_like(seed=self.seed),
        }
        if self.region not in regions:
            raise InputError(f"The region must be one of {', '.join(regions)}, got {self.region!r}.")
        strength = {"scale": {"factor": self.amount}, "noise": {"std": self.amount}}.get(self.how, {})
        return perturb(model, regions[self.region](), how=self.how, seed=self.seed, **strength)


@dataclass(frozen=True, slots=True)
class DimensionEdit:
    """Scale one dimension, or one weight of a matrix.

    Attributes:
        parameter: Name of a parameter, or of a module, which means its weight.
        index: Index of the dimension, or (row, column) of one weight.
        axis: For matrices 0 = an output (a row), 1 = an input (a column); one weight needs none.
        factor: 0 removes the dimension.
    """

    parameter: str
    index: int | tuple[int, int]
    axis: int | None = None
    factor: float = 10.0

    def open(self, model: Any, core_mask: CoreMask) -> Any:  # noqa: ARG002 a region's signature
        """Apply it; the handle restores it."""
        if not isinstance(self.index, tuple):
            return scale_dimension(model, self.parameter, self.index, factor=self.factor, axis=self.axis)
        for axis, index in enumerate(
            self.index
        ):  # the library names what is wrong: the parameter, the row or the column
            scale_dimension(model, self.parameter, index, factor=1.0, axis=axis).restore()
        return perturb(model, _one_weight(model, self.parameter, self.index), how="scale", factor=self.factor)


def parse_index(text: str) -> int | tuple[int, int]:
    """What somebody wrote as an index: "2100", or "1764, 1710" for the weight in that row and column.

    Raises:
        InputError: It is neither.
    """
    parts = [part.strip() for part in str(text).split(",")]
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise InputError(f"The index is one number, or row and column of one weight such as 1764, 1710; got {text!r}.")
    numbers = tuple(map(int, parts))
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _one_weight(model: Any, parameter: str, place: tuple[int, int]) -> CoreMask:
    """A mask of one weight of a matrix, whose row and column are those of nn.Linear."""
    name = parameter if parameter in dict(model.named_parameters()) else f"{parameter}.weight"
    chosen = torch.zeros(model.get_parameter(name).shape, dtype=torch.bool)
    stored_transposed = isinstance(model.get_submodule(name.rpartition(".")[0]), Conv1D)
    chosen[place[::-1] if stored_transposed else place] = True
    return CoreMask({name: chosen})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an edit did.

    Attributes:
        before: The prompt and its greedy continuation by the model as it is.
        after: The same under the edit.
        report: Perplexity per language, conditions "before" and "after".
        num_edited: Weights that were edited.
        is_restored: Whether all weights have the bits again that they had when the model was loaded.
        notes: What the library warned about, such as tied weights.
    """

    before: str
    after: str
    report: PerplexityReport
    num_edited: int
    is_restored: bool
    notes: tuple[str, ...] = ()


class Explorer:
    """One model that several users edit without seeing each other's edits: a request waits until the one before is undone.

    Attributes:
        core_mask: The core.
        parameters: Names of all parameters.
        digest: Hex sha256 of all weights as they were loaded.
        base: Perplexity of the model as it is.
    """

    def __init__(self, model: Any, tokenizer: Any, core_mask: CoreMask, corpora: Mapping[str, Sequence[str]]) -> None:
        """Measure the model as it is; `corpora` is language -> texts, of which `MEASURED_TOKENS` are used."""
        self.core_mask = core_mask
        self.parameters = [name for name, _ in model.named_parameters()]
        self.digest = weights_digest(model)
        self._model, self._tokenizer, self._corpora = model, tokenizer, corpora
        self._lock = threading.Lock()
        self.base = self._measure("before")
        with RegionEdit().open(
            model, core_mask
        ):  # a mask of another model is to be known before the first visitor comes
            pass

    def explore(self, edit: RegionEdit | DimensionEdit, prompt: str, *, max_new_tokens: int = 30) -> Outcome:
        """Edit, generate, measure, restore.

        Args:
            edit: What to do.
            prompt: Continued greedily, without and with the edit.
            max_new_tokens: Length of the continuation.

        Raises:
            LangCoreError: The edit or the prompt is not possible; nothing was changed.
        """
        with self._lock, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ids = self._encoded(prompt, max_new_tokens)
            before = self._continued(ids, max_new_tokens)
            with edit.open(self._model, self.core_mask) as handle:
                num_edited = handle.num_edited
                after, measured = self._continued(ids, max_new_tokens), self._measure("after")
            is_restored = weights_digest(self._model) == self.digest
        report = PerplexityReport.compare({"before": self.base, "after": measured})
        notes = tuple(dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, UserWarning)))
        return Outcome(before, after, report, num_edited, is_restored, notes)

    def _measure(self, condition: str) -> PerplexityReport:
        return evaluate_perplexity(
            self._model,
            self._tokenizer,
            self._corpora,
            max_tokens=MEASURED_TOKENS,
            condition=condition,
            on_nonfinite="inf",
            progress=False,
        )

    def _encoded(self, prompt: str, max_new_tokens: int) -> torch.Tensor:
        ids = torch.tensor([self._tokenizer(prompt)["input_ids"]], dtype=torch.long, device=self._model.device)
        room = getattr(self._model.config, "max_position_embeddings", None)
        if not prompt.strip() or not ids.numel():
            raise InputError("The prompt is empty. Write the beginning of a text that the model is to go on with.")
        if room is not None and ids.shape[1] + max_new_tokens > room:
            raise InputError(
                f"The prompt has {ids.shape[1]} tokens and {max_new_tokens} are to follow, but the model's context is {room}. "
                "Shorten the prompt."
            )
        return ids

    @torch.inference_mode()
    def _continued(self, ids: torch.Tensor, max_new_tokens: int) -> str:
        special = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)
        written = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=next((token for token in special if token is not None), 0),
        )
        return str(self._tokenizer.decode(written[0], skip_special_tokens=True))


def weights_digest(model: torch.nn.Module) -> str:
    """Hex sha256 of the names and bits of all weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_explorer(model_id: str, core_mask: str | None, data: str | None) -> Explorer:
    """Load a model and its core.

    Args:
        model_id: Folder or Hub id of a causal language model.
        core_mask: Folder or Hub id of its core mask; None computes one from the built-in corpus.
        data: Folder with one text file per language to measure perplexity on; None is the built-in corpus.

    Raises:
        LangCoreError: The mask or the texts cannot be had, or the mask is not of this model.
    """
    logging.disable_progress_bar()
    mask = CoreMask.from_pretrained(core_mask) if core_mask else None
    # A mask from the Hub knows the commit that it was found on; newer commits may have other weights.
    revision = mask.provenance.base_revision if mask and mask.provenance.base_model == model_id else None
    on_gpu = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(
        model_id, revision=revision or "main", dtype="auto" if on_gpu else torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(model_id, revision=revision or "main")
    model = model.to("cuda" if on_gpu else "cpu").eval()
    return Explorer(model, tokenizer, mask or _computed(model, tokenizer), _texts(data))


def _computed(model: Any, tokenizer: Any) -> CoreMask:
    from hf_langcore.data.mini import mini_corpora

    corpora = mini_corpora(SEARCHED, sentences=SEARCH_SENTENCES)
    return compute_core_mask(model, tokenizer, corpora, fraction=FRACTION, max_tokens=SEARCH_TOKENS)


def _texts(data: str | None) -> dict[str, list[str]]:
    from hf_langcore.data import corpora_from_folder, read_texts
    from hf_langcore.data.mini import mini_corpora

    if data is None:
        return mini_corpora(sentences=40, start=SEARCH_SENTENCES)
    return {language: list(read_texts(language, source)) for language, source in corpora_from_folder(data).items()}
