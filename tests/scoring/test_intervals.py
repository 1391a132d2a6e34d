import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn import metrics as reference

from kfeat.errors import InputError
from kfeat.scoring.intervals import accuracy_interval, clustering_intervals, mean_interval
from kfeat.scoring.metrics import clustering_metrics


def samples(count, noise, seed):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, count)
    clusters = np.where(rng.random(count) < noise, rng.integers(0, 5, count), classes)
    return classes, clusters


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("ari", reference.adjusted_rand_score),
        ("nmi", reference.normalized_mutual_info_score),
        ("v_measure", reference.v_measure_score),
    ],
)
def test_spread_as_scipys_bootstrap_of_scikit_learns_metrics_about_the_figure(name, function):
    classes, clusters = samples(400, 0.4, seed=1)
    theirs = bootstrap(
        (classes, clusters),
        function,
        paired=True,
        vectorized=False,
        n_resamples=1500,
        method="percentile",
        rng=2,
    )
    up = function(classes, clusters) - theirs.bootstrap_distribution.mean()
    low, high = theirs.confidence_interval
    ours = clustering_intervals(classes, clusters, replicates=1500, seed=3)[name]
    assert ours[0] == pytest.approx(low + up, abs=0.12 * (high - low))
    assert ours[1] == pytest.approx(high + up, abs=0.12 * (high - low))


def test_accuracys_agrees_with_the_normal_approximation():
    truth = np.repeat([0, 1], 5000)
    predicted = truth.copy()
    predicted[::5] = 1 - predicted[::5]  # 0.8 are right
    low, high = accuracy_interval(truth, predicted)
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 10_000)
    assert low == pytest.approx(0.8 - spread, abs=spread / 10)
    assert high == pytest.approx(0.8 + spread, abs=spread / 10)


@pytest.mark.parametrize("noise", [0.5, 0.9])  # NMI 0.26 and 0.02: chance is most of the latter
def test_cover_what_other_samples_give_on_average_as_often_as_they_say(noise):
    others = [clustering_metrics(*samples(300, noise, seed)) for seed in range(1000, 1600)]
    covered = dict.fromkeys(others[0], 0)
    for seed in range(60):
        found = clustering_intervals(*samples(300, noise, seed), replicates=100, seed=seed)
        for name, (low, high) in found.items():
            covered[name] += low <= np.mean([metrics[name] for metrics in others]) <= high
    assert min(covered.values()) >= 50  # of 57; of 60 with 50 or fewer there is 1 chance in 800


def test_a_mean_of_measured_values_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).gamma(2, 3, 2000)
    low, high = mean_interval(values, seed=1)
    spread = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - spread, abs=spread / 8)
    assert high == pytest.approx(values.mean() + spread, abs=spread / 8)


@pytest.mark.parametrize("count", [2, 5, 100])
def test_intervals_hold_the_figure_and_stay_in_the_range_of_the_metric(count):
    rng = np.random.default_rng(count)
    for seed in range(5):
        classes, clusters = rng.integers(0, 2, (2, count))
        figures = clustering_metrics(classes, clusters)
        found = clustering_intervals(classes, clusters, replicates=200, seed=seed)
        for name, (low, high) in found.items():
            assert (-0.5 if name == "ari" else 0) <= low <= figures[name] <= high <= 1, name


def test_many_cells_take_little_memory():
    rng = np.random.default_rng(0)
    classes, clusters = rng.integers(0, 300, (2, 40_000))  # most samples in a cell of their own
    peaks = []
    for replicates in (2, 2, 100):  # what the first one imports is left out
        tracemalloc.start()
        clustering_intervals(classes, clusters, replicates=replicates)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]  # all replicates' cells at once would be 25 MB more


def test_a_seed_gives_the_same_interval_and_bad_options_are_refused():
    classes, clusters = samples(100, 0.5, seed=4)
    assert clustering_intervals(classes, clusters, replicates=50) == clustering_intervals(
        classes, clusters, replicates=50
    )
    with pytest.raises(InputError, match="replicates 0: give 1 or more"):
        accuracy_interval(classes, clusters, replicates=0)
    with pytest.raises(InputError, match=r"level 1: give a number between"):
        clustering_intervals(classes, clusters, level=1)
