/* Why things are as they are. GET /v1/services/{id}/why (of the last push, or ?commit=) and GET
 * /v1/why/{id} (a commit, delivery, build, release or deployment, for every service it concerns)
 * read the chain of one push, let decide_why name the one rule that holds it, and show every stage
 * with the decisions kept about it. */
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "decide_why.h"

#define SERVICES_MAX 50 /* of one answer */

/* What is asked about: a service, and which of its pushes; "" = not narrowed. */
struct why_ask {
    const char *service_id, *service;
    const char *commit, *delivery, *build;
};

/* A service is as its last push is; pull requests are asked about by commit, build or delivery. */
#define OF_PULL(row) "(" row ".event ilike 'pull%request%' or " row ".event = 'Merge Request Hook')"

/* All of them take $1 service, $2 commit, $3 delivery ("-" = none), $4 build. */
static const char delivery_sql[] =
    "select d.id, d.state, d.reason, d.detail, d.ref, d.commit_sha, d.event, "
    "enclii.ms(d.received_at) as ms,"
    " coalesce(c.rule, '') as rule, coalesce(c.detail, '') as rule_detail"
    " from enclii.service s join enclii.delivery d on d.repo_key = s.repo_key"
    " left join lateral (select rule, detail from enclii.decision c where c.service_id = s.id"
    "  and c.subject_kind = 'delivery' and c.subject_id = d.id and c.outcome = 'not built'"
    "  order by c.id desc limit 1) c on true"
    " where s.id = $1::uuid and ($2 = '' or d.commit_sha = $2) and ($3 = '' or d.id = $3)"
    " and $4 = $4 and d.commit_sha <> '' and ($2 <> '' or $3 <> '' or not " OF_PULL(
        "d") ")"
             " and ($3 <> '' or d.received_at >= s.created_at - interval "
             "'1 day')"
             " order by d.received_at desc limit 1";

#define NEWEST_BUILD                                                                               \
    "(select id from enclii.build where service_id = $1::uuid and ($2 = '' or commit_sha = $2)"    \
    " and ($3 in ('', '-') or delivery_id = $3) and ($4 = '' or id = nullif($4, '')::uuid)"        \
    " and (pull_request = 0 or $2 <> '' or $3 <> '' or $4 <> '')"                                  \
    " order by number desc limit 1)"

static const char build_sql[] =
    "select b.id, b.state, b.reason, b.detail, b.commit_sha, b.builder_id, b.attempt,"
    " b.losses,"
    " b.pull_request, b.trusted, b.author, b.approved_by,"
    " b.delivery_id, enclii.ms(b.queued_at) as ms, enclii.ms(b.deadline_at) as deadline_ms,"
    " enclii.ms(coalesce(b.finished_at, b.started_at, b.leased_at, b.queued_at)) as since_at_ms,"
    " (select count(*) from enclii.build o where o.state = 'queued' and b.state = 'queued'"
    "   and (o.priority > b.priority or (o.priority = b.priority and o.queued_at < b.queued_at)))"
    "   as ahead,"
    " (select count(*) from enclii.build o where o.state in ('leased', 'running')) as busy_slots,"
    " a.builders, a.slots"
    " from enclii.build b cross join lateral (select count(*) as builders,"
    "   coalesce(sum(slots) filter (where not draining), 0) as slots from enclii.builder"
    "   where heard_at > now() - interval '10 s' and (b.trusted or not trusted_only)) a"
    " where b.id = " NEWEST_BUILD;

static const char release_sql[] =
    "select r.id, r.state, r.reason, r.detail, r.version, enclii.ms(r.created_at) as ms,"
    " enclii.ms(coalesce(r.ready_at, r.created_at)) as since_at_ms,"
    " enclii.ms(r.deadline_at) as deadline_ms,"
    " coalesce(c.rule, '') as rule, coalesce(c.detail, '') as rule_detail"
    " from enclii.release r left join lateral (select rule, detail from enclii.decision c"
    "  where c.subject_kind = 'release' and c.subject_id = r.id::text"
    "  and c.outcome = 'not deployed' order by c.id desc limit 1) c on true"
    " where r.build_id = " NEWEST_BUILD;

static const char deployment_sql[] =
    "select x.id, x.state, x.reason, x.detail, r.version, e.name as environment, x.weight,"
    " enclii.ms(x.created_at) as ms, enclii.ms(coalesce(x.finished_at, x.created_at))"
    "  as since_at_ms, enclii.ms(x.deadline_at) as deadline_ms,"
    " coalesce((select g.version from enclii.desired w join enclii.release g"
    "  on g.id = w.good_release_id where w.service_id = x.service_id"
    "  and w.environment_id = x.environment_id), '') as serving"
    " from enclii.deployment x join enclii.release r on r.id = x.release_id"
    " join enclii.environment e on e.id = x.environment_id"
    " where r.build_id = " NEWEST_BUILD " order by x.created_at desc limit 1";

static const char domain_sql[] =
    "select d.hostname as id, d.state, d.reason, d.detail, enclii.ms(d.updated_at) as ms,"
    " enclii.ms(d.deadline_at) as deadline_ms from enclii.domain d where d.service_id = $1::uuid"
    " and d.state not in ('ACTIVE', 'renewing') and $2 = $2 and $3 = $3 and $4 = $4"
    " order by d.created_at limit 1";

static const char service_sql[] = "select repo_key, branch, auto_deploy from enclii.service"
                                  " where id = $1::uuid and $2 = $2 and $3 = $3 and $4 = $4";

/* Of the service; when a push is asked about, of that push. */
static const char decision_sql[] =
    "with b as " NEWEST_BUILD ", subject (kind, id) as ("
    "  select 'build', id::text from b union select 'delivery', $3 union"
    "  select 'delivery', delivery_id from enclii.build where id in (select id from b) union"
    "  select 'delivery', id from enclii.delivery where $2 <> '' and commit_sha = $2 union"
    "  select 'release', id::text from enclii.release where build_id in (select id from b) union"
    "  select 'deployment', x.id::text from enclii.deployment x join enclii.release r"
    "   on r.id = x.release_id where r.build_id in (select id from b)),"
    " said as ((select * from enclii.decision where service_id = $1::uuid and $2 = ''"
    "   and $3 = '' and $4 = '' order by id desc limit 30)"
    "  union all select d.* from subject s cross join lateral (select * from enclii.decision c"
    "   where c.subject_kind = s.kind and c.subject_id = s.id and ($2 <> '' or $3 <> '' or $4 <> "
    "'')"
    "   and (c.service_id = $1::uuid or c.service_id is null) order by c.id desc limit 30) d)"
    " select subject_kind, subject_id, rule, outcome, detail, enclii.ms(at) as ms from said"
    " order by id desc limit 30";

enum { DELIVERY, BUILD, RELEASE, DEPLOYMENT, DOMAIN, SERVICE, DECISIONS, QUESTIONS };

static const char *const questions[QUESTIONS] = {
    [DELIVERY] = delivery_sql,     [BUILD] = build_sql,   [RELEASE] = release_sql,
    [DEPLOYMENT] = deployment_sql, [DOMAIN] = domain_sql, [SERVICE] = service_sql,
    [DECISIONS] = decision_sql,
};

static void ask_all(struct ec_batch *batch, const struct why_ask *ask)
{
    for (size_t i = 0; i < QUESTIONS; i++) {
        ec_batch_add(batch, questions[i],
                     ARGS(ask->service_id, ask->commit, ask->delivery, ask->build));
    }
}

/* ---- rows to facts ---- */

/* The answers about one service: QUESTIONS of them from `first`; row 0 of the batch is PLAN_ANEW's.
 */
struct chain {
    const struct ec_rows *rows[QUESTIONS];
    size_t push, build; /* row numbers; 1 does not exist: everything reads as empty */
    int64_t now_ms;
};

/* A build of later date that no push began (somebody asked for it) makes the delivery history; an
 * accepted push whose build is not there yet makes an older build history. */
static void read_chain(const struct ec_batch *batch, size_t first, struct chain *chain)
{
    for (size_t i = 0; i < QUESTIONS; i++) {
        chain->rows[i] = ec_batch_rows(batch, first + i);
    }
    const struct ec_rows *d = chain->rows[DELIVERY], *b = chain->rows[BUILD];
    bool both = ec_rows_count(d) > 0 && ec_rows_count(b) > 0;
    bool same = both && strcmp(ec_rows_text(d, 0, "id"), ec_rows_text(b, 0, "delivery_id")) == 0;
    bool newest = !both || same || ec_rows_int(d, 0, "ms") > ec_rows_int(b, 0, "ms");
    chain->push = newest ? 0 : 1;
    chain->build = both && newest && !same ? 1 : 0;
    chain->now_ms = ec_unix_ms();
}

static int64_t left_ms(const struct chain *chain, const struct ec_rows *rows, size_t row)
{
    int64_t deadline = ec_rows_int(rows, row, "deadline_ms");
    return deadline > 0 ? deadline - chain->now_ms : 0;
}

static void read_push(const struct chain *chain, struct why_facts *f)
{
    const struct ec_rows *d = chain->rows[DELIVERY], *b = chain->rows[BUILD];
    size_t row = chain->push;
    f->delivery.id = ec_rows_text(d, row, "id");
    f->delivery.state = ec_rows_text(d, row, "state");
    f->delivery.reason = ec_rows_text(d, row, "reason");
    f->delivery.detail = ec_rows_text(d, row, "detail");
    f->delivery.ref = ec_rows_text(d, row, "ref");
    f->delivery.commit_sha = ec_rows_text(d, row, "commit_sha");
    f->delivery.event = ec_rows_text(d, row, "event");
    f->delivery.rule = ec_rows_text(d, row, "rule");
    f->delivery.rule_detail = ec_rows_text(d, row, "rule_detail");
    row = chain->build;
    f->build.id = ec_rows_text(b, row, "id");
    f->build.state = ec_rows_text(b, row, "state");
    f->build.reason = ec_rows_text(b, row, "reason");
    f->build.detail = ec_rows_text(b, row, "detail");
    f->build.commit_sha = ec_rows_text(b, row, "commit_sha");
    f->build.builder_id = ec_rows_text(b, row, "builder_id");
    f->build.pull_request = ec_rows_int(b, row, "pull_request");
    f->build.untrusted = f->build.pull_request > 0 && !ec_rows_bool(b, row, "trusted");
    f->build.author = ec_rows_text(b, row, "author");
    f->build.approved_by = ec_rows_text(b, row, "approved_by");
    f->build.attempt = ec_rows_int(b, row, "attempt");
    f->build.losses = ec_rows_int(b, row, "losses");
    f->build.ahead = ec_rows_int(b, row, "ahead");
    f->build.since_ms = chain->now_ms - ec_rows_int(b, row, "since_at_ms");
    f->build.left_ms = left_ms(chain, b, row);
    f->build.builders = ec_rows_int(b, row, "builders");
    f->build.slots = ec_rows_int(b, row, "slots");
    f->build.busy_slots = ec_rows_int(b, row, "busy_slots");
}

static void read_facts(const struct chain *chain, struct why_facts *f)
{
    const struct ec_rows *r = chain->rows[RELEASE], *x = chain->rows[DEPLOYMENT];
    const struct ec_rows *n = chain->rows[DOMAIN], *s = chain->rows[SERVICE];
    size_t row = chain->build;
    f->repo_key = ec_rows_text(s, 0, "repo_key");
    f->branch = ec_rows_text(s, 0, "branch");
    f->auto_deploy = ec_rows_bool(s, 0, "auto_deploy");
    read_push(chain, f);
    f->release.id = ec_rows_text(r, row, "id");
    f->release.state = ec_rows_text(r, row, "state");
    f->release.reason = ec_rows_text(r, row, "reason");
    f->release.detail = ec_rows_text(r, row, "detail");
    f->release.version = ec_rows_text(r, row, "version");
    f->release.rule = ec_rows_text(r, row, "rule");
    f->release.rule_detail = ec_rows_text(r, row, "rule_detail");
    f->release.since_ms = chain->now_ms - ec_rows_int(r, row, "since_at_ms");
    f->release.left_ms = left_ms(chain, r, row);
    f->deployment.id = ec_rows_text(x, row, "id");
    f->deployment.state = ec_rows_text(x, row, "state");
    f->deployment.reason = ec_rows_text(x, row, "reason");
    f->deployment.detail = ec_rows_text(x, row, "detail");
    f->deployment.version = ec_rows_text(x, row, "version");
    f->deployment.environment = ec_rows_text(x, row, "environment");
    f->deployment.serving = ec_rows_text(x, row, "serving");
    f->deployment.weight = ec_rows_int(x, row, "weight");
    f->deployment.since_ms = chain->now_ms - ec_rows_int(x, row, "since_at_ms");
    f->deployment.left_ms = left_ms(chain, x, row);
    f->domain.hostname = ec_rows_text(n, 0, "id");
    f->domain.state = ec_rows_text(n, 0, "state");
    f->domain.reason = ec_rows_text(n, 0, "reason");
    f->domain.detail = ec_rows_text(n, 0, "detail");
    f->domain.left_ms = left_ms(chain, n, 0);
}

/* ---- facts to JSON ---- */

static void set_time(json_t *object, const char *name, int64_t unix_ms)
{
    char text[EC_RFC3339_SIZE] = "";
    if (unix_ms > 0) {
        ec_rfc3339(unix_ms, text);
    }
    json_object_set_new(object, name, json_string(text));
}

static json_t *stages_json(const struct chain *chain)
{
    static const char *const names[] = {"delivery", "build", "release", "deployment", "domain"};
    json_t *list = json_array();
    for (size_t i = 0; i < EC_LEN(names); i++) {
        const struct ec_rows *rows = chain->rows[i];
        size_t row = i == DELIVERY ? chain->push : i == DOMAIN ? 0 : chain->build;
        if (row < ec_rows_count(rows)) {
            json_t *stage = render_row(rows, row, "id state ?reason ?detail");
            set_time(stage, "at", ec_rows_int(rows, row, "ms"));
            json_object_set_new(stage, "stage", json_string(names[i]));
            json_array_append_new(list, stage);
        }
    }
    return list;
}

static json_t *decisions_json(const struct ec_rows *rows)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ec_rows_count(rows); i++) {
        json_t *item = render_row(rows, i, "subject_kind subject_id rule outcome detail");
        const struct why_rule *rule = why_rule_find(ec_rows_text(rows, i, "rule"));
        if (rule) {
            json_object_set_new(item, "means", json_string(rule->means));
        }
        set_time(item, "time", ec_rows_int(rows, i, "ms"));
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *why_json(const struct why *why)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:s}", "stage", why->stage, "rule", why->rule, "summary",
                     why->sentence, "waiting", why->waiting, "next", why->next);
}

static json_t *answer_json(struct call *call, const struct ec_batch *batch, size_t first,
                           const struct why_ask *ask)
{
    struct why_facts facts = {0};
    struct chain chain;
    struct why why;
    read_chain(batch, first, &chain);
    read_facts(&chain, &facts);
    decide_why(&facts, call->arena, &why);
    json_t *answer = why_json(&why);
    json_object_set_new(answer, "service_id", json_string(ask->service_id));
    json_object_set_new(answer, "service", json_string(ask->service));
    json_object_set_new(answer, "stages", stages_json(&chain));
    json_object_set_new(answer, "decisions", decisions_json(chain.rows[DECISIONS]));
    return answer;
}

/* ---- GET /v1/services/{id}/why ---- */

static void on_service_facts(struct call *call, const struct ec_batch *batch)
{
    struct why_ask ask = {.service_id = call->service_id, .service = call->service_name};
    call_reply(call, 200, answer_json(call, batch, 1, &ask));
}

void on_service_why(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *commit = ec_request_query(req, "commit");
    struct why_ask ask = {call->service_id, call->service_name, commit ? commit : "", "", ""};
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ask_all(batch, &ask);
    call_read(call, batch, on_service_facts);
}

/* ---- GET /v1/why/{id} ---- */

/* What $1 names, for each service it concerns; $2 scope, $3 a UUID or null, $4 and $5 the range of
 * commits that begin with it. Rank: the kinds in the order of their exactness. A delivery that
 * concerns no service gives one row without one. */
static const char what_sql[] =
    "with mine as not materialized (select s.id, s.name, s.repo_key, p.slug, s.removed_at from "
    "enclii.service s"
    "  join enclii.project p on p.id = s.project_id where $2 = '' or s.project_id::text = $2),"
    " one as ("
    "  select 'build' as kind, b.* from enclii.build b where b.id = $3::uuid union all"
    "  select 'release', b.* from enclii.release r join enclii.build b on b.id = r.build_id"
    "   where r.id = $3::uuid union all"
    "  select 'deployment', b.* from enclii.deployment d join enclii.release r"
    "   on r.id = d.release_id join enclii.build b on b.id = r.build_id where d.id = $3::uuid),"
    " seen as (select commit_sha, queued_at as at from enclii.build where commit_sha >= $4"
    "   and commit_sha < $5 union all select commit_sha, received_at from enclii.delivery"
    "   where commit_sha >= $4 and commit_sha < $5),"
    " sha as (select commit_sha from seen order by at desc limit 1),"
    " concerned as (select b.service_id as id from sha join enclii.build b"
    "   on b.commit_sha = sha.commit_sha union select s.id from sha join enclii.delivery d"
    "   on d.commit_sha = sha.commit_sha join enclii.service s on s.repo_key = d.repo_key"
    "   and s.removed_at is null)"
    " select 1 as rank, one.kind, mine.id::text as service_id, slug || '/' || name as service,"
    "  commit_sha, coalesce(nullif(delivery_id, ''), '-') as delivery, one.id::text as build"
    "  from one join mine on mine.id = one.service_id"
    " union all"
    " select 2, 'delivery', coalesce(mine.id::text, ''), coalesce(slug || '/' || name, ''),"
    "  d.commit_sha, d.id, '' from enclii.delivery d left join mine on mine.repo_key = d.repo_key"
    "  and removed_at is null and d.commit_sha <> ''"
    "  where d.id = $1 and ($2 = '' or d.repo_key in (select repo_key from mine))"
    " union all"
    " select 3, 'commit', mine.id::text, slug || '/' || name, sha.commit_sha, '', ''"
    "  from sha cross join concerned join mine on mine.id = concerned.id and removed_at is null"
    " union all"
    " (select 4, 'commit', '', '', d.commit_sha, d.id, '' from enclii.delivery d join sha"
    "  on sha.commit_sha = d.commit_sha where $2 = '' order by d.received_at desc limit 1)"
    " order by rank, service limit 50";

static const char lone_delivery_sql[] =
    "select id, repo_key, state, reason, detail, ref, commit_sha, event from enclii.delivery"
    " where id = $1";
static const char lone_decision_sql[] =
    "select subject_kind, subject_id, rule, outcome, detail, enclii.ms(at) as ms"
    " from enclii.decision where subject_kind = 'delivery' and subject_id = $1"
    " order by id desc limit 30";

struct why_asks {
    const char *kind;
    size_t count;
    struct why_ask asks[SERVICES_MAX];
};

static void reply_answers(struct call *call, json_t *answers)
{
    const struct why_asks *all = call->more;
    call_reply(call, 200,
               json_pack("{s:s, s:s, s:s, s:o}", "id", ec_request_param(call->req, "id"), "kind",
                         all->kind, "commit", all->asks[0].commit, "answers", answers));
}

static void on_all_facts(struct call *call, const struct ec_batch *batch)
{
    const struct why_asks *all = call->more;
    json_t *answers = json_array();
    for (size_t i = 0; i < all->count; i++) {
        json_array_append_new(answers, answer_json(call, batch, 1 + i * QUESTIONS, &all->asks[i]));
    }
    reply_answers(call, answers);
}

/* A push to a repository without services: the delivery itself says why. */
static void on_lone_delivery(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *d = ec_batch_rows(batch, 0);
    struct why_facts facts = {
        .repo_key = ec_rows_text(d, 0, "repo_key"),
        .branch = "",
        .delivery = {.id = ec_rows_text(d, 0, "id"),
                     .state = ec_rows_text(d, 0, "state"),
                     .reason = ec_rows_text(d, 0, "reason"),
                     .detail = ec_rows_text(d, 0, "detail"),
                     .ref = ec_rows_text(d, 0, "ref"),
                     .commit_sha = ec_rows_text(d, 0, "commit_sha"),
                     .event = ec_rows_text(d, 0, "event"),
                     .rule = "",
                     .rule_detail = ""},
        .build = {.id = "", .state = "", .author = "", .approved_by = ""},
        .release = {.state = ""},
        .deployment = {.id = "", .state = "", .version = "", .serving = ""},
        .domain = {.hostname = ""},
    };
    struct why why;
    decide_why(&facts, call->arena, &why);
    json_t *answer = why_json(&why);
    json_object_set_new(answer, "service_id", json_string(""));
    json_object_set_new(answer, "service", json_string(""));
    json_object_set_new(answer, "stages", json_array());
    json_object_set_new(answer, "decisions", decisions_json(ec_batch_rows(batch, 1)));
    json_t *answers = json_array();
    json_array_append_new(answers, answer);
    reply_answers(call, answers);
}

static void read_asks(struct call *call, const struct ec_rows *rows, struct why_asks *ret_all)
{
    struct ec_arena *arena = call->arena;
    ret_all->kind = ec_arena_strdup(arena, ec_rows_text(rows, 0, "kind"));
    for (size_t i = 0; i < ec_rows_count(rows) && i < SERVICES_MAX; i++) {
        if (ec_rows_int(rows, i, "rank") != ec_rows_int(rows, 0, "rank")) {
            break;
        }
        ret_all->asks[ret_all->count++] = (struct why_ask){
            .service_id = ec_arena_strdup(arena, ec_rows_text(rows, i, "service_id")),
            .service = ec_arena_strdup(arena, ec_rows_text(rows, i, "service")),
            .commit = ec_arena_strdup(arena, ec_rows_text(rows, i, "commit_sha")),
            .delivery = ec_arena_strdup(arena, ec_rows_text(rows, i, "delivery")),
            .build = ec_arena_strdup(arena, ec_rows_text(rows, i, "build")),
        };
    }
}

static void on_what(struct call *call, const struct ec_batch *answers)
{
    const struct ec_rows *rows = ec_batch_rows(answers, 1);
    if (ec_rows_count(rows) == 0) {
        call_problem(call, 404, "not_found", "id",
                     "there is no such commit, delivery, build, release or deployment, or your "
                     "token is for another project; a commit needs at least 7 digits");
        return;
    }
    struct why_asks *all = ec_arena_alloc(call->arena, sizeof *all);
    struct ec_batch *batch = ec_batch_new(call->api->store);
    read_asks(call, rows, all);
    call->more = all;
    if (!all->asks[0].service_id[0]) {
        ec_batch_add(batch, lone_delivery_sql, ARGS(all->asks[0].delivery));
        ec_batch_add(batch, lone_decision_sql, ARGS(all->asks[0].delivery));
        call_read(call, batch, on_lone_delivery);
        return;
    }
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    for (size_t i = 0; i < all->count; i++) {
        ask_all(batch, &all->asks[i]);
    }
    call_read(call, batch, on_all_facts);
}

void on_why(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *id = ec_request_param(req, "id");
    const char *from = is_commit(id) ? id : NULL;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ec_batch_add(batch, what_sql,
                 ARGS(id, call->who.project_id, ec_id_valid(id) ? id : NULL, from,
                      from ? ec_arena_format(call->arena, "%sg", from) : NULL));
    call_read(call, batch, on_what);
}
