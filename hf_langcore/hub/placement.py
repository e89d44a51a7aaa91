"""Where results belong: what was measured on an edited model never goes to the repository of the model itself.

Somebody who looks at a model's page sees what the model can do. What remains of it when its core is zeroed is a statement
about the core, and stands beside the mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from huggingface_hub import HfApi

from hf_langcore.errors import HubAccessError, HubNotFoundError, InputError
from hf_langcore.hub.access import hub_api, hub_errors, patiently
from hf_langcore.hub.commits import Head
from hf_langcore.hub.eval_record import EvalRecord

_WEIGHTS = re.compile(
    r"(?:model|pytorch_model|tf_model|flax_model|consolidated)[^/]*\.(?:safetensors|bin|h5|msgpack|pth?)|[^/]+\.gguf"
)


def require_right_place(
    records: Iterable[EvalRecord],
    repo_id: str,
    *,
    base_models: Iterable[str] = (),
    token: bool | str | None = None,
) -> None:
    """Refuse to push records of edited models to the repository of the model that was edited.

    Old names of a repository and other spellings of its name are followed.

    Args:
        records: What is to be pushed.
        repo_id: Where to.
        base_models: Models that the records' masks were found on.
        token: Of huggingface_hub.

    Raises:
        InputError: They do not belong there; the message says where they do.
        HubError: The Hub cannot be asked under which names the repositories go.
    """
    owners: dict[str, EvalRecord] = {}
    for record in records:
        for name in _not_there(record, list(base_models)):
            owners.setdefault(name, record)
    if not owners:
        return
    api = hub_api(token)
    target = _full_name(api, repo_id)
    for name, record in owners.items():
        if same_repository(name, target) or same_repository(current_name(api, name), target):
            raise _misplaced(record, target, f"it is the repository of the model {name!r}")


def require_no_weights(records: Iterable[EvalRecord], head: Head) -> None:
    """Refuse repositories that hold a model, whatever the records say which model was edited.

    Raises:
        InputError: There are weights of a model, and records of an edited one.
    """
    weights = next((name for name in sorted(head.files) if _WEIGHTS.fullmatch(name)), None)
    edited = next((record for record in records if record.is_edited), None)
    if weights is not None and edited is not None:
        raise _misplaced(edited, head.repo_id, f"it holds a model ({weights})")


def same_repository(name: str, other: str) -> bool:
    """Whether two names mean one repository; a name without owner is taken for any of that name."""
    mine, others = name.lower().split("/"), other.lower().split("/")
    return mine == others or (1 in {len(mine), len(others)} and mine[-1] == others[-1])


def current_name(api: HfApi, repo_id: str) -> str:
    """The name under which the Hub has a model's repository now; `repo_id` where it has none that this user may see.

    Raises:
        HubError: The Hub cannot be asked.
    """
    try:
        with hub_errors("look up", repo_id, token=api.token):
            found: str = patiently(lambda: api.model_info(repo_id)).id
            return found
    except (HubNotFoundError, HubAccessError):
        return repo_id


def _not_there(record: EvalRecord, base_models: list[str]) -> list[str]:
    """The models on whose repositories a record has no business."""
    loaded_from = record.base_model or record.model
    if record.is_edited:
        return [record.model, loaded_from, *base_models]
    if record.adapter is not None:
        return [loaded_from, *base_models]
    return [] if record.base_model is None else [record.base_model]


def _full_name(api: HfApi, repo_id: str) -> str:
    """The target's name; a name without owner is one's own, as in every push."""
    if "/" not in repo_id:
        with hub_errors("find out whose is", repo_id, token=api.token):
            repo_id = f"{patiently(api.whoami)['name']}/{repo_id}"
    return current_name(api, repo_id)


def _misplaced(record: EvalRecord, target: str, reason: str) -> InputError:
    if record.is_edited:
        what = record.how or ("edited" if record.perturbed else "nobody noted whether it was edited")
        advice = "evaluate_perplexity notes it; the condition 'base' is taken for the model as it is. " * (
            not record.perturbed
        )
        home = record.core_mask_repo or "the core mask's repository"
    else:
        what, advice = f"with {record.adapter}" if record.adapter else "of another model", ""
        home = "the repository of the adapter or model that was measured, named with model=,"
    return InputError(
        f"The results of condition {record.condition!r} ({what}) do not belong to {target!r}: {reason}, and its page says what "
        f"the model itself can do. {advice}Push them to {home} or to one of their own, such as {target + '-core-mask'!r}; "
        "a pull request changes nothing about that."
    )
