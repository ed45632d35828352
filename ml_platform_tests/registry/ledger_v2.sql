-- A ledger of schema version 2 with one champion, as the release that knew no more wrote it. Never edited.
BEGIN TRANSACTION;
CREATE TABLE entries (
            model text not null, seq integer not null, action text not null check (action in ('promote', 'rollback')),
            from_version integer, to_version integer not null, who text not null, reason text not null,
            evidence_digest text not null, waivers text not null, recorded_at text not null,
            primary key (model, seq), foreign key (model, to_version) references versions (model, version));
INSERT INTO "entries" VALUES('replenishment',1,'promote',NULL,1,'ada','first model','verdict-digest-1','[]','2026-11-01T10:02:00+00:00');
CREATE TABLE schema_version (version integer primary key, applied_at text not null);
INSERT INTO "schema_version" VALUES(1,'2026-11-01T00:00:00+00:00');
INSERT INTO "schema_version" VALUES(2,'2026-11-21T04:00:00+00:00');
CREATE TABLE verdicts (
            model text not null, version integer not null, seq integer not null,
            digest text not null, body text not null, recorded_at text not null, champion_version integer,
            primary key (model, version, seq), foreign key (model, version) references versions (model, version));
INSERT INTO "verdicts" VALUES('replenishment',1,1,'verdict-digest-1','{"artifact_digest":"digest-1","evaluation_digest":"evaluation-1","gates":[{"name":"calibrated","passed":true}],"metrics":{"auc":0.78}}','2026-11-01T10:01:00+00:00',NULL);
CREATE TABLE versions (
            model text not null, version integer not null, bundle_digest text not null, bundle_uri text not null,
            cutoff text not null, training_set_digest text not null, spec_digest text not null,
            run_id text not null, tracking_run_id text, registered_at text not null,
            primary key (model, version), unique (model, bundle_digest));
INSERT INTO "versions" VALUES('replenishment',1,'digest-1','bundles/1','2018-01-01','training-1','spec-1','run-1',NULL,'2026-11-01T10:00:00+00:00');
CREATE TRIGGER versions_no_update before update on versions begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER versions_no_delete before delete on versions begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER versions_no_replace before insert on versions when exists (select 1 from versions where (model = new.model and version = new.version) or (model = new.model and bundle_digest = new.bundle_digest)) begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER verdicts_no_update before update on verdicts begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER verdicts_no_delete before delete on verdicts begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER verdicts_no_replace before insert on verdicts when exists (select 1 from verdicts where (model = new.model and version = new.version and seq = new.seq)) begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER entries_no_update before update on entries begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER entries_no_delete before delete on entries begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER entries_no_replace before insert on entries when exists (select 1 from entries where (model = new.model and seq = new.seq)) begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER schema_version_no_update before update on schema_version begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER schema_version_no_delete before delete on schema_version begin select raise(abort, 'the ledger is append-only'); end;
CREATE TRIGGER schema_version_no_replace before insert on schema_version when exists (select 1 from schema_version where (version = new.version)) begin select raise(abort, 'the ledger is append-only'); end;
COMMIT;
