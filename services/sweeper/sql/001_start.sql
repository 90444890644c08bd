-- Schema sweeper: what was pushed as far as we were told, and what the hosts say. Owned and written by `sweeper`
-- alone.

-- A repository that services are bound to (topic enclii.repos), and the work of looking at it: who has `leased_until`
-- in the future looks, `lease` grows each time, so that one who lost it can be told from one who has it.
create table sweeper.repo (
    repo_key     text primary key,
    clone_url    text not null,
    full_name    text not null default '',
    host_repo_id text not null default '',
    hook_id      text not null default '',
    bound_at     timestamptz not null default now(),
    baselined    boolean not null default false,        -- the refs that were there when it was bound are recorded
    next_at      timestamptz not null default now(),    -- of the next look
    leased_by    text not null default '',
    leased_until timestamptz not null default '-infinity',
    lease        bigint not null default 0,
    looked_at    timestamptz,                           -- last time the host answered
    failures     integer not null default 0,            -- since then
    last_error   text not null default '',
    heard        bigint not null default 0,             -- how many pushes changed one of its refs
    listed       text not null default ''               -- digest of the last listing, when it held nothing odd
) with (fillfactor = 70);
create index repo_due on sweeper.repo (next_at);

-- The last push of each ref that we know of. `odd_*`: the host says something else.
create table sweeper.ref (
    repo_key     text not null references sweeper.repo on delete cascade,
    ref          text not null,
    sha          text not null,                         -- all zeros: it is not there
    changes      bigint not null default 0,             -- how often it changed: part of a recovered push's id
    gap_from     text not null default '',              -- pushes between these two were not told (yet)
    gap_to       text not null default '',
    seen_at      timestamptz not null default now(),
    odd_sha      text,                                  -- what the host says
    odd_at       timestamptz,                           -- since when it says just that
    odd_first_at timestamptz,                           -- since when it says anything else than sha
    lost         boolean not null default false,        -- counted as lost: it could not be brought in for too long
    primary key (repo_key, ref)
) with (fillfactor = 70);

-- A push, as told on the intake topic. One from inside a gap is older than what is known; one that leaves a gap
-- makes it. The same rules as in services/pipeline/decide_news.c, so that both mean the same by "the last push".
create function sweeper.heard(of_repo text, of_ref text, before text, after text, recovered boolean) returns void
language plpgsql as $$
declare
    known sweeper.ref;
    reach text := case when recovered then after else before end;
begin
    -- Whoever changes refs holds their repository first: two who took the rows in turn would block each other.
    perform 1 from sweeper.repo where repo_key = of_repo for no key update;
    if not found then
        return;
    end if;
    select * into known from sweeper.ref where repo_key = of_repo and ref = of_ref for update;
    if not found then
        insert into sweeper.ref (repo_key, ref, sha, changes) values (of_repo, of_ref, after, 1) on conflict do nothing;
    elsif not recovered and known.gap_to <> '' and (before = known.gap_from or after = known.gap_to) then
        if before = known.gap_from then
            known.gap_from := after;
        else
            known.gap_to := before;
        end if;
        if known.gap_from = known.gap_to then
            known.gap_from := '';
            known.gap_to := '';
        end if;
        update sweeper.ref set gap_from = known.gap_from, gap_to = known.gap_to where repo_key = of_repo and ref = of_ref;
        return;
    elsif known.sha = after then
        return;
    else
        update sweeper.ref set sha = after, changes = changes + 1, seen_at = now(),
            gap_from = case when known.sha <> reach then known.sha else '' end,
            gap_to = case when known.sha <> reach then reach else '' end,
            odd_sha = null, odd_at = null, odd_first_at = null, lost = false
            where repo_key = of_repo and ref = of_ref;
    end if;
    update sweeper.repo set heard = heard + 1 where repo_key = of_repo;
end $$;

-- Consumed offsets: part of the transaction of their effects. `at_end_at`: when the partition was last read to its
-- end; what was said before that is known here.
create table sweeper.consumed (
    consumer  text not null,
    topic     text not null,
    partition integer not null,
    next      bigint not null default -1,
    at_end_at timestamptz,
    primary key (consumer, topic, partition)
) with (fillfactor = 50);

-- Pushes whose list of changed paths was cut: it is found out and told.
create table sweeper.compare (
    delivery_id  text primary key,
    repo_key     text not null references sweeper.repo on delete cascade,
    ref          text not null,
    before       text not null,
    after        text not null,
    trace        text not null,
    asked_at     timestamptz not null default now(),
    leased_by    text not null default '',
    leased_until timestamptz not null default '-infinity'
);
create index compare_age on sweeper.compare (asked_at);

-- A webhook whose deliveries the host can list: one per repository, or the App's own ("app") per server.
create table sweeper.hook (
    hook_key     text primary key,                      -- "<repository key>#<hook id>", "<server>#app"
    repo_key     text not null,                         -- whose credentials ask
    hook_id      text not null,
    next_at      timestamptz not null default now(),
    leased_by    text not null default '',
    leased_until timestamptz not null default '-infinity',
    lease        bigint not null default 0,
    etag         text not null default '',
    seen_at      timestamptz not null default '-infinity', -- deliveries up to here were looked at
    failures     integer not null default 0,
    last_error   text not null default ''
) with (fillfactor = 70);
create index hook_due on sweeper.hook (next_at);

-- A delivery that no attempt got through, by the id that all its attempts share.
create table sweeper.redelivery (
    hook_key     text not null references sweeper.hook on delete cascade,
    guid         text not null,
    attempt_id   text not null,                         -- the newest attempt: that one is asked for again
    event        text not null default '',
    status_code  integer not null default 0,
    delivered_at timestamptz not null,                  -- of the newest attempt
    tries        integer not null default 0,            -- how often we asked
    next_try_at  timestamptz not null default now(),
    state        text not null default 'open' check (state in ('open', 'taken', 'refused', 'given_up')),
    counted      boolean not null default false,        -- its push came and was counted as recovered
    updated_at   timestamptz not null default now(),
    primary key (hook_key, guid)
) with (fillfactor = 70);
create index redelivery_guid on sweeper.redelivery (guid);
create index redelivery_age on sweeper.redelivery (updated_at);
