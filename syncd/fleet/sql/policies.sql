-- Who may read and write which rows. Run again at each `syncd fleet init`.
-- A login of syncd_agent reads the jobs that it was granted, with their revisions, manifests and
-- contents, and writes its own reports. Only controllers write `agent.labels`, which give access;
-- `presence.labels` is what an agent says of itself, and gives nothing. SESSION_USER is the login:
-- SET ROLE does not change it.
ALTER TABLE syncd.blob ALTER COLUMN data SET STORAGE EXTERNAL;

REVOKE ALL ON SCHEMA syncd FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA syncd FROM PUBLIC, syncd_agent, syncd_controller;
GRANT USAGE ON SCHEMA syncd TO syncd_controller, syncd_agent;
GRANT SELECT ON syncd.alembic_version TO syncd_controller, syncd_agent;

CREATE OR REPLACE FUNCTION syncd.granted_jobs() RETURNS SETOF bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT job_id FROM syncd.job_grant WHERE agent = SESSION_USER
        UNION
        SELECT job.id FROM syncd.job JOIN syncd.agent ON agent.labels @> job.selector
         WHERE agent.name = SESSION_USER AND job.selector <> '{}'::jsonb;
    END;
REVOKE ALL ON FUNCTION syncd.granted_jobs() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION syncd.granted_jobs() TO syncd_controller, syncd_agent;

-- The revisions that only the agents of their waves may read so far.
CREATE OR REPLACE FUNCTION syncd.offered_revisions() RETURNS SETOF bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT revision_id FROM syncd.wave_agent WHERE agent = SESSION_USER;
    END;
REVOKE ALL ON FUNCTION syncd.offered_revisions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION syncd.offered_revisions() TO syncd_controller, syncd_agent;

ALTER TABLE syncd.job ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.revision ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.blob ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.manifest ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.job_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.report ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.presence ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.wave_agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.decision ENABLE ROW LEVEL SECURITY;
ALTER TABLE syncd.controller ENABLE ROW LEVEL SECURITY;

-- Controllers

GRANT SELECT, INSERT, UPDATE, DELETE ON
    syncd.job, syncd.revision, syncd.blob, syncd.manifest, syncd.agent, syncd.job_grant,
    syncd.report, syncd.presence, syncd.wave_agent, syncd.controller
    TO syncd_controller;
GRANT SELECT, INSERT ON syncd.decision TO syncd_controller;

DROP POLICY IF EXISTS controller ON syncd.job;
DROP POLICY IF EXISTS controller ON syncd.revision;
DROP POLICY IF EXISTS controller ON syncd.blob;
DROP POLICY IF EXISTS controller ON syncd.manifest;
DROP POLICY IF EXISTS controller ON syncd.agent;
DROP POLICY IF EXISTS controller ON syncd.job_grant;
DROP POLICY IF EXISTS controller ON syncd.report;
DROP POLICY IF EXISTS controller ON syncd.presence;
CREATE POLICY controller ON syncd.job TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.revision TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.blob TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.manifest TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.agent TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.job_grant TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.report TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.presence TO syncd_controller USING (true);
DROP POLICY IF EXISTS controller ON syncd.wave_agent;
DROP POLICY IF EXISTS controller ON syncd.decision;
DROP POLICY IF EXISTS controller ON syncd.controller;
CREATE POLICY controller ON syncd.wave_agent TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.decision TO syncd_controller USING (true);
CREATE POLICY controller ON syncd.controller TO syncd_controller USING (true);

-- Agents

GRANT SELECT (id, name, repo, ref) ON syncd.job TO syncd_agent;
GRANT SELECT (
    id, job_id, sequence, repo, ref, commit_sha, roots, manifest_sha256, signature, created_at
) ON syncd.revision TO syncd_agent;
GRANT SELECT ON syncd.blob, syncd.manifest TO syncd_agent;
GRANT SELECT, INSERT, UPDATE ON syncd.report, syncd.presence TO syncd_agent;
GRANT SELECT (name, labels) ON syncd.agent TO syncd_agent;

DROP POLICY IF EXISTS granted ON syncd.job;
DROP POLICY IF EXISTS granted ON syncd.revision;
DROP POLICY IF EXISTS granted ON syncd.manifest;
DROP POLICY IF EXISTS granted ON syncd.blob;
DROP POLICY IF EXISTS own ON syncd.report;
DROP POLICY IF EXISTS own ON syncd.presence;
DROP POLICY IF EXISTS own ON syncd.agent;
CREATE POLICY own ON syncd.agent FOR SELECT TO syncd_agent USING (name = SESSION_USER);
CREATE POLICY granted ON syncd.job FOR SELECT TO syncd_agent
    USING (id IN (SELECT syncd.granted_jobs()));
CREATE POLICY granted ON syncd.revision FOR SELECT TO syncd_agent
    USING (
        job_id IN (SELECT syncd.granted_jobs())
        AND (released_at IS NOT NULL OR id IN (SELECT syncd.offered_revisions()))
    );
CREATE POLICY granted ON syncd.manifest FOR SELECT TO syncd_agent
    USING (EXISTS (SELECT FROM syncd.revision WHERE revision.id = manifest.revision_id));
CREATE POLICY granted ON syncd.blob FOR SELECT TO syncd_agent
    USING (EXISTS (SELECT FROM syncd.manifest WHERE manifest.blob_id = blob.id));
CREATE POLICY own ON syncd.report TO syncd_agent
    USING (agent = SESSION_USER)
    WITH CHECK (agent = SESSION_USER AND job_id IN (SELECT syncd.granted_jobs()));
CREATE POLICY own ON syncd.presence TO syncd_agent
    USING (agent = SESSION_USER) WITH CHECK (agent = SESSION_USER);
