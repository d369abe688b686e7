-- Signed commands, and what boards said of them: a long answer comes in parts.
ALTER TABLE boards ADD COLUMN command_seq BIGINT NOT NULL DEFAULT 0;

CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    board TEXT NOT NULL REFERENCES boards (id),
    seq BIGINT NOT NULL,
    action TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX commands_of_board ON commands (board, seq);

CREATE TABLE command_parts (
    command TEXT NOT NULL REFERENCES commands (id) ON DELETE CASCADE,
    part BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    code TEXT,
    text TEXT NOT NULL,
    PRIMARY KEY (command, part)
);
