import numpy as np
import pytest

from kfeat.errors import InputError
from kfeat.scoring import intervals
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.intervals import accuracy_interval, clustering_intervals, mean_interval
from kfeat.scoring.metrics import clustering_metrics


def samples(count, noise, seed):
    """Ten classes around centres of their own, and how well k-means finds them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    centres = np.random.default_rng(99).normal(size=(10, 16))
    return centres[labels] + noise * rng.normal(size=(count, 16)), labels


# NMI 0.8, 0.2 and 0.06: clear clusters, unclear ones, and hardly any.
@pytest.mark.parametrize(("noise", "widest"), [(1.2, 1.3), (2.5, 1.3), (5.0, 1.6)])
def test_spread_as_the_metrics_of_other_samples_do(noise, widest):
    """Each set of samples is clustered anew: what intervals are to tell, by brute force."""
    others = []
    for seed in range(100, 180):
        features, labels = samples(600, noise, seed)
        others.append(clustering_metrics(labels, kmeans(features, 10, 0)))
    widths = []
    for seed in range(6):
        features, labels = samples(600, noise, seed)
        clusters = kmeans(features, 10, 0)
        figures = clustering_metrics(labels, clusters)
        found = clustering_intervals(features, labels, clusters, figures, replicates=30, seed=seed)
        widths.append([figures[name] - low for name, (low, _) in found.items()])
    truly = np.std([[*metrics.values()] for metrics in others], axis=0, ddof=1)
    ratio = np.mean(widths, axis=0) / (1.96 * truly)
    assert ratio.min() > 0.75 and ratio.max() < widest, dict(zip(others[0], ratio, strict=True))


def test_of_many_samples_few_are_drawn_and_intervals_as_wide(monkeypatch):
    features, labels = samples(8000, 1.2, seed=1)
    clusters = kmeans(features, 10, 0)
    figures = clustering_metrics(labels, clusters)
    whole = clustering_intervals(features, labels, clusters, figures, replicates=40)["nmi"]
    monkeypatch.setattr(intervals, "DRAWN_VALUES", 1)
    part = clustering_intervals(features, labels, clusters, figures, replicates=40)["nmi"]
    assert part != whole and np.diff(part) == pytest.approx(np.diff(whole), rel=0.4)


def test_accuracys_agrees_with_the_normal_approximation():
    truth = np.repeat([0, 1], 5000)
    predicted = truth.copy()
    predicted[::5] = 1 - predicted[::5]  # 0.8 are right
    low, high = accuracy_interval(truth, predicted)
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 10_000)
    assert low == pytest.approx(0.8 - spread, abs=spread / 10)
    assert high == pytest.approx(0.8 + spread, abs=spread / 10)


def test_a_mean_of_measured_values_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).gamma(2, 3, 2000)
    low, high = mean_interval(values, seed=1)
    spread = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - spread, abs=spread / 8)
    assert high == pytest.approx(values.mean() + spread, abs=spread / 8)


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_intervals_hold_the_figure_and_stay_in_the_range_of_the_metric(count):
    rng = np.random.default_rng(count)
    for k in {1, min(2, count), count}:
        features, labels = rng.integers(0, 3, (count, 2)).astype(float), rng.integers(0, 2, count)
        clusters = kmeans(features, k, 0)
        figures = clustering_metrics(labels, clusters)
        found = clustering_intervals(features, labels, clusters, figures, replicates=5, seed=k)
        for name, (low, high) in found.items():
            assert (-0.5 if name == "ari" else 0) <= low <= figures[name] <= high <= 1, name


def test_features_of_more_dimensions_than_samples_have_the_same_intervals():
    features, labels = samples(80, 3, seed=6)
    clusters, figures = kmeans(features, 10, 0), {"nmi": 0.3, "ari": 0.2}
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(300, features.shape[1])))[0]
    found = [
        clustering_intervals(x, labels, clusters, figures, replicates=20)
        for x in (features, features @ turned.T + 5)
    ]
    for name in figures:
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-9)


def test_features_of_any_size_have_the_same_intervals():
    random = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], 20)
    features = labels[:, None] + random.normal(size=(60, 4))
    figures = {"nmi": 0.5, "ari": 0.5}
    usual = clustering_intervals(features, labels, labels, figures, replicates=5)
    large = clustering_intervals(features * 2.0**1020, labels, labels, figures, replicates=5)
    assert usual == large


def test_a_seed_gives_the_same_interval_and_bad_options_are_refused():
    features, labels = samples(100, 2, seed=4)
    clusters, figures = kmeans(features, 10, 0), {"nmi": 0.3, "ari": 0.2}
    found = [
        clustering_intervals(features, labels, clusters, figures, replicates=5, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]
    with pytest.raises(InputError, match="replicates 0: give 1 or more"):
        accuracy_interval(labels, labels, replicates=0)
    with pytest.raises(InputError, match="replicates 1: give 2 or more"):
        clustering_intervals(features, labels, clusters, figures, replicates=1)
    with pytest.raises(InputError, match=r"level 1: give a number between"):
        clustering_intervals(features, labels, clusters, figures, level=1)
    with pytest.raises(InputError, match=r"labels: 99 for 100 samples"):
        clustering_intervals(features, labels[1:], clusters, figures)
