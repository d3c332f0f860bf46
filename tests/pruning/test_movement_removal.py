"""What movement pruning leaves: zeros and layers that answer as the masked model did."""

import copy

import pytest
import torch

from hfcompress.modeling.groups import groups_of
from tests.pruning.movements import LENGTH, STRUCTURES, answer, pruner_of, scramble
from tests.tiny import tiny_head, tiny_inputs, tiny_model

WEIGHTS = ["none", "block"]
OTHERS = ["gpt2", "llama", "t5", "squeezebert", "modernbert", "deberta-v2", "vit"]
CASES = [("bert", structure) for structure in STRUCTURES]
CASES += [(family, structure) for family in OTHERS for structure in ("none", "block_and_neurons", "heads_and_neurons")]


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
