-- Schema notifier: what is to be told to whom, and what was. Owned by `notifier` alone.

-- Which repository a service is built from (from delivery.accepted), for commit statuses.
create table notifier.service (
    service_id   text primary key,
    repo_key     text not null,
    updated_at   timestamptz not null default now()
);

-- What a build is about (from build.queued): later facts carry only its id.
create table notifier.build (
    build_id     text primary key,
    attempt      int not null default 0, -- the current one (build.leased): facts of older ones count for nothing
    project_id   text not null,
    project_slug text not null,
    service_id   text not null,
    service_name text not null,
    commit_sha   text not null,
    commit_ref   text not null,
    commit_message text not null,
    queued_at    timestamptz not null default now()
);

create table notifier.notification (
    id           uuid primary key,       -- UUIDv5(event, channel): also the receiver's idempotency key
    channel_id   text not null,
    event_id     text not null,
    kind         text not null check (kind in ('webhook', 'github')),
    about        text not null,          -- "deployment.healthy"
    type         text not null,          -- the name outside: "deployment.succeeded"
    service_id   text not null,
    subject_id   text not null,          -- build, release or deployment
    commit_sha   text not null,
    context      text not null,          -- github: one line of checks
    status       text not null,          -- github: pending, success, failure, error
    final        boolean not null,
    body         text not null,
    trace        text not null,
    state        text not null default 'waiting' check (state in ('waiting', 'sent', 'failed', 'dropped')),
    attempts     int not null default 0,
    next_try_at  timestamptz not null default now(),
    claimed_until timestamptz,           -- somebody is sending it
    last_error   text not null default '',
    created_at   timestamptz not null default now(),
    unique (channel_id, event_id)
);
-- Exactly one final state per commit and context.
create unique index notification_final on notifier.notification (channel_id, commit_sha, context)
    where final and kind = 'github';
create index notification_due on notifier.notification (next_try_at) where state = 'waiting';
create index notification_context on notifier.notification (channel_id, commit_sha, context)
    where kind = 'github' and state = 'waiting';
create index notification_age on notifier.notification (created_at);
create index build_age on notifier.build (queued_at);
