-- Commits are numbered in the order in which they become visible, and the writer gives each row its id.

-- A row's id is its batch number << 20 | its index in the batch. Each transaction takes one batch number, so its rows have a
-- range of ids that no other transaction shares. New ids are higher than all ids that the identity column gave.
CREATE SEQUENCE health_batch_numbers AS bigint;
SELECT setval('health_batch_numbers', (coalesce(max(id), 0) >> 20) + 1, false) FROM health_metrics;
ALTER TABLE health_metrics ALTER COLUMN id DROP IDENTITY;
-- The program always gives the id. The default serves rows that an operator inserts by hand: each is a batch of its own. They
-- are in every answer, but not on the feed, which follows the commit log.
ALTER TABLE health_metrics ALTER COLUMN id SET DEFAULT nextval('health_batch_numbers') << 20;

-- The commit log. Its order used to be that of transaction ids and snapshots. Cursors of that form are refused from now on.
DROP TABLE health_commits;
DROP TABLE health_feed;
CREATE TABLE health_commits (
    number          bigint      PRIMARY KEY, -- 1, 2, 3, …: the order in which commits become visible, without gaps
    batch           bigint      NOT NULL,    -- the batch number: the rows have the ids from batch << 20 on
    writer          bigint      NOT NULL,    -- the writer id: a random number of one connection to one PostgreSQL
    previous_writer bigint      NOT NULL,    -- the writer id of number - 1; 0 for the first
    rows            integer     NOT NULL,    -- the rows that the transaction wrote
    committed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (writer, batch)                   -- a fence takes the key, so that a lost transaction cannot commit
);
-- The newest record is never deleted, so that there always is a position to resume from.
INSERT INTO health_commits (number, batch, writer, previous_writer, rows)
VALUES (1, 0, ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint & 9223372036854775807, 0, 0);

-- Records of the commit log that are some minutes old, many in one row.
CREATE TABLE health_commit_packs (
    last_number    bigint      PRIMARY KEY,
    first_number   bigint      NOT NULL,
    lowest_batch   bigint      NOT NULL,
    highest_batch  bigint      NOT NULL,
    last_committed timestamptz NOT NULL, -- of the record last_number
    records        bytea       NOT NULL  -- batch, writer and rows of each; its first byte is a version
);
