-- Schema history: every event of the topics of facts, once, for as long as the retention says. Owned and
-- written by `history` alone, read by `api`. One partition per month of the event's own time (UTC), made
-- ahead and dropped whole, so that forgetting costs no more than removing a file.

create table history.event (
    at         timestamptz not null,             -- ce_time
    topic      text not null,                    -- where it stands in Kafka: its identity here, so that
    partition  integer not null,                 -- reading a topic again changes nothing
    position   bigint not null,
    seq        bigint not null,                  -- order of storing: pages go by (at, seq)
    id         text not null,                    -- ce_id
    type       text not null,                    -- "dev.enclii.build.queued.v1"
    subject    text not null,
    key        text not null,
    trace      text not null,                    -- 32 hex digits: the correlation id, born at the webhook
    project_id uuid,
    service_id uuid,
    repo_key   text,
    about      text[] not null,                  -- ids of all it speaks of: build, release, commit ..., and its trace
    body       jsonb,                            -- null: a tombstone, an unknown type, or larger than 64 KiB
    raw        bytea,                            -- the packed message; null when larger than 16 KiB
    raw_bytes  integer not null,
    primary key (at, topic, partition, position)
) partition by range (at);
create sequence history.event_seq owned by history.event.seq;
alter table history.event alter column seq set default nextval('history.event_seq');
create index event_about on history.event using gin (about);
create index event_service on history.event (service_id, at desc, seq desc) where service_id is not null;
create index event_repo on history.event (repo_key, at desc, seq desc) where repo_key is not null;
create index event_type on history.event (type, at desc, seq desc);

-- Consumed offsets: part of the transaction of the rows.
create table history.consumed (
    consumer  text not null,
    topic     text not null,
    partition integer not null,
    next      bigint not null,
    primary key (consumer, topic, partition)
) with (fillfactor = 50);

create view history.months as
    select c.relname as name, to_date(substring(c.relname from 'event_(\d{4}_\d{2})'), 'YYYY_MM') as first
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'history.event'::regclass;

-- Attaching (not `create ... partition of`) lets readers and writers go on meanwhile.
create function history.make_month(first date) returns boolean language plpgsql as $$
declare
    name text := to_char(first, '"event_"YYYY_MM');
begin
    if to_regclass('history.' || name) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('history.months', 0));
    if to_regclass('history.' || name) is not null then
        return false;
    end if;
    execute format('create table history.%I (like history.event including defaults)', name);
    execute format('alter table history.event attach partition history.%I for values from (%L) to (%L)', name,
                   first::timestamp at time zone 'utc',
                   (first + interval '1 month')::timestamp at time zone 'utc');
    return true;
end $$;

-- Waits for readers at most two seconds, so that nobody queues behind it: the next hour tries again.
create function history.drop_month(first date) returns void language plpgsql set lock_timeout = '2s' as $$
begin
    execute format('drop table if exists history.%I', to_char(first, '"event_"YYYY_MM'));
end $$;
