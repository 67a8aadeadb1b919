# SPDX-License-Identifier: MIT
"""Every operator as PyTorch sees it: schema, fake kernel, autograd, torch.compile."""

import pytest
import torch
from ops_blocks_samples import samples
from ops_recurrent_drawn import recurrent_samples

from nasp_ext import ops

NODES = [0, 2, 5]


def matrix(*shape, **options):
    return torch.rand(*shape, **options)


def step_arguments(adam=True):
    a, grad, weight = (matrix(5, 3) for _ in range(3))
    active = torch.zeros(5, dtype=torch.int32)
    moments = (torch.zeros(5, 3), torch.zeros(5, 3)) if adam else (None, None)
    numbers = (1, 0.1, 0.5, 0.999, 1e-8, 1e-3)
    return (a, grad, weight, active, *moments, *numbers, matrix(3), 0.1, NODES, 2, None, False, None)


def images(count):
    return [torch.rand(2, 4, 3, 3).to(memory_format=torch.channels_last) for _ in range(count)]


MASK = torch.tensor([True, False, True])
SAMPLES = {
    "prox_c": [(matrix(4, 5, 3), None, None), (matrix(5, 3).T, None, 7), (matrix(5, 3), MASK, None)],
    "prox_c1": [(matrix(4, 5, 3), None, None), (matrix(5, 3), MASK, 7)],
    "prox_c2": [(matrix(4, 5, 3), None), (matrix(3, 5).T, MASK)],
    "select_active": [(matrix(5, 3), NODES, 2, MASK, True, None), (matrix(5, 3), None, None, None, False, 1)],
    "nasp_step_": [step_arguments(), step_arguments(adam=False)],
    "branch_dots": [(matrix(7, 3), [matrix(7, 3), matrix(3, 7).T])],
    "mixed_sum": [(images(3), matrix(3)), ([matrix(4).double()], matrix(1).double())],
    "mixed_sum_backward": [(images(1)[0], images(3), matrix(3)), (matrix(3, 4).T, [matrix(4, 3)], matrix(1))],
    **samples(),
    **recurrent_samples(),
    "empty_images": [(images(1)[0], [2, 3, 4, 5]), (matrix(2).double(), [1, 1, 1, 1])],
}
CASES = [(name, index) for name, samples in SAMPLES.items() for index in range(len(samples))]


EVERY_CHECK = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
# PyTorch functionalises no operator that both changes an argument and returns a Tensor[]
# (can_auto_functionalize: "Not yet supported: List[Tensor] return"), so torch.compile takes none either.
# Changed arguments in a Tensor[] are no obstacle: source_dots and update_statistics_ pass.
UNFUNCTIONAL = ("block_backward", "cell_forward", "cell_backward")
# The memory of empty_images holds anything, so two calls cannot be compared.
CHECKS = dict.fromkeys((*UNFUNCTIONAL, "empty_images"), EVERY_CHECK[:3])


@pytest.mark.parametrize("name, index", CASES)
def test_operator_passes_opcheck(name, index):
    operator = getattr(torch.ops.nasp_ext, name).default
    checks = CHECKS.get(name, EVERY_CHECK)
    assert torch.library.opcheck(operator, SAMPLES[name][index], test_utils=checks)


@pytest.mark.parametrize("name", UNFUNCTIONAL)
def test_what_pytorch_cannot_functionalise_is_refused_by_it(name):
    operator = getattr(torch.ops.nasp_ext, name).default
    with pytest.raises(torch.testing._internal.optests.OpCheckError, match="functionalizing operators"):
        torch.library.opcheck(operator, SAMPLES[name][0], test_utils=EVERY_CHECK[3])


def test_every_operator_has_a_sample():
    defined = {s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith("nasp_ext::")}
    without_tensors = {"nasp_ext::instruction_set", "nasp_ext::release_memory"}
    assert defined - without_tensors == {f"nasp_ext::{name}" for name in SAMPLES}


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def leaf(*shape):
    return torch.rand(*shape, requires_grad=True)


# torch.compile itself instantiates the Function that it traces, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "function, inputs",
    [
        (lambda a: ops.prox_c(2 * a, MASK)[0], (leaf(4, 3),)),
        (lambda a: ops.prox_c1(2 * a)[0], (leaf(4, 3),)),
        (lambda a: ops.prox_c2(2 * a), (leaf(4, 3),)),
        (lambda w, x, y: ops.mixed_sum([2 * x, y], w), (leaf(2), leaf(3, 4), leaf(3, 4))),
        (lambda g, x, y: ops.branch_dots(2 * g, [x, y]), (leaf(3, 4), leaf(3, 4), leaf(3, 4))),
    ],
)
def test_compiled_call_and_gradient_equal_the_eager_ones(function, inputs):
    results = []
    for call in (function, compiled(function)):
        value = call(*inputs)
        results.append((value, *torch.autograd.grad(value.square().sum(), inputs)))
    torch.testing.assert_close(results[0], results[1])


def test_compiled_selection_equals_the_eager_one():
    def function(a):
        weight, active = ops.select_active(a.relu(), NODES, 1, mask=MASK, keep_value=True)
        return 2 * weight, active

    a = torch.rand(5, 3)
    torch.testing.assert_close(compiled(function)(a), function(a))


def test_compiled_step_changes_its_tensors_as_the_eager_one():
    def function(a, grad, weight, active, exp_avg, exp_avg_sq):
        ops.nasp_step_(a, 2 * grad, weight, active, exp_avg, exp_avg_sq, step=1, lr=0.1)
        return a + 1

    first = step_arguments()[:6]
    second = [t.clone() for t in first]
    torch.testing.assert_close(compiled(function)(*first), function(*second))
    torch.testing.assert_close(list(first), second)
