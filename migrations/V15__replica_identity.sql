-- `health_dirty` has no primary key: a slice may be in it once for each epoch. Logical replication, with which Citus moves shards
-- while they are written, needs to know which columns name a deleted row. Costs nothing unless `wal_level` is `logical`.
ALTER TABLE health_dirty REPLICA IDENTITY FULL;
