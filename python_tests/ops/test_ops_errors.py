# SPDX-License-Identifier: MIT
"""What a wrong call is told: what was expected, what was found, what to do."""

import pytest
import torch

from nasp_ext import ops

A = torch.rand(5, 3)
INT = torch.zeros(5, dtype=torch.int32)


def step(a=A, grad=A, weight=A, active=INT, *moments, **options):
    tensors = [t.clone() if isinstance(t, torch.Tensor) else t for t in (a, grad, weight, active, *moments)]
    ops.nasp_step_(*tensors, **{"step": 1, "lr": 0.1, **options})


VALUE_ERRORS = {
    "prox of no options": (lambda: ops.prox_c(torch.empty(4, 0)), r"at least one option.*\(4, 0\)"),
    "prox of a number": (lambda: ops.prox_c1(torch.tensor(1.0)), "found a single number"),
    "prox of integers": (lambda: ops.prox_c(A.int()), "float32, float64.*found Int.*convert"),
    "clip of integers": (lambda: ops.prox_c2(A.long()), "found Long"),
    "mask of another shape": (
        lambda: ops.prox_c(A, torch.ones(4, dtype=torch.bool)),
        r"\(5, 3\), found \(4,\)",
    ),
    "mask of a longer batch": (
        lambda: ops.prox_c(A, torch.ones(2, 5, 3, dtype=torch.bool)),
        r"\(5, 3\), found \(2, 5, 3\)",
    ),
    "mask of numbers": (lambda: ops.prox_c(A, torch.ones(3)), "mask to be bool.*found Float"),
    "selection of a batch": (lambda: ops.select_active(torch.rand(2, 5, 3)), r"\(R, K\), found \(2, 5, 3\)"),
    "edges without nodes": (lambda: ops.select_active(A, None, 2), "node_offsets with edges_per_node=2"),
    "no edges": (lambda: ops.select_active(A, (0, 5), 0), "1 or more, found 0"),
    "nodes that end early": (lambda: ops.select_active(A, (0, 4), 2), r"number of rows, 5, found \(0, 4\)"),
    "nodes that stand still": (lambda: ops.select_active(A, (0, 2, 2, 5), 2), r"found \(0, 2, 2, 5\)"),
    "step in half": (lambda: step(A.half(), A.half(), A.half()), "float32 or float64, found Half"),
    "gradient of another shape": (
        lambda: step(grad=A[:4]),
        r"grad of the shape of a, \(5, 3\), found \(4, 3\)",
    ),
    "weight of another dtype": (
        lambda: step(weight=A.double()),
        "weight in the dtype of a, Float, found Double",
    ),
    "active of another dtype": (lambda: step(active=INT.long()), "active to be int32.*found Long"),
    "one moment": (lambda: step(A, A, A, INT, A), "exp_avg and exp_avg_sq together"),
    "step zero": (lambda: step(A, A, A, INT, A, A, step=0), "count from 1, found 0"),
    "beta of one": (lambda: step(A, A, A, INT, A, A, betas=(0.5, 1.0)), r"found \(0.5, 1\)"),
    "cost of another shape": (
        lambda: step(cost=torch.rand(5)),
        r"cost of shape \(K,\) or \(R, K\).*found \(5,\)",
    ),
    "no outputs": (lambda: ops.mixed_sum([], torch.empty(0)), "1 to 64 outputs, found none"),
    "too many outputs": (lambda: ops.branch_dots(A, [A] * 65), "1 to 64 outputs, found 65"),
    "outputs that differ": (lambda: ops.branch_dots(A, [A, A[:4]]), r"shape \(5, 3\), found \(4, 3\)"),
    "outputs of two dtypes": (lambda: ops.mixed_sum([A, A.half()], torch.ones(2)), "in Float, found Half"),
    "weights of another length": (
        lambda: ops.mixed_sum([A, A], torch.ones(3)),
        r"\(2,\) in Float, found \(3,\)",
    ),
    "weights of another dtype": (
        lambda: ops.mixed_sum([A, A], torch.ones(2).double()),
        "in Float.* in Double",
    ),
    "sum of integers": (lambda: ops.mixed_sum([A.int()], torch.ones(1)), "found Int"),
}
TYPE_ERRORS = {
    "prox of a list": (lambda: ops.prox_c([[1.0]]), "a to be a torch.Tensor, found list"),
    "mask that is a list": (lambda: ops.prox_c(A, [True]), "mask to be a torch.Tensor, found list"),
    "outputs in one tensor": (lambda: ops.mixed_sum(A, A[0]), "a list of tensors, found one tensor"),
    "output that is a number": (lambda: ops.branch_dots(A, [A, 1.0]), r"outputs\[1\] to be a torch.Tensor"),
    "weights in a list": (lambda: ops.mixed_sum([A], [1.0]), "weights to be a torch.Tensor"),
    "grad that is None": (lambda: step(grad=None), "grad, weight and active to be tensors, found None"),
    "active that is None": (lambda: step(active=None), "to be tensors, found None"),
    "grad in a list": (lambda: step(grad=[0.0]), "argument 'grad' but instead found type 'list'"),
    "moments in lists": (
        lambda: step(exp_avg=[0.0], exp_avg_sq=[0.0]),
        "argument 'exp_avg' but instead found type 'list'",
    ),
    "active in a list": (
        lambda: step(active=[0] * 5),
        "type 'Tensor' for argument 'active' but instead found type 'list'",
    ),
}


@pytest.mark.parametrize("case", VALUE_ERRORS)
def test_value_error_says_expected_and_found(case):
    call, text = VALUE_ERRORS[case]
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("case", TYPE_ERRORS)
def test_type_error_says_expected_and_found(case):
    call, text = TYPE_ERRORS[case]
    with pytest.raises(TypeError, match=text):
        call()


def test_device_without_kernels_gets_the_reason(monkeypatch):
    def no_kernel(*arguments):
        raise NotImplementedError("no kernel registered")

    class OnCuda(torch.Tensor):
        device = torch.device("cuda")

    monkeypatch.setattr("nasp_ext.ops.prox._PROX_C", no_kernel)
    monkeypatch.setattr("nasp_ext._info.cuda_reason", lambda: "it was built without nvcc")
    with pytest.raises(NotImplementedError, match=r"on cuda: it was built without nvcc\. Move them"):
        ops.prox_c(torch.rand(2, 2).as_subclass(OnCuda))
