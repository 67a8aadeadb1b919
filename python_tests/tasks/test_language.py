# SPDX-License-Identifier: MIT
"""Language modelling as a task: losses, penalties, states, and the parts of the data it gives."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nasp_ext import RetrainConfig, SearchConfig, derived_network, space
from nasp_ext.arch import Gates
from nasp_ext.engine.evaluation import evaluate
from nasp_ext.engine.measures import Totals
from nasp_ext.tasks.language import Corpus, LanguageSettings, LanguageTask, Segment, Vocabulary

CPU = torch.device("cpu")
WORDS = Vocabulary(("<eos>", *"abcdefg"))
CELL = "DARTS_V2_rnn"


def corpus_of(train=601, valid=301, test=101, name="own"):
    draw = torch.Generator().manual_seed(0)
    texts = (torch.randint(8, (count,), generator=draw).int() for count in (train, valid, test))
    return Corpus(name, WORDS, *texts)


def task_of(corpus=None, **settings):
    return LanguageTask(corpus_of() if corpus is None else corpus, LanguageSettings(**settings))


class Reader(nn.Module):
    """Outputs and logits that are given; remembers what it was asked."""

    def __init__(self, raw, dropped, logits, training=True):
        super().__init__()
        self.raw, self.dropped, self.logits, self.asked = raw, dropped, logits, []
        self.train(training)

    def read(self, tokens, gates=None, hidden=None):
        self.asked.append((tokens, gates, hidden))
        return SimpleNamespace(raw=self.raw, dropped=self.dropped, hidden=self.raw[-1])

    def decode(self, dropped):
        assert dropped is self.dropped
        return self.logits


def reader(rows=3, training=True, dtype=torch.float32):
    raw = torch.arange(rows * 4, dtype=dtype).reshape(rows, 2, 2) ** 2
    logits = torch.randn(rows, 2, 8, dtype=dtype, requires_grad=True)
    return Reader(raw, raw / 2, logits, training)


def segment(rows=3, training=True, ended=0, first=False):
    tokens, targets = torch.randint(8, (rows, 2)), torch.randint(8, (rows, 2))
    targets[-1, :ended] = -100
    return Segment(tokens, targets, first, rows * 2 - ended, training)


def mean_surprise(logits, targets):
    """The mean of minus the log of the softmax at the target."""
    chosen = logits.double().log_softmax(-1)
    real = targets >= 0
    return -chosen.gather(-1, targets.clamp(min=0)[..., None])[..., 0][real].mean()


def test_the_loss_of_training_has_penalties():
    network, batch = reader(), segment()
    found = task_of(output_penalty=0.5, step_penalty=0.25).run(network, batch)
    plain = mean_surprise(network.logits, batch.targets)
    steps = ((network.raw[1:] - network.raw[:-1]) ** 2).mean()
    wanted = plain + 0.25 * steps + 0.5 * (network.dropped**2).mean()
    torch.testing.assert_close(found.loss.double(), wanted)
    assert found.count == 6
    torch.testing.assert_close(found.sums["perplexity"].double(), 6 * plain)
    assert found.sums["perplexity"].dtype == torch.float32
    assert not found.sums["perplexity"].requires_grad
    assert found.loss.requires_grad
    assert found.state is not None


@pytest.mark.parametrize("training, mode", [(False, True), (True, False), (False, False)])
def test_nothing_else_has_penalties(training, mode):
    network, batch = reader(training=mode), segment(training=training)
    found = task_of(output_penalty=0.5, step_penalty=0.25).run(network, batch)
    torch.testing.assert_close(found.loss.double(), mean_surprise(network.logits, batch.targets))


def test_the_usual_penalty_is_that_of_the_steps_alone():
    network, batch = reader(), segment()
    steps = ((network.raw[1:] - network.raw[:-1]) ** 2).mean()
    wanted = mean_surprise(network.logits, batch.targets) + 1e-3 * steps
    torch.testing.assert_close(task_of().run(network, batch).loss.double(), wanted)


def test_one_word_makes_no_step():
    network, batch = reader(1), segment(1)
    found = task_of(step_penalty=1.0).run(network, batch)
    torch.testing.assert_close(found.loss.double(), mean_surprise(network.logits, batch.targets))


def test_columns_that_have_ended_count_nothing():
    network, batch = reader(dtype=torch.float64), segment(ended=1, training=False)
    found = task_of().run(network, batch)
    torch.testing.assert_close(found.loss, mean_surprise(network.logits, batch.targets))
    assert found.count == 5
    assert found.sums["perplexity"].dtype == torch.float64
    torch.testing.assert_close(found.sums["perplexity"], 5 * found.loss)


def test_a_state_goes_on_unless_the_segment_is_the_first():
    network, gates, state = reader(), Gates(torch.eye(2, 3)), (torch.ones(2), torch.zeros(2))
    task = task_of()
    for first in (False, True):
        batch = segment(first=first)
        task.run(network, batch, gates, state)
        tokens, given, hidden = network.asked[-1]
        assert tokens is batch.tokens
        assert given is gates
        assert hidden is (None if first else state)


def test_a_perplexity_is_the_exponential_of_the_mean():
    task = task_of()
    totals = Totals(task.metrics)
    losses = []
    for rows in (3, 5):
        network, batch = reader(rows, training=False), segment(rows, training=False)
        losses.append((rows * 2, float(mean_surprise(network.logits.detach(), batch.targets))))
        totals.add(task.run(network, batch))
    mean = sum(count * loss for count, loss in losses) / 16
    assert totals.means()["perplexity"] == pytest.approx(math.exp(mean))


def test_an_infinite_loss_is_no_perplexity():
    network = reader(training=False)
    network.logits = torch.full_like(network.logits, math.nan)
    task = task_of()
    totals = Totals(task.metrics)
    totals.add(task.run(network, segment()))
    with pytest.raises(FloatingPointError, match="finite loss"):
        totals.means()


def test_longer_segments_make_longer_steps():
    task = task_of(sequence=10)
    part = task.training_batches(RetrainConfig(batch=4), CPU)
    assert [task.rate(batch) for batch in part.epoch()] == [length / 10 for length in part.lengths(0, 0)]


def test_a_search_has_three_parts():
    task = task_of(sequence=10, eval_batch=7)
    data = task.search_batches(SearchConfig(batch=4), CPU)
    assert len(data.steer) == len(data.train) == 15
    assert [next(part.epoch()).tokens.shape[1] for part in (data.train, data.steer, data.validate)] == [
        4,
        4,
        7,
    ]
    trained = torch.cat([batch.targets for batch in data.train.epoch()]).flatten()
    assert torch.equal(trained.bincount(), task.corpus.train[1:].long().bincount())
    for part, text in (
        (data.validate, task.corpus.valid),
        (task.test_batches(SearchConfig(batch=4), CPU), task.corpus.test),
    ):
        seen = torch.cat([batch.targets.flatten() for batch in part.epoch()])
        assert torch.equal(seen[seen >= 0].bincount(), text[1:].long().bincount())
    round_ = list(data.steer.epoch())[:8]
    steered = torch.cat([batch.targets for batch in round_])
    assert len(steered) == 75
    assert set(steered.flatten().tolist()) == set(range(8))


def test_a_search_is_evaluated_in_the_columns_of_its_batch():
    """Its norms have their statistics; a batch of one has none."""
    task, config = task_of(sequence=10), SearchConfig(batch=6)
    parts = task.search_batches(config, CPU).validate, task.test_batches(config, CPU)
    assert [next(part.epoch()).tokens.shape[1] for part in parts] == [6, 6]
    retrained = RetrainConfig(batch=6)
    parts = task.validation_batches(retrained, CPU), task.test_batches(retrained, CPU)
    assert [next(part.epoch()).tokens.shape[1] for part in parts] == [10, 1]
    with pytest.raises(ValueError, match="expected eval_batch >= 2 in a search"):
        task_of(eval_batch=1).search_batches(SearchConfig(batch=4), CPU)
    with pytest.raises(ValueError, match="expected test_batch >= 4 in a search"):
        task_of(test_batch=3).test_batches(SearchConfig(batch=4), CPU, (0, 2))
    with pytest.raises(ValueError, match="expected test_batch >= 2 in a search"):
        task_of(sequence=5).search_batches(SearchConfig(batch=1), CPU)


def test_a_retraining_is_validated_on_the_validation_text():
    task = task_of(eval_batch=6, test_batch=3)
    config = RetrainConfig(batch=4)
    validate = task.validation_batches(config, CPU)
    assert [next(part.epoch()).tokens.shape[1] for part in (validate, task.test_batches(config, CPU))] == [
        6,
        3,
    ]
    assert sum(batch.count for batch in validate.epoch()) == len(task.corpus.valid) - 1
    assert sum(batch.count for batch in task.test_batches(config, CPU).epoch()) == len(task.corpus.test) - 1


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_every_part(ranks):
    task = task_of(eval_batch=5, test_batch=5, sequence=10)
    config = RetrainConfig(batch=4)

    def targets(make):
        parts = [list(make(config, CPU, (rank, ranks)).epoch()) for rank in range(ranks)]
        found = torch.cat([batch.targets.flatten() for part in parts for batch in part])
        return len({len(part) for part in parts}), found[found >= 0].bincount()

    lengths, trained = targets(task.training_batches)
    assert lengths == 1
    assert torch.equal(
        trained,
        torch.cat([b.targets for b in task.training_batches(config, CPU).epoch()]).flatten().bincount(),
    )
    assert torch.equal(targets(task.validation_batches)[1], task.corpus.valid[1:].long().bincount())
    assert torch.equal(targets(task.test_batches)[1], task.corpus.test[1:].long().bincount())


def test_short_texts_are_refused_before_any_work():
    with pytest.raises(ValueError, match=r"expected a training text of more than 630 words.*got 601"):
        task_of().search_batches(SearchConfig(batch=18), CPU)
    with pytest.raises(ValueError, match=r"expected a validation text of more than 315 words.*got 301"):
        task_of().search_batches(SearchConfig(batch=9), CPU)
    with pytest.raises(ValueError, match="expected a test text of more than 200 words"):
        task_of(test_batch=200).test_batches(RetrainConfig(), CPU)
    with pytest.raises(ValueError, match="expected a validation text of more than 400 words"):
        task_of(eval_batch=400).validation_batches(RetrainConfig(), CPU)


def test_an_evaluation_is_one_walk_through_the_text():
    network = derived_network(CELL, vocabulary=8, embedding=6, dropout=0.5, dropouth=0.5).double()
    task = task_of(test_batch=1)
    found = evaluate(network, task, task.test_batches(RetrainConfig(), CPU))
    network.eval()
    with torch.no_grad():
        text = task.corpus.test.long()[:, None]
        logits, _ = network(text[:-1])
    loss = float(mean_surprise(logits, text[1:]))
    assert found["loss"] == pytest.approx(loss, rel=1e-12)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)


@pytest.mark.parametrize("name", [CELL, "LSTM"])
def test_the_length_of_segments_changes_no_evaluation(name):
    network = derived_network(name, vocabulary=8, embedding=6).double()
    means = []
    for sequence in (1, 7, 35, 500):
        task = task_of(eval_batch=4, sequence=sequence)
        means.append(evaluate(network, task, task.validation_batches(RetrainConfig(), CPU))["loss"])
    assert means == pytest.approx([means[0]] * 4, rel=1e-12)


def test_networks_have_the_sizes_of_their_kind_of_run():
    task = task_of()
    searched = task.supernet(space("darts-rnn"), SearchConfig())
    derived = task.derived(derived_network(CELL, vocabulary=8, embedding=2).genotype, RetrainConfig())
    found = [(net.vocabulary, net.embedding, vars(net.dropouts)) for net in (searched, derived)]
    usual = {"dropout": 0.75, "dropouth": 0.25, "dropoutx": 0.75, "dropouti": 0.2}
    assert found == [(8, 300, {**usual, "dropoute": 0.0}), (8, 850, {**usual, "dropoute": 0.1})]
    own = task_of(embedding=5, dropout=0.0, dropouth=0.1, dropoutx=0.2, dropouti=0.3, dropoute=0.4)
    net = own.supernet(space("darts-rnn"), SearchConfig())
    wanted = {"dropout": 0.0, "dropouth": 0.1, "dropoutx": 0.2, "dropouti": 0.3, "dropoute": 0.4}
    assert (net.embedding, vars(net.dropouts)) == (5, wanted)
    small = task_of(corpus_of(name="pydoc")).supernet(space("darts-rnn"), SearchConfig())
    assert small.embedding == 64


def test_only_language_models_are_searched_and_retrained():
    task = task_of(embedding=4)
    with pytest.raises(
        ValueError, match="expected a space of language models, such as darts-rnn, got 'darts'"
    ):
        task.supernet(space("darts"), SearchConfig())
    cells = derived_network("DARTS_V2", channels=2, cells=2).genotype
    with pytest.raises(
        ValueError, match="expected the genotype of a language model, got one of kind 'cells'"
    ):
        task.derived(cells, RetrainConfig())
