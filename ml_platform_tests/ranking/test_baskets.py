from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.ranking.baskets import NOTHING, BadBaskets, read_catalogues, read_queries
from ml_platform_tests.ranking.builders import MONDAY, MONDAY_NUMBER, Query, catalogue, queries, table

ROWS = (
    Query(baskets=[(9, [1, 5]), (2, [5])], target=[5, 7], household=10, role="train"),
    Query(household=11, target=[3]),
    Query(baskets=[(30, [2]), (20, [2, 4, 6]), (1, [4])], household=12),
)


def replaced(made: pa.Table, name: str, values: list) -> pa.Table:
    position = made.column_names.index(name)
    return made.set_column(position, name, pa.array(values, made.schema.field(name).type))


def test_rows_become_flat_arrays_and_offsets():
    found = queries(*ROWS)
    assert len(found) == 3
    assert found.households.tolist() == [10, 11, 12]
    assert found.as_ofs.tolist() == [MONDAY_NUMBER] * 3
    assert found.basket_offsets.tolist() == [0, 2, 2, 5]
    assert found.days_ago.tolist() == [9, 2, 30, 20, 1]
    assert found.line_offsets.tolist() == [0, 2, 3, 4, 7, 8]
    assert found.products.tolist() == [1, 5, 5, 2, 2, 4, 6, 4]
    assert found.target_offsets.tolist() == [0, 2, 3, 3]
    assert found.targets.tolist() == [5, 7, 3]


def test_every_element_knows_its_owner_and_every_basket_its_age():
    found = queries(*ROWS)
    assert found.basket_queries.tolist() == [0, 0, 2, 2, 2]
    assert found.line_baskets.tolist() == [0, 0, 1, 2, 3, 3, 3, 4]
    assert found.target_queries.tolist() == [0, 0, 1]
    assert found.baskets_ago.tolist() == [1, 0, 2, 1, 0]


def test_taking_queries_keeps_their_baskets_and_targets_in_the_order_asked_for():
    taken = queries(*ROWS).take(np.array([2, 0, 2]))
    assert taken.households.tolist() == [12, 10, 12]
    assert taken.basket_offsets.tolist() == [0, 3, 5, 8]
    assert taken.days_ago.tolist() == [30, 20, 1, 9, 2, 30, 20, 1]
    assert taken.products.tolist() == [2, 2, 4, 6, 4, 1, 5, 5, 2, 2, 4, 6, 4]
    assert taken.line_offsets.tolist() == [0, 1, 4, 5, 7, 8, 9, 12, 13]
    assert taken.target_offsets.tolist() == [0, 0, 2, 2]
    assert taken.targets.tolist() == [5, 7]


def test_a_mask_takes_what_it_marks_and_nothing_is_a_set_of_queries_too():
    found = queries(*ROWS)
    assert found.take(found.households > 10).households.tolist() == [11, 12]
    none = found.take(np.zeros(3, np.bool_))
    assert len(none) == 0 and none.basket_offsets.tolist() == [0] and none.products.tolist() == []


def test_a_role_selects_its_rows():
    assert read_queries(table(*ROWS), "train").households.tolist() == [10]
    assert read_queries(table(*ROWS), "evaluate").households.tolist() == []


def test_features_alone_are_queries_without_targets():
    found = read_queries(table(*ROWS).drop_columns(["label", "role"]))
    assert found.target_offsets.tolist() == [0, 0, 0, 0]
    assert found.targets.tolist() == []


def test_a_null_list_is_an_empty_one_and_chunks_and_slices_change_nothing():
    whole = table(*ROWS)
    for name in ("products", "basket_sizes", "days_ago"):
        column = f"household_baskets__{name}"
        whole = replaced(whole, column, [whole.column(column)[0].as_py(), None, whole.column(column)[2].as_py()])
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    for found in (read_queries(whole), read_queries(chunked)):
        assert found.basket_offsets.tolist() == [0, 2, 2, 5]
        assert found.products.tolist() == [1, 5, 5, 2, 2, 4, 6, 4]
    assert read_queries(whole.slice(2)).line_offsets.tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("column", "values", "word"),
    [
        ("household_baskets__basket_sizes", [[2, 2], [], [1, 3, 1]], "do not add up"),
        ("household_baskets__basket_sizes", [[3, 0], [], [1, 3, 1]], "do not add up"),
        ("household_baskets__days_ago", [[9], [], [30, 20, 1]], "no day"),
        ("household_baskets__days_ago", [[2, 9], [], [30, 20, 1]], "oldest first"),
        ("household_baskets__products", [[5, 1, 5], [], [2, 2, 4, 6, 4]], "do not rise"),
        ("household_baskets__products", [[5, 5, 5], [], [2, 2, 4, 6, 4]], "do not rise"),
        ("label", [[7, 5], [], []], "do not rise"),
        ("household_baskets__products", [[1, None, 5], [], [2, 2, 4, 6, 4]], "null"),
        ("as_of", [MONDAY, None, MONDAY], "null"),
    ],
)
def test_lists_that_contradict_each_other_are_refused(column: str, values: list, word: str):
    with pytest.raises(BadBaskets, match=word):
        read_queries(replaced(table(*ROWS), column, values))


def test_sizes_that_add_up_over_all_rows_but_not_in_each_are_refused():
    made = table(Query(baskets=[(1, [1, 2])]), Query(baskets=[(1, [3])]))
    with pytest.raises(BadBaskets, match="do not add up"):
        read_queries(replaced(made, "household_baskets__basket_sizes", [[1], [2]]))


def test_a_target_is_known_where_its_own_query_lists_it():
    other = Query(baskets=[(1, [7])], target=[5], household=13)
    assert queries(*ROWS, other).targets_known.tolist() == [True, False, False, False]
    assert queries(ROWS[2]).targets_known.tolist() == []


def test_a_missing_column_is_named():
    with pytest.raises(BadBaskets, match="household_baskets__days_ago"):
        read_queries(table(*ROWS).drop_columns(["household_baskets__days_ago"]))


def catalogue_table() -> pa.Table:
    return pa.table(
        {
            "product_id": [3, 8, 3],
            "as_of": pa.array([MONDAY, MONDAY, date(2017, 11, 6)], pa.date32()),
            "product__category": ["cheese", "milk", "cheese"],
            "product__lines_84d": pa.array([4, 5, 6], pa.int32()),
            "product__repeat_share_84d": [0.5, None, 0.25],
            "product__as_of": pa.array([MONDAY, MONDAY, date(2017, 11, 6)], pa.date32()),
        }
    )


def test_each_monday_has_its_catalogue_with_its_statistics():
    found = read_catalogues(catalogue_table())
    assert list(found) == [MONDAY_NUMBER, MONDAY_NUMBER + 7]
    first = found[MONDAY_NUMBER]
    assert (first.as_of, first.products.tolist(), first.categories.tolist()) == (
        MONDAY_NUMBER,
        [3, 8],
        ["cheese", "milk"],
    )
    assert first.names == ("lines_84d", "repeat_share_84d")
    np.testing.assert_array_equal(first.statistics, np.array([[4, 0.5], [5, np.nan]], np.float32))
    assert found[MONDAY_NUMBER + 7].products.tolist() == [3]


def test_a_catalogue_out_of_order_or_with_a_product_twice_is_refused():
    made = catalogue_table()
    for order in ([1, 0, 2], [0, 0, 2], [2, 0, 1]):
        with pytest.raises(BadBaskets, match="out of order or listed twice"):
            read_catalogues(made.take(pa.array(order)))


def test_a_product_that_is_not_in_the_catalogue_has_no_number():
    assert catalogue(3, 8).numbers(np.array([8, 5, 9, 3, NOTHING])).tolist() == [1, -1, -1, 0, -1]
    assert catalogue().numbers(np.array([8])).tolist() == [NOTHING]
