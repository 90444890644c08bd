/* Paths as git prints them: what is kept is UTF-8 without NUL, within the limits, and a quoted path
 * never grows. git's own words about a failure are fit for people. */
#include "base/mem.h"
#include "fuzz.h"
#include "sweeper.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    struct ec_span rest = span_of_input(bytes, len);
    const struct ec_process_result failed = {.exit_code = 1};
    struct paths paths = {.count = 0};
    check_shown(decide_git_error(arena, "https://h/a/b", ec_arena_text(arena, rest), &failed),
                ERROR_MAX_BYTES, true);
    while (rest.len > 0) {
        struct ec_span line = take_until(&rest, '\n');
        size_t before = paths.count;
        decide_path(arena, &paths, line);
        check(paths.count == before || strlen(paths.list[before]) <= line.len);
    }
    check(paths.count <= PATHS_MAX && paths.bytes <= PATHS_MAX_BYTES);
    for (size_t i = 0; i < paths.count; i++) {
        struct ec_span path = ec_span_of(paths.list[i]);
        check(path.len > 0 && path.len <= PATH_MAX_BYTES && ec_utf8_valid(path));
    }
    return 0;
}
