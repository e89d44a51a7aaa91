"""Pushing what lies on disk: a mask, an adapter, a fine-tuned model, a report. What `langcore push` does."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from hf_langcore.errors import InputError
from hf_langcore.hub.commits import Content, Head, commit
from hf_langcore.hub.front_matter import CARD_FILE, join_card, split_card, union
from hf_langcore.hub.results import push_eval_results, read_card
from hf_langcore.hub.sections import HERE, MARKS
from hf_langcore.masks import CoreMask
from hf_langcore.masks.storage import CONFIG_FILE

_ADAPTER, _MODEL = "adapter_config.json", "config.json"
_WEIGHTS = ("*.safetensors", "*.bin")

_LEFT_OUT = (
    "checkpoint-*",
    "runs",
    "_*",
    ".*",
    "*.tmp",
    "optimizer.*",
    "scheduler.pt",
    "rng_state*.pth",
    "training_args.bin",  # a pickle of everything that the run was told, tokens included
    "core_values.safetensors",  # for resuming the run in its own folder
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where something is pushed; the fields mean what they mean in `CoreMask.push_to_hub`."""

    repo_id: str
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    parent_commit: str | None = None
    commit_message: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of it.

    Attributes:
        kind: "core mask", "adapter", "model" or "results".
        url: Of the commit.
        commit: Its 40-hex sha.
        pr_url: Of the pull request, where one was opened.
    """

    kind: str
    url: str
    commit: str
    pr_url: str | None = None

    @classmethod
    def of(cls, kind: str, done: CommitInfo) -> Pushed:
        """From what huggingface_hub returns."""
        return cls(kind, str(done.commit_url), done.oid, done.pr_url)

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def push_anything(
    source: str | Path,
    to: Destination,
    *,
    base_model: str | None = None,
    base_revision: str | None = None,
    results: str | Path | None = None,
    core_mask: str | None = None,
    datasets: Sequence[str] = (),
    figures: Mapping[str | Path, str] | None = None,
    license: str | None = None,  # noqa: A002 the card's word
) -> Pushed:
    """Push a folder or a report, by what it holds.

    Args:
        source: Folder of a mask, an adapter or a model; or a file of results.
        to: Where to.
        base_model: Of a mask or a report: repository of the model, where it was loaded from a folder.
        base_revision: Its revision.
        results: With a mask: a file of results for its card.
        core_mask: With a report: folder or repository of the mask that was perturbed.
        datasets: Repositories of data sets, for a mask's card; of a report at most one.
        figures: With a mask: pictures for its card, file -> caption.
        license: Of a mask.

    Raises:
        InputError: It is none of these, or an option does not belong to it.
        HubError: The Hub refused or could not be reached.
    """
    path = Path(source)
    kind = _kind(path)
    _require_fitting(
        kind,
        {
            "--base-model": (base_model, ("core mask", "results")),
            "--base-revision": (base_revision, ("core mask", "results")),
            "--results": (results, ("core mask",)),
            "--core-mask": (core_mask, ("results",)),
            "--dataset": (datasets, ("core mask", "results")),
            "--figure": (figures, ("core mask",)),
            "--license": (license, ("core mask",)),
        },
    )
    options = asdict(to)
    repo_id = options.pop("repo_id")
    if kind == "core mask":
        done = CoreMask.from_pretrained(path).push_to_hub(
            repo_id,
            base_model=base_model,
            base_revision=base_revision,
            results=results,
            license=license,
            datasets=datasets,
            figures=figures,
            **options,
        )
    elif kind == "results":
        done = push_eval_results(
            path,
            repo_id,
            model=base_model,
            model_revision=base_revision,
            core_mask=None if core_mask is None else CoreMask.from_pretrained(core_mask),
            dataset=_only(datasets),
            **options,
        )
    else:
        message = options.pop("commit_message") or f"Upload {kind}"
        done = commit(repo_id, lambda head: _files(path, head), message=message, **options)
    return Pushed.of(kind, done)


def _kind(path: Path) -> str:
    if path.is_file():
        return "results"
    if (path / _ADAPTER).is_file():
        return "adapter"
    if (path / _MODEL).is_file() and any(file for pattern in _WEIGHTS for file in path.glob(pattern)):
        return "model"
    if (path / CONFIG_FILE).is_file():
        return "core mask"
    if not path.exists():
        raise InputError(f"There is no {str(path)!r}: name a folder or a report (.json). Check the spelling.")
    raise InputError(
        f"{str(path)!r} holds nothing that can be pushed: expected the folder of a core mask ({CONFIG_FILE}), of an adapter "
        f"({_ADAPTER}) or of a model ({_MODEL} and its weights), or a report (.json)."
    )


def _require_fitting(kind: str, given: Mapping[str, tuple[Any, Sequence[str]]]) -> None:
    for option, (value, kinds) in given.items():
        if value and kind not in kinds:
            raise InputError(f"{option} belongs to {' or '.join(kinds)}, and what is pushed is: {kind}. Leave it out.")


def _only(datasets: Sequence[str]) -> str | None:
    if len(datasets) > 1:
        raise InputError(
            f"A report is of one data set, got {list(datasets)}. push_eval_results(dataset={{language: repository}}) says which "
            "language is of which."
        )
    return next(iter(datasets), None)


def _files(folder: Path, head: Head) -> dict[str, Content]:
    """All files of an adapter or a model, with a card that keeps what the repository's says."""
    files: dict[str, Content] = {
        path.relative_to(folder).as_posix(): path for path in _uploaded(folder) if path != folder / CARD_FILE
    }
    card = _card(folder, head)
    return files if card is None else {**files, CARD_FILE: card.encode()}


def _card(folder: Path, head: Head) -> str | None:
    """The folder's card; where the repository has one, that with our section and metadata renewed."""
    path = folder / CARD_FILE
    if not path.is_file():
        return None
    metadata, text = split_card(path.read_text(encoding="utf-8"))
    section = MARKS.of(text)
    if section is not None:
        text = MARKS.put(section.replace(HERE, head.repo_id), into=text)
    written = read_card(head)
    if written is not None:
        theirs, text_there = split_card(written)
        tags = union(theirs.get("tags"), metadata.get("tags"))
        metadata = {**metadata, **theirs, **({"tags": tags} if tags else {})}
        text = text_there if section is None else MARKS.put(section.replace(HERE, head.repo_id), into=text_there)
    return join_card(metadata, text)


def _uploaded(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in _LEFT_OUT):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _uploaded(path)
        elif path.is_file():
            yield path
