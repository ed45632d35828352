"""MLflow's model registry as a mirror of the ledger: read for convenience, never for truth.

Every ledger version has one MLflow version, found by its tags `ledger_version` and `bundle_digest` (MLflow counts by
itself, so the numbers may differ). The alias `champion` stands where the ledger says. What was deleted or moved by hand
is put back; versions that people made by hand stay.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_platform.killpoints import kill_point
from ml_platform.registry.ledger import Ledger
from ml_platform.registry.records import ModelVersion

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ALIAS = "champion"
VERSION_TAG = "ledger_version"
DIGEST_TAG = "bundle_digest"


@dataclass(frozen=True)
class Projection:
    """What a projection changed. `created` are ledger versions; the alias is given as MLflow's version numbers."""

    created: tuple[int, ...]
    alias_before: str | None
    alias_after: str | None

    @property
    def changed(self) -> bool:
        return bool(self.created) or self.alias_before != self.alias_after


def project_ledger(client: "MlflowClient", ledger: Ledger, model: str) -> Projection:
    """Adds the versions that are missing and sets the alias. Killed in between, the next call completes it."""
    versions = ledger.versions(model)
    if not versions:
        return Projection((), None, None)
    alias_before = _alias(client, model)
    mirrored = _mirrored(client, model)
    created = [version for version in versions if _key(version) not in mirrored]
    for version in created:
        mirrored[_key(version)] = _create(client, version)
        kill_point("projection.created")
    champion = ledger.champion(model)
    alias_after = mirrored[_key(champion)] if champion else None
    if alias_after != alias_before:
        if alias_after is None:
            client.delete_registered_model_alias(model, ALIAS)
        else:
            client.set_registered_model_alias(model, ALIAS, alias_after)
    return Projection(tuple(version.version for version in created), alias_before, alias_after)


def read_alias(client: "MlflowClient", model: str) -> str | None:
    """MLflow's own number of the version that the alias stands at, None where there is none. Changes nothing."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return str(aliases[ALIAS]) if ALIAS in aliases else None


def _key(version: ModelVersion) -> tuple[str, str]:
    return str(version.version), version.bundle_digest


def _alias(client: "MlflowClient", model: str) -> str | None:
    """Where the alias stands; creates the registered model when there is none."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(model, description="A mirror of the ledger: `mlp history` holds the truth.")
        return None
    return str(aliases[ALIAS]) if ALIAS in aliases else None


def _mirrored(client: "MlflowClient", model: str) -> dict[tuple[str, str], str]:
    """MLflow's version number by (ledger version, bundle digest); the lowest where there are several."""
    found: dict[tuple[str, str], str] = {}
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", order_by=["version_number DESC"], page_token=token)
        for version in page:
            if VERSION_TAG in version.tags and DIGEST_TAG in version.tags:
                found[version.tags[VERSION_TAG], version.tags[DIGEST_TAG]] = str(version.version)
        token = page.token
        if not token:
            return found


def _create(client: "MlflowClient", version: ModelVersion) -> str:
    run_id = version.tracking_run_id
    made = client.create_model_version(
        version.model,
        source=f"runs:/{run_id}/bundle" if run_id else version.bundle_uri,
        run_id=run_id,
        tags={
            VERSION_TAG: str(version.version),
            DIGEST_TAG: version.bundle_digest,
            "bundle_uri": version.bundle_uri,
            "cutoff": version.cutoff.isoformat(),
            "training_set_digest": version.training_set_digest,
            "dagster_run_id": version.run_id,
        },
        await_creation_for=0,
    )
    return str(made.version)
