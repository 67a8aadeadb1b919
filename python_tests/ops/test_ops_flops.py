# SPDX-License-Identifier: MIT
"""What PyTorch's FLOP counters see of the fused operators."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from ops_blocks_drawn import DRAWN
from ops_cells_drawn import cells
from ops_programs_drawn import programs
from ops_recurrent_drawn import recurrent_call, recurrent_calls
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from nasp_ext import ops
from nasp_ext.ops import reference

# Elementwise work and inner products, of which PyTorch counts none either, and what computes nothing.
COUNTS_NOTHING = {
    *("prox_c", "prox_c1", "prox_c2", "select_active", "nasp_step_", "nasp_step_direct"),
    *("branch_dots", "mixed_sum", "mixed_sum_backward", "node_sum_", "node_gradient_sums"),
    *("pool_forward", "pool_backward_", "update_statistics_"),
    *("empty_images", "release_memory", "instruction_set"),
}


def counted(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_every_operator_is_counted_or_known_to_count_nothing():
    names = {
        name.removeprefix("nasp_ext::").partition(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("nasp_ext::")
    }
    known = {str(packet).removeprefix("nasp_ext.") for packet in flop_registry if "nasp_ext" in str(packet)}
    assert known == {
        *("cell_forward", "cell_backward", "block_forward", "block_backward", "source_dots"),
        *("recurrent_forward", "recurrent_backward", "recurrent_dots"),
    }
    assert names - known <= COUNTS_NOTHING


# 2 images of 3 x 6 x 7; 3 x 3 depthwise at stride 2 gives 3 x 4, a product from 3 to 5 channels.
X = torch.rand(2, 3, 6, 7).to(memory_format=torch.channels_last)
DEPTHWISE, PRODUCT = torch.rand(3, 1, 3, 3), torch.rand(5, 3, 1, 1)
OF_DEPTHWISE, OF_PRODUCT = 2 * 2 * 3 * 9 * 12, 2 * 2 * 5 * 3 * 12
SEPARABLE = (3, 3, 2, 2, 1, 1, 1, 1)


def test_separable_block_counts_its_two_convolutions():
    call = lambda: ops.block_forward(X, None, DEPTHWISE, [PRODUCT], SEPARABLE, True)  # noqa: E731
    assert counted(call) == OF_DEPTHWISE + OF_PRODUCT


def test_factorized_reduce_counts_both_halves():
    x, halves = X[..., :5], [torch.rand(2, 3, 1, 1), torch.rand(2, 3, 1, 1)]
    x = x.contiguous(memory_format=torch.channels_last)
    assert counted(lambda: ops.block_forward(x, None, None, halves, (1, 1, 2, 2, 0, 0, 1, 1), True)) == (
        2 * 2 * 4 * 3 * (3 * 3)
    )


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("separable", [False, True])
def test_block_backward_counts_the_gradients_that_are_asked_for(separable, images, weights):
    depthwise, product = (DEPTHWISE, PRODUCT) if separable else (None, torch.rand(5, 3, 3, 3))
    z, norm = ops.block_forward(X, None, depthwise, [product], SEPARABLE, True)
    arguments = (
        z,
        None,
        torch.zeros(2, 5, dtype=torch.float64),
        z,
        norm,
        True,
        X,
        None,
        depthwise,
        [product],
    )
    out = torch.empty_like(X) if images else None
    found = counted(lambda: ops.block_backward(*arguments, SEPARABLE, True, weights, out, None))
    if separable:
        # The gradient of the depthwise output is needed for both; its values are computed again.
        expected = images * OF_DEPTHWISE + weights * (2 * OF_DEPTHWISE + OF_PRODUCT)
        expected += OF_PRODUCT if images or weights else 0
    else:
        expected = (images + weights) * 2 * 2 * 5 * 27 * 12
    assert found == expected


@DRAWN
@given(drawn=programs())
def test_source_dots_count_what_the_reference_convolves(drawn):
    expected = counted(lambda: reference.source_dots(*drawn.arguments()))
    assert counted(lambda: ops.source_dots(*drawn.arguments())) == expected


@DRAWN
@given(drawn=cells())
def test_cell_forward_counts_what_the_reference_convolves(drawn):
    expected = counted(lambda: reference.cell_forward(*drawn.forward()))
    assert counted(lambda: ops.cell_forward(*drawn.forward())) == expected


@DRAWN
@given(drawn=recurrent_calls())
def test_recurrent_operators_count_what_the_reference_multiplies(drawn):
    tape = ops.recurrent_forward(*drawn.forward(), True)
    grad_nodes = torch.ones_like(tape[1][1:])
    pairs = {
        "forward": (*drawn.forward(), True),
        "dots": drawn.dots(grad_nodes, tape),
    }
    for name, arguments in pairs.items():
        expected = counted(lambda: getattr(reference, f"recurrent_{name}")(*arguments))  # noqa: B023
        found = counted(lambda: getattr(ops, f"recurrent_{name}")(*arguments))  # noqa: B023
        assert found == expected


@pytest.mark.parametrize("needs", [(True, True, True), (False, True, False), (False, False, True)])
def test_recurrent_backward_counts_the_gradients_that_are_asked_for(needs):
    """4 time steps, 8 nodes of which the last does not reach the output, two of them behind s_0."""
    drawn = recurrent_call(4, 3, 5, outputs=[7], terms=[1, 0, 1, 2, 0, 1, 7, 1, 0, 7, 2, 0, 8, 1, 1])
    tape = ops.recurrent_forward(*drawn.forward(), True)
    found = counted(lambda: ops.recurrent_backward(*drawn.backward(drawn.grad(), tape, needs)))
    inputs, weights, _ = needs
    product = 2 * 3 * 5 * 10
    steps = {
        "of the sources 1 and 2": 2 * 4,
        "of the source 0": 2 * (4 if inputs or weights else 3),
        "of the hidden state": 4 if inputs else 3,
        "of the weights": 5 * 4 * weights,
    }
    assert found == product * sum(steps.values())


def test_recurrent_backward_without_a_wish_counts_nothing():
    drawn = recurrent_call()
    tape = ops.recurrent_forward(*drawn.forward(), True)
    assert not counted(lambda: ops.recurrent_backward(*drawn.backward(drawn.grad(), tape, (False,) * 3)))


def test_an_operator_called_by_the_names_of_its_arguments_is_counted():
    named = {"in_norm": None, "depthwise": DEPTHWISE, "products": [PRODUCT], "geometry": SEPARABLE}
    nothing = dict.fromkeys(("weight", "bias", "mean", "var"))
    call = torch.ops.nasp_ext.block_forward
    found = counted(lambda: call(x=X, **named, relu=True, norm=True, **nothing, eps=1e-5))
    assert found == OF_DEPTHWISE + OF_PRODUCT


REGISTERED = "len([p for p in flop_counter.flop_registry if 'nasp_ext' in str(p)]) == 8"
ORDERS = {
    "after": "import nasp_ext, sys; assert 'torch.utils.flop_counter' not in sys.modules\n"
    "import torch.utils.flop_counter as flop_counter",
    "before": "import torch.utils.flop_counter as flop_counter, nasp_ext",
    "after a look": "import nasp_ext, importlib.util; importlib.util.find_spec('torch.utils.flop_counter')\n"
    "from torch.utils import flop_counter",
}


@pytest.mark.parametrize("order", ORDERS)
def test_formulas_are_registered_whenever_the_counter_is_imported(order):
    own = "type(flop_counter.__loader__).__module__.startswith('nasp_ext')"
    code = f"{ORDERS[order]}\nassert {REGISTERED}\nassert not {own}"
    subprocess.run([sys.executable, "-c", code], check=True)


def profiled(**options):
    with profile(**options) as found:
        ops.block_forward(X, None, DEPTHWISE, [PRODUCT], SEPARABLE, True)
    return found


def flops_in(found) -> int:
    return sum(event.flops for event in found.key_averages() if event.flops)


def names_in(found) -> list[str]:
    return [event.name for event in found.events()]


def test_a_profiler_that_counts_sees_each_convolution_of_a_call():
    found = profiled(with_flops=True, record_shapes=True)
    shapes = [event.input_shapes[:2] for event in found.events() if event.name == "aten::conv2d"]
    assert shapes == [[[2, 3, 6, 7], [3, 1, 3, 3]], [[2, 3, 3, 4], [5, 3, 1, 1]]]
    assert flops_in(found) == OF_DEPTHWISE + OF_PRODUCT


def test_other_profilers_see_the_operators_alone():
    kept = profiled(with_flops=True)  # still there, no longer running
    for options in ({}, {"record_shapes": True}, {"profile_memory": True}):
        found = profiled(**options)
        assert [name for name in names_in(found) if "nasp_ext" in name] == ["nasp_ext::block_forward"]
        assert "aten::conv2d" not in names_in(found)
    assert flops_in(kept) == flops_in(profiled(with_flops=True)) > 0


def test_a_profiler_older_than_the_last_collection_is_found():
    import gc

    with profile(with_flops=True) as found:
        gc.collect()
        ops.block_forward(X, None, DEPTHWISE, [PRODUCT], SEPARABLE, True)
    assert flops_in(found) == OF_DEPTHWISE + OF_PRODUCT


def test_a_profiler_that_runs_in_cycles_is_counted_in_each():
    found = []
    options = {"schedule": torch.profiler.schedule(wait=1, warmup=1, active=1, repeat=2), "acc_events": True}
    ready = lambda p: found.append(flops_in(p))  # noqa: E731
    with profile(with_flops=True, on_trace_ready=ready, **options) as running:
        for _ in range(6):
            ops.block_forward(X, None, DEPTHWISE, [PRODUCT], SEPARABLE, True)
            running.step()
    assert found == [OF_DEPTHWISE + OF_PRODUCT, 2 * (OF_DEPTHWISE + OF_PRODUCT)]
