// SPDX-License-Identifier: MIT
// nasp_step_ by addresses, past the dispatcher; the same bits, as both call run_step.
#include "direct.h"

#include "step_rows.h"

namespace nasp_ext {
namespace {

// Takes one Python number after the other; an error stays set in Python and is looked at in the
// end.
class Arguments {
 public:
  explicit Arguments(PyObject* const* first) : next_(first) {}

  int64_t integer() { return PyLong_AsLongLong(*next_++); }
  double real() { return PyFloat_AsDouble(*next_++); }
  template <class T>
  T* address() {
    return static_cast<T*>(PyLong_AsVoidPtr(*next_++));
  }
  std::optional<int64_t> seed() {
    if (*next_ != Py_None) return integer();
    ++next_;
    return std::nullopt;
  }

 private:
  PyObject* const* next_;
};

constexpr Py_ssize_t kStepArguments = 25;
constexpr Py_ssize_t kFiniteArguments = 3;

bool has_arguments(Py_ssize_t count, Py_ssize_t expected) {
  if (count == expected) return true;
  PyErr_Format(PyExc_TypeError, "expected %zd arguments, found %zd", expected, count);
  return false;
}

template <class T>
void step_typed(Arguments from) {
  StepMemory<T> memory = {};
  memory.rows.count = from.integer();
  memory.rows.options = from.integer();
  memory.matrix.a = from.address<T>();
  memory.matrix.weight = memory.weight = from.address<T>();
  memory.active = from.address<int32_t>();
  memory.matrix.exp_avg = from.address<T>();
  memory.matrix.exp_avg_sq = from.address<T>();
  memory.cost.data = from.address<const T>();
  memory.cost.count = from.integer();
  memory.mask.data = from.address<const bool>();
  memory.mask.count = from.integer();
  memory.nodes.offsets = from.address<const int64_t>();
  memory.nodes.count = from.integer();
  memory.nodes.edges = from.integer();
  const bool keep_value = from.integer() != 0;
  memory.matrix.grad = from.address<const T>();
  StepNumbers numbers;
  numbers.step = from.integer();
  numbers.lr = from.real();
  numbers.beta1 = from.real();
  numbers.beta2 = from.real();
  numbers.eps = from.real();
  numbers.weight_decay = from.real();
  numbers.eta = from.real();
  const Ties ties = ties_of(from.seed());
  if (PyErr_Occurred()) return;
  check_numbers(numbers, memory.matrix.exp_avg != nullptr);
  if (run_step(memory, numbers, ties, keep_value))
    fail_nan("nasp_step_", memory.matrix.a, memory.mask, memory.rows);
}

}  // namespace

PyObject* step_by_address(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (!has_arguments(count, kStepArguments)) return nullptr;
  try {
    Arguments from(arguments);
    const int64_t bits = from.integer();
    bits == 64 ? step_typed<double>(from) : step_typed<float>(from);
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  }
  if (PyErr_Occurred()) return nullptr;
  Py_RETURN_NONE;
}

PyObject* all_finite_by_address(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (!has_arguments(count, kFiniteArguments)) return nullptr;
  Arguments from(arguments);
  const int64_t bits = from.integer();
  const void* address = from.address<const void>();
  const int64_t n = from.integer();
  if (PyErr_Occurred()) return nullptr;
  return PyBool_FromLong(bits == 64 ? all_finite(static_cast<const double*>(address), n)
                                    : all_finite(static_cast<const float*>(address), n));
}

}  // namespace nasp_ext
