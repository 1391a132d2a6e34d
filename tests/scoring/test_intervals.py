import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn import metrics as reference

from kfeat.errors import InputError
from kfeat.scoring.intervals import accuracy_interval, clustering_intervals


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
def test_agree_with_scipys_bootstrap_of_scikit_learns_metrics(name, function):
    classes, clusters = samples(400, 0.4, seed=1)
    theirs = bootstrap(
        (classes, clusters),
        function,
        paired=True,
        vectorized=False,
        n_resamples=1500,
        method="percentile",
        rng=2,
    ).confidence_interval
    ours = clustering_intervals(classes, clusters, replicates=1500, seed=3)[name]
    width = theirs.high - theirs.low
    assert ours[0] == pytest.approx(theirs.low, abs=0.12 * width)
    assert ours[1] == pytest.approx(theirs.high, abs=0.12 * width)


def test_accuracys_agrees_with_the_normal_approximation():
    truth = np.repeat([0, 1], 5000)
    predicted = truth.copy()
    predicted[::5] = 1 - predicted[::5]  # 0.8 are right
    low, high = accuracy_interval(truth, predicted)
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 10_000)
    assert low == pytest.approx(0.8 - spread, abs=spread / 10)
    assert high == pytest.approx(0.8 + spread, abs=spread / 10)


def test_cover_the_figure_of_the_population_as_often_as_they_say():
    population = samples(200_000, 0.5, seed=0)
    truth = reference.adjusted_rand_score(*population)
    rng, covered = np.random.default_rng(1), 0
    for seed in range(100):
        drawn = rng.integers(0, 200_000, 500)
        classes, clusters = (labels[drawn] for labels in population)
        interval = clustering_intervals(classes, clusters, replicates=200, seed=seed)["ari"]
        covered += interval[0] <= truth <= interval[1]
    assert 0.88 <= covered / 100 <= 0.99


def test_a_seed_gives_the_same_interval_and_bad_options_are_refused():
    classes, clusters = samples(100, 0.5, seed=4)
    assert clustering_intervals(classes, clusters, replicates=50) == clustering_intervals(
        classes, clusters, replicates=50
    )
    with pytest.raises(InputError, match="replicates 0: give 1 or more"):
        accuracy_interval(classes, clusters, replicates=0)
    with pytest.raises(InputError, match=r"level 1: give a number between"):
        clustering_intervals(classes, clusters, level=1)
