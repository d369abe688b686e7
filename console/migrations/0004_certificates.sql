-- Every certificate of a board that has not been over for long: who may renew, what was revoked.
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    board TEXT NOT NULL REFERENCES boards (id),
    key_hash TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    how TEXT NOT NULL,
    last_used BIGINT,
    superseded_at BIGINT,
    revoked_at BIGINT,
    revoked_why TEXT
);
CREATE INDEX certificates_by_board ON certificates (board, issued_at);
CREATE INDEX certificates_by_key ON certificates (key_hash);
ALTER TABLE boards ADD COLUMN revoked_at BIGINT;
ALTER TABLE boards ADD COLUMN revoked_why TEXT;
