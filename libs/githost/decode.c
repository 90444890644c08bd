/* What git hosts answer: bytes of others, cut and cleaned before anybody keeps or shows them. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "githost/githost_private.h"

#define ID_MAX_BYTES 64
#define CURSOR_MAX_BYTES 256
#define TOKEN_MAX_BYTES 4096
#define TOKEN_LIFE_MIN_MS 60000 /* a host whose clock is behind must not make us ask for ever */
#define TOKEN_LIFE_MAX_MS 3600000

const char *decode_text(struct ec_arena *arena, const json_t *root, const char *path)
{
    json_t *value = ec_json_at(root, path);
    struct ec_span text = {json_string_value(value), json_string_length(value)};
    return text.ptr ? ec_text_clean(arena, text, TEXT_MAX_BYTES) : "";
}

bool good_id(const char *id)
{
    size_t len = strlen(id);
    return len > 0 && len <= ID_MAX_BYTES &&
           strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == len;
}

const char *decode_id(struct ec_arena *arena, const json_t *value)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        return ec_arena_format(arena, "%lld", (long long)json_integer_value(value));
    }
    const char *text = json_string_value(value);
    size_t len = text ? json_string_length(value) : 0;
    bool good =
        len > 0 && len <= ID_MAX_BYTES &&
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == len;
    return good ? ec_arena_strdup(arena, text) : "";
}

/* ---- Link (RFC 8288) ---- */

/* "<url>; rel=\"next\"" of the list; an empty span when there is none. */
static struct ec_span next_url(const char *link)
{
    for (const char *at = link; (at = strchr(at, '<')) != NULL;) {
        const char *end = strchr(at, '>');
        if (!end) {
            break;
        }
        /* The parameters reach to the next '<', which no parameter of ours contains. */
        size_t len = strcspn(end, "<");
        if (memmem(end, len, "rel=\"next\"", 10) || memmem(end, len, "rel=next", 8)) {
            return (struct ec_span){at + 1, (size_t)(end - at - 1)};
        }
        at = end;
    }
    return (struct ec_span){0};
}

const char *decode_next(struct ec_arena *arena, const char *link, const char *parameter)
{
    struct ec_span url = link ? next_url(link) : (struct ec_span){0};
    if (!url.ptr) {
        return NULL;
    }
    const char *at = memchr(url.ptr, '?', url.len), *end = url.ptr + url.len;
    size_t name_len = strlen(parameter);
    while (at && at < end) {
        at++;
        const char *stop = memchr(at, '&', (size_t)(end - at));
        struct ec_span pair = {at, (size_t)((stop ? stop : end) - at)};
        if (ec_span_starts(pair, parameter) && pair.len > name_len && at[name_len] == '=') {
            struct ec_span value = {0};
            struct ec_span raw = {at + name_len + 1, pair.len - name_len - 1};
            bool good = raw.len > 0 && raw.len <= CURSOR_MAX_BYTES &&
                        ec_unpercent(arena, raw, &value) && !memchr(value.ptr, '\0', value.len);
            return good ? ec_arena_text(arena, value) : NULL;
        }
        at = stop;
    }
    return NULL;
}

/* ---- lists of deliveries ---- */

/* -1 when absent or no time. */
static int64_t time_at(const json_t *item, const char *path)
{
    const char *text = ec_json_text(item, path);
    int64_t at_ms = text[0] ? ec_rfc3339_parse(text) : -1;
    return at_ms > 0 ? at_ms : 0;
}

int decode_status(int64_t code)
{
    return code >= 100 && code <= 599 ? (int)code : 0;
}

static bool github_delivery(struct ec_arena *arena, const json_t *item,
                            struct ec_githost_delivery *ret)
{
    *ret = (struct ec_githost_delivery){
        .id = decode_id(arena, json_object_get(item, "id")),
        .guid = decode_text(arena, item, "guid"),
        .event = decode_text(arena, item, "event"),
        .action = decode_text(arena, item, "action"),
        .status = decode_text(arena, item, "status"),
        .status_code = decode_status(ec_json_int(item, "status_code", 0)),
        .redelivery = ec_json_bool(item, "redelivery", false),
        .delivered_unix_ms = time_at(item, "delivered_at"),
    };
    return ret->id[0] && ret->guid[0];
}

/* GitLab keeps the request's headers; its answer's status is a text: "200", "internal error". */
static bool gitlab_delivery(struct ec_arena *arena, const json_t *item,
                            struct ec_githost_delivery *ret)
{
    const json_t *headers = json_object_get(item, "request_headers");
    const char *status = decode_text(arena, item, "response_status");
    const char *guid = decode_text(arena, headers, "X-Gitlab-Event-UUID");
    *ret = (struct ec_githost_delivery){
        .id = decode_id(arena, json_object_get(item, "id")),
        .guid = guid[0] ? guid : decode_text(arena, headers, "Idempotency-Key"),
        .event = decode_text(arena, headers, "X-Gitlab-Event"),
        .action = "",
        .status = status,
        .status_code = decode_status(strtol(status, NULL, 10)),
        .delivered_unix_ms = time_at(item, "created_at"),
    };
    if (ret->status_code >= 200 && ret->status_code < 300) {
        ret->status = "OK";
    }
    return ret->id[0] && ret->guid[0];
}

static struct ec_err decode_list(struct ec_arena *arena, const json_t *root,
                                 bool (*decode)(struct ec_arena *, const json_t *,
                                                struct ec_githost_delivery *),
                                 struct ec_githost_deliveries *ret_page)
{
    if (!json_is_array(root)) {
        return ec_reject("the git host answered no list of deliveries");
    }
    size_t most = json_array_size(root) < ITEMS_MAX ? json_array_size(root) : ITEMS_MAX;
    struct ec_githost_delivery *list = ec_arena_alloc(arena, (most + 1) * sizeof(*list));
    ret_page->list = list;
    ret_page->count = 0;
    for (size_t i = 0; i < most; i++) {
        ret_page->count += decode(arena, json_array_get(root, i), &list[ret_page->count]);
    }
    return ec_ok();
}

struct ec_err decode_github_deliveries(struct ec_arena *arena, const json_t *root,
                                       struct ec_githost_deliveries *ret_page)
{
    return decode_list(arena, root, github_delivery, ret_page);
}

struct ec_err decode_gitlab_deliveries(struct ec_arena *arena, const json_t *root,
                                       struct ec_githost_deliveries *ret_page)
{
    return decode_list(arena, root, gitlab_delivery, ret_page);
}

/* ---- an App's token ---- */

struct ec_err decode_app_token(const json_t *root, int64_t now_unix_ms,
                               struct ec_secret **ret_token, int64_t *ret_life_ms)
{
    const json_t *token = json_object_get(root, "token");
    size_t len = json_string_length(token);
    if (len == 0 || len > TOKEN_MAX_BYTES) {
        return ec_reject("the git host answered without a token for the App");
    }
    for (const char *c = json_string_value(token); *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f) {
            return ec_reject("the git host's token for the App has characters that no token has");
        }
    }
    int64_t life_ms = time_at(root, "expires_at") - now_unix_ms;
    *ret_life_ms = life_ms < TOKEN_LIFE_MIN_MS   ? TOKEN_LIFE_MIN_MS
                   : life_ms > TOKEN_LIFE_MAX_MS ? TOKEN_LIFE_MAX_MS
                                                 : life_ms;
    *ret_token = ec_secret_new((struct ec_span){json_string_value(token), len});
    return ec_ok();
}
