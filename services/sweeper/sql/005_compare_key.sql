-- The id of a delivery is its host's, and unique within a repository only.

alter table sweeper.compare drop constraint compare_pkey, add primary key (repo_key, delivery_id);
