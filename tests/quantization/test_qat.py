"""Training with rounded numbers: what is rounded when, checkpoints, and a static file with the trained answers."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress.errors import RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.quantization.qat import QatConfig, rounded_inputs
from hfcompress.quantization.static import write_static
from hfcompress.quantization.trained_ranges import graph_ranges, read_ranges, who_reads
from hfcompress.tasks import find_task
from hfcompress.training.alteration import Length
from tests.tiny import tiny_head, tiny_inputs, tiny_model
from tests.training.runs import build, same, small_student, weights

LAYERS = 12  # linear layers of two BERT layers
TASK = find_task("text-classification")


def train(folder, ranges="average", teacher=None, student=None, **options):
    given = {"quantization": {"method": "qat", "ranges": ranges, "momentum": 0.5}}
    trainer = build(student or small_student(), folder, teacher, given=given, num_train_epochs=2, **options)
    return trainer


def on_grid(weight):
    codes = weight / (weight.abs().amax(dim=1, keepdim=True) / 64)
    return torch.allclose(codes, codes.round(), atol=1e-3)


@pytest.mark.parametrize("ranges", ["average", "learned"])
@pytest.mark.parametrize("taught", [False, True])
def test_the_trained_weights_lie_on_their_grids_and_the_ranges_stand_in_the_config(ranges, taught, tmp_path):
    trainer = train(tmp_path, ranges, tiny_model(layers=4) if taught else None)
    trainer.train()
    model = trainer.model
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(on_grid(layer.intermediate.dense.weight) for layer in model.bert.encoder.layer)
    trainer.save_model(str(tmp_path / "saved"))
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    found = read_ranges(saved.config)
    assert len(found) == LAYERS + 1  # and the pooler
    assert all(low <= 0 <= high and low < high for low, high in found.values())
    first = "bert.encoder.layer.0.attention.self."
    assert found[f"{first}query"] == found[f"{first}key"] == found[f"{first}value"]
    assert same(weights(saved), weights(model))


def test_ranges_are_only_observed_before_the_start_and_stay_at_the_end():
    model = small_student()
    quantizer = QatConfig(start=0.5, freeze=0.25).build(model)
    quantizer.attach(model)
    quantizer.prepare(Length(8, 4))
    inputs, plain = tiny_inputs(model), model(**tiny_inputs(model)).logits
    quantizer.set_step(3)
    assert torch.equal(model.train()(**inputs).logits, plain)
    first = quantizer.state()
    assert not quantizer.settled
    quantizer.set_step(4)
    assert quantizer.settled
    assert not torch.equal(model(**inputs).logits, plain)
    quantizer.set_step(6)
    before = {name: value.clone() for name, value in quantizer.state().items()}
    model(**tiny_inputs(model, seed=1))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state().items())
    assert set(first) == set(before)
    model.eval()
    quantizer.set_step(4)
    model(**tiny_inputs(model, seed=2))  # an evaluation changes nothing
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state().items())


def test_evaluation_is_with_rounded_numbers_and_as_the_finished_model_answers():
    model = small_student()
    quantizer = QatConfig(start=0.0).build(model)
    quantizer.attach(model)
    quantizer.prepare(Length(4, 4))
    quantizer.set_step(0)
    model.train()(**tiny_inputs(model))
    rounded = model.eval()(**tiny_inputs(model)).logits
    quantizer.finish()
    with rounded_inputs(model):
        torch.testing.assert_close(model(**tiny_inputs(model)).logits, rounded, atol=1e-5, rtol=1e-4)
    assert not torch.equal(model(**tiny_inputs(model)).logits, rounded)


def test_a_resumed_run_ends_bit_for_bit_alike(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 3}
    whole = train(tmp_path / "whole", "learned", **options)
    whole.train()
    resumed = train(tmp_path / "whole", "learned", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert same(weights(resumed.model), weights(whole.model))
    assert read_ranges(resumed.model.config) == read_ranges(whole.model.config)


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "roberta"])
def test_the_exported_file_gives_the_trained_models_answers_at_unseen_shapes(family, tmp_path):
    model = tiny_head(family, "ForSequenceClassification")
    quantizer = QatConfig(start=0.0).build(model)
    quantizer.attach(model)
    quantizer.prepare(Length(4, 4))
    quantizer.set_step(0)
    for seed in range(3):
        model.train()(**tiny_inputs(model, seed))
    quantizer.finish()
    model.eval()
    (source,) = find_backend("auto").trace(model, TASK, tmp_path, None)
    model.config.save_pretrained(tmp_path)
    ranges = graph_ranges(source, model.config)
    assert len(ranges) >= 8  # four activations a layer
    write_static(source, tmp_path / "static.onnx", ranges)
    onnx = load_onnx(tmp_path / "static.onnx", threads=1)
    for shape in ((1, 7), (3, 5)):
        ids = torch.randint(5, 60, shape)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad(), rounded_inputs(model):
            expected = model(**inputs).logits.numpy()
        found = np.asarray(onnx(**inputs).logits)
        float_answer = model(**inputs).logits.detach().numpy()
        assert np.abs(found - expected).max() <= 0.25 * max(np.abs(float_answer - expected).max(), 1e-4)


def test_layers_that_read_the_same_share_a_range():
    model = tiny_head("vit", "ForImageClassification")
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    found = who_reads(model, names)
    shared = [names for names in found.values() if len(names) == 3]
    assert len(shared) == 2
    assert all(len({name.rpartition(".")[0] for name in names}) == 1 for names in shared)


def test_bad_options():
    with pytest.raises(RequestError, match="start 0.6 and freeze 0.5 are more than the whole training"):
        QatConfig(start=0.6, freeze=0.5).check()
    with pytest.raises(RequestError, match="has 16 inputs and outputs"):
        QatConfig(modules=["classifier"]).build(small_student())
    with pytest.raises(RequestError, match="holds no trained ranges"), rounded_inputs(tiny_model()):
        pass
