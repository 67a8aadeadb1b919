# SPDX-License-Identifier: MIT
"""Recurrent cells of the literature as data."""

from nasp_ext.families.recurrent.genotype import RecurrentGenotype

# By the names that code of the field gives them, with _rnn behind those that a convolutional cell has too;
# python_tests/nn/test_nn_recurrent.py has their parameters.
GENOTYPES = {
    # Liu, Simonyan, Yang: DARTS (ICLR 2019), first order.
    "DARTS_V1_rnn": RecurrentGenotype(
        recurrent=(
            *(("relu", 0), ("relu", 1), ("tanh", 2), ("relu", 3)),
            *(("relu", 4), ("identity", 1), ("relu", 5), ("relu", 1)),
        ),
        concat=tuple(range(1, 9)),
    ),
    # The same, second order.
    "DARTS_V2_rnn": RecurrentGenotype(
        recurrent=(
            *(("sigmoid", 0), ("relu", 1), ("relu", 1), ("identity", 1)),
            *(("tanh", 2), ("sigmoid", 5), ("tanh", 3), ("relu", 5)),
        ),
        concat=tuple(range(1, 9)),
    ),
    # Pham et al.: ENAS (ICML 2018); the mean is over its loose ends.
    "ENAS_rnn": RecurrentGenotype(
        recurrent=(
            *(("tanh", 0), ("tanh", 1), ("relu", 1), ("tanh", 3), ("tanh", 3), ("relu", 3)),
            *(("relu", 4), ("relu", 7), ("relu", 8), ("relu", 8), ("relu", 8)),
        ),
        concat=(2, 5, 6, 9, 10, 11),
    ),
}
