"""Which products? An answer is a ranked list of product ids, best first; a label is the list of those that came.

Lists come from the catalogue of their Monday: the published rows of the spec's table of items. In a table an answer is
as many rows as it has places; folded, it is a list again.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl

from ml_platform.contracts import Column, FeatureTable
from ml_platform.errors import PlatformError
from ml_platform.evaluation.bootstrap import Group, Measurement
from ml_platform.monitoring.sketch import SCORE
from ml_platform.ranking.baselines import fit_ranker
from ml_platform.ranking.baskets import BASKETS, NOTHING, Catalogue, Queries, read_catalogues, read_queries
from ml_platform.ranking.lists import rank_by_monday
from ml_platform.ranking.measure import measure_rankings
from ml_platform.ranking.metrics import LONGEST_LIST
from ml_platform.registry.bundles import WEIGHTS, Bundle
from ml_platform.tasks.account import Account, Step
from ml_platform.training.data import feature_values
from ml_platform.training.job import column_of
from ml_platform.training.spec import Metric, ModelSpec, RankingMetric
from ml_platform.training.trainers import ranker_module

if TYPE_CHECKING:
    from ml_platform.evaluation.report import Evaluation

METRICS: tuple[Metric, ...] = get_args(RankingMetric)
HEADLINE: Metric = "recall_at_10"
PROMISED: tuple[Metric, ...] = ("recall_at_10",)
LABEL = pl.List(pl.Int64())
ANSWER = ("products", pl.List(pl.Int64()))
SHOWN_ROWS = 10


class CatalogueMissing(PlatformError):
    """A ranker was asked without the catalogue of the Mondays it is asked about."""


def odd_labels(labels: pl.Series) -> str:
    odd = int((labels.list.len() == 0).fill_null(True).sum())
    return f"{odd} labels name no product" if odd else ""


def answers(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> np.ndarray:
    return _ranked(bundle, rows, items)[0]


def accounts(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> list[Account]:
    """Of each listed product the parts of its logit, then the softmax over the catalogue. A network over sequences has
    no additive shares of features; its score has additive parts, and those are told."""
    asked, catalogues = read_queries(rows.drop("label", strict=False).to_arrow()), _catalogues(items)
    trainer, found = ranker_module(bundle.report["trainer"]["kind"]), []
    for monday in np.unique(asked.as_ofs):
        catalogue, queries = catalogues[int(monday)], asked.take(np.flatnonzero(asked.as_ofs == monday))
        scored = trainer.score_parts(bundle.read(WEIGHTS), bundle.vocabulary, queries, catalogue, LONGEST_LIST)
        said = f"its share of exp(margin) over the {len(catalogue.products):,} products of the catalogue"
        for products, parts, total in zip(*scored):
            for product, values in zip(products, parts):
                margin = float(values.sum())
                share = Step("softmax", said, float(np.exp(margin - total)))
                stated = dict(zip(trainer.SCORE_PARTS, values.tolist(), strict=True))
                found.append(Account(stated, margin, (share,), int(product)))
    return found


def columns(spec: ModelSpec, items: FeatureTable | None) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    assert items is not None  # the spec has made sure
    rank = Column("rank", "int32", "Place in the list, 1 is the best", "count", lower=1, upper=LONGEST_LIST)
    score = Column("score", "float64", f"What orders the list; the higher, the likelier. {spec.description}", "ratio")
    return ("rank",), (rank, *(items.column(name) for name in items.entity), score)


def tabulate(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None, key: list[str]) -> pl.DataFrame:
    products, scores = _ranked(bundle, rows, items)
    places = np.tile(np.arange(1, products.shape[1] + 1), len(products))
    listed = rows.select(*key).select(pl.all().repeat_by(products.shape[1]).explode())
    table = listed.with_columns(
        pl.Series("rank", places, dtype=pl.Int32),
        pl.Series("product_id", products.ravel(), dtype=pl.Int64),
        pl.Series("score", scores.ravel(), dtype=pl.Float64),
    )
    return table.filter(pl.col("product_id") != NOTHING)


def fold(predictions: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    ordered = predictions.sort(*key, "rank")
    return ordered.group_by(*key, maintain_order=True).agg(
        pl.col("model_version").first(), pl.col("product_id").alias("products"), pl.col("score").first()
    )


def array(answers: pl.Series) -> np.ndarray:
    padded = (
        answers.list.head(LONGEST_LIST)
        .to_frame("products")
        .select(
            pl.concat_list("products", pl.lit([NOTHING] * LONGEST_LIST, dtype=pl.List(pl.Int64))).list.head(
                LONGEST_LIST
            )
        )
    )
    return padded["products"].explode().to_numpy().reshape(len(answers), LONGEST_LIST)


def measure(
    spec: ModelSpec,
    rows: pl.DataFrame,
    answers: Mapping[str, np.ndarray],
    groups: Sequence[Group],
    replicates: int,
) -> list[Measurement]:
    return measure_rankings(_questions(rows), answers, groups, seed=spec.seed, replicates=replicates)


def baselines(
    spec: ModelSpec, training_set: pl.DataFrame, items: pl.DataFrame | None
) -> tuple[dict[str, np.ndarray], dict[str, Mapping[str, float | int | str]]]:
    catalogues, table = _catalogues(items), training_set.to_arrow()
    tuning, asked = read_queries(table, "stop"), read_queries(table, "evaluate")
    lists, settings = {}, {}
    for baseline in spec.baselines:
        fitted = fit_ranker(baseline.kind, tuning, catalogues)  # type: ignore[arg-type]
        lists[baseline.name] = rank_by_monday(fitted.rank, asked, catalogues, LONGEST_LIST)
        settings[baseline.name] = fitted.settings
    return lists, settings


def one_class(labels: pl.Series) -> bool:
    return False


def watched(bundle: Bundle, inputs: pl.DataFrame, folded: pl.DataFrame) -> Mapping[str, np.ndarray]:
    """Numbers only: a list has no bins. The score is that of a list's first place."""
    table = inputs.to_arrow()
    numbers = [each for each in bundle.features if not isinstance(inputs.schema[column_of(each)], pl.List)]
    values = {reference: feature_values(table, column_of(reference)) for reference in numbers}
    return {**values, SCORE: folded["score"].to_numpy()}


def highlights(spec: ModelSpec, predictions: pl.DataFrame) -> list[dict[str, Any]]:
    """The products that the most lists begin with."""
    first = predictions.filter((pl.col("role") == "champion") & (pl.col("rank") == 1))
    top = first.group_by("product_id").agg(lists=pl.len(), mean_score=pl.col("score").mean())
    return top.sort("lists", "product_id", descending=[True, False]).head(SHOWN_ROWS).to_dicts()


def plots(evaluation: "Evaluation") -> dict[str, bytes]:
    from ml_platform.evaluation.plots import groups_plot

    return {f"weeks_and_slices_{metric}": groups_plot(evaluation, metric) for metric in ("recall_at_10", "ndcg_at_10")}


def _ranked(bundle: Bundle, rows: pl.DataFrame, items: pl.DataFrame | None) -> tuple[np.ndarray, np.ndarray]:
    """Lists int64 and their scores float32, both [n, LONGEST_LIST], each from its Monday's catalogue."""
    asked, catalogues = read_queries(rows.drop("label", strict=False).to_arrow()), _catalogues(items)
    scores = np.full((len(asked), LONGEST_LIST), np.nan, np.float32)

    def rank(queries: Queries, catalogue: Catalogue, k: int) -> np.ndarray:
        products, found = bundle.rank(queries, catalogue, k)
        scores[asked.as_ofs == catalogue.as_of] = found
        return products

    return rank_by_monday(rank, asked, catalogues, LONGEST_LIST), scores


def _catalogues(items: pl.DataFrame | None) -> Mapping[int, Catalogue]:
    if items is None:
        raise CatalogueMissing("a ranker needs the products it may list", next_step="declare the spec's `items`")
    return read_catalogues(items.to_arrow())


def _questions(rows: pl.DataFrame) -> Queries:
    """The rows as queries with their targets; without the columns of baskets, none is known (then nothing tells what
    is bought again from what is new, and the figures of those are not defined)."""
    lists = {f"{BASKETS}{name}": pl.List(pl.Int64()) for name in ("products", "basket_sizes", "days_ago")}
    missing = [pl.lit([], dtype=dtype).alias(name) for name, dtype in lists.items() if name not in rows.columns]
    return read_queries(rows.with_columns(missing).to_arrow())
