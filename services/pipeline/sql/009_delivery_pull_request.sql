-- Of which pull request a delivery told the head: while it waits for the list of what that changes.

alter table enclii.delivery
    add column pull_request integer not null default 0; -- 0: it told of none
