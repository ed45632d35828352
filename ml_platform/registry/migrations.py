"""The ledger's schema, as numbered migrations that are never edited once released.

Opening a ledger brings an older one up to date in one transaction and refuses a newer one (`ml_platform.database`). To
change the schema, append a migration, and a dump of the version before it to the tests.

Append-only is enforced where it cannot be forgotten: triggers refuse update, delete (and PostgreSQL's truncate). On
SQLite a third trigger refuses to insert over an existing key, because `insert or replace` deletes without firing
delete triggers.
"""

from ml_platform.database import Migration

REFUSAL = "the ledger is append-only"


def _append_only(dialect: str, table: str, keys: list[tuple[str, ...]]) -> list[str]:
    """Triggers that refuse to change or remove a row of `table`, or to insert over one of its unique `keys`."""
    if dialect == "postgresql":
        refuse = "execute function ledger_append_only()"
        return [
            f"create trigger {table}_no_change before update or delete on {table} for each row {refuse}",
            f"create trigger {table}_no_truncate before truncate on {table} for each statement {refuse}",
        ]
    refuse = f"begin select raise(abort, '{REFUSAL}'); end"
    taken = " or ".join("(" + " and ".join(f"{column} = new.{column}" for column in key) + ")" for key in keys)
    replaces = f"exists (select 1 from {table} where {taken})"
    return [
        f"create trigger {table}_no_update before update on {table} {refuse}",
        f"create trigger {table}_no_delete before delete on {table} {refuse}",
        f"create trigger {table}_no_replace before insert on {table} when {replaces} {refuse}",
    ]


def _first(dialect: str) -> list[str]:
    function = (
        "create function ledger_append_only() returns trigger language plpgsql as "
        f"$$ begin raise exception '{REFUSAL}'; end $$"
    )
    return [
        *([function] if dialect == "postgresql" else []),
        """create table versions (
            model text not null, version integer not null, bundle_digest text not null, bundle_uri text not null,
            cutoff text not null, training_set_digest text not null, spec_digest text not null,
            run_id text not null, tracking_run_id text, registered_at text not null,
            primary key (model, version), unique (model, bundle_digest))""",
        """create table verdicts (
            model text not null, version integer not null, seq integer not null,
            digest text not null, body text not null, recorded_at text not null,
            primary key (model, version, seq), foreign key (model, version) references versions (model, version))""",
        """create table entries (
            model text not null, seq integer not null, action text not null check (action in ('promote', 'rollback')),
            from_version integer, to_version integer not null, who text not null, reason text not null,
            evidence_digest text not null, waivers text not null, recorded_at text not null,
            primary key (model, seq), foreign key (model, to_version) references versions (model, version))""",
        *_append_only(dialect, "versions", [("model", "version"), ("model", "bundle_digest")]),
        *_append_only(dialect, "verdicts", [("model", "version", "seq")]),
        *_append_only(dialect, "entries", [("model", "seq")]),
        *_append_only(dialect, "schema_version", [("version",)]),
    ]


def _champion_of_a_verdict(_: str) -> list[str]:
    # Which champion a version was judged against. Older verdicts do not say: null reads as "against none", so they
    # lead to a refusal while there is a champion, never to a promotion on evidence about another one.
    return ["alter table verdicts add column champion_version integer"]


def _retirements(dialect: str) -> list[str]:
    return [
        """create table retirements (
            model text not null, version integer not null, champion_version integer not null, who text not null,
            reason text not null, evidence text not null, recorded_at text not null,
            primary key (model, version), foreign key (model, version) references versions (model, version))""",
        *_append_only(dialect, "retirements", [("model", "version")]),
    ]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, _first),
    Migration(2, _champion_of_a_verdict),
    Migration(3, _retirements),
)
