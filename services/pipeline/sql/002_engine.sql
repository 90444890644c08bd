-- Retention and a fair queue.

-- When did each project last get a builder? The queue looks at the youngest rows only.
create index build_leased on enclii.build (leased_at) where leased_at is not null;

-- Rows are pruned by age, oldest first. These tables grow at their end only, so a block range index
-- finds the old part and costs nothing to keep.
alter table enclii.build_log add column at timestamptz not null default now();
create index build_log_age on enclii.build_log using brin (at);
create index delivery_age on enclii.delivery using brin (received_at);
create index decision_age on enclii.decision using brin (at);
create index audit_log_age on enclii.audit_log using brin (at);
