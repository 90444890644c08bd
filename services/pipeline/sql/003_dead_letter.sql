-- Dead letters, kept by `api` (consumer group api-dead) from every topic `*.dead`, until a person decides.

-- A replayed record goes out as it came in: these headers instead of those the bus would make.
alter table enclii.outbox add column headers bytea;
create index outbox_replays on enclii.outbox (id) where headers is not null;

create table enclii.dead_letter (
    id             uuid primary key,              -- UUIDv5 of group, topic, partition, offset: written twice is one row
    consumer_group text not null,                 -- who gave it up
    topic          text not null,                 -- where it was
    partition      integer not null,
    position       bigint not null,               -- its offset there
    reason         text not null,
    event_id       text not null default '',      -- "" where the record had none
    event_type     text not null default '',
    subject        text not null default '',
    trace          text not null default '',
    event_at       timestamptz,
    dead_at        timestamptz not null,
    key            bytea,                         -- null: it had none
    headers        bytea not null,                -- as they came, packed (bus/bus.h)
    value          bytea,                         -- null: a tombstone, or left out
    left_out_bytes bigint not null default 0,     -- > 0: the value was too large to be kept
    state          text not null default 'open' check (state in ('open', 'REPLAYED', 'DISCARDED')),
    settled_at     timestamptz,
    settled_by     text not null default '',
    settled_why    text not null default '',
    constraint dead_letter_settled check ((state = 'open') = (settled_at is null))
);
create index dead_letter_open on enclii.dead_letter (dead_at desc) where state = 'open';
create index dead_letter_by_time on enclii.dead_letter (dead_at desc);
create index dead_letter_settled_age on enclii.dead_letter (settled_at) where settled_at is not null;
