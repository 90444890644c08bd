/* jansson with our limits: 32 MiB (a git host's largest webhook is 25 MB), no duplicate keys, the
 * library's own depth limit of 2048. */
#include "base/json.h"

#include <string.h>

#define TEXT_MAX_BYTES (size_t)(32 * 1024 * 1024)

EC_RESULT ec_json_parse(struct ec_arena *arena, struct ec_span text, json_t **ret_root)
{
    if (text.len > TEXT_MAX_BYTES) {
        return ec_reject_in(arena, "JSON of %zu bytes: at most 32 MiB is read", text.len);
    }
    json_error_t error;
    json_t *root = json_loadb(text.len > 0 ? text.ptr : "", text.len,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (root == NULL) {
        return ec_reject_in(arena, "bad JSON at line %d, column %d: %s", error.line, error.column,
                            error.text);
    }
    *ret_root = root;
    return ec_ok();
}

void ec_json_freep(json_t **root)
{
    json_decref(*root);
    *root = NULL;
}

/* An object's member, or an array's element when the name is a number. */
static json_t *member(const json_t *value, const char *name, size_t len)
{
    if (json_is_object(value)) {
        return json_object_getn(value, name, len);
    }
    if (!json_is_array(value) || len == 0 || len > 9 || strspn(name, "0123456789") < len) {
        return NULL;
    }
    size_t index = 0;
    for (size_t i = 0; i < len; i++) {
        index = index * 10 + (size_t)(name[i] - '0');
    }
    return json_array_get(value, index);
}

json_t *ec_json_at(const json_t *root, const char *path)
{
    const json_t *value = root;
    json_t *found = NULL;
    for (const char *at = path; value != NULL;) {
        size_t len = strcspn(at, ".");
        found = member(value, at, len);
        value = found;
        if (at[len] == '\0') {
            return found;
        }
        at += len + 1;
    }
    return NULL;
}

const char *ec_json_text(const json_t *root, const char *path)
{
    const char *text = json_string_value(ec_json_at(root, path));
    return text != NULL ? text : "";
}

int64_t ec_json_int(const json_t *root, const char *path, int64_t otherwise)
{
    const json_t *value = ec_json_at(root, path);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool ec_json_bool(const json_t *root, const char *path, bool otherwise)
{
    const json_t *value = ec_json_at(root, path);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

char *ec_json_dump(struct ec_arena *arena, const json_t *root)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    size_t len = json_dumpb(root, NULL, 0, flags);
    char *text = ec_arena_alloc(arena, len + 1);
    json_dumpb(root, text, len, flags);
    return text;
}
