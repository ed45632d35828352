import numpy as np
import pytest

from ml_platform.calendar import WEEK
from ml_platform.ranking.baskets import NOTHING, BadBaskets
from ml_platform.ranking.lists import best_of_matrix, best_of_pairs, by_popularity, products_of, rank_by_monday
from ml_platform_tests.ranking.builders import MONDAY, MONDAY_NUMBER, Query, catalogue, queries


def test_popularity_orders_by_the_statistic_with_ties_by_rising_id_and_the_unknown_last():
    statistics = np.array([[2], [np.nan], [5], [2]], np.float32)
    assert by_popularity(catalogue(10, 11, 12, 13, statistics=statistics, names=("lines",)), "lines").tolist() == [
        *(2, 0, 3),
        1,
    ]


def test_a_statistic_the_catalogue_lacks_is_refused_by_name():
    with pytest.raises(BadBaskets, match="no statistic buyers; it has none"):
        by_popularity(catalogue(1), "buyers")


def test_the_best_of_pairs_are_by_score_then_by_preference_and_padded():
    rows, numbers = np.array([2, 0, 0, 0, 2]), np.array([0, 0, 1, 2, 2])
    scores = np.array([1.0, 3, 3, 9, 2])
    best = best_of_pairs(rows, numbers, scores, np.array([1, 0, 2]), (3, 2))
    assert best.tolist() == [[2, 1], [NOTHING, NOTHING], [2, 0]]


def test_the_best_of_a_matrix_are_those_of_a_full_sort_however_many_scores_are_tied():
    generator = np.random.default_rng(3)
    scores = generator.integers(0, 4, (50, 30)).astype(np.float32)
    preferred = generator.permutation(30)
    place = np.argsort(preferred)
    full = np.stack([np.lexsort((place, -row)) for row in scores])
    np.testing.assert_array_equal(best_of_matrix(scores, preferred, 7), full[:, :7])


def test_fewer_products_than_places_are_padded():
    scores = np.array([[1.0, 2.0]])
    assert best_of_matrix(scores, np.arange(2), 4).tolist() == [[1, 0, NOTHING, NOTHING]]
    assert best_of_matrix(scores[:, :0], np.arange(0), 2).tolist() == [[NOTHING, NOTHING]]
    assert products_of(np.array([[1, NOTHING]]), catalogue(30, 40)).tolist() == [[40, NOTHING]]


def test_each_monday_is_ranked_from_its_own_catalogue():
    asked = queries(Query(), Query(as_of=MONDAY + WEEK), Query())
    catalogues = {MONDAY_NUMBER: catalogue(5), MONDAY_NUMBER + 7: catalogue(6)}
    ranked = rank_by_monday(lambda q, c, k: np.full((len(q), k), c.products[0]), asked, catalogues, 2)
    assert ranked.tolist() == [[5, 5], [6, 6], [5, 5]]


def test_a_monday_without_a_catalogue_is_refused_with_its_date():
    with pytest.raises(BadBaskets, match="2017-10-30"):
        rank_by_monday(lambda q, c, k: np.zeros((len(q), k)), queries(Query()), {}, 2)
