# SPDX-License-Identifier: MIT
"""The selective squared error function: its values by hand, and ASNG against SNG and Adam on a small case."""

import json
import math
import re
from xml.etree import ElementTree

import pytest
import torch

from nasp_ext.cli import main
from nasp_ext.optim import ASNG
from nasp_ext.reproduce.asng_toy import AsngToy, cost
from nasp_ext.reproduce.selective_error import SelectiveError, iterations_to_target


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(x: torch.Tensor) -> SelectiveError:
    found = SelectiveError(*x.shape[:1], x.shape[2], x.shape[1], generator())
    found._x = x.clone()
    return found


def test_values_by_hand():
    x = torch.tensor([[[0.5, 0.1], [0.25, -1.0]]])  # one run, K = 2 options, D = 2 variables
    found = problem(x)
    losses, true = found.losses(torch.tensor([[[0, 0], [1, 0], [1, 1]]]))
    # Σ x² + c / K, and the variance K⁻² of z for each of the D.
    expected = [0.25 + 0.01 + 0.5, 0.0625 + 0.01 + 0.5 + 0.5, 0.0625 + 1 + 1 + 0.5]
    torch.testing.assert_close(true, torch.tensor([expected]))
    assert found.target == 1 / 2 + 2 / 4
    assert losses.shape == (1, 3)


def test_losses_are_true_values_in_the_mean_and_share_their_noise():
    x = torch.randn(40_000, 3, 4, generator=generator(1))[:1].expand(40_000, -1, -1)
    samples = torch.tensor([[0, 1, 2, 0], [0, 1, 2, 0]]).expand(40_000, 2, 4)
    losses, true = problem(x).losses(samples)
    assert torch.equal(losses[:, 0], losses[:, 1])
    assert losses.std() > 0.3
    torch.testing.assert_close(losses.mean(), true.mean(), rtol=0.01, atol=0)


def test_only_chosen_weights_learn_and_with_momentum():
    found = problem(torch.ones(2, 3, 1))
    samples = torch.tensor([[[0], [0], [0]], [[0], [2], [0]]])
    z = SelectiveError(2, 1, 3, generator())
    z._generator.manual_seed(0)
    found._generator.manual_seed(0)
    noise = [z._noise() for _ in range(2)]
    lr = torch.tensor([0.1, 0.01])
    x, momentum = torch.ones(2, 3, 1), torch.zeros(2, 3, 1)
    for step in range(2):
        found.train(samples, lr)
        x = x.clone().requires_grad_()
        mean = (x.gather(1, samples) - noise[step]).square().mean(1).sum()
        (gradient,) = torch.autograd.grad(mean, x)
        momentum = 0.9 * momentum + gradient
        x = (x - lr[:, None, None] * momentum).detach()
        torch.testing.assert_close(found._x, x)
    assert (found._x[0, 1:] == 1).all()
    assert found._x[1, 1] == 1


def small(delta0: float, epsilon: float, iterations: int = 1500, runs: int = 6) -> torch.Tensor:
    search = ASNG([3] * 6, delta0=delta0, runs=runs, generator=generator(1), dtype=torch.float32)
    return iterations_to_target(
        SelectiveError(runs, 6, 3, generator(2)), search, torch.full((runs,), epsilon), iterations
    )


def test_a_run_is_counted_up_to_its_first_success():
    found = small(1.0, 0.05)
    assert found.isfinite().all()
    assert found.unique().numel() > 3
    assert (found >= 1).all()
    assert (found <= 1500).all()


def test_a_run_that_never_succeeds_is_infinite():
    assert small(1.0, 1e-9, iterations=50).isinf().any()


def test_cost_is_the_median_over_the_success_rate():
    assert cost([10, 20, 60]) == 20
    assert cost([10, 20, None, None]) == 30
    assert cost([None]) == math.inf


SMALL = [
    "--variables",
    "20",
    "--runs",
    "3",
    "--iterations",
    "2500",
    "--epsilons",
    "0.05",
    "--deltas",
    "1",
    "0.01",
]


def test_asng_succeeds_at_steps_at_which_adam_or_sng_fail(capsys, tmp_path):
    argv = ["reproduce", "asng-toy", *SMALL, "--out", str(tmp_path)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    rates = dict(re.findall(r"^0\.05 +(\S+) +(.*)$", out, re.M))
    found = {delta: re.sub(r"[\d,]+ \(", "(", row).split() for delta, row in rates.items()}
    assert found == {"1": ["(100%)", "(100%)", "-"], "0.01": ["(100%)", "-", "(100%)"]}
    stored = json.loads((tmp_path / "asng.json").read_text())["iterations"]
    assert len(stored) == 1
    assert [len(runs) for runs in stored[0]] == [3, 3]
    drawn = ElementTree.parse(tmp_path / "toy.svg")
    assert any(node.get("class") == "series" for node in drawn.iter())

    before = (tmp_path / "asng.json").stat().st_mtime_ns
    assert main(argv) == 0  # every method is there already
    assert capsys.readouterr().out == out
    assert (tmp_path / "asng.json").stat().st_mtime_ns == before
    assert main([*argv, "--seed", "1"]) == 2
    assert "expected results of these settings" in capsys.readouterr().err


def test_every_alpha_is_a_series_of_its_own(capsys, tmp_path, monkeypatch):
    argv = ["reproduce", "asng-toy", *SMALL, "--methods", "asng", "--out", str(tmp_path)]
    assert main(argv) == 0
    alone = (tmp_path / "asng.json").read_text()
    capsys.readouterr()
    made = []
    start = ASNG.__init__

    def counted(self, *args, **options):
        made.append(options["alpha"])
        start(self, *args, **options)

    monkeypatch.setattr(ASNG, "__init__", counted)
    assert main([*argv, "--alphas", "1.1", "1.5", "4"]) == 0
    out = capsys.readouterr().out
    assert made == [1.1, 4.0]  # that of 1.5 is there
    assert re.search(r"^epsilon +delta0 +asng-alpha-1.1 +asng +asng-alpha-4.0$", out, re.M)
    assert (tmp_path / "asng.json").read_text() == alone
    found = [
        json.loads((tmp_path / f"asng{name}.json").read_text()) for name in ("", "-alpha-1.1", "-alpha-4.0")
    ]
    assert [one["settings"].pop("alpha", None) for one in found] == [None, 1.1, 4.0]
    assert found[0]["settings"] == found[1]["settings"] == found[2]["settings"]
    assert len({str(one["iterations"]) for one in found}) == 3
    assert "asng-alpha-4.0" in (tmp_path / "toy.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alphas", "1"], "expected alphas > 1, got (1.0,)"),
        (["--alphas", "2", "2"], "expected different alphas"),
        (["--alphas", "2", "--methods", "sng"], "expected asng among the methods"),
        (["--methods", "asng", "newton"], "expected methods among asng, sng, adam, got newton"),
        (["--deltas", "1", "1"], "expected different deltas > 0"),
        (["--epsilons", "-1"], "expected different epsilons > 0"),
        (["--options", "1"], "expected options >= 2, got 1"),
        (["--runs", "0"], "expected runs >= 1, got 0"),
        (["--threads", "0"], "expected threads >= 1"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(capsys, tmp_path, options, message):
    assert main(["reproduce", "asng-toy", *options, "--out", str(tmp_path / "new")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_no_success_at_all_is_told():
    with pytest.raises(ValueError, match="expected a success to draw, got none in 5 iterations"):
        AsngToy(iterations=5)._drawing({"asng": [[[None]] * 7] * 2})
