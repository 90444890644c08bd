/* What the leader looks for twice a second: rows past their deadline, builds whose builder is
 * silent, and builds that wait. It gives ids only; they are then read, decided and written like any
 * event. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "load.h"

/* At most this many at a time; the next look takes the rest. The queue is seen a slice per project,
 * so that the backlog of one cannot hide the others, and only while a slot is free. */
static const char overdue_sql[] =
    "(select 'build' as kind, id::text, service_id::text as owner, '' as commit from enclii.build "
    "where deadline_at < now() "
    "order by deadline_at limit 200) union all "
    "(select 'release', id::text, service_id::text, '' from enclii.release where deadline_at < "
    "now() "
    "order by deadline_at limit 200) union all "
    "(select 'deployment', id::text, service_id::text, '' from enclii.deployment where deadline_at "
    "< "
    "now() "
    "order by deadline_at limit 200) union all "
    "(select 'domain', hostname, service_id::text, '' from enclii.domain where deadline_at < now() "
    "order by deadline_at limit 200) union all "
    "(select 'delivery', id, repo_key, case when pull_request > 0 then commit_sha else '' end "
    "from enclii.delivery where deadline_at < now() order by deadline_at limit 200)";
static const char silent_sql[] =
    "select 'build' as kind, id::text, service_id as owner, '' as commit from enclii.build where "
    "state in "
    "('leased', "
    "'running') and $1::bigint > 0 and heard_at < now() - $1::bigint * interval '1 millisecond' "
    "order by heard_at limit 200";
static const char queued_sql[] =
    "select kind, id, service_id as owner, '' as commit from (select 'queued' as kind, b.id::text, "
    "b.service_id, "
    "b.priority, b.queued_at, row_number() over (partition by s.project_id order by b.priority "
    "desc, b.queued_at) as place from enclii.build b join enclii.service s on s.id = b.service_id "
    "where b.state = 'queued' and (select coalesce(sum(slots), 0) from enclii.builder where not "
    "draining and heard_at > now() - interval '1 minute') > (select count(*) from enclii.build "
    "where state in ('leased', 'running'))) q where place <= 32 order by place, priority desc, "
    "queued_at limit 256";

struct find {
    struct wanted *wanted;
    find_fn done;
    void *arg;
};

static void take(struct wanted *wanted, const struct ec_rows *rows)
{
    for (size_t at = 0; at < ec_rows_count(rows); at++) {
        const char *kind = ec_rows_text(rows, at, "kind");
        const char *id = ec_rows_text(rows, at, "id");
        bool delivery = strcmp(kind, "delivery") == 0;
        want(wanted, delivery ? &wanted->repos : &wanted->services,
             ec_rows_text(rows, at, "owner"));
        wanted->queue = wanted->queue || strcmp(kind, "queued") == 0;
        if (strcmp(kind, "deployment") == 0 || strcmp(kind, "domain") == 0) {
            wanted->deploys = true;
        }
        struct id_list *list = strcmp(kind, "release") == 0      ? &wanted->releases
                               : strcmp(kind, "deployment") == 0 ? &wanted->deployments
                               : strcmp(kind, "domain") == 0     ? &wanted->hostnames
                               : delivery                        ? &wanted->deliveries
                                                                 : &wanted->builds;
        want(wanted, list, id);
        want(wanted, &wanted->commits, ec_rows_text(rows, at, "commit")); /* of a pull request */
    }
}

static void on_found(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    struct find *find = arg;
    for (size_t i = 0; !ec_failed(err) && i < ec_batch_count(batch); i++) {
        take(find->wanted, ec_batch_rows(batch, i));
    }
    find->done(find->arg, err, find->wanted->services.count + find->wanted->repos.count > 0);
    free(find);
}

EC_RESULT load_find(struct ec_store *store, struct wanted *wanted, int64_t silence_ms, find_fn done,
                    void *arg)
{
    struct find *find = ec_alloc(sizeof *find);
    *find = (struct find){wanted, done, arg};
    struct ec_batch *batch = ec_batch_new(store);
    const char *silence = ec_arena_format(ec_batch_arena(batch), "%lld", (long long)silence_ms);
    ec_batch_add(batch, overdue_sql, NULL, 0);
    ec_batch_add(batch, silent_sql, &silence, 1);
    ec_batch_add(batch, queued_sql, NULL, 0);
    struct ec_err err = ec_batch_run(batch, on_found, find);
    if (ec_failed(err)) {
        free(find);
    }
    return err;
}
