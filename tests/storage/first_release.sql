-- A database as version 0.1 made it: the schema as it stood in the file, and rows of every kind.
CREATE TABLE "schema_migration" ("id" INTEGER NOT NULL PRIMARY KEY, "name" VARCHAR(255) NOT NULL, "applied" DATETIME NOT NULL);
CREATE UNIQUE INDEX "schema_migration_name" ON "schema_migration" ("name");
CREATE TABLE "audit_event" ("id" INTEGER NOT NULL PRIMARY KEY, "at" INTEGER NOT NULL, "event" TEXT NOT NULL, "login_id" TEXT, "request_id" TEXT, "user_id" TEXT, "session_id" TEXT, "detail" TEXT);
CREATE INDEX "audit_event_at" ON "audit_event" ("at");
CREATE INDEX "audit_event_login_id" ON "audit_event" ("login_id");
CREATE INDEX "audit_event_request_id" ON "audit_event" ("request_id");
CREATE INDEX "audit_event_user_id" ON "audit_event" ("user_id");
CREATE TABLE "login" ("id" TEXT NOT NULL PRIMARY KEY, "state_digest" TEXT NOT NULL, "provider" TEXT NOT NULL, "mode" TEXT NOT NULL, "cookie_digest" TEXT, "key_id" TEXT NOT NULL, "created_at" INTEGER NOT NULL, "expires_at" INTEGER NOT NULL, "consumed_at" INTEGER);
CREATE UNIQUE INDEX "login_state_digest" ON "login" ("state_digest");
CREATE INDEX "login_expires_at" ON "login" ("expires_at");
CREATE TABLE "user" ("id" TEXT NOT NULL PRIMARY KEY, "provider" TEXT NOT NULL, "subject_digest" TEXT NOT NULL, "email" TEXT NOT NULL, "email_verified" INTEGER NOT NULL, "is_active" INTEGER NOT NULL, "created_at" INTEGER NOT NULL);
CREATE INDEX "user_email" ON "user" ("email");
CREATE UNIQUE INDEX "user_provider_subject_digest" ON "user" ("provider", "subject_digest");
CREATE INDEX "user_created_at_id" ON "user" ("created_at", "id");
CREATE TABLE "session" ("id" TEXT NOT NULL PRIMARY KEY, "user_id" TEXT NOT NULL, "client_id" TEXT NOT NULL, "label" TEXT, "created_at" INTEGER NOT NULL, "expires_at" INTEGER NOT NULL, "revoked_at" INTEGER, FOREIGN KEY ("user_id") REFERENCES "user" ("id") ON DELETE CASCADE);
CREATE INDEX "session_user_id" ON "session" ("user_id");
CREATE INDEX "session_expires_at" ON "session" ("expires_at");

INSERT INTO "schema_migration" VALUES (1, '0001_initial', '2026-01-31 12:00:00.000000');
INSERT INTO "user" VALUES
    ('11111111-1111-4111-8111-111111111111', 'google', 'aa01', 'ada@x.example', 1, 1, 1769860800000),
    ('22222222-2222-4222-8222-222222222222', 'facebook', 'aa01', 'ada@x.example', 0, 1, 1769860800001),
    ('33333333-3333-4333-8333-333333333333', 'google', 'bb02', 'zoë@müller.example', 0, 0, 1769860800002);
-- One that stands, one that was ended, one that expired, one of a deactivated user.
INSERT INTO "session" VALUES
    ('a0000000-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', 'nextarget-app', NULL, 1769860800000, 4102444800000, NULL),
    ('a0000000-0000-4000-8000-000000000002', '11111111-1111-4111-8111-111111111111', 'nextarget-app', 'terminal', 1769860800000, 4102444800000, 1769860900000),
    ('a0000000-0000-4000-8000-000000000003', '22222222-2222-4222-8222-222222222222', 'nextarget-app', 'Ada''s "phone" 📱', 1769860800000, 1769864400000, NULL),
    ('a0000000-0000-4000-8000-000000000004', '33333333-3333-4333-8333-333333333333', 'nextarget-app', '', 1769860800000, 4102444800000, NULL);
-- One that is under way, one that only its browser can finish, one that is over.
INSERT INTO "login" VALUES
    ('b0000000-0000-4000-8000-000000000001', 'c1', 'google', 'json', NULL, '0123456789abcdef', 1769860800000, 4102444800000, NULL),
    ('b0000000-0000-4000-8000-000000000002', 'c2', 'facebook', 'redirect', 'd2', '0123456789abcdef', 1769860800000, 4102444800000, NULL),
    ('b0000000-0000-4000-8000-000000000003', 'c3', 'google', 'json', NULL, '0123456789abcdef', 1769860800000, 4102444800000, 1769860800500);
INSERT INTO "audit_event" VALUES
    (1, 1769860800500, 'login_succeeded', 'b0000000-0000-4000-8000-000000000003', 'r1', '11111111-1111-4111-8111-111111111111', 'a0000000-0000-4000-8000-000000000001', 'google'),
    (7, 1769860800600, 'user_deleted', NULL, NULL, '99999999-9999-4999-8999-999999999999', NULL, NULL);
