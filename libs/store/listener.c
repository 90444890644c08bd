/* LISTEN on a connection of its own. Nothing is kept for a listener that is away, so every
 * (re)connection wakes the owner too: it then looks for itself. */
#include <stdlib.h>

#include "base/mem.h"
#include "store/internal.h"

#define LISTEN_DEADLINE_MS 5000

struct ec_listener {
    struct ec_loop *loop;
    struct conninfo *info;
    char *channel;
    struct link *link;
    struct ec_timer *deadline; /* of LISTEN's answer */
    ec_call_fn woken;
    void *arg;
};

static void on_up(void *arg, PGconn *pg)
{
    struct ec_listener *listener = arg;
    char *name = PQescapeIdentifier(pg, listener->channel, strlen(listener->channel));
    char *sql = ec_format("listen %s", name ? name : "");
    PQfreemem(name);
    bool sent = PQsendQuery(pg, sql) == 1 && link_flush(listener->link);
    free(sql);
    if (!sent) {
        link_lost(listener->link, "cannot send LISTEN");
        return;
    }
    ec_timer_start(listener->deadline, LISTEN_DEADLINE_MS, 0);
}

static void on_down(void *arg, const char *why)
{
    struct ec_listener *listener = arg;
    (void)why; /* the link has told it */
    ec_timer_stop(listener->deadline);
}

static void on_deadline(void *arg)
{
    struct ec_listener *listener = arg;
    link_lost(listener->link, "no answer to LISTEN within 5 s");
}

/* Gives whether LISTEN has just succeeded; false in *ret_well when it was refused. */
static bool take_answers(struct ec_listener *listener, PGconn *pg, bool *ret_well)
{
    bool started = false;
    while (!PQisBusy(pg)) {
        PGresult *result = PQgetResult(pg);
        if (!result) {
            break;
        }
        started = PQresultStatus(result) == PGRES_COMMAND_OK;
        *ret_well = *ret_well && started;
        PQclear(result);
    }
    if (started) {
        ec_timer_stop(listener->deadline);
    }
    return started;
}

static bool take_notices(PGconn *pg)
{
    bool any = false;
    PGnotify *note = NULL;
    while ((note = PQnotifies(pg))) {
        PQfreemem(note);
        any = true;
    }
    return any;
}

static void on_io(void *arg, int events)
{
    struct ec_listener *listener = arg;
    PGconn *pg = link_pg(listener->link);
    bool well = true;
    if (((events & UV_READABLE) && PQconsumeInput(pg) != 1) || !link_flush(listener->link)) {
        link_lost(listener->link, PQerrorMessage(pg));
        return;
    }
    bool started = take_answers(listener, pg, &well);
    if (!well) {
        link_lost(listener->link, PQerrorMessage(pg));
        return;
    }
    if (take_notices(pg) || started) {
        listener->woken(listener->arg);
    }
}

EC_RESULT ec_listener_open(struct ec_loop *loop, const struct ec_store_spec *spec,
                           const char *channel, ec_call_fn woken, void *arg,
                           struct ec_listener **ret_listener)
{
    static const struct link_events events = {on_up, on_down, on_io};
    struct conninfo *info = NULL;
    EC_TRY(conninfo_new(spec, &info));
    struct ec_listener *listener = ec_alloc(sizeof(*listener));
    listener->loop = loop;
    listener->info = info;
    listener->channel = ec_strdup(channel);
    listener->woken = woken;
    listener->arg = arg;
    listener->deadline = ec_timer_new(loop, on_deadline, listener);
    listener->link = link_open(loop, info, &events, listener);
    *ret_listener = listener;
    return ec_ok();
}

static void free_listener(void *arg)
{
    struct ec_listener *listener = arg;
    conninfo_free(listener->info);
    free(listener->channel);
    free(listener);
}

void ec_listener_close(struct ec_listener *listener)
{
    if (!listener) {
        return;
    }
    ec_timer_free(listener->deadline);
    link_close(listener->link);
    ec_loop_defer(listener->loop, free_listener, listener);
}
