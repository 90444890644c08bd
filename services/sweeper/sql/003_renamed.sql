-- A repository that was renamed keeps what is known of it: its refs, its webhook's deliveries, what is to be compared.
alter table sweeper.ref drop constraint ref_repo_key_fkey,
    add constraint ref_repo_key_fkey foreign key (repo_key) references sweeper.repo on delete cascade on update cascade;
alter table sweeper.compare drop constraint compare_repo_key_fkey,
    add constraint compare_repo_key_fkey foreign key (repo_key) references sweeper.repo on delete cascade on update cascade;
alter table sweeper.redelivery drop constraint redelivery_hook_key_fkey,
    add constraint redelivery_hook_key_fkey foreign key (hook_key) references sweeper.hook on delete cascade on update cascade;

-- When the host was asked last whether the repository is where it is bound, because its address leads elsewhere.
alter table sweeper.repo add column asked_at timestamptz not null default '-infinity';
