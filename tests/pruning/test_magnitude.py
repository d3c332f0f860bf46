"""Magnitude pruning: exact counts, the smallest first, at once and while training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.targets import targets_of
from hfcompress.pruning.magnitude import MagnitudeConfig, MagnitudePruner, choose, magnitude
from hfcompress.training.alteration import Length
from tests.tiny import tiny_head, tiny_model


def config(**options):
    return parse(MagnitudeConfig, options)


def linear(values):
    values = torch.tensor(values)
    layer = nn.Linear(values.shape[1], values.shape[0])
    layer.weight.data = values
    return layer


def stays(values, sparsity=0.0, **options):
    """What stays of one matrix, as 0 and 1."""
    options = options or {"sparsity": sparsity}
    given = config(**options)
    return choose({"one": linear(values)}, given, given.final)["one"].int().tolist()


def pruned(model, **options):
    return magnitude(model, config(**options), context=None)


def zeros(model):
    return [int((module.weight == 0).sum()) for module in targets_of(model).values()]


def test_the_smallest_go_by_hand():
    assert stays([[0.5, -0.1, 0.3], [-0.9, 0.2, 0.05]], 0.5) == [[1, 0, 1], [1, 0, 0]]


def test_of_equal_ones_the_first_go():
    assert stays([[1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0, 1.0]], 0.375) == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert stays([[0.0, 2.0, -2.0, 2.0]], 0.5) == [[0, 0, 1, 1]]


def test_zeros_go_first():
    assert stays([[0.0, 0.1, -0.0, 0.2]], 0.5) == [[0, 1, 0, 1]]


def test_local_compares_within_a_matrix_and_global_over_all():
    small, large = linear([[0.1, 0.2], [0.3, 0.4]]), linear([[1.0, 2.0], [3.0, 0.25]])
    modules = {"small": small, "large": large}
    local, over_all = (choose(modules, config(sparsity=0.5, scope=scope), 0.5) for scope in ("local", "global"))
    assert [part.int().tolist() for part in local.values()] == [[[0, 0], [1, 1]], [[0, 1], [1, 0]]]
    assert [part.int().tolist() for part in over_all.values()] == [[[0, 0], [0, 1]], [[1, 1], [1, 0]]]


def test_a_pattern_keeps_the_largest_of_every_m_inputs():
    row = [0.1, -0.4, 0.2, 0.3, 5.0, 6.0, 7.0, 8.0]
    assert stays([row], pattern="2:4") == [[0, 1, 0, 1, 0, 0, 1, 1]]
    assert stays([row], pattern="1:4") == [[0, 1, 0, 0, 0, 0, 0, 1]]
    assert stays([row], pattern="4:4") == [[1] * 8]


def test_on_its_way_to_a_pattern_the_smallest_go_first():
    layer = {"one": linear([[0.1, 0.4, 0.2, 0.3, 5.0, 6.0, 7.0, 8.0]])}
    at = {share: choose(layer, config(pattern="2:4"), share)["one"].int().tolist() for share in (0.125, 0.25, 0.375)}
    assert at == {0.125: [[0, *[1] * 7]], 0.25: [[0, 1, 0, 1, 1, 1, 1, 1]], 0.375: [[0, 1, 0, 1, 0, 1, 1, 1]]}


def test_the_inputs_of_gpt2_and_of_convolutions():
    """GPT-2 keeps inputs first; of a convolution an input is a channel at a place."""
    other = Conv1D(1, 4)
    other.weight.data = torch.tensor([[0.1], [0.4], [0.2], [0.3]])
    assert choose({"one": other}, config(pattern="2:4"), 0.5)["one"].flatten().int().tolist() == [0, 1, 0, 1]
    convolution = nn.Conv1d(2, 1, 2)
    convolution.weight.data = torch.tensor([[[0.1, 0.4], [0.2, 0.3]]])
    assert choose({"one": convolution}, config(pattern="2:4"), 0.5)["one"].flatten().int().tolist() == [0, 1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-2, 2, width=16), min_size=4, max_size=4), min_size=1, max_size=6),
    st.floats(0, 0.99),
    st.sampled_from(["local", "global"]),
)
def test_exactly_the_rounded_share_goes_and_none_is_larger_than_one_that_stays(values, sparsity, scope):
    modules = {"one": linear(values), "two": linear([[0.5, 0.25]])}
    kept = choose(modules, config(sparsity=sparsity, scope=scope), sparsity)
    flat = {name: (modules[name].weight.detach().abs().flatten(), mask.flatten()) for name, mask in kept.items()}
    if scope == "global":
        flat = {"all": tuple(torch.cat(parts) for parts in zip(*flat.values(), strict=True))}
    for sizes, mask in flat.values():
        assert int((~mask).sum()) == round(sparsity * len(mask))
        if (~mask).any() and mask.any():
            assert sizes[~mask].max() <= sizes[mask].min()


@pytest.mark.parametrize("scope", ["local", "global"])
def test_sparsity_0_leaves_every_byte(scope):
    model, same = tiny_model(), tiny_model()
    weight = model.bert.encoder.layer[0].output.dense.weight
    weight.data[0, 0] = same.bert.encoder.layer[0].output.dense.weight.data[0, 0] = -0.0
    pruned(model, sparsity=0, scope=scope)
    for name, tensor in model.state_dict().items():
        other = same.state_dict()[name]
        assert torch.equal(tensor, other)
        assert torch.equal(tensor.signbit(), other.signbit())


def test_a_model_is_pruned_at_once():
    model = tiny_model()
    before = tiny_model().state_dict()
    assert pruned(model, sparsity=0.3) is model
    assert zeros(model) == [round(0.3 * 1024)] * 4 + [round(0.3 * 2048)] * 2 + [307] * 4 + [614] * 2
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor[tensor != 0], before[name][tensor != 0])


def test_filters_choose_what_is_pruned():
    model = pruned(tiny_model(), sparsity=0.5, layers=[1], modules=["*.attention.*"], exclude=["*.key"])
    assert zeros(model) == [0] * 6 + [512, 0, 512, 512, 0, 0]


def test_pruning_again_keeps_the_zeros():
    model = pruned(tiny_model(), sparsity=0.3)
    first = [module.weight == 0 for module in targets_of(model).values()]
    pruned(model, sparsity=0.6)
    second = [module.weight == 0 for module in targets_of(model).values()]
    assert all(bool((now | ~then).all()) for then, now in zip(first, second, strict=True))
    assert [int(part.sum()) for part in second] == [round(0.6 * part.numel()) for part in second]


def test_both_sides_of_a_tie_are_one_weight():
    model = tiny_head("bert", "ForMaskedLM")
    tie = ["*word_embeddings", "cls.predictions.decoder"]
    pruned(model, sparsity=0.5, modules=tie)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert int((model.cls.predictions.decoder.weight == 0).sum()) == 1024
    with pytest.raises(RequestError, match="is tied to"):
        pruned(model, sparsity=0.5, modules=tie[1:])


def test_every_model_can_take_2_of_4():
    for family, head in (("gpt2", "ForCausalLM"), ("t5", "ForSeq2SeqLM"), ("vit", "ForImageClassification")):
        model = pruned(tiny_head(family, head), pattern="2:4")
        for module in targets_of(model).values():
            rows = module.weight.T if isinstance(module, Conv1D) else module.weight.flatten(1)
            assert (rows.unflatten(-1, (-1, 4)) != 0).sum(-1).max() == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "sparsity: is missing"),
        ({"sparsity": 1.0}, "sparsity: input should be less than 1"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "both are given"),
        ({"pattern": "5:4"}, "pattern: '5:4' is not a pattern"),
        ({"sparsity": 0.5, "schedule": "linear", "every": 3}, "train: only training uses schedule, every"),
        ({"sparsity": 0.5, "losses": "kl"}, "train: only training uses losses, and train is not given"),
        ({"sparsity": 0.5, "train": True, "losses": {"kl": 1}, "alpha": 0.5}, "alpha: cannot stand beside explicit"),
        ({"sparsity": 0.5, "train": True, "layer_map": "lest"}, "layer_map: there is no layer map 'lest'"),
        ({"sparsity": 0.5, "train": True, "layer_map": "1:x"}, "layer_map: takes a name or pairs such as 1:2,3:6"),
        ({"sparsity": 0.5, "spursity": 1}, "Did you mean 'sparsity'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(RequestError, match=said):
        config(**options)


def test_training_options_without_training_are_refused():
    given = config(sparsity=0.5)
    given.training = {"num_train_epochs": 2.0}
    with pytest.raises(RequestError, match="train: only training uses num_train_epochs, and train is not given"):
        magnitude(tiny_model(), given, context=None)


def test_a_pattern_that_does_not_divide_the_inputs_names_the_modules():
    with pytest.raises(RequestError) as caught:
        pruned(tiny_model(), pattern="2:64", layers=[0])
    (fault,) = caught.value.faults
    assert fault.where == "pattern"
    layer = "bert.encoder.layer.0"
    first = ", ".join(f"{layer}.attention.self.{name}" for name in ("query", "key", "value"))
    assert fault.problem == f"2:64 does not divide the 32 inputs of {first} and 2 more."
    assert fault.fix.startswith("Exclude them")
    pruned(tiny_model(), pattern="2:64", layers=[0], modules=["*.0.output.dense"])


def test_nan_is_refused():
    model = tiny_model()
    model.bert.encoder.layer[1].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"layer\.1\.output\.dense' are NaN"):
        pruned(model, sparsity=0.5)


def pruner(model, **options):
    made = config(train=True, every=1, **options).build(model)
    made.attach(model)
    made.prepare(Length(10, 5))
    return made


def test_the_pruner_masks_and_finishes():
    model = tiny_model()
    dense = [module.weight.clone() for module in targets_of(model).values()]
    one = pruner(model, sparsity=0.5, warmup=2, cooldown=4)
    assert isinstance(one, MagnitudePruner)
    assert (one.sparsity, one.target) == (0.0, 0.5)
    seen = []
    for step in range(10):
        one.set_step(step)
        seen.append(one.sparsity)
    assert seen[:2] == [0, 0]
    assert seen[2:6] == pytest.approx([0.5 * (1 - left**3) for left in (0.75, 0.5, 0.25, 0)], abs=1e-3)
    assert seen[6:] == [0.5] * 4
    assert all(torch.equal(m.weight, d) for m, d in zip(targets_of(model).values(), dense, strict=True))
    one.finish()
    assert zeros(model) == [round(0.5 * weight.numel()) for weight in dense]


def test_one_shot_does_not_choose_anew():
    model = tiny_model()
    one = pruner(model, sparsity=0.5, schedule="one_shot", warmup=1)
    one.set_step(1)
    before = {name: mask.clone() for name, mask in one.state().items()}
    for module in targets_of(model).values():
        module.weight.data.normal_()
    one.set_step(2)
    assert all(torch.equal(mask, before[name]) for name, mask in one.state().items())


def test_zeros_stay_zero_in_training_from_its_first_step():
    """Pruning and retraining by turns (Han et al. 2015): the second training begins where the first ended."""
    model = pruned(tiny_model(), sparsity=0.4)
    one = pruner(model, sparsity=0.6, warmup=3, cooldown=3)
    one.set_step(0)
    assert one.sparsity == pytest.approx(0.4, abs=1e-3)
    assert all(not mask[model.get_submodule(name).weight == 0].any() for name, mask in one.state().items())


def test_state_is_restored_and_other_masks_are_refused():
    model = tiny_model()
    one = pruner(model, sparsity=0.5, warmup=0, cooldown=0)
    one.set_step(4)
    other = pruner(tiny_model(), sparsity=0.5, warmup=0, cooldown=0)
    other.load_state(one.state())
    assert other.sparsity == one.sparsity > 0
    assert all(torch.equal(mask, one.state()[name]) for name, mask in other.state().items())
    with pytest.raises(RequestError, match="the checkpoint holds masks of other modules"):
        pruner(tiny_model(), sparsity=0.5, layers=[0]).load_state(one.state())
