/* Pushes come late, twice, or not at all; each says where its ref was before and is after. From
 * these two, and the last push that counted, follows whether this one is news: a push that fills a
 * gap is older than what is there, and what a sweep found is no news once the webhook came. Where
 * both readings are possible it is taken: `sweeper` looks again, and its next word settles it. */
#include "decide.h"

#include <string.h>

#include "base/mem.h"

static bool same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void close_gap(struct git_ref *ref)
{
    if (same(ref->gap_from, ref->gap_to)) {
        ref->gap_from = ref->gap_to = "";
    }
}

/* A push from inside the gap; the gap is then smaller. */
static bool fills_gap(struct world *world, struct git_ref *ref,
                      const Enclii__V1__PushReceived *push)
{
    if (!*ref->gap_to) {
        return false;
    }
    if (same(push->before, ref->gap_from)) {
        ref->gap_from = world_text(world, push->after);
    } else if (same(push->after, ref->gap_to)) {
        ref->gap_to = world_text(world, push->before);
    } else {
        return false;
    }
    close_gap(ref);
    return true;
}

static void take(struct world *world, struct git_ref *ref, const Enclii__V1__PushReceived *push)
{
    /* What a sweep found stands for all pushes since; else what lies between the two is missing. */
    const char *to = push->recovered ? push->after : push->before;
    bool missing = *ref->sha && *push->before && !same(ref->sha, to);
    ref->gap_from = missing ? ref->sha : "";
    ref->gap_to = missing ? world_text(world, to) : "";
    ref->sha = world_text(world, push->after);
    ref->seen_ms = push->received_unix_ms ? push->received_unix_ms : world->now_ms;
    ref->mark = ROW_CHANGED;
}

struct filter decide_news(struct world *world, const Enclii__V1__PushReceived *push)
{
    const struct filter news = {NULL, NULL};
    struct git_ref *ref = world_ref(world, push->repo_key, push->ref);
    if (!ref) {
        ref = world_add_ref(world, &(struct git_ref){.repo_key = world_text(world, push->repo_key),
                                                     .ref = world_text(world, push->ref),
                                                     .sha = "",
                                                     .gap_from = "",
                                                     .gap_to = ""});
    }
    if (push->by_hand) {
        return news; /* a person wants that commit built; where the ref is stays what it was */
    }
    bool known = same(push->after, ref->sha);
    if (!push->recovered && fills_gap(world, ref, push)) {
        ref->mark = ROW_CHANGED;
        return known
                   ? (struct filter){"already_recovered",
                                     "a sweep had found this push before its webhook came"}
                   : (struct filter){"older_push",
                                     ec_arena_format(world->arena, "%s is at %.12s by a later push",
                                                     push->ref, ref->sha)};
    }
    if (known) { /* two webhooks at the host, or a sweep and a webhook, tell one push */
        return (struct filter){"already_known", "this push was told before"};
    }
    take(world, ref, push);
    return news;
}
