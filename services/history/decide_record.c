/* What is kept of one event: its message as JSON (bounded, without values of environment variables
 * and build arguments), whose it is, and the ids of everything it speaks of. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "bus/catalog.h"
#include "bus/topics.h"
#include "history.h"

#define ABOUT_MAX 64
#define ID_MAX_BYTES 200

/* ---- the body ---- */

/* Values under these names are users' configuration, which may hold what nobody should read here.
 */
static bool is_private(const char *name)
{
    return strcmp(name, "env") == 0 || strcmp(name, "args") == 0;
}

/* Whether there was any. */
static bool hide_values(json_t *pairs)
{
    size_t i;
    json_t *pair;
    bool any = false;
    json_array_foreach(pairs, i, pair)
    {
        if (json_object_get(pair, "value")) {
            json_object_set_new(pair, "value", json_string("***"));
            any = true;
        }
    }
    return any;
}

/* Whether values were hidden. Depth is bounded by the bus's own limit on nested messages. */
static bool tidy(json_t *node)
{
    size_t i;
    const char *name;
    json_t *item;
    bool hidden = false;
    if (json_is_array(node)) {
        while (json_array_size(node) > LIST_MAX) {
            json_array_remove(node, json_array_size(node) - 1);
        }
        json_array_foreach(node, i, item)
        {
            hidden = tidy(item) || hidden;
        }
        return hidden;
    }
    json_object_foreach(node, name, item)
    {
        if (is_private(name)) {
            hidden = hide_values(item) || hidden;
        }
        hidden = tidy(item) || hidden;
    }
    return hidden;
}

static const char *bounded_text(struct ec_arena *arena, const json_t *body)
{
    const char *text = ec_json_dump(arena, body);
    return strlen(text) > BODY_MAX_BYTES ? NULL : text;
}

/* ---- whose it is ---- */

static const char *id_at(const json_t *body, const char *path)
{
    const char *id = ec_json_text(body, path);
    return ec_id_valid(id) ? id : "";
}

static const char *first_of(const char *a, const char *b)
{
    return *a ? a : b;
}

/* Most topics are keyed by the service; desired by "<service>:<environment>". */
static const char *service_of(struct ec_arena *arena, const struct record_source *source,
                              const json_t *body)
{
    const char *id = first_of(id_at(body, "service.service_id"), id_at(body, "service_id"));
    if (*id) {
        return ec_arena_strdup(arena, id);
    }
    if (strcmp(source->topic, EC_TOPIC_AUDIT) == 0 ||
        strcmp(source->topic, EC_TOPIC_NOTIFICATION_EVENTS) == 0) {
        return "";
    }
    const char *key =
        ec_arena_text(arena, (struct ec_span){source->key, strcspn(source->key, ":")});
    return ec_id_valid(key) ? key : "";
}

static const char *project_of(struct ec_arena *arena, const struct record_source *source,
                              const json_t *body)
{
    const char *id = first_of(id_at(body, "service.project_id"), id_at(body, "project_id"));
    if (!*id && strcmp(source->topic, EC_TOPIC_AUDIT) == 0 && ec_id_valid(source->key)) {
        id = source->key;
    }
    return ec_arena_strdup(arena, id);
}

/* ---- what it speaks of ---- */

struct about {
    const char *ids[ABOUT_MAX];
    size_t count;
};

static void speak_of(struct about *about, const char *id)
{
    if (!id || !*id || about->count == ABOUT_MAX || strlen(id) > ID_MAX_BYTES || strchr(id, '\n')) {
        return;
    }
    for (size_t i = 0; i < about->count; i++) {
        if (strcmp(about->ids[i], id) == 0) {
            return;
        }
    }
    about->ids[about->count++] = id;
}

static void speak_of_body(struct about *about, const json_t *body)
{
    static const char *const paths[] = {
        "delivery_id",   "delivery.delivery_id", "build_id",
        "release_id",    "deployment_id",        "subject_id",
        "channel_id",    "commit.sha",           "head.sha",
        "after",         "commit_sha",           "by_build_id",
        "hostname",      "release.release_id",   "release.commit_sha",
        "to_release_id", "request_id",           "environment.environment_id"};
    for (size_t i = 0; i < EC_LEN(paths); i++) {
        speak_of(about, ec_json_text(body, paths[i]));
    }
    size_t i;
    const json_t *item;
    json_array_foreach(ec_json_at(body, "build_ids"), i, item)
    {
        speak_of(about, json_string_value(item));
    }
    json_array_foreach(ec_json_at(body, "services"), i, item)
    {
        speak_of(about, ec_json_text(item, "service_id"));
    }
}

static const char *about_text(struct ec_arena *arena, const struct record_source *source,
                              const char *trace, const json_t *body)
{
    struct about about = {.count = 0};
    speak_of(&about, trace);
    speak_of(&about, source->subject);
    speak_of_body(&about, body);
    ec_cleanup(ec_buf_done) struct ec_buf text;
    ec_buf_init(&text, (size_t)ABOUT_MAX * (ID_MAX_BYTES + 1));
    for (size_t i = 0; i < about.count; i++) {
        ec_buf_add_text(&text, i ? "\n" : "");
        ec_buf_add_text(&text, about.ids[i]);
    }
    return ec_arena_text(arena, ec_buf_span(&text));
}

void decide_record(struct ec_arena *arena, const struct record_source *source,
                   struct record *ret_record)
{
    char trace[33];
    ec_trace_id(source->trace, trace);
    ec_cleanup(ec_json_freep) json_t *body = source->body ? ec_message_json(source->body) : NULL;
    bool hidden = tidy(body);
    bool intake = strcmp(source->topic, EC_TOPIC_INTAKE) == 0;
    *ret_record = (struct record){
        .project_id = project_of(arena, source, body),
        .service_id = service_of(arena, source, body),
        .repo_key = intake ? source->key : "",
        .about = about_text(arena, source, trace, body),
        .trace = ec_arena_strdup(arena, trace),
        .body = body ? bounded_text(arena, body) : NULL,
        .hidden = hidden,
    };
}
