/* A build that is tried again: what its needs cost it (attempts), and what its builders do
 * (losses). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/topics.h"
#include "support.h"

static struct world *w;
static struct build *build;

static int set_up(void **state)
{
    (void)state;
    w = test_world();
    test_service(w, 1, PROJECT);
    test_push(w, "d1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    build = w->first_build;
    world_add_builder(
        w, &(struct builder){
               .id = "b1", .slots = 1, .cached_repos = "[]", .version = "", .heard_ms = NOW});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_free(w);
    return 0;
}

static void lease(void)
{
    struct lease one = {build, w->first_builder};
    decide_lease(w, &one);
    assert_int_equal(build->cell.state, BUILD_LEASED);
}

static void lose(void)
{
    lease();
    build->heard_ms = NOW - 12000;
    build->cas++; /* as a commit does */
    decide_build_silent(w, build);
}

static void report(Enclii__V1__BuildFailure reason, const char *detail)
{
    lease();
    Enclii__V1__BuildFailed *word = world_message(w, &enclii__v1__build_failed__descriptor);
    word->build_id = world_text(w, build->id);
    word->attempt = build->attempt;
    word->builder_id = world_text(w, "b1");
    word->reason = reason;
    word->detail = world_text(w, detail);
    word->retryable = true;
    test_event(w, "build.failed", NULL, &word->base);
}

static const char *last_reason(const char *rule)
{
    const char *found = NULL;
    for (const struct decision *d = w->first_decision; d; d = d->next) {
        found = strcmp(d->rule, rule) == 0 ? d->detail : found;
    }
    assert_non_null(found);
    return found;
}

static const Enclii__V1__BuildQueued *last_queued(void)
{
    Enclii__V1__BuildQueued *found = NULL;
    for (struct fact *f = w->first_fact; f; f = f->next) {
        if (strcmp(f->type, "dev.enclii.build.queued.v1") == 0) {
            found = enclii__v1__build_queued__unpack(&w->allocator, f->body.len,
                                                     (const uint8_t *)f->body.ptr);
        }
    }
    assert_non_null(found);
    return found;
}

static void test_losses_cost_no_attempt(void **state)
{
    (void)state;
    assert_int_equal(last_queued()->losses, 0);
    assert_string_equal(last_queued()->again, "");
    lose();
    lose();
    assert_int_equal(build->cell.state, BUILD_QUEUED);
    assert_int_equal(build->attempt, 2); /* the fencing token counts leases, as ever */
    assert_int_equal(build->losses, 2);
    assert_string_equal(last_reason("builder_lost"),
                        "the builder was lost twice (of at most 5), no attempt of the build: "
                        "builder b1 said nothing of it for 12 s");
    assert_int_equal(last_queued()->losses, 2);
    assert_string_equal(last_queued()->again, last_reason("builder_lost"));
    lose();
    lose();
    report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH, "registry down");
    assert_string_equal(last_reason("next_attempt"), "attempt 1 of 3 has failed: registry down");
    report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH, "git host down");
    assert_int_equal(build->cell.state, BUILD_QUEUED);
    report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH, "registry down");
    assert_int_equal(build->cell.state, BUILD_FAILED);
    assert_string_equal(build->reason, "PUSH");
    assert_string_equal(build->detail, "registry down (3 attempts)");
    assert_int_equal(build->attempt, 7);
    assert_int_equal(build->losses, 4);
}

static void test_losses_have_an_end(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        lose();
        assert_int_equal(build->cell.state, BUILD_QUEUED);
    }
    lose();
    assert_int_equal(build->cell.state, BUILD_FAILED);
    assert_string_equal(build->reason, "LOST");
    assert_string_equal(build->detail, "the builder was lost 5 times, no more is tried: builder b1 "
                                       "said nothing of it for 12 s");
    bool told = false;
    for (const struct fact *f = w->first_fact; f; f = f->next) {
        told = told || strcmp(f->type, "dev.enclii.build.failed.v1") == 0;
    }
    assert_true(told);
}

/* A builder that stops, or has no disk, says so: its trouble all the same. */
static void test_what_a_builder_gives_back_is_a_loss(void **state)
{
    (void)state;
    report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH, "registry down");
    report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH, "registry down");
    for (int i = 0; i < 4; i++) {
        report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL, "the builder is stopping");
        assert_int_equal(build->cell.state, BUILD_QUEUED);
    }
    assert_int_equal(build->losses, 4);
    report(ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_INTERNAL, "the builder is stopping");
    assert_int_equal(build->cell.state, BUILD_FAILED);
    assert_string_equal(build->reason, "INTERNAL");
}

/* What nobody began is nobody's attempt. */
static void test_a_lease_that_nobody_took_up_is_a_loss(void **state)
{
    (void)state;
    lease();
    decide_build_overdue(w, build);
    assert_int_equal(build->cell.state, BUILD_QUEUED);
    assert_int_equal(build->losses, 1);
    assert_non_null(strstr(last_reason("builder_lost"), "did not start it in time"));
    assert_non_null(
        strstr(last_reason("builder_lost"), "the builder was lost once (of at most 5)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_losses_cost_no_attempt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_losses_have_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_builder_gives_back_is_a_loss, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_lease_that_nobody_took_up_is_a_loss, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
