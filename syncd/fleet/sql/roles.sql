-- The roles that a login becomes a member of. Run again at each `syncd fleet init`.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'syncd_controller') THEN
        CREATE ROLE syncd_controller NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'syncd_agent') THEN
        CREATE ROLE syncd_agent NOLOGIN;
    END IF;
    -- An agent may make nothing of its own in this database, temporary tables included.
    EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO syncd_controller, syncd_agent', current_database()
    );
END
$$;
