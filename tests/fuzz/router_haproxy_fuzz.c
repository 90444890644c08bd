/* What HAProxy's runtime socket may answer. Values are within their stated limits, an answer is one
 * of success only when each of its lines is, and memory stays in proportion to the answer. */
#include "base/mem.h"
#include "fuzz.h"
#include "router/haproxy.h"

static void check_servers(struct ec_arena *arena, struct ec_span csv)
{
    struct ec_haproxy_server *servers = NULL;
    size_t count = 0;
    if (ec_failed(ec_haproxy_servers(arena, csv, &servers, &count))) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        check(servers[i].backend && servers[i].name && servers[i].address && servers[i].status);
        check(servers[i].weight >= 0 && servers[i].open >= 0 && servers[i].requests >= 0);
        check(servers[i].errors >= 0 && servers[i].latency_ms >= 0);
    }
}

static void check_map(struct ec_arena *arena, struct ec_span text)
{
    struct ec_haproxy_entry *entries = NULL;
    size_t count = 0;
    if (ec_failed(ec_haproxy_map(arena, text, &entries, &count))) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        check(entries[i].key[0] && entries[i].value[0]);
        check(!strpbrk(entries[i].key, " \n") && !strpbrk(entries[i].value, " \n"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    /* The loop's largest answer has 4 MiB and its arena 16 times that. */
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(16 * len + 65536);
    struct ec_span reply = span_of_input(bytes, len);
    ec_cleanup(ec_arena_freep) struct ec_arena *words = ec_arena_new(65536);
    struct ec_err err = ec_haproxy_check(words, reply);
    if (ec_failed(err)) {
        check(err.fate == EC_FATE_REJECT && strlen(err.what) < 400);
    }
    check_servers(arena, reply);
    ec_arena_reset(arena);
    check_map(arena, reply);
    return 0;
}
