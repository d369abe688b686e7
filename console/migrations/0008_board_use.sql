-- What the board itself uses, JSON, as it last said when that was kept: not each minute.
ALTER TABLE boards ADD COLUMN board_use TEXT;
ALTER TABLE boards ADD COLUMN board_use_at BIGINT;
