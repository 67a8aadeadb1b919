# SPDX-License-Identifier: MIT
"""A family of one's own, defined in this file alone, goes the way of every other."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import nasp_ext
from nasp_ext import families as folder
from nasp_ext.arch import AnyGenotype, Family, families, family_named, register_family
from nasp_ext.arch import family as table
from nasp_ext.engine import read_genotype
from nasp_ext.families.genotypes import genotype_from_json, genotype_from_text, write_drawings

FUNCTIONS = {"tanh": torch.tanh, "sine": torch.sin, "relu": torch.relu}


@dataclass(frozen=True)
class Waves(AnyGenotype):
    functions: tuple[str, ...]
    kind: ClassVar[str] = "waves"

    @property
    def operations(self):
        return self.functions

    def to_json(self):
        return json.dumps({"kind": self.kind, "functions": self.functions})


@dataclass(frozen=True)
class WaveSpace(nasp_ext.SearchSpace):
    terms: int = 2
    kind: ClassVar[str] = "waves"

    @property
    def rows(self):
        return self.terms

    @property
    def node_offsets(self):
        return tuple(range(self.terms + 1))

    def choices(self, row):
        return tuple(FUNCTIONS)

    def _genotype(self, active):
        return Waves(tuple(self.choices(row)[option] for row, option in enumerate(active)))


class WaveNetwork(nn.Module):
    """Σ_r scale_r · f_r(x), over the functions of the gates, or the ones that were chosen."""

    def __init__(self, terms, width, space=None, functions=()):
        super().__init__()
        self.space, self.functions = space, functions
        self.scale = nn.Parameter(torch.rand(terms, width))

    def forward(self, x, gates=None):
        total = 0
        for row, scale in enumerate(self.scale):
            if gates is None:
                out = FUNCTIONS[self.functions[row]](x)
            else:
                out = sum(w * f(x) for w, f in zip(gates.weight[row], FUNCTIONS.values(), strict=True))
            total = total + scale * out
        return total


class WaveFamily(Family):
    kind = "waves"
    space = WaveSpace

    @property
    def published(self):
        return {"TWO_WAVES": Waves(("sine", "tanh"))}

    def supernet(self, space, width=3):
        return WaveNetwork(space.terms, width, space)

    def derived(self, genotype, width=3):
        return WaveNetwork(len(genotype.functions), width, functions=genotype.functions)

    def derive(self, supernet, gates, *, inherit_weights):
        net = self.derived(supernet.space.genotype(gates), supernet.scale.shape[1])
        if inherit_weights:
            net.load_state_dict(supernet.state_dict())
        return net

    def drawings(self, genotype):
        return {"waves.svg": f"<svg>{' + '.join(genotype.functions)}</svg>"}

    def read(self, data):
        return Waves(tuple(data["functions"]))


SPACE = WaveSpace("waves")
GATES = nasp_ext.Gates(torch.eye(3)[[1, 2]], (1, 2), unit=True)


@pytest.fixture(autouse=True)
def _own_family(monkeypatch):
    monkeypatch.setattr(table, "_FAMILIES", dict(table._FAMILIES))
    register_family(WaveFamily())


def test_its_supernet_and_derived_networks_take_sizes_of_their_own():
    assert nasp_ext.supernet(SPACE, width=5).scale.shape == (2, 5)
    assert nasp_ext.derived_network(Waves(("sine",)), 7).scale.shape == (1, 7)
    assert nasp_ext.derived_network("TWO_WAVES").functions == ("sine", "tanh")
    with pytest.raises(TypeError, match=r"expected sizes among width: .*'channels'"):
        nasp_ext.supernet(SPACE, channels=3)


def test_its_derived_network_with_the_weights_is_the_supernet_at_the_gates():
    net, x = nasp_ext.supernet(SPACE, width=4), torch.randn(6, 4)
    derived = nasp_ext.derive(net, GATES, inherit_weights=True)
    assert derived.functions == ("sine", "relu")
    torch.testing.assert_close(derived(x), net(x, GATES))
    with pytest.raises(ValueError, match="got a derived network"):
        nasp_ext.derive(derived, GATES)


def test_a_strategy_finds_what_fits_best_in_it():
    net, x = nasp_ext.supernet(SPACE), torch.randn(64, 3)
    with torch.no_grad():
        net.scale.fill_(1.0)
    search = nasp_ext.strategy("nasp", SPACE, lr=0.05)
    for _ in range(40):
        search.step(lambda gates: (net(x, gates) - 2 * torch.sin(x)).square().mean())
    assert nasp_ext.derive(net, search).functions == ("sine", "sine")


def test_its_genotype_is_read_back_from_json_text_and_a_file(tmp_path):
    genotype = nasp_ext.genotype_of(SPACE, GATES)
    assert genotype == Waves(("sine", "relu"))
    text = genotype.to_json()
    assert genotype_from_json(json.loads(text)) == genotype
    assert genotype_from_text(f"12:30 found = {text}\n") == genotype
    (tmp_path / "genotype.json").write_text(text)
    assert read_genotype(str(tmp_path)) == genotype
    assert read_genotype("TWO_WAVES") == Waves(("sine", "tanh"))


def test_its_genotype_is_drawn_as_it_says(tmp_path):
    (path,) = write_drawings(Waves(("sine", "relu")), tmp_path)
    assert path == tmp_path / "waves.svg"
    assert path.read_text() == "<svg>sine + relu</svg>"


def test_every_folder_of_families_registers_one_by_being_there():
    folders = {
        path.name for path in Path(folder.__file__).parent.iterdir() if (path / "__init__.py").is_file()
    }
    registered = {type(found).__module__ for found in families()} - {__name__}
    assert {name.split(".")[2] for name in registered} == folders
    assert all(found.space.kind == found.kind for found in families() if found.space is not None)


def test_a_kind_that_is_unknown_or_taken_is_refused():
    with pytest.raises(ValueError, match=r"one of cells, layered, .*topology, waves, got 'wave'"):
        genotype_from_json({"kind": "wave", "functions": []})
    with pytest.raises(ValueError, match="expected a new kind of family, got 'waves', which is taken"):
        register_family(WaveFamily())
    with pytest.raises(TypeError, match="expected a Family with a kind, got str"):
        register_family("waves")
    with pytest.raises(ValueError, match=r"kind of search space, one of .*, got 3"):
        family_named(3)


def test_a_space_without_a_partial_or_layered_form_says_so():
    for call in (
        lambda: SPACE.with_partial_channels(2),
        lambda: SPACE.in_layers(3),
        lambda: SPACE.with_edges_per_node(1),
    ):
        with pytest.raises(ValueError, match=r"expected a space of cells .*, got 'waves'"):
            call()
    assert SPACE.with_edges_per_node(None) is SPACE
