-- The objects that users rely on: names, columns, types, privileges.
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'leasehold'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
ORDER BY c.relname, a.attnum;

SELECT p.oid::regprocedure AS function, pg_get_function_arguments(p.oid) AS arguments,
       pg_get_function_result(p.oid) AS returns
FROM pg_proc p WHERE p.pronamespace = 'leasehold'::regnamespace
  AND NOT p.proretset
ORDER BY p.proname, p.oid;

SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) AS returns
FROM pg_proc p WHERE p.pronamespace = 'leasehold'::regnamespace AND p.proretset
ORDER BY p.proname, p.oid;

-- Who may do what
CREATE ROLE regress_nobody;
CREATE ROLE regress_monitor IN ROLE pg_monitor;
SELECT has_schema_privilege('regress_nobody', 'leasehold', 'usage') AS usage,
       has_schema_privilege('regress_nobody', 'leasehold', 'create') AS create;
SELECT p.proname,
       has_function_privilege('regress_nobody', p.oid, 'execute') AS everyone,
       has_function_privilege('regress_monitor', p.oid, 'execute') AS monitor
FROM pg_proc p WHERE p.pronamespace = 'leasehold'::regnamespace
ORDER BY p.proname, p.oid;
SELECT c.relname,
       has_table_privilege('regress_nobody', c.oid, 'select') AS everyone,
       has_table_privilege('regress_monitor', c.oid, 'select') AS monitor
FROM pg_class c WHERE c.relnamespace = 'leasehold'::regnamespace AND c.relkind = 'v'
ORDER BY c.relname;

SET ROLE regress_nobody;
SELECT leasehold.holds(), leasehold.epoch() IS NOT NULL AS has_epoch;
SELECT state FROM leasehold.status;
SELECT leasehold.release();
RESET ROLE;
SET ROLE regress_monitor;
SELECT state FROM leasehold.status;
SELECT count(*) > 0 AS checked FROM leasehold.check();
SELECT leasehold.pause();
RESET ROLE;
DROP ROLE regress_nobody;
DROP ROLE regress_monitor;

-- Every setting, with its unit and limits
SELECT name, context, unit, vartype, min_val, max_val, enumvals, boot_val
FROM pg_settings WHERE name LIKE 'leasehold.%' ORDER BY name COLLATE "C";
