-- An erasure is a commit of its own, so that the feed reports it among the samples of its user.
--
-- A server of an earlier version knows no erasures, and would go on as if the commit were empty. So the number of rows is NULL
-- here: that server cannot read the record, and delivers nothing after it until it is updated.
ALTER TABLE health_commits ALTER COLUMN rows DROP NOT NULL;
COMMENT ON COLUMN health_commits.rows IS 'the rows that the transaction wrote; NULL if it erased samples, which health_erasures describes';

-- What was erased, for as long as the commit log holds the record. Nothing of the samples themselves is in it.
CREATE TABLE health_erasures (
    number      bigint PRIMARY KEY, -- of the record in the commit log
    erased_user bigint NOT NULL,
    range_start timestamptz,        -- with range_end: the half-open range; NULL if everything of the user was erased
    range_end   timestamptz,
    source      text COLLATE "C",   -- the only source whose samples were erased; NULL: all sources
    CHECK ((range_start IS NULL) = (range_end IS NULL)),
    CHECK (range_start IS NOT NULL OR source IS NULL)
);
CREATE INDEX health_erasures_user ON health_erasures (erased_user, number);
