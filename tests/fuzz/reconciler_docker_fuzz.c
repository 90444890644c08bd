/* What a container engine may answer, and what containers print: values within their limits, texts
 * that may stand in an event (UTF-8) and on a terminal, and never more of them than promised. */
#include "base/mem.h"
#include "docker_api.h"
#include "fuzz.h"

static void check_probe(const struct probe_spec *probe)
{
    check(probe->path[0] == '/' && strlen(probe->path) <= TARGET_PROBE_PATH_MAX);
    check(!strpbrk(probe->path, " \t\r\n\x7f"));
    check(probe->port > 0 && probe->port <= 65535 && probe->failures_max > 0);
    check(probe->period_ms >= 100 && probe->timeout_ms > 0 && probe->delay_ms >= 0);
}

static void check_list(struct ec_arena *arena, struct ec_span json)
{
    struct container *list = NULL;
    size_t count = 0;
    if (ec_failed(docker_read_list(arena, json, &list, &count))) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        check(list[i].id[0] && list[i].key[0] && list[i].name);
        check(strlen(list[i].identity) < TARGET_IDENTITY_SIZE);
        check(list[i].replica >= 0 && list[i].exit_code >= -1);
        check(list[i].host_port >= 0 && list[i].host_port <= 65535);
        check_probe(&list[i].probe);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(32 << 20);
    struct ec_span body = span_of_input(bytes, len);
    check_list(arena, body);
    check_shown(docker_read_message(arena, body), 1000, true);
    check_shown(docker_read_logs(arena, body), 12000, true);
    static const int statuses[] = {200, 404, 500};
    for (size_t i = 0; i < EC_LEN(statuses); i++) {
        struct ec_err err = docker_read_pull(arena, statuses[i], body);
        check(ec_failed(err) || statuses[i] == 200);
        check_shown(ec_failed(err) ? err.what : "", 1000, true);
    }
    return 0;
}
