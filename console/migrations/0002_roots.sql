-- Every root document that this console has seen: boards that were away follow them one by one.
CREATE TABLE roots (
    version BIGINT PRIMARY KEY,
    envelope TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
