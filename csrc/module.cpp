// SPDX-License-Identifier: MIT
// The Python entry point. Loading it runs the static initialisers of the other files, which
// register the operators.
#include <Python.h>

#include "host/facts.h"
#include "nasp_step/direct.h"

namespace {

PyObject* build_info(PyObject*, PyObject*) {
  const nasp_ext::BuildFacts facts = nasp_ext::build_facts();
  return Py_BuildValue("{s:s,s:s,s:O,s:s,s:s}", "compiler", facts.compiler, "torch_built_with",
                       facts.torch_built_with, "cuda", facts.cuda ? Py_True : Py_False,
                       "cuda_archs", facts.cuda_archs, "cuda_reason", facts.cuda_reason);
}

PyObject* instruction_set(PyObject*, PyObject*) {
  return PyUnicode_FromString(nasp_ext::instruction_set_name());
}

// The C API stores every kind of function as this one type; METH_FASTCALL says which it is.
template <class Function>
PyCFunction stored(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef functions[] = {
    {"build_info", &build_info, METH_NOARGS, nullptr},
    {"instruction_set", &instruction_set, METH_NOARGS, nullptr},
    {"step_by_address", stored(&nasp_ext::step_by_address), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
