import numpy as np
import pytest
from scipy.sparse import csr_array

from ml_platform.ranking.baskets import NOTHING
from ml_platform.ranking.tifu import basket_weights, nearest_rows, rank_tifu_knn
from ml_platform_tests.ranking.builders import Query, catalogue, queries


def history(n: int) -> Query:
    return Query(baskets=[(n - number, [number]) for number in range(n)])


def test_a_household_of_one_group_weighs_its_baskets_by_the_decay_inside_it():
    weights = basket_weights(queries(history(3)), groups=1, group_decay=0.1, basket_decay=0.5)
    assert weights == pytest.approx(np.array([0.25, 0.5, 1]) / 3)


def test_groups_are_consecutive_and_the_newer_ones_take_the_baskets_left_over():
    # Five baskets in three groups: [0], [1, 2], [3, 4].
    weights = basket_weights(queries(history(5)), groups=3, group_decay=0.5, basket_decay=0.1)
    assert weights * 3 == pytest.approx([0.25 / 1, 0.5 * 0.1 / 2, 0.5 / 2, 0.1 / 2, 1 / 2])


def test_as_many_baskets_as_groups_or_fewer_are_a_group_each():
    for n in (1, 2, 4):
        weights = basket_weights(queries(history(n)), groups=4, group_decay=0.5, basket_decay=0.1)
        assert weights == pytest.approx(0.5 ** np.arange(n)[::-1] / n)


def test_households_are_weighed_apart():
    both = basket_weights(queries(history(5), Query(), history(2)), 3, 0.5, 0.9)
    alone = [basket_weights(queries(history(n)), 3, 0.5, 0.9) for n in (5, 2)]
    assert both.tolist() == [*alone[0].tolist(), *alone[1].tolist()]


def test_nearest_are_by_distance_then_by_row_and_never_itself():
    points = np.array([[0.0, 0], [1, 0], [0, 1], [3, 3], [0, 0]])
    assert nearest_rows(csr_array(points), 2).tolist() == [[4, 1], [0, 4], [0, 4], [1, 2], [0, 1]]
    assert nearest_rows(csr_array(points), 99).shape == (5, 4)
    assert nearest_rows(csr_array(points[:1]), 3).shape == (1, 0)


def test_scores_are_the_households_vector_mixed_with_the_mean_of_its_neighbours():
    asked = queries(
        Query(baskets=[(9, [1]), (2, [1, 2])], household=1),
        Query(baskets=[(9, [1]), (2, [1, 3])], household=2),
        Query(baskets=[(5, [7, 8])], household=3),
    )
    # One group, no decay: the vectors are (1: 1, 2: ½), (1: 1, 3: ½) and (7: 1, 8: 1).
    # The first two are nearest to each other (√½), the third to the first (√3¼, a tie with the second).
    settings = {"groups": 1, "group_decay": 1.0, "basket_decay": 1.0, "neighbours": 1}
    mixed = rank_tifu_knn(asked, catalogue(1, 2, 3, 7, 8), 5, own_share=0.8, **settings)
    # first: 1 → 1, 2 → .4, 3 → .1; third: 7, 8 → .8, 1 → .2, 2 → .1
    assert mixed.tolist() == [
        [1, 2, 3, NOTHING, NOTHING],
        [1, 3, 2, NOTHING, NOTHING],
        [7, 8, 1, 2, NOTHING],
    ]
    swayed = rank_tifu_knn(asked, catalogue(1, 2, 3, 7, 8), 3, own_share=0.2, **settings)
    # first: 1 → 1, 3 → .4, 2 → .1; third: 1 → .8, 2 → .4, 7 and 8 → .2: the lower id
    assert swayed.tolist() == [[1, 3, 2], [1, 2, 3], [1, 2, 7]]


def test_a_household_without_history_is_given_what_its_neighbours_buy():
    asked = queries(
        Query(household=1), Query(baskets=[(1, [4])], household=2), Query(baskets=[(1, [5, 6])], household=3)
    )
    ranked = rank_tifu_knn(asked, catalogue(4, 5, 6), 3, neighbours=1)
    assert ranked[0].tolist() == [4, NOTHING, NOTHING]  # the shortest vector is the nearest to none


def test_a_household_alone_on_its_monday_is_given_its_own_products():
    asked = queries(Query(baskets=[(9, [4]), (2, [5, 99])]))
    assert rank_tifu_knn(asked, catalogue(3, 4, 5), 3).tolist() == [[5, 4, NOTHING]]


def test_nobody_and_nothing_to_sell_give_empty_lists():
    assert rank_tifu_knn(queries(Query()), catalogue(), 2).tolist() == [[NOTHING, NOTHING]]
    assert rank_tifu_knn(queries(Query()).take(np.zeros(0, np.int64)), catalogue(1), 2).shape == (0, 2)


def test_lists_agree_with_a_plain_computation_row_by_row(monkeypatch: pytest.MonkeyPatch):
    from ml_platform.ranking import tifu

    monkeypatch.setattr(tifu, "CHUNK_QUERIES", 7)
    generator = np.random.default_rng(2)
    rows = []
    for number in range(30):
        days = range(int(generator.integers(1, 9)), 0, -1)
        baskets = [(day, np.unique(generator.integers(0, 25, 5)).tolist()) for day in days]
        rows.append(Query(baskets=baskets, household=number))
    ranked = rank_tifu_knn(queries(*rows), catalogue(*range(25)), 6, 3, 0.7, 0.9, neighbours=4, own_share=0.6)
    vectors = np.zeros((30, 25))
    for number, row in enumerate(rows):
        parts = _split(row.baskets, 3)
        for place, part in enumerate(parts):
            for position, (_, products) in enumerate(part):
                weight = 0.7 ** (len(parts) - 1 - place) * 0.9 ** (len(part) - 1 - position)
                vectors[number, products] += weight / len(part) / len(parts)
    for number in range(30):
        away = ((vectors - vectors[number]) ** 2).sum(axis=1)
        nearest = [other for other in np.argsort(away, kind="stable") if other != number][:4]
        scores = 0.6 * vectors[number] + 0.4 * vectors[nearest].mean(axis=0)
        # In single precision products of the same score may change places; their scores may not.
        assert scores[ranked[number]] == pytest.approx(np.sort(scores)[::-1][:6], rel=1e-5)


def _split(baskets: list, groups: int) -> list[list]:
    """As equal as can be, the newer ones the larger."""
    if len(baskets) <= groups:
        return [[basket] for basket in baskets]
    size, larger = divmod(len(baskets), groups)
    ends = np.cumsum([size] * (groups - larger) + [size + 1] * larger)
    return [list(baskets[start:end]) for start, end in zip([0, *ends], ends)]
