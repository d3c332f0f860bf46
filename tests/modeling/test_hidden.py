"""Removing dimensions of the hidden state: equal to a model whose norms leave them out, saved and loaded."""

import copy

import pytest
import torch
import transformers

from hfcompress import cut
from hfcompress.errors import ModelError
from hfcompress.modeling.families import layers_prefix
from hfcompress.modeling.groups import groups_of
from hfcompress.modeling.surgery import keep_hidden, keep_units
from tests.modeling.test_surgery import outputs, with_emptied
from tests.tiny import HEADS, tiny_head, tiny_model

FAMILIES = ["bert", "distilbert", "electra", "llama", "modernbert", "mpnet", "qwen2", "qwen3", "roberta", "xlm-roberta"]
KEPT = [dimension for dimension in range(32) if dimension % 5]

INNER = ("dense", "pre_classifier", "vocab_transform", "embeddings_project")


def with_other_norms(model, kept):
    """A copy of the whole width in which norms look at, and give, the kept dimensions only, as do poolers and heads."""
    model = copy.deepcopy(model)
    mask = torch.zeros(32)
    mask[kept] = 1
    inside = layers_prefix(model)

    def normalise(module, args, output):
        narrow = copy.deepcopy(module)
        narrow.weight = torch.nn.Parameter(module.weight[kept])
        if getattr(module, "bias", None) is not None:
            narrow.bias = torch.nn.Parameter(module.bias[kept])
        if hasattr(module, "normalized_shape"):
            narrow.normalized_shape = (len(kept),)
        narrow._forward_hooks.clear()
        found = torch.zeros_like(output)
        found[..., kept] = narrow(args[0][..., kept])
        return found

    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.shape == (32,) and not name.endswith(("q_norm", "k_norm")):
            module.register_forward_hook(normalise)
        elif not name.startswith(inside) and name.rpartition(".")[2] in INNER:
            if module.out_features == 32:
                module.register_forward_hook(lambda module, args, output: output * mask)
    return model


@pytest.mark.parametrize(("family", "head"), [(f, head) for f in FAMILIES for head in HEADS[f]])
def test_equals_a_model_whose_norms_leave_the_dimensions_out(family, head, tmp_path):
    model = tiny_head(family, head)
    expected = outputs(with_other_norms(model, KEPT))
    if expected.shape[-1] == 32:  # the hidden state itself
        expected = expected[..., KEPT]
    keep_hidden(model, KEPT)
    found = outputs(model)
    assert torch.allclose(found, expected, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded, report = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path, output_loading_info=True)
    assert not {kind: names for kind, names in report.items() if names}
    assert torch.equal(outputs(loaded), found)
    if head.endswith("LM"):
        assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == (
            model.get_output_embeddings().weight is model.get_input_embeddings().weight
        )


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_goes_together_with_heads_neurons_and_layers(family, tmp_path):
    head = HEADS[family][-1]
    model, other = tiny_head(family, head, layers=3), tiny_head(family, head, layers=3)
    kept = with_emptied(groups_of(model))
    keep_hidden(keep_units(model, kept), KEPT)
    keep_units(keep_hidden(other, KEPT), kept)
    assert torch.equal(outputs(model), outputs(other))
    small = cut(keep_hidden(model, range(5, 20)), [0, 2])
    small.save_pretrained(tmp_path)
    loaded = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path)
    assert torch.equal(outputs(loaded), outputs(small))
    assert loaded.get_input_embeddings().weight.shape == (64, 15)


def test_keeping_all_dimensions_changes_nothing():
    model = tiny_model("bert")
    before = outputs(model)
    assert torch.equal(outputs(keep_hidden(model, range(32))), before)
    assert not hasattr(model.config, "quantization_config")


@pytest.mark.parametrize("dimensions", [[], [32], [-1], [3, 2], [1, 1]])
def test_dimensions_that_do_not_exist_are_refused(dimensions):
    with pytest.raises(ModelError, match="It has 32, counted from 0"):
        keep_hidden(tiny_model("bert"), dimensions)


def test_another_architecture_is_refused():
    with pytest.raises(ModelError, match="of t5 cannot be removed. Possible with: bert, distilbert"):
        keep_hidden(tiny_head("t5", "ForSeq2SeqLM"), [0])
