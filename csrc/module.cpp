// SPDX-License-Identifier: MIT
// The Python entry point. Loading it runs the static initialisers of the other files, which
// register the operators.
#include <Python.h>

#include "nasp_step/direct.h"

namespace {

// The C API stores every kind of function as this one type; METH_FASTCALL says which it is.
template <class Function>
PyCFunction stored(Function* function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

PyMethodDef functions[] = {
    {"step_by_address", stored(&nasp_ext::step_by_address), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, functions, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
