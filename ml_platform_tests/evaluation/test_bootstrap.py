import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from ml_platform.evaluation import bootstrap
from ml_platform.evaluation.bootstrap import Group, Measurement, cluster_multiplicities, measure
from ml_platform.evaluation.metrics import BadScores, compute_auc, compute_average_precision, compute_ece

N = 1200


def rows(seed: int = 0, clusters: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels, clusters, scores: households differ in their rate, so rows of one are alike."""
    generator = np.random.default_rng(seed)
    cluster = generator.integers(0, clusters, N)
    chance = np.clip(0.3 + 0.2 * generator.standard_normal(clusters)[cluster], 0.02, 0.98)
    labels = (generator.random(N) < chance).astype(np.int64)
    return labels, cluster, np.clip(chance + generator.normal(0, 0.1, N), 0.01, 0.99)


def find(measurements: list[Measurement], model: str, metric: str, group: str = "all") -> Measurement:
    (found,) = [m for m in measurements if (m.model, m.metric, m.group) == (model, metric, group)]
    return found


def everyone(n: int = N) -> list[Group]:
    return [Group("all", "all", np.arange(n))]


def test_intervals_equal_those_of_a_plain_bootstrap_that_repeats_rows():
    labels, clusters, scores = rows()
    other = np.round(scores, 1)
    found = measure(labels, clusters, {"candidate": scores, "other": other}, everyone(), seed=5, replicates=40)
    plain: dict[str, list[tuple[float, float]]] = {"auc": [], "average_precision": [], "log_loss": []}
    for times in cluster_multiplicities(60, 40, 5):
        repeated = np.repeat(np.arange(N), times[clusters])
        for name, metric in (
            ("auc", roc_auc_score),
            ("average_precision", average_precision_score),
            ("log_loss", log_loss),
        ):
            plain[name].append(tuple(metric(labels[repeated], s[repeated]) for s in (scores, other)))
    for name, values in plain.items():
        drawn = np.array(values)
        sign = -1 if name == "log_loss" else 1
        candidate, reference = find(found, "candidate", name), find(found, "other", name)
        assert (candidate.low, candidate.high) == pytest.approx(tuple(np.quantile(drawn[:, 0], [0.025, 0.975])))
        gains = sign * (drawn[:, 0] - drawn[:, 1])
        assert (reference.gain_low, reference.gain_high) == pytest.approx(tuple(np.quantile(gains, [0.025, 0.975])))


def test_figures_are_those_of_the_metrics_and_gains_are_positive_where_the_candidate_is_better():
    labels, clusters, scores = rows()
    noise = np.clip(scores + np.random.default_rng(1).normal(0, 0.3, N), 0.01, 0.99)
    found = measure(labels, clusters, {"candidate": scores, "worse": noise}, everyone(), seed=0, replicates=20)
    assert find(found, "candidate", "auc").value == compute_auc(labels, scores)
    assert find(found, "candidate", "ece").value == pytest.approx(compute_ece(labels, scores), abs=1e-12)
    assert find(found, "candidate", "auc").gain is None
    for metric in ("auc", "average_precision", "log_loss", "ece"):
        worse = find(found, "worse", metric)
        assert worse.gain is not None and worse.gain > 0


def test_the_same_seed_gives_the_same_figures_whatever_the_threads_and_row_order():
    labels, clusters, scores = rows()
    order = np.random.default_rng(9).permutation(N)
    one = measure(labels, clusters, {"candidate": scores}, everyone(), seed=1, replicates=30, threads=1)
    two = measure(labels, clusters, {"candidate": scores}, everyone(), seed=1, replicates=30, threads=2)
    shuffled = measure(labels[order], clusters[order], {"candidate": scores[order]}, everyone(), seed=1, replicates=30)
    assert one == two
    assert [m.low for m in shuffled] == pytest.approx([m.low for m in one], abs=1e-12)
    other = measure(labels, clusters, {"candidate": scores}, everyone(), seed=2, replicates=30)
    assert [m.low for m in other] != [m.low for m in one]


def test_differences_are_paired_so_a_model_is_exactly_as_good_as_itself():
    labels, clusters, scores = rows()
    found = measure(labels, clusters, {"candidate": scores, "twin": scores}, everyone(), seed=0, replicates=20)
    twin = find(found, "twin", "auc")
    assert (twin.gain, twin.gain_low, twin.gain_high) == (0, 0, 0)
    assert twin.low is not None and twin.high is not None and twin.low < twin.high


def test_households_are_drawn_not_rows_so_alike_rows_widen_the_interval():
    labels, clusters, scores = rows()

    def width(clusters: np.ndarray) -> float:
        found = find(measure(labels, clusters, {"candidate": scores}, everyone(), seed=0), "candidate", "log_loss")
        assert found.low is not None and found.high is not None
        return found.high - found.low

    assert width(clusters) > 1.3 * width(np.arange(N))


def test_many_different_scores_are_compressed_without_moving_a_bound(monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(4)
    n = 20_000
    clusters, labels = generator.integers(0, 300, n), (generator.random(n) < 0.3).astype(np.int64)
    scores = np.clip(0.5 * generator.random(n) + 0.2 * labels, 0, 1)
    compressed = measure(labels, clusters, {"candidate": scores}, everyone(n), seed=0)
    monkeypatch.setattr(bootstrap, "MAX_CELLS", n)
    exact = measure(labels, clusters, {"candidate": scores}, everyone(n), seed=0)
    for metric, compute in (("auc", compute_auc), ("average_precision", compute_average_precision)):
        fast, slow = find(compressed, "candidate", metric), find(exact, "candidate", metric)
        assert fast.value == slow.value == compute(labels, scores)
        assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-5)


def test_a_ranking_of_one_class_has_no_figure_while_the_log_loss_has_one():
    labels, clusters, scores = rows()
    groups = [Group("slice", "negatives", np.flatnonzero(labels == 0))]
    found = measure(labels, clusters, {"candidate": scores}, groups, seed=0, replicates=20)
    auc, loss = (find(found, "candidate", metric, "negatives") for metric in ("auc", "log_loss"))
    assert (auc.value, auc.low, auc.high) == (None, None, None)
    assert loss.value is not None and loss.low is not None


def test_too_few_clusters_give_a_figure_without_an_interval():
    labels, clusters, scores = rows(clusters=8)
    found = find(
        measure(labels, clusters, {"candidate": scores}, everyone(), seed=0, replicates=20), "candidate", "auc"
    )
    assert found.value is not None and found.low is None and found.high is None


def test_a_metric_defined_in_too_few_replicates_has_no_interval():
    _, clusters, scores = rows()
    labels = (np.arange(N) == 0).astype(np.int64)  # one positive: a third of the draws miss its household
    found = measure(labels, clusters, {"candidate": scores}, everyone(), seed=0, replicates=50)
    assert find(found, "candidate", "auc").value is not None
    assert find(found, "candidate", "auc").low is None
    assert find(found, "candidate", "log_loss").low is not None


def test_multiplicities_draw_as_many_clusters_as_there_are():
    drawn = cluster_multiplicities(50, 7, 0)
    assert drawn.shape == (7, 50)
    assert (drawn.sum(axis=1) == 50).all()


def test_a_score_that_is_no_number_is_refused_by_the_name_of_its_model():
    labels, clusters, scores = rows()
    broken = scores.copy()
    broken[0] = np.nan
    with pytest.raises(BadScores, match="champion"):
        measure(labels, clusters, {"candidate": scores, "champion": broken}, everyone(), seed=0)
