"""The part of CoreRegionSFTTrainer that mixes general data into the task's rows."""

from __future__ import annotations

import copy
import math
from typing import Any

from datasets import Dataset, IterableDataset

from hf_langcore.data.mixture import mix_general_data
from hf_langcore.data.rows import Rows, form_of, require_chat_template
from hf_langcore.data.shares import TASK
from hf_langcore.errors import ConfigurationError
from hf_langcore.training.consumption import SOURCE_COLUMN, Consumption, MixtureReport
from hf_langcore.training.counting import CountingSFTTrainer
from hf_langcore.training.general import Mixing, general_rows, task_rows
from hf_langcore.training.packing import PackedMixture, packed_stream
from hf_langcore.training.sampling import EpochRows, Mixture, MixtureSampler

__all__ = ["MixingSFTTrainer", "general_rows", "task_rows"]

_COMPLETIONS = ("prompt_completion", "conversation_pair")


class MixingSFTTrainer(CountingSFTTrainer):
    """An SFTTrainer whose training rows are task rows and, for each epoch anew, general rows.

    `_general` has to be set before SFTTrainer prepares the data, that is before its constructor is called.
    """

    _general: dict[str, Rows] | None
    _mixture: EpochRows | None = None
    _sampler: MixtureSampler | None = None
    completion_only_loss: bool

    def mixture_report(self, epoch: int | None = None) -> MixtureReport | None:
        """Rows and tokens of one epoch; None where nothing is mixed, or a stream has not got to that epoch.

        In memory this is what the epoch consists of, known before it is trained. Of a stream it is what training has
        consumed of it; see `consumed_mixture`.

        Args:
            epoch: Number of the epoch, from 0; the last one that was begun if None.
        """
        if self._mixture is not None:
            last = self._sampler.epoch if self._sampler is not None else 0
            return self._mixture.report(last if epoch is None else epoch)
        by_epoch = {report.epoch: report for report in self.consumed_mixture()}
        return by_epoch.get(max(by_epoch, default=0) if epoch is None else epoch)

    def num_examples(self, dataloader: Any) -> int:
        """Rows in one pass; of a mixture those of an epoch, not all general rows that there are."""
        batches = getattr(dataloader, "batch_sampler", None)
        sampler = getattr(getattr(batches, "batch_sampler", batches), "sampler", None)
        if isinstance(sampler, MixtureSampler):
            return len(sampler)
        return int(super().num_examples(dataloader))

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
        if packing and args.max_length is None:
            raise ConfigurationError("packing=True needs max_length, the number of tokens in a block; set it.")
        if packing:
            parts.max_length = None  # packing cuts at max_length itself, and differently
        task = super()._prepare_dataset(dataset, processing_class, parts, False, formatting_func, dataset_name)
        sources = {name: self._prepare_general(name, rows, processing_class, parts) for name, rows in general.items()}
        mixing, seed = Mixing.of(args), args.seed if args.data_seed is None else args.data_seed
        self._consumption = Consumption([TASK, *sources])
        self._settings = {**mixing.as_dict(list(sources)), "seed": seed}
        if any(isinstance(rows, IterableDataset) for rows in (task, *sources.values())):
            return self._stream(task, sources, mixing, args, seed=seed)
        self._mixture = _epochs(task, sources, mixing, args, seed=seed)
        return self._mixture.rows

    def _prepare_general(self, name: str, rows: Rows, processing_class: Any, args: Any) -> Rows:
        """As SFTTrainer would prepare it on its own: whether prompts are trained depends on this data's form."""
        form = form_of(rows, name=f"general_dataset ({name})")
        require_chat_template(processing_class, form)
        if form == "text" and args.dataset_text_field != "text":
            rows = rows.rename_column("text", args.dataset_text_field)
        of_task: bool = self.completion_only_loss
        if args.completion_only_loss is None:
            self.completion_only_loss = form in _COMPLETIONS
        try:
            return super()._prepare_dataset(rows, processing_class, args, False, None, name)
        finally:
            self.completion_only_loss = of_task

    def _stream(self, task: Rows, sources: dict[str, Rows], mixing: Mixing, args: Any, *, seed: int) -> Rows:
        mixed = mix_general_data(
            task,
            sources,
            ratio=mixing.ratio,
            weights=mixing.weights,
            by=mixing.by,
            seed=seed,
            max_length=_cut(args),
            source_column=SOURCE_COLUMN,
        )
        if args.world_size > 1 and args.accelerator_config.dispatch_batches is None:
            # One process that hands batches to the others could only do so if all were padded to one length.
            args.accelerator_config.dispatch_batches = False
        if not args.packing:
            return mixed
        names = (TASK, *sources)
        return packed_stream(mixed, names, max_length=args.max_length, strategy=args.packing_strategy, seed=seed)


def _epochs(task: Dataset, sources: dict[str, Dataset], mixing: Mixing, args: Any, *, seed: int) -> EpochRows:
    if args.train_sampling_strategy != "random":
        raise ConfigurationError(
            f"train_sampling_strategy={args.train_sampling_strategy!r} orders the rows itself, so no new general "
            'rows could be drawn for every epoch. Use "random", or mix beforehand with mix_general_data.'
        )
    mixture = Mixture(
        task,
        sources,
        ratio=mixing.ratio,
        by=mixing.by,
        seed=seed,
        weights=mixing.weights,
        max_length=_cut(args),
    )
    if not args.packing:
        return mixture
    with args.main_process_first(desc="packing the mixture"):
        return PackedMixture(
            mixture,
            epochs=lambda blocks: _planned_epochs(blocks, args),
            max_length=args.max_length,
            strategy=args.packing_strategy,
            seed=seed,
        )


def _planned_epochs(blocks: int, args: Any) -> int:
    """How many epochs the arguments ask for, if each has so many blocks."""
    if args.max_steps <= 0:
        return max(1, math.ceil(float(args.num_train_epochs)))
    blocks_per_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    return math.ceil(int(args.max_steps) / max(1, blocks // int(blocks_per_step)))


def _cut(args: Any) -> int | None:
    """Where packing cuts rows; rows that are not packed have been cut before."""
    return args.max_length if args.packing and args.packing_strategy == "bfd" else None
