"""Cuts of heads: the least that any can lose, no data-aware one above a plain one, nothing lost at the full width."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.factorization.heads import cut_by_data, cut_by_weights
from hfcompress.modeling.narrow_heads import Affine, Heads

COUNT, WIDTH, INPUTS, OUTPUTS = 2, 4, 7, 6


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_heads(seed, biased=True):
    inner = COUNT * WIDTH
    layers = [
        Affine(random(*shape, seed=seed + i), random(shape[0], seed=seed + 50 + i) if biased else None)
        for i, shape in enumerate([(inner, INPUTS)] * 3 + [(OUTPUTS, inner)])
    ]
    return Heads(*layers)


def moments(size, tokens, seed):
    """A second moment; of fewer tokens than numbers it is singular."""
    values = random(tokens, size, seed=seed) * torch.arange(1, size + 1)
    return values.T @ values / tokens


def seen(heads, seed, tokens=20):
    """What was seen of the layers that give the queries and read the values."""
    inner = COUNT * WIDTH
    query = SimpleNamespace(
        mean=random(INPUTS, seed=seed),
        covariance=moments(INPUTS, tokens, seed + 1),
        gradient=moments(inner, tokens, seed + 2),
    )
    output = SimpleNamespace(
        mean=random(inner, seed=seed + 3),
        covariance=moments(inner, tokens, seed + 4),
        gradient=moments(OUTPUTS, tokens, seed + 5),
    )
    return query, output


def score_loss(cuts, heads, query, width):
    """`½ tr(G (I − M) E[q qᵀ] (I − M)ᵀ)` of all heads, written out."""
    mean = heads.query.weight @ query.mean + heads.query.bias
    second = heads.query.weight @ query.covariance @ heads.query.weight.T + torch.outer(mean, mean)
    found = 0.0
    for head, cut in enumerate(cuts.scores):
        own = slice(head * WIDTH, (head + 1) * WIDTH)
        factors = cut.factors(width)
        rest = torch.eye(WIDTH, dtype=torch.float64) - factors.up @ factors.down
        found += float((query.gradient[own, own] @ rest @ second[own, own] @ rest.T).trace() / 2)
    return found


def value_loss(cuts, heads, output, width):
    """`½ tr(G (W − M) Cov[v] (W − M)ᵀ)` of all heads, each by itself."""
    found = 0.0
    for head, cut in enumerate(cuts.values):
        own = slice(head * WIDTH, (head + 1) * WIDTH)
        factors = cut.factors(width)
        rest = heads.output.weight[:, own] - factors.up @ factors.down
        found += float((output.gradient @ rest @ output.covariance[own, own] @ rest.T).trace() / 2)
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, WIDTH), tokens=st.integers(2, 30))
def test_with_data_no_more_is_lost_than_without(seed, width, tokens):
    heads = random_heads(seed)
    query, output = seen(heads, seed + 100, tokens)
    by_data, by_weights = cut_by_data(heads, COUNT, query, output), cut_by_weights(heads, COUNT)
    scale = float(by_data.losses[0])
    for loss, known in ((score_loss, query), (value_loss, output)):
        assert loss(by_data, heads, known, width) <= loss(by_weights, heads, known, width) + 1e-6 * scale
    lost = score_loss(by_data, heads, query, width) + value_loss(by_data, heads, output, width)
    assert lost == pytest.approx(float(by_data.losses[width]), abs=1e-6 * scale)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_losses_fall_to_nothing(seed):
    heads = random_heads(seed)
    for cuts in (cut_by_weights(heads, COUNT), cut_by_data(heads, COUNT, *seen(heads, seed))):
        assert len(cuts.losses) == WIDTH + 1
        assert (cuts.losses.diff() <= 0).all()
        assert cuts.losses[-1] == 0


def test_by_weights_each_product_is_as_near_as_its_singular_values_say():
    heads = random_heads(3, biased=False)
    cuts = cut_by_weights(heads, COUNT)
    for width in (1, 2, 3):
        narrow = cuts.narrow(heads, width, scaled=False)
        for head in range(COUNT):
            old, new = slice(head * WIDTH, (head + 1) * WIDTH), slice(head * width, (head + 1) * width)
            product = heads.query.weight[old].T @ heads.key.weight[old]
            left = product - narrow.query.weight[new].T @ narrow.key.weight[new]
            assert float(left.norm()) == pytest.approx(float(torch.linalg.svdvals(product)[width:].norm()), rel=1e-6)
            factors = cuts.values[head].factors(width)
            product = heads.output.weight[:, old] @ heads.value.weight[old]
            left = product - factors.up @ factors.down @ heads.value.weight[old]
            assert float(left.norm()) == pytest.approx(float(torch.linalg.svdvals(product)[width:].norm()), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, WIDTH - 1))
def test_an_output_that_reads_all_heads_makes_up_for_more_than_one_by_one(seed, width):
    heads = random_heads(seed)
    query, output = seen(heads, seed, tokens=200)
    cuts = cut_by_data(heads, COUNT, query, output)
    narrow = cuts.narrow(heads, width, scaled=True)
    factors = [cut.factors(width) for cut in cuts.values]
    down = torch.block_diag(*(one.down for one in factors))

    def lost(matrix):
        rest = heads.output.weight - matrix @ down
        return float((output.gradient @ rest @ output.covariance @ rest.T).trace())

    assert lost(narrow.output.weight) <= lost(torch.cat([one.up for one in factors], dim=1)) * (1 + 1e-6)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("tokens", [1, 100])
def test_at_the_full_width_nothing_changes(tokens, biased):
    heads = random_heads(5, biased)
    for cuts in (cut_by_weights(heads, COUNT), cut_by_data(heads, COUNT, *seen(heads, 9, tokens))):
        narrow = cuts.narrow(heads, WIDTH, scaled=True)
        inputs, others = random(11, INPUTS, seed=1), random(12, INPUTS, seed=2)
        for before, after in zip(attended(heads, inputs, others), attended(narrow, inputs, others), strict=True):
            torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)


def attended(heads, inputs, others):
    """What attention gives: its probabilities, which what all keys share leaves alone, and its outputs."""

    def through(layer, values):
        given = values @ layer.weight.T
        return given if layer.bias is None else given + layer.bias

    query, key, value = (
        through(layer, values).unflatten(-1, (COUNT, -1)).transpose(0, 1)
        for layer, values in ((heads.query, inputs), (heads.key, others), (heads.value, others))
    )
    rows = torch.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, -1)
    return rows, through(heads.output, (rows @ value).transpose(0, 1).flatten(1))


def test_queries_make_up_for_the_root_of_the_width():
    heads = random_heads(7)
    cuts = cut_by_weights(heads, COUNT)
    plain, scaled = (cuts.narrow(heads, 1, scaled).query for scaled in (False, True))
    torch.testing.assert_close(scaled.weight, plain.weight / 2)
    torch.testing.assert_close(scaled.bias, plain.bias / 2)


def test_values_biases_go_into_the_outputs():
    """Rows of attention add up to 1: where nothing but a bias comes, nothing is lost at any width."""
    heads = random_heads(11)
    narrow = cut_by_weights(heads, COUNT).narrow(heads, 1, scaled=False)
    before = heads.output.weight @ heads.value.bias + heads.output.bias
    torch.testing.assert_close(narrow.output.weight @ narrow.value.bias + narrow.output.bias, before)


@pytest.mark.parametrize("dead", ["query", "key", "value", "output", "nothing reaches it"])
def test_a_head_that_does_nothing_is_no_hindrance(dead):
    heads = random_heads(13)
    query, output = seen(heads, 14)
    if dead == "nothing reaches it":
        for known in (query, output):
            known.covariance, known.gradient = (0 * one for one in (known.covariance, known.gradient))
    else:
        layer = getattr(heads, dead)
        (layer.weight.T if dead == "output" else layer.weight)[:WIDTH] = 0
        query.gradient[:WIDTH] = query.gradient[:, :WIDTH] = 0
        output.covariance[:WIDTH] = output.covariance[:, :WIDTH] = 0
    for cuts in (cut_by_weights(heads, COUNT), cut_by_data(heads, COUNT, query, output)):
        assert cuts.losses.isfinite().all()
        for width in (1, WIDTH):
            narrow = cuts.narrow(heads, width, scaled=True)
            for layer in (narrow.query, narrow.key, narrow.value, narrow.output):
                assert layer.weight.float().isfinite().all()
                assert layer.weight.abs().max() < 1e6
        inputs, others = random(11, INPUTS, seed=1), random(12, INPUTS, seed=2)
        for before, after in zip(attended(heads, inputs, others), attended(narrow, inputs, others), strict=True):
            torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
