-- The commit log names the rows of each commit by their keys, so that the feed finds them by the primary key, wherever in the
-- table they are. Before, it read ranges of ids. The block range index on `id` tells where these rows are only as long as the
-- table grows at its end: once new rows fill the space of erased ones, nearly every page had to be read.

-- A program that does not know the keys would leave them out, and its commits would be missing on the feed.
SELECT pg_advisory_xact_lock(hashtext('health rollers'));
SELECT pg_advisory_xact_lock(hashtext('health threshold'));
UPDATE health_sealing SET required_version = 14;

ALTER TABLE health_commits ADD COLUMN keys bytea NOT NULL DEFAULT '';
ALTER TABLE health_commit_packs ADD COLUMN keys bytea NOT NULL DEFAULT '';
-- The program has compressed them.
ALTER TABLE health_commit_packs ALTER COLUMN keys SET STORAGE EXTERNAL;
DO $$
BEGIN
    ALTER TABLE health_commits ALTER COLUMN keys SET STORAGE EXTERNAL;
EXCEPTION WHEN feature_not_supported THEN
    -- Citus refuses it if the tables are distributed. PostgreSQL then tries in vain to compress the keys.
    NULL;
END
$$;
COMMENT ON COLUMN health_commits.keys IS 'user and time of each row that the commit wrote, in the order of ids, compressed';
COMMENT ON COLUMN health_commit_packs.keys IS 'the keys of each record, after their length';

-- Commits from before have no keys. The newest one stays as the position to resume from; a cursor from before it is too old.
DELETE FROM health_commit_packs;
DELETE FROM health_commits WHERE number < (SELECT max(number) FROM health_commits);

-- In a block, because Citus refuses it as one of several statements that are sent together.
DO $$ BEGIN DROP INDEX health_metrics_id; END $$;
-- The feed asked for the erasures of one user by it.
DROP INDEX health_erasures_user;
