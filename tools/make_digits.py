# SPDX-License-Identifier: MIT
"""Write nasp_ext/data/digits.npz from the digits that scikit-learn ships: python tools/make_digits.py

The counts of ink 0 … 16 become bytes 0 … 240 (times 15). The split is the first 1,437 images for training and
the last 360 for testing, in file order: a writer's digits are neighbours, so the test part has other writers,
which makes it a harder and more honest test than a shuffled one.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TRAIN = 1437
TARGET = Path(__file__).parent.parent / "nasp_ext" / "data" / "digits.npz"


def main() -> None:
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    np.savez_compressed(
        TARGET,
        train_images=images[:TRAIN],
        train_labels=labels[:TRAIN],
        test_images=images[TRAIN:],
        test_labels=labels[TRAIN:],
    )
    print(f"wrote {TARGET}: {len(images)} images, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
