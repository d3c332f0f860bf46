"""Ranks of convolutions: by hand where one number or ratio decides, within every budget, none that costs more."""

import pytest

from hfcompress.errors import RequestError
from hfcompress.factorization import conv_ranks
from hfcompress.factorization.conv_ranks import choose_conv_ranks, share
from hfcompress.factorization.kernels import ThinKernel
from hfcompress.factorization.ranks import RankOptions
from hfcompress.factorization.tucker import TuckerKernel
from tests.factorization.kernels_seen import drawn, seen_of, smooth


def kernels(kind=TuckerKernel):
    layers = {
        "one": drawn(outputs=8, inputs=6),
        "two": drawn(outputs=12, inputs=6, stride=2),
        "point": drawn(outputs=4, inputs=6, kernel_size=1, padding=0),
    }
    values = smooth()
    made = {name: ThinKernel if name == "point" else kind for name in layers}
    return {name: made[name](layer, seen_of(layer, values)) for name, layer in layers.items()}


def costs(found, count):
    return {
        name: layer.layer.weight.numel() * count(layer) if ranks is None else cost(layer, ranks, count)
        for (name, ranks), layer in zip(found.items(), kernels().values(), strict=True)
    }


def cost(kernel, ranks, count):
    """Weights of a chain, or its multiply-accumulates by running it."""
    chain = kernel.chain(ranks)
    if count is weights:
        return sum(one.weight.numel() for one in chain)
    values, total = smooth(images=1), 0
    for one in chain:
        values = one(values)
        total += one.weight.numel() * values[0, 0].numel()
    return total


def weights(kernel):
    return 1


def places(kernel):
    return kernel.layer(smooth(images=1))[0, 0].numel()


def test_one_number_is_that_of_outputs_and_inputs():
    assert choose_conv_ranks(kernels(), RankOptions(rank=4)) == {"one": (4, 4), "two": (4, 4), "point": None}
    assert choose_conv_ranks(kernels(), RankOptions(rank=6)) == {"one": (6, 6), "two": (6, 6), "point": None}
    assert choose_conv_ranks(kernels(), RankOptions(rank=7))["one"] is None  # 7 · 54 + 8 · 7 weights for 8 · 54
    assert choose_conv_ranks(kernels(ThinKernel), RankOptions(rank=2)) == dict.fromkeys(["one", "two", "point"], (2,))
    assert choose_conv_ranks(kernels(ThinKernel), RankOptions(rank=9))["one"] is None


def test_a_ratio_is_that_of_the_largest_that_pays():
    # 8 · 54 = 432 weights: 6 · 62 = 372 are fewer, 7 · 62 = 434 are not. 12 · 54 = 648: 9 · 66. 4 · 6 = 24: 2 · 10.
    found = choose_conv_ranks(kernels(ThinKernel), RankOptions(rank_ratio=1, multiple=1))
    assert found == {"one": (6,), "two": (9,), "point": (2,)}
    found = choose_conv_ranks(kernels(ThinKernel), RankOptions(rank_ratio=0.5, multiple=1))
    assert found == {"one": (3,), "two": (4,), "point": (1,)}


def test_shares():
    assert share((8, 6), 4) == (4, 3)
    assert share((64, 3), 32, multiple=8) == (32, 3)
    assert share((64, 32), 20, multiple=8) == (16, 8)


@pytest.mark.parametrize("kept", [0.4, 0.6, 0.9])
@pytest.mark.parametrize(("option", "count"), [("target_params", weights), ("target_macs", places)])
def test_budgets_hold(option, count, kept):
    found = choose_conv_ranks(kernels(), RankOptions(multiple=1, **{option: kept}))
    whole = sum(kernel.layer.weight.numel() * count(kernel) for kernel in kernels().values())
    assert 0 < sum(costs(found, count).values()) <= kept * whole


def test_a_larger_budget_loses_no_more():
    known = kernels()

    def lost(kept):
        found = choose_conv_ranks(known, RankOptions(multiple=1, target_macs=kept))
        return sum(known[name].loss(ranks) for name, ranks in found.items() if ranks is not None)

    losses = [lost(kept) for kept in (0.3, 0.5, 0.7, 0.9)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_energy_is_kept_or_the_layer_stays(energy):
    known = kernels()
    found = choose_conv_ranks(known, RankOptions(energy=energy, multiple=1))
    for name, ranks in found.items():
        assert ranks is None or known[name].loss(ranks) <= (1 - energy) * known[name].whole
    assert any(ranks is not None for ranks in found.values())


def test_by_the_clock_nothing_slower_is_bought(monkeypatch):
    monkeypatch.setattr(
        conv_ranks, "time_chains", lambda dense, chains, size: ([1.0 + n for n in range(len(chains))], 3.5)
    )
    offers = conv_ranks._offers(kernels(), RankOptions(target_latency=0.5, multiple=2))
    found = choose_conv_ranks(kernels(), RankOptions(target_latency=0.5, multiple=2))
    spent = sum(3.5 if ranks is None else 1.0 + offers[name].ranks.index(ranks) for name, ranks in found.items())
    assert spent <= 0.5 * 3 * 3.5
    assert all(ranks is None or offers[name].ranks.index(ranks) < 3 for name, ranks in found.items())


def test_a_budget_that_is_too_small_is_refused_with_the_least_there_is():
    with pytest.raises(RequestError, match=r"0.01 of the layers' parameters cannot be met.*takes 0\.\d+: give that"):
        choose_conv_ranks(kernels(), RankOptions(target_params=0.01, multiple=1))
