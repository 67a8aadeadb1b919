// SPDX-License-Identifier: MIT
// Launchers of the passes of a recurrent cell on the device, on raw pointers.
#pragma once

#include "../core/stream.h"
#include "passes.h"

namespace nasp_ext {

// At least one row and one channel, here and below. output: null, or what follows the last node of
// a time step in the same launch.
template <class T>
void launch_node_forward(const NodeForward<T>& node, const OutputForward<T>* output,
                         stream_t stream);

// output: null, or what precedes the last node of a time step in the same launch.
template <class T>
void launch_node_backward(const NodeBackward<T>& node, const OutputBackward<T>* output,
                          stream_t stream);

// The same alone.
template <class T>
void launch_output_forward(const OutputForward<T>& output, stream_t stream);
template <class T>
void launch_output_backward(const OutputBackward<T>& output, stream_t stream);

constexpr int kDotParts = 256;  // thread blocks at most that add up a dot

// parts: scratch, (kDotParts, kNonlinearities). Two launches: sums of thread blocks, then of those.
template <class T>
void launch_row_dots(const RowDots<T>& d, double* parts, stream_t stream);

}  // namespace nasp_ext
