/* All sequences of what can happen, up to a depth, from every stage of a push's way: duplicates,
 * late and out-of-order words included. After each step the invariants of the state machine must
 * hold; at the end everything must come to rest by deadlines alone. Then long random walks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "explore_happenings.h"

#define DEPTH_MAX 3
#define WALKS 400
#define WALK_STEPS 60

/* What happened so far in the walk being looked at, for the failure message. */
static const char *trail[WALK_STEPS + 16];
static size_t trail_len;

/* Which pairs of (state, happening) were met; every state that was ever met must have met all. */
static bool met[MACHINE_KINDS][MACHINE_STATES_MAX][EC_LEN(happenings)];

static void note_pairs(const struct world *w, size_t happening)
{
    for (const struct build *b = w->first_build; b; b = b->next) {
        met[MACHINE_BUILD][b->cell.state][happening] = true;
    }
    for (const struct release *r = w->first_release; r; r = r->next) {
        met[MACHINE_RELEASE][r->cell.state][happening] = true;
    }
    for (const struct deployment *d = w->first_deployment; d; d = d->next) {
        met[MACHINE_DEPLOYMENT][d->cell.state][happening] = true;
    }
    for (const struct domain *d = w->first_domain; d; d = d->next) {
        met[MACHINE_DOMAIN][d->cell.state][happening] = true;
    }
}

/* States that live only inside one decision. */
static bool passing(size_t kind, size_t state)
{
    return kind == MACHINE_DELIVERY || (kind == MACHINE_BUILD && state == BUILD_WAITING) ||
           (kind == MACHINE_RELEASE && state == RELEASE_BUILDING) ||
           (kind == MACHINE_DEPLOYMENT && state == DEPLOYMENT_PENDING) ||
           (kind == MACHINE_DOMAIN && state == DOMAIN_PENDING);
}

static void test_every_state_met_every_happening(void **state)
{
    (void)state; /* runs last: looks at what the others did */
    for (size_t kind = 0; kind < MACHINE_KINDS; kind++) {
        for (size_t at = 0; at < machines[kind].state_count; at++) {
            for (size_t i = 0; i < EC_LEN(happenings) && !passing(kind, at); i++) {
                if (!met[kind][at][i]) {
                    fail_msg("%s %s never met \"%s\"", machines[kind].name,
                             machines[kind].states[at].name, happenings[i].name);
                }
            }
        }
    }
}

/* ---- what must hold ---- */

static void wrong(const char *what, const char *id)
{
    printf("%s: %s, after", what, id);
    for (size_t i = 0; i < trail_len; i++) {
        printf(" > %s", trail[i]);
    }
    printf("\n");
    fail();
}

static void check_cell(const struct machine_cell *cell, const char *id)
{
    if (machine_ended(cell) != (cell->deadline_unix_ms == 0)) {
        wrong("deadline does not fit the state", id);
    }
    if (!machine_ended(cell) && cell->deadline_unix_ms <= NOW) {
        wrong("born overdue", id);
    }
}

static void check_deployments(struct world *w)
{
    size_t open = 0;
    const struct desired *desired = w->first_desired;
    for (struct deployment *d = w->first_deployment; d; d = d->next) {
        check_cell(&d->cell, d->id);
        open += !machine_ended(&d->cell);
        if (!machine_ended(&d->cell) && strcmp(desired->deployment_id, d->id) != 0) {
            wrong("an open deployment that is not the desired one", d->id);
        }
        if (world_release(w, d->release_id)->cell.state != RELEASE_READY &&
            d->cell.state != DEPLOYMENT_CANCELLED) { /* refused, and kept to be seen */
            wrong("deployed though not READY", d->id);
        }
    }
    if (open > 1) {
        wrong("two deployments under way", "");
    }
    if (desired && *desired->good_release_id) {
        struct deployment *good = world_deployment(w, desired->good_deployment_id);
        if (!good || good->cell.state != DEPLOYMENT_HEALTHY) {
            wrong("what is good was never healthy", desired->good_release_id);
        }
    }
    if (desired && open == 0 && strcmp(desired->release_id, desired->good_release_id) != 0) {
        wrong("at rest, but what is desired is not what is good", desired->release_id);
    }
}

static void check_rest(struct world *w)
{
    size_t succeeded_count = 0, release_count = 0;
    for (struct build *b = w->first_build; b; b = b->next) {
        check_cell(&b->cell, b->id);
        succeeded_count += b->cell.state == BUILD_SUCCEEDED;
        if (b->attempt - b->losses > test_rules.attempts_max) {
            wrong("more attempts than allowed", b->id);
        }
        if (b->losses > test_rules.losses_max || b->losses > b->attempt) {
            wrong("more losses than allowed, or than attempts", b->id);
        }
    }
    for (struct release *r = w->first_release; r; r = r->next) {
        check_cell(&r->cell, r->id);
        release_count++;
    }
    if (succeeded_count != release_count) {
        wrong("not one release per success", "");
    }
    for (struct domain *d = w->first_domain; d; d = d->next) {
        check_cell(&d->cell, d->hostname);
    }
    if (w->first_service->removed) {
        for (struct build *b = w->first_build; b; b = b->next) {
            if (!machine_ended(&b->cell)) {
                wrong("works for a removed service", b->id);
            }
        }
        if (w->first_desired && *w->first_desired->release_id) {
            wrong("runs though removed", "");
        }
    }
}

static void check_facts(struct world *w)
{
    struct ec_map *ids = ec_map_new(100000);
    int64_t revision = 0;
    for (struct fact *f = w->first_fact; f; f = f->next) {
        if (ec_map_get(ids, f->event_id)) {
            wrong("two facts with one id", f->type);
        }
        ec_map_put(ids, f->event_id, f);
        if (strcmp(f->type, "dev.enclii.desired.v1") == 0 && !f->tombstone) {
            Enclii__V1__Desired *desired = enclii__v1__desired__unpack(
                &w->allocator, f->body.len, (const uint8_t *)f->body.ptr);
            if (desired->revision <= revision) {
                wrong("revision did not grow", f->key);
            }
            revision = desired->revision;
        }
    }
    ec_map_free(ids, NULL);
}

static size_t open_count(struct world *w)
{
    size_t open = 0;
    for (struct build *b = w->first_build; b; b = b->next) {
        open += !machine_ended(&b->cell);
    }
    for (struct release *r = w->first_release; r; r = r->next) {
        open += !machine_ended(&r->cell);
    }
    for (struct deployment *d = w->first_deployment; d; d = d->next) {
        open += !machine_ended(&d->cell);
    }
    return open;
}

/* Terminal states never change: remembered per id, compared after each step. */
static void check_ended_stay(struct world *w, struct ec_map *ended)
{
    for (struct build *b = w->first_build; b; b = b->next) {
        const char *before = ec_map_get(ended, b->id);
        if (before && strcmp(before, machine_text(&b->cell)) != 0) {
            wrong("a build came back from its end", b->id);
        }
        if (machine_ended(&b->cell)) {
            ec_map_put(ended, b->id, world_text(w, machine_text(&b->cell)));
        }
    }
    for (struct deployment *d = w->first_deployment; d; d = d->next) {
        const char *before = ec_map_get(ended, d->id);
        if (before && strcmp(before, machine_text(&d->cell)) != 0) {
            wrong("a deployment came back from its end", d->id);
        }
        if (machine_ended(&d->cell)) {
            ec_map_put(ended, d->id, world_text(w, machine_text(&d->cell)));
        }
    }
}

struct walk {
    struct world *world;
    struct ec_map *ended;
};

static struct walk begin(void)
{
    struct walk walk = {test_world(), ec_map_new(1000)};
    test_service(walk.world, 1, PROJECT);
    world_add_builder(
        walk.world,
        &(struct builder){
            .id = "builder", .slots = 100, .cached_repos = "[]", .version = "", .heard_ms = NOW});
    trail_len = 0;
    return walk;
}

static void step(struct walk *walk, const struct happening *what)
{
    trail[trail_len++] = what->name;
    note_pairs(walk->world, (size_t)(what - happenings));
    what->act(walk->world);
    check_deployments(walk->world);
    check_rest(walk->world);
    check_ended_stay(walk->world, walk->ended);
}

static void end(struct walk *walk)
{
    check_facts(walk->world);
    /* Nobody says anything any more: deadlines end it all (leased builds take their attempts). */
    for (int round = 0; round < 20 && open_count(walk->world) > 0; round++) {
        do_overdue(walk->world);
        do_lease(walk->world);
    }
    if (open_count(walk->world) > 0) {
        wrong("does not come to rest", "");
    }
    check_deployments(walk->world);
    ec_map_free(walk->ended, NULL);
    world_free(walk->world);
}

/* Indexes into happenings: the stages that a push goes through, twice. */
static const uint8_t prefix[] = {0, 2, 3, 5, 11, 14, 0, 2, 3, 5, 11};

static void test_every_sequence_from_every_stage(void **state)
{
    (void)state;
    size_t kinds = EC_LEN(happenings), walked = 0;
    for (size_t stage = 0; stage <= EC_LEN(prefix); stage++) {
        /* Three deep where a build runs and where the second release rolls over the first. */
        size_t depth = stage % 8 == 3 ? DEPTH_MAX : DEPTH_MAX - 1;
        size_t sequences = depth == DEPTH_MAX ? kinds * kinds * kinds : kinds * kinds;
        for (size_t n = 0; n < sequences; n += SEQUENCE_STEP, walked++) {
            struct walk walk = begin();
            for (size_t i = 0; i < stage; i++) {
                step(&walk, &happenings[prefix[i]]);
            }
            for (size_t i = 0, rest = n; i < depth; i++, rest /= kinds) {
                step(&walk, &happenings[rest % kinds]);
            }
            end(&walk);
        }
    }
    print_message("%zu sequences\n", walked);
}

static void test_long_walks(void **state)
{
    (void)state;
    unsigned seed = 20260101;
    for (int n = 0; n < WALKS; n++) {
        struct walk walk = begin();
        for (int i = 0; i < WALK_STEPS; i++) {
            size_t at = (size_t)rand_r(&seed) % EC_LEN(happenings);
            /* The removal of the service ends all interest: seldom. */
            at = happenings[at].act == do_remove && rand_r(&seed) % 20 ? 0 : at;
            step(&walk, &happenings[at]);
        }
        end(&walk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sequence_from_every_stage),
        cmocka_unit_test(test_long_walks),
        cmocka_unit_test(test_every_state_met_every_happening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
