-- Whether a board may enrol by its manufacturing certificate: NULL nobody named it, 1 it is expected, 0 not since it was
-- revoked, whatever it enrolled with afterwards.
ALTER TABLE boards ADD COLUMN as_made BIGINT;
UPDATE boards SET as_made = 1 WHERE id IN (SELECT board FROM certificates WHERE how = 'manufacturing');
UPDATE boards SET as_made = 0 WHERE revoked_at IS NOT NULL;
