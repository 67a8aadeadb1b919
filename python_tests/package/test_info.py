# SPDX-License-Identifier: MIT
"""The report on the installation."""

import pytest
import torch

from nasp_ext import _C, _info


def test_the_report_names_versions_instruction_set_and_cuda() -> None:
    text = "\n".join(_info.info_lines())
    for part in (torch.__version__, _C.instruction_set(), "CUDA kernels:", "CUDA devices:", "nasp_ext 0."):
        assert part in text


def test_both_modules_tell_the_same_facts_wherever_both_are_built() -> None:
    host = pytest.importorskip("nasp_ext._host", reason="a release build has no host module")
    names = {"compiler", "torch_built_with", "cuda", "cuda_archs", "cuda_reason"}
    for module in (_C, host):
        assert module.build_info().keys() == names
    assert host.instruction_set() == _C.instruction_set()
    assert (host.build_info()["cuda"], type(_C.build_info()["cuda"])) == (_C.build_info()["cuda"], bool)


def test_a_build_without_cuda_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {**_C.build_info(), "cuda": False, "cuda_archs": "", "cuda_reason": "no nvcc was found"}
    monkeypatch.setattr(_info, "build_info", lambda: info)
    assert _info.cuda_reason() == "nasp_ext was built without CUDA kernels: no nvcc was found"
    assert "CUDA kernels: not built: no nvcc was found" in _info.info_lines()


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch has CUDA")
def test_a_cpu_only_pytorch_is_the_reason_when_the_kernels_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_info, "build_info", lambda: {"cuda": True})
    assert "has no CUDA support" in _info.cuda_reason()
