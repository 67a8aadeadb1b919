// SPDX-License-Identifier: MIT
// nasp_step_ by addresses, past the dispatcher; the same bits, as both call run_step.
#include "direct.h"

#include <cstring>

#include "step_rows.h"

namespace nasp_ext {
namespace {

constexpr int64_t kFixed = 21;  // what stays from step to step, 64-bit numbers

// Takes one fixed number after the other.
class Fixed {
 public:
  explicit Fixed(PyObject* bytes) : next_(PyBytes_AsString(bytes)) {}

  int64_t integer() {
    int64_t number;
    std::memcpy(&number, next_, sizeof number);
    next_ += sizeof number;
    return number;
  }
  template <class T>
  T* address() {
    return reinterpret_cast<T*>(static_cast<intptr_t>(integer()));
  }

 private:
  const char* next_;
};

// Takes one Python number after the other; an error stays set in Python and is looked at in the
// end.
class Numbers {
 public:
  explicit Numbers(PyObject* const* first) : next_(first) {}

  int64_t integer() { return PyLong_AsLongLong(*next_++); }
  double real() { return PyFloat_AsDouble(*next_++); }
  const void* address() { return PyLong_AsVoidPtr(*next_++); }
  std::optional<int64_t> seed() {
    if (*next_ != Py_None) return integer();
    ++next_;
    return std::nullopt;
  }

 private:
  PyObject* const* next_;
};

constexpr Py_ssize_t kArguments = 10;

// What step_by_address returns.
enum class Outcome { failed, stale, still, moved };

// Whether A is, bit for bit, what it was when `weight` was made from it.
template <class T>
bool is_fresh(const StepMemory<T>& memory, const T* seen) {
  return std::memcmp(memory.matrix.a, seen, size_t(memory.rows.elements()) * sizeof(T)) == 0;
}

// The tensors of before are apart, as `make` saw to; the gradient is a new one.
template <class T>
void check_gradient_apart(const StepMemory<T>& memory) {
  const int64_t bytes = memory.rows.elements() * int64_t(sizeof(T));
  const Span grad = {"grad", memory.matrix.grad, bytes};
  const Span written[] = {
      {"a", memory.matrix.a, bytes},
      {"exp_avg", memory.matrix.exp_avg, memory.matrix.exp_avg ? bytes : 0},
      {"exp_avg_sq", memory.matrix.exp_avg_sq, memory.matrix.exp_avg_sq ? bytes : 0}};
  for (const Span& span : written)
    if (span.meets(grad)) fail_shared("grad", span.name);
}

template <class T>
Outcome step_typed(Fixed fixed, Numbers from) {
  StepMemory<T> memory = {};
  memory.rows.count = fixed.integer();
  memory.rows.options = fixed.integer();
  memory.matrix.a = fixed.address<T>();
  memory.matrix.weight = memory.weight = fixed.address<T>();
  memory.active = fixed.address<int32_t>();
  memory.matrix.exp_avg = fixed.address<T>();
  memory.matrix.exp_avg_sq = fixed.address<T>();
  memory.cost.data = fixed.address<const T>();
  memory.cost.count = fixed.integer();
  memory.mask.data = fixed.address<const bool>();
  memory.mask.count = fixed.integer();
  memory.nodes.offsets = fixed.address<const int64_t>();
  memory.nodes.count = fixed.integer();
  memory.nodes.edges = fixed.integer();
  const bool keep_value = fixed.integer() != 0;
  T* seen = fixed.address<T>();
  const bool* seen_mask = fixed.address<const bool>();
  const void* cost_source = fixed.address<const void>();
  const void* seen_cost = fixed.address<const void>();
  const int64_t cost_bytes = fixed.integer();
  memory.matrix.grad = static_cast<const T*>(from.address());
  StepNumbers numbers;
  numbers.step = from.integer();
  numbers.lr = from.real();
  numbers.beta1 = from.real();
  numbers.beta2 = from.real();
  numbers.eps = from.real();
  numbers.weight_decay = from.real();
  numbers.eta = from.real();
  const Ties ties = ties_of(from.seed());
  if (PyErr_Occurred()) return Outcome::failed;
  if (!memory.matrix.grad) return Outcome::stale;  // its memory was given back
  if (memory.cost.data &&
      (!is_fresh(memory, seen) || std::memcmp(cost_source, seen_cost, size_t(cost_bytes)) != 0))
    return Outcome::stale;
  if (memory.mask.data && std::memcmp(memory.mask.data, seen_mask,
                                      size_t(memory.mask.count * memory.rows.options)) != 0)
    return Outcome::stale;
  check_gradient_apart(memory);
  const bool moves = run_step(memory, numbers, ties, keep_value);
  std::memcpy(seen, memory.matrix.a, size_t(memory.rows.elements()) * sizeof(T));
  return moves ? Outcome::moved : Outcome::still;
}

}  // namespace

PyObject* step_by_address(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (count != kArguments || !PyBytes_Check(arguments[0]) ||
      PyBytes_Size(arguments[0]) != kFixed * Py_ssize_t(sizeof(int64_t)))
    return PyErr_Format(PyExc_TypeError, "expected %zd arguments, the first %zd bytes", kArguments,
                        kFixed * Py_ssize_t(sizeof(int64_t)));
  try {
    Fixed fixed(arguments[0]);
    const Numbers numbers(arguments + 1);
    const Outcome outcome = fixed.integer() == 64 ? step_typed<double>(fixed, numbers)
                                                  : step_typed<float>(fixed, numbers);
    if (outcome == Outcome::stale) Py_RETURN_NONE;
    if (outcome != Outcome::failed) return PyBool_FromLong(outcome == Outcome::moved);
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  }
  return nullptr;
}

}  // namespace nasp_ext
