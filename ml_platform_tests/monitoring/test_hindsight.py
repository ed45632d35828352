"""A year judged with hindsight: five Mondays of a tiny model with real trainings, each policy counted by hand."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_platform.calendar import WEEK
from ml_platform.contracts import AS_OF, Column, FeatureTable
from ml_platform.evaluation.metrics import compute_auc
from ml_platform.features.store import FeatureStore
from ml_platform.lake import PartitionedTable
from ml_platform.monitoring.hindsight import NothingToJudge, Step, judge_hindsight
from ml_platform.monitoring.hindsight_plots import hindsight_plot
from ml_platform.monitoring.hindsight_trainings import Workshop
from ml_platform.monitoring.hindsight_verdict import (
    POLICIES,
    Difference,
    Hindsight,
    MondayResult,
    Policy,
    PolicyResult,
    conclude,
)
from ml_platform.monitoring.weekly import DriftRecord, measure_performance, publish_performance
from ml_platform.predictions import Scorer, answer, predict
from ml_platform.registry.bundles import Bundle
from ml_platform.registry.ledger import Ledger
from ml_platform.settings import Settings
from ml_platform.training.spec import Baseline, Label, ModelSpec, TemporalSplit, Trainer
from ml_platform.warehouse.duckdb import DuckDBWarehouse
from ml_platform_tests.cli.test_commands import invoke
from ml_platform_tests.training.conftest import make_spec

M = [date(2017, 3, 6) + week * WEEK for week in range(10)]
SHOPPERS, TURN, NOBODY = 250, 5, 7
"""From Monday TURN on visits speak against the label; on Monday NOBODY nobody returns, so cutoff 8 cannot be tested."""
SQL = """
select shopper_id, as_of, label from labels
where as_of in (select unnest($as_ofs)) and landed_on < $cutoff
"""
SHOPPER = FeatureTable(
    name="shopper",
    entity=("shopper_id",),
    columns=(
        Column("shopper_id", "int64", "Shopper", "id", lower=1),
        AS_OF,
        Column("visits", "int32", "Visits", "count", lower=0),
        Column("spend", "float64", "Spend", "cents", lower=0),
    ),
    description="What a shopper did",
    owner="team:tests",
    relation="feature_models.shopper",
    audit_sql=Path(__file__),
)
TABLES = {"shopper": SHOPPER}


@dataclass(frozen=True)
class Year:
    """A home in which version 1 served Mondays 3 to 6 and version 2 those after; `bundles` by the cutoff's Monday."""

    home: Path
    spec: ModelSpec
    bundles: Mapping[int, Bundle]

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.lake, TABLES)

    @property
    def warehouse(self) -> DuckDBWarehouse:
        return DuckDBWarehouse(self.home / "warehouse" / "warehouse.duckdb")

    @property
    def book(self) -> Ledger:
        return Ledger(f"sqlite:///{self.home / 'ledger.db'}")

    @property
    def workshop(self) -> Workshop:
        return Workshop(self.spec, self.store, self.warehouse, self.home / "hindsight" / self.spec.name)

    def judge(self) -> tuple[Hindsight, list[Step]]:
        told: list[Step] = []
        scratch = self.home / "hindsight" / self.spec.name
        return judge_hindsight(self.spec, self.book, self.lake, self.store, self.warehouse, scratch, told.append), told

    def rows(self, week: int) -> pl.DataFrame:
        """The champion's rows of a Monday, as they were judged."""
        frame = PartitionedTable(self.lake / "performance", self.spec.name).read((M[week] + WEEK).isoformat())
        return frame.filter(pl.col("role") == "champion")

    def scores(self, week: int, cutoff: int) -> np.ndarray:
        return answer(self.spec, self.bundles[cutoff], self.store, self.rows(week).select("shopper_id", "as_of"))


def features(week: int) -> pl.DataFrame:
    rng = np.random.default_rng(week)
    ids = np.arange(1, SHOPPERS + 1)
    columns = {"visits": rng.poisson(3, SHOPPERS), "spend": rng.gamma(2.0, 10.0, SHOPPERS)}
    return SHOPPER.conform(pl.DataFrame({"shopper_id": ids, "as_of": [M[week]] * SHOPPERS, **columns}))


def labels(week: int) -> pl.DataFrame:
    visits = features(week)["visits"].to_numpy()
    chance = 1 / (1 + np.exp(1.5 - 0.6 * visits if week < TURN else 0.6 * visits - 2.0))
    came = (np.random.default_rng(100 + week).random(SHOPPERS) < chance) & (week != NOBODY)
    return features(week).select("shopper_id", "as_of").with_columns(pl.Series("label", came.astype(np.int8)))


def a_spec(folder: Path) -> ModelSpec:
    spec = make_spec(
        folder,
        label=Label(folder / "label.sql", horizon_days=7, lateness_days=0),
        features=("shopper:visits", "shopper:spend"),
        split=TemporalSplit(M[0], train_mondays=2, evaluate_mondays=1, evaluate_every_weeks=1),
        trainer=Trainer("xgboost", 20, 5, {"eta": 0.3, "max_depth": 2}),
        baselines=(Baseline("visits", "rate_table", ("shopper:visits",)),),
    )
    (folder / "label.sql").write_text(SQL)
    return spec


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Year:
    home = tmp_path_factory.mktemp("home")
    year = Year(home, a_spec(home), {})
    (home / "warehouse").mkdir()
    with year.warehouse.session("test") as session:
        session.execute("create table labels (shopper_id bigint, as_of date, landed_on date, label tinyint)")
        for week in range(len(M)):
            year.store.table("shopper").publish(year.store.table("shopper").stage(M[week].isoformat(), features(week)))
            path = home / "labels.parquet"
            labels(week).write_parquet(path)
            sql = "insert into labels select shopper_id, as_of, as_of + 6, label from read_parquet($path)"
            session.execute(sql, {"path": str(path)})
    found = year.workshop.train_all(M[4:8], [], lambda training: None)
    bundles = {week: bundle for week in range(4, 8) if (bundle := found[M[week]].bundle)}
    year = replace(year, bundles=bundles)
    write_ledger(year)
    for week in range(3, 9):
        write_monday(year, week)
    write_drift(year, 5)
    return year


def write_ledger(year: Year) -> None:
    """Two versions, both promoted; a third that was trained too late to matter, and whose bundle is gone."""
    entry = None
    for week in (4, 6):
        version = register(year, year.bundles[week].digest, year.bundles[week].path, M[week])
        promoted = {"who": "test", "reason": "test", "evidence_digest": "v"}
        entry = year.book.append(year.spec.name, "promote", version, entry, **promoted)
    register(year, "e" * 64, year.home / "nowhere", M[9])


def register(year: Year, digest: str, path: Path, cutoff: date) -> int:
    stated = {"training_set_digest": "t", "spec_digest": year.spec.digest(), "run_id": "test"}
    uri = str(path)
    return year.book.register(year.spec.name, bundle_digest=digest, bundle_uri=uri, cutoff=cutoff, **stated).version


def write_monday(year: Year, week: int) -> None:
    """What the champion of the time predicted, met with its labels. Those of Monday 5 were a tenth lower than the
    bundle's: features were others then."""
    version, cutoff = (1, 4) if week < 7 else (2, 6)
    made = predict(year.spec, {"champion": Scorer(version, year.bundles[cutoff])}, year.store, M[week])
    if week == 5:
        made = made.with_columns(pl.col("score") * 0.9)
    frame, _, record = measure_performance(year.spec, made, labels(week), None, M[week] + WEEK)
    publish_performance(PartitionedTable(year.lake / "performance", year.spec.name), frame, record)


def write_drift(year: Year, week: int) -> None:
    table = PartitionedTable(year.lake / "drift", year.spec.name)
    stated = json.dumps(asdict(DriftRecord(M[week], "drifted", "a turn", 1, {})), default=str)
    table.publish(table.stage(M[week].isoformat(), pl.DataFrame({"column": ["score"]}), {"record": stated}))


@pytest.fixture(scope="module")
def judged(year: Year) -> tuple[Hindsight, list[Step]]:
    return year.judge()


def losses(label: np.ndarray, chance: np.ndarray) -> np.ndarray:
    kept = np.clip(chance, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return -(label * np.log(kept) + (1 - label) * np.log(1 - kept))


def by_hand(year: Year, scores: Mapping[int, np.ndarray]) -> tuple[float, float]:
    """(mean log loss, AUC) over all rows of the Mondays."""
    label = np.concatenate([year.rows(week)["label"].to_numpy() for week in scores])
    chance = np.concatenate(list(scores.values()))
    return float(losses(label, chance).mean()), compute_auc(label, chance)


def figures(found: Hindsight, policy: Policy) -> tuple[float, float | None]:
    return found.policies[policy].log_loss, found.policies[policy].auc


def test_the_platform_is_judged_on_the_scores_it_published(year: Year, judged: tuple[Hindsight, list[Step]]) -> None:
    found, _ = judged
    published = {week: year.rows(week)["score"].to_numpy() for week in range(4, 9)}
    assert figures(found, "platform") == pytest.approx(by_hand(year, published))
    assert found.policies["platform"].trainings == 2
    assert found.rescored == pytest.approx(0.1 * year.scores(5, 4).max(), abs=1e-6)


def test_never_retraining_is_the_first_champion_on_every_monday(
    year: Year, judged: tuple[Hindsight, list[Step]]
) -> None:
    found, _ = judged
    assert figures(found, "never") == pytest.approx(by_hand(year, {week: year.scores(week, 4) for week in range(4, 9)}))
    assert found.policies["never"].trainings == 1


def test_weekly_retraining_scores_each_monday_with_the_bundle_of_that_cutoff_or_the_last_that_could_be_trained(
    year: Year, judged: tuple[Hindsight, list[Step]]
) -> None:
    found, _ = judged
    used = {4: 4, 5: 5, 6: 6, 7: 7, 8: 7}
    scores = {week: year.scores(week, cutoff) for week, cutoff in used.items()}
    assert figures(found, "weekly") == pytest.approx(by_hand(year, scores))
    assert [monday.weekly_cutoff for monday in found.mondays] == [M[week] for week in used.values()]
    assert found.policies["weekly"].trainings == 4


def test_after_a_shadow_a_bundle_serves_only_once_its_first_weeks_can_have_matured(
    year: Year, judged: tuple[Hindsight, list[Step]]
) -> None:
    found, _ = judged
    assert year.spec.trial is not None and year.spec.trial.min_weeks == 2 and year.spec.label.maturity == WEEK
    used = {4: 4, 5: 4, 6: 4, 7: 5, 8: 6}
    scores = {week: year.scores(week, cutoff) for week, cutoff in used.items()}
    assert figures(found, "shadowed") == pytest.approx(by_hand(year, scores))
    assert found.policies["shadowed"].trainings == 4


def test_the_best_in_hindsight_is_the_best_bundle_that_existed_by_each_monday(
    year: Year, judged: tuple[Hindsight, list[Step]]
) -> None:
    found, _ = judged
    chosen = {}
    for week in range(4, 9):
        label = year.rows(week)["label"].to_numpy()
        there = [cutoff for cutoff in (4, 5, 6, 7) if cutoff <= week]
        chosen[week] = min(there, key=lambda cutoff: losses(label, year.scores(week, cutoff)).mean())
    assert [monday.best_cutoff for monday in found.mondays] == [M[cutoff] for cutoff in chosen.values()]
    assert chosen != {4: 4, 5: 5, 6: 6, 7: 7, 8: 7}
    assert figures(found, "best") == pytest.approx(by_hand(year, {w: year.scores(w, c) for w, c in chosen.items()}))
    assert found.policies["best"].trainings == len(set(chosen.values()))


def test_a_monday_before_anything_could_be_trained_is_left_out_and_one_that_could_not_be_says_why(
    judged: tuple[Hindsight, list[Step]],
) -> None:
    found, _ = judged
    assert found.left_out == (M[3],) and list(found.untrained) == [M[3], M[8]]
    assert "too few Mondays have matured" in found.untrained[M[3]]
    why = f"all {SHOPPERS} rows of the role 'evaluate' have the label 0: there is nothing to learn"
    assert found.untrained[M[8]] == why


def test_each_monday_has_its_losses_and_what_happened_on_it(year: Year, judged: tuple[Hindsight, list[Step]]) -> None:
    found, _ = judged
    assert [monday.as_of for monday in found.mondays] == M[4:9]
    assert [monday.as_of for monday in found.mondays if monday.new_champion] == [M[7]]
    assert [monday.as_of for monday in found.mondays if monday.drifted] == [M[5]]
    sixth = found.mondays[2]
    assert (sixth.rows, sixth.positives) == (SHOPPERS, year.rows(6)["label"].sum())
    assert sixth.log_loss["never"] == pytest.approx(losses(year.rows(6)["label"].to_numpy(), year.scores(6, 4)).mean())
    gap = found.policies["platform"].log_loss - found.policies["never"].log_loss
    difference = found.differences["never"]
    assert difference.value == pytest.approx(gap)
    assert difference.low is not None and difference.high is not None and difference.low < gap < difference.high


def test_the_ledgers_own_trainings_are_not_made_again_and_a_second_judgement_trains_nothing(
    year: Year, judged: tuple[Hindsight, list[Step]]
) -> None:
    found, told = judged
    came = {M[3]: "untrained", M[4]: "in_ledger", M[5]: "kept", M[6]: "in_ledger", M[7]: "kept", M[8]: "untrained"}
    assert {step.cutoff: step.what for step in told if step.what != "scored"} == came
    assert [step.cutoff for step in told if step.what == "scored"] == M[4:9]
    assert [step.done for step in told] == list(range(1, 12)) and told[-1].total == 11
    again, _ = year.judge()
    assert again == found


def test_changed_labels_or_a_torn_bundle_are_trained_anew(year: Year, tmp_path: Path) -> None:
    shutil.copytree(year.home, tmp_path / "home")
    other = replace(year, home=tmp_path / "home")
    with other.warehouse.session("test") as session:
        session.execute("update labels set label = 1 where as_of = $day and shopper_id <= 5", {"day": M[6]})
    (changed,) = other.workshop.train_all([M[7]], [], lambda training: None).values()
    assert changed.came == "trained" and changed.bundle is not None
    assert changed.bundle.digest != year.bundles[7].digest
    (changed.bundle.path / "model.ubj").write_bytes(b"torn")
    (mended,) = other.workshop.train_all([M[7]], [], lambda training: None).values()
    assert mended.came == "trained" and mended.bundle is not None and mended.bundle.digest == changed.bundle.digest


def test_without_a_matured_monday_there_is_nothing_to_judge(year: Year, tmp_path: Path) -> None:
    with pytest.raises(NothingToJudge, match="no Monday"):
        judge_hindsight(year.spec, year.book, tmp_path, year.store, year.warehouse, tmp_path)


def a_hindsight(platform: float, never: float, weekly: float, trainings: int = 2, shadowed: float = 0.20) -> Hindsight:
    """Four Mondays of equal rows; the platform's version 2 came on the third."""
    loss: dict[Policy, float] = {
        "platform": platform,
        "never": never,
        "weekly": weekly,
        "shadowed": shadowed,
        "best": 0.10,
    }
    counts: dict[Policy, int] = {"platform": trainings, "never": 1, "weekly": 10, "shadowed": 10, "best": 3}
    return Hindsight(
        model="toy",
        policies={policy: PolicyResult(policy, loss[policy], 0.7, counts[policy]) for policy in POLICIES},
        mondays=tuple(
            MondayResult(M[week], 100, 9, loss, 1 + (week > 1), M[week], M[0], week == 2, week == 1)
            for week in range(4)
        ),
        differences={p: Difference(platform - loss[p], None, None) for p in POLICIES if p != "platform"},
        untrained={},
        left_out=(),
        retired=1,
        rescored=0.0,
    )


def test_a_bound_that_no_shadow_can_reach_is_told_with_its_figure() -> None:
    out_of_reach = conclude(a_hindsight(platform=0.26, never=0.30, weekly=0.20, shadowed=0.25))
    assert any("comes to 0.25000 with 10 trainings" in fact for fact in out_of_reach.facts)
    within_reach = conclude(a_hindsight(platform=0.26, never=0.30, weekly=0.20, shadowed=0.205))
    assert not any("comes to" in fact for fact in within_reach.facts)


def test_the_platform_is_as_wanted_when_all_three_rules_hold() -> None:
    found = conclude(a_hindsight(platform=0.209, never=0.30, weekly=0.20))
    assert found.as_wanted and found.bound == pytest.approx(0.21)
    said = " ".join(found.sentences)
    assert "beats never retraining: 0.20900 against 0.30000, -0.09100" in said
    assert "is within a tenth of the way" in said and "0.00100 below the bound of 0.21000" in said
    assert "trainings are 2, those of weekly retraining 10: at most a quarter" in said
    assert found.facts == (
        "It came 91% of the way from never retraining to weekly retraining.",
        "It came 91% of the way from never retraining to weekly retraining after a shadow.",
        "It came 46% of the way from never retraining to best in hindsight.",
    )


def test_a_rule_that_does_not_hold_is_said_with_by_how_much_and_the_facts_beside_it() -> None:
    found = conclude(a_hindsight(platform=0.25, never=0.30, weekly=0.20, trainings=4))
    assert (found.beats_never, found.within_a_tenth, found.within_a_quarter) == (True, False, False)
    said = " ".join((*found.sentences, *found.facts))
    assert "is not within a tenth" in said and "0.04000 above the bound of 0.21000" in said
    assert "more than a quarter, 1.5 more than 2.5" in said
    assert f"Version 1 served from {M[0]} on, version 2 from {M[2]} on." in said
    assert "Of its trainings (4), 2 served, 1 were retired after their trial, 1 did neither." in said
    assert "worse than weekly retraining on 4 of 4 Mondays; 75% of what it lost there" in said
    assert f"{M[1]} (0.2500 against 0.2000, drifted)" in said


def test_weekly_retraining_may_itself_be_worse_than_never() -> None:
    found = a_hindsight(platform=0.20, never=0.20, weekly=0.30)
    judgement = conclude(found)
    assert judgement.bound == pytest.approx(0.29) and judgement.within_a_tenth and not judgement.beats_never
    said = " ".join(judgement.sentences)
    assert "does not beat never retraining: both 0.20000" in said
    assert "Weekly retraining is itself no better than never retraining, by 0.10000" in said
    assert found.closeness("weekly") is None and found.closeness("best") == 0


def test_too_few_mondays_to_retrain_within_a_quarter_are_said() -> None:
    found = a_hindsight(platform=0.20, never=0.20, weekly=0.19, trainings=1)
    few = {**found.policies, "weekly": PolicyResult("weekly", 0.19, 0.7, 7)}
    mondays = tuple(replace(monday, version=1, new_champion=False) for monday in found.mondays)
    said = " ".join(conclude(replace(found, policies=few, mondays=mondays, retired=0)).facts)
    assert "Only version 1 served; as long as one does, it is never retraining." in said
    assert "A quarter of 7 trainings is less than two" in said


def test_what_was_left_out_could_not_be_trained_or_has_changed_is_said() -> None:
    found = a_hindsight(platform=0.2, never=0.3, weekly=0.2)
    reasons = {M[8]: "too few", M[2]: "one class"}
    said = " ".join(conclude(replace(found, untrained=reasons, left_out=(M[8],), rescored=0.02)).facts)
    assert f"1 Mondays ({M[8]} to {M[8]}) are left out" in said
    assert f"On 1 Mondays weekly retraining could not train and kept what it had; on {M[2]}: one class." in said
    assert "scores changed since by up to 0.02" in said


def test_the_picture_is_a_png_also_of_a_single_monday(judged: tuple[Hindsight, list[Step]]) -> None:
    found, _ = judged
    for each in (found, replace(found, mondays=found.mondays[:1])):
        assert hindsight_plot(each).startswith(b"\x89PNG")


@pytest.fixture
def command(year: Year, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The home of the year, and its model as the only one that is declared."""
    for name in ("ML_PLATFORM_LEDGER_URL", "ML_PLATFORM_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(year.home))
    monkeypatch.setattr("assets.models.MODELS", {year.spec.name: year.spec})
    monkeypatch.setattr("assets.feature_tables.FEATURE_TABLES", TABLES)
    return Settings.from_env()


def test_the_command_shows_the_policies_the_mondays_and_the_words(
    command: Settings, judged: tuple[Hindsight, list[Step]]
) -> None:
    code, said, complained = invoke("hindsight")
    assert code == 0, complained
    for words in ("never retraining", "best in hindsight", str(M[6]), "v2", "drifted", "Its trainings are 2"):
        assert words in said
    assert (command.home / "hindsight" / "returning_shopper.png").read_bytes().startswith(b"\x89PNG")
    code, said, _ = invoke("hindsight", "returning_shopper", "--json")
    (stated,) = json.loads(said)
    assert code == 0 and [row["policy"] for row in stated["policies"]] == list(POLICIES)
    assert stated["policies"][0]["log_loss"] == judged[0].policies["platform"].log_loss
    assert [row["as_of"] for row in stated["mondays"]] == [str(day) for day in M[4:9]]
    assert stated["judgement"]["within_a_quarter"] is False and stated["left_out"] == [str(M[3])]


def test_an_unknown_model_and_a_home_without_a_year_are_panels(
    command: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, complained = invoke("hindsight", "returning_shoper")
    assert (code, said) == (1, "") and "did you mean returning_shopper?" in complained
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    code, said, complained = invoke("hindsight")
    assert (code, said) == (1, "") and "NothingToJudge" in complained
