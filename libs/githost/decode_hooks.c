/* Lists of webhooks as the hosts write them: GitHub and Gitea alike, GitLab with a flag per event.
 */
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

#define EVENTS_MAX 64

static const char *const *events_of_list(struct ec_arena *arena, const json_t *list)
{
    size_t most = json_array_size(list) < EVENTS_MAX ? json_array_size(list) : EVENTS_MAX;
    const char **events = ec_arena_alloc(arena, (most + 1) * sizeof(*events));
    for (size_t i = 0; i < most; i++) {
        const json_t *item = json_array_get(list, i);
        struct ec_span text = {json_string_value(item), json_string_length(item)};
        events[i] = text.ptr ? ec_text_clean(arena, text, 64) : "";
    }
    return events;
}

/* Members that end in "_events" and are true. */
static const char *const *events_of_flags(struct ec_arena *arena, json_t *hook)
{
    const char **events = ec_arena_alloc(arena, (EVENTS_MAX + 1) * sizeof(*events));
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(hook, name, value)
    {
        size_t len = strlen(name);
        if (json_is_true(value) && len > 7 && strcmp(name + len - 7, "_events") == 0 &&
            count < EVENTS_MAX) {
            events[count++] = ec_text_clean(arena, (struct ec_span){name, len}, 64);
        }
    }
    return events;
}

/* GitHub says "0" and "1", or numbers. */
static bool is_one(const json_t *value)
{
    const char *text = json_string_value(value);
    return json_integer_value(value) == 1 || (text && strcmp(text, "1") == 0);
}

static bool decode_github(struct ec_arena *arena, json_t *item, struct ec_githost_hook *ret)
{
    *ret = (struct ec_githost_hook){
        .id = decode_id(arena, json_object_get(item, "id")),
        .url = decode_text(arena, item, "config.url"),
        .content_type = decode_text(arena, item, "config.content_type"),
        .events = events_of_list(arena, json_object_get(item, "events")),
        .active = ec_json_bool(item, "active", false),
        .insecure = is_one(ec_json_at(item, "config.insecure_ssl")),
        .last_status = decode_text(arena, item, "last_response.status"),
        .last_code = decode_status(ec_json_int(item, "last_response.code", 0)),
    };
    return ret->id[0] != '\0';
}

static bool decode_gitlab(struct ec_arena *arena, json_t *item, struct ec_githost_hook *ret)
{
    const char *alert = decode_text(arena, item, "alert_status"); /* newer ones switch off by it */
    *ret = (struct ec_githost_hook){
        .id = decode_id(arena, json_object_get(item, "id")),
        .url = decode_text(arena, item, "url"),
        .content_type = "json",
        .events = events_of_flags(arena, item),
        .active = !alert[0] || strcmp(alert, "executable") == 0,
        .insecure = !ec_json_bool(item, "enable_ssl_verification", true),
        .last_status = alert,
    };
    return ret->id[0] != '\0';
}

struct ec_err decode_hooks(struct ec_arena *arena, enum ec_githost_kind kind, const json_t *root,
                           struct hook_list *hooks)
{
    if (!json_is_array(root)) {
        return ec_reject("the git host answered no list of webhooks");
    }
    for (size_t i = 0; i < json_array_size(root) && hooks->count < HOOKS_MAX; i++) {
        json_t *item = json_array_get(root, i);
        struct ec_githost_hook *hook = &hooks->items[hooks->count];
        hooks->count += kind == EC_GITHOST_GITLAB ? decode_gitlab(arena, item, hook)
                                                  : decode_github(arena, item, hook);
    }
    return ec_ok();
}

int64_t decode_gitlab_level(const json_t *root, const char *user)
{
    int64_t level = 0;
    for (size_t i = 0; i < json_array_size(root); i++) {
        const json_t *item = json_array_get(root, i);
        bool same = strcmp(ec_json_text(item, "username"), user) == 0 &&
                    strcmp(ec_json_text(item, "state"), "active") == 0;
        int64_t found = same ? ec_json_int(item, "access_level", 0) : 0;
        level = found > level ? found : level;
    }
    return level;
}
