/* What a transaction tells the others: rows of enclii.outbox (the relay in `pipeline` publishes
 * them in order per key; inserting wakes it), of the audit log, and the bindings of repositories.
 */
#include "api.h"
#include "base/id.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/audit.pb-c.h"
#include "enclii/v1/repo.pb-c.h"

static const char insert_sql[] =
    "insert into enclii.outbox (topic, key, type, subject, event_id, trace, body)"
    " values ($1, $2, $3, $4, $5, $6, $7::bytea)";

static const char *packed(struct ec_arena *arena, const ProtobufCMessage *body)
{
    if (!body) {
        return NULL;
    }
    size_t len = protobuf_c_message_get_packed_size(body);
    uint8_t *bytes = ec_arena_alloc(arena, len + 1);
    protobuf_c_message_pack(body, bytes);
    return ec_bytea_arg(arena, (struct ec_span){(const char *)bytes, len});
}

void outbox_add(struct call *call, struct ec_batch *batch, const struct outbox_row *row)
{
    struct ec_id id = ec_id_new();
    ec_batch_add(batch, insert_sql,
                 ARGS(row->topic, row->key, row->type, row->subject ? row->subject : row->key,
                      row->event_id ? row->event_id : id.text, ec_request_trace(call->req),
                      packed(call->arena, row->body)));
}

void audit_add(struct call *call, struct ec_batch *batch, const struct audit *audit)
{
    audit_add_why(call, batch, audit, "");
}

void audit_add_why(struct call *call, struct ec_batch *batch, const struct audit *audit,
                   const char *why)
{
    struct ec_arena *arena = call->arena;
    struct ec_id id = ec_id_new();
    Enclii__V1__Actor actor = call_actor(call);
    Enclii__V1__AuditRecorded fact = ENCLII__V1__AUDIT_RECORDED__INIT;
    fact.audit_id = id.text;
    fact.actor = &actor;
    fact.action = ec_arena_strdup(arena, audit->action);
    fact.resource_type = ec_arena_strdup(arena, audit->resource_type);
    fact.resource_id = ec_arena_strdup(arena, audit->resource_id);
    fact.resource_name = ec_arena_strdup(arena, audit->resource_name);
    fact.outcome = ec_arena_strdup(arena, audit->outcome ? audit->outcome : "success");
    fact.ip_address = ec_arena_strdup(arena, ec_request_peer(call->req));
    fact.detail = ec_arena_strdup(arena, why);
    ec_batch_add(batch,
                 "insert into enclii.audit_log (id, actor_id, actor_name, action, resource_type,"
                 " resource_id, resource_name, outcome, ip_address, detail)"
                 " values ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                 ARGS(id.text, actor.id, actor.name, fact.action, fact.resource_type,
                      fact.resource_id, fact.resource_name, fact.outcome, fact.ip_address,
                      fact.detail));
    outbox_add(call, batch,
               &(struct outbox_row){.topic = EC_TOPIC_AUDIT,
                                    .key = call->project_id[0] ? call->project_id : "platform",
                                    .type = "dev.enclii.audit.recorded.v1",
                                    .subject = id.text,
                                    .event_id = id.text,
                                    .body = &fact.base});
}

void repo_lock(struct ec_batch *batch, const char *repo_key)
{
    ec_batch_add(batch, "select pg_advisory_xact_lock(hashtextextended('repo/' || $1, 0))",
                 ARGS(repo_key));
}

/* Said again for every further service of the repository: the topic keeps the last word only. But
 * once the pipeline has learned the host's id of it, its word is the fuller one. */
void repo_bind(struct call *call, struct ec_batch *batch, const char *repo_key, const char *url)
{
    const char *slash = strchr(repo_key, '/');
    Enclii__V1__RepoBound fact = ENCLII__V1__REPO_BOUND__INIT;
    fact.repo_key = ec_arena_strdup(call->arena, repo_key);
    fact.clone_url = ec_arena_strdup(call->arena, url);
    fact.full_name = ec_arena_strdup(call->arena, slash ? slash + 1 : repo_key);
    struct ec_id id = ec_id_new();
    ec_batch_add(batch,
                 "insert into enclii.outbox (topic, key, type, subject, event_id, trace, body)"
                 " select $1, $2, $3, $2, $4, $5, $6::bytea where not exists"
                 " (select 1 from enclii.repo where repo_key = $2)",
                 ARGS(EC_TOPIC_REPOS, repo_key, "dev.enclii.repo.bound.v1", id.text,
                      ec_request_trace(call->req), packed(call->arena, &fact.base)));
}

/* After the row change: a tombstone, if no service uses the repository any more. */
void repo_release(struct call *call, struct ec_batch *batch, const char *repo_key)
{
    struct ec_id id = ec_id_new();
    ec_batch_add(batch,
                 "insert into enclii.outbox (topic, key, type, subject, event_id, trace, body)"
                 " select $1, $2, $3, $2, $4, $5, null where not exists"
                 " (select 1 from enclii.service where repo_key = $2 and removed_at is null)",
                 ARGS(EC_TOPIC_REPOS, repo_key, "dev.enclii.repo.bound.v1", id.text,
                      ec_request_trace(call->req)));
    ec_batch_add(batch,
                 "delete from enclii.repo where repo_key = $1 and not exists"
                 " (select 1 from enclii.service where repo_key = $1 and removed_at is null)",
                 ARGS(repo_key));
}
