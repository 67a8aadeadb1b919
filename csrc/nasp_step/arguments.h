// SPDX-License-Identifier: MIT
// The checked arguments of nasp_step_, for the CPU and the CUDA side.
#pragma once

#include <optional>
#include <tuple>

#include "../core/rows.h"
#include "../select_active/nodes.h"
#include "memory.h"
#include "nasp_step_math.h"

namespace nasp_ext {

// A tensor that a call changes: its contiguous form, which commit() copies back if it is another.
class InPlace {
 public:
  explicit InPlace(const Tensor& target) : target_(target), work_(as_contiguous(target)) {}

  const Tensor& tensor() const { return work_; }
  void commit() {
    if (work_.get() != target_.get()) torch::stable::copy_(target_, work_);
  }

 private:
  Tensor target_, work_;
};

struct StepNumbers {
  int64_t step;
  double lr, beta1, beta2, eps, weight_decay, eta;
};

struct StepCall {
  Tensor a, grad, weight;           // (R, K)
  Tensor active;                    // (R,) int32
  MaybeTensor exp_avg, exp_avg_sq;  // (R, K)
  StepNumbers numbers;
  MaybeTensor cost;  // (K,) or (R, K)
  std::optional<std::vector<int64_t>> node_offsets;
  std::optional<int64_t> edges_per_node;
  MaybeTensor mask;  // (M, K)
  bool keep_value;
  std::optional<int64_t> seed;

  auto fields() {
    StepNumbers& n = numbers;
    return std::tie(a, grad, weight, active, exp_avg, exp_avg_sq, n.step, n.lr, n.beta1, n.beta2,
                    n.eps, n.weight_decay, cost, n.eta, node_offsets, edges_per_node, mask,
                    keep_value, seed);
  }
};

struct StepArguments {
  Rows rows;  // its tensor is that of `a`
  InPlace a, weight, active;
  Tensor grad;
  std::optional<InPlace> exp_avg, exp_avg_sq;  // both or neither: Adam or a plain step
  std::optional<Tensor> cost;                  // contiguous (cost_rows, K)
  int64_t cost_rows;                           // 1 or R
  RowMask mask;
  Nodes nodes;

  void commit() {
    a.commit();
    weight.commit();
    active.commit();
    if (exp_avg) exp_avg->commit();
    if (exp_avg_sq) exp_avg_sq->commit();
  }
};

inline void check_like(const Tensor& t, const Tensor& a, const char* name) {
  const char* op = "nasp_step_";
  if (t.dim() != 2 || t.size(0) != a.size(0) || t.size(1) != a.size(1))
    fail(op, ": expected ", name, " of the shape of a, ", shape_text(a), ", found ", shape_text(t));
  if (t.scalar_type() != a.scalar_type())
    fail(op, ": expected ", name, " in the dtype of a, ",
         torch::headeronly::toString(a.scalar_type()), ", found ",
         torch::headeronly::toString(t.scalar_type()), "; convert it with .to(a.dtype)");
  check_device(t, a, op, name);
}

inline void check_number(const char* name, double value) {
  if (!(is_finite(value) && value >= 0))
    fail("nasp_step_: expected ", name, " to be a finite number >= 0, found ", value);
}

inline void check_numbers(const StepNumbers& n) {
  const char* op = "nasp_step_";
  if (n.step < 1) fail(op, ": expected step to count from 1, found ", n.step);
  if (!(n.beta1 >= 0 && n.beta1 < 1 && n.beta2 >= 0 && n.beta2 < 1))
    fail(op, ": expected betas in [0, 1), found (", n.beta1, ", ", n.beta2, ")");
  check_number("lr", n.lr);
  check_number("eps", n.eps);
  check_number("weight_decay", n.weight_decay);
  check_number("eta", n.eta);
}

// The constants of a step in the type of the matrix.
template <class T>
StepRule<T> checked_rule(const StepNumbers& n, bool adam) {
  check_numbers(n);
  const auto rule =
      make_step_rule<T>(adam, n.step, n.lr, n.beta1, n.beta2, n.eps, n.weight_decay, n.eta);
  if (!rule_is_finite(rule))
    fail("nasp_step_: expected lr, eps, weight_decay and eta that ",
         sizeof(T) == 4 ? "float32" : "float64", " can hold, found ", n.lr, ", ", n.eps, ", ",
         n.weight_decay, " and ", n.eta);
  return rule;
}

inline std::optional<Tensor> as_cost(const std::optional<Tensor>& cost, const Tensor& a) {
  if (!cost) return std::nullopt;
  const int64_t rows = cost->dim() == 2 ? cost->size(0) : 1;
  const bool fits = (cost->dim() == 1 || cost->dim() == 2) &&
                    cost->size(cost->dim() - 1) == a.size(1) && (rows == 1 || rows == a.size(0));
  if (!fits || cost->scalar_type() != a.scalar_type())
    fail("nasp_step_: expected cost of shape (K,) or (R, K) in the dtype of a, ", shape_text(a),
         " ", torch::headeronly::toString(a.scalar_type()), ", found ", shape_text(*cost), " ",
         torch::headeronly::toString(cost->scalar_type()));
  check_device(*cost, a, "nasp_step_", "cost");
  return as_contiguous(*cost);
}

inline StepArguments as_step_arguments(const StepCall& call) {
  const char* op = "nasp_step_";
  const Tensor &a = call.a, &weight = call.weight, &active = call.active;
  const MaybeTensor &exp_avg = call.exp_avg, &exp_avg_sq = call.exp_avg_sq;
  check_matrix(a, op);
  if (a.scalar_type() != ScalarType::Float && a.scalar_type() != ScalarType::Double)
    fail(op, ": expected a to be float32 or float64, found ",
         torch::headeronly::toString(a.scalar_type()), "; keep the architecture in float32");
  check_like(call.grad, a, "grad");
  check_like(weight, a, "weight");
  if (exp_avg.has_value() != exp_avg_sq.has_value())
    fail(op,
         ": expected exp_avg and exp_avg_sq together (Adam) or neither (plain step), found one");
  if (exp_avg) {
    check_like(*exp_avg, a, "exp_avg");
    check_like(*exp_avg_sq, a, "exp_avg_sq");
  }
  if (active.scalar_type() != ScalarType::Int || active.dim() != 1 || active.size(0) != a.size(0))
    fail(op, ": expected active to be int32 of shape (", a.size(0), ",), found ",
         torch::headeronly::toString(active.scalar_type()), " ", shape_text(active));
  check_device(active, a, op, "active");
  check_numbers(call.numbers);
  const auto costs = as_cost(call.cost, a);
  check_memory(a, weight, active, exp_avg, exp_avg_sq,
               {{"grad", call.grad}, {"cost", costs}, {"mask", call.mask}});
  InPlace work(a);
  const Rows rows = as_rows(work.tensor(), op);
  StepArguments arguments = {rows,
                             work,
                             InPlace(weight),
                             InPlace(active),
                             as_contiguous(call.grad),
                             std::nullopt,
                             std::nullopt,
                             costs,
                             costs && costs->dim() == 2 ? costs->size(0) : 1,
                             as_row_mask(call.mask, rows, op),
                             as_nodes(call.node_offsets, call.edges_per_node, rows.count, op)};
  if (exp_avg) {
    arguments.exp_avg.emplace(*exp_avg);
    arguments.exp_avg_sq.emplace(*exp_avg_sq);
  }
  return arguments;
}

}  // namespace nasp_ext
