"""`mlp features get`: published features beside rows of one's own, through the code that builds training sets."""

from datetime import timedelta
from pathlib import Path

from ml_platform.cli import output
from ml_platform.features.request import get_features
from ml_platform.features.store import FeatureStore
from ml_platform.settings import Settings


def get(labels: Path, features: str, out: Path, *, ttl_days: int, label_time: str) -> None:
    """Writes the joined rows and says how many found their features. Raises as `get_features`."""
    from assets.feature_tables import FEATURE_TABLES

    references = [reference.strip() for reference in features.split(",") if reference.strip()]
    store = FeatureStore(Settings.from_env().lake, FEATURE_TABLES)
    answer = get_features(store, labels, references, out, timedelta(days=ttl_days), label_time)
    found = [f"{table}: {count:,} of {answer.rows:,} rows" for table, count in answer.found.items()]
    output.console().print(f"[green]✓[/] {out}: features were found for {'; '.join(found)}")
