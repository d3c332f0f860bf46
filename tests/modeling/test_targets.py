"""Which layers are chosen: those of the layers, or those that filters choose."""

import pytest
import torch
from torch import nn

from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.linear import LINEAR
from hfcompress.modeling.targets import distinct, refuse_nan, targets_of
from tests.tiny import HEADS, tiny_head, tiny_model

LAYER = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
LAYER += ["intermediate.dense", "output.dense"]


def bert_layer(number):
    return [f"bert.encoder.layer.{number}.{name}" for name in LAYER]


def test_without_filters_the_linear_layers_of_all_layers():
    assert list(targets_of(tiny_model())) == bert_layer(0) + bert_layer(1)


@pytest.mark.parametrize("family", HEADS)
def test_every_family_has_weights_in_its_layers_and_no_others(family):
    model = tiny_head(family, HEADS[family][-1])
    found = targets_of(model)
    assert len(found) >= 6
    outside = ("embeddings", "classifier", "lm_head", "cls.", "shared", "pooler", "score", "embedder", "conv_stem")
    assert not [name for name in found if name.startswith(outside) or ".embeddings" in name]
    assert all(model.get_submodule(name) is module for name, module in found.items())


def test_layers_modules_and_exclude_narrow_it_down():
    model = tiny_model()
    assert list(targets_of(model, layers=[1])) == bert_layer(1)
    assert list(targets_of(model, layers=[1], modules=["*.query", "*.intermediate.*"])) == [
        bert_layer(1)[0],
        bert_layer(1)[4],
    ]
    assert list(targets_of(model, exclude=["*.attention.*"])) == bert_layer(0)[4:] + bert_layer(1)[4:]


def test_layers_of_an_encoder_and_a_decoder_are_those_of_both():
    found = targets_of(tiny_head("bart", "ForSeq2SeqLM"), layers=[1])
    assert {name.split(".layers.")[0] for name in found} == {"model.encoder", "model.decoder"}
    assert all(".layers.1." in name for name in found)


def test_modules_also_names_what_stands_outside_the_layers():
    model = tiny_model()
    assert list(targets_of(model, modules=["classifier"])) == ["classifier"]
    assert list(targets_of(model, modules=["*word_embeddings"], kinds=(*LINEAR, nn.Embedding))) == [
        "bert.embeddings.word_embeddings"
    ]


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"layers": [2, -1]}, "layers: there is no layer -1, 2. The model has 2: 0 to 1."),
        ({"layers": []}, "layers: it names no layer."),
        ({"modules": ["*.quary"]}, r"'\*.quary' matches nothing. There are for example 'bert.encoder.layer.0"),
        ({"modules": ["*word_embeddings"]}, "matches nothing"),
        ({"exclude": ["x"]}, "exclude: 'x' matches nothing"),
        ({"exclude": ["*"]}, "no weight of this bert is left to be changed. Change layers, modules or exclude."),
    ],
)
def test_filters_that_match_nothing_are_refused(filters, said):
    with pytest.raises(RequestError, match=said):
        targets_of(tiny_model(), **filters)


def test_all_faults_come_at_once():
    with pytest.raises(RequestError) as caught:
        targets_of(tiny_model(), layers=[7], modules=["*.a"], exclude=["*.b"])
    assert [fault.where for fault in caught.value.faults] == ["layers"]
    with pytest.raises(RequestError) as caught:
        targets_of(tiny_model(), modules=["*.a"], exclude=["*.b"])
    assert [fault.where for fault in caught.value.faults] == ["modules", "exclude"]


def test_one_side_of_a_tie_is_refused_and_both_are_one_weight():
    model = tiny_head("bert", "ForMaskedLM")
    decoder, table = "cls.predictions.decoder", "bert.embeddings.word_embeddings"
    with pytest.raises(RequestError, match=f"'{decoder}' is tied to '{table}': they are one weight"):
        targets_of(model, modules=["cls.predictions.decoder"])
    with pytest.raises(RequestError, match=f"'{table}' is tied to '{decoder}'"):
        targets_of(model, modules=[table], kinds=(*LINEAR, nn.Embedding))
    found = targets_of(model, modules=[table, decoder], kinds=(*LINEAR, nn.Embedding))
    assert list(found) == [table, decoder]
    assert list(distinct(found)) == [table]


def test_an_architecture_without_a_row_can_be_pruned_by_names():
    model = tiny_model()
    model.config.model_type = "nobody"
    for filters in ({}, {"layers": [0], "modules": ["*.query"]}):
        with pytest.raises(ModelError, match=r"no row in the block table\. Say by name what is changed: give modules"):
            targets_of(model, **filters)
    with pytest.raises(ModelError, match="Methods that prune single weights by name need none"):
        groups_of(model)
    assert list(targets_of(model, modules=["*.0.*.query"])) == bert_layer(0)[:1]


def test_weights_packed_into_integers_are_left_out():
    model = tiny_model()
    packed = model.bert.encoder.layer[0].output.dense
    packed.weight = torch.nn.Parameter(packed.weight.to(torch.int8), requires_grad=False)
    assert bert_layer(0)[5] not in targets_of(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value):
    model = tiny_model()
    model.get_submodule(bert_layer(1)[2]).weight.data[3, 4] = value
    with pytest.raises(ModelError, match=f"weights of '{bert_layer(1)[2]}' are NaN or infinite"):
        refuse_nan(targets_of(model))
    refuse_nan(targets_of(model, layers=[0]))
