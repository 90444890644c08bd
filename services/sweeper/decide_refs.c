/* What a host lists against what we were told: which refs are odd, and which of those were never
 * told. Pure. */
#include <stdlib.h>
#include <string.h>

#include "base/git_ref.h"
#include "base/id.h"
#include "base/mem.h"
#include "sweeper.h"

#define HEADS "refs/heads/"
#define TAGS "refs/tags/"

bool decide_all_zeros(const char *sha)
{
    return sha[strspn(sha, "0")] == '\0';
}

/* SHA-1 and SHA-256 repositories. */
bool decide_is_sha(const char *sha)
{
    size_t len = strlen(sha);
    return (len == 40 || len == 64) && strspn(sha, "0123456789abcdef") == len;
}

/* A peeled tag ("^{}") is none: no name of a ref has a "^". */
static bool followed(struct ec_span ref)
{
    bool named = (ec_span_starts(ref, HEADS) && ref.len > strlen(HEADS)) ||
                 (ec_span_starts(ref, TAGS) && ref.len > strlen(TAGS));
    return named && ec_git_ref_valid(ref);
}

bool decide_is_ref(const char *ref)
{
    return strncmp(ref, "refs/", 5) == 0 && ec_git_ref_valid(ec_span_of(ref));
}

void decide_listed(struct ec_arena *arena, struct listing *listing, struct ec_span line)
{
    const char *tab = line.len > 0 ? memchr(line.ptr, '\t', line.len) : NULL;
    if (listing->cut || line.len == 0) {
        return;
    }
    if (!tab) {
        listing->skipped++;
        return;
    }
    size_t sha_len = (size_t)(tab - line.ptr);
    struct ec_span ref = {tab + 1, line.len - sha_len - 1};
    char *sha = sha_len <= 64 ? ec_arena_text(arena, (struct ec_span){line.ptr, sha_len}) : NULL;
    if (!sha || !decide_is_sha(sha) || decide_all_zeros(sha) || !followed(ref)) {
        listing->skipped++;
        return;
    }
    if (listing->count == REFS_MAX) {
        listing->cut = true;
        return;
    }
    if (!listing->refs) {
        listing->refs = ec_arena_alloc(arena, REFS_MAX * sizeof *listing->refs);
    }
    listing->refs[listing->count++] = (struct listed){ec_arena_text(arena, ref), sha};
}

static int by_ref(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->ref, ((const struct listed *)b)->ref);
}

/* As many zeros as the repository's hashes have digits. */
static const char *zeros_like(const char *sha)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    return zeros + sizeof zeros - 1 - (strlen(sha) == 64 ? 64 : 40);
}

static bool read_since(const struct sweep *sweep, int64_t odd_ms)
{
    return sweep->ledger_ms >= 0 && sweep->ledger_ms < odd_ms;
}

/* A webhook that is merely on its way is not lost: the host must say the same at two looks that lie
 * the grace apart, and everything told until after the first one must have been read. A branch that
 * moves faster than that is confirmed once it was odd for a whole interval. */
static bool confirmed(const struct sweep *sweep, const struct known *known, const char *now)
{
    bool same = strcmp(known->odd_sha, now) == 0;
    return (same && known->odd_ms >= sweep->grace_ms && read_since(sweep, known->odd_ms)) ||
           (*known->odd_sha && known->odd_first_ms >= sweep->interval_ms &&
            read_since(sweep, known->odd_first_ms));
}

static void add(struct plan *plan, enum change_kind kind, const struct known *known,
                const char *after)
{
    plan->list[plan->count++] =
        (struct change){kind, known->ref, known->sha, after, known->changes};
}

static void judge(const struct sweep *sweep, struct plan *plan, const struct known *known,
                  const char *now)
{
    bool gone = decide_all_zeros(now) && decide_all_zeros(known->sha);
    if (gone || strcmp(known->sha, now) == 0) {
        if (*known->odd_sha) {
            add(plan, CHANGE_CLEAR, known, now);
        }
        return;
    }
    if (confirmed(sweep, known, now) && plan->recovered < RECOVERED_MAX) {
        plan->recovered++;
        add(plan, CHANGE_RECOVER, known, now);
        return;
    }
    plan->unsettled++;
    if (strcmp(known->odd_sha, now) != 0) {
        add(plan, CHANGE_ODD, known, now);
    }
}

/* A ref that nothing was told about. */
static void judge_new(const struct sweep *sweep, struct plan *plan, const struct listed *listed)
{
    const struct known none = {listed->ref, zeros_like(listed->sha), 0, "", 0, 0};
    if (sweep->baselined) {
        judge(sweep, plan, &none, listed->sha);
    } else {
        add(plan, CHANGE_RECORD, &none, listed->sha);
    }
}

/* What is listed behind the last that is known may be known, too: it waits. */
static void cut_behind(struct sweep *sweep)
{
    struct listing *listing = &sweep->listing;
    const char *last = sweep->known[sweep->known_count - 1].ref;
    while (listing->count > 0 && strcmp(listing->refs[listing->count - 1].ref, last) > 0) {
        listing->count--;
    }
    listing->cut = true;
}

/* Both lists are in the same order, so that branches come before tags. */
void decide_sweep(struct ec_arena *arena, struct sweep *sweep, struct plan *ret_plan)
{
    struct listing *listing = &sweep->listing;
    size_t l = 0, k = 0;
    if (listing->count > 0) {
        qsort(listing->refs, listing->count, sizeof *listing->refs, by_ref);
    }
    if (sweep->known_cut) {
        cut_behind(sweep);
    }
    *ret_plan = (struct plan){
        .list = ec_arena_alloc(arena,
                               (listing->count + sweep->known_count) * sizeof *ret_plan->list + 1)};
    while (l < listing->count || k < sweep->known_count) {
        const struct listed *listed = l < listing->count ? &listing->refs[l] : NULL;
        const struct known *known = k < sweep->known_count ? &sweep->known[k] : NULL;
        int order = !listed ? 1 : !known ? -1 : strcmp(listed->ref, known->ref);
        l += order <= 0;
        k += order >= 0;
        if (order < 0) {
            judge_new(sweep, ret_plan, listed);
        } else if (order == 0) {
            judge(sweep, ret_plan, known, listed->sha);
        } else if (listed || !listing->cut) { /* it is not there; behind the cut nobody knows */
            judge(sweep, ret_plan, known, zeros_like(known->sha));
        }
    }
}

/* A ref may come back to where it was: how often it changed tells the two pushes apart. */
char *decide_delivery_id(struct ec_arena *arena, const char *repo_key, const struct change *change)
{
    const char *cause = ec_arena_format(arena, "%s %s %s %s %lld", repo_key, change->ref,
                                        change->before, change->after, (long long)change->changes);
    return ec_arena_format(arena, "sweep-%s", ec_id_derive(cause, "sweep").text);
}
