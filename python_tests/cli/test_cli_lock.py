# SPDX-License-Identifier: MIT
"""Every command that writes into a folder leaves one alone in which another one is at work."""

import os

import pytest
from cli_calls import RETRAIN, SEARCH, SIZES, SPACE, error_of

from nasp_ext.cli import main
from nasp_ext.engine.lock import LOCK, locked_folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lock") / "search"
    assert main([*SEARCH, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "argv",
    [
        SEARCH,
        [*SEARCH, "--resume"],
        [*SEARCH, "--overwrite"],
        [*RETRAIN, "--genotype", "DARTS_V2", "--overwrite"],
        ["derive", "--run", "SEARCHED"],
        ["plot", "--genotype", "DARTS_V2"],
        ["compare", "--space", SPACE, "--epochs", "1", "--strategies", "random", *SIZES],
        ["reproduce", "nasp-eta", "--limit", "200"],
        ["reproduce", "asng-toy", "--runs", "1", "--iterations", "1"],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_a_folder_in_use_is_refused_and_left_as_it_is(capsys, tmp_path, searched, argv):
    argv = [str(searched) if word == "SEARCHED" else word for word in argv]
    with locked_folder(tmp_path):
        message = error_of(capsys, *argv, "--out", tmp_path)
        assert f"found process {os.getpid()} at work in it" in message
        assert [file.name for file in tmp_path.iterdir()] == [LOCK]
