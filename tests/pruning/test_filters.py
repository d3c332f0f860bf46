"""The method `filters`: budgets are kept, what is left works, wrong requests are told what is possible."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageClassification

from hfcompress.config import parse
from hfcompress.errors import DataError, ModelError, RequestError
from hfcompress.export.config import ExportConfig
from hfcompress.export.run import export_onnx
from hfcompress.measure.size import measure_size
from hfcompress.modeling.groups import groups_of
from hfcompress.pruning.filters import FiltersConfig, filters
from hfcompress.registry import find
from tests.pruning.images import MOBILENET, RESNET, TASK, digits, image_context, network
from tests.tiny import tiny_head, tiny_model

FEW = {"examples": 8, "batch_size": 4}


def pruned(folder, shape=RESNET, model=None, **options):
    config = parse(FiltersConfig, {**FEW, **options})
    return filters(model or network(shape), config, image_context(folder, shape=shape))


def macs(model):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**TASK.example_inputs(model.config, 1, 0))
    return counter.get_total_flops() // 2


def units(model):
    return {group.name: group.units for group in groups_of(model, ("filters",))}


def logits(model):
    with torch.no_grad():
        return model(**TASK.example_inputs(model.config, 2, 0)).logits


def test_it_is_a_step():
    assert find("pruning", "filters").config is FiltersConfig


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("importance", ["magnitude", "batch_norm", "taylor"])
def test_a_share_of_the_work_is_kept(importance, scope, tmp_path):
    model = pruned(tmp_path, macs=0.5, importance=importance, scope=scope, round_to=2)
    assert 0.4 < macs(model) / macs(network()) <= 0.5
    assert all(count % 2 == 0 for count in units(model).values())


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_a_share_of_the_filters_goes(scope, tmp_path):
    before = sum(units(network(MOBILENET)).values())
    model = pruned(tmp_path, MOBILENET, sparsity=0.5, scope=scope, importance="magnitude", round_to=1)
    assert 0.47 * before < sum(units(model).values()) <= 0.5 * before
    assert all(count >= 1 for count in units(model).values())


@pytest.mark.parametrize("budget", [{"sparsity": 0}, {"macs": 1}])
def test_with_the_whole_budget_the_model_comes_back_as_it_was(budget, tmp_path):
    before = network().state_dict()
    model = pruned(tmp_path, **budget)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_uniform_keeps_the_largest_filters_of_a_layer(tmp_path):
    model = network()
    group = next(group for group in groups_of(model, ("filters",)) if len(group.writers) == 1)
    weight = model.get_submodule(group.writers[0].module).weight
    order = weight.abs().sum((1, 2, 3)).argsort(descending=True)
    small = pruned(
        tmp_path, model=model, sparsity=0.5, importance="magnitude", scope="uniform", round_to=1, recalibrate=False
    )
    kept = small.get_submodule(group.writers[0].module).weight
    expected = weight[order[: len(kept)].sort().values]
    assert len(kept) == group.units // 2
    assert kept.shape[1] in (expected.shape[1], expected.shape[1] // 2)  # what it reads was halved too
    assert set(kept.flatten().tolist()) <= set(expected.flatten().tolist())


def test_the_statistics_are_of_the_pruned_network(tmp_path):
    options = {"macs": 0.5, "importance": "magnitude", "round_to": 1}
    old, new = (pruned(tmp_path, recalibrate=choice, **options) for choice in (False, True))
    assert units(old) == units(new)
    assert old.resnet.embedder.embedder.normalization.num_batches_tracked == 0
    assert new.resnet.embedder.embedder.normalization.num_batches_tracked == 2
    assert all(torch.equal(value, dict(old.named_parameters())[name]) for name, value in new.named_parameters())


def test_the_smallest_possible_model_can_be_had(tmp_path):
    options = {"importance": "magnitude", "round_to": 1}
    with pytest.raises(RequestError, match=r"0\.999 is too much: each layer keeps at least 1 filter \(round_to\)") as e:
        pruned(tmp_path, sparsity=0.999, **options)
    most = float(str(e.value).rpartition("Give at most ")[2].rstrip("."))
    left = units(pruned(tmp_path, sparsity=most, **options)).values()
    assert len(left) <= sum(left) < len(left) + 2  # `most` is rounded


def test_a_budget_below_the_smallest_possible_model_names_it(tmp_path):
    with pytest.raises(
        RequestError, match=r"macs: 0\.01 is below the smallest possible model: each layer keeps at least 8"
    ) as e:
        pruned(tmp_path, macs=0.01)
    least = float(str(e.value).rpartition("Give at least ")[2].split()[0])
    model = pruned(tmp_path, macs=least, importance="magnitude")
    assert set(units(model).values()) == {8}
    assert "or a smaller round_to" in str(e.value)


@pytest.mark.parametrize("shape", [RESNET, MOBILENET, "shape:mobilenet-v1;width=0.25;image_size=32"])
def test_it_reloads_trains_and_is_pruned_again(shape, tmp_path):
    model = pruned(tmp_path, shape, macs=0.6, importance="magnitude", round_to=1)
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert torch.allclose(logits(again), logits(model), atol=1e-6)
    assert measure_size(again.config, TASK).macs == macs(model)
    again.train()
    optimizer = torch.optim.SGD(again.parameters(), lr=0.01)
    again(**TASK.example_inputs(again.config, 4, 0), labels=torch.arange(4)).loss.backward()
    assert all(parameter.grad is not None for parameter in again.parameters())
    optimizer.step()
    smaller = pruned(tmp_path, shape, model=again, macs=0.6, importance="magnitude", round_to=1)
    assert smaller.training
    assert macs(smaller.eval()) <= 0.6 * macs(model)


def test_onnx_answers_as_the_pruned_network_does(tmp_path):
    pytest.importorskip("onnxruntime")
    model = tiny_head("resnet", "ForImageClassification", image_size=16, num_labels=10)
    model = pruned(tmp_path / "work", model=model, macs=0.5, importance="magnitude", round_to=1)
    record = export_onnx(model, None, TASK, tmp_path, ExportConfig(quantize="none"), say=lambda text: None)
    assert (tmp_path / "onnx" / "model.onnx").stat().st_size > 0
    assert record["opset"]


def test_texts_have_no_filters(tmp_path):
    with pytest.raises(ModelError, match="bert has no filters"):
        pruned(tmp_path, model=tiny_model("bert"), macs=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either sparsity or macs: neither is given"),
        ({"sparsity": 0.5, "macs": 0.5}, "give either sparsity or macs: got 0.5 and 0.5"),
        ({"sparsity": 1}, "sparsity: input should be less than 1"),
        ({"sparsity": -0.1}, "sparsity: input should be greater than or equal to 0"),
        ({"macs": 0}, "macs: input should be greater than 0"),
        ({"macs": 1.5}, "macs: input should be less than or equal to 1"),
        ({"macs": 0.5, "round_to": 0}, "round_to: input should be greater than or equal to 1"),
        ({"macs": 0.5, "importance": "size"}, "importance: input should be 'magnitude', 'batch_norm' or 'taylor'"),
    ],
)
def test_wrong_requests(options, message):
    with pytest.raises(RequestError) as caught:
        parse(FiltersConfig, options)
    assert message in str(caught.value)


def test_one_row_is_too_few(tmp_path):
    data = replace(digits(), train=digits().train.select([0]))
    with pytest.raises(DataError, match="examples: 1 training row is not enough to look at"):
        filters(network(), FiltersConfig(macs=0.5), image_context(tmp_path, data))
