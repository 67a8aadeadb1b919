# SPDX-License-Identifier: MIT
"""The report on tiny sizes: rows, ratios, JSON, options."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cases.steps import sizes_of
from benchmarks.framework import Settings
from benchmarks.memory import peak_of
from benchmarks.report import Options, main
from benchmarks.timing import Timing, measure

(SMALL,) = sizes_of(Settings(quick=True))


def test_report_prints_every_variant_and_saves_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "figures.json"
    rows = main(Options(quick=True, only=("prox_c 14x8",), rounds=3, seconds=0, out=out))
    assert [row.variant for row in rows] == [
        "prox_c",
        "composite",
        "lean composite",
        "reference",
        "compiled composite",
    ]
    assert rows[0].ratio == 1
    assert rows[1].ratio == rows[1].median / rows[0].median
    saved = json.loads(out.read_text())
    assert [row["median"] for row in saved["rows"]] == [row.median for row in rows]
    assert {"device", "threads", "torch", "commit"} <= saved["machine"].keys()
    printed = capsys.readouterr().out
    assert "not run: not compiled in a quick run" in printed
    assert all(row.variant in printed for row in rows)


def test_phases_are_timed_in_turn_and_summed() -> None:
    calls: list[str] = []

    def phase(name: str) -> Callable[[], object]:
        return lambda: calls.append(name)

    variants = {name: {number: phase(name + number) for number in ("1", "2")} for name in "ab"}
    timings = measure(variants, rounds=4, seconds=60.0, device="cpu")
    assert set(timings) == {(name, phase) for name in "ab" for phase in ("1", "2", "iteration")}
    assert {timing.samples for timing in timings.values()} == {4}
    timed = [key for key, following in zip(calls, [*calls[1:], ""], strict=True) if key != following]
    assert timed[-16:] == ["a1", "a2", "b1", "b2", "b1", "b2", "a1", "a2"] * 2


def test_a_slow_variant_leaves_after_three_samples() -> None:
    timings = measure({"slow": {"": lambda: None}}, rounds=9, seconds=0.0, device="cpu")
    assert timings["slow", ""].samples == 3


def test_quartiles_enclose_the_median() -> None:
    assert Timing.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(3.0, 2.0, 4.0, 5)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc/self/clear_refs here")
def test_peak_memory_is_measured_in_another_process() -> None:
    peak = peak_of("authors' NASP", "architecture step", "cpu", SMALL)
    assert 0 < peak < 2**30


def test_a_failing_measurement_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="the measuring process failed"):
        peak_of("no such method", "weight step", "cpu", SMALL)


@pytest.mark.parametrize(
    "wrong", [{"rounds": 2}, {"batch": (1,)}, {"device": "tpu"}, {"threads": -1}, {"edges": (-1,)}]
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Options(**wrong)  # type: ignore[arg-type]  # wrong on purpose
