-- The console's truth. Types and statements are those that SQLite and PostgreSQL share: TEXT and
-- BIGINT (times in Unix seconds, booleans as 0 or 1), `$n` parameters, ON CONFLICT, RETURNING.
CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE boards (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    enrolled_at BIGINT,
    certificate TEXT,
    seq BIGINT NOT NULL DEFAULT 0,
    issued_at BIGINT NOT NULL DEFAULT 0,
    online BIGINT NOT NULL DEFAULT 0,
    session BIGINT NOT NULL DEFAULT 0,
    presence_at BIGINT,
    current TEXT,
    current_at BIGINT
);
CREATE TABLE enrolments (
    token_hash TEXT PRIMARY KEY,
    board TEXT NOT NULL REFERENCES boards (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE TABLE releases (
    digest TEXT PRIMARY KEY,
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    envelope TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
CREATE INDEX releases_by_product ON releases (product, created_at);
CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    unpacked_size BIGINT NOT NULL
);
CREATE TABLE deployments (
    id TEXT PRIMARY KEY,
    release TEXT NOT NULL REFERENCES releases (digest),
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL
);
CREATE TABLE assignments (
    activity TEXT PRIMARY KEY,
    deployment TEXT NOT NULL REFERENCES deployments (id),
    board TEXT NOT NULL REFERENCES boards (id),
    release TEXT NOT NULL,
    seq BIGINT NOT NULL,
    desired TEXT NOT NULL,
    deltas TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX assignments_by_board ON assignments (board, seq);
CREATE INDEX assignments_by_deployment ON assignments (deployment);
CREATE TABLE progress (
    board TEXT NOT NULL,
    activity TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    feedback TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (board, activity)
);
CREATE INDEX progress_by_time ON progress (board, at);
CREATE TABLE deltas (
    from_diff TEXT NOT NULL,
    to_diff TEXT NOT NULL,
    media_type TEXT,
    digest TEXT,
    size BIGINT,
    full_size BIGINT NOT NULL,
    why_not TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (from_diff, to_diff)
);
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (at);
