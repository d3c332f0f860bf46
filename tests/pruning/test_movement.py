"""Movement pruning's masks: when they are decided, what they silence, and that removed equals masked."""

import copy

import pytest
import torch

from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.groups import groups_of
from hfcompress.pruning.movement import MovementConfig
from hfcompress.pruning.silent import remove_silent
from hfcompress.training.pruner import Length
from tests.tiny import tiny_head, tiny_inputs, tiny_model

STRUCTURES = ["none", "block", "heads", "neurons", "heads_and_neurons", "block_and_neurons"]
WEIGHTS = ["none", "block"]
LENGTH = Length(steps=10, steps_per_epoch=5)


def pruner_of(model, **options):
    """A pruner that is attached and prepared: two steps of warm-up, four that prune, four of cool-down."""
    if str(options.get("structure", "")).startswith("block"):
        options = {"block": [4, 4], **options}
    config = parse(MovementConfig, {"warmup": 2, "cooldown": 4, **options})
    pruner = config.build(model)
    pruner.attach(model)
    pruner.prepare(LENGTH)
    return pruner


def scramble(pruner, seed=0):
    """Give the scores random values, as if they had been learned."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for scores in pruner.learned.parameters():
            scores.normal_()


def answer(model, inputs):
    with torch.no_grad():
        outputs = model(**inputs)
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state


def zeros(model):
    weights = [p for name, p in model.named_parameters() if name.endswith("dense.weight") and "layer." in name]
    return sum(int((p == 0).sum()) for p in weights)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_sparsity_changes_nothing(structure):
    model = tiny_model()
    before, inputs = copy.deepcopy(model), tiny_inputs(model)
    pruner = pruner_of(model, sparsity=0.0, structure=structure)
    scramble(pruner)
    pruner.set_step(9)
    assert torch.equal(answer(model, inputs), answer(before, inputs))
    pruner.finish()
    assert (pruner.sparsity, pruner.target) == (0.0, 0.0)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before.parameters(), strict=True))
    assert getattr(model.config, "quantization_config", None) is None


@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_number_of_zeros_is_exact(scope):
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.85, scope=scope, remove_empty=False)
    scramble(pruner)
    pruner.set_step(9)
    pruner.finish()
    layers = model.bert.encoder.layer
    counts = [int((p == 0).sum()) for p in layers.parameters() if p.dim() == 2]
    sizes = [p.numel() for p in layers.parameters() if p.dim() == 2]
    assert sum(counts) == (round(0.85 * sum(sizes)) if scope == "global" else sum(round(0.85 * n) for n in sizes))
    assert pruner.sparsity == pytest.approx(sum(counts) / sum(sizes), abs=1e-12)
    assert pruner.target == pytest.approx(pruner.sparsity, abs=1e-12)
    if scope == "local":
        assert counts == [round(0.85 * n) for n in sizes]


def test_without_scores_the_smallest_weights_go():
    """All scores are 0 before the first step: what is masked then must not be what happens to stand first."""
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.5, schedule="constant", warmup=0, remove_empty=False)
    weight = model.bert.encoder.layer[0].output.dense.weight.detach().clone()
    pruner.set_step(0)
    pruner.finish()
    gone = model.bert.encoder.layer[0].output.dense.weight == 0
    assert int(gone.sum()) == weight.numel() // 2
    assert weight[gone].abs().max() < weight[~gone].abs().min()


def test_scores_can_begin_with_the_size_of_the_weights():
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.5, structure="block", init="magnitude")
    name = "bert.encoder.layer.0.output.dense"
    weight = model.get_submodule(name).weight.detach()
    expected = weight.abs().unfold(0, 4, 4).unfold(1, 4, 4).mean(dim=(2, 3))
    torch.testing.assert_close(pruner.state()[f"scores.{name}"], expected)


@pytest.mark.parametrize(("step", "sparsity"), [(0, 0), (1, 0), (2, 0.8 * (1 - 0.75**3)), (5, 0.8), (9, 0.8)])
def test_the_sparsity_follows_the_schedule(step, sparsity):
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.8, scope="global")
    scramble(pruner)
    pruner.set_step(step)
    assert pruner.sparsity == pytest.approx(sparsity, abs=1e-4)


def masks(pruner):
    return {name: value.clone() for name, value in pruner.state().items() if name.startswith("stays.")}


def test_the_masks_follow_the_scores_in_the_cooldown_too():
    pruner = pruner_of(tiny_model(), sparsity=0.8)
    pruner.set_step(6)
    before = masks(pruner)
    scramble(pruner)
    pruner.set_step(7)
    assert not all(torch.equal(mask, before[name]) for name, mask in masks(pruner).items())


@pytest.mark.parametrize(("options", "step"), [({"every": 4}, 7), ({"schedule": "one_shot", "cooldown": 0}, 8)])
def test_masks_stay_between_two_choices(options, step):
    pruner = pruner_of(tiny_model(), sparsity=0.8, **options)
    for early in range(7):
        pruner.set_step(early)
    before = masks(pruner)
    scramble(pruner)
    pruner.set_step(step)
    assert all(torch.equal(mask, before[name]) for name, mask in masks(pruner).items())


OTHERS = ["gpt2", "llama", "t5", "squeezebert", "modernbert", "deberta-v2", "vit"]
CASES = [("bert", structure) for structure in STRUCTURES]
CASES += [(family, structure) for family in OTHERS for structure in ("none", "block_and_neurons", "heads_and_neurons")]


@pytest.mark.parametrize(("family", "structure"), CASES)
def test_finished_equals_masked(family, structure):
    model = tiny_head(family)
    inputs = tiny_inputs(model)
    before = sum(parameter.numel() for parameter in model.parameters())
    pruner = pruner_of(model, sparsity=0.5, structure=structure)
    scramble(pruner)
    pruner.set_step(9)
    expected = answer(model, inputs)
    pruner.finish()
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-5, rtol=1e-5)
    if structure not in WEIGHTS:
        after = sum(parameter.numel() for parameter in model.parameters())
        kinds = {"block_and_neurons": ["neurons"], "heads_and_neurons": ["heads", "neurons"]}.get(
            structure, [structure]
        )
        whole = {group.name: group.units for group in groups_of(tiny_head(family), kinds)}
        assert after < before
        for group in groups_of(model, kinds):
            assert group.units <= whole[group.name] // 2


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5", "deberta-v2"])
def test_every_unit_of_a_layer_can_go(family):
    model = tiny_head(family)
    inputs, places = tiny_inputs(model), [group.name for group in groups_of(model)]
    pruner = pruner_of(model, sparsity=0.5, structure="heads_and_neurons", scope="global")
    with torch.no_grad():
        for name, scores in zip([one.name for one in pruner._scored], pruner.learned.parameters(), strict=True):
            scores.fill_(-1.0 if name in places[:2] else 1.0)
    pruner.set_step(9)
    expected = answer(model, inputs)
    pruner.finish()
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-5, rtol=1e-5)
    assert not set(places[:2]) & {group.name for group in groups_of(model)}


@pytest.mark.parametrize("structure", ["none", "block"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_what_is_left_empty_is_removed(family, structure):
    """Neurons 0 to 3 of each layer are not given any more, the first head is not read: both go, and no bias stays."""
    model = tiny_head(family)
    inputs = tiny_inputs(model)
    heads, neurons = groups_of(model, ["heads"]), groups_of(model, ["neurons"])
    pruner = pruner_of(model, sparsity=0.3, structure=structure, scope="global")
    with torch.no_grad():
        for one, scores in zip(pruner._scored, pruner.learned.parameters(), strict=True):
            scores.fill_(1.0)
            for group in neurons:
                for channels in group.writers:
                    if channels.module == one.name:
                        scores[channels.of([0, 1, 2, 3], group.units)[:: one.rows] // one.rows] = -1.0
            for group in heads:
                if group.reader.module == one.name:
                    scores[:, group.reader.of([0], group.units)[:: one.columns] // one.columns] = -1.0
    share = sum(int((scores < 0).sum()) for scores in pruner.learned.parameters())
    share /= sum(scores.numel() for scores in pruner.learned.parameters())
    pruner.config.sparsity = share
    pruner.prepare(LENGTH)
    pruner.set_step(9)
    assert pruner.sparsity == pytest.approx(share, abs=1e-12)
    expected = answer(model, inputs)
    pruner.finish()
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-5, rtol=1e-5)
    assert [group.units for group in groups_of(model, ["heads"])] == [group.units - 1 for group in heads]
    assert [group.units for group in groups_of(model, ["neurons"])] == [group.units - 4 for group in neurons]


def test_what_is_left_empty_can_stay():
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.99, remove_empty=False)
    scramble(pruner)
    pruner.set_step(9)
    biases = [parameter.detach().clone() for name, parameter in model.named_parameters() if name.endswith("bias")]
    pruner.finish()
    after = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    assert all(torch.equal(one, other) for one, other in zip(biases, after, strict=True))


def test_a_neuron_that_is_constant_stays():
    """Without weights but with a bias it gives gelu(bias) everywhere."""
    model = tiny_model()
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        layer.intermediate.dense.weight[:2] = 0
        layer.intermediate.dense.bias[:2] = torch.tensor([0.5, 0.0])
    inputs = tiny_inputs(model)
    expected = answer(model, inputs)
    remove_silent(model)
    assert layer.intermediate.dense.weight.shape == (63, 32)
    assert layer.intermediate.dense.bias[0] == 0.5
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-6, rtol=1e-6)


def test_a_neuron_without_weights_stays_where_its_activation_is_not_zero_at_zero():
    model = tiny_model(hidden_act="sigmoid")
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.weight[:2] = 0
        model.bert.encoder.layer[0].intermediate.dense.bias[:2] = 0
    remove_silent(model)
    assert model.bert.encoder.layer[0].intermediate.dense.weight.shape == (64, 32)


@pytest.mark.parametrize(("part", "left"), [("value", 3), ("query", 4), ("key", 4)])
def test_a_head_goes_with_its_values_not_with_its_queries(part, left):
    model = tiny_model()
    module = model.get_submodule(f"bert.encoder.layer.0.attention.self.{part}")
    with torch.no_grad():
        module.weight[8:16] = 0
        module.bias[8:16] = 0
    inputs = tiny_inputs(model)
    expected = answer(model, inputs)
    remove_silent(model)
    assert groups_of(model, ["heads"])[0].units == left
    torch.testing.assert_close(answer(model, inputs), expected, atol=1e-6, rtol=1e-6)


def test_scores_of_masked_units_go_on_learning():
    """Masked where it is given as well as where it is read, a unit would get no gradient for ever."""
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.75, structure="heads_and_neurons")
    scramble(pruner)
    pruner.set_step(9)
    model(**tiny_inputs(model)).logits.square().sum().backward()
    for scores in pruner.learned.parameters():
        assert int((scores.grad != 0).sum()) == scores.numel()


def test_the_gradient_of_unit_scores_is_that_of_the_weights_that_read_them():
    model = tiny_model()
    reader = model.bert.encoder.layer[0].output.dense
    pruner = pruner_of(model, sparsity=0.0, structure="neurons", layers=[0])
    pruner.set_step(0)
    model(**tiny_inputs(model)).logits.square().sum().backward()
    (scores,) = pruner.learned.parameters()
    torch.testing.assert_close(scores.grad, (reader.weight.grad * reader.weight).sum(dim=0).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_stay_float32(dtype):
    model = tiny_model().to(dtype)
    pruner = pruner_of(model, sparsity=0.5, init="magnitude")
    pruner.set_step(5)
    model(**tiny_inputs(model)).logits.float().square().sum().backward()
    for scores in pruner.learned.parameters():
        assert scores.dtype == scores.grad.dtype == torch.float32
        assert scores.grad.abs().sum() > 0


def test_scores_have_a_learning_rate_of_their_own_and_no_weight_decay():
    pruner = pruner_of(tiny_model(), sparsity=0.5, score_learning_rate=0.25)
    (group,) = pruner.parameter_groups()
    assert group["lr"] == 0.25
    assert group["weight_decay"] == 0.0
    assert {id(p) for p in group["params"]} == {id(p) for p in pruner.learned.parameters()}


def test_the_soft_variant_masks_below_the_threshold():
    model = tiny_model()
    pruner = pruner_of(model, variant="soft", threshold=0.25, regularization=8.0, schedule="linear")
    scores = {name: value for name, value in pruner.state().items() if name.startswith("scores.")}
    pruner.set_step(0)
    assert (pruner.sparsity, pruner.target) == (0.0, None)
    first = next(iter(scores))
    with torch.no_grad():
        scores[first][0] = -1.2  # sigmoid 0.2315
        scores[first][1] = -1.0  # sigmoid 0.2689
    pruner.set_step(1)
    total = sum(value.numel() for value in scores.values())
    assert pruner.sparsity == pytest.approx(scores[first].shape[1] / total, abs=1e-12)
    assert pruner.penalty().item() == 0.0  # in the warm-up
    pruner.set_step(3)
    mean = torch.cat([value.sigmoid().flatten() for value in scores.values()]).mean()
    assert pruner.penalty().item() == pytest.approx(4.0 * float(mean), rel=1e-6)  # two of four steps
    pruner.set_step(9)
    assert pruner.penalty().item() == pytest.approx(8.0 * float(mean), rel=1e-6)


def test_the_penalty_counts_a_unit_by_its_weights():
    model = tiny_model()
    pruner = pruner_of(model, variant="soft", structure="heads_and_neurons", regularization=2.0, schedule="constant")
    head, neuron = 4 * 8 * 32 + 3 * 8, 2 * 32 + 1
    pruner.set_step(5)
    with torch.no_grad():
        for one, scores in zip(pruner._scored, pruner.learned.parameters(), strict=True):
            scores.fill_(-100.0 if one.kind == "heads" else 100.0)
    assert pruner.penalty().item() == pytest.approx(2.0 * 64 * neuron / (64 * neuron + 4 * head), rel=1e-6)


def test_what_decides_the_masks_is_in_the_state():
    pruner = pruner_of(tiny_model(), sparsity=0.5, structure="block_and_neurons", every=5)
    scramble(pruner)
    pruner.set_step(5)
    state = {name: value.clone() for name, value in pruner.state().items()}
    other = pruner_of(tiny_model(), sparsity=0.5, structure="block_and_neurons", every=5)
    other.load_state(state)
    other.set_step(6)
    assert all(torch.equal(value, state[name]) for name, value in other.state().items())
    assert other.sparsity == pruner.sparsity
    with pytest.raises(RequestError, match="scores of other weights"):
        pruner_of(tiny_model(), sparsity=0.5, structure="heads").load_state(state)


def test_filters_choose_layers():
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.5, structure="heads_and_neurons", layers=[1], exclude=["*.attention.*"])
    assert [one.name for one in pruner._scored] == ["encoder.layer.1.neurons"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "sparsity: is missing"),
        ({"sparsity": 1.0}, "sparsity: input should be less than 1"),
        ({"variant": "soft", "sparsity": 0.5}, "sparsity: does nothing with variant soft"),
        ({"sparsity": 0.5, "regularization": 3}, "regularization: does nothing with variant hard"),
        ({"sparsity": 0.5, "block": [4, 4]}, "block: does nothing with structure none"),
        ({"sparsity": 0.5, "structure": "block", "block": [4]}, "block: list should have at least 2 items"),
        ({"sparsity": 0.5, "structure": "block", "block": [4, 0]}, "greater than or equal to 1"),
        ({"sparsity": 0.5, "structure": "rows"}, "structure"),
        ({"variant": "soft", "warmup": 0.6, "cooldown": 0.6}, "leave no part of it"),
        ({"sparsity": 0.5, "initial_sparsity": 0.6}, "above the final sparsity"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        parse(MovementConfig, options)


def test_an_architecture_without_heads_is_refused():
    with pytest.raises(ModelError, match="resnet has no heads"):
        parse(MovementConfig, {"sparsity": 0.5, "structure": "heads"}).build(tiny_head("resnet"))


def test_weights_of_convolutions_can_be_pruned():
    model = tiny_head("resnet")
    pruner = pruner_of(model, sparsity=0.5)
    pruner.set_step(9)
    pruner.finish()
    assert pruner.sparsity == pytest.approx(0.5, abs=1e-3)


def test_weights_that_are_not_numbers_are_refused():
    model = tiny_model()
    model.bert.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite"):
        parse(MovementConfig, {"sparsity": 0.5}).build(model)
