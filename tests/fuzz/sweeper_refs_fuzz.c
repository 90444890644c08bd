/* What a git host lists: whatever it says, only refs that are fit for git, events and pages are
 * followed, and holding the list against itself changes nothing. */
#include "base/git_ref.h"
#include "base/mem.h"
#include "fuzz.h"
#include "sweeper.h"

static void check_followed(const struct listed *listed)
{
    check(decide_is_sha(listed->sha) && !decide_all_zeros(listed->sha));
    check(strncmp(listed->ref, "refs/heads/", 11) == 0 ||
          strncmp(listed->ref, "refs/tags/", 10) == 0);
    check_shown(listed->ref, EC_GIT_REF_MAX_BYTES, false);
    check(!strpbrk(listed->ref, " ~^:?*[\\\t"));
}

static void check_same(struct ec_arena *arena, struct sweep *sweep)
{
    struct plan plan;
    struct known *known =
        ec_arena_alloc(arena, sweep->listing.count * sizeof *known + sizeof *known);
    decide_sweep(arena, sweep, &plan); /* sorts it */
    check(plan.count == sweep->listing.count);
    for (size_t i = 0; i < sweep->listing.count; i++) {
        const struct listed *listed = &sweep->listing.refs[i];
        if (i > 0 && strcmp(listed->ref, sweep->listing.refs[i - 1].ref) == 0) {
            return; /* a host that lists a ref twice: any of them */
        }
        known[i] = (struct known){listed->ref, listed->sha, 0, "", 0, 0};
    }
    sweep->known = known;
    sweep->known_count = sweep->listing.count;
    decide_sweep(arena, sweep, &plan);
    check(plan.count == 0 && plan.unsettled == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    struct ec_span rest = span_of_input(bytes, len);
    struct sweep sweep = {.ledger_ms = 0, .grace_ms = 1000, .interval_ms = 60000};
    while (rest.len > 0) {
        decide_listed(arena, &sweep.listing, take_until(&rest, '\n'));
    }
    for (size_t i = 0; i < sweep.listing.count; i++) {
        check_followed(&sweep.listing.refs[i]);
    }
    check_same(arena, &sweep);
    return 0;
}
