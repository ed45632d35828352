BEGIN TRANSACTION;
CREATE TABLE alert_deliveries (
            sink text not null references alert_sinks (sink),
            number integer not null references alert_notifications (number),
            state text not null check (state in ('pending', 'delivered')), digest integer,
            attempts integer not null, next_attempt_at text, cause text, delivered_at text,
            primary key (sink, number));
INSERT INTO "alert_deliveries" VALUES('jsonl',1,'pending',NULL,0,NULL,NULL,NULL);
INSERT INTO "alert_deliveries" VALUES('jsonl',2,'pending',NULL,0,NULL,NULL,NULL);
INSERT INTO "alert_deliveries" VALUES('jsonl',3,'pending',NULL,0,NULL,NULL,NULL);
INSERT INTO "alert_deliveries" VALUES('jsonl',4,'pending',NULL,0,NULL,NULL,NULL);
CREATE TABLE alert_notifications (
            number integer primary key, alert_id integer not null references alerts (id),
            event text not null check (event in ('opened', 'acknowledged', 'resolved', 'told')),
            at text not null, recorded_at text not null, unique (alert_id, event));
INSERT INTO "alert_notifications" VALUES(1,1,'opened','2026-11-21T12:00:00+00:00','2026-11-21T12:00:00+00:00');
INSERT INTO "alert_notifications" VALUES(2,2,'opened','2026-11-21T12:00:00+00:00','2026-11-21T12:00:00+00:00');
INSERT INTO "alert_notifications" VALUES(3,2,'resolved','2026-11-21T12:01:00+00:00','2026-11-21T12:00:00+00:00');
INSERT INTO "alert_notifications" VALUES(4,1,'acknowledged','2026-11-21T12:02:00+00:00','2026-11-21T12:00:00+00:00');
CREATE TABLE alert_schema_version (version integer primary key, applied_at text not null);
INSERT INTO "alert_schema_version" VALUES(1,'2026-11-21T12:00:00+00:00');
CREATE TABLE alert_sinks (
            sink text primary key, attempts integer not null, next_attempt_at text, cause text);
INSERT INTO "alert_sinks" VALUES('jsonl',0,NULL,NULL);
CREATE TABLE alert_sources (source text primary key, observed_at text not null);
INSERT INTO "alert_sources" VALUES('freshness','2026-11-21T12:01:00+00:00');
CREATE TABLE alerts (
            id integer primary key, source text not null, key text not null, kind text not null,
            severity text not null check (severity in ('page', 'ticket', 'info')), owner text not null, asset text,
            title text not null, promised text not null, found text not null, since text not null, link text,
            state text not null check (state in ('open', 'resolved', 'told')), opened_at text not null,
            resolved_at text, acked_by text, acked_at text);
INSERT INTO "alerts" VALUES(1,'freshness','a','freshness','page','team:shops','raw/a','a are late','at most 26 h old','31 h old','2026-11-21T07:00:00+00:00','http://127.0.0.1:3000/assets/raw/a','open','2026-11-21T12:00:00+00:00',NULL,'ada','2026-11-21T12:02:00+00:00');
INSERT INTO "alerts" VALUES(2,'freshness','b','freshness','page','team:shops','raw/b','b are late','at most 26 h old','31 h old','2026-11-21T07:00:00+00:00','http://127.0.0.1:3000/assets/raw/b','resolved','2026-11-21T12:00:00+00:00','2026-11-21T12:01:00+00:00',NULL,NULL);
CREATE UNIQUE INDEX alerts_one_open on alerts (source, key) where state = 'open';
CREATE UNIQUE INDEX alerts_told_once on alerts (key) where state = 'told';
CREATE INDEX alert_deliveries_pending on alert_deliveries (sink, number) where state = 'pending';
COMMIT;
