"""One figure with all that is needed to know what it means: a record of `eval/results.json`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.evaluation.language_score import LanguageScore, number_or_inf
from hf_langcore.masks.origin import is_commit

BASELINES = frozenset({"base", "baseline"})
"""Conditions that mean the model as it was published, also where nobody noted whether it was edited."""

_DERIVED = ("perplexity", "bits_per_byte")
_CLOSE = 1e-6  # other programs may compute exp and logarithms a little differently

_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95}/)?[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")
_PATH = re.compile(r"[/\\~]|[A-Za-z]:[/\\]")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")

_LONGEST = 400  # characters
_MOST_TOKENS = 10**15
_MOST_VERSIONS = 32
_LARGEST_SEED = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRecord:
    """Perplexity of one model in one condition on the text of one language.

    Attributes:
        model: Repository of the model that was measured, or its name; never a folder.
        condition: In free words: "base", "top 3 % zeroed".
        language: Its code.
        tokens: Number of scored tokens.
        nll: Mean negative log-likelihood per token, in nats; infinite for models that were destroyed.
        bytes: UTF-8 bytes of exactly the text that these tokens stand for.
        model_revision: Its 40-hex commit.
        base_model: What the weights were loaded from, where that is not `model`: an adapter's base.
        perturbed: Whether weights were edited; None where nobody noted it.
        how: How they were edited, in words.
        adapter: The adapters that were in force.
        core_mask: `CoreMask.digest()` of the mask that the condition is about.
        core_mask_repo: Where that mask lies on the Hub.
        core_mask_revision: The 40-hex commit there.
        dataset: Repository of the data set, or its name; never a path.
        dataset_config: Its configuration.
        dataset_split: Its split.
        dataset_revision: Its commit.
        text_sha256: One digest of all tokens that were scored together: the same for each language of a report.
        block_size: Tokens per window, the start token included.
        stride: Tokens that each further window scores.
        start_token: What every window starts with.
        dtype: Of the weights.
        seed: That shuffled the documents; None where they kept their order.
        versions: Library -> version.
        date: When it was measured, UTC: "2026-11-21T18:00:00Z".
    """

    model: str
    condition: str
    language: str
    tokens: int
    nll: float
    bytes: int | None = None
    model_revision: str | None = None
    base_model: str | None = None
    perturbed: bool | None = None
    how: str | None = None
    adapter: str | None = None
    core_mask: str | None = None
    core_mask_repo: str | None = None
    core_mask_revision: str | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_split: str | None = None
    dataset_revision: str | None = None
    text_sha256: str | None = None
    block_size: int | None = None
    stride: int | None = None
    start_token: str | None = None
    dtype: str | None = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    date: str | None = None

    def __post_init__(self) -> None:
        for name, (is_right, expected) in _RULES.items():
            value = getattr(self, name)
            may_be_none = name not in _REQUIRED
            if not (value is None and may_be_none) and not is_right(value):
                raise InputError(f"{name} should be {expected}{' or null' * may_be_none}, got {_shown(value)}.")
        object.__setattr__(self, "nll", float(self.nll))
        object.__setattr__(self, "versions", dict(self.versions))
        if self.how is not None and not self.perturbed:
            raise InputError(f"how says {self.how!r}, so that perturbed should be true, got {self.perturbed!r}.")

    @property
    def score(self) -> LanguageScore:
        """The figures alone."""
        return LanguageScore(self.nll, self.tokens, self.bytes)

    @property
    def perplexity(self) -> float:
        """exp(nll); infinite where that is no float."""
        return self.score.perplexity

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of text; None where the bytes are not known."""
        return self.score.bits_per_byte

    @property
    def is_edited(self) -> bool:
        """Whether weights were edited, as far as can be known: what nobody noted counts as edited, but for the baseline."""
        return self.condition not in BASELINES if self.perturbed is None else self.perturbed

    @property
    def text_key(self) -> tuple[str | None, ...]:
        """What tells apart which text was scored."""
        return (self.dataset, self.dataset_config, self.dataset_split, self.dataset_revision, self.text_sha256)

    @property
    def key(self) -> tuple[str | None, ...]:
        """What tells records apart; two with the same key measure the same thing."""
        model = (self.model, self.model_revision, self.base_model, self.adapter, self.core_mask)
        return (*model, self.condition, self.language, *self.text_key)

    @property
    def moment(self) -> tuple[Any, ...] | None:
        """What only one measurement has: text, figures and time; None where that is not known."""
        if self.text_sha256 is None or self.date is None:
            return None
        return (self.condition, self.language, self.text_sha256, self.nll, self.tokens, self.date)

    def told_again(self, before: EvalRecord) -> EvalRecord | None:
        """This record with what an earlier telling of the same measurement knew besides; None where they contradict."""
        known = {item.name: (getattr(self, item.name), getattr(before, item.name)) for item in fields(self)}
        is_same = all(mine == theirs or mine is None or theirs is None for mine, theirs in known.values())
        if not is_same:
            return None
        return replace(self, **{name: theirs for name, (mine, theirs) in known.items() if mine is None})

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, derived figures included; infinity as the string "inf"."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            values[name] = number_or_inf(value) if name == "nll" else value
            if name == "bytes":
                values |= {derived: self._derived(derived) for derived in _DERIVED}
        return values

    @classmethod
    def from_dict(cls, values: Any) -> EvalRecord:
        """The reverse of `to_dict`.

        Raises:
            InputError: A field is missing, unknown or wrong, or the derived figures are not those of this record.
        """
        if not isinstance(values, dict):
            raise InputError(f"a record should be a JSON object, got {_shown(values)}.")
        unknown = sorted(values.keys() - _FIELDS - set(_DERIVED))
        missing = sorted((_REQUIRED | {"perplexity"}) - values.keys())
        if unknown or missing:
            raise InputError(
                f"{'unknown' if unknown else 'missing'} field {(unknown or missing)[0][:80]!r}: a newer hf_langcore or another "
                "program wrote it. Update hf_langcore, or download the file again."
            )
        own = {name: value for name, value in values.items() if name not in _DERIVED}
        nll, versions = own["nll"], own.get("versions")
        record = cls(
            **{**own, "nll": math.inf if nll == "inf" else nll, "versions": {} if versions is None else versions}
        )
        for name in _DERIVED:
            if name in values:
                record._require_derived(name, values[name])
        return record

    def _derived(self, name: str) -> float | str | None:
        value = getattr(self, name)
        return None if value is None else number_or_inf(value)

    def _require_derived(self, name: str, given: Any) -> None:
        expected = self._derived(name)
        is_same = given == expected and not isinstance(given, bool)
        if not is_same and _is_number(given) and isinstance(expected, float):
            is_same = math.isclose(given, expected, rel_tol=_CLOSE)
        if not is_same:
            raise InputError(
                f"{name} should be {expected!r}, as follows from nll, tokens and bytes, got {_shown(given)}."
            )


def is_model_name(value: Any) -> bool:
    """Whether a value is "owner/name" or a plain name, as opposed to a path."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and not _TOKEN.search(value)


def is_digest(value: Any) -> bool:
    """Whether a value is a hex sha256."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.strip():
        return False
    return not _UNPRINTABLE.search(value) and not _TOKEN.search(value)


def _is_no_path(value: Any) -> bool:
    return _is_text(value) and not _PATH.match(value) and not value.startswith("..")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_TOKENS


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST_SEED <= value < _LARGEST_SEED


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_loss(value: Any) -> bool:
    return _is_number(value) and value >= 0 and (value == math.inf or abs(value) <= _MOST_TOKENS)


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%S%z") is not None
    except ValueError:
        return False


def _are_versions(value: Any) -> bool:
    is_mapping = isinstance(value, Mapping) and len(value) <= _MOST_VERSIONS
    return is_mapping and all(_is_text(item) for pair in value.items() for item in pair)


def _shown(value: Any) -> str:
    """A value in a message: short, and no secret where a secret was put into it."""
    return _TOKEN.sub("<hidden>", repr(value))[:120]


_Rule = tuple[Callable[[Any], bool], str]
_TEXT: _Rule = (_is_text, f"a text of 1 to {_LONGEST} printable characters without an access token")
_MODEL: _Rule = (is_model_name, "a repository 'owner/name' or a name, and no folder,")
_COUNT: _Rule = (_is_count, f"a whole number from 1 to {_MOST_TOKENS:.0e}")
_A_COMMIT: _Rule = (is_commit, "a 40-hex commit")
_A_DIGEST: _Rule = (is_digest, "64 hex digits of a sha256")
_RULES: dict[str, _Rule] = {
    "model": _MODEL,
    "condition": _TEXT,
    "language": _TEXT,
    "tokens": _COUNT,
    "nll": (_is_loss, 'a number of at least 0, or "inf",'),
    "bytes": _COUNT,
    "model_revision": _A_COMMIT,
    "base_model": _MODEL,
    "perturbed": (lambda value: isinstance(value, bool), "true or false"),
    "how": _TEXT,
    "adapter": _TEXT,
    "core_mask": _A_DIGEST,
    "core_mask_repo": _MODEL,
    "core_mask_revision": _A_COMMIT,
    "dataset": (_is_no_path, "a repository 'owner/name' or a name, and no path,"),
    "dataset_config": _TEXT,
    "dataset_split": _TEXT,
    "dataset_revision": _TEXT,
    "text_sha256": _A_DIGEST,
    "block_size": _COUNT,
    "stride": _COUNT,
    "start_token": _TEXT,
    "dtype": _TEXT,
    "seed": (_is_seed, "a whole number of 64 bits"),
    "versions": (_are_versions, f"a mapping of at most {_MOST_VERSIONS} names to versions"),
    "date": (_is_date, "a time in UTC such as 2026-11-21T18:00:00Z"),
}
_REQUIRED = frozenset({"model", "condition", "language", "tokens", "nll"})
_FIELDS = frozenset(item.name for item in fields(EvalRecord))
