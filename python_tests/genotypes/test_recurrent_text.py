# SPDX-License-Identifier: MIT
"""Recurrent cells as people paste them: from code, logs, JSON, and files that hold several."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasp_ext import GENOTYPES, Genotype
from nasp_ext.engine import read_genotype
from nasp_ext.families.genotypes import genotype_from_json, genotype_from_text, published
from nasp_ext.families.recurrent.genotype import RecurrentGenotype

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
TEXT = "Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=range(1, 3))"
READ = RecurrentGenotype((("relu", 0), ("tanh", 1)), (1, 2))
OTHER = TEXT.replace("relu", "sigmoid")
CELLS = "Genotype(normal=[('skip_connect', 0)] * 2)"

# In the manner of the code of the field: a tuple class, the options, then cells, one of them by two names.
MODULE = """from collections import namedtuple

Genotype = namedtuple('Genotype', 'recurrent concat')

PRIMITIVES = [
    'none',
    'tanh',
]
STEPS = 2
CONCAT = 2

LOOSE = Genotype(
    recurrent = [
        ('tanh', 0),
        ('tanh', 1),
        ('relu', 1),
    ],
    concat = [2, 3]
)

DARTS_V1 = Genotype(recurrent = [('relu', 0), ('tanh', 1)], concat = range(1, 3))
DARTS = DARTS_V2 = Genotype(recurrent = [('sigmoid', 0), ('tanh', 1)], concat = range(1, 3))
"""


@st.composite
def genotypes(draw):
    """Any, with one term into each node or others."""
    one_each = draw(st.booleans())
    pairs, counts = [], []
    for node in range(1, draw(st.integers(1, 5)) + 1):
        sources = st.sets(st.integers(0, node - 1), max_size=3)
        found = [draw(st.integers(0, node - 1))] if one_each else sorted(draw(sources))
        pairs += [(draw(st.sampled_from(ACTIVATIONS)), source) for source in found]
        counts.append(len(found))
    concat = sorted(draw(st.sets(st.integers(0, len(counts)), min_size=1)))
    return RecurrentGenotype(pairs, concat, counts)


def as_range(states):
    """Where they count up, ``range(1, 9)``."""
    counted = tuple(range(states[0], states[0] + len(states))) == states
    return f"range({states[0]}, {states[0] + len(states)})" if counted else str(list(states))


def printed(genotype, number=str, concat=as_range):
    pairs = ", ".join(f"({name!r}, {number(source)})" for name, source in genotype.recurrent)
    counted = "" if genotype.nodes is None else f", nodes={list(genotype.nodes)}"
    return f"Genotype(recurrent=[{pairs}], concat={concat(genotype.concat)}{counted})"


STYLES = {
    "repr": repr,
    "JSON": RecurrentGenotype.to_json,
    "sorted JSON": lambda g: json.dumps(json.loads(g.to_json()), indent=2, sort_keys=True),
    "ranges": printed,
    "spaces": lambda g: printed(g).replace("=", " = "),
    "line breaks": lambda g: printed(g).replace("), (", "),  # a comment, Genotype(\n   ("),
    "NumPy 2": lambda g: printed(g, lambda n: f"np.int64({n})", lambda v: f"array({list(v)})"),
    "tensors": lambda g: printed(g, lambda n: f"tensor({n})", lambda v: f"tensor({list(v)})"),
    "dictionary": lambda g: str({"recurrent": g.recurrent, "concat": list(g.concat), "nodes": g.nodes}),
}
FRAMES = {
    "alone": "{}",
    "a name": "DARTS_V2 = {}",
    "a log": "03/09 10:12:13 PM epoch 7\n03/09 10:12:13 PM {}\n03/09 10:12:13 PM | end of epoch\n",
    "twice the same": "{0}\n{0}\n",
    "an epoch's line": "genotype = {}, valid ppl 61.2",
}


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=25, deadline=None)
@given(genotype=genotypes(), frame=st.sampled_from(sorted(FRAMES)))
def test_a_drawn_cell_is_read_back_in_every_style(style, genotype, frame):
    text = FRAMES[frame].format(STYLES[style](genotype))
    assert genotype_from_text(text) == genotype
    assert genotype_from_json(text) == genotype
    assert RecurrentGenotype.from_text(text) == genotype


def test_cells_are_read_from_a_file_of_several_by_name_or_line(tmp_path):
    file = tmp_path / "genotypes.py"
    file.write_text(MODULE)
    assert read_genotype(f"{file}:DARTS_V1") == genotype_from_text(MODULE, 21) == READ
    assert read_genotype(f"{file}:DARTS") == read_genotype(f"{file}:DARTS_V2") != READ
    loose = RecurrentGenotype((("tanh", 0), ("tanh", 1), ("relu", 1)), (2, 3))
    assert read_genotype(f"{file}:LOOSE") == read_genotype(f"{file}:12") == loose
    with pytest.raises(ValueError, match="found 3: LOOSE in line 12, DARTS_V1 in line 21, DARTS/DARTS_V2 in"):
        read_genotype(str(file))
    with pytest.raises(ValueError, match="named 'ENAS' or in that line, found LOOSE in line 12"):
        read_genotype(f"{file}:ENAS")


def test_a_text_with_fields_is_the_cell_that_it_says_whatever_its_name():
    assert read_genotype(f"DARTS_V1 = {TEXT}") == READ
    assert read_genotype("DARTS_V1") == GENOTYPES["DARTS_V1"]
    assert genotype_from_text(f"{MODULE}\n{GENOTYPES['DARTS_V2']!r}", 24) == GENOTYPES["DARTS_V2"]
    several = f"A = {GENOTYPES['DARTS_V1']!r}\nB = {TEXT}\n"
    assert genotype_from_text(several, "A") == GENOTYPES["DARTS_V1"]
    assert genotype_from_text(several, "B") == READ
    with pytest.raises(ValueError, match="expected one genotype, found 2: A in line 1, B in line 2"):
        genotype_from_text(several)


def test_the_last_line_of_a_log_is_chosen_by_its_number():
    log = "".join(f"12/03 epoch {i} {TEXT if i == 9 else OTHER}\n" for i in range(10))
    assert genotype_from_text(log, 10) == READ
    with pytest.raises(ValueError, match="found 10"):
        genotype_from_text(log)


def test_published_cells_have_names_that_no_text_needs():
    recurrent = {name: g for name, g in published().items() if g.kind == RecurrentGenotype.kind}
    assert len(recurrent) >= 3
    assert not set(recurrent) & set(GENOTYPES)
    for name, genotype in recurrent.items():
        assert read_genotype(name) == genotype_from_text(f"{name} = {genotype!r}", name) == genotype


def test_a_recurrent_cell_is_told_from_one_of_convolutions():
    with pytest.raises(ValueError, match="genotype of convolutional cells, got one of recurrent cells"):
        Genotype.from_text(TEXT)
    with pytest.raises(ValueError, match="genotype of a recurrent cell"):
        RecurrentGenotype.from_text(repr(GENOTYPES["DARTS_V1"]))
    with pytest.raises(ValueError, match="genotype of a recurrent cell, found the cell"):
        RecurrentGenotype.from_text("|none~0|")


@pytest.mark.parametrize(
    "damaged, message",
    [
        (TEXT.replace("'tanh'", "'tahn'"), "activations among tanh, relu, sigmoid, identity, got .'tahn', 1"),
        (TEXT.replace("'tanh'", "'none'"), "activations among .*, got .'none', 1"),
        (TEXT.replace("'tanh'", "'sep_conv_3x3'"), "activations among .*, got .'sep_conv_3x3', 1"),
        (TEXT.replace("'tanh'", "2"), "activations among .*, got .2, 1"),
        (TEXT.replace("0), ", "0, 0.5), "), r"pairs .*got \('relu', 0, 0\.5\)"),
        (TEXT.replace("('tanh', 1)", "('tanh', 2)"), r"a predecessor 0 … 1 of step 2, got \('tanh', 2\)"),
        (TEXT.replace("('relu', 0)", "('relu', -1)"), r"a predecessor 0 … 0 of step 1, got \('relu', -1\)"),
        (TEXT.replace("('relu', 0)", "('relu', 0.0)"), r"pairs .*got \('relu', 0\.0\)"),
        (TEXT.replace("('relu', 0)", "('relu', '0')"), r"pairs .*got \('relu', '0'\)"),
        (TEXT.replace("('relu', 0)", "('relu', True)"), r"pairs .*got \('relu', True\)"),
        (TEXT.replace("('relu', 0)", "'relu'"), "a pair of recurrent to be a list, got 'relu'"),
        (TEXT.replace(", concat=range(1, 3)", ""), "with the fields recurrent, concat, got recurrent"),
        ("Genotype(concat=range(1, 3))", "expected a genotype with the fields"),
        (TEXT.replace("range(1, 3)", "range(1, 4)"), r"concat to be states 0 … 2, .*got \(1, 2, 3\)"),
        (TEXT.replace("range(1, 3)", "range(1, 1)"), r"one or more, got \(\)"),
        (TEXT.replace("range(1, 3)", "[2, 1]"), r"ascending, .*got \(2, 1\)"),
        (TEXT.replace("range(1, 3)", "[1, 1]"), r"ascending, .*got \(1, 1\)"),
        (TEXT.replace("range(1, 3)", "2"), "concat to be a list, got 2"),
        (TEXT.replace("range(1, 3)", "None"), "concat to be a list, got None"),
        (TEXT.replace("range(1, 3)", "CONCAT"), "found 'CONCAT'"),
        (TEXT.replace("range(1, 3)", "range(1, STEPS + 1)"), "found 'STEPS'"),
        (TEXT.replace("[('relu'", "[[('relu'").replace(", 1)]", ", 1)]]"), "pairs"),
        ("Genotype(recurrent=[], concat=[0])", r"1 to \d+ steps"),
        (TEXT.replace("range(1, 3)", "[1], nodes=[2, 1]"), "how many of the 2 pairs"),
        (
            TEXT.replace("', 1)", "', 0)").replace("range(1, 3)", "[1], nodes=[0, 2]"),
            "step 2 .* got 0 and then 0",
        ),
        (TEXT.replace("range(1, 3)", "[1], states=8"), "with the fields recurrent, concat, got .*states"),
        (TEXT[:-1], "found its end"),
        (TEXT[: TEXT.index("concat")], "found its end"),
        (TEXT.replace("recurrent", "recurent"), "expected a genotype with the fields"),
        (CELLS.replace("normal", "recurrent"), r"expected '\)' or ',', found '\* 2\)'|found '\*"),
        ("Genotype(recurrent=__import__('os'), concat=[1])", "found '__import__'"),
        ('{"recurrent": [["relu", 0]]}', "with the fields recurrent, concat, got recurrent"),
        ('{"kind": "recurrent", "concat": [1]}', "with the fields recurrent, concat, got concat"),
        ('{"kind": "cells", "recurrent": [["relu", 0]], "concat": [1]}', "got one of recurrent cells"),
    ],
)
def test_a_damaged_cell_is_one_clear_error(damaged, message):
    with pytest.raises(ValueError, match=message) as caught:
        genotype_from_text(f"DARTS_V1 = {damaged}")
    assert len(str(caught.value)) < 500
