import numpy as np
import pytest

from ml_platform.ranking.baselines import (
    RANKERS,
    RankerKind,
    fit_ranker,
    rank_decayed_frequency,
    rank_global_frequency,
    rank_personal_frequency,
)
from ml_platform.ranking.baskets import BadBaskets, Catalogue, Queries
from ml_platform.ranking.metrics import compute_recall
from ml_platform_tests.ranking.builders import MONDAY_NUMBER, Query, catalogue, queries

LINES_84D = {1: 5, 2: 9, 3: 9, 4: 1, 5: 0}
"""By popularity, ties by id: 2, 3, 1, 4, 5."""
LINES_28D = {1: 3, 2: 1, 3: 0, 4: 9, 5: 0}


def shop() -> Catalogue:
    columns = [list(LINES_84D.values()), list(LINES_28D.values()), list(LINES_84D.values())]
    statistics = np.array(columns, np.float32).T
    return catalogue(*LINES_84D, statistics=statistics, names=("lines_84d", "lines_28d", "buyers_84d"))


def test_global_frequency_lists_the_most_bought_products_for_everyone():
    asked = queries(Query(baskets=[(3, [5])]), Query())
    assert rank_global_frequency(asked, shop(), 4).tolist() == [[2, 3, 1, 4]] * 2
    assert rank_global_frequency(asked, shop(), 3, "lines_28d").tolist() == [[4, 1, 2]] * 2
    assert rank_global_frequency(asked, shop(), 7)[0].tolist() == [2, 3, 1, 4, 5, -1, -1]


def test_personal_frequency_counts_baskets_and_fills_up_with_popular_products():
    asked = queries(Query(baskets=[(9, [1, 5]), (5, [3, 5]), (2, [1, 3])]), Query(baskets=[(9, [4])]), Query())
    # 1, 3 and 5 are in two baskets each: 3 is the more popular, then 1.
    assert rank_personal_frequency(asked, shop(), 4).tolist() == [[3, 1, 5, 2], [4, 2, 3, 1], [2, 3, 1, 4]]


def test_personal_frequency_of_the_last_baskets_only_forgets_the_older_ones():
    asked = queries(Query(baskets=[(9, [5]), (5, [5]), (2, [4])]))
    assert rank_personal_frequency(asked, shop(), 2)[0].tolist() == [5, 4]
    assert rank_personal_frequency(asked, shop(), 3, baskets=1)[0].tolist() == [4, 2, 3]


def test_decayed_frequency_lets_a_new_basket_outweigh_older_ones():
    asked = queries(Query(baskets=[(9, [5]), (5, [5]), (2, [4])]))
    # 5 weighs decay² + decay, 4 weighs 1: equal at .618.
    assert rank_decayed_frequency(asked, shop(), 2, decay=0.7)[0].tolist() == [5, 4]
    assert rank_decayed_frequency(asked, shop(), 2, decay=0.6)[0].tolist() == [4, 5]


def test_equal_scores_go_to_the_more_popular_then_to_the_lower_id():
    asked = queries(Query(baskets=[(2, [1, 2, 3, 4])]))
    assert rank_decayed_frequency(asked, shop(), 4)[0].tolist() == [2, 3, 1, 4]


def test_products_outside_the_catalogue_are_never_listed():
    asked = queries(Query(baskets=[(9, [77]), (2, [4, 77])]))
    for rank in (rank_personal_frequency, rank_decayed_frequency):
        assert rank(asked, shop(), 7)[0].tolist() == [4, 2, 3, 1, 5, -1, -1]


def test_no_product_is_listed_twice_when_own_and_popular_products_overlap():
    generator = np.random.default_rng(1)
    rows = [Query(baskets=[(3, np.unique(generator.integers(0, 90, 12)).tolist())]) for _ in range(40)]
    statistics = generator.integers(0, 5, (90, 1)).astype(np.float32)
    ranked = rank_decayed_frequency(
        queries(*rows), catalogue(*range(90), statistics=statistics, names=("lines_84d",)), 20
    )
    assert all(len(set(row)) == 20 for row in ranked.tolist()) and ranked.min() >= 0


def test_a_ranker_sees_no_targets_and_not_who_else_is_asked_about():
    rows = [Query(baskets=[(9, [5]), (2, [1])], target=[2]), Query(baskets=[(9, [4])], target=[1])]
    blind = [Query(baskets=row.baskets) for row in rows]
    for rank in (rank_global_frequency, rank_personal_frequency, rank_decayed_frequency):
        both = rank(queries(*rows), shop(), 3).tolist()
        assert both == rank(queries(*blind), shop(), 3).tolist()
        assert both[1:] == rank(queries(rows[1]), shop(), 3).tolist()


def habits(newest_wins: bool) -> Queries:
    """Households that buy again what they bought last, or what they bought most often."""
    other = [(day, [product]) for day, product in ((40, 3), (33, 3), (26, 3), (19, 3), (12, 3), (5, 11))]
    return queries(*(Query(baskets=other, target=[11 if newest_wins else 3], household=n) for n in range(4)))


def market() -> dict[int, Catalogue]:
    """Products 100…108 are popular: where own products fill few places, they fill the rest."""
    products = [3, 11, *range(100, 120)]
    figures = np.array([[0, 0, *range(200, 180, -1)]] * 3, np.float32).T
    return {
        MONDAY_NUMBER: catalogue(*products, statistics=figures, names=("lines_84d", "lines_28d", "buyers_84d")),
    }


@pytest.mark.parametrize("kind", list(RANKERS))
def test_a_fitted_ranker_reaches_on_the_tuning_queries_what_its_settings_say(kind: RankerKind):
    asked = habits(newest_wins=True)
    fitted = fit_ranker(kind, asked, market())
    reached = np.nanmean(compute_recall(fitted.rank(asked, market()[MONDAY_NUMBER], 20), asked, 10))
    assert fitted.kind == kind
    assert fitted.settings["stop_recall_at_10"] == reached
    assert set(fitted.settings) == {*RANKERS[kind][1], "stop_recall_at_10"}


def test_tuning_takes_the_value_that_finds_more_and_keeps_the_first_where_none_does(monkeypatch: pytest.MonkeyPatch):
    from ml_platform.ranking import baselines

    monkeypatch.setattr(baselines, "TUNED_PLACES", 1)
    # 3 was bought five times before 11 was: only a steep decay, or a short memory, puts 11 first.
    grids = {"decayed_frequency": {"decay": (0.9, 1.0, 0.4)}, "personal_frequency": {"baskets": (20, 10, 1)}}
    for kind, choices in grids.items():
        monkeypatch.setitem(baselines.RANKERS, kind, (RANKERS[kind][0], choices))
        (name,) = choices
        (first, _, last) = choices[name]
        assert fit_ranker(kind, habits(newest_wins=True), market()).settings[name] == last
        assert fit_ranker(kind, habits(newest_wins=False), market()).settings[name] == first


def test_there_is_nothing_to_tune_on_without_targets():
    with pytest.raises(BadBaskets, match="no query to tune on has a target"):
        fit_ranker("decayed_frequency", queries(Query(baskets=[(1, [3])])), market())
