"""Sketches: fixed bins, exact counts, a strict format."""

import json
from typing import Any

import numpy as np
import pytest

from ml_platform.monitoring.sketch import (
    ColumnSketch,
    Sketch,
    SketchMismatch,
    SketchUnreadable,
    build_sketch,
    count_into,
    merged,
    model_columns,
    nothing_in,
)

RANDOM = np.random.default_rng(11)
COLUMNS = {
    "shop:spend": RANDOM.gamma(2.0, 20.0, 4000).astype(np.float32),
    "shop:coupons": np.where(RANDOM.random(4000) < 0.9, 0, RANDOM.poisson(30, 4000)).astype(np.float32),
    "shop:is_member": RANDOM.integers(0, 2, 4000).astype(np.float32),
    "shop:gap": np.where(RANDOM.random(4000) < 0.3, np.nan, RANDOM.normal(size=4000)).astype(np.float32),
    "shop:never": np.full(4000, np.nan, np.float32),
    "score": RANDOM.random(4000),
}


def one(values: list[float]) -> ColumnSketch:
    return build_sketch({"column": np.array(values)}).columns[0]


def test_each_of_few_values_has_its_bin_and_there_is_room_on_both_sides() -> None:
    column = one([1, 1, 0, 3])
    assert (column.edges[:3], column.counts) == ((0.0, 1.0, 3.0), (0, 1, 2, 1, 0))
    now = count_into(Sketch(4, (column,)), {"column": np.array([-5, 0, 1, 2, 3, 3.5, 9])}).columns[0]
    assert now.counts == (1, 1, 2, 1, 2)


def test_a_column_that_was_always_the_same_shows_any_other_value_later() -> None:
    never = build_sketch({"column": np.zeros(100)})
    assert count_into(never, {"column": np.array([0, 0, 1, -1])}).columns[0].counts == (1, 2, 1)


def test_many_values_are_parted_into_bins_of_equal_mass() -> None:
    column = build_sketch(COLUMNS).column("shop:spend")
    assert len(column.counts) == 10
    assert min(column.counts) >= 395 and max(column.counts) <= 405


def test_a_value_that_most_rows_share_is_a_bin_of_its_own() -> None:
    column, values = build_sketch(COLUMNS).column("shop:coupons"), COLUMNS["shop:coupons"]
    alone = column.counts[column.edges.index(0.0) + 1]
    assert alone == (values == 0).sum() > 3500
    assert sum(column.counts[column.edges.index(0.0) + 2 :]) == (values > 0).sum()


def test_missing_values_are_counted_apart_and_every_row_is_counted_once() -> None:
    sketch = build_sketch(COLUMNS)
    assert sketch.column("shop:gap").missing == np.isnan(COLUMNS["shop:gap"]).sum() > 1000
    assert (sketch.column("shop:never").edges, sketch.column("shop:never").missing) == ((), 4000)
    assert [column.cells.sum() for column in sketch.columns] == [sketch.rows] * 6 == [4000] * 6


def test_the_rows_a_sketch_was_made_of_give_its_own_counts_in_any_order() -> None:
    sketch, order = build_sketch(COLUMNS), RANDOM.permutation(4000)
    shuffled = {name: values[order] for name, values in COLUMNS.items()}
    assert count_into(sketch, COLUMNS) == sketch == build_sketch(shuffled) == count_into(sketch, shuffled)


def test_values_are_compared_as_the_model_sees_them_whatever_they_are_stored_as() -> None:
    tenths = np.arange(1, 100) / 10
    sketch = build_sketch({"column": tenths.astype(np.float32)})
    assert count_into(sketch, {"column": tenths}) == sketch


def test_counting_in_parts_is_counting_the_whole() -> None:
    sketch, whole = build_sketch(COLUMNS), nothing_in(build_sketch(COLUMNS))
    for part in (slice(0, 1000), slice(1000, 1001), slice(1001, None)):
        whole = merged(whole, count_into(sketch, {name: values[part] for name, values in COLUMNS.items()}))
    assert whole == sketch


def test_a_sketch_survives_json_to_the_last_bit() -> None:
    sketch = build_sketch(COLUMNS)
    assert Sketch.from_json(json.loads(json.dumps(sketch.to_json()))) == sketch


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "format version 2, this release reads 1.*train the model again"),
        ({"format_version": None}, "format version None"),
        ({"rows": 5}, "do not add up"),
        ({"columns": [{"name": "a"}]}, "cannot be read"),
        ({"columns": [{"name": "a", "edges": [1.0], "counts": [4], "missing": 0}]}, "do not fit"),
        ({"columns": [{"name": "a", "edges": [2.0, 1.0], "counts": [1, 1, 2], "missing": 0}]}, "do not fit"),
        ({"columns": [{"name": "a", "edges": [1.0], "counts": [5, -1], "missing": 0}]}, "do not fit"),
        ({"columns": [{"name": "a", "edges": [], "counts": [4], "missing": 0}] * 2}, "do not add up"),
    ],
)
def test_a_sketch_of_another_version_or_a_broken_one_is_refused(change: dict[str, Any], words: str) -> None:
    stated = {**build_sketch({"a": np.arange(4)}).to_json(), **change}
    with pytest.raises(SketchUnreadable, match=words):
        Sketch.from_json(stated)


def test_json_that_is_no_sketch_at_all_is_refused() -> None:
    with pytest.raises(SketchUnreadable, match="format version None"):
        Sketch.from_json([1, 2])  # type: ignore[arg-type]


def test_columns_that_changed_since_training_are_named() -> None:
    renamed = {name.replace("spend", "spent"): values for name, values in COLUMNS.items()}
    with pytest.raises(
        SketchMismatch, match=r"missing \['shop:spend'\], unknown \['shop:spent'\].*train the model again"
    ):
        count_into(build_sketch(COLUMNS), renamed)


def test_columns_of_different_length_and_sketches_of_different_bins_are_refused() -> None:
    with pytest.raises(SketchMismatch, match="different length"):
        build_sketch({"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(SketchMismatch, match=r"different bins for \['a'\]"):
        merged(build_sketch({"a": np.zeros(3)}), build_sketch({"a": np.ones(3)}))


def test_a_models_columns_are_its_features_by_reference_and_its_score() -> None:
    matrix, scores = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0.1, 0.2, 0.3])
    columns = model_columns(("shop:a", "shop:b"), matrix, scores)
    assert {name: values.tolist() for name, values in columns.items()} == {
        "shop:a": [0, 2, 4],
        "shop:b": [1, 3, 5],
        "score": [0.1, 0.2, 0.3],
    }
