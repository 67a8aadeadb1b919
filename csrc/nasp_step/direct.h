// SPDX-License-Identifier: MIT
// A step called from Python by addresses. The way through PyTorch's dispatcher takes about ten
// times as long as the step of a DARTS cell itself: 20 arguments are boxed, and every tensor is
// counted twice.
#pragma once
#include <Python.h>

namespace nasp_ext {

// _C.step_by_address(fixed, ...): what stays from step to step as bytes, then the numbers of this
// step, in the order of nasp_ext/ops/direct.py, which has checked them. Returns whether a gradient
// is not exactly zero, or None if A is another than its selection was made from and the step needs
// that (nothing is done then). Raises ValueError as nasp_step_ does. Holds the GIL: for matrices of
// few elements.
PyObject* step_by_address(PyObject* module, PyObject* const* arguments, Py_ssize_t count);

}  // namespace nasp_ext
