// SPDX-License-Identifier: MIT
// Kernels with a planted fault each: the emulator must catch them all.
#pragma once
#include <cstdint>

#include "../core/stream.h"

namespace nasp_ext::faults {

// `data` holds kSize floats; each function launches one kernel.
constexpr int kSize = 256;
void half_block_at_barrier(float* data, stream_t stream);
void two_barriers_at_once(float* data, stream_t stream);
void exit_before_barrier(float* data, stream_t stream);
void global_out_of_bounds(float* data, stream_t stream);
void shared_out_of_bounds(float* data, stream_t stream);
void missing_barrier(float* data, stream_t stream);
void shared_reused_too_early(float* data, stream_t stream);
void blocks_race(float* data, stream_t stream);
void shuffle_from_exited_lane(float* data, stream_t stream);
void divergent_shuffles(float* data, stream_t stream);
void uninitialised_shared(float* data, stream_t stream);
void misaligned_vector(float* data, stream_t stream);
void dynamic_shared_too_small(float* data, stream_t stream);
void order_of_float_atomics(const float* terms, float* sum, stream_t stream);

}  // namespace nasp_ext::faults
