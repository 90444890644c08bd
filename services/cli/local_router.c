/* HAProxy's configuration for one machine: docker/haproxy.cfg.in, built into the program, with the
 * places and the pool of backends filled in. */
#include "local.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define BACKEND_COUNT 200
#define CONFIG_MAX_BYTES (64 << 10)

/* The Makefile runs in the root of the tree; its rule for this object names the file. */
__asm__(".section .rodata\n"
        ".global router_template\n"
        "router_template: .incbin \"docker/haproxy.cfg.in\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char router_template[];

static void add_pool(struct ec_buf *out)
{
    for (int i = 0; i < BACKEND_COUNT; i++) {
        ec_buf_addf(out, "backend be_%03d\n", i);
    }
}

/* Fills one @NAME@ in; what is no name of ours stays as it is. */
static size_t fill(const struct local *local, struct ec_buf *out, const char *at)
{
    const struct {
        const char *name, *value;
    } values[] = {
        {"@DIR@", local_path(local, "router")},
        {"@SOCKET@", local_path(local, "run/haproxy.sock")},
        {"@HTTP@", ec_arena_format(local->arena, "127.0.0.1:%d", local->ports[PORT_HTTP])},
        {"@HTTPS@", ec_arena_format(local->arena, "127.0.0.1:%d", local->ports[PORT_HTTPS])},
    };
    for (size_t i = 0; i < EC_LEN(values); i++) {
        size_t len = strlen(values[i].name);
        if (strncmp(at, values[i].name, len) == 0) {
            ec_buf_add_text(out, values[i].value);
            return len;
        }
    }
    if (strncmp(at, "@BACKENDS@", 10) == 0) {
        add_pool(out);
        return 10;
    }
    ec_buf_add(out, at, 1);
    return 1;
}

char *local_router_config(const struct local *local)
{
    struct ec_buf out;
    ec_buf_init(&out, CONFIG_MAX_BYTES);
    const char *at = router_template;
    while (*at) {
        size_t comment = *at == '#' ? strcspn(at, "\n") : 0;
        if (comment) {
            at +=
                comment; /* comments name the placeholders; they are for readers of the template */
            continue;
        }
        size_t plain = strcspn(at, "@#");
        ec_buf_add(&out, at, plain);
        at += plain;
        if (*at == '@') {
            at += fill(local, &out, at);
        }
    }
    char *text = ec_arena_text(local->arena, ec_buf_span(&out));
    ec_buf_done(&out);
    return text;
}
