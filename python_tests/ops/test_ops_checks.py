# SPDX-License-Identifier: MIT
"""What operators ask before they compute: one device, memory of its own, sizes that exist; and no images."""

import copy
import re

import pytest
import torch
from ops_blocks_samples import DEPTHWISE, IDENTITY, NO_PARTS, REDUCE, called, images, norm, row, samples
from ops_damage import places, replaced
from test_ops_registration import SAMPLES
from torch._subclasses.fake_tensor import FakeTensorMode

from nasp_ext import ops
from nasp_ext.ops import reference
from nasp_ext.ops.program import encode_cell, encode_source
from nasp_ext.ops.program_values import (
    Block,
    CellProgram,
    Geometry,
    Norm,
    Option,
    Pool,
    ProgramEdge,
    SourceOption,
)

ONE_DEVICE = "expected all tensors on one device, found cpu and meta"


def tensor_places(arguments):
    return [path for path, value in places(arguments) if isinstance(value, torch.Tensor)]


def several(arguments):
    return len(tensor_places(arguments)) > 1


MIXED = [
    (name, index, path)
    for name, calls in SAMPLES.items()
    for index, arguments in enumerate(calls)
    if several(arguments)
    for path in tensor_places(arguments)
]


@pytest.mark.parametrize("name, index, path", MIXED)
def test_one_tensor_on_meta_beside_others_is_refused(name, index, path):
    arguments = SAMPLES[name][index]
    value = dict(places(arguments))[path]
    with pytest.raises(ValueError, match=ONE_DEVICE):
        getattr(torch.ops.nasp_ext, name).default(*replaced(arguments, path, value.to("meta")))


def test_fake_tensors_of_two_devices_are_refused():
    with FakeTensorMode(), pytest.raises(ValueError, match=ONE_DEVICE):
        ops.mixed_sum([torch.zeros(3)], torch.ones(1, device="meta"))


def test_calls_with_all_tensors_on_meta_tell_shapes():
    z, rows = ops.block_forward(
        torch.empty(2, 4, 5, 5, device="meta"),
        None,
        None,
        [torch.empty(6, 4, 1, 1, device="meta")],
        IDENTITY,
        True,
    )
    assert (z.shape, z.device.type, rows.shape) == ((2, 6, 5, 5), "meta", (5, 6))


@pytest.mark.parametrize(
    "program, text",
    [
        ([0, 2, -1], "a count of at least 1"),
        ([0, 2, 1, 1], "found their end"),
        ([0, 3], r"kind in 0\.\.2, found 3"),
    ],
)
def test_damaged_program_is_refused_on_meta(program, text):
    x = torch.empty(2, 4, 5, 5, device="meta")
    with pytest.raises(ValueError, match=text):
        ops.source_dots(x, [x], program, [], [], [])


X = images(2, 4, 5, 5)
NONE = X.new_empty(0, 0)
NO_IMAGES = X[:0]
PRODUCT = images(6, 4, 1, 1).contiguous()
RUNNING = (row(6), row(6), row(6), row(6))


def test_statistics_of_a_batch_without_images_are_refused():
    with pytest.raises(ValueError, match="block_forward: expected at least one value per channel"):
        ops.block_forward(NO_IMAGES, None, None, [PRODUCT], IDENTITY, True)
    with pytest.raises(ValueError, match="pool_forward: expected at least one value per channel"):
        ops.pool_forward(NO_IMAGES, True, 3, 1)


def test_running_statistics_of_no_images_are_those_of_the_twin():
    call = NO_IMAGES, None, None, [PRODUCT], IDENTITY, True, True, RUNNING
    found, expected = ops.block_forward(*call), reference.block_forward(*call)
    torch.testing.assert_close(found, expected)
    parts = tuple(part[:4] for part in RUNNING)
    for (z, rows), (other_z, other_rows) in [
        (f(NO_IMAGES, False, 3, 2, True, parts) for f in (ops.pool_forward, reference.pool_forward))
    ]:
        assert z.shape == other_z.shape
        torch.testing.assert_close(rows, other_rows)


@pytest.mark.parametrize("geometry, depthwise", [(IDENTITY, None), (DEPTHWISE, row(36).view(4, 1, 3, 3))])
def test_gradients_of_weights_over_no_images_are_zero(geometry, depthwise):
    grad, sums = images(2, 6, 5, 5)[:0], torch.zeros(2, 6, dtype=torch.float64)
    behind = grad, None, sums, grad, norm(6), True
    out = torch.empty_like(NO_IMAGES)
    in_sums, of_depthwise, of_products = ops.block_backward(
        *behind, NO_IMAGES, norm(4), depthwise, [PRODUCT], geometry, True, True, out, None
    )
    assert in_sums.equal(torch.zeros(2, 4, dtype=torch.float64))
    assert of_products[0].equal(torch.zeros_like(PRODUCT))
    assert of_depthwise.equal(torch.zeros(0) if depthwise is None else torch.zeros_like(depthwise))


def test_sums_over_no_images_are_zero():
    found = ops.node_gradient_sums(NO_IMAGES, [NO_IMAGES], [norm(4)])
    assert found.equal(torch.zeros(1, 2, 4, dtype=torch.float64))


def test_dots_over_no_images_are_refused():
    with pytest.raises(ValueError, match="source_dots: expected at least one image, found none"):
        ops.source_dots(NO_IMAGES, [NO_IMAGES], *encode_source([SourceOption(0, Option())]))


@pytest.mark.parametrize("batch, text", [(1, "more than 1 value per channel"), (0, None)])
def test_cell_of_no_images_is_refused_where_it_needs_a_batch(batch, text):
    """A pool with running statistics, in evaluation (0) and in training (1)."""
    norm = Norm(bool(batch), bool(batch), 1e-5, 0.1, None, (row(4), row(4)), torch.tensor(0))
    edges = (ProgramEdge(0, 0, False, Option(Pool(True, 3, 1, norm))),)
    cell = CellProgram(nodes=1, concat=(1,), preprocess=(None,), edges=edges)
    call = [NO_IMAGES], *encode_cell(cell), None, [4, 5, 5]
    if text is None:
        torch.testing.assert_close(ops.cell_forward(*call), reference.cell_forward(*call))
        return
    with pytest.raises(ValueError, match=text):
        ops.cell_forward(*call)


@pytest.mark.parametrize("value", [2**30, 2**31, 2**62, (2**64 + 2) // 6, 2**63 - 1])
@pytest.mark.parametrize("place", range(8))
def test_geometry_that_no_kernel_can_count_in_is_refused(place, value):
    geometry = [*IDENTITY]
    geometry[place] = value
    with pytest.raises(ValueError, match=re.escape(f"below {2**30 - 1}, found {value}")):
        ops.block_forward(X, None, None, [PRODUCT], geometry, True)
    for kernel, stride in ((value | 1, 1), (3, value)):
        with pytest.raises(ValueError, match=f"below {2**30 - 1}, found {kernel} and {stride}"):
            ops.pool_forward(X, True, kernel, stride)


@pytest.mark.parametrize("place", [4, 5])
def test_padding_out_of_proportion_is_refused(place):
    geometry = [1, 1, 2**20, 2**20, 0, 0, 1, 1]
    geometry[place] = 10**6
    with pytest.raises(ValueError, match="padding and dilation in proportion to an image of 5 x 5"):
        ops.block_forward(X, None, None, [PRODUCT], geometry, True)


@pytest.mark.parametrize("size", [[2**18, 2**44 + 1, 1, 1], [-1, 4, 2, 2], [0, 2**40, 2**40, 1], [2, 2]])
def test_images_of_an_impossible_size_are_refused(size):
    with pytest.raises(ValueError, match="empty_images: expected"):
        ops.empty_images(X, size)


def test_memory_that_is_not_there_is_an_error():
    with pytest.raises(RuntimeError, match=r"not enough memory|can't allocate memory"):
        ops.empty_images(X, [2**20, 2**22, 1, 1])


def last_of_two(place, value):
    """update_statistics_ of two BatchNorms of which the second does not fit."""
    arguments = copy.deepcopy(samples()["update_statistics_"][0])
    arguments[place][1] = value
    return arguments


@pytest.mark.parametrize(
    "place, value",
    [
        (3, torch.empty(0, 4)),
        (3, torch.rand(4, 4)),
        (2, torch.tensor(0.0)),
        (0, torch.rand(4, dtype=torch.float16)),
        (1, torch.rand(3)),
        (4, 1),
        (4, -(2**63)),
    ],
)
def test_no_statistic_moves_if_one_does_not_fit(place, value):
    arguments = last_of_two(place, value)
    before = copy.deepcopy(arguments)
    with pytest.raises(ValueError, match="update_statistics_: expected"):
        ops.update_statistics_(*arguments)
    for (_, one), (_, two) in zip(places(arguments), places(before), strict=True):
        assert not isinstance(one, torch.Tensor) or one.equal(two)


KEPT = range(len(samples()["cell_backward"][0][2]))


@pytest.mark.parametrize("place", KEPT)
@pytest.mark.parametrize("change", [lambda t: t[..., :-1], lambda t: t.double(), lambda t: t[:0]])
def test_wrong_kept_tensor_is_refused_before_statistics_move(place, change):
    arguments = list(copy.deepcopy(samples()["cell_backward"][0]))
    arguments[2][place] = change(arguments[2][place])
    before = copy.deepcopy(arguments[12])
    with pytest.raises(ValueError, match="cell_backward: expected"):
        ops.cell_backward(*arguments)
    assert all(one.equal(two) for one, two in zip(arguments[12], before, strict=True))


def test_sources_that_go_on_are_refused():
    arguments = list(samples()["cell_backward"][0])
    arguments[10] = [*arguments[10], 0]
    with pytest.raises(ValueError, match="to end with the last state, found 1, 0, 0 and 0 items more"):
        ops.cell_backward(*arguments)


@pytest.mark.parametrize("nodes", [2**40, 2**62, -1, 0])
def test_absurd_number_of_nodes_is_refused(nodes):
    with pytest.raises(ValueError, match="1 to 4096 nodes"):
        ops.cell_forward([X], *encode_cell(CellProgram(nodes, (1,), (None,), ())), None, [4, 5, 5])


def test_output_in_the_memory_of_an_input_is_refused():
    whole = images(3, 4, 5, 5)
    with pytest.raises(ValueError, match=r"node_sum_: .* overlaps with terms"):
        ops.node_sum_(whole[1:], [whole[:2]], [NONE])
    with pytest.raises(ValueError, match=r"node_sum_: .* overlaps with base"):
        ops.node_sum_(whole[1:], [X], [NONE], None, whole[:2])
    with pytest.raises(ValueError, match=r"node_sum_: .* overlaps with terms"):
        ops.node_sum_(whole, [whole], [NONE])
    behind = X, None, NONE.double(), X, NONE, False
    with pytest.raises(ValueError, match=r"pool_backward_: .* overlaps with x"):
        ops.pool_backward_(*behind, whole[:2], True, 3, 1, whole[:2], None)
    block = images(2, 4, 5, 5, seed=9), None, None, [images(4, 4, 1, 1).contiguous()], IDENTITY, True, False
    with pytest.raises(ValueError, match=r"block_backward: .* overlaps with grad"):
        ops.block_backward(*behind, *block, X, None)


def test_slices_of_the_channels_of_one_tensor_do_not_overlap():
    whole = images(2, 8, 5, 5)
    expected = whole[:, :4] + whole[:, 4:]
    ops.node_sum_(whole[:, :4], [whole[:, 4:]], [NONE], None, whole[:, :4])
    torch.testing.assert_close(whole[:, :4], expected)


def test_lazy_sign_of_a_changed_tensor_is_refused():
    out = torch._neg_view(X.clone())
    with pytest.raises(ValueError, match=r"call \.resolve_neg\(\)"):
        ops.node_sum_(out, [X], [NONE])


def test_lazy_sign_of_a_read_tensor_counts():
    z, _ = ops.pool_forward(torch._neg_view(X), True, 1, 1, False)
    assert z.equal(-X)


def test_sparse_tensor_is_refused_by_its_layout():
    with pytest.raises(NotImplementedError, match=r"in torch\.sparse_coo\. Convert them with \.to_dense"):
        ops.prox_c(torch.ones(2, 2).to_sparse())


def test_none_for_a_tensor_is_refused():
    arguments = (None, *samples()["node_sum_"][0][1:])
    with pytest.raises(ValueError, match=r"expected out of shape .*, found None"):
        called("node_sum_", arguments)
    with pytest.raises(ValueError, match="expected sums to be a tensor, found None"):
        called("pool_backward_", replaced(samples()["pool_backward_"][0], (2,), None))


def test_factorized_reduce_with_one_weight_is_refused_in_a_program():
    """Two parts announced, one weight given."""
    weight, grad = images(2, 4, 1, 1).contiguous(), images(2, 4, 3, 3)
    option = Option(chain=(Block(Geometry(*REDUCE), None, (weight, weight), True, None),))
    program, weights, *rest = encode_source([SourceOption(0, option)])
    with pytest.raises(ValueError, match="expected more weights than 1"):
        ops.source_dots(X, [grad], program, weights[:1], *rest)


def test_mean_without_variance_is_refused():
    with pytest.raises(ValueError, match="in pairs, found one without the other"):
        ops.pool_forward(X, True, 3, 1, True, (None, None, row(4), None))
    assert NO_PARTS == (None, None, None, None)
