# SPDX-License-Identifier: MIT
"""The command ``nasp-ext``: parse, build, call."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from nasp_ext import config as settings
from nasp_ext._command import loud_interrupts
from nasp_ext.arch.genotype import AnyGenotype
from nasp_ext.checks import shown
from nasp_ext.commands.compare import compare
from nasp_ext.commands.count import count
from nasp_ext.commands.info import Info, info
from nasp_ext.commands.lookup import lookup, print_lookup, table_for
from nasp_ext.commands.parsing import parse, value_of
from nasp_ext.commands.plot import Plot, plot
from nasp_ext.commands.reproduce import reproduce
from nasp_ext.engine import derive_run, read_genotype, retrain, search
from nasp_ext.engine.build import build_strategy, search_space
from nasp_ext.engine.folder import CONFIG, check_output
from nasp_ext.tasks.images.load import load_data
from nasp_ext.tasks.images.task import ClassificationTask

_R = TypeVar("_R", bound=settings.TrainingConfig)


@dataclass(frozen=True)
class Search(settings.SearchRun):
    """Search cells on a data set; without options, on the embedded handwritten digits."""

    out: str = "runs/search"
    """Output folder."""
    resume: bool = False
    """Go on from the checkpoint in the output folder, with its options."""
    overwrite: bool = False
    """Replace another run in the output folder."""
    config_file: str | None = None
    """Take the options of this config.json; options on the command line come on top."""
    table: str | None = None
    """CSV file of trained cells: print what it says of the cell found and of those on the way."""


@dataclass(frozen=True)
class Retrain(settings.RetrainRun):
    """Train the network of a genotype from scratch and test it."""

    out: str = "runs/retrain"
    """Output folder."""
    resume: bool = False
    """Go on from the checkpoint in the output folder, with its options."""
    overwrite: bool = False
    """Replace another run in the output folder."""
    config_file: str | None = None
    """Take the options of this config.json; options on the command line come on top."""


@dataclass(frozen=True)
class Derive:
    """Read the genotype out of a search, finished or not, and test the network with the search's weights."""

    run: str = "runs/search"
    """Folder of the search."""
    out: str | None = None
    """Folder for genotype.json, derived.pt (weights) and the cell drawings; None only prints."""


def _task(run: settings.SearchRun | settings.RetrainRun) -> ClassificationTask:
    return ClassificationTask(load_data(run.data, run.data_dir, run.limit))


def _search(command: Search) -> None:
    run = _plain(settings.SearchRun, command)
    check_output(Path(command.out), resume=command.resume, overwrite=command.overwrite)
    found = search_space(run)  # an unknown name is told before the data are read
    known = None if command.table is None else table_for(found, command.table)
    task = _task(run)
    result = search(
        found,
        build_strategy(run, found, task),
        task,
        run,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        progress=True,
    )
    _print_genotype(result.genotype)
    last = result.history[-1]
    mixture = "" if last["mixture_accuracy"] is None else f" (mixture {last['mixture_accuracy']:.2%})"
    print(f"validation accuracy of the supernet: {last['val_accuracy']:.2%}{mixture}")
    if known is not None:
        print_lookup(known, result.genotype, result.history)
    _print_files(result.files)
    print(f"next: nasp-ext retrain --genotype {command.out} --data {run.data}")


def _retrain(command: Retrain) -> None:
    run = _plain(settings.RetrainRun, command)
    check_output(Path(command.out), resume=command.resume, overwrite=command.overwrite)
    genotype = read_genotype(run.genotype)
    result = retrain(
        genotype,
        _task(run),
        run,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        progress=True,
    )
    _print_genotype(genotype)
    _print_files(result.files)
    print(f"parameters: {result.parameters:,}")
    print(f"test accuracy: {result.test_accuracy:.2%}")


def _derive(command: Derive) -> None:
    folder = Path(command.run)
    run = settings.SearchRun.from_file(folder / CONFIG)
    out = None if command.out is None else Path(command.out)
    if out is not None:
        check_output(out, resume=False, overwrite=False)
    found, task = search_space(run), _task(run)
    result = derive_run(found, build_strategy(run, found, task), task, run, folder, out)
    _print_genotype(result.genotype)
    _print_files(result.files)
    part = found.partial_channels
    past = f" (of 1/{part} of the channels, as in the search; a retraining has all)" if part > 1 else ""
    print(f"parameters: {result.parameters:,}{past}")
    print(f"test accuracy with the weights of the search: {result.test_accuracy:.2%}")


def _print_genotype(genotype: AnyGenotype) -> None:
    print(f"genotype: {genotype.to_json()}")
    with contextlib.suppress(ValueError):  # most have no such text
        print(f"cell: {genotype.to_arch()}")


def _print_files(files: Sequence[Path]) -> None:
    for file in files:
        print(f"wrote {file}")


COMMANDS: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "info": (Info, info),
    "search": (Search, _search),
    "derive": (Derive, _derive),
    "retrain": (Retrain, _retrain),
    "plot": (Plot, plot),
}
GROUPS: dict[str, Callable[[Sequence[str]], None]] = {
    "compare": compare,
    "count": count,
    "lookup": lookup,
    "reproduce": reproduce,
}


def _plain(kind: type[_R], command: Any) -> _R:
    """The run without the options that only say where to write."""
    return kind(**{field.name: getattr(command, field.name) for field in dataclasses.fields(kind)})


def _defaults(kind: type[Any], argv: Sequence[str]) -> Any:
    """What the options start from: a file, the run to resume, or defaults that suit the data."""
    if not issubclass(kind, (Search, Retrain)):
        return kind()
    plain: type[settings.TrainingConfig] = settings.SearchRun
    quick = settings.DIGITS_SEARCH
    if issubclass(kind, Retrain):
        plain, quick = settings.RetrainRun, settings.DIGITS_RETRAIN
    stored = Path(value_of(argv, "--out") or kind.out) / CONFIG
    file = value_of(argv, "--config-file")
    if file is not None:
        base = dataclasses.asdict(plain.from_file(Path(file)))
    elif "--resume" in argv and stored.exists():
        base = dataclasses.asdict(plain.from_file(stored))
    else:
        base = dict(quick) if (value_of(argv, "--data") or kind.data) == "digits" else {}
        if issubclass(kind, Retrain):
            base |= _layers(value_of(argv, "--genotype") or kind.genotype)
    return kind(**base)


def _layers(source: str) -> dict[str, Any]:
    """The number of cells of a genotype that says it; one that cannot be read is told when it is needed."""
    with contextlib.suppress(ValueError):
        depth = read_genotype(source).depth
        if depth is not None:
            return {"cells": depth}
    return {}


def _usage() -> str:
    lines = ["usage: nasp-ext COMMAND [options]", "", "commands:"]
    docs = {name: kind.__doc__ for name, (kind, _) in COMMANDS.items()}
    docs |= {name: call.__doc__ for name, call in GROUPS.items()}
    for name, doc in docs.items():
        lines.append(f"  {name:<9} {(doc or '').splitlines()[0]}")
    return "\n".join([*lines, "", "nasp-ext COMMAND --help lists the options of one command"])


_LONGEST = 1000  # characters of an error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's error is one line on stderr and status 2."""
    loud_interrupts()
    if sys.stdout is None:  # closed: files that a run opens would get its number, and what is printed
        return _refuse("expected an open standard output, found it closed: end the command with > /dev/null")
    status = 2
    try:
        try:
            status = _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough: nasp-ext info | head -1
        _drop_output()
        return 128 + 13  # the status of a command that SIGPIPE ends
    except OSError as error:
        _drop_output()
        return _refuse(f"cannot write to the standard output: {error.strerror}")
    return status


def _drop_output() -> None:
    """Let nothing that is still to be printed fail again, in the flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(text: str) -> int:
    """Tell an error in one line; the status of a user's error."""
    if sys.stderr is not None:
        words = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        if len(words) > _LONGEST:  # of a value that was given, the start is enough to know it again
            words = f"{words[: _LONGEST // 2]} … {words[-_LONGEST // 2 :]}"
        print(f"nasp-ext: error: {words}", file=sys.stderr)
    return 2


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name = arguments[0]
    try:
        if name in GROUPS:
            GROUPS[name](arguments[1:])
            return 0
        if name not in COMMANDS:
            known = ", ".join([*COMMANDS, *GROUPS])
            raise ValueError(f"expected a command, one of {known}, got {shown(name)}")
        kind, call = COMMANDS[name]
        call(parse(kind, name, arguments[1:], _defaults(kind, arguments[1:])))
    except KeyboardInterrupt:
        again = {"search": "same command with --resume", "retrain": "same command with --resume"}
        again |= dict.fromkeys(GROUPS, "the same command goes on")
        lost = f"; nothing is lost but the current epoch: {again[name]}" if name in again else ""
        print(f"nasp-ext: interrupted{lost}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _refuse(str(error) or type(error).__name__)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _refuse(
            "out of memory: take fewer channels or cells, a smaller batch, or fewer images (--limit)"
        )
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch raises its own error for a GPU's memory, and a RuntimeError for the other."""
    texts = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(text in str(error) for text in texts)
