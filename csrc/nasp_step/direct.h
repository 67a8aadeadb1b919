// SPDX-License-Identifier: MIT
// A step called from Python by addresses. The way through PyTorch's dispatcher takes about ten
// times as long as the step of a DARTS cell itself: 20 arguments are boxed, and every tensor is
// counted twice.
#pragma once
#include <Python.h>

namespace nasp_ext {

// _C.step_by_address(...), the arguments in the order of nasp_ext/ops/direct.py, which has
// checked them. Raises ValueError as nasp_step_ does. Holds the GIL: for matrices of few elements.
PyObject* step_by_address(PyObject* module, PyObject* const* arguments, Py_ssize_t count);

// _C.all_finite_by_address(bits of a number, address, how many): whether there is no NaN or
// infinity.
PyObject* all_finite_by_address(PyObject* module, PyObject* const* arguments, Py_ssize_t count);

}  // namespace nasp_ext
