"""SparseGPT: by hand, against least squares, and never further from the dense outputs than without updates."""

import pytest
import torch

from hfcompress.modeling.linear import rows_of
from hfcompress.modeling.statistics import input_moments
from hfcompress.modeling.targets import targets_of
from hfcompress.pruning.sparsegpt import SparseGPTConfig, inverse_factor, remove, sparsegpt
from hfcompress.pruning.wanda import WandaConfig, weakest
from hfcompress.registry import find
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_inputs, tiny_model


def random_case(seed, outputs=12, inputs=24, tokens=60):
    """Weights, and the second moment of inputs that go together, some of them far larger than others."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator, dtype=torch.double)
    values = torch.randn(tokens, inputs, generator=generator, dtype=torch.double) @ mixing
    values *= torch.rand(inputs, generator=generator, dtype=torch.double) * 3
    weights = torch.randn(outputs, inputs, generator=generator, dtype=torch.double)
    return weights, values.T @ values / tokens


def errors(dense, weights, hessian):
    """Mean squared error of each output."""
    return ((dense - weights) @ hessian * (dense - weights)).sum(dim=1)


def test_two_inputs_by_hand():
    hessian = torch.tensor([[2.0, 1.0], [1.0, 1.0]]).double()
    factor = inverse_factor(hessian, 1e-12)
    torch.testing.assert_close(factor, torch.tensor([[1.0, -1.0], [0.0, 1.0]]).double())
    dense = torch.tensor([[1.0, 2.0]]).double()
    found = remove(dense, hessian, SparseGPTConfig(sparsity=0.5, damping=1e-12))
    # The first costs (1 / 1)² = 1, the second (2 / 1)² = 4; without the first, 3 is the best second.
    torch.testing.assert_close(found, torch.tensor([[0.0, 3.0]]).double())
    torch.testing.assert_close(errors(dense, found, hessian), torch.ones(1).double())


def test_the_factor_is_that_of_the_inverse():
    _, hessian = random_case(0)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(24)
    factor = inverse_factor(hessian, 0.01)
    torch.testing.assert_close(factor.T @ factor, damped.inverse())
    assert torch.equal(factor, factor.triu())


def test_the_weights_behind_one_removal_are_the_best_there_are():
    dense, hessian = random_case(1, outputs=1)
    found = remove(dense, hessian, SparseGPTConfig(sparsity=1 / 24, damping=1e-9))
    gone = int((found[0] == 0).nonzero()[0, 0])
    free = torch.arange(24) > gone
    change = torch.linalg.solve(hessian[free][:, free], hessian[free, gone] * dense[0, gone])
    torch.testing.assert_close(found[0, free], dense[0, free] + change, rtol=1e-4, atol=1e-6)
    assert torch.equal(found[0, :gone], dense[0, :gone])


@pytest.mark.parametrize("given", [{"sparsity": 0.5}, {"sparsity": 0.37}, {"sparsity": 0.95}, {"pattern": "2:4"}])
@pytest.mark.parametrize("block_size", [1, 7, 24, 128])
@pytest.mark.parametrize("seed", range(3))
def test_no_output_is_further_off_than_without_updates(given, block_size, seed):
    dense, hessian = random_case(seed)
    found = remove(dense, hessian, SparseGPTConfig(**given, block_size=block_size))
    plain = torch.where(found == 0, 0, dense)
    assert (errors(dense, found, hessian) <= errors(dense, plain, hessian)).all()
    wanted = dense.numel() // 2 if "pattern" in given else round(given["sparsity"] * dense.numel())
    assert (found == 0).sum() == wanted


@pytest.mark.parametrize("seed", range(3))
def test_it_comes_nearer_than_wanda_and_wanda_than_magnitude(seed):
    dense, hessian = random_case(seed)
    config = WandaConfig(sparsity=0.5)
    magnitude = dense.masked_fill(weakest(dense.abs(), config), 0)
    wanda = dense.masked_fill(weakest(dense.abs() * hessian.diagonal().sqrt(), config), 0)
    ours = remove(dense, hessian, SparseGPTConfig(sparsity=0.5))
    off = [float(errors(dense, weights, hessian).sum()) for weights in (ours, wanda, magnitude)]
    assert off == sorted(off)
    assert off[0] < 0.7 * off[1]


@pytest.mark.parametrize(
    "hessian",
    [torch.zeros(8, 8), torch.ones(8, 8), torch.diag(torch.tensor([0.0, 0, 1, 1, 1e-30, 1e30, 1, 0]))],
    ids=["nothing", "all alike", "dead and huge"],
)
def test_no_second_moment_is_too_poor(hessian):
    dense = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).double()
    found = remove(dense, hessian.double(), SparseGPTConfig(sparsity=0.5))
    assert torch.isfinite(found).all()
    assert (found == 0).sum() == 16


def test_the_damping_grows_until_the_matrix_can_be_factorized():
    indefinite = torch.tensor([[1.0, 1.5], [1.5, 1.0]]).double()  # as rounding might make it
    factor = inverse_factor(indefinite, 0.01)
    torch.testing.assert_close(factor.T @ factor, (indefinite + torch.eye(2)).inverse())


def test_a_model_has_exactly_as_many_zeros_and_answers_nearly_as_before(tmp_path):
    dense, model = tiny_model(), tiny_model()
    sparsegpt(model, SparseGPTConfig(sparsity=0.4), tiny_context(tmp_path))
    for module in targets_of(model).values():
        assert (rows_of(module) == 0).sum() == round(0.4 * rows_of(module).numel())
    first = "bert.encoder.layer.0.intermediate.dense"
    batch = tiny_inputs(dense)
    with torch.no_grad(), input_moments(dense, [first]) as moments:
        dense(**batch)
    before, after = (rows_of(one.get_submodule(first))[0].double() for one in (dense, model))
    change = errors(before, after, moments[first].second_moment).sum()
    whole = errors(before, torch.zeros_like(before), moments[first].second_moment).sum()
    assert 0 < change < 0.4 * whole


def test_it_is_a_step_with_help():
    method = find("pruning", "sparsegpt")
    assert method.target is sparsegpt
    assert "one-shot" in method.help
