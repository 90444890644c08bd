-- A builder that is lost is no failure of the build: counted apart.

alter table enclii.build
    add column losses integer not null default 0; -- of its attempts, those that a builder lost or gave back
