// SPDX-License-Identifier: MIT
// One element of the architecture update (Yao et al. 2020, Alg. 2, step 4): regulariser gradient
// (eq. 8), weight decay, Adam (Kingma & Ba 2015, in the order of operations of torch.optim.Adam) or
// a plain step, and the clip to [0, 1]. Elements are independent: bit-equal on every device.
#pragma once

#include <cmath>

#include "../core/host_device.h"

namespace nasp_ext {

// The call's constants, computed once on the host in double and rounded to the arithmetic's type.
template <class Acc>
struct StepRule {
  Acc step_size;        // Adam: lr / (1 - beta1^t); plain: lr
  Acc one_minus_beta1;  // weight of the new gradient in the first moment
  Acc beta2;
  Acc one_minus_beta2;
  Acc root_correction;  // sqrt(1 - beta2^t)
  Acc eps;
  Acc weight_decay;
  Acc regulariser;  // 2 eta
};

template <class Acc>
inline StepRule<Acc> make_step_rule(bool adam, int64_t step, double lr, double beta1, double beta2,
                                    double eps, double weight_decay, double eta) {
  StepRule<Acc> rule;
  rule.step_size = Acc(adam ? lr / (1.0 - std::pow(beta1, double(step))) : lr);
  rule.one_minus_beta1 = Acc(1.0 - beta1);
  rule.beta2 = Acc(beta2);
  rule.one_minus_beta2 = Acc(1.0 - beta2);
  rule.root_correction = Acc(std::sqrt(1.0 - std::pow(beta2, double(step))));
  rule.eps = Acc(eps);
  rule.weight_decay = Acc(weight_decay);
  rule.regulariser = Acc(2.0 * eta);
  return rule;
}

// Every number may be finite in double and still overflow in the type of the matrix.
template <class Acc>
inline bool rule_is_finite(const StepRule<Acc>& rule) {
  return is_finite(rule.step_size) && is_finite(rule.eps) && is_finite(rule.weight_decay) &&
         is_finite(rule.regulariser);
}

// g + 2 eta cost weight + weight_decay a. cost = 0 where there is no regulariser. Finite only if
// all of them are: even a weight of zero makes a NaN of an infinity.
template <class Acc>
NASP_HOST_DEVICE Acc full_gradient(const StepRule<Acc>& rule, Acc grad, Acc a, Acc weight,
                                   Acc cost) {
  return (grad + rule.regulariser * cost * weight) + rule.weight_decay * a;
}

template <class Acc>
NASP_HOST_DEVICE void adam_moments(const StepRule<Acc>& rule, Acc grad, Acc& exp_avg,
                                   Acc& exp_avg_sq) {
  const Acc change = grad - exp_avg;
  exp_avg = rule.one_minus_beta1 < Acc(0.5) ? exp_avg + rule.one_minus_beta1 * change
                                            : grad - change * (Acc(1) - rule.one_minus_beta1);
  exp_avg_sq = exp_avg_sq * rule.beta2 + rule.one_minus_beta2 * grad * grad;
}

// Whether Adam gives a number and finite moments; `grad` is the full gradient. Only 0 / 0 is left
// to make a NaN of finite numbers: a moment of zero without an eps. Bitwise operators: no branch,
// so that loops over it become vector code.
template <class Acc>
NASP_HOST_DEVICE bool adam_holds(const StepRule<Acc>& rule, Acc grad, Acc exp_avg, Acc exp_avg_sq) {
  const bool negative = !(exp_avg_sq >= Acc(0));
  adam_moments(rule, grad, exp_avg, exp_avg_sq);
  const bool zero_by_zero =
      (rule.eps == Acc(0)) & (exp_avg_sq == Acc(0)) & (rule.step_size * exp_avg == Acc(0));
  return is_finite(grad) & is_finite(exp_avg) & is_finite(exp_avg_sq) & !negative & !zero_by_zero;
}

// Updates the two moments and returns the new, clipped entry.
template <class Acc>
NASP_HOST_DEVICE Acc adam_step(const StepRule<Acc>& rule, Acc a, Acc grad, Acc& exp_avg,
                               Acc& exp_avg_sq) {
  adam_moments(rule, grad, exp_avg, exp_avg_sq);
  const Acc denominator = std::sqrt(exp_avg_sq) / rule.root_correction + rule.eps;
  return clip01(a + -rule.step_size * exp_avg / denominator);
}

template <class Acc>
NASP_HOST_DEVICE Acc plain_step(const StepRule<Acc>& rule, Acc a, Acc grad) {
  return clip01(a + -rule.step_size * grad);
}

}  // namespace nasp_ext
