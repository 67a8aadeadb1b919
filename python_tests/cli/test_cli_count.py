# SPDX-License-Identifier: MIT
"""``nasp-ext count``."""

from cli_calls import call, error_of

ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


def rows(printed):
    """name -> (parameters, multiply-adds)."""
    found = {}
    for line in printed.splitlines()[1:]:
        *name, parameters, multiply_adds = line.split()
        found[" ".join(name)] = (int(parameters.replace(",", "")), int(multiply_adds.replace(",", "")))
    return found


def test_parts_and_layers_add_up_to_the_total(capsys):
    argv = ["count", "--genotype", ARCH, "--channels", "16", "--cells", "17"]
    status, printed, _ = call(capsys, *argv)
    parts = rows(printed)
    assert status == 0
    assert parts["total"] == (802_426, 113_951_360)
    assert len(parts) == 1 + 17 + 2 + 1
    assert parts["cells.0 Cell"] == (3 * (9 * 16 * 16 + 32), 3 * 9 * 16 * 16 * 32 * 32)
    layers = rows(call(capsys, *argv, "--layers")[1])
    for found in (parts, layers):
        total = found.pop("total")
        assert tuple(map(sum, zip(*found.values(), strict=True))) == total
    assert layers["stem.0 Conv2d 16x32x32"] == (3 * 16 * 9, 3 * 16 * 9 * 32 * 32)


def test_a_wrong_option_is_one_line(capsys, tmp_path):
    assert "expected size >= 1, got 0" in error_of(capsys, "count", "--genotype", ARCH, "--size", "0")
    assert "found no file" in error_of(capsys, "count", "--genotype", tmp_path)
    assert "expected cells >= 3" in error_of(capsys, "count", "--genotype", ARCH, "--cells", "2")
