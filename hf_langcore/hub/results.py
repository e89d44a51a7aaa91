"""Evaluation results on the Hub: `push_eval_results` and `load_eval_results`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from hf_langcore.errors import ConfigurationError, HubNotFoundError, InputError
from hf_langcore.hub.benchmark_results import BenchmarkResult, benchmark_files
from hf_langcore.hub.commits import Content, Head, commit
from hf_langcore.hub.eval_record import is_digest
from hf_langcore.hub.fetch import Repository
from hf_langcore.hub.front_matter import CARD_FILE, split_card
from hf_langcore.hub.gathering import Results, file_of, gathered_with, read_file
from hf_langcore.hub.measured import MaskOf, Particulars, PerLanguage
from hf_langcore.hub.model_index import mirrored
from hf_langcore.hub.placement import require_no_weights, require_right_place
from hf_langcore.hub.records import RESULTS_FILE, RESULTS_LIMIT, EvalResults
from hf_langcore.hub.results_table import RESULTS_MARKS, results_section
from hf_langcore.hub.search import FACTS
from hf_langcore.masks.origin import is_repository_id

logger = logging.getLogger(__name__)

_CARD_LIMIT = 4 << 20


def push_eval_results(
    results: Results | Sequence[Results],
    repo_id: str,
    *,
    model: str | None = None,
    model_revision: str | None = None,
    core_mask: MaskOf = None,
    core_mask_repo: str | None = None,
    core_mask_revision: str | None = None,
    dataset: PerLanguage = None,
    dataset_config: PerLanguage = None,
    dataset_split: PerLanguage = None,
    dataset_revision: PerLanguage = None,
    seed: int | None = None,
    benchmark: BenchmarkResult | Mapping[str, Any] | Sequence[BenchmarkResult | Mapping[str, Any]] | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    parent_commit: str | None = None,
    token: bool | str | None = None,
) -> CommitInfo:
    """Add results to a repository's `eval/results.json`, and copy them into its card, in one commit.

    What the repository holds already stays; of two records that measure the same thing the newer one does. In the card
    only our entries of `model-index` change. A repository that is missing is made, with a small card.

    Results of an edited model (`perturb`, `scale_dimension`, ...) belong to the mask's repository, or to one of their own:
    the repository of the model itself is refused under each of its names, also as a pull request. So are records of
    which nobody noted whether the model was edited, unless their condition is "base".

    Args:
        results: What `evaluate_perplexity` or `PerplexityReport.compare` returned, an EvalResults, the file or folder of
            one, or several of these.
        repo_id: "owner/name", or "name" for your own.
        model: Repository of the model that was measured, where the report only knows a folder, or only an adapter's base.
        model_revision: Its 40-hex commit; where nobody knows it, a warning is logged.
        core_mask: The mask that the edited conditions are about, or its digest; or condition -> one of these.
        core_mask_repo: Where the mask lies; None is where it was pulled from or pushed to.
        core_mask_revision: The 40-hex commit there.
        dataset: Repository or name of the data set that the text comes from; known where corpora named it as
            "repo:config:split". Like the next three one value, or language -> value.
        dataset_config: Its configuration.
        dataset_split: Its split.
        dataset_revision: Its commit.
        seed: That shuffled the documents, where the report does not know it.
        benchmark: Also write `.eval_results/*.yaml` for a benchmark of the Hub: figures of the model itself, on its own
            repository.
        commit_message: First line of the commit.
        commit_description: Further lines.
        private: Of a repository that is made; None is the account's default.
        revision: Branch to push to; made if it is missing.
        create_pr: Open a pull request instead, also in somebody else's repository.
        parent_commit: Refuse if the branch is not at this commit any more.
        token: Access token; None uses the stored one.

    Returns:
        The commit: `.oid` is its sha, `.pr_url` the pull request.

    Raises:
        InputError: The results do not belong there, cannot be read, do not say which model they are of, or are of another
            mask than `core_mask`.
        HubConflictError: `parent_commit` is not the newest commit any more.
        HubError: The Hub refused or could not be reached; nothing was changed there.

    Example:
        >>> push_eval_results(report, "me/my-core", core_mask=core_mask, dataset="me/texts").oid  # doctest: +SKIP
        '3f1c...'
    """
    particulars = Particulars(
        model=model,
        model_revision=model_revision,
        core_mask=core_mask,
        core_mask_repo=core_mask_repo,
        core_mask_revision=core_mask_revision,
        dataset=dataset,
        dataset_config=dataset_config,
        dataset_split=dataset_split,
        dataset_revision=dataset_revision,
        seed=seed,
    )
    given = gathered_with(results, particulars)
    require_right_place(given, repo_id, base_models=particulars.base_models(), token=token)
    _warn_without_commit(given)
    benchmarks = benchmark_files(benchmark, given, repo_id, token=token)

    def files(head: Head) -> Mapping[str, Content]:
        merged = merged_at(head, given) or given
        card = _with_table(mirrored(read_card(head), merged, repo_id=head.repo_id), merged)
        return {RESULTS_FILE: merged.to_json().encode(), CARD_FILE: card.encode(), **benchmarks}

    return commit(
        repo_id,
        files,
        message=commit_message or f"Evaluation results: {_summary(given)}",
        description=commit_description,
        private=private,
        revision=revision,
        create_pr=create_pr,
        parent_commit=parent_commit,
        token=token,
    )


def load_eval_results(
    source: str | Path,
    *,
    revision: str | None = None,
    token: bool | str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> EvalResults:
    """Read evaluation results and check all of them.

    Args:
        source: A file, a folder that holds `eval/results.json`, or "owner/name" of a repository.
        revision: Branch, tag or 40-hex commit of the repository.
        token: Access token; None uses the stored one.
        cache_dir: Folder of the cache; None is huggingface_hub's.
        local_files_only: Do not ask the Hub; as HF_HUB_OFFLINE does.

    Raises:
        InputError: There are no results, or they are damaged; the message names the record.
        ConfigurationError: A revision of a folder.
        HubError: The repository cannot be read: missing, private, gated, not reachable, without results.
    """
    name = str(source)
    if isinstance(source, Path) or not is_repository_id(name):
        if revision is not None:
            raise ConfigurationError(
                f"revision={revision!r} needs a repository on the Hub, and {name!r} is a file or folder."
            )
        return read_file(file_of(Path(source)))
    asked = Repository(name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
    try:
        path = asked.fetch(RESULTS_FILE, limit=RESULTS_LIMIT, doing="load")
    except HubNotFoundError as error:
        raise HubNotFoundError(
            f"{error} Results are read from {RESULTS_FILE}, which push_eval_results writes.",
            repo_id=name,
            status=error.status,
        ) from error
    return read_file(path, f"{RESULTS_FILE} of {name!r}")


def merged_at(head: Head, results: EvalResults | None) -> EvalResults | None:
    """What the repository's `eval/results.json` is to hold: what it holds, and the new records.

    Raises:
        InputError: What it holds is damaged, or the repository holds a model and the records are of an edited one.
        HubError: It cannot be read.
    """
    if results is not None:
        require_no_weights(results, head)
    content = head.read(RESULTS_FILE, limit=RESULTS_LIMIT)
    if content is None:
        return results
    known = EvalResults.from_json(content, name=f"{RESULTS_FILE} of {head.repo_id!r}")
    return known if results is None else known.merge(results)


def _with_table(card: str, results: EvalResults) -> str:
    """A mask's card with the table of its results renewed; any other card as it is."""
    if RESULTS_MARKS.of(card) is None:
        return card
    facts = split_card(card)[0].get(FACTS)
    own = facts.get("digest") if isinstance(facts, Mapping) else None
    return RESULTS_MARKS.put(results_section(results, core_mask=own if is_digest(own) else None), into=card)


def read_card(head: Head) -> str | None:
    """The repository's README.md; None where it has none.

    Raises:
        InputError: It is no UTF-8 text.
    """
    content = head.read(CARD_FILE, limit=_CARD_LIMIT)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{CARD_FILE} of {head.repo_id!r} is no UTF-8 text ({error}), so that nothing can be added to it. Put it right."
        ) from error


def _warn_without_commit(records: EvalResults) -> None:
    unknown = list(dict.fromkeys(record.model for record in records if record.model_revision is None))
    if unknown:
        logger.warning(
            "Nobody knows which commit of %s was measured, so that the figures cannot be measured again once the model "
            "changes. Load the model from the Hub, or pass model_revision=, its 40-hex commit.",
            ", ".join(map(repr, unknown)),
        )


def _summary(results: EvalResults) -> str:
    conditions = list(dict.fromkeys(record.condition for record in results))
    shown = ", ".join(conditions) if len(conditions) < len(results.languages) + 4 else f"{len(conditions)} conditions"
    return f"{shown[:100]} in {len(results.languages)} language{'' if len(results.languages) == 1 else 's'}"
