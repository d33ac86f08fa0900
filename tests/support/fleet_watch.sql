-- What a test sees of a fleet's database, and where it stops a controller: triggers beside the
-- product's own tables. A transaction that gets to the point in watch.point waits there for the
-- advisory lock 1, which the test holds.
CREATE SCHEMA watch;
GRANT USAGE ON SCHEMA watch TO PUBLIC;
CREATE TABLE watch.point (name text NOT NULL);
CREATE TABLE watch.lease (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at double precision NOT NULL,  -- seconds since 1970, by the machine's clock
    controller text NOT NULL,  -- which connection wrote this
    action text NOT NULL,
    job text NOT NULL,
    epoch bigint NOT NULL,
    worker text,
    seconds double precision,  -- how long the lease lasts from now, by the server's clock
    seconds_before double precision  -- the same of the lease that was there
);
CREATE TABLE watch.revision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at double precision NOT NULL,
    controller text NOT NULL,
    job text NOT NULL,
    sequence bigint NOT NULL,
    epoch bigint NOT NULL,
    commit_sha text NOT NULL
);

-- The server's clock: an hour ahead of the machines of the controllers.
CREATE FUNCTION watch.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    RETURN pg_catalog.clock_timestamp() + interval '1 hour';

CREATE FUNCTION watch.seconds_until(moment timestamptz) RETURNS double precision LANGUAGE sql
    RETURN extract(epoch FROM moment - watch.clock_timestamp());

CREATE FUNCTION watch.controller() RETURNS text LANGUAGE sql
    RETURN replace(current_setting('application_name'), 'syncd ', '');

CREATE FUNCTION watch.stop_at(here text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = 0 AS $$
BEGIN
    IF EXISTS (SELECT FROM watch.point WHERE name = here) THEN
        PERFORM pg_advisory_lock_shared(1);
        PERFORM pg_advisory_unlock_shared(1);
    END IF;
END
$$;

CREATE FUNCTION watch.on_job() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    action text := CASE
        WHEN NEW.epoch <> OLD.epoch THEN 'claim'
        WHEN NEW.sequence <> OLD.sequence THEN 'guard'
        WHEN NEW.lease_until IS NULL AND OLD.lease_until IS NOT NULL THEN 'release'
        WHEN NEW.lease_until <> OLD.lease_until THEN 'renewal'
    END;
BEGIN
    IF action IN ('claim', 'release', 'renewal') THEN
        INSERT INTO watch.lease
            (at, controller, action, job, epoch, worker, seconds, seconds_before)
        VALUES (
            extract(epoch FROM clock_timestamp()), watch.controller(), action, NEW.name,
            NEW.epoch, NEW.worker,
            watch.seconds_until(NEW.lease_until), watch.seconds_until(OLD.lease_until)
        );
    END IF;
    IF action IS NOT NULL THEN
        PERFORM watch.stop_at(action);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER watch BEFORE UPDATE ON syncd.job FOR EACH ROW EXECUTE FUNCTION watch.on_job();

CREATE FUNCTION watch.on_job_commit() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    PERFORM watch.stop_at(
        CASE WHEN NEW.epoch <> OLD.epoch THEN 'claim commits'
             WHEN NEW.lease_until IS NULL THEN 'release commits' END
    );
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER watch_commit AFTER UPDATE ON syncd.job DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION watch.on_job_commit();

CREATE FUNCTION watch.on_revision() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO watch.revision (at, controller, job, sequence, epoch, commit_sha)
    SELECT extract(epoch FROM clock_timestamp()), watch.controller(), job.name, NEW.sequence,
           NEW.epoch, NEW.commit_sha
      FROM syncd.job WHERE job.id = NEW.job_id;
    PERFORM watch.stop_at('revision');
    RETURN NEW;
END
$$;
CREATE TRIGGER watch AFTER INSERT ON syncd.revision
    FOR EACH ROW EXECUTE FUNCTION watch.on_revision();

CREATE FUNCTION watch.on_other() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM watch.stop_at(TG_ARGV[0]);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER watch_commit AFTER INSERT ON syncd.revision
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch.on_other('publish commits');
CREATE TRIGGER watch AFTER INSERT ON syncd.blob
    FOR EACH STATEMENT EXECUTE FUNCTION watch.on_other('blob');
CREATE TRIGGER watch AFTER INSERT ON syncd.manifest
    FOR EACH STATEMENT EXECUTE FUNCTION watch.on_other('manifest');
