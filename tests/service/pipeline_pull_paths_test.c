/* Pull requests that wait for their list of paths, or for an approval, in the pipeline on a real
 * PostgreSQL; what it tells of them is read from the topics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/request.pb-c.h"
#include "store/store.h"
#include "support/pipeline_fixture.h"

#define LEDGER(sha)                                                                                \
    "select state || ' ' || reason from enclii.delivery where commit_sha = '" sha "'"

/* ---- what is told ---- */

static char told[4096]; /* "paths.wanted aaaa; approval.needed aaaa; ..." */
static struct ec_bus *listener;

static void note(const struct ec_event *ev, const char *what, const char *sha)
{
    size_t len = strlen(told);
    const char *type = ec_event_type(ev) + strlen("dev.enclii.");
    snprintf(told + len, sizeof told - len, "%.*s %.4s%s; ", (int)(strlen(type) - 3), type, sha,
             what);
}

static struct ec_err on_wanted(void *state, struct ec_event *ev)
{
    const Enclii__V1__PathsWanted *fact = ec_event_body(ev);
    (void)state;
    assert_string_equal(fact->head_ref, "refs/pull/7/head");
    assert_string_equal(fact->base_ref, "refs/heads/main");
    note(ev, "", fact->head_sha);
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static struct ec_err on_needed(void *state, struct ec_event *ev)
{
    const Enclii__V1__ApprovalNeeded *fact = ec_event_body(ev);
    (void)state;
    assert_string_equal(fact->service->service_id, SERVICE);
    note(ev, ec_arena_format(ec_event_arena(ev), " %s", fact->command), fact->commit->sha);
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static struct ec_err on_ended(void *state, struct ec_event *ev)
{
    const Enclii__V1__ApprovalEnded *fact = ec_event_body(ev);
    (void)state;
    note(ev, *fact->by ? ec_arena_format(ec_event_arena(ev), " by %s", fact->by) : "",
         fact->commit->sha);
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static void listen_in(struct pl_fixture *fix)
{
    static const char *const topics[] = {EC_TOPIC_INTAKE, EC_TOPIC_BUILD_EVENTS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.paths.wanted.v1", &enclii__v1__paths_wanted__descriptor, on_wanted},
        {"dev.enclii.approval.needed.v1", &enclii__v1__approval_needed__descriptor, on_needed},
        {"dev.enclii.approval.given.v1", &enclii__v1__approval_ended__descriptor, on_ended},
        {"dev.enclii.approval.refused.v1", &enclii__v1__approval_ended__descriptor, on_ended},
        {"dev.enclii.approval.lapsed.v1", &enclii__v1__approval_ended__descriptor, on_ended},
        {"dev.enclii.approval.superseded.v1", &enclii__v1__approval_ended__descriptor, on_ended},
    };
    const struct ec_consume_spec spec = {
        .group = "test", .topics = topics, .routes = routes, .route_count = EC_LEN(routes)};
    listener = test_kafka_bus(fix->kafka, "test");
    assert_false(ec_failed(ec_bus_consume(listener, &spec, NULL)));
}

static bool is_told(void *text)
{
    return strcmp(told, text) == 0;
}

/* Just this was told since the last time. */
static void tells(struct pl_fixture *fix, const char *what)
{
    if (!test_run_until(fix->loop, 20000, is_told, pl_text(what))) {
        fail_msg("told: %s\nnot:  %s", told, what);
    }
    told[0] = '\0';
}

/* ---- what happens ---- */

static int one_service(void **state)
{
    told[0] = '\0';
    return pl_one_service(state);
}

static void watch_src(struct pl_fixture *fix, const char *rule)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    Enclii__V1__ServiceSpec spec = ENCLII__V1__SERVICE_SPEC__INIT;
    char *paths[] = {pl_text("src/")};
    spec.watch_paths = paths;
    spec.n_watch_paths = 1;
    spec.pull_requests = pl_text(rule);
    size_t len = enclii__v1__service_spec__get_packed_size(&spec);
    uint8_t *bytes = ec_arena_alloc(arena, len);
    enclii__v1__service_spec__pack(&spec, bytes);
    const char *packed = ec_bytea_arg(arena, (struct ec_span){(char *)bytes, len});
    test_pg_sql(fix->pg, ec_arena_format(arena, "update enclii.service set spec = '%s'", packed));
}

/* As the sweeper answers the newest delivery. */
static void compared(struct pl_fixture *fix, const char *sha, const char *path)
{
    Enclii__V1__PushCompared word = ENCLII__V1__PUSH_COMPARED__INIT;
    char *paths[] = {pl_text(path)};
    ec_cleanup(ec_freep) char *id =
        pl_value(fix, "select id from enclii.delivery order by length(id) desc, id desc");
    word.delivery_id = pl_text(id);
    word.repo_key = pl_text(REPO);
    word.changed_paths = paths;
    word.n_changed_paths = 1;
    word.complete = true;
    word.head_sha = pl_text(sha);
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.push.compared.v1", &word.base,
            ec_id_new().text);
}

/* ---- tests ---- */

static void test_watched_paths(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    watch_src(fix, "all");
    pl_pull(fix, "opened", SHA_A);
    pl_becomes(fix, LEDGER(SHA_A), "comparing paths_unknown");
    tells(fix, "paths.wanted aaaa; ");
    compared(fix, SHA_A, "docs/a.md");
    pl_becomes(fix, LEDGER(SHA_A), "IGNORED paths_not_watched");
    pl_becomes(fix,
               "select rule from enclii.decision where service_id is not null and outcome = 'not "
               "built'",
               "paths_not_watched");
    pl_pull(fix, "synchronize", SHA_B);
    pl_becomes(fix, LEDGER(SHA_B), "comparing paths_unknown");
    compared(fix, SHA_B, "src/main.c");
    pl_becomes(fix, LEDGER(SHA_B), "ACCEPTED ");
    pl_becomes(fix, BUILD_OF(SHA_B, "state || ' ' || ref || ' ' || trusted || ' ' || author"),
               "queued refs/pull/7/head false eve");
    tells(fix, "paths.wanted bbbb; ");
    pl_pull(fix, "synchronize", SHA_C);
    pl_becomes(fix, LEDGER(SHA_C), "comparing paths_unknown");
    pl_stays(fix, BUILD_OF(SHA_B, "state"), "queued");
    test_pg_sql(fix->pg,
                "update enclii.delivery set deadline_at = now() where commit_sha = '" SHA_C "'");
    pl_becomes(fix, LEDGER(SHA_C), "ACCEPTED "); /* no answer: built, and for the new head */
    pl_becomes(fix, BUILD_OF(SHA_C, "state"), "queued");
    pl_becomes(fix, BUILD_OF(SHA_B, "state"), "SUPERSEDED");
    tells(fix, "paths.wanted cccc; ");
    pl_becomes(fix, "select count(*) from enclii.delivery where deadline_at is not null", "0");
}

static void test_what_a_stranger_does_not_touch_needs_no_approval(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    watch_src(fix, "trusted");
    pl_pull(fix, "opened", SHA_A);
    pl_becomes(fix, LEDGER(SHA_A), "comparing paths_unknown");
    compared(fix, SHA_A, "docs/a.md");
    pl_becomes(fix, LEDGER(SHA_A), "IGNORED paths_not_watched");
    tells(fix, "paths.wanted aaaa; ");
    pl_pull(fix, "synchronize", SHA_B);
    pl_becomes(fix, LEDGER(SHA_B), "comparing paths_unknown");
    pl_pull(fix, "synchronize", SHA_C); /* before the answer */
    pl_becomes(fix, LEDGER(SHA_B), "IGNORED newer_head");
    pl_becomes(fix, LEDGER(SHA_C), "comparing paths_unknown");
    compared(fix, SHA_C, "src/main.c");
    pl_becomes(fix, LEDGER(SHA_C), "IGNORED fork_of_stranger");
    tells(fix, "paths.wanted bbbb; paths.wanted cccc; approval.needed cccc enclii approve 7 "
               "--commit cccccccccccc --service shop; ");
    pl_becomes(fix, "select asked_of from enclii.pull_request", SERVICE);
}

static void test_how_waiting_for_an_approval_ends(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    pl_pull(fix, "opened", SHA_A);
    tells(fix, "approval.needed aaaa enclii approve 7 --commit aaaaaaaaaaaa --service shop; ");
    pl_pull(fix, "synchronize", SHA_B);
    pl_becomes(fix, "select head_sha from enclii.pull_request", SHA_B);
    tells(fix, "approval.superseded aaaa; approval.needed bbbb enclii approve 7 --commit "
               "bbbbbbbbbbbb --service shop; ");
    pl_approve(fix, SHA_C); /* nobody's head */
    tells(fix, "approval.refused cccc by ada; ");
    pl_approve(fix, SHA_B);
    tells(fix, "approval.given bbbb by ada; ");
    pl_becomes(fix, BUILD_OF(SHA_B, "state"), "queued");
    pl_pull(fix, "synchronize", SHA_C); /* what was approved does not lapse */
    tells(fix, "approval.needed cccc enclii approve 7 --commit cccccccccccc --service shop; ");
    pl_pull(fix, "closed", SHA_C);
    tells(fix, "approval.lapsed cccc; ");
    pl_becomes(fix, "select state || asked_of from enclii.pull_request", "CLOSED");
}

static int set_up(void **state)
{
    int status = pl_set_up(state);
    if (*state) {
        listen_in(*state);
    }
    return status;
}

static int tear_down(void **state)
{
    struct pl_fixture *fix = *state;
    if (fix) {
        test_kafka_close_bus(fix->kafka, listener);
    }
    return pl_tear_down(state);
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_watched_paths, one_service),
        cmocka_unit_test_setup(test_what_a_stranger_does_not_touch_needs_no_approval, one_service),
        cmocka_unit_test_setup(test_how_waiting_for_an_approval_ends, one_service),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
