-- What was last seen of each ref, secrets of single repositories, and pushes that wait for their list of paths.

alter table enclii.repo
    add column sealed_secret          bytea not null default '',  -- webhook secret of its own, sealed for "repo/<sealed_for>"
    add column sealed_previous_secret bytea not null default '',  -- still accepted while it is replaced
    add column sealed_for             text not null default '',   -- '' = repo_key
    add column secret_changed_at      timestamptz,
    add column hook_id                text not null default '',   -- the host's id of our webhook there
    add column hook_url               text not null default '';   -- where it delivers

-- The last commit that was pushed to a ref. Pushes from `gap_from` to `gap_to` did not come: one that comes now is
-- older than `sha`. Both empty: none is missing.
create table enclii.ref (
    repo_key text not null,
    ref      text not null,
    sha      text not null,                    -- all zeros: it was deleted
    gap_from text not null default '',
    gap_to   text not null default '',
    seen_at  timestamptz not null default now(),
    primary key (repo_key, ref)
) with (fillfactor = 70);
create index ref_age on enclii.ref using brin (seen_at);

-- A push whose list of paths was cut waits for `sweeper` to find out what it changed.
alter table enclii.delivery
    add column deadline_at timestamptz,
    add column cas         bigint not null default 0;
create index delivery_open on enclii.delivery (repo_key, deadline_at) where deadline_at is not null;
alter table enclii.delivery drop constraint delivery_state_check,
    add constraint delivery_state_check check (state in ('received', 'comparing', 'IGNORED', 'ACCEPTED', 'DUPLICATE'));
