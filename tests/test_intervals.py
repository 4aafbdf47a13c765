"""Intervals: exact where few examples differ, the bootstrap where it is right; a tolerance that the
data cannot show is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from acn_compress.errors import ConfigError
from acn_compress.measure.intervals import (
    FEW,
    bootstrap,
    check_shown,
    examples_for,
    few_note,
    mean_interval,
    mean_intervals,
)
from acn_compress.measure.quality import Scores, paired, summary
from acn_compress.tasks import TASKS

SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)


def scores(right: list[float], **more: object) -> Scores:
    found = np.asarray(right, float)
    reach = more.get("reach", SHARE)
    return Scores(found * 0, found, np.ones_like(found), found, found, reach)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 20, 99, 3000])
def test_where_no_answer_changed_the_drop_may_be_what_the_rule_of_three_says(n: int) -> None:
    drop = paired(scores([1.0] * n), scores([1.0] * n))
    exact = binomtest(0, n).proportion_ci(0.9, method="exact").high  # its one-sided 95 %
    assert drop.drop == 0 and drop.high == pytest.approx(exact) and drop.low == -drop.high
    if n >= 20:
        assert drop.high == pytest.approx(3 / n, rel=0.08)


@pytest.mark.parametrize(("wrong", "n"), [(1, 5), (3, 40), (2, 500), (9, 12)])
def test_where_few_answers_are_wrong_the_interval_is_clopper_and_pearsons(
    wrong: int, n: int
) -> None:
    found = summary(scores([0.0] * wrong + [1.0] * (n - wrong)), TASKS["image-classification"])
    exact = binomtest(n - wrong, n).proportion_ci(0.95, method="exact")
    width = exact.high - exact.low
    assert found.low == pytest.approx(exact.low, abs=0.03 * width)
    assert found.high == pytest.approx(exact.high, abs=0.03 * width)


def test_where_ten_examples_differ_it_is_the_bootstrap_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    values, weight = rng.integers(0, 2, (400, 2)).astype(float), np.ones(400)
    found = mean_intervals(values, weight, SHARE, seed=5)
    np.testing.assert_array_equal(found, bootstrap(values, weight, seed=5))
    at = np.zeros(400)
    at[:FEW] = 1
    assert mean_interval(at, weight, SHARE) == tuple(bootstrap(at[:, None], weight)[:, 0])
    at[0] = 0
    assert mean_interval(at, weight, SHARE) != tuple(bootstrap(at[:, None], weight)[:, 0])


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_drop_of_rare_changes_is_covered_as_often_as_it_says(share: float) -> None:
    rng, n, drop = np.random.default_rng(0), 60, share / 2
    held = 0
    for trial in range(80):
        apart = rng.choice([1.0, -1.0, 0.0], n, p=[0.75 * share, 0.25 * share, 1 - share])
        low, high = mean_interval(apart, np.ones(n), CHANGE, seed=trial)
        held += low <= drop <= high
    assert held >= 0.91 * 80


def test_examples_that_count_for_nothing_show_nothing() -> None:
    weight = np.r_[np.ones(20), np.zeros(500)]
    low, high = mean_interval(np.zeros(520), weight, CHANGE)
    assert high == pytest.approx(1 - 0.05 ** (1 / 20)) and low == -high


def test_numbers_without_a_scale_have_an_interval_about_what_was_seen() -> None:
    reach = TASKS["text-regression"].reach
    one = summary(scores([-0.5], reach=reach), TASKS["text-regression"])
    assert one.low < -0.9 < one.value < one.high <= 0
    same = paired(scores([-0.5] * 8, reach=reach), scores([-0.5] * 8, reach=reach))
    assert np.isfinite([same.low, same.high]).all()


def test_a_max_drop_that_so_many_examples_cannot_show_is_refused_with_the_number_it_takes() -> None:
    with pytest.raises(ConfigError) as error:
        check_shown(0.01, 20)
    assert str(error.value) == (
        "max_drop 0.01 needs about 300 examples, found 20: use more data or --bound point."
    )
    for max_drop, n in ((0.01, 299), (0.2, 20), (0.0, 20), (1.0, 1), (0.95, 1)):
        check_shown(max_drop, n)
    enough = examples_for(0.01)
    assert paired(scores([1.0] * enough), scores([1.0] * enough)).high <= 0.01
    with pytest.raises(ConfigError, match="about 300"):
        check_shown(0.01, enough - 1)


def test_few_examples_are_said() -> None:
    assert "n = 99" in few_note(99) and few_note(100) == ""
