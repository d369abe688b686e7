-- Deployments that somebody holds or takes back.
ALTER TABLE deployments ADD COLUMN paused_at BIGINT;
ALTER TABLE deployments ADD COLUMN cancelled_at BIGINT;

-- held: not sent for now. withdrawn_at: not wanted any more. takes_back: the activity that this assignment, of what runs, takes
-- back. fate: why a cancel left it as it was, JSON.
ALTER TABLE assignments ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
ALTER TABLE assignments ADD COLUMN withdrawn_at BIGINT;
ALTER TABLE assignments ADD COLUMN takes_back TEXT;
ALTER TABLE assignments ADD COLUMN fate TEXT;
CREATE INDEX assignments_by_taken_back ON assignments (takes_back);
