from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_langcore.masks import PackedBits
from hf_langcore.tuner.cores import LayerCore
from hf_langcore.tuner.masked_linear import Change, EffectiveWeight, Plan, masked_product, plain_product

PLANS = [
    Plan(forward, backward)  # type: ignore[arg-type]
    for forward in ("merged", "added", "corrected")
    for backward in ("dense", "sampled")
]
ANY_PLAN = pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.forward}-{plan.backward}")


class Case:
    """One product in float64: everything random, a core of a few per cent."""

    def __init__(
        self, tokens: int, rows: int, columns: int, rank: int, *, transposed: bool, share: float = 0.06, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def numbers(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.transposed = transposed
        chosen = torch.randperm(rows * columns, generator=generator)[: int(share * rows * columns)]
        self.mask = torch.zeros(rows * columns, dtype=torch.bool).index_fill(0, chosen, True).view(rows, columns)
        self.core = LayerCore(torch.from_numpy(PackedBits.from_bool(self.mask).data.copy()), (rows, columns))
        inputs, outputs = (rows, columns) if transposed else (columns, rows)
        self.x = numbers(tokens, inputs).requires_grad_()
        self.weight, self.bias = numbers(rows, columns), numbers(outputs)
        self.left, self.right = numbers(rows, rank).requires_grad_(), numbers(rank, columns).requires_grad_()
        self.dense = numbers(rows, columns).requires_grad_()

    def product(self, plan: Plan, x: torch.Tensor, left: Any, right: Any, dense: Any = None) -> torch.Tensor:
        merged = plan.forward == "merged"
        return masked_product(
            x,
            Change(left, right, dense),
            self.core,
            plan=plan,
            weight=self.weight if merged else None,
            bias=self.bias if merged else None,
            transposed=self.transposed,
        )

    def formula(self, plan: Plan, x: torch.Tensor, left: Any, right: Any, dense: Any = None) -> torch.Tensor:
        """The plain formula, spelled out for autograd."""
        change = 0 if left is None else left @ right
        change = change if dense is None else change + dense
        base = self.weight if plan.forward == "merged" else torch.zeros_like(self.weight)
        effective = torch.where(self.mask, base, base + change)
        output = x @ (effective if self.transposed else effective.t())
        return output + self.bias if plan.forward == "merged" else output

    def agrees(self, plan: Plan, *inputs: Any) -> None:
        """Output and all gradients are those of the formula."""
        ours, plain = self.product(plan, *inputs), self.formula(plan, *inputs)
        torch.testing.assert_close(ours, plain)
        wanted = [part for part in inputs if part is not None]
        direction = torch.randn(plain.shape, dtype=plain.dtype)
        for one, other in zip(
            torch.autograd.grad(ours, wanted, direction), torch.autograd.grad(plain, wanted, direction), strict=True
        ):
            torch.testing.assert_close(one, other)


SHAPES = {
    "tokens": st.integers(1, 9),
    "rows": st.integers(1, 12),
    "columns": st.integers(1, 12),
    "rank": st.integers(1, 4),
    "transposed": st.booleans(),
    "seed": st.integers(0, 999),
}


@ANY_PLAN
@settings(max_examples=15, deadline=None)
@given(**SHAPES)
def test_gradcheck(plan: Plan, tokens: int, rows: int, columns: int, rank: int, transposed: bool, seed: int) -> None:
    """Numerical differentiation by torch confirms the gradients of every way, on random shapes."""
    case = Case(tokens, rows, columns, rank, transposed=transposed, seed=seed)
    assert torch.autograd.gradcheck(lambda *inputs: case.product(plan, *inputs), (case.x, case.left, case.right))


@ANY_PLAN
@settings(max_examples=25, deadline=None)
@given(**SHAPES)
def test_every_way_is_the_formula(
    plan: Plan, tokens: int, rows: int, columns: int, rank: int, transposed: bool, seed: int
) -> None:
    """Outputs and gradients agree with autograd through where(core, W, W + change)."""
    case = Case(tokens, rows, columns, rank, transposed=transposed, seed=seed)
    case.agrees(plan, case.x, case.left, case.right)


@ANY_PLAN
@pytest.mark.parametrize("transposed", [False, True])
def test_more_tokens_than_fit_at_once(plan: Plan, transposed: bool) -> None:
    """Sparse products go through the tokens in parts; the last part is shorter."""
    case = Case(700, 30, 20, 3, transposed=transposed)
    assert case.core.index is not None
    case.agrees(plan, case.x, case.left, case.right)


@pytest.mark.parametrize("share", [0.06, 0.5, 1.0])
@pytest.mark.parametrize("forward", ["merged", "added"])
@pytest.mark.parametrize("transposed", [False, True])
def test_dense_changes_and_large_cores(forward: Any, share: float, transposed: bool) -> None:
    """Dense changes, alone and with low-rank ones, and cores too large for indices."""
    case = Case(5, 12, 10, 2, transposed=transposed, share=share)
    plan = Plan(forward, "dense")
    case.agrees(plan, case.x, case.left, case.right)
    case.agrees(plan, case.x, None, None, case.dense)
    case.agrees(plan, case.x, case.left, case.right, case.dense)


@ANY_PLAN
@pytest.mark.parametrize("transposed", [False, True])
def test_a_core_that_is_empty(plan: Plan, transposed: bool) -> None:
    """Without a core this is an ordinary low-rank change."""
    case = Case(5, 12, 10, 2, transposed=transposed, share=0.0)
    case.agrees(plan, case.x, case.left, case.right)


@ANY_PLAN
def test_no_tokens(plan: Plan) -> None:
    """An expert that no token was sent to."""
    case = Case(0, 12, 10, 2, transposed=False)
    output = case.product(plan, case.x, case.left, case.right)
    assert output.shape == (0, 12)
    output.sum().backward()
    assert case.left.grad is not None
    assert (case.left.grad == 0).all()


@ANY_PLAN
def test_leading_dimensions_stay(plan: Plan) -> None:
    """(batch, sequence, width) comes back as such."""
    case = Case(12, 9, 10, 2, transposed=False)
    flat = case.product(plan, case.x, case.left, case.right)
    assert torch.equal(case.product(plan, case.x.view(3, 4, 10), case.left, case.right), flat.view(3, 4, 9))


@ANY_PLAN
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_only_the_gradients_that_are_wanted(plan: Plan, wanted: tuple[int, ...]) -> None:
    """A frozen factor or a frozen input gets none, and the others are what they would be."""
    case = Case(6, 30, 20, 3, transposed=False)
    inputs = [
        part.detach().requires_grad_(place in wanted) for place, part in enumerate((case.x, case.left, case.right))
    ]
    case.product(plan, *inputs).square().sum().backward()
    plain = [part.detach().requires_grad_() for part in inputs]
    case.formula(plan, *plain).square().sum().backward()
    for place, (one, other) in enumerate(zip(inputs, plain, strict=True)):
        if place in wanted:
            torch.testing.assert_close(one.grad, other.grad)
        else:
            assert one.grad is None


@ANY_PLAN
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(plan: Plan, dtype: torch.dtype) -> None:
    """16-bit products agree with the formula up to their rounding, and come back in their dtype."""
    case = Case(300, 30, 20, 3, transposed=False)
    case.weight, case.bias = case.weight.to(dtype), case.bias.to(dtype)
    inputs = [part.detach().to(dtype).requires_grad_() for part in (case.x, case.left, case.right)]
    output = case.product(plan, *inputs)
    assert output.dtype == dtype
    exact = Case(300, 30, 20, 3, transposed=False)
    plain = exact.formula(plan, exact.x, exact.left, exact.right)
    assert (output.double() - plain).norm() < 0.02 * plain.norm()
    gradients = torch.autograd.grad(output, inputs, torch.ones_like(output))
    expected = torch.autograd.grad(plain, [exact.x, exact.left, exact.right], torch.ones_like(plain))
    for one, other in zip(gradients, expected, strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() < 0.03 * other.norm()


def test_second_derivatives_are_refused() -> None:
    """They would be wrong silently otherwise."""
    case = Case(5, 12, 10, 2, transposed=False)
    output = case.product(PLANS[0], case.x, case.left, case.right)
    (gradient,) = torch.autograd.grad(output.square().sum(), case.left, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("transposed", [False, True])
def test_the_plain_way_for_compilers(transposed: bool) -> None:
    """What is traced by compilers is the masked change's product, too."""
    case = Case(5, 12, 10, 2, transposed=transposed)
    plan = Plan("added", "dense")
    plain = plain_product(case.x, Change(case.left, case.right, None), case.core, transposed=transposed)
    torch.testing.assert_close(plain, case.formula(plan, case.x, case.left, case.right))


@pytest.mark.parametrize("share", [0.03, 0.5])
@pytest.mark.parametrize("stack", [0, 3])
def test_effective_weights_have_the_formulas_gradients(stack: int, share: float) -> None:
    """For matrices and stacks of them, low-rank and dense; the core's own weight gets the whole gradient."""
    shape = ((stack,) if stack else ()) + (9, 8)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share
    core = LayerCore(torch.from_numpy(PackedBits.from_bool(mask).data.copy()), shape)
    weight = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    left = torch.randn(*shape[:-1], 2, dtype=torch.float64, requires_grad=True)
    right = torch.randn(*shape[:-2], 2, shape[-1], dtype=torch.float64, requires_grad=True)
    dense = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    factors = (left, right, dense)
    effective: Any = EffectiveWeight.apply(weight, *factors, core)  # type: ignore[no-untyped-call]
    plain = torch.where(mask, weight, weight + left @ right + dense)
    torch.testing.assert_close(effective, plain)
    direction = torch.randn_like(plain)
    ours = torch.autograd.grad(effective, factors, direction)
    for one, other in zip(ours, torch.autograd.grad(plain, factors, direction), strict=True):
        torch.testing.assert_close(one, other)
