/* What a host's list of delivery attempts means: attempts are grouped by the id they share, and
 * one whose no attempt got through is asked for again, if that can help. Pure. */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "sweeper.h"

#define MAP_MAX 100000

static bool got_through(int status)
{
    return status >= 200 && status < 300;
}

/* No answer, our trouble, or "later"; any other 4xx is our own choice. */
static bool worth_asking(int status)
{
    return status < 400 || status >= 500 || status == 408 || status == 429;
}

static const char *const fates[] = {"open", "taken", "refused", "given_up"};

const char *decide_fate_name(enum delivery_fate fate)
{
    return fates[fate];
}

enum delivery_fate decide_fate_of(const char *name)
{
    for (size_t i = 0; i < EC_LEN(fates); i++) {
        if (strcmp(fates[i], name) == 0) {
            return (enum delivery_fate)i;
        }
    }
    return DELIVERY_OPEN;
}

int64_t decide_again_ms(int64_t interval_ms, int tries)
{
    return interval_ms << (tries < 1 ? 0 : tries > 6 ? 5 : tries - 1);
}

static struct verdict *verdict_of(struct ec_map *by_guid, struct verdicts *verdicts,
                                  const char *guid)
{
    struct verdict *verdict = ec_map_get(by_guid, guid);
    if (!verdict) {
        verdict = &verdicts->list[verdicts->count];
        if (!ec_map_put(by_guid, guid, verdict)) {
            return NULL; /* more than any host lists: with the next sweep */
        }
        verdicts->count++;
        verdict->delivery.guid = guid;
    }
    return verdict;
}

static void add_attempt(struct verdict *verdict, const struct attempt *attempt)
{
    struct undelivered *delivery = &verdict->delivery;
    if (got_through(attempt->status_code)) {
        verdict->changed |= delivery->fate != DELIVERY_TAKEN;
        delivery->fate = DELIVERY_TAKEN;
    }
    if (!delivery->attempt_id || attempt->at_ms > delivery->at_ms) {
        delivery->attempt_id = attempt->id;
        delivery->event = attempt->event;
        delivery->status_code = attempt->status_code;
        delivery->at_ms = attempt->at_ms;
    }
}

static void close_it(struct verdict *verdict, enum delivery_fate fate)
{
    verdict->delivery.fate = fate;
    verdict->changed = true;
}

static void judge(struct verdict *verdict, int64_t now_ms)
{
    struct undelivered *delivery = &verdict->delivery;
    int64_t age_ms = now_ms - delivery->at_ms;
    if (delivery->fate == DELIVERY_REFUSED && worth_asking(delivery->status_code)) {
        delivery->fate =
            DELIVERY_OPEN; /* somebody had it sent again, and then it was our trouble */
        verdict->changed = true;
    }
    if (delivery->fate != DELIVERY_OPEN) {
        return;
    }
    if (!worth_asking(delivery->status_code)) {
        close_it(verdict, DELIVERY_REFUSED);
    } else if (age_ms > DELIVERY_OLD_MS ||
               (delivery->tries >= DELIVERY_TRIES_MAX && delivery->due)) {
        close_it(verdict, DELIVERY_GIVEN_UP);
    } else {
        verdict->ask = delivery->due && age_ms >= DELIVERY_YOUNG_MS;
    }
}

static int older_first(const void *a, const void *b)
{
    const struct verdict *x = a, *y = b;
    return (x->delivery.at_ms > y->delivery.at_ms) - (x->delivery.at_ms < y->delivery.at_ms);
}

void decide_deliveries(struct ec_arena *arena, const struct attempt *attempts, size_t count,
                       const struct undelivered *open, size_t open_count, int64_t now_ms,
                       struct verdicts *ret_verdicts)
{
    struct ec_map *by_guid = ec_map_new(MAP_MAX);
    size_t asked = 0;
    *ret_verdicts = (struct verdicts){
        .list = ec_arena_alloc(arena, (count + open_count + 1) * sizeof *ret_verdicts->list)};
    for (size_t i = 0; i < open_count; i++) {
        struct verdict *verdict = verdict_of(by_guid, ret_verdicts, open[i].guid);
        if (verdict) {
            verdict->delivery = open[i];
            verdict->known = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct verdict *verdict = verdict_of(by_guid, ret_verdicts, attempts[i].guid);
        if (verdict) {
            verdict->delivery.due |= !verdict->known; /* its first pause is its youth */
            add_attempt(verdict, &attempts[i]);
        }
    }
    ec_map_free(by_guid, NULL);
    qsort(ret_verdicts->list, ret_verdicts->count, sizeof *ret_verdicts->list, older_first);
    for (size_t i = 0; i < ret_verdicts->count; i++) {
        judge(&ret_verdicts->list[i], now_ms);
        ret_verdicts->list[i].ask &= asked < REDELIVERIES_MAX;
        asked += ret_verdicts->list[i].ask;
    }
}
