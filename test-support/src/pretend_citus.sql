-- The tables and functions of Citus that Health uses, for a database in which Citus is not installed. It is a cluster
-- of one node, the coordinator, which also has the shards. To distribute a table changes nothing but the catalog.
SET allow_system_table_mods = on;

INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT 1, 'citus', oid, 'pg_catalog'::regnamespace, false, '13.2-1' FROM pg_roles WHERE rolname = current_user;
-- The setting of the loaded library, in the sessions that connect from now on.
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET citus.version = ''13.2.2''', current_database()); END $$;

CREATE TABLE pg_catalog.pg_dist_local_group (groupid integer);
INSERT INTO pg_catalog.pg_dist_local_group VALUES (0);
CREATE TABLE pg_catalog.pg_dist_node
    (nodeid integer, groupid integer, nodename text, nodeport integer, noderole text, isactive boolean, shouldhaveshards boolean);
INSERT INTO pg_catalog.pg_dist_node VALUES (1, 0, 'localhost', 5432, 'primary', true, true);

CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint);
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char", partkey text, colocationid integer);
CREATE FUNCTION pg_catalog.column_to_column_name(relation regclass, partkey text) RETURNS text
LANGUAGE sql AS $$ SELECT partkey $$;
CREATE FUNCTION pg_catalog.create_distributed_table(relation regclass, partkey text, colocate_with text DEFAULT 'default')
RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_dist_partition VALUES (relation, 'h', partkey, 1);
    INSERT INTO pg_dist_shard SELECT relation, shard FROM generate_series(0, 2) AS shard;
$$;
CREATE FUNCTION pg_catalog.truncate_local_data_after_distributing_table(relation regclass) RETURNS void
LANGUAGE sql AS $$ $$;
CREATE FUNCTION pg_catalog.citus_add_local_table_to_metadata(relation regclass) RETURNS void
LANGUAGE sql AS $$ INSERT INTO pg_dist_partition VALUES (relation, 'n', NULL, 0) $$;

-- Three shards.
CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint, groupid integer);
INSERT INTO pg_catalog.pg_dist_placement SELECT shard, 0 FROM generate_series(0, 2) AS shard;
CREATE FUNCTION pg_catalog.get_shard_id_for_distribution_column(relation regclass, value anyelement) RETURNS bigint
LANGUAGE sql STABLE AS $$ SELECT abs(hashint8(value::text::bigint)::bigint) % 3 $$;

-- What can be read as the shard, with an alias.
CREATE FUNCTION pg_catalog.shard_name(relation regclass, shard bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('(SELECT * FROM %s WHERE get_shard_id_for_distribution_column(%L, user_id) = %s)', relation, relation, shard)
$$;

CREATE FUNCTION pg_catalog.master_run_on_worker(worker_name text[], port integer[], command text[], parallel boolean,
    OUT node_name text, OUT node_port integer, OUT success boolean, OUT result text)
RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOR node IN 1 .. cardinality(command) LOOP
        node_name := worker_name[node];
        node_port := port[node];
        success := true;
        EXECUTE command[node] INTO result;
        RETURN NEXT;
    END LOOP;
END
$$;
CREATE FUNCTION pg_catalog.run_command_on_all_nodes(command text) RETURNS TABLE (nodeid integer, success boolean, result text)
LANGUAGE plpgsql AS $$
BEGIN
    nodeid := 1;
    success := true;
    EXECUTE command INTO result;
    RETURN NEXT;
END
$$;
-- A function cannot end a prepared transaction, so the test does.
CREATE FUNCTION pg_catalog.recover_prepared_transactions() RETURNS integer LANGUAGE sql AS $$ SELECT 0 $$;

GRANT SELECT ON pg_catalog.pg_dist_local_group, pg_catalog.pg_dist_node, pg_catalog.pg_dist_partition,
    pg_catalog.pg_dist_placement, pg_catalog.pg_dist_shard TO PUBLIC;
