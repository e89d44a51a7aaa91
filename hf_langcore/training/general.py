"""The general data that arguments and a configuration name, as sources with names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset, IterableDataset

from hf_langcore.data.draws import check_mixture
from hf_langcore.data.rows import Rows
from hf_langcore.data.shares import Weights, named_sources, shares_of
from hf_langcore.data.sources import load_rows
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.replay.settings import SELF_REPLAY, check_settings

Source: TypeAlias = "Rows | str | Path"
Sources: TypeAlias = "Source | Sequence[Source] | Mapping[str, Source]"

_NAMED = re.compile(r"([^=/\\:.]+)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Mixing:
    """How general data is mixed in.

    Attributes:
        ratio: How many times as much general data as task data.
        by: "rows" or "tokens".
        weights: How the sources share it; equally if None.
    """

    ratio: float
    by: str
    weights: Weights | None

    @classmethod
    def of(cls, args: Any) -> Mixing:
        """What the arguments say; plain SFT and training arguments have the default values.

        Raises:
            InputError: The ratio or its unit is out of range.
        """
        ratio, by = getattr(args, "general_data_ratio", 5.0), getattr(args, "general_data_by", "rows")
        check_mixture(ratio=ratio, by=by)
        return cls(ratio, by, getattr(args, "general_data_weights", None) or None)

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """The settings for a report; weights as the part of each source."""
        shares = [float(share) for share in shares_of(names, self.weights)]
        return {"ratio": self.ratio, "by": self.by, "weights": dict(zip(names, shares, strict=True))}


def general_rows(
    general_dataset: Sources | None, args: Any, *, replayed: Mapping[str, Rows] | None = None
) -> dict[str, Rows] | None:
    """The general rows that an argument or the configuration names, by source; None where nothing is to be mixed in.

    Args:
        general_dataset: A data set or what `load_rows` reads; several of them as a list or by name. Overrides
            `args.general_dataset`.
        args: The configuration.
        replayed: Further sources, such as rows that the model has written itself.

    Raises:
        CorpusError: They cannot be read.
        InputError: The ratio, its unit or a weight is out of range.
        ConfigurationError: The weights are not those of the sources.
    """
    mixing = Mixing.of(args)
    given = general_dataset if general_dataset is not None else getattr(args, "general_dataset", None)
    sources = {} if given is None else sources_of(given)
    for name in replayed or {}:
        if name in sources:
            raise InputError(f"Two sources of general data are called {name!r}; rename the one that you give.")
    if mixing.ratio == 0 or not (sources or replayed):
        return None
    shares_of([*sources, *(replayed or {})], mixing.weights)  # before anything is loaded
    return {name: load_rows(source) for name, source in sources.items()} | dict(replayed or {})


def sources_of(general_dataset: Sources) -> dict[str, Source]:
    """Name -> source. Strings name themselves as "name=source", and otherwise are called after their file.

    Raises:
        CorpusError: There is none.
        InputError: Two have the same name, or one that of the task.
    """
    if isinstance(general_dataset, Mapping) or not isinstance(general_dataset, (list, tuple)):
        return named_sources(
            {"general": general_dataset} if isinstance(general_dataset, (str, Path)) else general_dataset
        )
    if not all(isinstance(source, (str, Path)) for source in general_dataset):
        return named_sources(general_dataset)
    parts = [_named(str(source)) for source in general_dataset]
    if len(parts) == 1:
        return named_sources({parts[0][0] or "general": parts[0][1]})
    names = [name or Path(source).stem for name, source in parts]
    repeated = {name for name, times in Counter(names).items() if times > 1}
    sources = {
        source if name in repeated and not given else name: source
        for name, (given, source) in zip(names, parts, strict=True)
    }
    if len(sources) < len(parts):
        raise InputError(
            f"Sources of general data have the same name: {', '.join(map(str, general_dataset))}. Give each a name of its "
            "own, as name=source."
        )
    return named_sources(sources)


def as_field(general_dataset: Any) -> list[str] | None:
    """What YAML may say (one source, a list, or name -> source) as the list that the configuration field holds."""
    if general_dataset is None or isinstance(general_dataset, str):
        return None if general_dataset is None else [general_dataset]
    if isinstance(general_dataset, Mapping):
        return [f"{name}={source}" for name, source in general_dataset.items()]
    return [str(source) for source in general_dataset]


def check_general(args: Any) -> None:
    """Bring `args.general_dataset` into the form of its field, and refuse settings that no mixture can have.

    Raises:
        InputError: A field that has to do with general data is out of range.
        ConfigurationError: There are other weights than sources.
    """
    args.general_dataset = as_field(args.general_dataset)
    mixing = Mixing.of(args)
    if args.general_dataset:
        names = [*sources_of(args.general_dataset), *([SELF_REPLAY] if args.self_replay_rows else [])]
        shares_of(names, mixing.weights)
    check_settings(
        rows=args.self_replay_rows,
        max_new_tokens=args.self_replay_tokens,
        temperature=args.self_replay_temperature,
        top_p=args.self_replay_top_p,
        fewest_rows=0,
    )


def task_rows(task: Rows | None, general: Mapping[str, Rows] | None) -> Rows | None:
    """The task rows; as a stream where a general source streams, so that SFTTrainer knows from the start.

    Raises:
        CorpusError: There are none.
    """
    if isinstance(task, Dataset) and not len(task):
        raise CorpusError("train_dataset has no rows; there is nothing to learn from.")
    if isinstance(task, Dataset) and any(isinstance(rows, IterableDataset) for rows in (general or {}).values()):
        return task.to_iterable_dataset()
    return task


def _named(source: str) -> tuple[str | None, str]:
    """The name in "name=source", if there is one, and the source."""
    found = None if Path(source).exists() else _NAMED.fullmatch(source)
    return (found[1], found[2]) if found else (None, source)
