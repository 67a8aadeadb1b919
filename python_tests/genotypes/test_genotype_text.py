# SPDX-License-Identifier: MIT
"""Genotypes as people paste them: what is read, and that nothing is run."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasp_ext import GENOTYPES, Genotype
from nasp_ext.families.genotypes import genotype_from_text
from nasp_ext.families.layered.genotype import LayeredGenotype

EDGES = "[('sep_conv_3x3', 1), ('skip_connect', 0)]"
FIELDS = f"normal={EDGES}, normal_concat=range(2, 3), reduce={EDGES}, reduce_concat=[2]"
TEXT = f"Genotype({FIELDS})"
PAIRS = (("sep_conv_3x3", 1), ("skip_connect", 0))
READ = Genotype(PAIRS, (2,), PAIRS, (2,))
OTHER = TEXT.replace("sep_conv_3x3", "dil_conv_3x3")
NAMES = ("sep_conv_3x3", "skip_connect", "conv_3x1_1x3", "none", "max_pool_3x3", "it's", 'a "b"', "é\\n")


@st.composite
def genotypes(draw):
    """Any of two inputs, with two edges into each node or others."""
    two_each = draw(st.booleans())
    fields = {}
    for cell in ("normal", "reduce"):
        nodes = draw(st.integers(1, 4))
        counts = (
            [2] * nodes if two_each else draw(st.lists(st.integers(0, 3), min_size=nodes, max_size=nodes))
        )
        pairs = [
            (draw(st.sampled_from(NAMES)), draw(st.integers(0, 1 + node)))
            for node, count in enumerate(counts)
            for _ in range(count)
        ]
        first = draw(st.integers(2, 1 + nodes))
        concat = list(range(first, 2 + nodes))
        fields |= {cell: pairs, f"{cell}_nodes": counts, f"{cell}_concat": draw(st.permutations(concat))}
    return Genotype(**fields)


def by_node(genotype, cell, number):
    """The cell as a port of DARTS prints it: a list for each node."""
    pairs = iter(genotype.pairs(cell))
    nodes = [[next(pairs) for _ in range(count)] for count in genotype.nodes(cell)]
    return (
        "["
        + ", ".join("[" + ", ".join(f"({n!r}, {number(s)})" for n, s in node) + "]" for node in nodes)
        + "]"
    )


def numbers(values, number):
    return "[" + ", ".join(map(number, values)) + "]"


def as_range(values, number):
    """Where they count up, ``range(2, 6)``."""
    counted = list(range(values[0], values[0] + len(values))) == list(values)
    return f"range({values[0]}, {values[0] + len(values)})" if counted else numbers(values, number)


def printed(genotype, number=str, concat=numbers, head="Genotype(", equals="=", quote=""):
    parts = []
    for cell in genotype.cells:
        parts.append(f"{quote}{cell}{quote}{equals}{by_node(genotype, cell, number)}")
        parts.append(f"{quote}{cell}_concat{quote}{equals}{concat(genotype.output(cell), number)}")
    return head + ", ".join(parts) + (")" if head.endswith("(") else "}")


STYLES = {
    "repr": repr,
    "JSON": Genotype.to_json,
    "indented JSON": lambda g: json.dumps(json.loads(g.to_json()), indent=2, ensure_ascii=False),
    "a list for each node": printed,
    "ranges": lambda g: printed(g, concat=as_range),
    "NumPy 2": lambda g: printed(g, number=lambda n: f"np.int64({n})"),
    "arrays": lambda g: printed(g, concat=lambda v, n: f"array({list(v)}, dtype=int64)"),
    "tensors": lambda g: printed(g, lambda n: f"tensor({n})", lambda v, n: f"torch.tensor({list(v)})"),
    "dictionary": lambda g: printed(g, head="{", equals=": ", quote="'"),
    "line breaks": lambda g: printed(g).replace("], ", "],  # a comment, Genotype(\n   "),
    "trailing commas": lambda g: printed(g).replace("]", ",]").replace("[,]", "[]"),
}
FRAMES = {
    "alone": "{}",
    "a name": "DARTS_V2 = {}",
    "an annotated name": "# found in May\nBEST: Genotype = gt.{}",
    "a log": "2019-05-01 11:11:11,111 epoch 49\n2019-05-01 11:11:11,111 genotype = {}\ntrain 000 2.3\n",
    "twice the same": "A = {0}\n\nB = {0}\n",
    "a module": "from collections import namedtuple\n\nGenotype = namedtuple('Genotype', 'normal')\nX = {}\n",
    "Markdown": "The result is `{}`.",
}


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=25, deadline=None)
@given(genotype=genotypes(), frame=st.sampled_from(sorted(FRAMES)))
def test_a_drawn_genotype_is_read_back_in_every_style(style, genotype, frame):
    text = STYLES[style](genotype)
    if style != "dictionary" or "gt." not in FRAMES[frame]:
        text = FRAMES[frame].format(text)
    assert Genotype.from_text(text) == genotype
    assert Genotype.from_json(text) == genotype


WORDS = [
    *(
        "Genotype(",
        "normal=",
        "reduce",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        "'sep_conv_3x3'",
        "1",
        "-2",
        "range(",
    ),
    *(
        "np.int64(",
        "{'normal':",
        "|a~0|",
        "+",
        "\n",
        "#",
        "\\",
        '"',
        "'",
        "None",
        "=",
        "*",
        ".x",
        "lambda:",
        " ",
    ),
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=30).map("".join))
def test_drawn_garbage_is_a_value_error_or_a_genotype(text):
    with contextlib.suppress(ValueError):
        assert genotype_from_text(text).cells


HUGE = 300_000


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "found none in ''"),
        ("DARTS_V2", "found none in 'DARTS_V2'"),
        ("Genotype(", "line 1: .*found its end"),
        ("Genotype(normal=__import__('os').system('true'))", "found '__import__'"),
        ("Genotype(normal=os.environ)", "found 'os.environ'"),
        ("Genotype(normal=[].__class__)", r"expected '\)' or ',', found '\.__class__"),
        ("Genotype(normal=np.__loader__(1))", "found 'np.__loader__'"),
        ("Genotype(normal=os.range(2))", "found 'os.range'"),
        ("Genotype(normal=f'{x}')", "found 'f'"),
        ("Genotype(normal=[('a', i) for i in range(2)])", "found 'i'"),
        ("Genotype(normal=['a' for i in x])", "found 'for'"),
        ("Genotype(*args)", r"found '\*args"),
        ("Genotype(**args)", r"found '\*\*args"),
        ("Genotype(normal=lambda: 1)", "found 'lambda'"),
        ("Genotype(normal=1 + 1)", r"found '\+ 1\)'|found '\+'"),
        ("Genotype(normal=range(10**9))", r"found '\*\*9"),
        ("Genotype(normal=range(999999999))", "called with"),
        ("Genotype(normal=range(2, 6, 0))", "called with"),
        ("Genotype(normal=int('2'))", "called with"),
        ("Genotype(normal=np.int64(True))", "called with"),
        ("Genotype(normal=range(2, stop=6))", "without stop"),
        ("Genotype(normal=[], normal=[])", "expected normal once"),
        ("Genotype([], normal=[])", "found .'normal'. twice"),
        ("{'normal': [], 'normal': []}", "different names as keys, found 'normal'"),
        ("Genotype([], [], [], [], [], [], [])", "at most 6 values"),
        ("Genotype(normal=[], [])", "expected a name and ="),
        (f"Genotype(normal={'9' * 5000})", "at most 18 characters"),
        (r"Genotype(normal='\x41')", "escapes of JSON"),
        (f"{TEXT}._replace(normal=[])", r"nothing behind a genotype, found '\._replace"),
        (f"{TEXT}[0]", "nothing behind a genotype"),
        ("Genotype(" + "[" * HUGE, "brackets within each other"),
        ("Genotype(normal=" + "-" * HUGE, "expected a value"),
        ('{"normal":' * HUGE, "at most 2,000 genotypes"),
        (f"Genotype(normal=[{'(1, 2), ' * HUGE}])", "at most 200,000 characters"),
        ("x" * 4_000_001, "at most 4,000,000 characters, got 4,000,001"),
        ("class Genotype(tuple): pass", "found none"),
        ("Genotype = namedtuple('Genotype', 'normal reduce')", "found none"),
    ],
)
def test_what_is_no_genotype_is_one_clear_error(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Genotype.from_text(text)
    assert len(str(caught.value)) < 500


def test_an_error_says_in_which_line_it_stands():
    with pytest.raises(ValueError, match=r"line 2: expected a value .* found 'sep' \(line 3\)"):
        Genotype.from_text("x\nG = Genotype(\n  normal=[(sep, 1)])")


def test_text_of_another_type_is_refused():
    with pytest.raises(TypeError, match="text of a genotype, got bytes"):
        Genotype.from_text(b"Genotype()")


def test_a_genotype_of_recurrent_cells_is_told_from_one_of_convolutional_cells():
    for text in (
        "Genotype(recurrent=[('relu', 0)], concat=range(1, 9))",
        '{"recurrent": [["relu", 0]], "concat": [1]}',
    ):
        with pytest.raises(
            ValueError, match="expected a genotype of convolutional cells, got one of recurrent cells"
        ):
            Genotype.from_text(text)


SEVERAL = f"A = {TEXT}\n# B = {OTHER}\nC = D = {OTHER}\nNETS = {{'E': {TEXT},\n 'F': Genotype(x)}}\n"


@pytest.mark.parametrize(
    "which, text", [("A", TEXT), (1, TEXT), ("C", OTHER), ("D", OTHER), (3, OTHER), ("E", TEXT)]
)
def test_one_of_several_is_chosen_by_its_name_or_line(which, text):
    assert Genotype.from_text(SEVERAL, which) == Genotype.from_text(text)


def test_one_of_several_has_to_be_chosen():
    with pytest.raises(
        ValueError, match="found 4: A in line 1, C/D in line 3, E in line 4, F in line 5; say which"
    ):
        Genotype.from_text(SEVERAL)
    with pytest.raises(ValueError, match="named 'B' or in that line, found A in line 1"):
        Genotype.from_text(SEVERAL, "B")
    with pytest.raises(ValueError, match="line 5: expected a value"):
        Genotype.from_text(SEVERAL, "F")
    log = "".join(f"genotype = {TEXT if i % 2 else OTHER}\n" for i in range(50))
    with pytest.raises(ValueError, match=r"found 50: genotype in line 1, .*, …, .*genotype in line 50; say"):
        Genotype.from_text(log)
    assert Genotype.from_text(log, 50) == READ


def test_the_forms_of_gdas_are_read():
    """Weights in the edges, fields without a value here, and a dictionary in a line of a log."""
    weighted = EDGES.replace(", 1)", ", 1, 0.1301)").replace(", 0)", ", 0, 1e-05)")
    assert Genotype.from_text(TEXT.replace(EDGES, weighted)) == READ
    assert Genotype.from_text(f"Genotype({FIELDS}, connectN=None, connects=None)") == READ
    nested = "[(('sep_conv_3x3', 1, tensor(0.1301)), ('skip_connect', 0, tensor(0.2, device='cuda:0')))]"
    fields = f"'normal': {nested}, 'normal_concat': [2], 'reduce': {nested}, 'reduce_concat': [2]"
    line = f"<<<--->>> epoch 49 : {{{fields}}}"
    assert Genotype.from_text(line) == READ


def test_values_without_names_stand_in_the_order_of_the_fields():
    assert Genotype.from_text(f"Genotype({EDGES}, range(2, 3), {EDGES}, (2,))") == READ


ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"


@pytest.mark.parametrize(
    "text", [ARCH, f"  {ARCH}\n", f"genotype = Structure(3 nodes with {ARCH})", f"best: {ARCH}, 91.2"]
)
def test_a_cell_of_nas_bench_201_is_read_from_a_text(text):
    assert Genotype.from_text(text) == genotype_from_text(text) == Genotype.from_arch(ARCH)


def test_a_genotype_of_layers_is_read_from_a_text():
    layered = LayeredGenotype((PAIRS, PAIRS), ((2,), (2,)), (2,))
    assert genotype_from_text(f"found = {layered!r}") == layered
    assert genotype_from_text(f'{{"epoch": 3, "genotype": {layered.to_json()}}}') == layered
    with pytest.raises(ValueError, match="expected a genotype with the fields"):
        Genotype.from_text(repr(layered))


def test_published_cells_have_names_that_no_text_needs():
    for name, genotype in GENOTYPES.items():
        assert Genotype.from_text(f"{name} = {genotype!r}", name) == genotype
