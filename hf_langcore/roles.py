"""What a weight of a decoder layer does: attention, feed-forward, norm or router, and which part of it.

Told from the names of modules and from what stands beside them, so that a mask can be asked without its model. What names
do not tell is "other" and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hf_langcore.masks.groups import layer_of

RoleName = Literal["attention", "feed-forward", "norm", "router", "other"]

ROLES: tuple[RoleName, ...] = ("attention", "feed-forward", "norm", "router", "other")
"""All roles, in the order in which tables have them."""

Siblings = Mapping[str, frozenset[str]]  # name of a module -> names of its children

_NORM = re.compile(r"norm|^ln(?:_|\d|$)|_ln$", re.IGNORECASE)
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_FEED_FORWARD = re.compile(
    r"mlp|ffn|feed_?forward|relu_?dense|(?:^|_)moe(?:_|$)|(?:^|_)experts?(?:_|$)|^ff$", re.IGNORECASE
)
_ROUTERS = ("router", "shared_expert_gate")
_ATTENTION_KINDS = {
    "q": ("q_proj", "q", "query", "q_a_proj", "q_b_proj", "wq"),
    "k": ("k_proj", "k", "key", "wk"),
    "v": ("v_proj", "v", "value", "wv"),
    "o": ("o_proj", "out_proj", "c_proj", "dense", "o", "wo"),
    "qkv": ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "qkv", "wqkv"),
    "kv": ("kv_a_proj_with_mqa", "kv_b_proj", "kv_proj"),
}
_FEED_FORWARD_KINDS = {
    "gate": ("gate_proj", "wi_0"),
    "up": ("up_proj", "fc1", "c_fc", "fc_in", "dense_h_to_4h", "wi", "wi_1", "w3", "v1"),
    "down": ("down_proj", "fc2", "c_proj", "fc_out", "dense_4h_to_h", "wo", "w2"),
    "gate and up": ("gate_up_proj",),
}
_NORM_KINDS = {
    "input norm": ("input_layernorm", "ln_1", "norm_1", "ln1", "temporal_pre_norm"),
    "post-attention norm": ("post_attention_layernorm",),
    "feed-forward norm": (
        *("pre_feedforward_layernorm", "pre_ff_layernorm", "ffn_norm", "channel_pre_norm"),
        *("ln_2", "norm_2", "ln2", "ln_mlp", "final_layer_norm"),
    ),
    "post-feed-forward norm": ("post_feedforward_layernorm",),
    "attention norm": ("self_attn_layer_norm", "attention_norm", "ln_attn"),
    "q norm": ("q_norm", "q_layernorm", "q_a_layernorm"),
    "k norm": ("k_norm", "k_layernorm"),
    "kv norm": ("kv_a_layernorm",),
}
# Children by which a module is known whatever its own name: hybrid models call all of theirs "mixer".
_SIGNS: dict[RoleName, tuple[frozenset[str], ...]] = {
    "attention": (frozenset({"q_proj", "k_proj", "v_proj"}),),
    "feed-forward": (frozenset({"up_proj", "down_proj"}), frozenset({"fc1", "fc2"})),
}


@dataclass(frozen=True, slots=True)
class Role:
    """What one weight does.

    Attributes:
        name: "attention", "feed-forward", "norm", "router" or "other".
        kind: Which part of it: "q", "k", "v", "o", "qkv", "kv"; "gate", "up", "down", "gate and up"; "input norm",
            "post-attention norm", "q norm", ...; "router"; "other" where names do not tell.
        layer: Number of the layer; None outside the layers.
    """

    name: RoleName
    kind: str
    layer: int | None


def roles_of(names: Iterable[str]) -> dict[str, Role]:
    """The roles of weights by name.

    Args:
        names: Parameter names of the bare model, all of them or those that a mask covers. Some are told by what stands beside
            them: `mlp.gate` is a router where there are experts, and the gate of the feed-forward block elsewhere.

    Example:
        >>> roles_of(["model.layers.3.self_attn.q_proj.weight"])
        {'model.layers.3.self_attn.q_proj.weight': Role(name='attention', kind='q', layer=3)}
    """
    known = list(names)
    siblings = _siblings(known)
    return {name: _role(name, siblings) for name in known}


def role_of(name: str) -> Role:
    """The role of one weight, as far as its name alone tells; `roles_of` knows its neighbours, too."""
    return _role(name, {})


def _siblings(names: Iterable[str]) -> Siblings:
    found: dict[str, set[str]] = {}
    for name in names:
        path = _modules(name)
        for length in range(1, len(path)):
            found.setdefault(".".join(path[:length]), set()).add(path[length])
    return {module: frozenset(children) for module, children in found.items()}


def _modules(name: str) -> list[str]:
    """The path of the module that holds the weight; a parameter of its own name counts as one."""
    path = name.split(".")
    return path[:-1] if path[-1] in {"weight", "bias"} else [*path[:-1], path[-1].removesuffix("_bias")]


def _role(name: str, siblings: Siblings) -> Role:
    prefix = layer_of(name)
    layer = None if prefix is None else int(prefix.rsplit(".", 1)[-1])
    path = _modules(name)
    inside = path[0 if prefix is None else len(prefix.split(".")) :]
    if not inside:
        return Role("other", "other", layer)
    if _NORM.search(inside[-1]):
        return Role("norm", _kind(inside[-1:], _NORM_KINDS, otherwise="norm"), layer)
    if layer is None:
        return Role("other", "other", None)
    role = _block(path, len(inside), siblings)
    if any(one in _ROUTERS for one in inside):
        return Role("router", "router", layer)
    if role == "attention":
        return Role(role, _kind(inside, _ATTENTION_KINDS), layer)
    return _in_feed_forward(path, inside, layer, siblings) if role == "feed-forward" else Role("other", "other", layer)


def _block(path: list[str], depth: int, siblings: Siblings) -> RoleName:
    """The role of the block that a weight is in: by the name of the innermost module that has one, or by its children."""
    for length in range(len(path), len(path) - depth, -1):
        module = path[length - 1]
        if length < len(path) and not _NORM.search(module):
            if _ATTENTION.search(module):
                return "attention"
            if _FEED_FORWARD.search(module):
                return "feed-forward"
    children = siblings.get(".".join(path[:-1]), frozenset())
    for role, signs in _SIGNS.items():
        if any(sign <= children and path[-1] in {*sign, "gate_proj", "o_proj"} for sign in signs):
            return role
    return "other"


def _in_feed_forward(path: list[str], inside: list[str], layer: int, siblings: Siblings) -> Role:
    children = siblings.get(".".join(path[:-1]))
    if inside[-1] == "gate":
        if children is None:
            return Role("other", "other", layer)
        return Role("router", "router", layer) if "experts" in children else Role("feed-forward", "gate", layer)
    if inside[-1] == "w1" and children is not None:  # the first of two matrices, or of three
        return Role("feed-forward", "gate" if children & {"w3", "v1"} else "up", layer)
    return Role("feed-forward", _kind(inside, _FEED_FORWARD_KINDS), layer)


def _kind(modules: list[str], kinds: Mapping[str, tuple[str, ...]], *, otherwise: str = "other") -> str:
    """The part that the innermost known name stands for."""
    for module in reversed(modules):
        for kind, names in kinds.items():
            if module in names:
                return kind
    return otherwise
