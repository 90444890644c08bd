/* Small texts of headers: traceparent, ids, RFC 3339 times. What is accepted prints back as itself.
 */

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 20);
    char *text =
        ec_arena_text(arena, (struct ec_span){(const char *)bytes, len < 9999 ? len : 9999});
    char trace_id[33];
    ec_trace_id(text, trace_id);
    struct ec_trace child = ec_trace_child(text);
    check(ec_trace_valid(child.parent));
    check(ec_trace_valid(text) ? memcmp(child.parent + 3, trace_id, 32) == 0 : trace_id[0] == '\0');
    (void)ec_id_valid(text);
    check(ec_id_valid(ec_id_derive(text, "step").text));
    int64_t ms = ec_rfc3339_parse(text);
    if (ms >= 0 && ms <= 253402300799999) { /* an offset may reach into the year 10000 */
        char again[EC_RFC3339_SIZE];
        ec_rfc3339(ms, again);
        check(ec_rfc3339_parse(again) == ms);
    }
    static const char *const known[] = {"port", "replicas", "healthCheck"};
    (void)ec_nearest(ec_span_of(text), known, EC_LEN(known));
    return 0;
}
