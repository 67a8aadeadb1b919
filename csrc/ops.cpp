// SPDX-License-Identifier: MIT
// Every operator of the library. Each is implemented for the CPU in csrc/<family>/*_cpu.cpp and for
// CUDA in csrc/<family>/*_cuda.cpp; nasp_ext/ops/ documents them and adds autograd and fake
// kernels.
//
// mask: contiguous bool, (M, K) where M divides the number of rows of `a`: row r reads mask row r %
// M. seed: None breaks exact ties by the lowest index, a number by a hash (csrc/core/ties.h).
#include "core/tensors.h"

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
  // Below: images are (N, C, H, W) in channels_last memory, or slices of the channels of such; norm
  // is (5, C): mean, biased variance, 1 / std, scale, shift of a BN, or empty where there is none;
  // sums are (2, C) float64: of the gradient, and of the gradient times the normalised value.
  //
  // New memory of this size, kept when the images are gone; and all that is kept, given back.
  m.def("empty_images(Tensor like, int[] size) -> Tensor");
  m.def("release_memory() -> int");
  // z = convolution(relu(in_norm(x))), and the norm of z: of the batch, or of mean and var if
  // given. products: 1 tensor, or the 2 of a FactorizedReduce. geometry: kernel, stride, padding,
  // dilation, each height before width.
  m.def(
      "block_forward(Tensor x, Tensor? in_norm, Tensor? depthwise, Tensor[] products, "
      "int[] geometry, bool relu, bool norm, Tensor? weight, Tensor? bias, Tensor? mean, "
      "Tensor? var, float eps) -> (Tensor z, Tensor norm)");
  // out, if given, becomes base + the gradient of x; with in_norm, in_sums are the sums for that
  // BN.
  m.def(
      "block_backward(Tensor grad, Tensor? factors, Tensor sums, Tensor z, Tensor norm, "
      "bool batch_stats, Tensor x, Tensor? in_norm, Tensor? depthwise, Tensor[] products, "
      "int[] geometry, bool relu, bool need_weights, Tensor(a!)? out, Tensor? base) "
      "-> (Tensor in_sums, Tensor grad_depthwise, Tensor[] grad_products)");
  m.def(
      "pool_forward(Tensor x, bool max, int kernel_size, int stride, bool norm, Tensor? weight, "
      "Tensor? bias, Tensor? mean, Tensor? var, float eps) -> (Tensor z, Tensor norm)");
  m.def(
      "pool_backward_(Tensor grad, Tensor? factors, Tensor sums, Tensor z, Tensor norm, "
      "bool batch_stats, Tensor x, bool max, int kernel_size, int stride, Tensor(a!) out, "
      "Tensor? base) -> ()");
  // out = base + sum_e factors[e, n] * norms[e](terms[e]); factors: (E, N), none = 1. base may be
  // `out`.
  m.def(
      "node_sum_(Tensor(a!) out, Tensor[] terms, Tensor[] norms, Tensor? factors, Tensor? base) "
      "-> ()");
  // (E, 2, C) float64: the sums of factors[e] * grad for each term.
  m.def(
      "node_gradient_sums(Tensor grad, Tensor[] terms, Tensor[] norms, Tensor? factors) -> Tensor");
  // Of the fused operators on the CPU: 0 = any processor, 1 = AVX2, 2 = AVX-512. Uses none above
  // `most` from now on (-1 changes nothing) and returns the one in use; for tests.
  m.def("instruction_set(int most) -> int");
  // <grads[edge], O(x)> of every option of the program, see csrc/program/source_program.h.
  m.def(
      "source_dots(Tensor x, Tensor[] grads, int[] program, Tensor[] weights, "
      "Tensor(a!)[] statistics, float[] numbers) -> Tensor");
  // The running statistics of B BNs, from their norms of a batch.
  m.def(
      "update_statistics_(Tensor(a!)[] means, Tensor(b!)[] variances, Tensor(c!)[] batches, "
      "Tensor[] norms, int[] counts, float[] momenta) -> ()");
  // A cell with one choice of options, see csrc/program/cell_program.h; size: channels, height,
  // width of a node. Returns the output, then what the backward needs.
  m.def(
      "cell_forward(Tensor[] inputs, int[] program, Tensor[] weights, Tensor(a!)[] statistics, "
      "float[] numbers, Tensor? factors, int[] size) -> Tensor[]");
  // Of each state the dots of its options, of each node the sums of its edges, the gradients of the
  // inputs and of the weights; empty where there is none. See csrc/program/cell_sources.h.
  m.def(
      "cell_backward(Tensor grad, Tensor[] inputs, Tensor[] kept, int[] program, Tensor[] weights, "
      "float[] numbers, Tensor? factors, bool weighted, bool need_weights, int[] need_inputs, "
      "int[] sources, Tensor[] source_weights, Tensor(a!)[] source_statistics, "
      "float[] source_numbers) -> Tensor[]");
  // A recurrent cell of N nodes over T time steps. projected: (T, B, 2H); hidden: (B, H); entry and
  // weights: (H, 2H); mask: (B, H); terms: node, source, activation each, sorted by node. states,
  // masked: (N + 1, T, B, H); entered: (T, B, H); products: (P + 1, T, B, 2H); norms: (T, N + 1, 2,
  // H); no elements where there are none, or where nothing is to be kept.
  m.def(
      "recurrent_forward(Tensor projected, Tensor hidden, Tensor entry, Tensor[] weights, "
      "Tensor? mask, int[] terms, Tensor? coefficients, int[] outputs, bool norm, Tensor? mean, "
      "Tensor? var, float eps, bool keep) -> (Tensor out, Tensor states, Tensor masked, "
      "Tensor entered, Tensor products, Tensor norms)");
  m.def(
      "recurrent_backward(Tensor grad, Tensor hidden, Tensor entry, Tensor[] weights, "
      "Tensor? mask, int[] terms, Tensor? coefficients, int[] outputs, bool norm, Tensor? mean, "
      "Tensor? var, float eps, Tensor out, Tensor states, Tensor masked, Tensor entered, "
      "Tensor products, Tensor norms, bool need_inputs, bool need_weights, bool need_nodes) "
      "-> (Tensor grad_projected, Tensor grad_hidden, Tensor grad_entry, Tensor grad_weights, "
      "Tensor grad_nodes)");
  // Of each pair of a node i and a source j < i the inner products of grad_nodes with the term of
  // every activation: (N (N + 1) / 2, 4), in row (i - 1) i / 2 + j.
  m.def(
      "recurrent_dots(Tensor grad_nodes, Tensor states, Tensor masked, Tensor products, "
      "Tensor[] weights, int[] terms) -> Tensor");
}

// PyTorch would hand a tensor with a lazy sign to an operator as a copy, and what the operator
// writes would be lost.
namespace nasp_ext {
namespace {

void refuse_lazy_sign(StableIValue*, uint64_t, uint64_t) {
  fail("expected tensors without a lazy negative sign where an operator changes its arguments, ",
       "found one; call .resolve_neg()");
}

}  // namespace
}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, Negative, m) {
  m.impl("nasp_step_", &nasp_ext::refuse_lazy_sign);
  m.impl("block_backward", &nasp_ext::refuse_lazy_sign);
  m.impl("pool_backward_", &nasp_ext::refuse_lazy_sign);
  m.impl("node_sum_", &nasp_ext::refuse_lazy_sign);
  m.impl("source_dots", &nasp_ext::refuse_lazy_sign);
  m.impl("update_statistics_", &nasp_ext::refuse_lazy_sign);
  m.impl("cell_forward", &nasp_ext::refuse_lazy_sign);
  m.impl("cell_backward", &nasp_ext::refuse_lazy_sign);
}
