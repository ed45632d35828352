import numpy as np
import pytest

from ml_platform.ranking.metrics import (
    LONGEST_LIST,
    RANKING_METRICS,
    BadRanking,
    check_ranked,
    compute_explore_recall,
    compute_ndcg,
    compute_recall,
    compute_repeat_recall,
)
from ml_platform.training.spec import HIGHER_IS_BETTER
from ml_platform_tests.ranking.builders import Query, queries

NAN = np.nan


def lists(*rows: list[int], places: int = LONGEST_LIST) -> np.ndarray:
    return np.array([[*row, *[-1] * (places - len(row))] for row in rows])


def test_recall_divides_the_hits_by_all_targets_even_when_there_are_more_than_places():
    asked = queries(Query(target=[1, 2, 3, 4]), Query(target=list(range(1, 31))), Query(target=[9]))
    ranked = lists([2, 7, 4], [*range(1, 21)], [8])
    assert compute_recall(ranked, asked, 10).tolist() == [2 / 4, 10 / 30, 0]
    assert compute_recall(ranked, asked, 20).tolist() == [2 / 4, 20 / 30, 0]
    assert compute_recall(ranked, asked, 1).tolist() == [1 / 4, 1 / 30, 0]


def test_a_target_no_list_could_hold_is_a_miss_that_counts():
    outside_the_catalogue = 999
    assert compute_recall(lists([1]), queries(Query(target=[1, outside_the_catalogue])), 10).tolist() == [0.5]


def test_a_hit_in_the_tenth_place_counts_and_one_in_the_eleventh_only_among_twenty():
    asked = queries(Query(target=[5]), Query(target=[5]))
    ranked = lists([*range(10, 19), 5], [*range(10, 20), 5])
    assert compute_recall(ranked, asked, 10).tolist() == [1, 0]
    assert compute_recall(ranked, asked, 20).tolist() == [1, 1]


def test_a_list_shorter_than_the_places_asked_for_has_no_hits_past_its_end():
    assert compute_recall(lists([1], places=5), queries(Query(target=[2])), 20).tolist() == [0]


def test_ndcg_discounts_by_the_place_and_is_one_for_the_best_list_there_is():
    asked = queries(Query(target=[1, 2]), Query(target=[1, 2]), Query(target=list(range(1, 13))))
    ranked = lists([1, 7, 2], [2, 1], [*range(1, 11)])
    second_best = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    assert compute_ndcg(ranked, asked, 10) == pytest.approx([second_best, 1, 1])


def test_repeat_and_explore_recall_divide_the_targets_by_the_listed_history():
    asked = queries(
        Query(baskets=[(9, [1, 2]), (3, [2, 6])], target=[1, 2, 3, 4]),
        Query(baskets=[(9, [1])], target=[1]),
        Query(baskets=[(9, [1])], target=[3]),
    )
    ranked = lists([2, 3, 4], [1], [1])
    assert compute_repeat_recall(ranked, asked, 10) == pytest.approx([1 / 2, 1, NAN], nan_ok=True)
    assert compute_explore_recall(ranked, asked, 10) == pytest.approx([2 / 2, NAN, 0], nan_ok=True)


def test_another_household_having_bought_a_target_does_not_make_it_a_repeat():
    asked = queries(Query(baskets=[(9, [1])], target=[2]), Query(baskets=[(9, [2])], target=[1]))
    assert np.isnan(compute_repeat_recall(lists([1], [2]), asked, 10)).all()


def test_a_query_without_targets_has_no_figure_and_one_without_history_only_explores():
    asked = queries(Query(baskets=[(9, [1])]), Query(target=[4]))
    ranked = lists([1], [4])
    defined = {name: (~np.isnan(metric(ranked, asked))).tolist() for name, metric in RANKING_METRICS.items()}
    assert defined.pop("repeat_recall_at_10") == [False, False]
    assert set(map(tuple, defined.values())) == {(False, True)}
    assert compute_explore_recall(ranked, asked, 10)[1] == 1


def test_no_queries_have_no_figures():
    asked = queries(Query()).take(np.zeros(0, np.int64))
    assert len(compute_recall(np.zeros((0, LONGEST_LIST), np.int64), asked, 10)) == 0


def test_figures_do_not_depend_on_the_order_of_the_queries():
    generator = np.random.default_rng(0)
    rows = [
        Query(
            baskets=[(4, np.unique(generator.integers(0, 40, 8)).tolist())],
            target=np.unique(generator.integers(0, 60, 6)).tolist(),
        )
        for _ in range(30)
    ]
    asked = queries(*rows)
    ranked = np.stack([generator.permutation(60)[:LONGEST_LIST] for _ in rows])
    order = generator.permutation(30)
    for metric in RANKING_METRICS.values():
        np.testing.assert_array_equal(metric(ranked, asked)[order], metric(ranked[order], asked.take(order)))


def test_every_ranking_metric_is_one_the_gates_know_and_more_is_better():
    assert all(HIGHER_IS_BETTER[name] for name in RANKING_METRICS)


@pytest.mark.parametrize(
    ("ranked", "word"),
    [
        (lists([1, 2, 1]), "row 0"),
        (lists([1], [2]), r"\(2, 20\) for 1 queries"),
        (lists([1], places=10), r"\(1, 10\)"),
        (lists([1]).astype(np.float64), "float64"),
    ],
)
def test_lists_that_cannot_be_measured_are_refused(ranked: np.ndarray, word: str):
    with pytest.raises(BadRanking, match=word):
        check_ranked(ranked, queries(Query(target=[1])))


def test_padding_may_repeat():
    assert check_ranked(lists([1]), queries(Query(target=[1]))).shape == (1, LONGEST_LIST)
