-- The number of the migration that a program must know to write. Writers, erasers, rollers and the maintenance of the commit log
-- read it in each transaction; those that know less change nothing and say so. Programs older than this migration do not read it.
--
-- A migration that an older program would break a promise with sets it to its own number, before anything else, and takes
-- the two locks before it. Then every transaction of an older program has ended, and the next one reads the new number:
--
--     SELECT pg_advisory_xact_lock(hashtext('health rollers'));
--     SELECT pg_advisory_xact_lock(hashtext('health threshold'));
--     UPDATE health_sealing SET required_version = …;
ALTER TABLE health_sealing ADD COLUMN required_version integer NOT NULL DEFAULT 11;
COMMENT ON COLUMN health_sealing.required_version IS 'the number of the migration that a program must know to write';
