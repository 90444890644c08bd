/* Pushes come late, twice, or not at all; each says where its ref was before and is after. From
 * these two, and the last push that counted, follows whether this one is news: a push from inside a
 * gap is older than what is there, and what a sweep found is no news once the webhook came. Where
 * both readings are possible it is taken: `sweeper` looks again, and its next word settles it. */
#include "decide.h"

#include <string.h>

#include "base/mem.h"

static bool same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* The gaps of a ref, oldest first: pushes between from[i] and to[i] did not come. Kept as two texts
 * with spaces between the commits; beyond the most, the oldest is forgotten. */
#define GAPS_MAX 64

struct gaps {
    const char *from[GAPS_MAX + 1], *to[GAPS_MAX + 1];
    size_t count;
};

static size_t split(struct world *world, const char *text, const char **ret_words)
{
    size_t count = 0;
    while (*text && count < GAPS_MAX) {
        size_t len = strcspn(text, " ");
        ret_words[count++] = ec_arena_text(world->arena, (struct ec_span){text, len});
        text += len + (text[len] == ' ');
    }
    return count;
}

static const char *join(struct world *world, const char *const *words, size_t count)
{
    const char *text = "";
    for (size_t i = 0; i < count; i++) {
        text = i ? ec_arena_format(world->arena, "%s %s", text, words[i]) : words[i];
    }
    return text;
}

static void read_gaps(struct world *world, const struct git_ref *ref, struct gaps *gaps)
{
    size_t froms = split(world, ref->gap_from, gaps->from);
    size_t tos = split(world, ref->gap_to, gaps->to);
    gaps->count = froms < tos ? froms : tos;
}

static void write_gaps(struct world *world, struct git_ref *ref, const struct gaps *gaps)
{
    ref->gap_from = join(world, gaps->from, gaps->count);
    ref->gap_to = join(world, gaps->to, gaps->count);
    ref->mark = ROW_CHANGED;
}

static void remove_gap(struct gaps *gaps, size_t at)
{
    gaps->count--;
    memmove(&gaps->from[at], &gaps->from[at + 1], (gaps->count - at) * sizeof *gaps->from);
    memmove(&gaps->to[at], &gaps->to[at + 1], (gaps->count - at) * sizeof *gaps->to);
}

/* A push from inside a gap; the gap is then smaller. */
static bool fills_gap(struct world *world, struct git_ref *ref,
                      const Enclii__V1__PushReceived *push)
{
    struct gaps gaps;
    read_gaps(world, ref, &gaps);
    for (size_t i = 0; i < gaps.count; i++) {
        if (same(push->before, gaps.from[i])) {
            gaps.from[i] = world_text(world, push->after);
        } else if (same(push->after, gaps.to[i])) {
            gaps.to[i] = world_text(world, push->before);
        } else {
            continue;
        }
        if (same(gaps.from[i], gaps.to[i])) {
            remove_gap(&gaps, i);
        }
        write_gaps(world, ref, &gaps);
        return true;
    }
    return false;
}

static void take(struct world *world, struct git_ref *ref, const Enclii__V1__PushReceived *push)
{
    /* What a sweep found stands for all pushes since; else what lies between the two is missing. */
    const char *to = push->recovered ? push->after : push->before;
    if (*ref->sha && *push->before && !same(ref->sha, to)) {
        struct gaps gaps;
        read_gaps(world, ref, &gaps);
        gaps.from[gaps.count] = ref->sha;
        gaps.to[gaps.count++] = world_text(world, to);
        if (gaps.count > GAPS_MAX) {
            remove_gap(&gaps, 0);
        }
        write_gaps(world, ref, &gaps);
    }
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
    bool next = same(push->before, ref->sha); /* it begins where the ref is */
    if (!push->recovered && !next && fills_gap(world, ref, push)) {
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
