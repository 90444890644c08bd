-- What the api is asked for by itself: a commit's deliveries, the last deployment to one environment, a refused
-- delivery by the id that is shown of it.

create index delivery_by_commit on enclii.delivery (commit_sha);
create index deployment_by_environment on enclii.deployment (service_id, environment_id, created_at desc);
create index refused_delivery_by_text_id on enclii.refused_delivery ((id::text));
