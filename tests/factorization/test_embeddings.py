"""Factorized token embeddings: ranks, frequencies, what the loss sees, and models that are and are not changed."""

import copy

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.calibration import calibration_inputs
from hfcompress.config import parse
from hfcompress.data import TaskData
from hfcompress.errors import ModelError, RequestError
from hfcompress.factorization.embeddings import (
    EmbeddingsConfig,
    decompose_table,
    embeddings,
    loss_moments,
    predict_embeddings,
    token_counts,
)
from hfcompress.modeling.low_rank_embedding import LowRankEmbedding, TiedHead
from hfcompress.tasks import find_task
from tests.modeling.test_low_rank_embedding import outputs, tiny
from tests.pruning.contexts import tiny_context
from tests.tiny import VISION, sentences, tiny_head, tiny_inputs, tiny_model

TASK = find_task("text-classification")
FAMILIES = ["bert", "distilbert", "mpnet", "modernbert", "albert", "electra", "gpt2", "llama", "bart", "t5"]


@pytest.fixture
def context(tmp_path):
    return tiny_context(tmp_path)


def options(**given):
    return parse(EmbeddingsConfig, {"multiple": 1, "examples": 24, **given})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gets_within_its_budget_and_nearer_with_more_of_it(family, context):
    model = tiny(family, "ForSequenceClassification")
    table = model.get_input_embeddings()
    counts = token_counts(model, calibration_inputs(model, context, 24, 8), 64) + 0.1
    errors = []
    for share, fisher in ((0.2, True), (0.2, False), (0.5, False), (0.95, False)):
        small = embeddings(copy.deepcopy(model), options(target_params=share, fisher=fisher), context)
        low = small.get_input_embeddings()
        assert isinstance(low, LowRankEmbedding)
        parameters = sum(one.numel() for one in low.parameters())
        assert share * table.weight.numel() - sum(table.weight.shape) < parameters <= share * table.weight.numel()
        assert outputs(small).isfinite().all()
        errors.append(float(counts @ (low.dense() - table.weight.detach()).square().sum(1).double()))
    assert errors == sorted(errors, reverse=True)


TABLES = st.integers(0, 2**16).map(lambda seed: torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(TABLES, st.integers(1, 5))
def test_what_is_lost_is_as_told_and_less_than_by_plain_svd(generator, rank):
    table = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    counts = torch.rand(20, generator=generator, dtype=torch.float64) ** 4 * 100 + 0.01
    factor = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    moments = factor @ factor.T

    def lost(decomposition, metric):
        factors = decomposition.factors(rank)
        change = table - (table @ factors.down.T) @ factors.up.T
        return (counts / counts.sum() * ((change @ metric) * change).sum(1)).sum()

    plain, frequent, whole = (decompose_table(table, *more) for more in ((), (counts,), (counts, moments)))
    identity = torch.eye(6, dtype=torch.float64)
    assert lost(frequent, identity) <= lost(plain, identity) * (1 + 1e-9)
    assert lost(whole, moments) <= lost(frequent, moments) * (1 + 1e-6)
    torch.testing.assert_close(lost(frequent, identity), frequent.losses[rank], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(lost(whole, moments) / 2, whole.losses[rank], rtol=1e-4, atol=1e-6)
    assert (whole.losses.diff() <= 1e-12).all()


def test_without_rows_it_is_plain_svd(context, monkeypatch):
    model = tiny_model()
    left, sizes, right = torch.linalg.svd(model.bert.embeddings.word_embeddings.weight.double(), full_matrices=False)
    monkeypatch.setattr("hfcompress.factorization.embeddings.calibration_inputs", None)  # rows are not asked for
    small = embeddings(model, options(rank=5, frequency=False, fisher=False), context)
    expected = (left[:, :5] * sizes[:5]) @ right[:5]
    torch.testing.assert_close(small.bert.embeddings.word_embeddings.dense().double(), expected, atol=1e-6, rtol=1e-5)


def test_tokens_are_counted_without_padding():
    model = tiny_head("bert", "ForSequenceClassification")
    batch = {"input_ids": torch.tensor([[5, 6, 5], [7, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}
    counts = token_counts(model, [batch, batch], 64)
    assert {token: int(count) for token, count in enumerate(counts) if count} == {5: 4, 6: 2, 7: 2}


def test_moments_are_those_of_the_gradient(context):
    """With one answer there is nothing random but signs, whose square is 1: the gradient of a number."""
    model = tiny_model(layers=1, num_labels=1)
    batches = calibration_inputs(model, context, 8, 1)
    expected = torch.zeros(32, 32, dtype=torch.float64)
    for batch in batches:
        vectors = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
        rest = {name: value for name, value in batch.items() if name != "input_ids"}
        (gradient,) = torch.autograd.grad(model(inputs_embeds=vectors, **rest).logits.sum(), vectors)
        expected += (gradient[0].T @ gradient[0]).double() / len(batches)
    found = loss_moments(model, "bert.embeddings.word_embeddings", batches, TASK, seed=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-10)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("family", "task"), [("bert", "fill-mask"), ("gpt2", "text-generation")])
def test_a_tied_head_stays_tied_and_what_it_reads_counts(family, task, context):
    head = {"fill-mask": "ForMaskedLM", "text-generation": "ForCausalLM"}[task]
    model, context.task = tiny(family, head), find_task(task)
    name = next(n for n, m in model.named_modules() if m is model.get_input_embeddings())
    inputs = tiny_inputs(model)
    labels = inputs["input_ids"].masked_fill(torch.arange(9) % 3 > 0, -100)
    batches = [{**inputs, "labels": labels}]
    both = loss_moments(model, name, batches, context.task, seed=0)
    untied = copy.deepcopy(model)
    untied.get_output_embeddings().weight = torch.nn.Parameter(model.get_output_embeddings().weight.detach().clone())
    alone = loss_moments(untied, name, batches, context.task, seed=0)
    more = torch.linalg.eigvalsh(both - alone)
    assert more[-1] > 0
    assert more[0] > -1e-6 * more[-1]
    small = embeddings(model, options(rank=8, frequency=False, fisher=False), context)
    assert isinstance(small.get_output_embeddings(), TiedHead)
    assert small.get_output_embeddings().table is small.get_input_embeddings().table


WORDS = [
    ("bert", "fill-mask"),
    ("gpt2", "text-generation"),
    ("bart", "text2text-generation"),
    ("t5", "text2text-generation"),
]


@pytest.mark.parametrize(("family", "name"), WORDS)
def test_models_of_words_are_looked_at_with_what_they_are_to_say(family, name, context):
    context.task = find_task(name)
    texts = [text for text, _ in sentences(16)]
    rows = Dataset.from_dict({"text": texts, **({"labels": texts} if family in ("bart", "t5") else {})})
    context.data = TaskData(rows, rows, (), max_length=None)
    context.processor.eos_token = "[SEP]"  # noqa: S105
    model = tiny(family, context.task.auto_model.removeprefix("AutoModel"))
    before = outputs(model)
    small = embeddings(model, options(target_params=0.9), context)
    assert isinstance(small.get_output_embeddings(), TiedHead)
    assert 0 < float((outputs(small) - before).abs().max()) < 10


def test_a_rank_above_break_even_leaves_the_table_and_says_so(context):
    model, told = tiny_model(), []
    table = model.get_input_embeddings()
    context.say = told.append
    embeddings(model, options(rank=22), context)  # 22 · (64 + 32) > 64 · 32
    assert model.get_input_embeddings() is table
    (line,) = told
    assert "stays as it is" in line
    assert "less than 22" in line
    assert context.findings["low_rank"]["layers"][0]["rank"] is None
    embeddings(model, options(rank=21), context)
    assert model.get_input_embeddings().rank == 21


def test_the_losses_that_are_expected_and_that_come_fall_with_the_rank(context):
    found = []
    for rank in (4, 12, 20):
        embeddings(tiny_model(), options(rank=rank), context)
        found.append(context.findings["low_rank"])
    assert all(one["is_divergence"] for one in found)
    for key in ("predicted_loss", "measured_loss"):
        losses = [one[key] for one in found]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] > 0


def test_what_it_would_make_is_told_beforehand(context):
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    config = predict_embeddings(model, options(rank=9), context)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    expected = context.findings.pop("low_rank")
    assert embeddings(model, options(rank=9), context).config.to_dict() == config.to_dict()
    assert context.findings["low_rank"]["predicted_loss"] == expected["predicted_loss"]
    assert expected["parameters"] == 9 * (64 + 32)
    for fisher, frequency, what in ((True, False, "weights, by what the loss"), (False, True, "embeddings")):
        predict_embeddings(tiny_model(), options(rank=9, fisher=fisher, frequency=frequency), context)
        assert context.findings["low_rank"]["loss"].startswith(f"squares of the {what}")


@pytest.mark.parametrize(
    ("given", "rank"), [({"rank_ratio": 0.5}, 10), ({"rank_ratio": 0.5, "multiple": 8}, 8), ({"energy": 1.0}, None)]
)
def test_other_ways_to_choose_the_rank(given, rank, context):
    table = embeddings(tiny_model(), options(**given), context).get_input_embeddings()
    assert getattr(table, "rank", None) == rank


@pytest.mark.parametrize("budget", ["target_macs", "target_latency"])
def test_budgets_of_work_are_refused(budget):
    with pytest.raises(RequestError, match="saves bytes, not time"):
        options(**{budget: 0.5})


@pytest.mark.parametrize("given", [{}, {"rank": 0}, {"rank": 4, "energy": 0.9}, {"rank": 4, "smoothing": 0}])
def test_bad_options_are_refused(given):
    with pytest.raises(RequestError):
        options(**given)


def test_a_budget_below_the_smallest_rank_is_refused(context):
    with pytest.raises(RequestError, match="smallest possible"):
        embeddings(tiny_model(), options(target_params=0.3, multiple=16), context)


@pytest.mark.parametrize("family", VISION)
def test_a_model_of_images_is_refused(family, context):
    with pytest.raises(ModelError, match="no table"):
        embeddings(tiny_head(family, "ForImageClassification"), options(rank=4), context)


def test_nan_is_refused(context):
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[7, 3] = torch.nan
    with pytest.raises(ModelError, match="word_embeddings"):
        embeddings(model, options(rank=4), context)


def test_the_first_layer_to_give_no_numbers_is_named(context):
    model = tiny_model()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.LayerNorm.weight[3] = torch.inf
    with pytest.raises(
        ModelError, match=r"^bert\.encoder\.layer\.0\.output\.LayerNorm: .* gives values that are NaN or inf"
    ):
        embeddings(model, options(rank=4), context)
