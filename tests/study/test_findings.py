import copy

import pytest

from kfeat.reporting.published import METRICS, UNSUPERVISED, tables
from kfeat.study.findings import findings


@pytest.fixture
def published():
    both = tables()
    return copy.deepcopy(both["table1"] | both["table2"])


# The study prints no errors; figure 1 and its words say that these two reconstruct best.
ERRORS = {"UNet": 0.001, "CAEv1": 0.002, "CAEv2": 0.01, "CAEv3": 0.02}


def test_the_studys_own_figures_bear_out_its_findings(published):
    tested = findings(published, ERRORS)
    assert [finding["holds"] for finding in tested] == [True] * 4
    # Ranks of pairwise F from the best reconstruction down: 4, 1, 3, 2; sum of d^2 = 0+4+1+1.
    assert tested[0]["numbers"]["pairwise_f"] == pytest.approx(1 - 6 * 6 / (4 * 15))


def test_each_finding_can_fail(published):
    by_error = sorted(UNSUPERVISED, key=ERRORS.get)
    for rank, name in enumerate(by_error):
        published[name] = dict.fromkeys(METRICS, 0.2 - rank / 100)
    assert findings(published, ERRORS)[0]["holds"] is False

    published["ResNet18"]["nmi"] = 0.25  # below 1.5 times UNet's 0.2
    published["ResNet50 crossed"]["knn_accuracy"] = 0.95  # above ResNet34's, and the supervised
    assert [f["holds"] for f in findings(published, ERRORS)] == [False] * 4

    published["ResNet50 crossed"]["knn_accuracy"] = 0.686  # the study's, below ResNet34's
    assert findings(published, ERRORS)[3]["holds"] is True
    published["ResNet34"]["nmi"] = 0.9  # above ResNet50's
    assert findings(published, ERRORS)[3]["holds"] is False


def test_what_is_missing_is_said_not_guessed(published):
    del published["ResNet34"]
    tested = findings(published, {})
    assert [finding["holds"] for finding in tested] == [None] * 4
    assert tested[0]["missing"] == list(UNSUPERVISED)
    assert tested[3]["missing"] == ["ResNet34"]


def test_errors_that_are_all_the_same_have_no_ranks_to_compare(published, recwarn):
    (first, *_) = findings(published, dict.fromkeys(UNSUPERVISED, 0.1))
    assert (first["holds"], first["numbers"], first["missing"]) == (None, {}, [])
    for name in UNSUPERVISED:
        published[name]["nmi"] = 0.1
    assert "nmi" not in findings(published, ERRORS)[0]["numbers"]
    assert not recwarn
