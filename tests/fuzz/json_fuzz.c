/* JSON: parsing, reading along paths, dumping; what is dumped parses to the same value. And texts
 * as log lines and metrics write them. */

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct ec_span text = {(const char *)bytes, len};
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (!ec_failed(ec_json_parse(arena, text, &root))) {
        (void)ec_json_text(root, "a.b.0.c");
        (void)ec_json_int(root, "n", 0);
        ec_cleanup(ec_json_freep) json_t *again = NULL;
        struct ec_span dumped = ec_span_of(ec_json_dump(arena, root));
        if (ec_failed(ec_json_parse(arena, dumped, &again)) || json_equal(root, again) != 1) {
            abort();
        }
    }
    ec_cleanup(ec_buf_done) struct ec_buf quoted;
    ec_buf_init(&quoted, 1 << 20);
    ec_buf_add_json_text(&quoted, text);
    /* NUL is the one character that jansson does not take back. */
    if (!quoted.overflowed && memchr(bytes, 0, len) == NULL) {
        ec_cleanup(ec_json_freep) json_t *value = NULL;
        if (ec_failed(ec_json_parse(arena, ec_buf_span(&quoted), &value))) {
            abort();
        }
    }
    return 0;
}
