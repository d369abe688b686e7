-- Secrets as they are sealed to their boards: the console cannot read them.
CREATE TABLE secrets (
    board TEXT NOT NULL REFERENCES boards (id),
    app TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (board, app, name)
);
