// SPDX-License-Identifier: MIT
// What runs between the matrix products of a recurrent cell, on raw pointers: one pass over the
// (B, H) numbers of a node. recurrent.h says in which order; every device has them as the members
// of its Passes.
//
// The entry of a time step is a node with one term: its source is h_{t-1}, its activation tanh.
// All matrices are dense and row-major; a row of products holds [c; h], H numbers each.
#pragma once

#include <cstdint>

#include "recurrent_math.h"

namespace nasp_ext {

constexpr int kMostNodes = 32;               // of a cell: the terms of a node travel to a kernel
constexpr int kMostStates = kMostNodes + 1;  // s_0 among them

// The BN behind a node. Without given statistics those of the batch.
template <class T>
struct NormPass {
  bool exists;
  const T* mean;  // (H,), given, or null
  const T* var;   // (H,), given, or null
  T* batch;       // (2, H) mean and biased variance of the batch: written forward, read backward
  double eps;

  NASP_HOST_DEVICE bool of_batch() const { return exists && mean == nullptr; }
};

template <class T>
struct TermForward {
  const T* products;     // (B, 2H)
  const T* source;       // (B, H), not masked
  const T* coefficient;  // one number, or null = 1
  int f;                 // a Nonlinearity
};

// z = sum of coefficient * term; state = BN(z); masked = state * mask. Without terms z = 0.
template <class T>
struct NodeForward {
  int64_t batch, size;  // B, H
  TermForward<T> terms[kMostNodes];
  int count;
  NormPass<T> norm;
  const T* mask;  // (B, H), or null
  T* state;       // (B, H)
  T* masked;      // (B, H), or null without mask
};

// out = the mean of some states; entered = out * mask.
template <class T>
struct OutputForward {
  int64_t batch, size;
  const T* states[kMostStates];  // (B, H) each
  int count;                     // > 0
  const T* mask;                 // (B, H), or null
  T* out;                        // (B, H), or null in front of the first time step
  T* entered;                    // (B, H), or null: without mask, or behind the last time step
};

// share = scale * (grad + direct + through * mask), of what is not null (all null: 0): the gradient
// that each state of a mean gets, or (grad null, scale 1) that of the hidden state.
template <class T>
struct OutputBackward {
  int64_t batch, size;
  const T* grad;     // (B, H) of h_t from outside, or null
  const T* direct;   // (B, H) of h_t past the product of the next time step, or null
  const T* through;  // (B, H) of h_t * mask, or null
  const T* mask;     // (B, H), or null = 1
  T scale;
  T* share;  // (B, H)
};

template <class T>
struct TermBackward {
  const T* products;     // (B, 2H)
  const T* source;       // (B, H), not masked
  const T* coefficient;  // one number, or null = 1
  int f;
  T* grad_products;  // (B, 2H), written
  T* direct;         // (B, H), the gradient of the source past the product; null if not wanted
  bool first;        // direct is overwritten, else added to
};

// ds = share + direct + through * mask, of what is not null (all null: 0); dz = ds behind the BN;
// then the gradients of the terms.
template <class T>
struct NodeBackward {
  int64_t batch, size;
  const T* share;    // (B, H), or null
  const T* direct;   // (B, H), or null
  const T* through;  // (B, H), or null
  const T* mask;     // (B, H), or null = 1
  NormPass<T> norm;
  const T* state;  // (B, H) behind the BN: with statistics of the batch, the normalised z
  T* grad_z;       // (B, H) dz, written
  TermBackward<T> terms[kMostNodes];
  int count;
};

// sums[f] += the sum over all rows of grad * (source + sigmoid(c) (f(h) - source)), in double.
template <class T>
struct RowDots {
  int64_t rows, size;
  const T* grad;      // (rows, H)
  const T* source;    // (rows, H)
  const T* products;  // (rows, 2H)
  double* sums;       // (kNonlinearities,)
};

}  // namespace nasp_ext
