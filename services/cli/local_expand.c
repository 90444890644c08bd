/* Placeholders of the component table: {home}, {api}, ... An unknown one is our own mistake and
 * stays as it is, so that it shows in the first log line of the component. */
#include "local.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/encode.h"
#include "base/mem.h"
#include "trust/token.h"

#define TEXT_MAX_BYTES (64 << 10)
#define WORDS_MAX 64

static const char *const port_names[PORT_COUNT] = {
    [PORT_API] = "api",
    [PORT_WEBHOOK] = "webhook",
    [PORT_HTTP] = "http",
    [PORT_HTTPS] = "https",
    [PORT_REGISTRY] = "registry",
    [PORT_GIT] = "git",
    [PORT_POSTGRES] = "postgres",
    [PORT_KAFKA] = "kafka",
    [PORT_KAFKA_CONTROLLER] = "controller",
};

/* Kafka's form of a UUID; Java's option parser must not see a leading minus. */
static const char *new_cluster_id(const struct local *local)
{
    unsigned char bytes[16] = {0};
    ec_ignore(ec_random_bytes(bytes, sizeof bytes)); /* any other value serves as well */
    bytes[0] &= 0x7f;
    return ec_base64url(local->arena, (struct ec_span){(const char *)bytes, sizeof bytes});
}

static const char *value_of(const struct local *local, const struct component *component,
                            struct ec_span name)
{
    if (ec_span_is(name, "home")) {
        return local->home;
    }
    if (ec_span_is(name, "cache")) {
        return local->cache;
    }
    if (ec_span_is(name, "programs")) {
        return local->programs;
    }
    if (ec_span_is(name, "log_level")) {
        return local->log_level;
    }
    if (ec_span_is(name, "admin")) {
        return ec_arena_format(local->arena, "%d", local->ports[PORT_ADMIN] + component->admin - 1);
    }
    if (ec_span_is(name, "classpath")) {
        char *text = local_read_file(
            local, ec_arena_format(local->arena, "%s/kafka/classpath", local->cache));
        return text ? (text[strcspn(text, "\n")] = '\0', text) : "";
    }
    if (ec_span_is(name, "cluster")) {
        return new_cluster_id(local);
    }
    for (int i = 0; i < PORT_COUNT; i++) {
        if (port_names[i] && ec_span_is(name, port_names[i])) {
            return ec_arena_format(local->arena, "%d", local->ports[i]);
        }
    }
    return NULL;
}

char *local_expand(const struct local *local, const struct component *component, const char *text)
{
    struct ec_buf out;
    ec_buf_init(&out, TEXT_MAX_BYTES);
    while (*text) {
        size_t plain = strcspn(text, "{");
        ec_buf_add(&out, text, plain);
        text += plain;
        if (!*text) {
            break;
        }
        size_t len = strcspn(text + 1, "}");
        const char *value = value_of(local, component, (struct ec_span){text + 1, len});
        ec_buf_add_text(&out, value ? value : "{");
        text += value ? len + 2 : 1;
    }
    char *result = ec_arena_text(local->arena, ec_buf_span(&out));
    ec_buf_done(&out);
    return result;
}

const char *const *local_words(const struct local *local, const struct component *component,
                               const char *text)
{
    const char **words = ec_arena_alloc(local->arena, (WORDS_MAX + 1) * sizeof *words);
    size_t count = 0;
    while (*text && count < WORDS_MAX) {
        size_t len = strcspn(text, " ");
        if (len > 0) {
            const char *word = ec_arena_text(local->arena, (struct ec_span){text, len});
            words[count++] = local_expand(local, component, word);
        }
        text += len + strspn(text + len, " ");
    }
    return words;
}
