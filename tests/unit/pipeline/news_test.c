/* Pushes that come late, twice or not at all, and those whose list of paths was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support.h"

#define ZEROS "0000"

static int serial;

/* One push of main; gives the row of its delivery. */
static struct delivery *push(struct world *w, const char *before, const char *after, bool recovered)
{
    Enclii__V1__PushReceived *word = world_message(w, &enclii__v1__push_received__descriptor);
    word->head = world_message(w, &enclii__v1__commit__descriptor);
    word->before = world_text(w, before);
    word->after = world_text(w, after);
    word->ref = world_text(w, "refs/heads/main");
    word->repo_key = world_text(w, "h/acme/shop");
    word->delivery_id = ec_arena_format(w->arena, "n%d", ++serial);
    word->recovered = recovered;
    word->changed_paths_complete = true;
    test_event(w, "push.received", NULL, &word->base);
    return world_delivery(w, word->delivery_id);
}

static void assert_is(struct world *w, const struct delivery *row, const char *reason,
                      const char *sha)
{
    assert_string_equal(row->reason, reason);
    assert_int_equal(row->cell.state, *reason ? DELIVERY_IGNORED : DELIVERY_ACCEPTED);
    assert_string_equal(world_ref(w, "h/acme/shop", "refs/heads/main")->sha, sha);
}

static struct world *one_service(void)
{
    struct world *w = test_world();
    test_service(w, 1, PROJECT);
    return w;
}

static void test_a_recovered_push_and_its_late_webhook(void **state)
{
    (void)state;
    struct world *w = one_service();
    assert_is(w, push(w, ZEROS, "a", false), "", "a");
    assert_is(w, push(w, "a", "c", true), "", "c"); /* a → b → c, and no webhook came */
    assert_is(w, push(w, "a", "b", false), "older_push", "c");
    assert_is(w, push(w, "b", "c", false), "already_recovered", "c");
    assert_is(w, push(w, "c", "d", false), "", "d");
    assert_is(w, push(w, "c", "d", true), "already_known", "d");
    world_free(w);
}

static void test_a_push_that_was_overtaken(void **state)
{
    (void)state;
    struct world *w = one_service();
    assert_is(w, push(w, ZEROS, "a", false), "", "a");
    assert_is(w, push(w, "c", "d", false), "", "d"); /* a → b → c are still under way */
    assert_is(w, push(w, "b", "c", false), "older_push", "d");
    assert_is(w, push(w, "a", "b", false), "older_push", "d");
    assert_is(w, push(w, "d", "a", false), "", "a"); /* forced back: no gap is left to fill */
    assert_is(w, push(w, "a", "b", false), "", "b");
    world_free(w);
}

/* What was missed stays known as missing, whatever is pushed next: the host may deliver it again
 * hours later, and an old commit must not come back over a newer one. */
static void test_a_redelivery_after_newer_pushes(void **state)
{
    (void)state;
    struct world *w = one_service();
    assert_is(w, push(w, ZEROS, "a", false), "", "a");
    assert_is(w, push(w, "a", "b", true), "", "b"); /* two sweeps found two pushes */
    assert_is(w, push(w, "b", "c", true), "", "c");
    assert_is(w, push(w, "c", "d", false), "", "d"); /* webhooks come again */
    assert_is(w, push(w, "d", "e", true), "", "e");
    assert_is(w, push(w, "e", "f", false), "", "f");
    assert_is(w, push(w, "d", "e", false), "older_push", "f");
    assert_is(w, push(w, "a", "b", false), "older_push", "f");
    assert_is(w, push(w, "b", "c", false), "older_push", "f");
    assert_string_equal(world_ref(w, "h/acme/shop", "refs/heads/main")->gap_from, "");
    assert_is(w, push(w, "f", "g", false), "", "g");
    world_free(w);
}

/* Where a ref is where a gap begins or goes where one ends, the push may be from inside it or the
 * next one: it counts. */
static void test_a_push_that_could_be_both_counts(void **state)
{
    (void)state;
    struct world *w = one_service();
    assert_is(w, push(w, ZEROS, "a", false), "", "a");
    assert_is(w, push(w, "c", "d", false), "", "d"); /* a → b → c did not come */
    assert_is(w, push(w, "d", "c", false), "", "c"); /* forced back to c */
    assert_is(w, push(w, "x", "a", false), "", "a"); /* forced back to a, by two pushes */
    assert_is(w, push(w, "a", "e", false), "", "e");
    world_free(w);
}

static void test_gaps_have_a_limit(void **state)
{
    (void)state;
    struct world *w = one_service();
    push(w, ZEROS, "s0", false);
    for (int i = 1; i <= 100; i++) {
        push(w, ec_arena_format(w->arena, "b%d", i), ec_arena_format(w->arena, "s%d", i), false);
    }
    const struct git_ref *ref = world_ref(w, "h/acme/shop", "refs/heads/main");
    assert_true(strlen(ref->gap_from) < 64 * 4 && strlen(ref->gap_to) < 64 * 5);
    assert_is(w, push(w, "s98", "b99", false), "older_push", "s100"); /* the newest are kept */
    assert_is(w, push(w, "s0", "b1", false), "", "b1");
    world_free(w);
}

static void test_what_a_person_asks_for_is_taken(void **state)
{
    (void)state;
    struct world *w = one_service();
    push(w, ZEROS, "a", false);
    push(w, "c", "d", false);
    Enclii__V1__PushReceived *word = world_message(w, &enclii__v1__push_received__descriptor);
    word->head = world_message(w, &enclii__v1__commit__descriptor);
    word->before = world_text(w, "b");
    word->after = world_text(w, "c");
    word->ref = world_text(w, "refs/heads/main");
    word->repo_key = world_text(w, "h/acme/shop");
    word->delivery_id = world_text(w, "again");
    word->by_hand = true;
    test_event(w, "push.received", NULL, &word->base);
    assert_is(w, world_delivery(w, "again"), "", "d"); /* but the ref is where it was */
    assert_is(w, push(w, "d", "e", false), "", "e");
    world_free(w);
}

static void test_two_webhooks_tell_one_push(void **state)
{
    (void)state;
    struct world *w = one_service();
    assert_is(w, push(w, ZEROS, "a", false), "", "a");
    assert_is(w, push(w, ZEROS, "a", false), "already_known", "a");
    assert_is(w, push(w, "a", "b", false), "", "b");
    assert_is(w, push(w, "a", "b", false), "already_known", "b");
    assert_is(w, push(w, "b", "c", false), "", "c");
    world_free(w);
}

/* ---- whatever the order, a last look at the host ends with the truth ---- */

#define PUSHES 12

static const char *name(struct world *w, int commit)
{
    return ec_arena_format(w->arena, "c%d", commit);
}

/* What `sweeper` knows of the ref: the last push of the topic, but for those that were too old. */
static void see(struct world *w, const struct delivery *row, const char *after, const char **view)
{
    *view = strcmp(row->reason, "older_push") == 0 ? "" : world_text(w, after);
}

static bool sweep(struct world *w, const char *truth, const char **view)
{
    if (strcmp(*view, truth) == 0) {
        return false;
    }
    see(w, push(w, *view, truth, true), truth, view);
    return true;
}

static void one_history(unsigned seed)
{
    struct world *w = test_world(); /* without a service: only what is remembered matters */
    int at[PUSHES + 1] = {0}, due[PUSHES + 1];
    const char *view = "c0";
    push(w, ZEROS, "c0", false);
    for (int now = 1; now <= 2 * PUSHES; now++) {
        if (now <=
            PUSHES) { /* onwards, or forced back to an older commit; in time, late or never */
            at[now] = rand_r(&seed) % 4 ? now : rand_r(&seed) % now;
            int fate = rand_r(&seed) % 4;
            due[now] = fate == 0 ? now + rand_r(&seed) % PUSHES : fate == 1 ? 0 : now;
        }
        for (int i = 1; i <= PUSHES && i <= now; i++) {
            for (int times = due[i] == now ? 1 + rand_r(&seed) % 2 : 0; times > 0; times--) {
                see(w, push(w, name(w, at[i - 1]), name(w, at[i]), false), name(w, at[i]), &view);
            }
        }
        if (rand_r(&seed) % 3 == 0) {
            sweep(w, name(w, at[now < PUSHES ? now : PUSHES]), &view);
        }
    }
    const char *truth = name(w, at[PUSHES]);
    sweep(w, truth, &view);
    assert_false(sweep(w, truth, &view)); /* one look is enough, and a second finds nothing */
    assert_string_equal(world_ref(w, "h/acme/shop", "refs/heads/main")->sha, truth);
    world_free(w);
}

static void test_any_order_ends_with_what_the_host_has(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 3000; seed++) {
        one_history(seed);
    }
}

/* ---- lists that were cut ---- */

static void watch(struct world *w, struct service *svc)
{
    Enclii__V1__ServiceSpec *spec = world_spec(w, svc->spec);
    spec->n_watch_paths = 1;
    spec->watch_paths = ec_arena_alloc(w->arena, sizeof *spec->watch_paths);
    spec->watch_paths[0] = world_text(w, "src/");
    world_respec(w, svc, spec);
}

static struct delivery *cut_push(struct world *w, const char *id, const char *after)
{
    Enclii__V1__PushReceived *word = world_message(w, &enclii__v1__push_received__descriptor);
    word->head = world_message(w, &enclii__v1__commit__descriptor);
    word->before = world_text(w, "a");
    word->after = world_text(w, after);
    word->ref = world_text(w, "refs/heads/main");
    word->repo_key = world_text(w, "h/acme/shop");
    word->delivery_id = world_text(w, id);
    test_event(w, "push.received", NULL, &word->base);
    return world_delivery(w, id);
}

static void compared(struct world *w, const char *id, const char *path, bool complete)
{
    char *paths[] = {world_text(w, path)};
    Enclii__V1__PushCompared *word = world_message(w, &enclii__v1__push_compared__descriptor);
    word->delivery_id = world_text(w, id);
    word->repo_key = world_text(w, "h/acme/shop");
    word->changed_paths = paths;
    word->n_changed_paths = 1;
    word->complete = complete;
    test_event(w, "push.compared", NULL, &word->base);
}

static void test_a_cut_list_is_waited_for(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool complete;
        size_t builds;
    } rows[] = {{"src/main.c", true, 1}, {"docs/a.md", true, 0}, {"docs/a.md", false, 1}};
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct world *w = one_service();
        watch(w, w->first_service);
        const struct delivery *row = cut_push(w, "d1", "b");
        assert_int_equal(row->cell.state, DELIVERY_COMPARING);
        assert_int_equal(ec_map_count(w->builds), 0);
        compared(w, "d1", rows[i].path, rows[i].complete);
        assert_int_equal(ec_map_count(w->builds), rows[i].builds);
        assert_int_equal(row->cell.state, rows[i].builds ? DELIVERY_ACCEPTED : DELIVERY_IGNORED);
        compared(w, "d1", "src/main.c", true); /* said twice */
        assert_int_equal(ec_map_count(w->builds), rows[i].builds);
        world_free(w);
    }
}

static void test_nobody_watches_nobody_waits(void **state)
{
    (void)state;
    struct world *w = one_service();
    assert_int_equal(cut_push(w, "d1", "b")->cell.state, DELIVERY_ACCEPTED);
    compared(w, "d1", "docs/a.md", true);
    assert_int_equal(ec_map_count(w->builds), 1);
    world_free(w);
}

static void test_a_list_that_says_enough_is_not_waited_for(void **state)
{
    (void)state;
    struct world *w = one_service();
    char *paths[] = {world_text(w, "docs/a.md"), world_text(w, "src/main.c")};
    watch(w, w->first_service);
    Enclii__V1__PushReceived *word = world_message(w, &enclii__v1__push_received__descriptor);
    word->head = world_message(w, &enclii__v1__commit__descriptor);
    word->before = world_text(w, "a");
    word->after = world_text(w, "b");
    word->ref = world_text(w, "refs/heads/main");
    word->repo_key = world_text(w, "h/acme/shop");
    word->delivery_id = world_text(w, "d1");
    word->n_changed_paths = EC_LEN(paths);
    word->changed_paths = paths;
    test_event(w, "push.received", NULL, &word->base);
    assert_int_equal(world_delivery(w, "d1")->cell.state, DELIVERY_ACCEPTED);
    assert_int_equal(ec_map_count(w->builds), 1);
    world_free(w);
}

static void test_no_answer_builds(void **state)
{
    (void)state;
    struct world *w = one_service();
    watch(w, w->first_service);
    struct delivery *row = cut_push(w, "d1", "b");
    assert_int_equal(row->cell.deadline_unix_ms, NOW + 30000);
    decide_delivery_overdue(w, row);
    assert_int_equal(row->cell.state, DELIVERY_ACCEPTED);
    assert_int_equal(ec_map_count(w->builds), 1);
    world_free(w);
}

static void test_a_newer_push_is_built_for_both(void **state)
{
    (void)state;
    struct world *w = one_service();
    watch(w, w->first_service);
    const struct delivery *older = cut_push(w, "d1", "b");
    const struct delivery *newer = push(w, "b", "c", false); /* its own paths are none of src/ */
    assert_string_equal(older->reason, "newer_push");
    assert_int_equal(older->cell.state, DELIVERY_IGNORED);
    assert_int_equal(newer->cell.state, DELIVERY_ACCEPTED);
    assert_int_equal(ec_map_count(w->builds), 1);
    compared(w, "d1", "src/main.c", true);
    assert_int_equal(ec_map_count(w->builds), 1);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_recovered_push_and_its_late_webhook),
        cmocka_unit_test(test_a_push_that_was_overtaken),
        cmocka_unit_test(test_a_redelivery_after_newer_pushes),
        cmocka_unit_test(test_a_push_that_could_be_both_counts),
        cmocka_unit_test(test_gaps_have_a_limit),
        cmocka_unit_test(test_what_a_person_asks_for_is_taken),
        cmocka_unit_test(test_two_webhooks_tell_one_push),
        cmocka_unit_test(test_any_order_ends_with_what_the_host_has),
        cmocka_unit_test(test_a_cut_list_is_waited_for),
        cmocka_unit_test(test_nobody_watches_nobody_waits),
        cmocka_unit_test(test_a_list_that_says_enough_is_not_waited_for),
        cmocka_unit_test(test_no_answer_builds),
        cmocka_unit_test(test_a_newer_push_is_built_for_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
