"""The models this deployment declares: what every one of them has to keep, whatever it is called."""

import subprocess
import sys
from datetime import date

import pytest

from assets.feature_tables import FEATURE_TABLES
from assets.models import MODELS
from ml_platform.calendar import last_monday
from ml_platform.training.spec import ModelSpec

YEAR_LANDED = date(2018, 1, 1)

every_model = pytest.mark.parametrize("spec", MODELS.values(), ids=list(MODELS))


@every_model
def test_evaluation_mondays_are_untouched_by_what_trains_stops_or_calibrates(spec: ModelSpec) -> None:
    roles = spec.split.roles(YEAR_LANDED, spec.label)
    evaluate = [day for day, role in roles.items() if role == "evaluate"]
    assert evaluate[-1] == last_monday(YEAR_LANDED - spec.label.maturity)
    assert all(day + spec.label.maturity <= evaluate[0] for day in roles if day not in evaluate)


@every_model
def test_every_feature_is_of_numbers_that_its_table_promises_and_no_identifier_but_in_a_list(spec: ModelSpec) -> None:
    for reference in spec.features:
        table, name = reference.split(":")
        column = {column.name: column for column in FEATURE_TABLES[table].columns}[name]
        assert column.dtype != "string", reference
        assert column.is_list if column.unit == "id" else True, reference


@every_model
def test_the_label_and_its_description_are_there(spec: ModelSpec) -> None:
    assert "$as_ofs" in spec.label.sql.read_text() and "$cutoff" in spec.label.sql.read_text()
    assert spec.description.endswith(".")


def test_declaring_models_needs_no_dagster() -> None:
    code = "import sys, assets.models; sys.exit('dagster' in sys.modules or not assets.models.MODELS)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
