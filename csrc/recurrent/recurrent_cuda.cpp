// SPDX-License-Identifier: MIT
// Recurrent cells on CUDA.
#include "../core/boxed.h"
#include "../core/device.h"
#include "recurrent_backward.h"
#include "recurrent_dots.h"
#include "recurrent_forward.h"
#include "recurrent_kernel.h"

namespace nasp_ext {

template <>
class Passes<OnCuda> {
 public:
  explicit Passes(const Tensor& like) : device_(like), like_(like) {}

  void product(const Tensor& out, const Tensor* base, const Tensor& a, const Tensor& b) const {
    add_product(out, base ? *base : out, base ? 1 : 0, a, b);
  }
  template <class T>
  void node_forward(const NodeForward<T>& node, const OutputForward<T>* output) const {
    launch_node_forward(node, output, device_.stream());
  }
  template <class T>
  void output_forward(const OutputForward<T>& output) const {
    launch_output_forward(output, device_.stream());
  }
  template <class T>
  void output_backward(const OutputBackward<T>& output) const {
    launch_output_backward(output, device_.stream());
  }
  template <class T>
  void node_backward(const NodeBackward<T>& node, const OutputBackward<T>* output) const {
    launch_node_backward(node, output, device_.stream());
  }
  template <class T>
  void row_dots(const RowDots<T>& dots) const {
    if (!parts_)
      parts_ = empty_vector(like_, int64_t{kDotParts} * kNonlinearities, ScalarType::Double);
    launch_row_dots(dots, mutable_data_of<double>(*parts_), device_.stream());
  }

 private:
  const DeviceScope device_;
  const Tensor like_;
  mutable MaybeTensor parts_;  // scratch of row_dots()
};

}  // namespace nasp_ext

STABLE_TORCH_LIBRARY_IMPL(nasp_ext, NASP_DEVICE_KEY, m) {
  m.impl("recurrent_forward", NASP_BOX(&nasp_ext::recurrent_forward<nasp_ext::OnCuda>));
  m.impl("recurrent_backward", NASP_BOX(&nasp_ext::recurrent_backward<nasp_ext::OnCuda>));
  m.impl("recurrent_dots", TORCH_BOX(&nasp_ext::recurrent_dots<nasp_ext::OnCuda>));
}
