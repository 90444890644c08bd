/* What the mappers of all hosts share: texts with limits, messages in the arena, and the filling of
 * a message from a table of places. Pure. */
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"
#include "spec/spec.h"
#include "webhook.h"

const struct fault no_fault = {NULL, NULL};

char *map_cut(struct ec_arena *arena, const char *text, size_t max_bytes)
{
    return ec_text_clean(arena, (struct ec_span){text, strnlen(text, max_bytes + 4)}, max_bytes);
}

char *map_short(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *node)
{
    if (!ec_tape_is(node, EC_TAPE_TEXT)) {
        return NULL;
    }
    struct ec_node cut = ec_tape_cut(tape, node, 6 * TEXT_MAX_BYTES + 12); /* all of it escapes */
    return ec_tape_copy(arena, tape, &cut);
}

char *map_text(const struct mapping *m, const struct ec_node *from, const char *path)
{
    const char *text = map_short(m->arena, m->tape, ec_tape_at(m->tape, from, path));
    return map_cut(m->arena, text ? text : "", TEXT_MAX_BYTES);
}

char *map_id(struct ec_arena *arena, const struct ec_tape *tape, const struct ec_node *from,
             const char *path)
{
    const struct ec_node *node = ec_tape_at(tape, from, path);
    if (ec_tape_is(node, EC_TAPE_INT) && node->len <= 20) {
        return ec_arena_text(arena, (struct ec_span){tape->text.ptr + node->at, node->len});
    }
    const char *text = map_short(arena, tape, node);
    return map_cut(arena, text && strlen(text) <= 128 ? text : "", 128);
}

bool map_all_zeros(const char *sha)
{
    return sha[strspn(sha, "0")] == '\0';
}

/* SHA-1 and SHA-256 repositories. */
bool map_is_sha(const char *sha)
{
    size_t len = strlen(sha);
    return (len == 40 || len == 64) && strspn(sha, "0123456789abcdef") == len;
}

struct fault map_ignore(struct mapping *m, const char *reason, const char *detail)
{
    m->ignored = reason;
    m->ignored_detail = detail;
    return no_fault;
}

void *map_message(const struct mapping *m, const ProtobufCMessageDescriptor *descriptor)
{
    void *message = ec_arena_alloc(m->arena, descriptor->sizeof_message);
    protobuf_c_message_init(descriptor, message);
    return message;
}

static bool has_room(struct mapping *m)
{
    if (m->out_count > 0 && ec_arena_used_bytes(m->arena) > MAPPED_MAX_BYTES) {
        m->out_full = true;
        return false;
    }
    if (m->out_count < m->out_room) {
        return true;
    }
    size_t room = m->out_room ? m->out_room * 4 : 1;
    struct outgoing *out = room <= OUT_MAX ? ec_arena_try(m->arena, room * sizeof *out) : NULL;
    if (!out) {
        m->out_full = true;
        return false;
    }
    if (m->out_count > 0) {
        memcpy(out, m->out, m->out_count * sizeof *out);
    }
    m->out = out;
    m->out_room = room;
    return true;
}

/* The first event of a delivery has the step its type names, further ones are numbered. */
void map_out(struct mapping *m, const char *type, const char *key, const ProtobufCMessage *body)
{
    if (!has_room(m)) {
        return;
    }
    bool push = strcmp(type, "dev.enclii.push.received.v1") == 0;
    const char *step = push ? "push" : type;
    if (m->out_count > 0) {
        step = ec_arena_format(m->arena, "%s#%zu", step, m->out_count + 1);
    }
    m->out[m->out_count++] = (struct outgoing){type, key, step, body};
}

/* One text of each of the first so many elements of a list. */
char **map_names(struct mapping *m, const struct ec_node *list, const char *member, size_t most,
                 size_t *ret_count)
{
    size_t count = ec_tape_count(m->tape, list);
    char **names = ec_arena_alloc(m->arena, ((count < most ? count : most) + 1) * sizeof *names);
    *ret_count = 0;
    for (const struct ec_node *n = ec_tape_first(m->tape, list); n && *ret_count < most;
         n = ec_tape_next(m->tape, list, n)) {
        if (ec_arena_used_bytes(m->arena) > MAPPED_MAX_BYTES) {
            m->out_full = true;
            break;
        }
        names[(*ret_count)++] = map_text(m, n, member);
    }
    return names;
}

/* ---- the claim ---- */

static char *claim_text(struct ec_arena *arena, const struct ec_tape *tape, const char *path)
{
    char *text = map_short(arena, tape, ec_tape_at(tape, ec_tape_root(tape), path));
    return text ? text : ec_arena_strdup(arena, "");
}

struct claim claim_paths(struct ec_arena *arena, const struct host *host,
                         const struct ec_tape *tape)
{
    struct claim claim = {"", "", "", "", NULL};
    const struct ec_node *root = ec_tape_root(tape);
    if (!host->paths[0]) {
        return claim;
    }
    claim.url = claim_text(arena, tape, host->paths[0]);
    claim.full_name = claim_text(arena, tape, host->paths[1]);
    claim.id = map_id(arena, tape, root, host->paths[2]);
    claim.default_branch = claim_text(arena, tape, host->paths[3]);
    claim.key = strlen(claim.url) <= TEXT_MAX_BYTES ? ec_repo_key(arena, claim.url) : NULL;
    return claim;
}

/* ---- events that are no push ---- */

Enclii__V1__DeliveryInfo *map_info(const struct mapping *m, const char *action)
{
    Enclii__V1__DeliveryInfo *info = map_message(m, &enclii__v1__delivery_info__descriptor);
    info->delivery_id = ec_arena_strdup(m->arena, m->delivery_id);
    info->host = ec_arena_strdup(m->arena, m->host->name);
    info->event = map_cut(m->arena, m->event, 128);
    info->action = map_cut(m->arena, action, 128);
    info->repo_key = ec_arena_strdup(m->arena, m->repo_key ? m->repo_key : "");
    info->repo_full_name = map_cut(m->arena, m->claim.full_name, TEXT_MAX_BYTES);
    info->host_repo_id = ec_arena_strdup(m->arena, m->claim.id);
    info->received_unix_ms = m->received_ms;
    return info;
}

static void fill(const struct mapping *m, void *body, const struct field *fields)
{
    for (const struct field *f = fields; f && f->path; f++) {
        void *at = (char *)body + f->at;
        switch (f->kind) {
        case FIELD_TEXT:
            *(char **)at = map_text(m, m->root, f->path);
            break;
        case FIELD_ID:
            *(char **)at = map_id(m->arena, m->tape, m->root, f->path);
            break;
        case FIELD_INT:
            *(int64_t *)at = ec_tape_int(m->tape, m->root, f->path, 0);
            break;
        case FIELD_BOOL:
            *(protobuf_c_boolean *)at = ec_tape_bool(m->tape, m->root, f->path, false);
            break;
        }
    }
}

static bool acted_on(const struct event_row *row, const char *action)
{
    char word[64];
    if (!row->actions) {
        return true;
    }
    snprintf(word, sizeof word, " %s ", action);
    return strlen(action) + 3 <= sizeof word && strstr(row->actions, word) != NULL;
}

struct fault map_shape(struct mapping *m, const struct event_row *row)
{
    const struct event_shape *shape = row->shape;
    const char *action = shape->action_path ? map_text(m, m->root, shape->action_path) : "";
    if (!acted_on(row, action)) {
        return map_ignore(m, "action_not_used",
                          ec_arena_format(m->arena, "nothing follows from %s %s", m->event,
                                          map_cut(m->arena, action, 64)));
    }
    void *body = map_message(m, shape->descriptor);
    Enclii__V1__DeliveryInfo *info = map_info(m, action);
    if (shape->sender_path) {
        info->sender = map_text(m, m->root, shape->sender_path);
    }
    /* Every message of this kind begins with it. */
    const ProtobufCFieldDescriptor *first = &shape->descriptor->fields[0];
    *(Enclii__V1__DeliveryInfo **)((char *)body + first->offset) = info;
    fill(m, body, shape->fields);
    if (shape->finish) {
        struct fault fault = shape->finish(m, body, info);
        if (fault.field || m->ignored) {
            return fault;
        }
    }
    const char *key = *info->repo_key ? info->repo_key
                                      : ec_arena_format(m->arena, "%s/%s", m->host->name, m->event);
    map_out(m, shape->type, key, body);
    return no_fault;
}

struct fault map_ping(struct mapping *m, const struct event_row *row)
{
    (void)row;
    return map_ignore(m, "ping", "the host asks whether we are there");
}
