# SPDX-License-Identifier: MIT
"""A search that looks at attention: one level, cell by cell, and what it writes."""

import dataclasses

import pytest
import torch
from engine_helpers import CONFIG, history_file, run, space_of, strategy_of, tiny_data

from nasp_ext.arch.gates import MIXED, Gates
from nasp_ext.engine import search
from nasp_ext.engine.attention import attention_svg, mean_attention
from nasp_ext.engine.statistics import own_statistics
from nasp_ext.families.derivation import derive
from nasp_ext.families.genotypes import genotype_from_json
from nasp_ext.families.layered.genotype import LayeredGenotype
from nasp_ext.families.networks import supernet
from nasp_ext.tasks.images.task import ClassificationTask

LAYERED = space_of("asm")


def network():
    torch.manual_seed(2)
    return supernet(LAYERED, 2, 3, 2, in_channels=1).double()


def measured(net, gates, size: int = 25):
    task = ClassificationTask(tiny_data())
    found = task.search_batches(dataclasses.replace(CONFIG, batch=size), "cpu")
    return mean_attention(net, gates, task, found.validate)


def test_mean_attention_does_not_depend_on_the_batches_and_changes_nothing():
    net, gates = network().float(), strategy_of("asm", 0).propose()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    one, other = measured(net, gates), measured(net, gates, 7)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    torch.testing.assert_close(one.sum(1), torch.ones(6, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert one.std() > 1e-4


def test_rows_that_are_not_mixed_are_zero():
    weight, active = torch.zeros(6, 4), (1, 1, MIXED, MIXED, -1, -1)
    weight[:2, 1], weight[2:4] = 1, 0.25
    found = measured(network().float(), Gates(weight, active, unit=True))
    assert found.any(1).tolist() == [False, False, True, True, False, False]


class Noting(ClassificationTask):
    """Notes for each loss whether it is trained, and the targets."""

    def __init__(self, data) -> None:
        super().__init__(data)
        self.trained, self.seen = [], []

    def loss(self, logits, target):
        self.trained.append(logits.requires_grad)
        self.seen.append(len(target))
        return super().loss(logits, target)


def test_weights_and_attention_are_trained_on_one_level():
    task = Noting(tiny_data())
    result = run("asm", task=task, config=dataclasses.replace(CONFIG, epochs=1))
    # 25 images in 3 full batches train. 3 batches give statistics and 4 of the other half measure the three
    # cells; 3 give those of the selection, which 4 evaluate, and 4 the mixture, which was trained.
    assert task.trained == [True] * 3 + [False] * (3 * (3 + 4) + 3 + 4 + 4)
    assert result.history[0]["steer_loss"] is None
    start = run("asm", config=dataclasses.replace(CONFIG, epochs=1, lr=0.0, lr_min=0.0)).network.state_dict()
    moved = [n for n, p in result.network.named_parameters() if "attention" in n and not p.equal(start[n])]
    assert len(moved) > 10


def test_the_selection_is_that_of_the_trained_network_cell_by_cell():
    result = run("asm")
    net, again = result.network, strategy_of("asm", 0)
    task = ClassificationTask(tiny_data())
    found = task.search_batches(CONFIG, torch.device("cpu"))

    def attention(gates):
        first = found.first_batches(CONFIG.seed, CONFIG.epochs - 1, CONFIG.bn_batches)
        with own_statistics(net, lambda batch: net(batch[0], gates), first):
            return mean_attention(net, gates, task, found.validate)

    again.select(attention)
    assert again.best().active == result.gates.active
    assert result.history[-1]["active"] == list(result.gates.active)
    noted = torch.tensor(result.history[-1]["scores"])
    torch.testing.assert_close(again.scores(), noted, rtol=1e-5, atol=1e-5)
    assert len({line["entropy"] for line in result.history}) == 4


def test_the_derived_network_has_the_logits_of_the_selected_supernet():
    result = run("asm")
    net = result.network.double().eval()
    gates = Gates(result.gates.weight.double(), result.gates.active, unit=True)
    derived = derive(net, gates, inherit_weights=True)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(derived(x), net(x, gates), rtol=1e-10, atol=1e-10)
    assert derived.genotype == result.genotype


def test_the_folder_holds_a_drawing_per_cell_and_the_attention(tmp_path):
    result = run("asm", out=tmp_path)
    drawings = {"attention.svg", "cell_01.svg", "cell_02.svg", "cell_03.svg"}
    others = {"config.json", "history.jsonl", "checkpoint.pt", "genotype.json"}
    assert (
        {file.name for file in tmp_path.iterdir()}
        == {file.name for file in result.files}
        == drawings | others
    )
    assert isinstance(genotype_from_json((tmp_path / "genotype.json").read_text()), LayeredGenotype)
    lines = history_file(tmp_path)
    assert 0 <= lines[-1]["mixture_accuracy"] <= 1
    with pytest.raises(ValueError, match=r"cell_01\.svg.* of another run"):
        run("asm", out=tmp_path)
    run(out=tmp_path, overwrite=True)  # NASP: two cells, no attention
    assert not {file.name for file in tmp_path.iterdir()} & drawings


def test_nothing_is_selected_during_warm_up():
    lines = run("asm", config=dataclasses.replace(CONFIG, warmup_epochs=2)).history
    assert lines[0]["scores"] == lines[1]["scores"] != lines[2]["scores"]


def test_the_drawing_has_a_map_per_layer_with_the_selected_options():
    attention = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    drawing = attention_svg(LAYERED, attention.tolist(), (1, 2, 3, -1, 1, 1))
    assert drawing.count('class="value"') == 24
    assert drawing.count('class="mark"') == 5
    for word in ("cell 01", "cell 02 (reduction)", "cell 03 (reduction)", "0→2", "1→2", "max_pool_3x3"):
        assert word in drawing


def test_a_strategy_that_looks_needs_a_network_with_attention():
    with pytest.raises(ValueError, match="found MixedOp"):
        search(
            dataclasses.replace(LAYERED, attention=False),
            strategy_of("asm", 0),
            ClassificationTask(tiny_data()),
            dataclasses.replace(CONFIG, epochs=1),
        )
