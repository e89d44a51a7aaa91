"""The part of CoreRegionSFTTrainer that mixes general data into the task's rows."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from trl import SFTTrainer

from hf_langcore.data.mixture import check_mixture, mix_general_data
from hf_langcore.data.rows import Rows, form_of, require_chat_template
from hf_langcore.errors import ConfigurationError, CorpusError
from hf_langcore.training.sampling import Mixture, MixtureReport, MixtureSampler
from hf_langcore.training.sources import load_rows

_COMPLETIONS = ("prompt_completion", "conversation_pair")

logger = logging.getLogger(__name__)


class MixingSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """An SFTTrainer whose training rows are task rows and, for each epoch anew, general rows.

    `_general` has to be set before SFTTrainer prepares the data, that is before its constructor is called.
    """

    _general: Rows | None
    _mixture: Mixture | None = None
    _sampler: MixtureSampler | None = None
    completion_only_loss: bool

    def mixture_report(self, epoch: int | None = None) -> MixtureReport | None:
        """Rows and tokens of one epoch; None where nothing is mixed, or the mixture streams or is packed.

        Args:
            epoch: Number of the epoch, from 0; the last one that was begun if None.
        """
        if self._mixture is None:
            return None
        last = self._sampler.epoch if self._sampler is not None else 0
        return self._mixture.report(last if epoch is None else epoch)

    def num_examples(self, dataloader: Any) -> int:
        """Rows in one pass; of a mixture those of an epoch, not all general rows that there are."""
        batches = getattr(dataloader, "batch_sampler", None)
        sampler = getattr(getattr(batches, "batch_sampler", batches), "sampler", None)
        if isinstance(sampler, MixtureSampler):
            return len(sampler)
        return int(super().num_examples(dataloader))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if self._mixture is None:
            return super()._get_train_sampler(train_dataset)
        self._sampler = MixtureSampler(self._mixture)
        return self._sampler

    def _prepare_dataset(
        self,
        dataset: Rows,
        processing_class: Any,
        args: Any,
        packing: bool,  # noqa: FBT001 the signature is TRL's
        formatting_func: Any,
        dataset_name: str,
    ) -> Rows:
        """Mix the general rows into the first data set that is prepared, which is the training set."""
        general, self._general = self._general, None
        if general is None:
            return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        parts = copy.copy(args)
        if packing:
            parts.max_length = None  # packing cuts at max_length itself, and differently
        task = super()._prepare_dataset(dataset, processing_class, parts, False, formatting_func, dataset_name)
        general = self._prepare_general(general, processing_class, parts)
        mixed = self._mix(task, general, args, packing=packing)
        if not packing:
            return mixed
        return super()._prepare_dataset(mixed, processing_class, args, True, None, dataset_name)

    def _prepare_general(self, rows: Rows, processing_class: Any, args: Any) -> Rows:
        """As SFTTrainer would prepare it on its own: whether prompts are trained depends on this data's form."""
        form = form_of(rows, name="general_dataset")
        require_chat_template(processing_class, form)
        if form == "text" and args.dataset_text_field != "text":
            rows = rows.rename_column("text", args.dataset_text_field)
        of_task: bool = self.completion_only_loss
        if args.completion_only_loss is None:
            self.completion_only_loss = form in _COMPLETIONS
        try:
            return super()._prepare_dataset(rows, processing_class, args, False, None, "general")
        finally:
            self.completion_only_loss = of_task

    def _mix(self, task: Rows, general: Rows, args: Any, *, packing: bool) -> Rows:
        ratio, by = _mixing(args)
        seed = args.seed if args.data_seed is None else args.data_seed
        if packing or isinstance(task, IterableDataset) or isinstance(general, IterableDataset):
            if packing and args.num_train_epochs > 1 and args.max_steps < 0:
                logger.warning("With packing=True all epochs see the same sample of general rows.")
            return mix_general_data(task, general, ratio=ratio, by=by, seed=seed)
        if args.train_sampling_strategy != "random":
            raise ConfigurationError(
                f"train_sampling_strategy={args.train_sampling_strategy!r} orders the rows itself, so no new general "
                'rows could be drawn for every epoch. Use "random", or mix beforehand with mix_general_data.'
            )
        self._mixture = Mixture(task, general, ratio=ratio, by=by, seed=seed)
        return self._mixture.rows

    def require_mixed(self) -> None:
        """Refuse rows that SFTTrainer did not prepare, so that nothing was mixed into them.

        Raises:
            ConfigurationError: General rows are still waiting.
        """
        if self._general is not None:
            raise ConfigurationError(
                "general_dataset cannot be mixed into rows that SFTTrainer does not tokenise (images, or "
                "dataset_kwargs={'skip_prepare_dataset': True}). Mix them beforehand with mix_general_data."
            )


def general_rows(general_dataset: Rows | str | Path | None, args: Any) -> Rows | None:
    """The general rows that an argument or the configuration names; None where nothing is to be mixed in.

    Raises:
        CorpusError: They cannot be read.
        InputError: The ratio or its unit is out of range.
    """
    source = general_dataset if general_dataset is not None else getattr(args, "general_dataset", None)
    ratio, by = _mixing(args)
    check_mixture(ratio=ratio, by=by)
    return None if source is None or ratio == 0 else load_rows(source)


def task_rows(task: Rows | None, general: Rows | None) -> Rows | None:
    """The task rows; as a stream where the general rows stream, so that SFTTrainer knows from the start."""
    if isinstance(task, Dataset) and not len(task):
        raise CorpusError("train_dataset has no rows; there is nothing to learn from.")
    if isinstance(task, Dataset) and isinstance(general, IterableDataset):
        return task.to_iterable_dataset()
    return task


def _mixing(args: Any) -> tuple[float, str]:
    """Ratio and unit; plain SFT and training arguments have the default ones."""
    return getattr(args, "general_data_ratio", 5.0), getattr(args, "general_data_by", "rows")
