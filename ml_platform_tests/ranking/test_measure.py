import numpy as np
import pytest

from ml_platform.evaluation.bootstrap import Group, Measurement, cluster_multiplicities
from ml_platform.ranking.baskets import Queries
from ml_platform.ranking.measure import measure_rankings
from ml_platform.ranking.metrics import RANKING_METRICS, BadRanking
from ml_platform_tests.ranking.builders import Query, queries

N, HOUSEHOLDS, PRODUCTS = 150, 40, 60


def world(seed: int = 0) -> tuple[Queries, np.ndarray, np.ndarray]:
    """queries, lists that know half of the answers, lists that know nothing. Some queries lack history or targets."""
    generator = np.random.default_rng(seed)

    def some(most: int) -> list[int]:
        return np.unique(generator.integers(0, PRODUCTS, generator.integers(0, most))).tolist()

    rows = []
    for _ in range(N):
        baskets = [(3, bought)] if (bought := some(9)) else []
        rows.append(Query(baskets=baskets, target=some(7), household=int(generator.integers(0, HOUSEHOLDS))))
    asked = queries(*rows)
    blind = np.stack([generator.permutation(PRODUCTS)[:20] for _ in range(N)])
    better = blind.copy()
    for number, row in enumerate(rows):
        known = [*row.target[::2], *(product for product in blind[number] if product not in row.target[::2])]
        better[number] = known[:20]
    return asked, better, blind


def find(measurements: list[Measurement], model: str, metric: str, group: str = "all") -> Measurement:
    (found,) = [m for m in measurements if (m.model, m.metric, m.group) == (model, metric, group)]
    return found


def everyone() -> list[Group]:
    return [Group("all", "all", np.arange(N))]


def test_intervals_equal_those_of_a_plain_bootstrap_that_repeats_households():
    asked, better, blind = world()
    found = measure_rankings(asked, {"candidate": better, "blind": blind}, everyone(), seed=5, replicates=40)
    households, clusters = np.unique(asked.households, return_inverse=True)
    draws = [np.repeat(np.arange(N), times[clusters]) for times in cluster_multiplicities(len(households), 40, 5)]
    for name, metric in RANKING_METRICS.items():
        values = [metric(lists, asked) for lists in (better, blind)]
        candidate, reference = find(found, "candidate", name), find(found, "blind", name)
        assert candidate.value == pytest.approx(np.nanmean(values[0]))
        drawn = np.array([[np.nanmean(value[rows]) for value in values] for rows in draws])
        assert (candidate.low, candidate.high) == pytest.approx(tuple(np.quantile(drawn[:, 0], [0.025, 0.975])))
        gains = drawn[:, 0] - drawn[:, 1]
        assert (reference.gain_low, reference.gain_high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])))
        assert reference.gain is not None and candidate.gain is None


def test_a_ranker_is_exactly_as_good_as_its_twin():
    asked, better, _ = world()
    found = measure_rankings(asked, {"candidate": better, "twin": better}, everyone(), seed=0, replicates=20)
    twin = find(found, "twin", "recall_at_10")
    assert (twin.gain, twin.gain_low, twin.gain_high) == (0, 0, 0)
    assert twin.low is not None and twin.high is not None and twin.low < twin.high


def test_groups_are_measured_apart_and_count_their_queries_and_targets():
    asked, better, _ = world()
    rows = np.flatnonzero(asked.households < 25)
    groups = [*everyone(), Group("slice", "low", rows)]
    found = measure_rankings(asked, {"candidate": better}, groups, seed=0, replicates=20)
    low = find(found, "candidate", "ndcg_at_10", "low")
    assert (low.kind, low.rows, low.positives) == ("slice", len(rows), len(asked.take(rows).targets))
    assert low.value == pytest.approx(np.nanmean(RANKING_METRICS["ndcg_at_10"](better, asked)[rows]))
    assert low.value != find(found, "candidate", "ndcg_at_10").value
    assert [m.metric for m in found if m.group == "low"] == list(RANKING_METRICS)


def test_the_row_order_changes_nothing_and_the_seed_does():
    asked, better, _ = world()
    order = np.random.default_rng(9).permutation(N)
    one = measure_rankings(asked, {"candidate": better}, everyone(), seed=1, replicates=30)
    shuffled = measure_rankings(asked.take(order), {"candidate": better[order]}, everyone(), seed=1, replicates=30)
    assert [m.low for m in shuffled] == pytest.approx([m.low for m in one], abs=1e-12)
    other = measure_rankings(asked, {"candidate": better}, everyone(), seed=2, replicates=30)
    assert [m.low for m in other] != [m.low for m in one]


def test_few_households_give_figures_without_intervals_and_none_where_nothing_is_defined():
    asked, better, _ = world()
    few = Group("slice", "few", np.flatnonzero(asked.households < 10))
    hopeless = Group("slice", "no target", np.flatnonzero(np.diff(asked.target_offsets) == 0))
    found = measure_rankings(asked, {"candidate": better}, [few, hopeless], seed=0, replicates=20)
    recall = find(found, "candidate", "recall_at_10", "few")
    assert recall.value is not None and (recall.low, recall.high) == (None, None)
    assert find(found, "candidate", "recall_at_10", "no target").value is None


def test_an_unfit_list_is_refused_by_the_name_of_its_ranker():
    asked, better, _ = world()
    with pytest.raises(BadRanking, match="careless"):
        measure_rankings(asked, {"candidate": better, "careless": better[:, [0] * 20]}, everyone(), seed=0)
