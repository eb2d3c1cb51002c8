-- One instance that is its own store: the life of its lease.
SELECT lease, node, state, holder, epoch > 0 AS has_epoch, expires_in > '0' AS runs,
       ttl, kind, scope, members_reachable, members,
       last_renewal < ttl AS renewed, renewal_latency > '0' AS measured, reason
FROM leasehold.status;
SELECT leasehold.holds(), leasehold.holds('main'), leasehold.holds(NULL);
SELECT leasehold.epoch() = leasehold.epoch('main') AS same,
       leasehold.epoch() = (SELECT epoch FROM leasehold.status) AS shown;
SELECT leasehold.holds('nix');
SELECT leasehold.epoch('nix');

-- acquire: it is held already
SELECT leasehold.acquire() = leasehold.epoch() AS held;
SELECT leasehold.acquire(timeout => NULL);
SELECT leasehold.acquire(timeout => '-1s');
SELECT leasehold.acquire('nix');

-- release and acquire: the epoch rises
SELECT leasehold.epoch() AS before \gset
SELECT leasehold.release();
SELECT leasehold.holds(), leasehold.epoch(), leasehold.release();
\set VERBOSITY terse
CREATE TABLE refused ();
\set VERBOSITY default
SELECT state, holder FROM leasehold.status;
SELECT leasehold.acquire() > :before AS higher;
CREATE TABLE written ();
DROP TABLE written;

-- switchover
SELECT leasehold.switchover('regress') = leasehold.epoch() AS already;
SELECT leasehold.switchover('nobody');
SELECT leasehold.switchover(NULL);
SELECT leasehold.switchover('regress', 'nix');
SELECT leasehold.switchover('regress', timeout => '0s');

-- pause and resume
SELECT leasehold.pause();
SELECT state, expires_in FROM leasehold.status;
SELECT leasehold.release();
SELECT leasehold.pause();
SELECT leasehold.holds();
SELECT leasehold.resume();
SELECT state, expires_in > '0' AS runs FROM leasehold.status;
SELECT leasehold.resume();
SELECT leasehold.pause('nix');

-- leases in the store
SELECT leasehold.create_lease('main');
SELECT leasehold.create_lease('spare', '2s', 'independent');
SELECT leasehold.create_lease('spare');
SELECT leasehold.create_lease('no good');
SELECT leasehold.create_lease(repeat('x', 64));
SELECT leasehold.create_lease('');
SELECT leasehold.create_lease('short', '199ms');
SELECT leasehold.create_lease('long', '61min');
SELECT leasehold.create_lease('odd', '1s', 'logical');
SELECT leasehold.alter_lease('spare', '3s');
SELECT leasehold.alter_lease('spare', '1ms');
SELECT leasehold.alter_lease('nix', '3s');
SELECT leasehold.pause('spare');
SELECT leasehold.switchover('regress', 'spare');
SELECT leasehold.resume('spare');
SELECT leasehold.drop_lease('spare');
SELECT leasehold.drop_lease('spare');
SELECT leasehold.create_lease('spare', '4s', 'independent');
SELECT leasehold.drop_lease('spare');
SELECT leasehold.drop_lease('main');

-- the holder takes up a new ttl with its next renewal
SELECT leasehold.alter_lease('main', '20s');
DO $$
BEGIN
	FOR i IN 1 .. 500 LOOP
		EXIT WHEN (SELECT ttl FROM leasehold.status) = '20s';
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT ttl FROM leasehold.status;
SELECT leasehold.alter_lease('main', '10s');

-- the views, once they have been read again
DO $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		EXIT WHEN (SELECT count(*) FROM leasehold.history) >= 3
			AND (SELECT count(*) FROM leasehold.leases) = 1
			AND (SELECT holder = 'regress' AND NOT paused FROM leasehold.leases)
			AND (SELECT alive FROM leasehold.nodes) AND (SELECT role FROM leasehold.nodes) = 'holder';
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT lease, holder, kind, scope, paused, age >= '0' AS aged FROM leasehold.leases;
SELECT node, role, alive, priority, last_seen < '1min' AS seen, age < '1min' AS aged
FROM leasehold.nodes;
SELECT lease, from_node, to_node, reason FROM leasehold.history
WHERE epoch <= :before + 1 AND epoch >= :before ORDER BY epoch, to_node DESC;

-- while a lease governs, the extension stays
DROP EXTENSION leasehold;
