-- Pull requests, approvals of them, and what the git host's CI says.

alter table enclii.build drop constraint build_state_check;
alter table enclii.build
    add constraint build_state_check check (state in ('waiting', 'queued', 'leased', 'running', 'SUCCEEDED',
                                                      'FAILED', 'CANCELLED', 'TIMED_OUT', 'SUPERSEDED')),
    add column pull_request integer not null default 0,     -- 0: of a push, or asked for
    add column trusted      boolean not null default true,  -- false: a fork's code, no secrets, no shared caches
    add column author       text not null default '',       -- of the pull request
    add column author_association text not null default '', -- as the host says, "MEMBER"
    add column approved_by  text not null default '';       -- who approved this commit; an untrusted one is not deployed without
create index build_by_pull_request on enclii.build (service_id, pull_request) where pull_request > 0;

alter table enclii.release
    add column pull_request integer not null default 0,
    add column trusted      boolean not null default true,
    add column approved_by  text not null default '';
create index release_by_commit on enclii.release (commit_sha);

alter table enclii.builder
    add column trusted_only boolean not null default false; -- takes no code of forks

-- The last word about each pull request: what an approval is about.
create table enclii.pull_request (
    id           text primary key,             -- "<repo_key>#<number>"
    repo_key     text not null,
    number       integer not null,
    state        text not null check (state in ('open', 'CLOSED', 'MERGED')),
    title        text not null default '',
    url          text not null default '',
    ref          text not null,                -- where its head is in the base repository; '' = nowhere
    head_sha     text not null,
    base_ref     text not null,                -- branch name
    from_fork    boolean not null,
    draft        boolean not null default false,
    author       text not null default '',
    author_association text not null default '',
    delivery_id  text not null default '',     -- that told the head
    host_updated_at timestamptz,               -- by the host's clock: older words come late and count for nothing
    updated_at   timestamptz not null default now()
);
create index pull_request_by_head on enclii.pull_request (head_sha);
create index pull_request_by_repo on enclii.pull_request (repo_key, number desc);
create index pull_request_age on enclii.pull_request (updated_at) where state <> 'open';

-- One person let one commit of one pull request into one service.
create table enclii.approval (
    service_id   uuid not null references enclii.service on delete cascade,
    pull_request integer not null,
    commit_sha   text not null,
    approved_by  text not null,                -- token name
    approved_by_id text not null default '',
    reason       text not null default '',
    approved_at  timestamptz not null default now(),
    primary key (service_id, pull_request, commit_sha)
);
create index approval_by_commit on enclii.approval (commit_sha);

-- Runs of the host's own CI, kept before anything waits for them too: the CI may be faster than the push.
create table enclii.ci_run (
    repo_key   text not null,
    sha        text not null,
    kind       text not null,                  -- workflow_run, check_suite, pipeline
    run_id     text not null,
    name       text not null default '',
    status     text not null,
    conclusion text not null default '',
    url        text not null default '',
    attempt    integer not null default 0,
    updated_at timestamptz not null default now(),
    primary key (repo_key, sha, kind, run_id)
) with (fillfactor = 70);
create index ci_run_by_sha on enclii.ci_run (sha);
create index ci_run_age on enclii.ci_run using brin (updated_at);
