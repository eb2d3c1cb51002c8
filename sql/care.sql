-- Care of the store, as far as one instance that is its own store goes.
\set VERBOSITY sqlstate
SELECT leasehold.init_store('embedded');
\set VERBOSITY terse
SELECT leasehold.init_store('host=x password=secret');
SELECT leasehold.init_store('host=x nonsense');
SELECT leasehold.init_store('host=/x; host=/y');
SELECT leasehold.set_store('');
SELECT leasehold.set_store('host=x password=secret');
SELECT leasehold.reseed_member('password=secret');
SELECT leasehold.drop_node('regress');
SELECT leasehold.drop_node('nobody');
SELECT leasehold.rename_node('regress', 'other');
SELECT leasehold.rename_node('regress', 'no good');
SELECT leasehold.leave();

-- the same list again: nothing is lost by it
SELECT leasehold.epoch() AS before \gset
SELECT leasehold.set_store('embedded');
SELECT leasehold.epoch() = :before AS kept;
CREATE TABLE written ();
DROP TABLE written;

-- passwords in settings
ALTER SYSTEM SET leasehold.store = 'host=x password=secret';
ALTER SYSTEM SET leasehold.advertise = 'postgresql://me:secret@host/db';
ALTER SYSTEM SET leasehold.store = 'host=x; ; =';
ALTER SYSTEM SET leasehold.lease = 'no good';
-- (from 17 on, the limits have their units)
\set VERBOSITY sqlstate
ALTER SYSTEM SET leasehold.safety_margin = '2h';
\set VERBOSITY terse
SELECT regexp_replace(:'LAST_ERROR_MESSAGE', '(\d) ms(?! is)', '\1', 'g') AS message;
SET leasehold.nonsense = 1;

-- what keeps the promise from being true here: the test server's own settings
SELECT item, detail, remedy FROM leasehold.check()
WHERE NOT ok AND item NOT LIKE 'member %' ORDER BY item;
SELECT count(*) > 10 AS items, bool_and(detail <> '') AS detailed,
       bool_and(ok = (remedy IS NULL)) AS remedies
FROM leasehold.check() WHERE item NOT LIKE 'member %';
