# SPDX-License-Identifier: MIT
"""Write nasp_ext/tasks/images/digits.npz from the digits that scikit-learn ships: python tools/make_digits.py

The counts of ink 0 … 16 become bytes 0 … 240 (times 15). Every fifth image, from the first, is a test image:
360 of 1,797; the other 1,437 train. A writer's digits are neighbours in the file, so both parts have the same
writers, as in the shuffled splits in common use; with the last 360 as the test part, accuracies are about one
point lower.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TEST_STEP = 5
TARGET = Path(__file__).parent.parent / "nasp_ext" / "tasks" / "images" / "digits.npz"


def main() -> None:
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    test = np.arange(len(images)) % TEST_STEP == 0
    np.savez_compressed(
        TARGET,
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
    )
    print(f"wrote {TARGET}: {len(images)} images, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
