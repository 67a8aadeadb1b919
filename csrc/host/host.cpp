// SPDX-License-Identifier: MIT
// The facts of facts.h, bound with plain pybind11: no PyTorch header is included. A release build,
// whose one binary serves every Python, leaves this module out; _C has the same facts.
#include <pybind11/pybind11.h>

#include "facts.h"

namespace py = pybind11;

namespace {

py::dict build_info() {
  const nasp_ext::BuildFacts facts = nasp_ext::build_facts();
  py::dict info;
  info["compiler"] = facts.compiler;
  info["torch_built_with"] = facts.torch_built_with;
  info["cuda"] = facts.cuda;
  info["cuda_archs"] = facts.cuda_archs;
  info["cuda_reason"] = facts.cuda_reason;
  return info;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Facts about how nasp_ext was built and about this processor.";
  m.def("build_info", &build_info);
  m.def("instruction_set", &nasp_ext::instruction_set_name);
}
