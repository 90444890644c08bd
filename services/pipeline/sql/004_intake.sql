-- Intake: what every host delivered, what was refused, and which repository is which.

alter table enclii.delivery
    add column host      text not null default 'github',
    add column event     text not null default 'push',   -- the host's own name of it
    add column action    text not null default '',
    add column recovered boolean not null default false, -- found by a sweep: its webhook never came
    add column push      bytea;                          -- enclii.v1.PushReceived, to be delivered again; without a long list of paths
create index delivery_by_time on enclii.delivery (received_at desc);

-- Refusals are told by `webhook`, a few a second at most, and the oldest go: a stranger fills no disk.
create table enclii.refused_delivery (
    id          uuid primary key,               -- ours
    delivery_id text not null default '',       -- as the sender says
    host        text not null,
    event       text not null default '',
    repo_key    text not null default '',       -- as the sender claims
    status      integer not null,               -- of the answer
    reason      text not null,
    detail      text not null default '',
    peer        text not null default '',
    body_bytes  bigint not null default 0,
    received_at timestamptz not null
);
create index refused_delivery_by_time on enclii.refused_delivery (received_at desc);

-- A repository that services are bound to: the last word of topic enclii.repos.
create table enclii.repo (
    repo_key     text primary key,
    host_repo_id text not null default '',      -- the host's own id; stays when it is renamed
    clone_url    text not null,
    full_name    text not null default '',
    updated_at   timestamptz not null default now()
);
