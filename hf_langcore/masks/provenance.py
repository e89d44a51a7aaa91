"""Where a mask or a set of scores comes from: everything that is needed to make it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks.fingerprint import Fingerprint

_SHOWN = 80
_LONGEST_WORD = 400


@dataclass(frozen=True, slots=True)
class Provenance:
    """How scores or a mask were made.

    Attributes:
        method: The scorer, such as "taylor"; "given" for tensors made by hand.
        which: "top", "bottom" or "random"; None for scores and for combined masks.
        fraction: Share of each tensor that was selected.
        granularity: "rows", "columns", "heads" or "layers" where these were selected as a whole; None for single weights.
        seed: Seed of "random" selections and scorers.
        operation: For masks made from other masks, the set operation in words.
        tokens: Language -> number of tokens that were scored.
        block_size: Tokens in one block, BOS included.
        batch_size: Blocks in one batch.
        base_model: Name or path of the model, as transformers knows it.
        base_revision: Its 40-hex commit, where it came from the Hub.
        base_fingerprint: Fingerprint of the weights that the mask covers.
        transposed: Tensors that are stored (in, out), as in GPT-2's Conv1D, where nn.Linear stores (out, in).
        versions: Library -> version, as used.
    """

    method: str = "given"
    which: str | None = None
    fraction: float | None = None
    granularity: str | None = None
    seed: int | None = None
    operation: str | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    block_size: int | None = None
    batch_size: int | None = None
    base_model: str | None = None
    base_revision: str | None = None
    base_fingerprint: Fingerprint | None = field(default=None, repr=False)
    transposed: Sequence[str] = field(default=(), repr=False)
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages whose text was used, in order."""
        return tuple(self.tokens)

    def selected(self, *, which: str, fraction: float, seed: int, granularity: str = "weights") -> Provenance:
        """The provenance of a mask that was selected from scores of this provenance."""
        return replace(
            self,
            which=which,
            fraction=fraction,
            granularity=None if granularity == "weights" else granularity,
            seed=seed if which == "random" else self.seed,
        )

    def combined(self, operation: str, other: Provenance | None = None) -> Provenance:
        """The provenance of a set operation; the base model is kept where both sides agree on it.

        Masks of one model that cover different tensors agree where the fingerprints of the tensors that both cover do;
        the result then has the fingerprints of all.
        """
        right = "" if other is None else f" {other.summary()}"
        other = other or self
        merged = _merged(self.base_fingerprint, other.base_fingerprint)
        same_base = merged is not None or self.base_fingerprint == other.base_fingerprint
        same_name = same_base and (self.base_model, self.base_revision) == (other.base_model, other.base_revision)
        return Provenance(
            method="combined",
            operation=f"{self.summary()} {operation}{right}",
            base_model=self.base_model if same_name else None,
            base_revision=self.base_revision if same_name else None,
            base_fingerprint=merged,
            transposed=self._transposed_with(other, same_base=merged is not None),
            versions=self.versions,
        )

    def _transposed_with(self, other: Provenance, *, same_base: bool) -> tuple[str, ...]:
        if same_base or self.transposed == other.transposed:
            return tuple(dict.fromkeys((*self.transposed, *other.transposed)))
        return ()

    def summary(self) -> str:
        """One short phrase, such as "taylor top 3 % (ar es ru)"."""
        if self.operation is not None:
            return f"({self.operation})"
        parts = [self.method]
        if self.which is not None and self.fraction is not None:
            parts.append(
                f"{self.which} {100 * self.fraction:g} %{f' of {self.granularity}' if self.granularity else ''}"
            )
        if self.tokens:
            parts.append(f"({' '.join(self.tokens)})")
        return " ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; fields that are None or empty are left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        kept = {name: value for name, value in values.items() if value is not None and value not in ({}, ())}
        if self.transposed:
            kept["transposed"] = list(self.transposed)
        if self.base_fingerprint is not None:
            kept["base_fingerprint"] = {
                **asdict(self.base_fingerprint),
                "total": self.base_fingerprint.total,
            }
        return kept

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Provenance:
        """The reverse of `to_dict`.

        Raises:
            CoreMaskFormatError: A field has the wrong form or is not known.
        """
        try:
            known = dict(values)
            given = known.pop("base_fingerprint", None)
            for name, value in known.items():
                if not _RULES.get(name, _is_text)(value):
                    raise TypeError(f"{name[:_SHOWN]!r} is {repr(value)[:_SHOWN]}")  # noqa: TRY301 one message for all that can be wrong
            print_ = None if given is None else _fingerprint(given)
            known["transposed"] = tuple(known.get("transposed", ()))
            return cls(**known, base_fingerprint=print_)
        except (TypeError, KeyError, ValueError) as error:
            raise CoreMaskFormatError(
                f"The provenance of the mask cannot be read ({error}). It was written by another version of "
                "hf_langcore or altered; update hf_langcore or download the mask again."
            ) from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_word(value: Any) -> bool:
    return _is_text(value) and 0 < len(value) <= _LONGEST_WORD


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 64


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_share(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= 1


def _are_tokens(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_word(name) and _is_whole(one) and one >= 0 for name, one in value.items()
    )


def _are_versions(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(name) and _is_text(one) for name, one in value.items())


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_RULES: dict[str, Callable[[Any], bool]] = {
    "method": _is_word,
    "which": _is_word,
    "granularity": _is_word,
    "base_revision": _is_word,
    "fraction": _is_share,
    "seed": _is_whole,
    "block_size": _is_count,
    "batch_size": _is_count,
    "tokens": _are_tokens,
    "versions": _are_versions,
    "transposed": _are_names,
}  # of the fields that are not any text


def _fingerprint(given: Any) -> Fingerprint:
    """The fingerprint in a file, whose total has to be that of its tensors."""
    if not isinstance(given, dict) or not _is_text(given["algorithm"]) or not _are_versions(given["tensors"]):
        raise TypeError("base_fingerprint is no fingerprint")
    found = Fingerprint(dict(given["tensors"]), given["algorithm"])
    if not found.tensors or given.get("total", found.total) != found.total:
        raise ValueError("base_fingerprint contradicts itself")
    return found


def _merged(mine: Fingerprint | None, other: Fingerprint | None) -> Fingerprint | None:
    """The fingerprints of all tensors where those of the tensors that both cover agree."""
    if mine is None or other is None or mine.algorithm != other.algorithm:
        return None
    shared = mine.tensors.keys() & other.tensors.keys()
    if not shared or any(mine.tensors[name] != other.tensors[name] for name in shared):
        return None
    return Fingerprint({**mine.tensors, **other.tensors}, mine.algorithm)
