/* The rollout's decisions: single ones by name, then every state there is: a simulated target obeys
 * each decision, and from every start the goal is reached, with the last serving version never
 * taken away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "reconciler.h"

static const int32_t canary[] = {10, 50, 100};
static const struct target_identity new_id = {"new/1"}, old_id = {"old/1"}, stray_id = {"stray/1"};

static struct rollout_facts facts_of(const struct target_view *view)
{
    return (struct rollout_facts){
        .view = view,
        .replicas = 1,
        .replicas_previous = 1,
        .weights = canary,
        .weight_count = 3,
        .step_ms = 1000,
        .error_rate_max = 0.05,
        .deadline_mono_ms = 100000,
        .wanted = new_id,
        .previous = old_id,
        .has_previous = true,
        .now_mono_ms = 50000,
        .step_mono_ms = 50000,
    };
}

static struct target_version ready(const struct target_identity *id, int percent)
{
    return (struct target_version){
        .identity = *id, .total = 1, .running = 1, .ready = 1, .weight_percent = percent};
}

static void test_first_steps(void **state)
{
    (void)state;
    struct target_view view = {.count = 1, .versions = {ready(&old_id, 100)}};
    struct rollout_facts facts = facts_of(&view);
    assert_int_equal(decide_next_step(&facts).step, STEP_PULL);
    facts.pulled = true;
    assert_int_equal(decide_next_step(&facts).step, STEP_START);
    facts.retry_mono_ms = facts.now_mono_ms + 300;
    struct rollout_decision wait = decide_next_step(&facts);
    assert_int_equal(wait.step, STEP_WAIT);
    assert_int_equal(wait.wait_ms, 300);
}

static void test_weights_grow_after_their_time_and_a_look(void **state)
{
    (void)state;
    struct target_view view = {.count = 2, .versions = {ready(&old_id, 100), ready(&new_id, 0)}};
    struct rollout_facts facts = facts_of(&view);
    facts.pulled = true;
    static const int seen[] = {0, 10, 50}, next[] = {10, 50, 100};
    for (int i = 0; i < 3; i++) {
        view.versions[0].weight_percent = 100 - seen[i];
        view.versions[1].weight_percent = seen[i];
        facts.judged = false;
        facts.now_mono_ms = facts.step_mono_ms + 999;
        if (i > 0) {
            assert_int_equal(decide_next_step(&facts).step, STEP_WAIT);
            facts.now_mono_ms += 1;
            assert_int_equal(decide_next_step(&facts).step, STEP_JUDGE);
            facts.judged = true;
        }
        struct rollout_decision decision = decide_next_step(&facts);
        assert_int_equal(decision.step, STEP_ROUTE);
        assert_int_equal(decision.percent, next[i]);
        assert_string_equal(decision.version->identity.text, old_id.text);
    }
}

static void test_errors_end_a_step(void **state)
{
    (void)state;
    struct target_view view = {.count = 2, .versions = {ready(&old_id, 90), ready(&new_id, 10)}};
    struct rollout_facts facts = facts_of(&view);
    facts.requests_new = 20;
    facts.errors_new = 2;
    assert_false(decide_errors_bad(&facts)); /* too few to say */
    facts.errors_new = 3;
    assert_true(decide_errors_bad(&facts));
    struct rollout_decision decision = decide_next_step(&facts);
    assert_int_equal(decision.step, STEP_FAIL);
    assert_string_equal(decision.reason, "error_rate");
    facts.requests_old = 100;
    facts.errors_old = 14; /* the old one is as bad */
    assert_false(decide_errors_bad(&facts));
    facts.requests_new = 1000;
    facts.errors_new = 50; /* exactly what it may */
    facts.errors_old = 0;
    assert_false(decide_errors_bad(&facts));
}

static void test_reasons(void **state)
{
    (void)state;
    static const struct {
        enum target_trouble trouble;
        const char *reason;
    } rows[] = {{TARGET_EXITED, "start_failed"},
                {TARGET_NEVER_LISTENED, "never_listened"},
                {TARGET_UNHEALTHY, "unhealthy"}};
    struct target_view view = {.count = 2, .versions = {ready(&old_id, 100), ready(&new_id, 0)}};
    struct rollout_facts facts = facts_of(&view);
    for (int i = 0; i < 3; i++) {
        view.versions[1].trouble = rows[i].trouble;
        struct rollout_decision decision = decide_next_step(&facts);
        assert_int_equal(decision.step, STEP_FAIL);
        assert_string_equal(decision.reason, rows[i].reason);
    }
    view.versions[1].trouble = TARGET_FINE;
    view.versions[1].ready = 0;
    facts.now_mono_ms = facts.deadline_mono_ms;
    facts.pulled = true;
    assert_string_equal(decide_next_step(&facts).reason, "deadline");
    facts.pulled = false;
    assert_string_equal(decide_next_step(&facts).reason, "image_pull_failed");
}

static void test_drain_before_removal(void **state)
{
    (void)state;
    struct target_view view = {.count = 2, .versions = {ready(&old_id, 0), ready(&new_id, 100)}};
    struct rollout_facts facts = facts_of(&view);
    assert_int_equal(decide_next_step(&facts).step, STEP_REPORT_DONE);
    facts.reported = true;
    facts.drain_mono_ms = facts.now_mono_ms - 1000;
    view.versions[0].open = 1;
    assert_int_equal(decide_next_step(&facts).step, STEP_WAIT);
    facts.now_mono_ms = facts.drain_mono_ms + ROLLOUT_DRAIN_MS;
    assert_int_equal(decide_next_step(&facts).step, STEP_REMOVE);
    facts.now_mono_ms = facts.drain_mono_ms + 10;
    view.versions[0].open = 0;
    assert_int_equal(decide_next_step(&facts).step, STEP_REMOVE);
}

/* Pushed again and again while no version ever became ready: the view is full of them. */
static void test_useless_versions_make_room(void **state)
{
    (void)state;
    struct target_view view = {.count = TARGET_VERSIONS_MAX};
    for (size_t i = 0; i < view.count; i++) {
        view.versions[i] = (struct target_version){.total = 1, .running = 1};
        snprintf(view.versions[i].identity.text, TARGET_IDENTITY_SIZE, "overtaken/%zu", i);
    }
    struct rollout_facts facts = facts_of(&view);
    facts.pulled = true;
    facts.has_previous = false;
    struct rollout_decision decision = decide_next_step(&facts);
    assert_int_equal(decision.step, STEP_REMOVE);
    assert_ptr_equal(decision.version, &view.versions[0]);
    /* But not one that may come back: the last good one, or one that requests still go to. */
    view.count = 1;
    view.versions[0].weight_percent = 100;
    assert_int_equal(decide_next_step(&facts).step, STEP_START);
    view.versions[0].weight_percent = 0;
    view.versions[0].identity = old_id;
    facts.has_previous = true;
    assert_int_equal(decide_next_step(&facts).step, STEP_START);
}

static void test_paused_and_gone(void **state)
{
    (void)state;
    struct target_view view = {.count = 1, .versions = {ready(&old_id, 100)}};
    struct rollout_facts facts = facts_of(&view);
    facts.paused = true;
    assert_int_equal(decide_next_step(&facts).step, STEP_NONE);
    facts.gone = true;
    assert_int_equal(decide_next_step(&facts).step, STEP_CLEAR);
    facts.reported = true;
    assert_int_equal(decide_next_step(&facts).step, STEP_CLEAR);
    view.count = 0;
    assert_int_equal(decide_next_step(&facts).step, STEP_FORGET);
}

/* ---- every state ---- */

struct world {
    struct target_view view;
    struct rollout_facts facts;
    bool new_is_bad; /* what starts of the new version exits */
    bool old_runs_again;
    int steps;
    char trail[4000];
};

static void drop_version(struct target_view *view, const struct target_identity *id)
{
    size_t kept = 0;
    for (size_t i = 0; i < view->count; i++) {
        if (strcmp(view->versions[i].identity.text, id->text) != 0) {
            view->versions[kept++] = view->versions[i];
        }
    }
    view->count = kept;
}

static void start_version(struct world *world, const struct target_identity *id, bool bad)
{
    drop_version(&world->view, id);
    struct target_version version = ready(id, 0);
    version.ready = bad ? 0 : 1;
    version.running = version.ready;
    version.trouble = bad ? TARGET_EXITED : TARGET_FINE;
    assert_true(world->view.count < TARGET_VERSIONS_MAX);
    world->view.versions[world->view.count++] = version;
}

static void give_traffic(struct world *world, const struct target_identity *to, int percent,
                         const struct target_identity *rest)
{
    for (size_t i = 0; i < world->view.count; i++) {
        struct target_version *version = &world->view.versions[i];
        bool is_to = strcmp(version->identity.text, to->text) == 0;
        bool is_rest = rest != NULL && strcmp(version->identity.text, rest->text) == 0;
        version->weight_percent = is_to ? percent : is_rest ? 100 - percent : 0;
    }
}

static int serving_percent(const struct world *world)
{
    int sum = 0;
    for (size_t i = 0; i < world->view.count; i++) {
        sum += world->view.versions[i].ready > 0 ? world->view.versions[i].weight_percent : 0;
    }
    return sum;
}

/* Time passes: a previous version that is able to becomes ready. */
static void wake_old(struct world *world)
{
    for (size_t i = 0; i < world->view.count; i++) {
        struct target_version *version = &world->view.versions[i];
        if (world->old_runs_again && version->running > 0 &&
            strcmp(version->identity.text, old_id.text) == 0) {
            version->ready = 1;
        }
    }
}

static void obey(struct world *world, const struct rollout_decision *decision)
{
    struct rollout_facts *facts = &world->facts;
    struct target_identity version = {""};
    if (decision->version != NULL) {
        version = decision->version->identity;
    }
    switch (decision->step) {
    case STEP_WAIT:
        facts->now_mono_ms += decision->wait_ms;
        wake_old(world);
        break;
    case STEP_PULL:
        facts->pulled = true;
        break;
    case STEP_START:
        start_version(world, &facts->wanted, world->new_is_bad);
        facts->retry_mono_ms = facts->now_mono_ms + 1000;
        break;
    case STEP_RESTORE:
        start_version(world, &facts->previous, !world->old_runs_again);
        facts->retry_mono_ms = facts->now_mono_ms + 1000;
        break;
    case STEP_JUDGE:
        facts->judged = true;
        break;
    case STEP_ROUTE:
        give_traffic(world, &facts->wanted, decision->percent, version.text[0] ? &version : NULL);
        facts->step_mono_ms = facts->now_mono_ms;
        facts->judged = false;
        facts->drain_mono_ms = decision->percent == 100 ? facts->now_mono_ms : 0;
        break;
    case STEP_ROUTE_BACK:
        give_traffic(world, &version, 100, NULL);
        break;
    case STEP_REMOVE:
        drop_version(&world->view, &version);
        break;
    case STEP_FAIL:
        facts->failure = decision->reason;
        break;
    case STEP_REPORT_DONE:
    case STEP_REPORT_REVERTED:
        facts->reported = true;
        break;
    case STEP_CLEAR:
        world->view.count = 0;
        facts->reported = true;
        break;
    default:
        break;
    }
}

/* Something else than a version that was given up serves, or can be brought to. */
static bool other_serves(const struct world *world)
{
    if (world->facts.failure == NULL || (world->facts.has_previous && world->old_runs_again)) {
        return true;
    }
    for (size_t i = 0; i < world->view.count; i++) {
        bool bad = strcmp(world->view.versions[i].identity.text, new_id.text) == 0;
        if (!bad && world->view.versions[i].ready > 0) {
            return true;
        }
    }
    return false;
}

/* Follows the decisions to the end; traffic that a ready version had is never lost on the way. */
static enum rollout_step follow(struct world *world)
{
    for (;;) {
        world->facts.view = &world->view;
        struct rollout_decision decision = decide_next_step(&world->facts);
        size_t len = strlen(world->trail);
        snprintf(world->trail + len, sizeof world->trail - len, " %s",
                 rollout_step_name(decision.step));
        if (decision.step == STEP_NONE || decision.step == STEP_FORGET) {
            return decision.step;
        }
        int before = serving_percent(world);
        bool owed = !world->facts.gone && other_serves(world);
        if (++world->steps > 300) {
            fail_msg("no end: %s", world->trail);
        }
        obey(world, &decision);
        if (owed && before == 100 && serving_percent(world) < 100) {
            fail_msg("requests would fail after:%s", world->trail);
        }
    }
}

/* A version as it may be found: absent, dead, unready, ready; with a share if ready. */
static bool place_version(struct world *world, const struct target_identity *id, int kind,
                          int percent)
{
    if (kind == 0) {
        return percent == 0;
    }
    struct target_version version = ready(id, kind == 3 ? percent : 0);
    version.ready = kind == 3;
    version.running = kind >= 2;
    version.trouble = kind == 1 ? TARGET_EXITED : TARGET_FINE;
    world->view.versions[world->view.count++] = version;
    return kind == 3 || percent == 0;
}

static void check_end(const struct world *world)
{
    const struct rollout_facts *facts = &world->facts;
    const struct target_version *wanted = find_version(&world->view, &facts->wanted);
    if (facts->gone) {
        assert_int_equal(world->view.count, 0);
    } else if (facts->failure != NULL) {
        assert_true(facts->reported);
        assert_null(wanted);
        if (serving_percent(world) != 100 && other_serves(world)) {
            fail_msg("nothing serves in the end:%s", world->trail);
        }
    } else if (wanted != NULL && wanted->ready > 0) {
        assert_int_equal(wanted->weight_percent, 100);
        assert_int_equal(world->view.count, 1);
        assert_true(facts->settled || facts->reported);
    } else {
        assert_true(facts->settled); /* an unready one is waited for */
    }
}

static int explore(int bits, const int kinds[3], const int shares[3])
{
    struct world world = {.new_is_bad = bits & 1, .old_runs_again = bits & 2};
    world.facts = facts_of(&world.view);
    world.facts.settled = bits & 4;
    world.facts.has_previous = bits & 8;
    world.facts.gone = bits & 16;
    world.facts.failure = bits & 32 ? "error_rate" : NULL;
    bool possible = place_version(&world, &new_id, kinds[0], shares[0]);
    possible = place_version(&world, &old_id, kinds[1], shares[1]) && possible;
    possible = place_version(&world, &stray_id, kinds[2], shares[2]) && possible;
    if (!possible || (world.facts.settled && (world.new_is_bad || bits & 32))) {
        return 0; /* a settled one that always dies is restarted for ever, with back-off */
    }
    follow(&world);
    check_end(&world);
    return 1;
}

static void test_every_state_leads_to_an_end(void **state)
{
    (void)state;
    static const int shares[][3] = {{0, 0, 0},   {100, 0, 0}, {0, 100, 0}, {0, 0, 100}, {10, 90, 0},
                                    {50, 50, 0}, {50, 0, 50}, {0, 50, 50}, {10, 80, 10}};
    int seen = 0;
    for (int bits = 0; bits < 64; bits++) {
        for (int code = 0; code < 64; code++) {
            const int kinds[3] = {code & 3, (code >> 2) & 3, (code >> 4) & 3};
            for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
                seen += explore(bits, kinds, shares[i]);
            }
        }
    }
    assert_true(seen > 2000);
}

static void test_leftovers_go_when_few_and_late(void **state)
{
    (void)state;
    assert_false(decide_leftover_goes(5, 1, 999, 1000));
    assert_true(decide_leftover_goes(5, 1, 1000, 1000));
    assert_true(decide_leftover_goes(1, 1, 1000, 1000));
    /* An emptied topic, or half of one: never without a word. */
    assert_false(decide_leftover_goes(1, 2, 1000000, 1000));
    assert_false(decide_leftover_goes(0, 1, 1000000, 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_steps),
        cmocka_unit_test(test_weights_grow_after_their_time_and_a_look),
        cmocka_unit_test(test_errors_end_a_step),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_drain_before_removal),
        cmocka_unit_test(test_useless_versions_make_room),
        cmocka_unit_test(test_paused_and_gone),
        cmocka_unit_test(test_leftovers_go_when_few_and_late),
        cmocka_unit_test(test_every_state_leads_to_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
