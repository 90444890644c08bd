-- Schema enclii: owned by `pipeline` (this folder), read by `api`, which also writes what users own
-- (project, environment, service, api_token, channel, delivery views none) together with outbox rows.
-- Columns `state` are changed by pipeline's transition function alone, with compare-and-swap on `cas`.

-- Times travel as milliseconds since 1970; 0 is "none".
create function enclii.at(ms bigint) returns timestamptz language sql immutable as
    $$ select case when ms > 0 then to_timestamp(ms / 1000.0) end $$;
create function enclii.ms(t timestamptz) returns bigint language sql stable as
    $$ select coalesce((extract(epoch from t) * 1000)::bigint, 0) $$;

create table enclii.project (
    id          uuid primary key,
    slug        text not null unique,
    name        text not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

create table enclii.environment (
    id             uuid primary key,
    project_id     uuid not null references enclii.project on delete cascade,
    name           text not null,
    kube_namespace text not null default '',
    target         text not null default 'docker',
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    constraint environment_name_taken unique (project_id, name)
);

create table enclii.service (
    id           uuid primary key,
    project_id   uuid not null references enclii.project on delete cascade,
    name         text not null,
    repo_key     text not null,
    repo_url     text not null,
    branch       text not null default 'main',
    auto_deploy  boolean not null default true,
    environment  text not null default 'production',
    spec         bytea not null,                 -- enclii.v1.ServiceSpec
    spec_yaml    text not null default '',       -- as the user wrote it
    releases     integer not null default 0,     -- numbers of releases given so far
    builds       integer not null default 0,     -- numbers of builds given so far: the order of what was asked for
    removed_at   timestamptz,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now()
);
create unique index service_name_taken on enclii.service (project_id, name) where removed_at is null;
create index service_by_repo on enclii.service (repo_key) where removed_at is null;

create table enclii.api_token (
    id           uuid primary key,
    name         text not null,
    prefix       text not null,
    hash         text not null unique,           -- SHA-256, hex
    role         text not null check (role in ('admin', 'developer', 'viewer')),
    project_id   uuid references enclii.project on delete cascade, -- null: all projects
    created_at   timestamptz not null default now(),
    created_by   uuid,                           -- the token that made it; null: the installation
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);

create table enclii.delivery (
    id          text primary key,                -- the host's delivery id
    repo_key    text not null,
    ref         text not null default '',
    commit_sha  text not null default '',
    pusher      text not null default '',
    state       text not null check (state in ('received', 'IGNORED', 'ACCEPTED', 'DUPLICATE')),
    reason      text not null default '',
    detail      text not null default '',
    trace       text not null default '',
    duplicates  integer not null default 0,      -- how often the host sent it again
    received_at timestamptz not null,
    decided_at  timestamptz not null default now()
);
create index delivery_by_repo on enclii.delivery (repo_key, received_at desc);

create table enclii.build (
    id           uuid primary key,
    service_id   uuid not null references enclii.service on delete cascade,
    number       integer not null,               -- grows per service in the order of pushes and requests
    delivery_id  text not null default '',
    spec         bytea not null,                 -- ServiceSpec as it was when the build was asked for
    commit       bytea not null,                 -- enclii.v1.Commit
    commit_sha   text not null,
    ref          text not null,
    actor        bytea not null,                 -- enclii.v1.Actor
    state        text not null check (state in ('queued', 'leased', 'running', 'SUCCEEDED', 'FAILED',
                                                'CANCELLED', 'TIMED_OUT', 'SUPERSEDED')),
    attempt      integer not null default 0,
    builder_id   text not null default '',
    priority     integer not null default 0,     -- larger first
    reason       text not null default '',
    detail       text not null default '',
    digest       text not null default '',
    image_repo   text not null default '',
    steps        jsonb not null default '[]',
    trace        text not null default '',
    push_received_at timestamptz,
    queued_at    timestamptz not null default now(),
    leased_at    timestamptz,
    started_at   timestamptz,
    finished_at  timestamptz,
    heard_at     timestamptz,                    -- last word of the builder about this attempt
    deadline_at  timestamptz,                    -- null only in terminal states
    cas          bigint not null default 0,
    constraint build_number_taken unique (service_id, number),
    constraint build_deadline check ((state = upper(state)) = (deadline_at is null))
);
create index build_by_service on enclii.build (service_id, queued_at desc);
create index build_by_commit on enclii.build (commit_sha);
create index build_queue on enclii.build (priority desc, queued_at) where state = 'queued';
create index build_open on enclii.build (deadline_at) where deadline_at is not null;
create index build_at_work on enclii.build (heard_at) where state in ('leased', 'running');
create index build_open_of_service on enclii.build (service_id) where deadline_at is not null;

create table enclii.release (
    id           uuid primary key,
    service_id   uuid not null references enclii.service on delete cascade,
    build_id     uuid not null references enclii.build on delete cascade,
    build_number integer not null,               -- of the build: a release of an older one never replaces a newer
    push_received_at timestamptz,
    number       integer not null,
    version      text not null,                  -- "v12"
    state        text not null check (state in ('building', 'signing', 'READY', 'REJECTED')),
    reason       text not null default '',
    detail       text not null default '',
    commit       bytea not null,
    commit_sha   text not null,
    image_repo   text not null,
    digest       text not null default '',
    spec         bytea not null,                 -- ServiceSpec snapshot: configuration travels with the release
    sbom_digest        text not null default '',
    provenance_digest  text not null default '',
    signature_digest   text not null default '',
    sbom_object        text not null default '',
    provenance_object  text not null default '',
    sbom_format        text not null default '',
    sbom_components    integer not null default 0,
    key_id       text not null default '',
    steps        jsonb not null default '[]',
    trace        text not null default '',
    created_at   timestamptz not null default now(),
    ready_at     timestamptz,
    deadline_at  timestamptz,
    cas          bigint not null default 0,
    constraint release_number_taken unique (service_id, number),
    constraint release_build_taken unique (build_id),
    constraint release_deadline check ((state = upper(state)) = (deadline_at is null))
);
create index release_by_service on enclii.release (service_id, number desc);
create index release_open on enclii.release (deadline_at) where deadline_at is not null;
create index release_open_of_service on enclii.release (service_id) where deadline_at is not null;

create table enclii.deployment (
    id             uuid primary key,
    service_id     uuid not null references enclii.service on delete cascade,
    environment_id uuid not null references enclii.environment on delete cascade,
    release_id     uuid not null references enclii.release on delete cascade,
    previous_release_id uuid references enclii.release on delete set null,
    state          text not null check (state in ('pending', 'waiting', 'rolling', 'HEALTHY', 'FAILED',
                                                  'ROLLED_BACK', 'CANCELLED', 'SUPERSEDED')),
    weight         integer not null default 0,
    reason         text not null default '',
    detail         text not null default '',
    actor          bytea not null,
    rollback       boolean not null default false,
    steps          jsonb not null default '[]',
    urls           jsonb not null default '[]',
    trace          text not null default '',
    push_received_at timestamptz,
    replicas_ready   integer not null default 0,
    created_at     timestamptz not null default now(),
    finished_at    timestamptz,
    deadline_at    timestamptz,
    cas            bigint not null default 0,
    constraint deployment_deadline check ((state = upper(state)) = (deadline_at is null))
);
create index deployment_by_service on enclii.deployment (service_id, created_at desc);
create index deployment_open on enclii.deployment (deadline_at) where deadline_at is not null;
create unique index deployment_open_once on enclii.deployment (service_id, environment_id) where deadline_at is not null;
create index deployment_by_release on enclii.deployment (release_id, environment_id);

-- What is wanted now, per service and environment: the last record of topic enclii.desired.
create table enclii.desired (
    service_id     uuid not null references enclii.service on delete cascade,
    environment_id uuid not null references enclii.environment on delete cascade,
    revision       bigint not null,
    deployment_id  uuid not null,
    release_id     uuid,                         -- null: nothing should run (tombstone)
    good_release_id uuid,                        -- the last one that ended HEALTHY
    good_deployment_id uuid,                     -- and the deployment that made it so
    newest_build   integer not null default 0,   -- highest build number ever wanted here: older ones finishing late do not deploy
    primary key (service_id, environment_id)
);

create table enclii.domain (
    hostname       text primary key,
    service_id     uuid not null references enclii.service on delete cascade,
    environment_id uuid not null references enclii.environment on delete cascade,
    tls            boolean not null default true,
    state          text not null check (state in ('pending', 'verifying', 'issuing', 'ACTIVE', 'renewing', 'failed')),
    issuer         text not null default 'local',
    fingerprint    text not null default '',
    not_after      timestamptz,
    reason         text not null default '',
    detail         text not null default '',
    next_try_at    timestamptz,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    deadline_at    timestamptz,
    cas            bigint not null default 0
);

create index domain_by_service on enclii.domain (service_id);
create index domain_open on enclii.domain (deadline_at) where deadline_at is not null;

-- Last word of each builder, for leases: written by whoever reads the heartbeats, used by the leader.
create table enclii.builder (
    id           text primary key,
    slots        integer not null,
    draining     boolean not null default false,
    cached_repos jsonb not null default '[]',    -- clone URLs
    version      text not null default '',
    heard_at     timestamptz not null
) with (fillfactor = 50);

create table enclii.channel (
    id          uuid primary key,
    project_id  uuid not null references enclii.project on delete cascade,
    kind        text not null check (kind in ('webhook', 'github')),
    name        text not null,
    url         text not null,
    sealed_secret bytea not null default '',
    event_types jsonb not null default '[]',
    enabled     boolean not null default true,
    created_at  timestamptz not null default now()
);

-- Why things are as they are: every decision with its rule, for `enclii why`.
create table enclii.decision (
    id          bigint generated always as identity primary key,
    at          timestamptz not null default now(),
    service_id  uuid,
    subject_kind text not null,                  -- delivery, build, release, deployment, domain
    subject_id  text not null,
    rule        text not null,                   -- "branch_not_watched", "superseded_by_newer_push"
    outcome     text not null,
    detail      text not null default ''
);
create index decision_by_subject on enclii.decision (subject_kind, subject_id, id);
create index decision_by_service on enclii.decision (service_id, id desc);

-- Build output, kept by `api` (consumer group api-logs), one row per BuildLog event.
create table enclii.build_log (
    build_id    uuid not null,
    attempt     integer not null,
    first_seq   bigint not null,
    lines       jsonb not null,                  -- [{"t":unix_ms,"s":"step","l":"text"}]
    last        boolean not null default false,
    primary key (build_id, attempt, first_seq)
);

create table enclii.audit_log (
    id            uuid primary key,
    at            timestamptz not null default now(),
    actor_id      text not null default '',
    actor_name    text not null default '',
    action        text not null,
    resource_type text not null,
    resource_id   text not null default '',
    resource_name text not null default '',
    outcome       text not null,
    ip_address    text not null default '',
    detail        text not null default ''
);

-- Rows to publish, written with the state they tell about. The relay (pipeline) publishes in order per
-- key and deletes after the broker's word. `xid` solves the gap problem: a row is read only when every
-- transaction that could still insert a smaller id has ended.
create table enclii.outbox (
    id       bigint generated always as identity primary key,
    xid      xid8 not null default pg_current_xact_id(),
    topic    text not null,
    key      text not null,
    type     text not null,
    subject  text not null default '',
    event_id text not null,
    trace    text not null default '',
    body     bytea,                              -- null: tombstone
    created_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.01, fillfactor = 70);

-- Wakes the relay: once per statement, delivered at commit.
create function enclii.outbox_wake() returns trigger language plpgsql as $$
begin
    perform pg_notify('enclii_outbox', '');
    return null;
end $$;
create trigger outbox_wake after insert on enclii.outbox
    for each statement execute function enclii.outbox_wake();

-- Consumed offsets: part of the transaction of the effects.
create table enclii.consumed (
    consumer  text not null,
    topic     text not null,
    partition integer not null,
    next      bigint not null,
    primary key (consumer, topic, partition)
) with (fillfactor = 50);

-- Event ids that had their effect (at-least-once delivery, exactly-once effect). Pruned after 8 days.
create table enclii.inbox (
    event_id text primary key,
    seen_at  timestamptz not null default now()
);
create index inbox_age on enclii.inbox using brin (seen_at);
