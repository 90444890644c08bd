/* What the event history tells: GET /v1/timeline/{id} replays one push, GET /v1/history pages
 * through events. Schema `history` belongs to another service and may be absent; then the answer is
 * 503 with the reason, and everything else of the api goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "decide_timeline.h"

#define EVENTS_MAX "2000" /* of one timeline */
#define TYPE_PREFIX "dev.enclii."

static const char there_sql[] = "select to_regclass('history.event') is not null as there";

/* Everything that $1 may name, with the trace it belongs to. $2 scope, $3 a UUID or null, $4 and $5
 * the range of commits that begin with it. A commit means its newest push, one that built
 * something first; a release its making and the deployment that followed by itself. */
static const char what_sql[] =
    "with mine as (select id, repo_key from enclii.service"
    "  where $2 = '' or project_id::text = $2),"
    " seen as (select * from enclii.delivery d where ($1 = d.id or d.commit_sha >= $4"
    "  and d.commit_sha < $5) and ($2 = '' or d.repo_key in (select repo_key from mine)))"
    " select kind, service_id, substr(trace, 4, 32) as trace from ("
    " select 1 as rank, 'build' as kind, service_id::text, trace, queued_at as at"
    "  from enclii.build where id = $3::uuid and service_id in (select id from mine)"
    " union all"
    " select 1, 'release', service_id::text, trace, created_at"
    "  from enclii.release where id = $3::uuid and service_id in (select id from mine)"
    " union all"
    " select 1, 'deployment', service_id::text, trace, created_at"
    "  from enclii.deployment where id = $3::uuid and service_id in (select id from mine)"
    " union all"
    " select 1, 'delivery', '', trace, received_at from seen where id = $1"
    " union all"
    " (select 2, 'commit', '', trace, queued_at from enclii.build"
    "  where commit_sha >= $4 and commit_sha < $5 and service_id in (select id from mine)"
    "  order by queued_at desc limit 1)"
    " union all"
    " (select 3, 'commit', '', trace, received_at from seen order by received_at desc limit 1)"
    ") x where trace <> '' order by rank, at";

/* The trace id is 32 hex digits of our own row; audit records tell who asked, not what came. */
static const char events_sql[] =
    "select enclii.ms(e.at) as at_ms, e.type, coalesce(e.service_id::text, '') as service_id,"
    " e.body, coalesce(p.slug || '/' || s.name, '') as service"
    " from history.event e left join enclii.service s on s.id = e.service_id"
    " left join enclii.project p on p.id = s.project_id"
    " where e.about @> array[$1] and e.topic <> 'enclii.audit'"
    " and (e.service_id is null or $2 = '' or s.project_id::text = $2)"
    " and ($3 = '' or e.service_id is null or e.service_id::text = $3)"
    " order by e.at, e.seq limit $4::int";

enum { ANEW, WHAT, THERE };

struct timeline_ask {
    const char *kind, *trace, *service_id;
};

static void history_missing(struct call *call)
{
    ec_reply_header(call->req, "Retry-After", "5");
    call_problem(call, 503, "no_history", NULL,
                 "there is no event history yet; is enclii-history running?");
}

/* ---- GET /v1/timeline/{id} ---- */

/* "dev.enclii.build.queued.v1" → "build.queued" */
static const char *short_type(struct ec_arena *arena, const char *type)
{
    size_t skip = strncmp(type, TYPE_PREFIX, strlen(TYPE_PREFIX)) == 0 ? strlen(TYPE_PREFIX) : 0;
    size_t len = strlen(type + skip);
    len -= len > 3 && strcmp(type + skip + len - 3, ".v1") == 0 ? 3 : 0;
    return ec_arena_text(arena, (struct ec_span){type + skip, len});
}

static bool has_hostname(const struct timeline_event *events, size_t count, const char *hostname)
{
    for (size_t i = 0; i < count; i++) {
        if (events[i].service_id[0] &&
            strcmp(ec_json_text(events[i].body, "hostname"), hostname) == 0) {
            return true;
        }
    }
    return false;
}

/* Certificates name a host, not a service: they belong to the service that wanted them. */
static bool is_foreign(const struct timeline_event *events, size_t count,
                       const struct timeline_event *event)
{
    bool certificate =
        strcmp(event->type, "domain.issued") == 0 || strcmp(event->type, "domain.failed") == 0;
    return certificate && !has_hostname(events, count, ec_json_text(event->body, "hostname"));
}

static void on_timeline_events(struct call *call, const struct ec_rows *rows)
{
    const struct timeline_ask *ask = call->more;
    size_t count = 0;
    struct timeline_event *events =
        ec_arena_alloc(call->arena, (ec_rows_count(rows) + 1) * sizeof *events);
    json_t *bodies = json_array(); /* holds them until the story is told */
    for (size_t i = 0; i < ec_rows_count(rows); i++) {
        json_t *body = json_loads(ec_rows_text(rows, i, "body"), 0, NULL);
        json_array_append_new(bodies, body);
        events[count] = (struct timeline_event){
            .at_ms = ec_rows_int(rows, i, "at_ms"),
            .type = short_type(call->arena, ec_rows_text(rows, i, "type")),
            .service_id = ec_rows_text(rows, i, "service_id"),
            .service = ec_rows_text(rows, i, "service"),
            .body = body,
        };
        count += !is_foreign(events, count, &events[count]);
    }
    json_t *story = decide_timeline(call->arena, events, count, ec_unix_ms());
    json_object_set_new(story, "kind", json_string(ask->kind));
    json_object_set_new(story, "id", json_string(ec_request_param(call->req, "id")));
    json_object_set_new(story, "trace", json_string(ask->trace));
    json_decref(bodies);
    call_reply(call, 200, story);
}

static void on_what(struct call *call, const struct ec_batch *batch)
{
    const struct ec_rows *what = ec_batch_rows(batch, WHAT);
    if (!ec_rows_bool(ec_batch_rows(batch, THERE), 0, "there")) {
        history_missing(call);
        return;
    }
    if (ec_rows_count(what) == 0) {
        call_problem(call, 404, "not_found", "id",
                     "there is no such commit, build, release, deployment or delivery, or your "
                     "token is for another project; a commit needs at least 7 digits");
        return;
    }
    struct timeline_ask *ask = ec_arena_alloc(call->arena, sizeof *ask);
    ask->kind = ec_arena_strdup(call->arena, ec_rows_text(what, 0, "kind"));
    ask->service_id = ec_arena_strdup(call->arena, ec_rows_text(what, 0, "service_id"));
    ask->trace = ec_arena_strdup(call->arena, ec_rows_text(what, 0, "trace"));
    call->more = ask;
    const char *narrow = ec_request_query(call->req, "service_id");
    call_query(call, events_sql,
               ARGS(ask->trace, call->who.project_id,
                    ask->service_id[0] ? ask->service_id
                    : narrow           ? narrow
                                       : "",
                    EVENTS_MAX),
               on_timeline_events);
}

void on_timeline(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    const char *id = ec_request_param(req, "id");
    const char *from = is_commit(id) ? id : NULL;
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ec_batch_add(batch, what_sql,
                 ARGS(id, call->who.project_id, ec_id_valid(id) ? id : NULL, from,
                      from ? ec_arena_format(call->arena, "%sg", from) : NULL));
    ec_batch_add(batch, there_sql, NULL, 0);
    call_read(call, batch, on_what);
}

/* ---- GET /v1/history ---- */

/* Which question narrows how. `about` takes any id; all the others are exact. */
static const struct {
    const char *name, *condition; /* %s: the parameter */
    enum { ANY, UUID, TIME_OF_DAY } form;
} filters[] = {
    {"about", "e.about @> array[%s]", ANY},
    {"trace", "e.about @> array[%s]", ANY},
    {"build", "e.about @> array[%s]", UUID},
    {"release", "e.about @> array[%s]", UUID},
    {"deployment", "e.about @> array[%s]", UUID},
    {"delivery", "e.about @> array[%s]", ANY},
    {"commit", "e.about @> array[%s]", ANY},
    {"service", "e.service_id = %s::uuid", UUID},
    {"repo", "e.repo_key = %s", ANY},
    {"type", "e.type = %s", ANY},
    {"from", "e.at >= %s::timestamptz", TIME_OF_DAY},
    {"to", "e.at < %s::timestamptz", TIME_OF_DAY},
};
#define HISTORY_ARGS_MAX (EC_LEN(filters) + 5)

struct history_ask {
    const char *sql;
    const char *args[HISTORY_ARGS_MAX];
    size_t count;
    bool scoped;
    int limit;
};

static bool is_formed(const char *value, int form)
{
    return form == UUID          ? ec_id_valid(value)
           : form == TIME_OF_DAY ? ec_rfc3339_parse(value) >= 0
                                 : value[0] && strlen(value) <= 300;
}

static const char *add_arg(struct call *call, struct history_ask *ask, const char *value)
{
    ask->args[ask->count++] = value;
    return ec_arena_format(call->arena, "$%zu", ask->count);
}

static void add_condition(struct call *call, struct history_ask *ask, const char *condition,
                          const char *value)
{
    const char *at = strstr(condition, "%s");
    const char *arg = add_arg(call, ask, value);
    ask->sql = ec_arena_format(call->arena, "%s and %.*s%s%s", ask->sql, (int)(at - condition),
                               condition, arg, at + 2);
}

/* The cursor is "<milliseconds>.<seq>": the place of the last row seen. */
static bool add_cursor(struct call *call, struct history_ask *ask)
{
    const char *cursor = ec_request_query(call->req, "cursor");
    if (!cursor) {
        return true;
    }
    char *end = NULL;
    long long ms = strtoll(cursor, &end, 10), seq = *end == '.' ? strtoll(end + 1, &end, 10) : -1;
    if (*end || ms <= 0 || seq < 0) {
        call_problem(call, 400, "invalid_cursor", "cursor", "take next_cursor of the page before");
        return false;
    }
    const char *at = add_arg(call, ask, ec_arena_format(call->arena, "%lld", ms));
    const char *after = add_arg(call, ask, ec_arena_format(call->arena, "%lld", seq));
    ask->sql =
        ec_arena_format(call->arena, "%s and (e.at, e.seq) < (enclii.at(%s::bigint), %s::bigint)",
                        ask->sql, at, after);
    return true;
}

/* False: answered. */
static bool read_filters(struct call *call, struct history_ask *ask)
{
    for (size_t i = 0; i < EC_LEN(filters); i++) {
        const char *value = ec_request_query(call->req, filters[i].name);
        if (!value) {
            continue;
        }
        if (!is_formed(value, filters[i].form)) {
            call_problem(call, 400, "invalid_field", filters[i].name,
                         filters[i].form == UUID ? "must be a lower-case UUID"
                         : filters[i].form == TIME_OF_DAY
                             ? "must be a time like 2026-01-02T03:04:05Z"
                             : "must be a text of 1 to 300 bytes");
            return false;
        }
        bool short_type =
            strcmp(filters[i].name, "type") == 0 && strncmp(value, TYPE_PREFIX, 11) != 0;
        add_condition(call, ask, filters[i].condition,
                      short_type ? ec_arena_format(call->arena, TYPE_PREFIX "%s.v1", value)
                                 : value);
    }
    return add_cursor(call, ask);
}

bool leave_out_foreign(json_t *body)
{
    bool services = json_object_del(body, "services") == 0;
    return json_object_del(body, "build_ids") == 0 || services;
}

static void on_history_rows(struct call *call, const struct ec_batch *batch)
{
    const struct history_ask *ask = call->more;
    const struct ec_rows *rows = ec_batch_rows(batch, 1);
    json_t *events = json_array();
    size_t count = ec_rows_count(rows);
    for (size_t i = 0; i < count; i++) {
        char at[EC_RFC3339_SIZE];
        ec_rfc3339(ec_rows_int(rows, i, "at_ms"), at);
        json_t *event = render_row(rows, i, "id type topic subject key trace ?service_id @body");
        json_object_set_new(event, "at", json_string(at));
        if (ask->scoped) {
            (void)leave_out_foreign(json_object_get(event, "body"));
        }
        json_array_append_new(events, event);
    }
    json_t *answer = json_pack("{s:o}", "events", events);
    if (count == (size_t)ask->limit) {
        json_object_set_new(answer, "next_cursor",
                            json_string(ec_arena_format(call->arena, "%s.%s",
                                                        ec_rows_text(rows, count - 1, "at_ms"),
                                                        ec_rows_text(rows, count - 1, "seq"))));
    }
    call_reply(call, 200, answer);
}

static void on_history_there(struct call *call, const struct ec_rows *rows)
{
    const struct history_ask *ask = call->more;
    if (!ec_rows_bool(rows, 0, "there")) {
        history_missing(call);
        return;
    }
    struct ec_batch *batch = ec_batch_new(call->api->store);
    ec_batch_add(batch, PLAN_ANEW, NULL, 0);
    ec_batch_add(batch, ask->sql, ask->args, ask->count);
    call_read(call, batch, on_history_rows);
}

void on_history(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    struct history_ask *ask = ec_arena_alloc(call->arena, sizeof *ask);
    const char *scope = call->who.project_id, *limit = call_limit(call, 100);
    ask->sql = "select enclii.ms(e.at) as at_ms, e.seq, e.id, e.type, e.topic, e.subject, e.key,"
               " e.trace, e.service_id, e.body from history.event e where true";
    if (scope[0]) { /* its services, their repositories, its own records of who did what */
        const char *arg = add_arg(call, ask, scope);
        ask->scoped = true;
        ask->sql = ec_arena_format(
            call->arena,
            "%s and (e.service_id in (select id from enclii.service where project_id = %s::uuid)"
            " or e.repo_key in (select repo_key from enclii.service where project_id = %s::uuid)"
            " or e.project_id = %s::uuid)",
            ask->sql, arg, arg, arg);
    }
    if (!read_filters(call, ask)) {
        return;
    }
    ask->limit = atoi(limit);
    /* The limit is an argument, too: each text is prepared once on each connection. */
    ask->sql = ec_arena_format(call->arena, "%s order by e.at desc, e.seq desc limit %s::int",
                               ask->sql, add_arg(call, ask, limit));
    call->more = ask;
    call_query(call, there_sql, NULL, 0, on_history_there);
}
