# SPDX-License-Identifier: MIT
"""One file for each command, one table of them, and no setting that is written twice by hand."""

import ast
import dataclasses
import importlib
from pathlib import Path

import pytest
from cli_calls import SEARCH, call, error_of

from nasp_ext import cli, commands
from nasp_ext.commands.command import Command, Group
from nasp_ext.commands.flags import field_texts, flags_of, with_values
from nasp_ext.commands.parsing import parse, value_of
from nasp_ext.engine.options import every_flag, own_options
from nasp_ext.engine.settings import (
    RetrainRun,
    SearchRun,
    SpaceSettings,
    StrategySettings,
    TaskSettings,
    hiding,
)
from nasp_ext.engine.strategy_list import StrategyList
from nasp_ext.reproduce import EXPERIMENTS
from nasp_ext.strategies import names
from nasp_ext.strategies.base import _FACTORIES, register_strategy
from nasp_ext.strategies.random import RandomStrategy
from nasp_ext.tasks.registry import _KINDS, register_task

FOLDER = Path(commands.__file__).parent
PARSED = {name: found.options for name, found in cli.COMMANDS.items() if isinstance(found, Command)}
PARSED |= {f"reproduce {name}": kind for name, kind in EXPERIMENTS.items()}


def test_each_command_has_a_file_of_its_name_and_the_table_has_all():
    files = [file.stem for file in sorted(FOLDER.glob("*.py")) if file.stem != "__init__"]
    modules = {name: importlib.import_module(f"nasp_ext.commands.{name}") for name in files}
    found = {name: module.COMMAND for name, module in modules.items() if hasattr(module, "COMMAND")}
    assert dict(cli.COMMANDS) == found
    assert all(isinstance(one, Command | Group) and one.name == name for name, one in found.items())


@pytest.mark.parametrize("name", PARSED)
def test_no_two_settings_of_a_command_share_a_flag(name):
    flags = [flag.name for flag in flags_of(PARSED[name]())]
    assert len(set(flags)) == len(flags)


def dataclass_fields(tree: ast.Module) -> list[str]:
    """The annotated names with a default, as options have one, in the dataclasses of a file."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    kinds = [one for one in classes if any("dataclass" in ast.unparse(word) for word in one.decorator_list)]
    targets = [
        node.target for one in kinds for node in one.body if isinstance(node, ast.AnnAssign) and node.value
    ]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_no_setting_of_a_run_is_written_again_in_a_command_or_an_experiment():
    own = set(SearchRun().flat()) | set(RetrainRun().flat()) | every_flag()
    # What these count is not a training: a network, a table, the draws of a distribution.
    others = {"count.py", "lookup.py", "plot.py", "asng_toy.py", "asng_nasbench201.py", "results.py"}
    files = [*FOLDER.glob("*.py"), *(FOLDER.parent / "reproduce").glob("*.py")]
    twice = {
        file.name: both
        for file in files
        if file.name not in others and (both := own & set(dataclass_fields(ast.parse(file.read_text()))))
    }
    assert twice == {}


def test_every_flag_of_every_command_says_what_it_is():
    for kind in PARSED.values():
        assert not [flag.name for flag in flags_of(kind()) if not flag.help]


@pytest.mark.parametrize("name", names())
def test_options_of_a_strategy_become_flags_of_their_own(name):
    flags = {flag.name: flag for flag in flags_of(StrategySettings(name))}
    assert {option.flag for option in own_options(name).values()} <= set(flags)
    given = {flag.name: flag.default for flag in flags.values()}
    assert with_values(StrategySettings(name), given) == StrategySettings(name)


def test_a_strategy_of_ones_own_brings_its_flags(capsys):
    class Own(RandomStrategy):
        """Args:
        warmth: how warm.
        """

        def __init__(self, space, *, warmth: float = 0.5, weight_decay: float = 0.0, seed: int | None = None):
            super().__init__(space, seed=seed)

    register_strategy("own", Own)
    try:
        found = parse(
            SearchRun(strategy=StrategySettings("own")),
            "search",
            ["--warmth", "2", "--arch-weight-decay", "0.1", "--weight-decay", "0.2"],
        )
        assert dict(found.strategy.options) == {"warmth": 2.0, "weight_decay": 0.1}
        assert found.weight_decay == 0.2
        assert "'own' has no option eta" in error_of(capsys, "search", "--strategy", "own", "--eta", "1")
    finally:
        del _FACTORIES["own"]


def test_a_task_of_ones_own_brings_its_flags(capsys):
    @dataclasses.dataclass(frozen=True)
    class Signals:
        length: int = 16

        def suggested(self, kind):
            return {"epochs": 3, "arch_lr": 0.5, "auxiliary": 0.1} if kind == "search" else {}

    def make(settings):
        raise ValueError(f"made for {settings.length}")

    register_task("signals", Signals, make)
    try:
        assert "made for 8" in error_of(capsys, "search", "--task", "signals", "--length", "8")
        assert "--limit" in error_of(capsys, "search", "--task", "signals", "--limit", "8")
        start = cli.COMMANDS["search"].start(["--task", "signals"]).run
        assert (start.epochs, start.strategy.options["lr"]) == (3, 0.5)
        assert SearchRun.from_json(start.to_json()) == start
    finally:
        del _KINDS["signals"]


def test_an_unknown_task_is_told_with_the_list(capsys):
    assert "one of images" in error_of(capsys, *SEARCH, "--task", "cooking")


def test_hidden_settings_are_no_flags_and_stay():
    @dataclasses.dataclass(frozen=True)
    class Both:
        run: SearchRun = dataclasses.field(
            default=SearchRun(seed=3), metadata=hiding("seed", groups=("strategy",))
        )

    flags = {flag.name for flag in flags_of(Both())}
    assert not flags & {"seed", "strategy", "eta"}
    assert {"epochs", "data", "space"} <= flags
    changed = with_values(Both(), {"seed": 5, "strategy": "random", "epochs": 7}).run
    assert (changed.seed, changed.strategy.name, changed.epochs) == (3, "nasp", 7)


def test_a_list_of_strategies_gives_each_what_it_has():
    listed = StrategyList(("nasp", "random"), {"arch_lr": "0.5"})
    changed = with_values(listed, {"strategies": ("pa", "random"), "init": "0.25", "arch_lr": "None"})
    assert changed.settings("pa").options["init"] == 0.25
    assert changed.settings("pa").options["lr"] == own_options("pa")["lr"].default
    assert "init" not in changed.settings("random").options


def test_strings_under_fields_are_their_help():
    assert field_texts(SpaceSettings)["name"] == "Search space."
    assert "Passes over" in field_texts(SearchRun)["epochs"]


def test_flags_and_names_of_options_set_the_same(capsys):
    one = parse(SearchRun(), "search", ["--arch-lr", "0.2"])
    assert parse(SearchRun(), "search", ["--strategy-options", "lr=0.2"]) == one
    assert one.strategy.options["lr"] == 0.2


def test_compare_has_pa_among_its_strategies(capsys):
    with pytest.raises(SystemExit):
        call(capsys, "compare", "--help")
    assert "(default: nasp pa darts random)" in " ".join(capsys.readouterr().out.replace("│", "").split())


def test_settings_of_a_task_are_of_its_class():
    with pytest.raises(ValueError, match="settings of task 'images' to be a ImageSettings, got 3"):
        TaskSettings("images", 3)


@pytest.mark.parametrize("name", ["search", "retrain", "compare"])
def test_a_command_starts_without_a_word(name):
    command = cli.COMMANDS[name]
    assert parse(command.start([]), name, []) == command.start([])
    assert value_of([], "--data") is None


def test_values_of_a_list_come_with_an_equals_sign_too():
    start = cli.COMMANDS["search"].start(["--strategy", "asm"])
    for words in (["--reductions=1,2"], ["--reductions", "1,2"], ["--reductions", "1,", "2"]):
        assert parse(start, "search", ["--strategy", "asm", *words]).run.space.reductions == (1, 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("search", ["--strategy-options", "eta=0.1", "--strategy-options=lr=0.2"]),
        ("compare", ["--strategies", "nasp", "--strategies", "darts"]),
        ("compare", ["--seeds=0", "--seeds", "1"]),
    ],
)
def test_a_list_that_is_given_twice_is_refused(name, words):
    with pytest.raises(ValueError, match="once, with all its values behind it, got it twice"):
        parse(cli.COMMANDS[name].start(words), name, words)


def test_none_is_no_configuration_file_and_no_resume_reads_none(tmp_path):
    start = cli.COMMANDS["search"].start
    assert start(["--config-file", "None"]) == start([])
    (tmp_path / "config.json").write_text(SearchRun(epochs=3).to_json())
    out = ["--out", str(tmp_path)]
    assert start([*out, "--resume"]).run.epochs == 3
    assert start([*out, "--resume", "--no-resume"]) == start([])
