/* Leadership by pg_try_advisory_lock. The same question asks for the lock and checks it: a session
 * may take its own lock again and again, so it is taken when not held and only looked at when held.
 * An answer that does not come in time ends the session, and with it the leadership. */
#include "store/leader.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/internal.h"

#define ASK_LOCK_MS 400
#define ASK_ALIVE_MS 1000
#define ANSWER_DEADLINE_MS 2000

struct ec_leader {
    struct ec_loop *loop;
    struct conninfo *info;
    char *name;
    struct link *link;
    struct ec_timer *ask;      /* the next question */
    struct ec_timer *deadline; /* of the answer to the last one */
    bool leading;
    ec_call_fn changed;
    void *arg;
};

static void set_leading(struct ec_leader *leader, bool leading)
{
    if (leader->leading == leading) {
        return;
    }
    leader->leading = leading;
    ec_log(EC_LOG_INFO, NULL, leading ? "leader.gained" : "leader.lost",
           leading ? "this process leads now" : "this process does not lead any more",
           EC_T("name", leader->name));
    leader->changed(leader->arg);
}

static void on_ask(void *arg)
{
    struct ec_leader *leader = arg;
    PGconn *pg = link_pg(leader->link);
    const char *sql = leader->leading ? "select true where $1 <> ''"
                                      : "select pg_try_advisory_lock(hashtextextended($1, 0))";
    const char *args[] = {leader->name};
    if (!pg) {
        return;
    }
    if (PQsendQueryParams(pg, sql, 1, NULL, args, NULL, NULL, 0) != 1 ||
        !link_flush(leader->link)) {
        link_lost(leader->link, "cannot ask for the leader's lock");
        return;
    }
    ec_timer_start(leader->deadline, ANSWER_DEADLINE_MS, 0);
}

static void on_up(void *arg, PGconn *pg)
{
    (void)pg;
    on_ask(arg);
}

static void on_down(void *arg, const char *why)
{
    struct ec_leader *leader = arg;
    (void)why; /* the link has told it */
    ec_timer_stop(leader->ask);
    ec_timer_stop(leader->deadline);
    set_leading(leader, false);
}

static void on_deadline(void *arg)
{
    struct ec_leader *leader = arg;
    link_lost(leader->link, "no answer about the leader's lock within 2 s");
}

/* False: the server refused the question. */
static bool take_answer(struct ec_leader *leader, PGconn *pg)
{
    while (!PQisBusy(pg)) {
        PGresult *result = PQgetResult(pg);
        if (!result) {
            return true;
        }
        bool well = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
        bool mine = well && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
        PQclear(result);
        if (!well) {
            return false;
        }
        ec_timer_stop(leader->deadline);
        ec_timer_start(leader->ask, mine ? ASK_ALIVE_MS : ASK_LOCK_MS, 0);
        set_leading(leader, mine);
    }
    return true;
}

static void on_io(void *arg, int events)
{
    struct ec_leader *leader = arg;
    PGconn *pg = link_pg(leader->link);
    bool well = !(events & UV_READABLE) || PQconsumeInput(pg) == 1;
    if (!well || !link_flush(leader->link) || !take_answer(leader, pg)) {
        link_lost(leader->link, PQerrorMessage(pg));
    }
}

EC_RESULT ec_leader_open(struct ec_loop *loop, const struct ec_store_spec *spec, const char *name,
                         ec_call_fn changed, void *arg, struct ec_leader **ret_leader)
{
    static const struct link_events events = {on_up, on_down, on_io};
    struct conninfo *info = NULL;
    EC_TRY(conninfo_new(spec, &info));
    struct ec_leader *leader = ec_alloc(sizeof(*leader));
    leader->loop = loop;
    leader->info = info;
    leader->name = ec_strdup(name);
    leader->changed = changed;
    leader->arg = arg;
    leader->ask = ec_timer_new(loop, on_ask, leader);
    leader->deadline = ec_timer_new(loop, on_deadline, leader);
    leader->link = link_open(loop, info, &events, leader);
    *ret_leader = leader;
    return ec_ok();
}

bool ec_leader_is(const struct ec_leader *leader)
{
    return leader && leader->leading;
}

static void free_leader(void *arg)
{
    struct ec_leader *leader = arg;
    conninfo_free(leader->info);
    free(leader->name);
    free(leader);
}

void ec_leader_close(struct ec_leader *leader)
{
    if (!leader) {
        return;
    }
    ec_timer_free(leader->ask);
    ec_timer_free(leader->deadline);
    link_close(leader->link);
    ec_loop_defer(leader->loop, free_leader, leader);
}
