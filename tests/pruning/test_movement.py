"""Movement pruning's masks and scores: how many, decided when, learned how, kept in a checkpoint."""

import pytest
import torch

from hfcompress.errors import RequestError
from tests.pruning.movements import pruner_of, scramble
from tests.tiny import tiny_head, tiny_inputs, tiny_model


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


def test_scores_begin_with_the_weights_sizes_in_parts_of_their_mean():
    model = tiny_model()
    pruner = pruner_of(model, sparsity=0.5, structure="block")
    name = "bert.encoder.layer.0.output.dense"
    weight = model.get_submodule(name).weight.detach()
    expected = weight.abs().unfold(0, 4, 4).unfold(1, 4, 4).mean(dim=(2, 3))
    torch.testing.assert_close(pruner.state()[f"scores.{name}"], expected / weight.abs().mean())


def test_scores_can_begin_with_0():
    state = pruner_of(tiny_model(), sparsity=0.5, init="zero").state()
    assert all((value == 0).all() for name, value in state.items() if name.startswith("scores."))


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


def test_weights_of_convolutions_can_be_pruned():
    model = tiny_head("resnet")
    pruner = pruner_of(model, sparsity=0.5)
    pruner.set_step(9)
    pruner.finish()
    assert pruner.sparsity == pytest.approx(0.5, abs=1e-3)
