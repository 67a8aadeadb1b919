// SPDX-License-Identifier: MIT
// Every operator of the library. Each is implemented for the CPU in csrc/<family>/*_cpu.cpp and for
// CUDA in csrc/<family>/*_cuda.cpp; nasp_ext/ops/ documents them and adds autograd and fake
// kernels.
//
// mask: contiguous bool, (M, K) where M divides the number of rows of `a`: row r reads mask row r %
// M. seed: None breaks exact ties by the lowest index, a number by a hash (csrc/prox/prox_math.h).
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(nasp_ext, m) {
  // (..., R, K) -> values (..., R, K), index (..., R) int64.
  m.def("prox_c(Tensor a, Tensor? mask, int? seed) -> (Tensor values, Tensor index)");
  m.def("prox_c1(Tensor a, Tensor? mask, int? seed) -> (Tensor values, Tensor index)");
  m.def("prox_c2(Tensor a, Tensor? mask) -> Tensor");
  // (R, K) -> weight (R, K), active (R,) int32.
  m.def(
      "select_active(Tensor a, int[]? node_offsets, int? edges_per_node, Tensor? mask, "
      "bool keep_value, int? seed) -> (Tensor weight, Tensor active)");
  // All tensors but cost (broadcast to (R, K) by its size: K or R*K) and mask are (R, K) or,
  // active, (R,).
  m.def(
      "nasp_step_(Tensor(a!) a, Tensor grad, Tensor(b!) weight, Tensor(c!) active, "
      "Tensor(d!)? exp_avg, Tensor(e!)? exp_avg_sq, int step, float lr, float beta1, float beta2, "
      "float eps, float weight_decay, Tensor? cost, float eta, int[]? node_offsets, "
      "int? edges_per_node, Tensor? mask, bool keep_value, int? seed) -> ()");
  // <grad, outputs[k]> -> (K,), float32 for half inputs.
  m.def("branch_dots(Tensor grad, Tensor[] outputs) -> Tensor");
  // sum_k weights[k] outputs[k]; weights in the arithmetic type of the outputs.
  m.def("mixed_sum(Tensor[] outputs, Tensor weights) -> Tensor");
  // One pass over grad: the gradient of every output, and of the weights.
  m.def(
      "mixed_sum_backward(Tensor grad, Tensor[] outputs, Tensor weights) "
      "-> (Tensor[] grad_outputs, Tensor grad_weights)");
}
