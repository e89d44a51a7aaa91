"""From what was measured to records: what a report knows about itself, and what only its author can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

from hf_langcore.errors import InputError
from hf_langcore.evaluation import LanguageScore, PerplexityReport
from hf_langcore.hub.eval_record import EvalRecord, is_digest, is_model_name
from hf_langcore.masks import CoreMask
from hf_langcore.masks.origin import is_commit

PerLanguage: TypeAlias = str | Mapping[str, str] | None
"""One value for all languages, or language -> value."""

MaskOf: TypeAlias = CoreMask | str | Mapping[str, CoreMask | str | None] | None
"""A mask or its digest, or condition -> one of these."""

_LONGEST = 400
_DIGEST = 8  # digits of a digest in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """What a report cannot know; the fields mean what they mean in `push_eval_results`."""

    model: str | None = None
    model_revision: str | None = None
    core_mask: MaskOf = None
    core_mask_repo: str | None = None
    core_mask_revision: str | None = None
    dataset: PerLanguage = None
    dataset_config: PerLanguage = None
    dataset_split: PerLanguage = None
    dataset_revision: PerLanguage = None
    seed: int | None = None

    def base_models(self) -> list[str]:
        """The repositories of the models that the masks were found on."""
        names = [one.provenance.base_model for one in self._masks()]
        return list(dict.fromkeys(name for name in names if name is not None and is_model_name(name)))

    def complete(self, record: EvalRecord) -> EvalRecord:
        """A record with what it lacks filled in; a model that the caller names goes before the one that was noted."""
        given = {name: value for name, value in self._of_text(record.language).items() if value is not None}
        if self.seed is not None:
            given["seed"] = self.seed
        is_derived = self.model not in {None, record.model}  # fine-tuned with the mask's core protected, perhaps
        if record.is_edited or record.adapter is not None or is_derived:
            given |= self._of_mask_like(record)
        missing = {name: value for name, value in given.items() if getattr(record, name) is None}
        return replace(record, **missing, **self._of_model(record))

    def _of_text(self, language: str) -> dict[str, Any]:
        names = ("dataset", "dataset_config", "dataset_split", "dataset_revision")
        return {name: _for(language, getattr(self, name)) for name in names}

    def _of_mask(self, condition: str) -> dict[str, Any]:
        mask = _for(condition, self.core_mask)
        if mask is None:
            return {}
        if not isinstance(mask, CoreMask) and not is_digest(mask):
            raise InputError(f"core_mask should be a CoreMask or the 64 hex digits of its digest, got {mask!r:.100}.")
        origin = mask.origin if isinstance(mask, CoreMask) else None
        return {
            "core_mask": mask.digest() if isinstance(mask, CoreMask) else mask,
            "core_mask_repo": self.core_mask_repo or (origin.repo_id if origin else None),
            "core_mask_revision": self.core_mask_revision or (origin.revision if origin else None),
        }

    def _of_mask_like(self, record: EvalRecord) -> dict[str, Any]:
        """What is known of the record's mask; nothing where the record is about another one than the caller's."""
        known = {name: value for name, value in self._of_mask(record.condition).items() if value is not None}
        is_other = record.core_mask is not None and known.get("core_mask", record.core_mask) != record.core_mask
        return {} if is_other else known

    def require_mask(self, condition: str, edited: Sequence[str]) -> None:
        """Refuse a mask that is not the one whose weights were edited, as far as that was noted.

        Args:
            condition: Whose mask.
            edited: Digests of the masks that were edited; of controls and single dimensions none is noted.

        Raises:
            InputError: It is another one.
        """
        given = self._of_mask(condition).get("core_mask")
        if edited and given is not None and given not in edited:
            raise InputError(
                f"it was measured with mask {edited[0][:_DIGEST]} edited, and core_mask= is {given[:_DIGEST]}, another mask. "
                "Name the mask that was edited; where conditions have several, pass core_mask={condition: mask}."
            )

    def _of_model(self, record: EvalRecord) -> dict[str, Any]:
        if self.model is None or self.model == record.model:
            known = self.model_revision or record.model_revision or self._pinned(record.model)
            return {"model_revision": known}
        base_model = record.base_model or record.model
        return {
            "model": self.model,
            "model_revision": self.model_revision or self._pinned(self.model),
            "base_model": None if base_model == self.model else base_model,
        }

    def _masks(self) -> list[CoreMask]:
        given = self.core_mask
        values = [given] if isinstance(given, (CoreMask, str)) or given is None else list(given.values())
        return [one for one in values if isinstance(one, CoreMask)]

    def _pinned(self, model: str) -> str | None:
        """The commit of a model that the mask is pinned to."""
        sources = [one.provenance for one in self._masks()]
        found = {source.base_revision for source in sources if source.base_model == model}
        revision = next(iter(found)) if len(found) == 1 else None
        return revision if is_commit(revision) else None


def records_of(report: PerplexityReport, given: Particulars) -> Iterator[EvalRecord]:
    """The records of a report.

    Args:
        report: The figures and what was noted with them.
        given: What the caller says.

    Raises:
        InputError: Nobody says which model it was, or something that was noted cannot be published.
    """
    for condition, scores in report.conditions.items():
        settings = report.settings_of(condition)
        for language, score in scores.items():
            try:
                given.require_mask(condition, _edited_masks(settings))
                record = given.complete(_record(condition, language, score, settings, given))
            except InputError as error:
                raise InputError(f"The report's condition {condition!r}, language {language!r}: {error}") from error
            yield record


def _record(
    condition: str, language: str, score: LanguageScore, settings: Mapping[str, Any], given: Particulars
) -> EvalRecord:
    edits, source = settings.get("edits"), (settings.get("datasets") or {}).get(language) or {}
    is_known = isinstance(edits, list)
    noted, masks = _public(settings.get("model")), _edited_masks(settings)
    revision = settings.get("revision")
    return EvalRecord(
        model=noted or given.model or _of_masks(given, settings.get("model")),
        condition=condition,
        language=language,
        tokens=score.tokens,
        nll=score.nll,
        bytes=score.bytes or None,
        model_revision=revision if noted and is_commit(revision) else None,
        perturbed=bool(edits) if is_known else None,
        how=_joined(edits) if is_known else None,
        core_mask=masks[0] if edits and len(masks) == 1 else None,
        adapter=_joined(settings.get("adapters")),
        dataset=source.get("dataset"),
        dataset_config=source.get("config"),
        dataset_split=source.get("split"),
        text_sha256=settings.get("text_sha256"),
        block_size=settings.get("block_size"),
        stride=settings.get("stride"),
        start_token=settings.get("start_token"),
        dtype=settings.get("dtype"),
        seed=settings.get("seed"),
        versions=settings.get("versions") or {},
        date=settings.get("date") or datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _public(name: Any) -> str | None:
    """A model's name where it is one that may be published: folders of this machine are nobody's business."""
    return name if is_model_name(name) and not Path(name).exists() else None


def _of_masks(given: Particulars, noted: Any) -> str:
    bases = given.base_models()
    if len(bases) == 1:
        return bases[0]
    folder = f"the folder {Path(str(noted)).name!r}" if noted else "a model without a name"
    raise InputError(
        f"it was measured on {folder}, and paths of a machine are not published. Say which model it is: "
        'model="owner/name", and model_revision= where you know it.'
    )


def _edited_masks(settings: Mapping[str, Any]) -> list[str]:
    noted = settings.get("edited_masks")
    return [one for one in noted if is_digest(one)] if isinstance(noted, list) else []


def _joined(words: Any) -> str | None:
    return "; ".join(str(word) for word in words)[:_LONGEST] or None if isinstance(words, list) else None


def _for(key: str, value: Any) -> Any:
    """The value for a language or condition; a mask is a mapping too, but of tensors."""
    is_table = isinstance(value, Mapping) and not isinstance(value, CoreMask)
    return value.get(key) if is_table else value
