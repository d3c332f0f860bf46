"""Heads of another width than the config says: pruned before and after, cut, trained, looked at, saved and loaded."""

import json

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from hfcompress import registry
from hfcompress.config import parse
from hfcompress.errors import ModelError
from hfcompress.measure.structure import layer_structure
from hfcompress.modeling.groups import attention_of, groups_of, head_width, places_of, scales_scores, set_head_width
from hfcompress.modeling.load import load_model
from hfcompress.modeling.narrow_heads import Affine, Heads, attentions_of, put_heads, read_heads
from hfcompress.modeling.projections import heads_by_width, layer_head_sizes, layer_heads, record_projections
from hfcompress.modeling.structure import structure_of
from hfcompress.modeling.surgery import keep_layers, keep_units
from hfcompress.tasks import TASKS
from hfcompress.training.objective import ModelPair
from hfcompress.training.signals import Signals
from tests.modeling.test_structure import NAMED
from tests.modeling.test_surgery import masked_outputs, outputs, some, with_emptied
from tests.tiny import HEADS, tiny_head, tiny_model

FAMILIES = ["albert", "bart", "bert", "distilbert", "gpt2", "mobilebert", "mpnet", "t5", "vit"]
every_family = pytest.mark.parametrize("family", FAMILIES)


def first(heads, count, width):
    """Keep each head's first channels."""

    def rows(values):
        return values.unflatten(0, (count, -1))[:, :width].flatten(0, 1)

    def less(layer):
        return Affine(rows(layer.weight), None if layer.bias is None else rows(layer.bias))

    return Heads(
        less(heads.query), less(heads.key), less(heads.value), Affine(rows(heads.output.weight.T).T, heads.output.bias)
    )


def narrowed(model, *sizes):
    """Make heads narrower: attention after attention one of these widths, again and again."""
    found = {
        one.group: first(read_heads(model, one), one.heads, sizes[number % len(sizes)])
        for number, one in enumerate(attentions_of(model))
    }
    return put_heads(model, found)


def tiny(family, layers=2):
    return tiny_head(family, HEADS[family][-1], layers, **NAMED)


def reloaded(model, folder):
    model.save_pretrained(folder)
    return getattr(transformers, f"AutoModel{HEADS[model.config.model_type][-1]}").from_pretrained(folder)


@every_family
def test_pruned_afterwards(family, tmp_path):
    model = narrowed(tiny(family), 3, 2)
    kept = some(groups_of(model))
    expected = masked_outputs(model, kept)
    keep_units(model, kept)
    assert torch.allclose(outputs(model), expected, atol=1e-5)
    assert torch.equal(outputs(reloaded(model, tmp_path)), outputs(model))
    keep_units(model, with_emptied(groups_of(model)))
    assert torch.equal(outputs(reloaded(model, tmp_path)), outputs(model))


@every_family
def test_pruned_before(family, tmp_path):
    """Channels that are silent can go: a model whose heads use 3 of theirs answers alike when they have no more."""
    model = keep_units(tiny(family), with_emptied(groups_of(tiny(family))))
    sizes = {one.group: one for one in attentions_of(model)}
    with torch.no_grad():
        for one in sizes.values():
            heads, scale = read_heads(model, one), (one.width / 3) ** 0.5 if scales_scores(one.module) else 1.0
            for layer in (heads.query, heads.value):
                for tensor in (layer.weight, layer.bias):
                    if tensor is not None:
                        tensor.unflatten(0, (one.heads, -1))[:, 3:] = 0
            put_heads(model, {one.group: heads})
            before = outputs(model)
            query = Affine(heads.query.weight / scale, None if heads.query.bias is None else heads.query.bias / scale)
            put_heads(model, {one.group: first(Heads(query, heads.key, heads.value, heads.output), one.heads, 3)})
            assert torch.allclose(outputs(model), before, atol=1e-5)
    assert torch.equal(outputs(reloaded(model, tmp_path)), outputs(model))


@pytest.mark.parametrize("family", ["bert", "t5", "mpnet"])
def test_heads_keep_their_numbers_and_their_width(family):
    model = narrowed(tiny(family), 3, 2)
    (group, *_) = groups_of(model, ["heads"])
    keep_units(model, {group.name: [1, 3]})
    assert structure_of(model.config).heads[group.name] == {"kept": [1, 3], "of": 4, "width": 3}
    narrowed(model, 1)
    assert structure_of(model.config).heads[group.name] == {"kept": [1, 3], "of": 4, "width": 1}


@every_family
def test_layers_can_be_left_out(family, tmp_path):
    model = narrowed(tiny(family, layers=3), 3, 2, 1)
    small = keep_layers(model, [0, 2])
    assert torch.isfinite(outputs(small)).all()
    assert torch.equal(outputs(reloaded(small, tmp_path)), outputs(small))
    if family in ("bert", "gpt2", "vit"):
        assert layer_head_sizes(model.config) == [3, 2, 1]
        assert layer_head_sizes(small.config) == [3, 1]


def test_a_step_of_training_and_a_second_save(tmp_path):
    model = narrowed(tiny_model("bert"), 3, 5)
    model.save_pretrained(tmp_path / "a")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.tensor([[2, 5, 3], [2, 6, 3]])
    before = model(input_ids=ids, labels=torch.tensor([0, 1])).loss
    before.backward()
    query = model.bert.encoder.layer[0].attention.self.query.weight
    assert query.shape == (12, 32)
    assert query.grad.abs().sum() > 0
    optimizer.step()
    model.eval().save_pretrained(tmp_path / "b")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "b")
    assert torch.equal(outputs(again), outputs(model))


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart"])
def test_text_is_generated_with_a_cache_as_without(family):
    model = narrowed(tiny(family), 3, 2)
    ids = torch.tensor([[2, 5, 6, 7]])
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": 2, "attention_mask": torch.ones_like(ids)}
    found = [model.generate(ids, use_cache=use_cache, **options) for use_cache in (True, False)]
    assert torch.equal(*found)


def test_what_looks_at_heads_knows_each_layers_width(tmp_path):
    model = narrowed(tiny_model("bert", layers=3), 3, 6, 8)
    keep_units(model, {"encoder.layer.1.heads": [0, 2]})
    with record_projections(model, [0, 1, 2]) as recorded:
        outputs(model)
        assert [recorded[layer].query.shape[2:] for layer in range(3)] == [(4, 3), (2, 6), (4, 8)]
    assert (layer_heads(model.config), layer_head_sizes(model.config)) == ([4, 2, 4], [3, 6, 8])
    assert [(row["heads"], row["head_size"]) for row in layer_structure(model)] == [(4, 3), (2, 6), (4, 8)]
    assert heads_by_width(model.config) == {12: 0, 32: 4}  # 4 heads of 3, or 2 of 6
    assert heads_by_width(tiny_model("bert").config) == {}


@pytest.mark.parametrize("loss", ["minilm", "minilmv2"])
def test_relations_of_a_narrower_student_are_compared(loss):
    teacher, student = tiny_model("bert"), narrowed(tiny_model("bert"), 3)
    method = registry.find("loss", loss)
    found = method.target(parse(method.config, {}), ModelPair(student.config, teacher.config, "1:1,2:2"))
    recorded = []
    for model in (student, teacher):
        with record_projections(model, [1]) as projections:
            outputs(model)
            recorded.append({1: projections[1]})
    mask = torch.ones(3, 9, dtype=torch.bool)
    values = found(*(Signals(projections=one, mask=mask) for one in recorded))
    assert torch.isfinite(values).all()
    assert (values >= -1e-6).all()
    assert values.sum() > 0


def test_modules_count_as_if_they_had_been_built_so():
    for family in FAMILIES:
        for place in places_of(model := tiny(family)):
            attention = attention_of(model, place)
            if attention is None:
                continue
            width, scaling = head_width(attention), getattr(attention, "scaling", None)
            set_head_width(attention, 3)
            assert head_width(attention) == 3
            if scaling is not None:
                expected = scaling if family == "t5" else 3**-0.5
                assert attention.scaling == pytest.approx(expected, rel=1e-12)
            set_head_width(attention, width)
            assert getattr(attention, "scaling", None) == (scaling and pytest.approx(scaling, rel=1e-12))


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (0, r"heads.encoder.layer.0.heads.width: .* is 0, not a width"),
        ("3", r"heads.encoder.layer.0.heads.width: .* is '3', not a width"),
    ],
)
def test_a_width_that_cannot_be_is_refused(width, message, tmp_path):
    narrowed(tiny_model("bert"), 3).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["heads"]["encoder.layer.0.heads"]["width"] = width
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path), TASKS["text-classification"])
