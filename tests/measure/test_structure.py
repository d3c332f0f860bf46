"""Heads, neurons and bits layer by layer, for every family."""

import pytest

from hfcompress.measure.size import empty_model
from hfcompress.measure.structure import layer_structure
from hfcompress.modeling.low_rank import low_rank_like
from hfcompress.tasks import TASKS
from tests.tiny import CONVOLUTIONAL, ENCODER_DECODERS, HEADS, tiny_config, tiny_model

PLAIN = TASKS["sentence-similarity"]


@pytest.mark.parametrize("family", sorted(set(HEADS) - set(CONVOLUTIONAL)))
def test_layers_of_every_family(family):
    config = tiny_config(family, layers=2)
    found = layer_structure(empty_model(config, PLAIN))
    depth = 4 if family in ENCODER_DECODERS else 2
    assert [row["layer"] for row in found] == list(range(depth))
    width = getattr(config, "intermediate_size", 64) if family != "gpt2" else 4 * 32
    width = {"modernbert": 64}.get(family, width)
    assert {(row["heads"], row["neurons"], row["rank"]) for row in found} == {(4, width, None)}
    assert found[0]["bits"] == {"attention": 32, "ffn": 32}


def test_ranks_of_a_layer_from_least_to_most():
    model = tiny_model("bert")
    first = model.bert.encoder.layer[0]
    for parent, name, rank in (
        (first.attention.self, "query", 4),
        (first.attention.self, "key", 8),
        (first.intermediate, "dense", 6),
    ):
        setattr(parent, name, low_rank_like(getattr(parent, name), rank))
    assert [row["rank"] for row in layer_structure(model)] == ["4–8", None]


def test_shared_layers_are_listed_as_often_as_they_run():
    assert len(layer_structure(empty_model(tiny_config("albert", layers=5), PLAIN))) == 5


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_convolutions_have_none(family):
    assert layer_structure(empty_model(tiny_config(family), TASKS["image-classification"])) is None
