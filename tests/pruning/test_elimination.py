"""Orders and losses of elimination: against numbers by hand, and against the definition."""

import numpy as np
import pytest
import torch

from hfcompress.calibration.least_squares import RIDGE
from hfcompress.pruning.elimination import eliminate


def loss(weight, change, covariance, gradient):
    """½ tr(G ΔW C ΔWᵀ)."""
    return 0.5 * torch.trace(gradient @ change @ covariance @ change.T).item()


def best_loss(weight, covariance, gradient, gone):
    """The least loss of silencing some channels, the others free: by solving for them."""
    stays = [place for place in range(weight.shape[1]) if place not in gone]
    new = torch.zeros_like(weight)
    if stays:
        new[:, stays] = torch.linalg.solve(covariance[stays][:, stays], covariance[stays] @ weight.T).T
    return loss(weight, new - weight, covariance, gradient)


def random_problem(seed, channels=6, outputs=3):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, channels, generator=generator, dtype=torch.float64)
    root = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    covariance = root @ root.T + 0.1 * torch.eye(channels, dtype=torch.float64)
    slope = torch.randn(outputs, outputs, generator=generator, dtype=torch.float64)
    return weight, covariance, slope @ slope.T


def test_two_independent_channels_by_hand():
    weight = torch.tensor([[1.0, 2.0]])
    found = eliminate(weight, torch.eye(2), torch.tensor([[4.0]]), width=1)
    assert found.order == [0, 1]
    # ½ · 4 · 1² · 1, then ½ · 4 · 2² · 1 more.
    assert found.losses == pytest.approx([0.0, 2.0, 10.0], rel=1e-3)
    assert found.kept(1) == [1]


def test_of_two_channels_that_do_the_same_one_goes_for_nothing_and_the_other_stays():
    covariance = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = eliminate(torch.tensor([[1.0, 1.0, 1.0]]), covariance, torch.eye(1), width=1)
    assert found.order[0] in (0, 1)
    assert found.order[1] == 2  # the other of the two now carries the weight 2
    assert found.losses[1] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("width", [1, 2])
def test_losses_are_those_of_the_best_weights_that_are_left(width):
    weight, covariance, gradient = random_problem(0)
    found = eliminate(weight, covariance, gradient, width)
    ridged = covariance + RIDGE * covariance.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    for count in range(len(found.order) + 1):
        gone = [unit * width + place for unit in found.order[:count] for place in range(width)]
        assert found.losses[count] == pytest.approx(best_loss(weight, ridged, gradient, gone), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_each_step_takes_the_unit_that_costs_least(seed):
    weight, covariance, gradient = random_problem(seed)
    ridged = covariance + RIDGE * covariance.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    found = eliminate(weight, covariance, gradient, width=1)
    gone = []
    for unit in found.order:
        costs = {one: best_loss(weight, ridged, gradient, [*gone, one]) for one in range(6) if one not in gone}
        assert costs[unit] == pytest.approx(min(costs.values()), rel=1e-3)
        gone.append(unit)


def test_what_the_loss_does_not_see_goes_first():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    gradient = torch.tensor([[1.0, 0.0], [0.0, 0.0]])  # the second output does not matter
    found = eliminate(weight, torch.eye(2), gradient, width=1)
    assert found.order == [1, 0]


def test_a_channel_that_is_never_active_costs_nothing():
    covariance = torch.diag(torch.tensor([1.0, 0.0, 1.0]))
    found = eliminate(torch.ones(2, 3), covariance, torch.eye(2), width=1)
    assert found.order[0] == 1
    assert found.losses[1] == pytest.approx(0, abs=1e-3)


def test_losses_never_fall_and_every_unit_has_its_place():
    weight, covariance, gradient = random_problem(7, channels=200, outputs=8)
    found = eliminate(weight, covariance, gradient, width=1)
    assert sorted(found.order) == list(range(200))
    assert (np.diff(found.losses) >= 0).all()
    everything = loss(weight, -weight, covariance, gradient)
    assert found.losses[-1] == pytest.approx(everything, rel=1e-2)


def test_nothing_active_at_all():
    found = eliminate(torch.ones(1, 2), torch.zeros(2, 2), torch.eye(1), width=1)
    assert sorted(found.order) == [0, 1]
    assert found.losses[-1] == pytest.approx(0, abs=1e-6)
