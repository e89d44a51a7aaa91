"""One critical coordinate: where it is, what its edit is said to do, and who says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from hf_langcore.registry.schema import require_valid

Kind = Literal["super_weight", "massive_activation", "norm_weight", "dimension", "note"]
Operation = Literal["zero", "set", "scale", "mean-set"]
Expected = Literal["explodes", "none", "unknown"]
Status = Literal["confirmed", "conflict", "not_reproduced"]
SourceKind = Literal["paper", "code", "retest", "slides", "user"]

_LAYER = "{layer}"
_CLOSE = 0.02  # sources round
_FIGURES = ("base", "after", "ratio")
_NEEDS_VALUE = ("set", "scale")
# By kind, what `axis` is and how many numbers `index` has; in stacked experts the expert's comes first.
_SHAPES: Mapping[str, tuple[tuple[int | None, ...], tuple[int, ...]]] = {
    "super_weight": ((None,), (2, 3)),
    "norm_weight": ((0,), (1,)),
    "dimension": ((0, 1), (1, 2)),
    "massive_activation": ((None,), (1,)),
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What an edit did to a figure, as a source gives it.

    Attributes:
        metric: "perplexity".
        data: The text that it was measured on.
        operation: What was done.
        base: Before the edit; None where the source gives none.
        after: With the edit; may be infinite.
        ratio: after / base, also where the source gives only that.
        value: What was set, or the factor.
        start_token: Whether the texts began with the start token; None where that is not stated.
        jointly: All coordinates of the entry's group were edited together.
        source: Who measured it, where that is somebody else than the entry's source.
    """

    metric: str
    data: str
    operation: Operation
    base: float | None = None
    after: float | None = None
    ratio: float | None = None
    value: float | None = None
    start_token: bool | None = None
    jointly: bool = False
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """How large an activation was, as a source gives it.

    Attributes:
        max_abs: The largest absolute value that was seen.
        count: How many massive activations were counted.
        first_layer: First decoder layer, from 0, in whose output this dimension was massive.
        last_layer: Last layer in which any dimension was, in that run.
        start_token: Whether the texts began with the start token.
        note: Further facts.
    """

    max_abs: float
    count: int | None = None
    first_layer: int | None = None
    last_layer: int | None = None
    start_token: bool | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A critical coordinate, or a note about a model.

    Attributes:
        id: Unique name.
        model_id: Hub id of the model; a user's own entry may have a folder.
        kind: "super_weight" (one scalar of a matrix), "norm_weight", "dimension" (a row or column of a matrix),
            "massive_activation" (a dimension of the residual stream; without index: the model has none), or "note".
        expected: What the source says the edit does: "explodes", "none" or "unknown".
        source: Citation.
        source_kind: "paper", "code", "retest", "slides" or "user".
        status: "confirmed", "conflict" or "not_reproduced": what others say of the source's claim.
        status_reason: Why.
        aliases: Other names of the same model.
        revision: Commit of the model; None where the source names none.
        tensor: Parameter name on the bare transformers model, "{layer}" standing for the layer; for massive activations
            the module whose output is the residual stream.
        which: "unspecified" where the source does not say which tensor it means.
        alternatives: The other tensors that it may mean.
        layer: From 0; for massive activations the first layer that has it.
        axis: Of a dimension: 0 = outputs (rows), 1 = inputs (columns), in nn.Linear orientation.
        index: The dimension, or (row, column) of a super weight; in stacked experts the expert's number comes first.
        operation: "zero", "set", "scale" or "mean-set".
        value: What is set (on norms the effective gain), or the factor.
        group: Coordinates that belong together have the same group.
        effect: What the operation did.
        further_effects: Other operations, texts and sources.
        activations: How large the activation was.
        note: Further facts.
        provenance: Of a user's own entry: date, versions, digest of the text, interval, ratio of the controls.
    """

    id: str
    model_id: str
    kind: Kind
    expected: Expected
    source: str
    source_kind: SourceKind
    status: Status
    status_reason: str
    aliases: tuple[str, ...] = ()
    revision: str | None = None
    tensor: str | None = None
    which: Literal["unspecified"] | None = None
    alternatives: tuple[str, ...] = ()
    layer: int | None = None
    axis: int | None = None
    index: int | tuple[int, ...] | None = None
    operation: Operation | None = None
    value: float | None = None
    group: str | None = None
    effect: Effect | None = None
    further_effects: tuple[Effect, ...] = ()
    activations: tuple[Activation, ...] = ()
    note: str | None = None
    provenance: Mapping[str, Any] | None = None

    @property
    def is_users(self) -> bool:
        """Whether a user has registered it, rather than a publication."""
        return self.source_kind == "user"

    @property
    def tensors(self) -> tuple[str, ...]:
        """Full names of the tensors that may be meant, most often one."""
        templates = [] if self.tensor is None else [self.tensor, *self.alternatives]
        return tuple(one if self.layer is None else one.replace(_LAYER, str(self.layer)) for one in templates)

    @property
    def place(self) -> tuple[int, ...]:
        """The numbers of `index`; none where there is no index."""
        if self.index is None:
            return ()
        return self.index if isinstance(self.index, tuple) else (self.index,)

    @property
    def is_joint(self) -> bool:
        """Whether the claim is about all coordinates of the group together."""
        return self.effect is not None and self.effect.jointly

    def coordinate(self) -> str:
        """Where it is, in one short text: "model.layers.1.mlp.down_proj.weight[2533, 7890]"."""
        if self.index is None:
            return "no dimension" if self.kind == "massive_activation" else "-"
        numbers = [str(one) for one in self.place]
        if self.axis == 1:
            numbers.insert(-1, ":")
        return f"{' or '.join(self.tensors)}[{', '.join(numbers)}]"

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` reads them again."""
        values = {name: value for name, value in asdict(self).items() if value is not None and value != ()}
        for effect in [values.get("effect"), *values.get("further_effects", ())]:
            for name in _FIGURES if effect else ():
                effect[name] = "inf" if effect[name] == math.inf else effect[name]
        return dict(_lists(values))

    @classmethod
    def from_dict(cls, values: Any) -> Entry:
        """Read JSON values.

        Raises:
            ValueError: They do not fit the schema, or contradict each other.
        """
        require_valid(values, part="entry")
        given: dict[str, Any] = dict(values)
        given["effect"] = _effect(given.get("effect"))
        given["further_effects"] = tuple(_effect(one) for one in given.get("further_effects", ()))
        given["activations"] = tuple(Activation(**one) for one in given.get("activations", ()))
        for name in ("aliases", "alternatives"):
            given[name] = tuple(given.get(name, ()))
        if isinstance(given.get("index"), list):
            given["index"] = tuple(given["index"])
        entry = cls(**given)
        problem = _contradiction(entry)
        if problem is not None:
            raise ValueError(f"{entry.id!r}: {problem}")
        return entry


FIELDS = tuple(field.name for field in fields(Entry))
"""Names of an entry's fields."""


def _effect(values: Mapping[str, Any] | None) -> Effect | None:
    if values is None:
        return None
    given: dict[str, Any] = {key: math.inf if value == "inf" else value for key, value in values.items()}
    return Effect(**given)


def _lists(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, (list, tuple)) else value


def _contradiction(entry: Entry) -> str | None:
    """What in an entry cannot be, though each field alone can."""
    if entry.kind == "note":
        return None if entry.note and entry.index is None else "a note has a text and no index"
    checks = (_wrong_tensor(entry), _wrong_shape(entry), _wrong_operation(entry), _wrong_effects(entry))
    return next((problem for problem in checks if problem), None)


def _wrong_tensor(entry: Entry) -> str | None:
    if (entry.which is not None) != bool(entry.alternatives):
        return '"which" is "unspecified" exactly where alternatives are named'
    if entry.kind == "massive_activation":
        return None if (entry.tensor is None) == (entry.index is None) else "tensor and index go together"
    if entry.tensor is None or entry.index is None:
        return f"a {entry.kind} needs a tensor and an index"
    if any((_LAYER in one) != (entry.layer is not None) for one in (entry.tensor, *entry.alternatives)):
        return "{layer} stands in the tensor exactly where a layer is given"
    return None


def _wrong_shape(entry: Entry) -> str | None:
    axes, lengths = _SHAPES[entry.kind]
    if entry.axis not in axes:
        return f"the axis of a {entry.kind} is {' or '.join(map(str, axes))}, got {entry.axis}"
    if entry.index is not None and (len(entry.place) not in lengths or entry.index == entry.place[:1]):
        return f"the index of a {entry.kind} has {' or '.join(map(str, lengths))} number(s), got {entry.index}"
    return None


def _wrong_operation(entry: Entry) -> str | None:
    if entry.operation is None:
        return "an operation is needed"
    if (entry.operation in _NEEDS_VALUE) != (entry.value is not None):
        return "a value goes with the operations 'set' and 'scale', and only with them"
    if entry.operation == "mean-set" and entry.kind != "massive_activation":
        return "'mean-set' is for activations"
    if entry.kind == "massive_activation" and entry.operation in _NEEDS_VALUE:
        return "activations are zeroed or set to their mean"
    return None


def _wrong_effects(entry: Entry) -> str | None:
    main = entry.effect
    if main is not None and (main.operation, main.value) != (entry.operation, entry.value):
        return "the effect is of another operation than the entry"
    for effect in (*(() if main is None else (main,)), *entry.further_effects):
        if None in (effect.base, effect.after, effect.ratio):
            continue
        if not effect.base:
            return "a perplexity is above zero"
        expected = math.inf if effect.after == math.inf else effect.after / effect.base
        if not math.isclose(expected, effect.ratio, rel_tol=_CLOSE):
            return f"the ratio {effect.ratio} is not after / base = {expected:.4g}"
    return None
