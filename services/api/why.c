/* GET /v1/services/{id}/why: reads the chain of the last push (or of ?commit=), lets decide_why
 * name the one rule that holds it, and shows every stage with the decisions kept about it. */
#include <string.h>

#include "api.h"
#include "base/mem.h"
#include "decide_why.h"

#define SINCE_MS(columns) "(extract(epoch from now() - coalesce(" columns ")) * 1000)::bigint"

/* The newest delivery that concerns this service, unless a later build did not come from a push. */
static const char delivery_sql[] =
    "select d.id, d.state, d.reason, d.detail, d.ref, d.commit_sha, " TIME(
        "d.received_at",
        "at") ", (extract(epoch from d.received_at) * 1000)::bigint as ms"
              " from enclii.delivery d join enclii.service s on s.repo_key = d.repo_key"
              " where s.id = $1::uuid and ($2 = '' or d.commit_sha = $2)"
              " and d.received_at >= s.created_at - interval '1 day'"
              " order by d.received_at desc limit 1";

static const char build_sql[] =
    "select b.id, b.state, b.reason, b.detail, b.commit_sha, "
    "b.builder_id, b.attempt, b.delivery_id,"
    " " SINCE_MS("b.finished_at, b.started_at, b.leased_at, "
                 "b.queued_at") " as since_ms,"
                                " " TIME("b.queued_at", "at") ", (extract(epoch from "
                                                              "b.queued_at) * "
                                                              "1000)::bigint as ms,"
                                                              " (select count(*) from "
                                                              "enclii.build o where "
                                                              "o.state = 'queued' and "
                                                              "b.state = 'queued'"
                                                              "   and (o.priority > "
                                                              "b.priority or (o.priority = "
                                                              "b.priority and o.queued_at "
                                                              "< b.queued_at)))"
                                                              "   as ahead,"
                                                              " (select count(*) from "
                                                              "enclii.builder where "
                                                              "heard_at > now() - interval "
                                                              "'10 s') as builders"
                                                              " from enclii.build b where "
                                                              "b.service_id = $1::uuid and "
                                                              "($2 = '' or b.commit_sha = "
                                                              "$2)"
                                                              " order by b.number desc "
                                                              "limit 1";

static const char release_sql[] =
    "select r.id, r.state, r.reason, r.detail, r.version,"
    " " SINCE_MS("r.ready_at, r.created_at") " as since_ms, " TIME(
        "r.created_at",
        "at") " from enclii.release r join (select id from enclii.build where service_id = $1::uuid"
              "  and ($2 = '' or commit_sha = $2) order by number desc limit 1) b on b.id = "
              "r.build_id";

static const char deployment_sql[] =
    "select x.id, x.state, x.reason, x.detail, r.version, e.name as environment, x.weight,"
    " " SINCE_MS("x.finished_at, x.created_at") " as since_ms, " TIME(
        "x.created_at",
        "at") " from enclii.deployment x join enclii.release r on r.id = x.release_id"
              " join enclii.environment e on e.id = x.environment_id"
              " where r.build_id = (select id from enclii.build where service_id = $1::uuid"
              "  and ($2 = '' or commit_sha = $2) order by number desc limit 1)"
              " order by x.created_at desc limit 1";

static const char domain_sql[] = "select d.hostname as id, d.state, d.reason, d.detail, " TIME(
    "d.updated_at", "at") " from enclii.domain d where d.service_id = $1::uuid and d.state not in "
                          "('ACTIVE', 'renewing')"
                          " order by d.created_at limit 1";

static const char service_sql[] =
    "select repo_key, branch, auto_deploy from enclii.service where id = $1::uuid";

static const char decision_sql[] = "select subject_kind, subject_id, rule, outcome, detail, " TIME(
    "at", "time") " from enclii.decision where service_id = $1::uuid order by id desc limit 30";

enum { DELIVERY, BUILD, RELEASE, DEPLOYMENT, DOMAIN, SERVICE, DECISIONS };

/* A build of later date that no push began (somebody asked for it) makes the delivery history. */
static bool delivery_is_newest(const struct ec_rows *delivery, const struct ec_rows *build)
{
    if (ec_rows_count(delivery) == 0 || ec_rows_count(build) == 0) {
        return ec_rows_count(delivery) > 0;
    }
    return strcmp(ec_rows_text(delivery, 0, "id"), ec_rows_text(build, 0, "delivery_id")) == 0 ||
           ec_rows_int(delivery, 0, "ms") > ec_rows_int(build, 0, "ms");
}

/* An accepted push whose build is not there yet: what an older build did is not the answer. */
static bool build_is_of_delivery(const struct ec_rows *delivery, const struct ec_rows *build)
{
    return strcmp(ec_rows_text(delivery, 0, "id"), ec_rows_text(build, 0, "delivery_id")) == 0;
}

static void read_facts(const struct ec_batch *batch, struct why_facts *f)
{
    const struct ec_rows *d = ec_batch_rows(batch, DELIVERY), *b = ec_batch_rows(batch, BUILD);
    const struct ec_rows *r = ec_batch_rows(batch, RELEASE), *x = ec_batch_rows(batch, DEPLOYMENT);
    const struct ec_rows *n = ec_batch_rows(batch, DOMAIN), *s = ec_batch_rows(batch, SERVICE);
    f->repo_key = ec_rows_text(s, 0, "repo_key");
    f->branch = ec_rows_text(s, 0, "branch");
    f->deployment.auto_deploy = ec_rows_bool(s, 0, "auto_deploy");
    bool newest = delivery_is_newest(d, b);
    size_t push = newest ? 0 : 1; /* row 1 does not exist: everything reads as empty */
    f->delivery.id = ec_rows_text(d, push, "id");
    f->delivery.state = ec_rows_text(d, push, "state");
    f->delivery.reason = ec_rows_text(d, push, "reason");
    f->delivery.detail = ec_rows_text(d, push, "detail");
    f->delivery.ref = ec_rows_text(d, push, "ref");
    f->delivery.commit_sha = ec_rows_text(d, push, "commit_sha");
    size_t row = newest && !build_is_of_delivery(d, b) ? 1 : 0;
    f->build.id = ec_rows_text(b, row, "id");
    f->build.state = ec_rows_text(b, row, "state");
    f->build.reason = ec_rows_text(b, row, "reason");
    f->build.detail = ec_rows_text(b, row, "detail");
    f->build.commit_sha = ec_rows_text(b, row, "commit_sha");
    f->build.builder_id = ec_rows_text(b, row, "builder_id");
    f->build.attempt = ec_rows_int(b, row, "attempt");
    f->build.ahead = ec_rows_int(b, row, "ahead");
    f->build.since_ms = ec_rows_int(b, row, "since_ms");
    f->build.builders = ec_rows_int(b, row, "builders");
    f->release.id = ec_rows_text(r, row, "id");
    f->release.state = ec_rows_text(r, row, "state");
    f->release.reason = ec_rows_text(r, row, "reason");
    f->release.detail = ec_rows_text(r, row, "detail");
    f->release.version = ec_rows_text(r, row, "version");
    f->release.since_ms = ec_rows_int(r, row, "since_ms");
    f->deployment.id = ec_rows_text(x, row, "id");
    f->deployment.state = ec_rows_text(x, row, "state");
    f->deployment.reason = ec_rows_text(x, row, "reason");
    f->deployment.detail = ec_rows_text(x, row, "detail");
    f->deployment.version = ec_rows_text(x, row, "version");
    f->deployment.environment = ec_rows_text(x, row, "environment");
    f->deployment.weight = ec_rows_int(x, row, "weight");
    f->deployment.since_ms = ec_rows_int(x, row, "since_ms");
    f->domain.hostname = ec_rows_text(n, 0, "id");
    f->domain.state = ec_rows_text(n, 0, "state");
    f->domain.reason = ec_rows_text(n, 0, "reason");
    f->domain.detail = ec_rows_text(n, 0, "detail");
}

static json_t *stages(const struct ec_batch *batch)
{
    static const char *const names[] = {"delivery", "build", "release", "deployment", "domain"};
    json_t *list = json_array();
    for (size_t i = 0; i < EC_LEN(names); i++) {
        const struct ec_rows *rows = ec_batch_rows(batch, i);
        if (ec_rows_count(rows)) {
            json_t *stage = render_row(rows, 0, "id state ?reason ?detail at");
            json_object_set_new(stage, "stage", json_string(names[i]));
            json_array_append_new(list, stage);
        }
    }
    return list;
}

static void on_facts(struct call *call, const struct ec_batch *batch)
{
    struct why_facts facts = {0};
    struct why why;
    read_facts(batch, &facts);
    decide_why(&facts, call->arena, &why);
    call_reply(call, 200,
               json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:o}", "service_id", call->service_id,
                         "service", call->service_name, "stage", why.stage, "rule", why.rule,
                         "summary", why.sentence, "waiting", why.waiting, "stages", stages(batch),
                         "decisions",
                         render_list(ec_batch_rows(batch, DECISIONS),
                                     "subject_kind subject_id rule outcome detail time")));
}

void on_service_why(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *commit = ec_request_query(req, "commit");
    commit = commit ? commit : "";
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, delivery_sql, ARGS(call->service_id, commit));
    ec_batch_add(batch, build_sql, ARGS(call->service_id, commit));
    ec_batch_add(batch, release_sql, ARGS(call->service_id, commit));
    ec_batch_add(batch, deployment_sql, ARGS(call->service_id, commit));
    ec_batch_add(batch, domain_sql, ARGS(call->service_id));
    ec_batch_add(batch, service_sql, ARGS(call->service_id));
    ec_batch_add(batch, decision_sql, ARGS(call->service_id));
    call_read(call, batch, on_facts);
}
