"""K-means of numbers: the best clusters of small inputs, weights, empty clusters, the price of bits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from hfcompress.clustering.one_dimension import Quantizer, Sums, _lloyd, kmeans

STARTS = ["linear", "density", "kmeans++"]


def error(values, found, weights=1.0):
    return float((weights * (values - found.centroids[found.places(values)]) ** 2).sum())


def best(values, clusters, weights):
    """The least error of all ways to cut sorted values."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    least = np.inf
    for cuts in itertools.combinations(range(1, len(values)), clusters - 1):
        parts = np.split(np.arange(len(values)), cuts)
        means = [np.average(values[part], weights=weights[part]) for part in parts]
        total = sum((weights[p] * (values[p] - mean) ** 2).sum() for p, mean in zip(parts, means, strict=True))
        least = min(least, float(total))
    return least


def test_clusters_by_hand():
    found = kmeans(np.array([0.0, 1.0, 9.0, 11.0, 10.0]), 2)
    assert found.centroids.tolist() == [0.5, 10.0]
    assert found.bounds.tolist() == [5.25]
    assert found.places(np.array([5.25, 5.26])).tolist() == [0, 1]


def test_weighted_clusters_by_hand():
    found = kmeans(np.array([0.0, 1.0, 10.0]), 2, weights=np.array([3.0, 1.0, 5.0]))
    assert found.centroids.tolist() == [0.25, 10.0]


@pytest.mark.parametrize("start", STARTS)
def test_as_few_values_as_clusters_stay_exact(start):
    values = np.array([0.1, 0.7, 0.1, -2.0, 0.7], dtype=np.float32)
    found = kmeans(values, 4, start=start)
    assert np.array_equal(found.centroids[found.places(values)].astype(np.float32), values)
    assert kmeans(values[:1], 2, start=start).centroids.tolist() == [values[0]]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_as_good_as_scikit_learn(seed):
    values = np.random.default_rng(seed).standard_normal(400)
    theirs = KMeans(5, n_init=20, random_state=0).fit(values[:, None])
    found = [error(values, kmeans(values, 5, start=start)) for start in STARTS]
    assert min(found) <= theirs.inertia_ * 1.02
    assert max(found) <= theirs.inertia_ * 1.2  # Lloyd's steps end in a local minimum


def test_scikit_learns_optimum_is_a_fixed_point():
    values = np.random.default_rng(3).standard_normal(400)
    theirs = KMeans(5, n_init=20, tol=0, random_state=0).fit(values[:, None])
    ours = _lloyd(Sums.of(values), np.sort(theirs.cluster_centers_[:, 0]))
    assert error(values, ours) == pytest.approx(theirs.inertia_, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_small_inputs_reach_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.standard_normal(12), rng.uniform(0.5, 2, 12)
    found = min(error(values, kmeans(values, 3, weights, start), weights) for start in STARTS)
    assert found == pytest.approx(best(values, 3, weights), rel=0.1)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=80),
    st.integers(2, 9),
    st.sampled_from(STARTS),
    st.sampled_from([0.0, 0.05, 1.0]),
)
def test_any_values_are_clustered(values, clusters, start, price):
    values = np.array(values)
    found = kmeans(values, clusters, start=start, bit_price=price)
    assert 1 <= len(found.centroids) <= clusters
    assert len(found.bounds) == len(found.centroids) - 1
    assert np.isfinite(found.centroids).all()
    assert (np.diff(found.centroids) >= 0).all()
    low, high = values.min(), values.max()
    slack = 1e-6 * max(abs(low), abs(high))
    assert found.centroids[0] >= low - slack
    assert found.centroids[-1] <= high + slack


def test_no_cluster_is_empty_where_there_are_values_enough():
    values = np.concatenate([np.linspace(0, 1, 1000), [1e6]])  # a linear start leaves all but two clusters empty
    found = kmeans(values, 8)
    assert len(np.unique(found.places(values))) == 8


def test_each_centroid_is_the_mean_of_its_cluster():
    values = np.random.default_rng(0).laplace(size=5000)
    found = kmeans(values, 16)
    places = found.places(values)
    means = [values[places == place].mean() for place in range(16)]
    assert np.allclose(found.centroids, means)
    assert np.allclose(found.bounds, (found.centroids[1:] + found.centroids[:-1]) / 2)


def test_a_price_gives_less_error_at_the_same_bits():
    values = np.random.default_rng(0).laplace(size=20000)

    def bits(found):
        share = np.bincount(found.places(values)) / len(values)
        return -sum(p * np.log2(p) for p in share if p)

    plain, priced = kmeans(values, 8), kmeans(values, 64, bit_price=0.05)
    assert bits(priced) <= bits(plain)
    assert error(values, priced) < 0.8 * error(values, plain)


def test_nearest_takes_the_lower_of_two():
    assert Quantizer.nearest(np.array([0.0, 2.0])).places(np.array([1.0])).tolist() == [0]
