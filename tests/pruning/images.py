"""What the tests of filters share: a tiny network for digits, and a context with a few of them."""

import copy
from functools import cache

import torch
from transformers import AutoModelForImageClassification

from hfcompress.context import Context
from hfcompress.data import DataConfig, load_data
from hfcompress.modeling.shapes import shape_config, shape_processor
from hfcompress.tasks import find_task

TASK = find_task("image-classification")
RESNET = "shape:resnet-18;width=0.125;image_size=16"
MOBILENET = "shape:mobilenet-v2;width=0.25;image_size=32"


@cache
def digits():
    """A few of scikit-learn's."""
    return load_data(DataConfig("sklearn:digits", validation="0.9", max_train_samples=40), 0, TASK)


def image_context(folder, data=None, shape=RESNET):
    return Context(TASK, data or digits(), shape_processor(shape), 0, folder, {}, progress=False)


@cache
def _network(shape):
    torch.manual_seed(0)
    return AutoModelForImageClassification.from_config(shape_config(shape, num_labels=10)).eval()


def network(shape=RESNET):
    """A random network in evaluation mode; its batch norms' scales differ."""
    model = copy.deepcopy(_network(shape))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return model
