"""Shapes: known parameter counts, narrowed widths, blocks that start as the identity, and faults all at once."""

import numpy as np
import pytest
import torch

from hfcompress.errors import ModelError
from hfcompress.measure.size import measure_size
from hfcompress.modeling.load import load_config, load_model, load_processor
from hfcompress.modeling.shapes import SHAPES
from hfcompress.tasks import TASKS, is_trained

TASK = TASKS["image-classification"]


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet-18", 11.69), ("resnet-50", 25.56), ("mobilenet-v2", 3.51), ("mobilenet-v1", 4.23)]
)
def test_whole_shapes_have_the_published_number_of_parameters(name, millions):
    config = load_config(f"shape:{name}", num_labels=1001 if name == "mobilenet-v1" else 1000)
    assert measure_size(config, TASK).parameters / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_width_divides_every_layer():
    config = load_config("shape:resnet-50;width=0.125;image_size=32")
    assert (config.hidden_sizes, config.embedding_size, config.depths) == ([32, 64, 128, 256], 8, [3, 4, 6, 3])
    assert config.image_size == 32
    assert load_config("shape:mobilenet-v2;width=0.5").depth_multiplier == 0.5


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_a_model_with_a_processor_that_fits(name):
    source = f"shape:{name};width=0.25;image_size=32"
    model, processor = load_model(source, TASK, num_labels=3), load_processor(source, TASK)
    batch = processor([np.zeros((8, 8, 3), np.uint8)], return_tensors="pt")
    assert batch["pixel_values"].shape == TASK.example_inputs(model.config, 1, 0)["pixel_values"].shape
    assert batch["pixel_values"].unique().tolist() == [-1.0]
    assert model(**batch).logits.shape == (1, 3)
    assert (model.training, is_trained(model.config, TASK)) == (False, False)


def test_residual_blocks_start_as_the_identity():
    stage = load_model("shape:resnet-50;width=0.125", TASK).resnet.encoder.stages[0]
    states = torch.rand(1, 32, 4, 4)
    assert torch.equal(stage.layers[1](states), states)


def test_every_fault_is_named():
    with pytest.raises(ModelError) as error:
        load_config("shape:resnet-5;width=2;image_size=many;depth=3")
    assert len(error.value.faults) == 4
    for says in ("there is no shape 'resnet-5'. Did you mean 'resnet-50'?", "width is '2'.", "image_size is 'many'."):
        assert says in str(error.value)
