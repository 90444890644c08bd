/* JSON read in place: takes exactly what jansson takes (but for depth, duplicate names and numbers
 * that a double cannot hold), and reads the same values. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/tape.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* Every node inside its parent, every text readable. */
static void walk(struct ec_arena *arena, const struct ec_tape *tape)
{
    for (uint32_t i = 0; i < tape->count; i++) {
        const struct ec_node *node = &tape->nodes[i];
        if (node->next <= i || node->next > tape->count || node->at + node->len > tape->text.len) {
            abort();
        }
        (void)ec_tape_copy(arena, tape, node);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct ec_span text = {(const char *)bytes, len};
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct ec_tape tape = {0};
    json_error_t error;
    json_t *root = json_loadb(len ? text.ptr : "", len, JSON_DECODE_ANY, &error);
    struct ec_err err = ec_tape_read(arena, text, &tape);
    if (!ec_failed(err)) {
        walk(arena, &tape);
        enum json_error_code code = json_error_code(&error);
        if (!root && code != json_error_numeric_overflow && code != json_error_stack_overflow) {
            abort();
        }
        char *mine = ec_tape_text(arena, &tape, ec_tape_root(&tape), "a");
        const json_t *theirs = json_object_get(root, "a");
        if (*mine && json_is_string(theirs) && strcmp(mine, json_string_value(theirs)) != 0) {
            abort();
        }
    } else if (root && !strstr(err.what, "too many") && !strstr(err.what, "too deeply") &&
               memchr(bytes, 0, len) == NULL) { /* jansson takes a NUL for the end */
        abort();
    }
    json_decref(root);
    return 0;
}
