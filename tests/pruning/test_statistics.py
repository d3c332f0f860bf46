"""One-shot pruning: which modules, in which order, and what patterns mean."""

import pytest
import torch

from hfcompress.config import parse
from hfcompress.errors import DataError, ModelError, RequestError
from hfcompress.modeling.linear import rows_of
from hfcompress.modeling.targets import targets_of
from hfcompress.pruning.sparsegpt import SparseGPTConfig, sparsegpt
from hfcompress.pruning.statistics import _stages, read_pattern, smallest
from hfcompress.pruning.wanda import WandaConfig, wanda
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_model

METHODS = [(wanda, WandaConfig), (sparsegpt, SparseGPTConfig)]
each_method = pytest.mark.parametrize(("method", "config"), METHODS, ids=["wanda", "sparsegpt"])
FAMILIES = ["bert", "gpt2", "squeezebert", "albert", "deberta-v2", "modernbert", "mobilebert", "t5", "bart", "llama"]


def zeros_by_row(model):
    """Number of zeros of every output of every module that is pruned by default."""
    return {name: (rows_of(module) == 0).sum(dim=-1) for name, module in targets_of(model).items()}


def test_smallest_marks_as_many_even_where_all_are_equal():
    marks = smallest(torch.tensor([[1.0, 1.0, 1.0, 1.0], [4.0, 3.0, 2.0, 1.0]]), 2)
    assert marks.tolist() == [[True, True, False, False], [False, False, True, True]]


def test_patterns_are_read():
    assert read_pattern("2:4") == (2, 4)


@pytest.mark.parametrize("text", ["4:2", "0:4", "2", "a:b", "2:4:8", "-1:4", ""])
def test_other_texts_are_no_patterns(text):
    with pytest.raises(RequestError, match="is not a pattern"):
        read_pattern(text)


@pytest.mark.parametrize("given", [{}, {"sparsity": 0.5, "pattern": "2:4"}])
def test_one_of_sparsity_and_pattern_is_given(given):
    with pytest.raises(RequestError, match="sparsity or pattern"):
        parse(WandaConfig, given)


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan")])
def test_a_sparsity_lies_below_one(sparsity):
    with pytest.raises(RequestError, match="sparsity"):
        parse(WandaConfig, {"sparsity": sparsity})


@pytest.mark.parametrize("family", FAMILIES)
@each_method
def test_two_of_four_inputs_stay_in_every_output_of_every_family(method, config, family, tmp_path):
    model = tiny_head(family, "ForSequenceClassification", eos_token_id=3, max_position_embeddings=80)
    method(model, config(pattern="2:4", examples=6, batch_size=3), tiny_context(tmp_path))
    for module in targets_of(model).values():
        rows = rows_of(module)
        assert ((rows != 0).unflatten(-1, (-1, 4)).sum(dim=-1) <= 2).all()
        assert (rows != 0).sum() == rows.numel() // 2


@each_method
def test_without_a_sparsity_nothing_changes(method, config, tmp_path):
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert method(model, config(sparsity=0.0), tiny_context(tmp_path)) is model
    assert method(model, config(pattern="4:4"), tiny_context(tmp_path)) is model
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@each_method
def test_what_is_not_asked_for_stays(method, config, tmp_path):
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    method(model, config(sparsity=0.5, layers=[1], exclude=["*.output.dense"]), tiny_context(tmp_path))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    start = "bert.encoder.layer.1."
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense")
    assert changed == {f"{start}{name}.weight" for name in names}


@each_method
def test_one_row_is_too_few(method, config, tmp_path):
    with pytest.raises(DataError, match="1 training row is not enough"):
        method(tiny_model(), config(sparsity=0.5), tiny_context(tmp_path, rows=1))


@each_method
def test_activations_that_are_no_numbers_name_the_layer(method, config, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.LayerNorm.bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\.attention\.self\.query"):
        method(model, config(sparsity=0.5), tiny_context(tmp_path))


@each_method
def test_a_pattern_that_does_not_divide_the_inputs_names_the_layers(method, config, tmp_path):
    with pytest.raises(RequestError, match=r"3:5 does not divide the 32 inputs of bert\.encoder\.layer\.{0"):
        method(tiny_model(), config(pattern="3:5"), tiny_context(tmp_path))


@each_method
def test_the_size_of_the_batches_changes_nothing(method, config, tmp_path):
    found = [
        method(tiny_model(), config(sparsity=0.5, batch_size=size, examples=16), tiny_context(tmp_path))
        for size in (1, 8)
    ]
    for name, tensor in found[0].state_dict().items():
        torch.testing.assert_close(tensor, found[1].state_dict()[name], rtol=1e-4, atol=1e-5)


@each_method
def test_the_mode_of_the_model_stays(method, config, tmp_path):
    for training in (True, False):
        assert method(tiny_model().train(training), config(sparsity=0.5), tiny_context(tmp_path)).training is training


def test_modules_are_taken_layer_by_layer():
    model = tiny_model()
    chosen = targets_of(model, modules=["*.layer.*.intermediate.dense", "*.layer.*.query", "classifier", "*pooler*"])
    assert [list(stage) for stage in _stages(model, chosen)] == [
        ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.intermediate.dense"],
        ["bert.encoder.layer.1.attention.self.query", "bert.encoder.layer.1.intermediate.dense"],
        ["bert.pooler.dense", "classifier"],
    ]


def test_later_layers_see_what_the_pruned_ones_give(tmp_path):
    last = "bert.encoder.layer.1.output.dense.weight"
    found = [
        sparsegpt(tiny_model(), SparseGPTConfig(sparsity=0.9, sequential=sequential), tiny_context(tmp_path))
        for sequential in (True, False)
    ]
    first = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(found[0].state_dict()[first], found[1].state_dict()[first])
    assert not torch.equal(found[0].state_dict()[last], found[1].state_dict()[last])


@each_method
def test_kernels_of_convolutions_are_pruned_by_what_they_read(method, config, tmp_path):
    import numpy as np
    from datasets import Dataset
    from PIL import Image
    from transformers import ViTImageProcessor

    from hfcompress.context import Context
    from hfcompress.data import TaskData
    from hfcompress.tasks import find_task

    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    rows = Dataset.from_dict({"image": [Image.fromarray(one) for one in pixels], "labels": [0, 1, 0, 1]})
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    context = Context(
        find_task("image-classification"), TaskData(rows, rows, ("a", "b"), None), processor, 0, tmp_path, {}, False
    )
    model = tiny_head("resnet", "ForImageClassification")
    method(model, config(sparsity=0.5, examples=4), context)
    for module in targets_of(model).values():
        assert (rows_of(module) == 0).sum() == rows_of(module).numel() // 2
