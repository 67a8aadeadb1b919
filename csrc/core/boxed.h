// SPDX-License-Identifier: MIT
// An operator of many arguments, as a function of one: NASP_BOX(&f) for f(const Call&), where
// Call::fields() ties the members of a call together in the order of its schema. Nothing else
// spells that order out, and the arguments leave PyTorch's stack once.
#pragma once

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <utility>

namespace nasp_ext {

template <class Function, Function kFunction>
struct Boxed;

template <class Result, class Call, Result (*kFunction)(const Call&)>
struct Boxed<Result (*)(const Call&), kFunction> {
  template <class Fields>
  struct Unboxed;
  template <class... Field>
  struct Unboxed<std::tuple<Field&...>> {
    static Result run(Field&... field) {
      Call call{};
      call.fields() = std::forward_as_tuple(std::move(field)...);
      return kFunction(call);
    }
  };
  using Entry = Unboxed<decltype(std::declval<Call&>().fields())>;
};

}  // namespace nasp_ext

#define NASP_BOX(function) TORCH_BOX((&nasp_ext::Boxed<decltype(function), function>::Entry::run))
