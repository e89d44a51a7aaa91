"""`x` times a weight that is changed everywhere but in its core: the product, its gradients and the ways to get them.

With a core M, a stored weight W and a change D = left @ right (or dense numbers, or both), the effective weight is
`where(M, W, W + D)`. It is never stored: what the backward pass needs of it is computed again. The same result can
be had in several ways, whose costs differ with the sizes, the core and the device:

forward   `merged`     one product with the effective weight, made for the occasion
          `added`      the base layer's own output plus a product with the masked change
          `corrected`  the base layer's output plus the low-rank product, minus what the core entries contributed
backward  `dense`      the gradient of the whole weight, masked, then projected on the factors
          `sampled`    the low-rank gradients, minus those of the core entries, which are computed one by one

All agree with the plain formula up to rounding; which is used is decided in `plans`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd.function import once_differentiable

from hf_langcore.tuner.cores import CoreIndex, LayerCore

ForwardWay = Literal["merged", "added", "corrected"]
BackwardWay = Literal["dense", "sampled"]

_TOKENS_AT_ONCE = 256
"""Sparse products take this many tokens at a time: their operands, transposed, then stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one product is computed; see the module."""

    forward: ForwardWay
    backward: BackwardWay


@dataclass(frozen=True, slots=True)
class Change:
    """What adapters would add to a stored weight if there were no core.

    Attributes:
        left: (rows, rank), scaling included; None without low-rank part.
        right: (rank, columns).
        dense: (rows, columns); None without dense part.
    """

    left: torch.Tensor | None
    right: torch.Tensor | None
    dense: torch.Tensor | None

    def to(self, device: torch.device) -> Change:
        """The same change on another device."""
        return Change(*(None if part is None else part.to(device) for part in (self.left, self.right, self.dense)))

    def on(self, weight: torch.Tensor | None) -> torch.Tensor:
        """A fresh tensor: `weight` plus the change, or the change alone."""
        if self.left is None or self.right is None:
            dense: Any = self.dense
            whole: torch.Tensor = dense.clone() if weight is None else weight + dense
            return whole
        if weight is None:
            total = self.left @ self.right
        elif weight.dim() == self.left.dim() == 2:  # noqa: PLR2004
            total = torch.addmm(weight, self.left, self.right)
        else:
            total = torch.baddbmm(weight, self.left, self.right)
        return total if self.dense is None else total.add_(self.dense)


def masked_product(
    x: torch.Tensor,
    change: Change,
    core: LayerCore,
    *,
    plan: Plan,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    transposed: bool = False,
) -> torch.Tensor:
    """`x` times the effective weight, or times the masked change where no weight is given.

    Args:
        x: (..., in).
        change: The change, in `x`'s dtype.
        core: The core.
        plan: The way; "merged" needs `weight`, the others must not have it; "corrected" and "sampled" need
            `core.index` and a change without dense part.
        weight: The stored weight, for "merged": (out, in), or (in, out) if `transposed`.
        bias: (out,), for "merged".
        transposed: The weight is stored as (in, out).

    Returns:
        (..., out).
    """
    flat = x.reshape(-1, x.shape[-1])
    output: torch.Tensor = _MaskedProduct.apply(  # type: ignore[no-untyped-call]
        flat, weight, bias, change.left, change.right, change.dense, core, plan, transposed
    )
    return output.view(*x.shape[:-1], output.shape[-1])


def plain_product(x: torch.Tensor, change: Change, core: LayerCore, *, transposed: bool) -> torch.Tensor:
    """`x` times the masked change in operations that every compiler and every kind of derivative knows."""
    masked = change.on(None).masked_fill(core.mask(), 0)
    return x @ (masked if transposed else masked.t())


class _MaskedProduct(torch.autograd.Function):
    """The product by one plan. The core gets no gradient, the stored weight and the bias neither: they are frozen."""

    @staticmethod
    def forward(  # noqa: PLR0917 autograd functions take no keywords
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        left: torch.Tensor | None,
        right: torch.Tensor | None,
        dense: torch.Tensor | None,
        core: LayerCore,
        plan: Plan,
        transposed: bool,  # noqa: FBT001
    ) -> torch.Tensor:
        """The product; only the input and the factors are kept for the backward pass."""
        ctx.save_for_backward(x, weight, left, right, dense)
        ctx.core, ctx.plan, ctx.transposed = core, plan, transposed
        change = Change(left, right, dense)
        with _as_they_are(x):
            if plan.forward == "corrected":
                return _corrected(x, change, core, transposed=transposed)
            effective = _effective(change, weight, core)
            if transposed:
                return x @ effective if bias is None else torch.addmm(bias, x, effective)
            return torch.nn.functional.linear(x, effective, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the input and of the change outside the core."""
        x, weight, left, right, dense = ctx.saved_tensors
        change, core, transposed = Change(left, right, dense), ctx.core, ctx.transposed
        wants_x, _, _, wants_left, wants_right, wants_dense = ctx.needs_input_grad[:6]
        x_grad = left_grad = right_grad = dense_grad = None
        with _as_they_are(x):
            samples = ctx.plan.backward == "sampled" and (wants_left or wants_right)
            if wants_x and ctx.plan.forward == "corrected":
                x_grad, left_grad, right_grad = _corrected_backward(
                    x, grad, change, core, transposed=transposed, samples=samples
                )
                samples = False
            elif wants_x:
                effective = _effective(change, weight, core)
                x_grad = grad @ (effective.t() if transposed else effective)
            # Rows of the stored weight belong to the output, in transposed storage to the input.
            of_rows, of_columns = (x, grad) if transposed else (grad, x)
            if samples:
                left_grad, right_grad = _sampled_gradients(of_rows, of_columns, change, core.index)
            elif left_grad is None and (wants_left or wants_right or wants_dense):
                dense_grad = core.clear(of_rows.t() @ of_columns)
                left_grad = dense_grad @ right.t() if wants_left else None
                right_grad = left.t() @ dense_grad if wants_right else None
        return x_grad, None, None, left_grad, right_grad, dense_grad if wants_dense else None, None, None, None


def _effective(change: Change, weight: torch.Tensor | None, core: LayerCore) -> torch.Tensor:
    total = change.on(weight)
    return core.clear(total) if weight is None else core.keep(total, weight)


def _corrected(x: torch.Tensor, change: Change, core: LayerCore, *, transposed: bool) -> torch.Tensor:
    """`x` times the change, then without the core entries' part."""
    first, second = _factors(change, transposed=transposed)
    output = torch.empty(len(x), second.shape[1], dtype=x.dtype, device=x.device)
    entries = _entries(change, core.index, transposed=transposed)
    narrow = x @ first
    for part in _parts(len(x)):
        output[part] = _without(entries, narrow[part], second, _columns_of(x[part]))
    return output


def _corrected_backward(
    x: torch.Tensor, grad: torch.Tensor, change: Change, core: LayerCore, *, transposed: bool, samples: bool
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Gradients of `x` and, if `samples`, of the factors in one go through the tokens, which shares what both need."""
    if not samples:
        return _corrected(grad, change, core, transposed=not transposed), None, None
    index: Any = core.index
    first, second = _factors(change, transposed=not transposed)
    x_grad = torch.empty_like(x)
    entries = _entries(change, index, transposed=not transposed)
    narrow = grad @ first
    sampled = index.pattern(torch.zeros(index.flat.numel(), dtype=_wide(x.dtype), device=x.device))
    for part in _parts(len(x)):
        inputs, outputs = _columns_of(x[part]), _columns_of(grad[part])
        x_grad[part] = _without(entries, narrow[part], second, outputs)
        rows, columns = (inputs, outputs) if transposed else (outputs, inputs)
        sampled = torch.sparse.sampled_addmm(sampled, rows, columns.t())
    of_rows, of_columns = (x, grad) if transposed else (grad, x)
    by_left, by_right = (of_rows @ change.left, narrow) if transposed else (narrow, of_columns @ change.right.t())  # type: ignore[operator,union-attr]
    return x_grad, *_factor_gradients(of_rows, of_columns, by_left, by_right, change, sampled)


def _factors(change: Change, *, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What the input is multiplied by, one after the other."""
    left: Any = change.left
    right: Any = change.right
    return (left, right) if transposed else (right.t(), left.t())


def _entries(change: Change, index: Any, *, transposed: bool) -> torch.Tensor:
    """The change's core entries as a CSR matrix with the outputs as rows."""
    left: Any = change.left
    right: Any = change.right
    wide = _wide(left.dtype)
    entries: torch.Tensor = index.sampled(left.to(wide), _by_columns(right.to(wide)))
    return entries.t().to_sparse_csr() if transposed else entries


def _without(entries: torch.Tensor, narrow: torch.Tensor, second: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The low-rank product of a few tokens without the part of the core entries: (tokens, outputs)."""
    low_rank = (second.t() @ narrow.t()).to(entries.dtype)
    return torch.addmm(low_rank, entries, tokens, alpha=-1).t()


def _sampled_gradients(
    of_rows: torch.Tensor, of_columns: torch.Tensor, change: Change, index: CoreIndex
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the factors: those without a core, minus what the core entries contribute to them."""
    left: Any = change.left
    right: Any = change.right
    zeros = torch.zeros(index.flat.numel(), dtype=_wide(of_rows.dtype), device=left.device)
    entries = index.pattern(zeros)
    for part in _parts(len(of_rows)):
        entries = torch.sparse.sampled_addmm(entries, _columns_of(of_rows[part]), _columns_of(of_columns[part]).t())
    return _factor_gradients(of_rows, of_columns, of_rows @ left, of_columns @ right.t(), change, entries)


def _factor_gradients(
    of_rows: torch.Tensor,
    of_columns: torch.Tensor,
    by_left: torch.Tensor,
    by_right: torch.Tensor,
    change: Change,
    entries: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    left: Any = change.left
    right: Any = change.right
    left_grad = of_rows.t() @ by_right
    right_grad = by_left.t() @ of_columns
    left_grad -= (entries @ right.to(entries.dtype).t().contiguous()).to(left_grad.dtype)
    right_grad -= (entries.t().to_sparse_csr() @ left.to(entries.dtype)).t().to(right_grad.dtype)
    return left_grad, right_grad


def _parts(tokens: int) -> Iterator[slice]:
    return (slice(start, start + _TOKENS_AT_ONCE) for start in range(0, tokens, _TOKENS_AT_ONCE))


def _columns_of(tokens: torch.Tensor) -> torch.Tensor:
    """The tokens as contiguous columns of a matrix, in a dtype that sparse products take."""
    return tokens.to(_wide(tokens.dtype)).t().contiguous()


def _by_columns(matrix: torch.Tensor) -> torch.Tensor:
    """The same matrix with contiguous columns."""
    return matrix.t().contiguous().t()


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Sparse products exist for float32 and float64 only."""
    return torch.promote_types(dtype, torch.float32)


def _as_they_are(x: torch.Tensor) -> Any:
    """No autocast inside: the operands were cast before, and the backward pass must compute in the same dtypes."""
    return torch.autocast(x.device.type, enabled=False)


class EffectiveWeight(torch.autograd.Function):
    """`where(core, weight, weight + change)` as a tensor, for modules that use a weight in their own ways."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        left: torch.Tensor | None,
        right: torch.Tensor | None,
        dense: torch.Tensor | None,
        core: LayerCore,
    ) -> torch.Tensor:
        """The effective weight; the stored one is not kept for the backward pass."""
        ctx.save_for_backward(left, right)
        ctx.core = core
        return core.keep(Change(left, right, dense).on(weight), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the weight, where it is trained too, and of the change outside the core."""
        left, right = ctx.saved_tensors
        masked = ctx.core.clear(grad.contiguous().clone())
        _, wants_left, wants_right, wants_dense = ctx.needs_input_grad[:4]
        return (
            grad if ctx.needs_input_grad[0] else None,
            masked @ right.mT if wants_left else None,
            left.mT @ masked if wants_right else None,
            masked if wants_dense else None,
            None,
        )
