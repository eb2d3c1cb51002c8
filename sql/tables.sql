-- Leases of tables, as far as one instance that is its own store goes.
CREATE TABLE orders (id integer);
CREATE TABLE parts (id integer) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_1_child () INHERITS (orders);
CREATE VIEW seen AS SELECT 1 AS one;
CREATE SEQUENCE numbers;
CREATE TEMP TABLE passing (id integer);
CREATE INDEX orders_id ON orders (id);

-- what cannot take part
SELECT leasehold.create_lease('spare', kind => 'physical');
SELECT leasehold.join_lease('main');
SELECT leasehold.join_lease('spare');
SELECT leasehold.join_lease('nix');
SELECT leasehold.join_lease(NULL);
SELECT leasehold.drop_lease('spare');
SELECT leasehold.create_lease('one', kind => 'independent');
SELECT leasehold.create_lease('two', kind => 'independent');
SELECT leasehold.join_lease('one', 'nobody');
SELECT leasehold.join_lease('one', 'no good');
SELECT leasehold.join_lease('one', priority => -1);
SELECT leasehold.join_lease('one', priority => 1000001);
SELECT leasehold.leave_lease('one');
SELECT leasehold.leave_lease('nix');
SELECT leasehold.leave_lease(NULL);

-- what cannot be protected, and by what
SELECT leasehold.protect('orders', 'one');
SELECT leasehold.protect('orders', 'main');
SELECT leasehold.join_lease('one');
SELECT leasehold.join_lease('one', 'regress', 100);
SELECT leasehold.protect('orders', 'nix');
SELECT leasehold.protect('seen', 'one');
SELECT leasehold.protect('numbers', 'one');
SELECT leasehold.protect('orders_id', 'one');
\set VERBOSITY sqlstate
SELECT leasehold.protect('passing', 'one');
\set VERBOSITY default
SELECT leasehold.protect('pg_class', 'one');
SELECT leasehold.protect('information_schema.sql_features', 'one');
SELECT leasehold.protect('leasehold.status', 'one');
SELECT leasehold.protect('orders', 'one', '0s');
SELECT leasehold.protect(0, 'one');
SELECT leasehold.protect(NULL, 'one') IS NULL AS nothing;
SELECT leasehold.unprotect('orders');
SELECT leasehold.unprotect('nowhere', 'public', 'orders');
SELECT * FROM leasehold.protected;

-- the life of one
DO $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		EXIT WHEN leasehold.holds('one');
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT leasehold.holds('one'), leasehold.epoch('one');
SELECT leasehold.protect('orders', 'one');
SELECT leasehold.protect('orders', 'one');
SELECT leasehold.protect('parts', 'one');
SELECT schema_name, table_name, lease, seq > 0 AS numbered, holder, held, confirmed
FROM leasehold.protected ORDER BY table_name;
SELECT leasehold.join_lease('two', priority => 0);
SELECT leasehold.protect('orders', 'two');
SELECT leasehold.drop_lease('one');
SELECT leasehold.drop_lease('two');
DO $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		EXIT WHEN (SELECT count(*) FROM leasehold.status) = 3
			AND (SELECT state = 'follower' FROM leasehold.status WHERE lease = 'two')
			AND (SELECT count(*) FROM leasehold.leases WHERE scope = 'tables') = 2;
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT lease, tables FROM leasehold.leases ORDER BY lease;
SELECT lease, state, holder, kind, scope, epoch > 0 AS has_epoch, expires_in > '0' AS runs
FROM leasehold.status ORDER BY lease;

-- who writes it: by the nearest ancestor
SELECT leasehold.writer('orders') LIKE 'host=%' AS orders,
       leasehold.writer('parts_1') = leasehold.writer('parts') AS partition,
       leasehold.writer('parts_1_child') = leasehold.writer('orders') AS child,
       leasehold.writer('seen') = leasehold.writer('orders') AS instance;
SELECT leasehold.writer(0);
SELECT leasehold.writer(NULL) IS NULL AS nothing;

-- and again without
SELECT leasehold.leave_lease('one');
SELECT leasehold.switchover('regress', 'one') = leasehold.epoch('one') AS already;
SELECT leasehold.switchover('regress', 'two');
SELECT * FROM leasehold.spread();
SELECT item, ok FROM leasehold.check() WHERE item LIKE '%table%' ORDER BY item;
SELECT leasehold.unprotect(current_database(), 'public', 'orders');
SELECT leasehold.unprotect('parts');
SELECT leasehold.unprotect('parts');
SELECT count(*) FROM leasehold.protected;
SELECT leasehold.release('one') IS NOT NULL AS released, leasehold.pause('two') IS NOT NULL AS paused;
SELECT leasehold.resume('two');
SELECT leasehold.join_lease('one', priority => 0);
DO $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		IF leasehold.holds('one') THEN
			PERFORM leasehold.release('one');
		END IF;
		BEGIN
			PERFORM leasehold.leave_lease('one');
			RETURN;
		EXCEPTION WHEN object_in_use THEN
			PERFORM pg_sleep(0.05);
		END;
	END LOOP;
END $$;
SELECT leasehold.leave_lease('two');
SELECT leasehold.drop_lease('one');
SELECT leasehold.drop_lease('two');
DROP TABLE orders, parts, parts_1_child;
DROP VIEW seen;
DROP SEQUENCE numbers;
