"""The ledger: which version of a model is champion, who made it so, why, and on what evidence.

Concept: a model has versions (one per artifact digest), verdicts on them, and entries. Entries are numbered 1, 2, 3, …
per model, and the newest one names the champion; nothing else does. A retirement says that a challenger's trial turned
it down. MLflow only mirrors it.

Invariants:
- Append-only: rows are added, never changed or removed; triggers in the database refuse it to everyone.
- Compare-and-set: an entry is inserted under the number after the entry its author saw. (model, seq) is the primary
  key, so of several authors who saw the same entry exactly one succeeds; the others get a PromotionConflict.
- An entry is one committed transaction: a process killed at any moment leaves all of it or nothing.

It lives in SQLite or PostgreSQL; `ml_platform.database` holds what differs.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ml_platform.database import Database, Holding
from ml_platform.killpoints import kill_point
from ml_platform.registry import migrations
from ml_platform.registry.records import (
    Action,
    Entry,
    LedgerTooNew,
    LedgerUnavailable,
    ModelVersion,
    PromotionConflict,
    RecordedVerdict,
    Retirement,
    UnknownVersion,
    VerdictRejected,
    Waiver,
    canonical_json,
)
from ml_platform.registry.rows import (
    ENTRIES,
    RETIREMENTS,
    VERDICTS,
    VERSIONS,
    entry_of,
    retirement_of,
    row_of,
    verdict_of,
    version_of,
)

HOLDING = Holding(
    name="the ledger",
    variable="ML_PLATFORM_LEDGER_URL",
    versions="schema_version",
    writer_lock=0x6D6C706C,  # "mlpl"
    unavailable=LedgerUnavailable,
    too_new=LedgerTooNew,
)


class Ledger:
    """Opens the ledger at a SQLAlchemy URL (`sqlite:///path` or `postgresql+psycopg2://…`), made or migrated as needed.

    Raises LedgerTooNew, LedgerUnavailable, or ConfigurationError for a URL or driver that cannot serve. Instants are
    UTC; `clock` says what is written as the time of an entry.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = Database(url, HOLDING)
        self.where = self._database.where
        self._clock = clock
        self._database.migrate(migrations.MIGRATIONS, clock())

    def register(
        self,
        model: str,
        *,
        bundle_digest: str,
        bundle_uri: str,
        cutoff: date,
        training_set_digest: str,
        spec_digest: str,
        run_id: str,
        tracking_run_id: str | None = None,
    ) -> ModelVersion:
        """The version of this bundle digest: a new one, or the one it already is (then as it was first registered)."""
        with self._database.writing() as connection:
            of_model = sa.select(VERSIONS).where(VERSIONS.c.model == model)
            known = connection.execute(of_model.where(VERSIONS.c.bundle_digest == bundle_digest)).one_or_none()
            if known is not None:
                return version_of(known)
            version = ModelVersion(
                model=model,
                version=len(connection.execute(of_model).all()) + 1,
                bundle_digest=bundle_digest,
                bundle_uri=bundle_uri,
                cutoff=cutoff,
                training_set_digest=training_set_digest,
                spec_digest=spec_digest,
                run_id=run_id,
                tracking_run_id=tracking_run_id,
                registered_at=self._clock(),
            )
            connection.execute(VERSIONS.insert().values(row_of(version)))
        kill_point("ledger.registered")
        return version

    def record_verdict(
        self, model: str, version: int, verdict: Mapping[str, Any], champion_version: int | None
    ) -> RecordedVerdict:
        """Keeps a verdict's JSON, given against `champion_version`; the newest one again is a no-op.

        Raises UnknownVersion, and VerdictRejected for a verdict of another artifact or without the words it must have.
        """
        judged = self.version(model, version)
        where = f"verdict on {model} version {version}"
        try:
            body = canonical_json(dict(verdict))
            gates = {gate["name"]: gate["passed"] for gate in verdict["gates"]}
            artifact, rival = verdict["artifact_digest"], verdict["champion_digest"]
        except (KeyError, TypeError, ValueError) as error:
            raise VerdictRejected(
                f"it is not a verdict: {type(error).__name__}: {error}",
                where=where,
                next_step="record what ml_platform.evaluation made, unchanged",
            ) from None
        if not gates or len(gates) != len(verdict["gates"]):
            raise VerdictRejected("it names no gate, or one twice", where=where, next_step="declare each gate once")
        if artifact != judged.bundle_digest:
            raise VerdictRejected(
                f"it is of artifact {artifact}, the version is {judged.bundle_digest}",
                where=where,
                next_step="evaluate this version's own bundle",
            )
        champion = self.version(model, champion_version).bundle_digest if champion_version else None
        if rival != champion:
            raise VerdictRejected(
                f"it compares with artifact {rival}, the champion named is {champion}",
                where=where,
                next_step="evaluate against the champion's own bundle",
            )
        digest = hashlib.sha256(body.encode()).hexdigest()
        with self._database.writing() as connection:
            newest = self._newest_verdict(connection, model, version)
            if newest and (newest.digest, newest.champion_version) == (digest, champion_version):
                return newest
            seq, kept = newest.seq + 1 if newest else 1, json.loads(body)
            recorded = RecordedVerdict(model, version, seq, digest, champion_version, kept, self._clock())
            connection.execute(VERDICTS.insert().values(row_of(recorded) | {"body": body}))
        return recorded

    def append(
        self,
        model: str,
        action: Action,
        to_version: int,
        expected_from: Entry | None,
        *,
        who: str,
        reason: str,
        evidence_digest: str,
        waivers: Sequence[Waiver] = (),
    ) -> Entry:
        """Makes `to_version` the champion if `expected_from` still is the newest entry (None: there is none yet).

        Only `ml_platform.registry.promotion` calls this: it holds the rules. Raises PromotionConflict, UnknownVersion.
        """
        self.version(model, to_version)
        entry = Entry(
            model=model,
            seq=expected_from.seq + 1 if expected_from else 1,
            action=action,
            from_version=expected_from.to_version if expected_from else None,
            to_version=to_version,
            who=who,
            reason=reason,
            evidence_digest=evidence_digest,
            waivers=tuple(waivers),
            recorded_at=self._clock(),
        )
        row = row_of(entry) | {"waivers": canonical_json([waiver.to_json() for waiver in entry.waivers])}
        try:
            with self._database.writing() as connection:
                connection.execute(ENTRIES.insert().values(row))
                kill_point("ledger.appending")
        except IntegrityError:
            winner = next((e for e in self.history(model) if e.seq == entry.seq), None)
            if winner is None:
                raise
            raise PromotionConflict(winner) from None
        kill_point("ledger.appended")
        return entry

    def retire(
        self, model: str, version: int, *, champion_version: int, who: str, reason: str, evidence: Mapping[str, Any]
    ) -> Retirement:
        """Ends a challenger's trial without promotion. Retired already: that retirement, as it was."""
        self.version(model, version)
        retired = Retirement(model, version, champion_version, who, reason, dict(evidence), self._clock())
        with self._database.writing() as connection:
            chosen = sa.select(RETIREMENTS).where(RETIREMENTS.c.model == model, RETIREMENTS.c.version == version)
            known = connection.execute(chosen).one_or_none()
            if known is not None:
                return retirement_of(known)
            connection.execute(RETIREMENTS.insert().values(row_of(retired) | {"evidence": canonical_json(evidence)}))
        kill_point("ledger.retired")
        return retired

    def retirements(self, model: str) -> list[Retirement]:
        """Every challenger that was turned down, by version."""
        chosen = sa.select(RETIREMENTS).where(RETIREMENTS.c.model == model).order_by(RETIREMENTS.c.version)
        with self._database.reading() as connection:
            return [retirement_of(row) for row in connection.execute(chosen)]

    def size(self) -> tuple[int, ...]:
        """Rows of each kind. Nothing is ever changed or removed, so a ledger of the same size is the same ledger."""
        tables = (VERSIONS, VERDICTS, ENTRIES, RETIREMENTS)
        counts = ", ".join(f"(select count(*) from {table.name})" for table in tables)
        with self._database.reading() as connection:
            return tuple(connection.exec_driver_sql(f"select {counts}").one())

    def models(self) -> list[str]:
        """Every model that has a version, by name."""
        with self._database.reading() as connection:
            return list(connection.scalars(sa.select(VERSIONS.c.model).distinct().order_by(VERSIONS.c.model)))

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions, oldest first."""
        chosen = sa.select(VERSIONS).where(VERSIONS.c.model == model).order_by(VERSIONS.c.version)
        with self._database.reading() as connection:
            return [version_of(row) for row in connection.execute(chosen)]

    def version(self, model: str, version: int) -> ModelVersion:
        """Raises UnknownVersion."""
        versions = self.versions(model)
        for candidate in versions:
            if candidate.version == version:
                return candidate
        known = f"its versions are 1 to {len(versions)}" if versions else "it has none yet"
        raise UnknownVersion(
            f"{model} has no version {version}; {known}", where=self.where, next_step="see `mlp models`, or train first"
        )

    def verdict(self, model: str, version: int) -> RecordedVerdict | None:
        """The newest verdict on a version."""
        with self._database.reading() as connection:
            return self._newest_verdict(connection, model, version)

    def history(self, model: str) -> list[Entry]:
        """All entries of a model, oldest first."""
        chosen = sa.select(ENTRIES).where(ENTRIES.c.model == model).order_by(ENTRIES.c.seq)
        with self._database.reading() as connection:
            return [entry_of(row) for row in connection.execute(chosen)]

    def champion(self, model: str) -> ModelVersion | None:
        """The version that the newest entry names, None before the first promotion."""
        history = self.history(model)
        return self.version(model, history[-1].to_version) if history else None

    def evidence(self, entry: Entry) -> RecordedVerdict:
        """The verdict that an entry rests on."""
        chosen = sa.select(VERDICTS).where(
            VERDICTS.c.model == entry.model,
            VERDICTS.c.version == entry.to_version,
            VERDICTS.c.digest == entry.evidence_digest,
        )
        with self._database.reading() as connection:
            return verdict_of(connection.execute(chosen.order_by(VERDICTS.c.seq).limit(1)).one())

    @staticmethod
    def _newest_verdict(connection: sa.Connection, model: str, version: int) -> RecordedVerdict | None:
        chosen = sa.select(VERDICTS).where(VERDICTS.c.model == model, VERDICTS.c.version == version)
        row = connection.execute(chosen.order_by(VERDICTS.c.seq.desc()).limit(1)).one_or_none()
        return None if row is None else verdict_of(row)
