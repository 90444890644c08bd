-- What was last seen of each ref, secrets of single repositories, and pushes that wait for their list of paths.

alter table enclii.repo
    add column sealed_secret          bytea not null default '',  -- webhook secret of its own, sealed for "repo/<sealed_for>"
    add column sealed_previous_secret bytea not null default '',  -- still accepted while it is replaced
    add column sealed_for             text not null default '',   -- '' = repo_key
    add column secret_changed_at      timestamptz,
    add column hook_id                text not null default '',   -- the host's id of our webhook there
    add column hook_url               text not null default '';   -- where it delivers

-- The last commit that was pushed to a ref. `covered`: a sweep brought `sha` before the webhook did; pushes that
-- begin at `covered` are older than what was recovered.
create table enclii.ref (
    repo_key text not null,
    ref      text not null,
    sha      text not null,                    -- all zeros: it was deleted
    covered  text not null default '',
    seen_at  timestamptz not null default now(),
    primary key (repo_key, ref)
) with (fillfactor = 70);
