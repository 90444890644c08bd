/* Who follows no git host's form: anything that signs as Standard Webhooks says, with a body
 * {"type": ..., "data": {...}} of ours, and registries that tell of new images. Pure. */
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "trust/digest.h"
#include "webhook.h"

/* data {repository, ref, before?, after, message?, author{name,email}?, timestamp?, pusher?,
 * changed_paths?: all of them}: what a script or a mirror can tell with a few lines. */
struct fault map_generic_push(struct mapping *m, const struct event_row *row)
{
    (void)row;
    const struct ec_node *data = ec_tape_at(m->tape, m->root, "data");
    const struct ec_node *paths = ec_tape_at(m->tape, data, "changed_paths");
    Enclii__V1__PushReceived *push = push_new(m);
    const char *before = map_text(m, data, "before"), *after = map_text(m, data, "after");
    char *zeros = ec_arena_strdup(m->arena, after);
    memset(zeros, '0', strlen(zeros));
    struct fault fault =
        push_ref(m, push, map_text(m, data, "ref"), *before ? before : zeros, after);
    if (fault.field) {
        return fault;
    }
    push->pusher = map_text(m, data, "pusher");
    push_head(m, push, data);
    push->changed_paths = ec_arena_alloc(m->arena, PATHS_MAX * sizeof(char *));
    push->changed_paths_complete = paths && !push->created && !push->deleted;
    for (const struct ec_node *n = ec_tape_first(m->tape, paths); n;
         n = ec_tape_next(m->tape, paths, n)) {
        char *path = push->n_changed_paths < PATHS_MAX ? ec_tape_copy(m->arena, m->tape, n) : NULL;
        if (!path) {
            push->changed_paths_complete = false;
            break;
        }
        push->changed_paths[push->n_changed_paths++] = path;
    }
    map_out(m, "dev.enclii.push.received.v1", push->repo_key, &push->base);
    return no_fault;
}

static const struct field ci_fields[] = {
    {"data.run_id", offsetof(Enclii__V1__CiChanged, run_id), FIELD_ID},
    {"data.name", offsetof(Enclii__V1__CiChanged, name), FIELD_TEXT},
    {"data.branch", offsetof(Enclii__V1__CiChanged, branch), FIELD_TEXT},
    {"data.sha", offsetof(Enclii__V1__CiChanged, sha), FIELD_TEXT},
    {"data.conclusion", offsetof(Enclii__V1__CiChanged, conclusion), FIELD_TEXT},
    {"data.url", offsetof(Enclii__V1__CiChanged, url), FIELD_TEXT},
    {0},
};

static struct fault finish_ci(struct mapping *m, void *body, Enclii__V1__DeliveryInfo *info)
{
    (void)info;
    Enclii__V1__CiChanged *ci = body;
    if (!map_is_sha(ci->sha) || !*ci->conclusion) {
        return (struct fault){"data.sha", "needs the commit, and conclusion how it ended"};
    }
    ci->kind = ec_arena_strdup(m->arena, "generic");
    ci->status = ec_arena_strdup(m->arena, "completed");
    return no_fault;
}

static const struct event_shape ci = {"dev.enclii.ci.changed.v1",
                                      &enclii__v1__ci_changed__descriptor,
                                      NULL,
                                      NULL,
                                      ci_fields,
                                      finish_ci};

/* ---- images ---- */

static struct fault tell_image(struct mapping *m, const char *repository, const char *tag,
                               const char *digest)
{
    Enclii__V1__ImagePushed *image = map_message(m, &enclii__v1__image_pushed__descriptor);
    if (!*repository) {
        return (struct fault){"repository", "is missing"};
    }
    if (*digest && !ec_digest_valid(digest)) {
        return (struct fault){"digest", "must be sha256: and 64 lower-case hex digits"};
    }
    if (!*tag && !*digest) {
        return (struct fault){"tag", "is missing, and so is digest"};
    }
    image->delivery = map_info(m, "push");
    if (m->out_count > 0) { /* each image is a delivery of its own in the ledger */
        image->delivery->delivery_id =
            ec_arena_format(m->arena, "%s#%zu", m->delivery_id, m->out_count + 1);
    }
    image->repository = ec_arena_strdup(m->arena, repository);
    image->tag = ec_arena_strdup(m->arena, tag);
    image->digest = ec_arena_strdup(m->arena, digest);
    map_out(m, "dev.enclii.image.pushed.v1",
            ec_arena_format(m->arena, "image/%s", map_cut(m->arena, repository, 256)),
            &image->base);
    return no_fault;
}

static struct fault map_image(struct mapping *m, const struct event_row *row)
{
    (void)row;
    return tell_image(m, map_text(m, m->root, "data.image"), map_text(m, m->root, "data.tag"),
                      map_text(m, m->root, "data.digest"));
}

static bool is_manifest(struct ec_span type)
{
    return memmem(type.ptr, type.len, "manifest", 8) ||
           memmem(type.ptr, type.len, "image.index", 11);
}

/* CNCF Distribution: {"events": [{"action", "target": {"repository", "tag", "digest", "mediaType"},
 * "request": {"host"}}]}. Pulls and the pushes of blobs come along and tell nothing. */
struct fault map_registry(struct mapping *m, const struct event_row *row)
{
    (void)row;
    const struct ec_node *list = ec_tape_at(m->tape, m->root, "events");
    for (const struct ec_node *n = ec_tape_first(m->tape, list); n && !m->out_full;
         n = ec_tape_next(m->tape, list, n)) {
        struct ec_span type = ec_tape_raw(m->tape, ec_tape_at(m->tape, n, "target.mediaType"));
        struct ec_span action = ec_tape_raw(m->tape, ec_tape_at(m->tape, n, "action"));
        if (!ec_span_eq(action, EC_SPAN("push")) || !is_manifest(type)) {
            continue;
        }
        const char *host = map_text(m, n, "request.host");
        const char *name = map_text(m, n, "target.repository");
        struct fault fault = tell_image(
            m, *name ? ec_arena_format(m->arena, "%s%s%s", host, *host ? "/" : "", name) : "",
            map_text(m, n, "target.tag"), map_text(m, n, "target.digest"));
        if (fault.field) {
            return fault;
        }
    }
    return m->out_count > 0 ? no_fault : map_ignore(m, "no_image", "no manifest was pushed");
}

/* Harbor: {"type": "PUSH_ARTIFACT", "event_data": {"resources": [{"tag", "digest",
 * "resource_url"}]}} */
struct fault map_harbor(struct mapping *m, const struct event_row *row)
{
    (void)row;
    const struct ec_node *list = ec_tape_at(m->tape, m->root, "event_data.resources");
    for (const struct ec_node *n = ec_tape_first(m->tape, list); n && !m->out_full;
         n = ec_tape_next(m->tape, list, n)) {
        char *url =
            map_text(m, n, "resource_url"); /* "harbor.example/acme/shop:1" or "...@sha256:" */
        char *slash = strrchr(url, '/');
        char *end = slash ? strpbrk(slash, ":@") : NULL;
        if (end) {
            *end = '\0';
        }
        struct fault fault = tell_image(m, url, map_text(m, n, "tag"), map_text(m, n, "digest"));
        if (fault.field) {
            return fault;
        }
    }
    return m->out_count > 0 ? no_fault : map_ignore(m, "no_image", "no artifact was pushed");
}

const struct event_row generic_events[] = {
    {"push", map_generic_push, NULL, NULL, true},    {"image.pushed", map_image, NULL, NULL, false},
    {"registry.push", map_image, NULL, NULL, false}, {"ci.completed", map_shape, NULL, &ci, false},
    {"ping", map_ping, NULL, NULL, false},           {0},
};

const struct event_row registry_events[] = {
    {"notification", map_registry, NULL, NULL, false},
    {"PUSH_ARTIFACT", map_harbor, NULL, NULL, false},
    {0},
};
