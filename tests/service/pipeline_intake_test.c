/* Intake in the pipeline, on a real PostgreSQL: the ledger, repositories that move, pushes that
 * come late, twice or cut. */
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
#include "support/pipeline_fixture.h"

/* ---- what hosts say besides pushes ---- */

static void test_the_ledger_and_moved_repositories(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    Enclii__V1__DeliveryInfo info = ENCLII__V1__DELIVERY_INFO__INIT;
    info.delivery_id = pl_text("hook-1");
    info.host = pl_text("github");
    info.event = pl_text("pull_request");
    info.action = pl_text("labeled");
    info.repo_key = pl_text(REPO);
    info.host_repo_id = pl_text("77");
    Enclii__V1__PullRequestChanged pr = ENCLII__V1__PULL_REQUEST_CHANGED__INIT;
    pr.delivery = &info;
    pr.number = 7;
    Enclii__V1__DeliveryRefused bad = ENCLII__V1__DELIVERY_REFUSED__INIT;
    bad.refusal_id = pl_text("00000000-0000-4000-8000-0000000000aa");
    bad.host = pl_text("github");
    bad.reason = pl_text("bad_signature");
    bad.status = 401;
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.pull_request.changed.v1", &pr.base, "i1");
    pl_tell(fix, EC_TOPIC_INTAKE, "refused", "dev.enclii.delivery.refused.v1", &bad.base, "i2");
    pl_becomes(fix, "select count(*) from enclii.refused_delivery where status = 401", "1");
    pl_becomes(
        fix,
        "select state || ' ' || event || ' ' || action from enclii.delivery where id = 'hook-1'",
        "ACCEPTED pull_request labeled");
    info.delivery_id = pl_text("hook-2");
    info.event = pl_text("repository");
    info.action = pl_text("renamed");
    Enclii__V1__RepositoryChanged moved = ENCLII__V1__REPOSITORY_CHANGED__INIT;
    moved.delivery = &info;
    moved.new_repo_key = pl_text("127.0.0.1:3000/acme/store");
    moved.new_clone_url = pl_text("http://127.0.0.1:3000/acme/store.git");
    moved.new_full_name = pl_text("acme/store");
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.repository.changed.v1", &moved.base, "i3");
    pl_becomes(fix,
               "select repo_key || ' ' || repo_url from enclii.service where id = '" SERVICE "'",
               "127.0.0.1:3000/acme/store http://127.0.0.1:3000/acme/store.git");
    pl_becomes(fix, "select repo_key || ' ' || host_repo_id from enclii.repo",
               "127.0.0.1:3000/acme/store 77");
    pl_becomes(fix, "select id from enclii.pull_request", "127.0.0.1:3000/acme/store#7");
    pl_becomes(fix, "select string_agg(distinct repo_key, ' ') from enclii.delivery",
               "127.0.0.1:3000/acme/store");
}

/* ---- pushes ---- */

static void one_push(struct pl_fixture *fix, Enclii__V1__PushReceived *push, const char *before,
                     const char *after)
{
    Enclii__V1__Commit head = ENCLII__V1__COMMIT__INIT;
    head.sha = pl_text(after);
    push->repo_key = pl_text(REPO);
    push->ref = pl_text("refs/heads/main");
    push->before = pl_text(before);
    push->after = head.sha;
    push->head = &head;
    struct ec_id id = ec_id_derive(push->delivery_id, "push");
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.push.received.v1", &push->base, id.text);
}

static void push(struct pl_fixture *fix, const char *delivery, const char *before,
                 const char *after, bool recovered)
{
    Enclii__V1__PushReceived body = ENCLII__V1__PUSH_RECEIVED__INIT;
    body.delivery_id = pl_text(delivery);
    body.recovered = recovered;
    one_push(fix, &body, before, after);
}

#define LEDGER(id)                                                                                 \
    "select state || ' ' || reason || ' ' || recovered from enclii.delivery where id = '" id "'"

static void test_late_and_recovered_pushes(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    push(fix, "l1", "", SHA_A, false);
    push(fix, "sweep-1", SHA_A, SHA_C, true);
    push(fix, "l2", SHA_A, SHA_B, false);
    push(fix, "l3", SHA_B, SHA_C, false);
    pl_becomes(fix, LEDGER("l3"), "IGNORED already_recovered false");
    pl_becomes(fix, LEDGER("l2"), "IGNORED older_push false");
    pl_becomes(fix, LEDGER("sweep-1"), "ACCEPTED  true");
    pl_becomes(fix, "select count(*) from enclii.build", "2");
    pl_becomes(fix, "select sha || gap_from || gap_to from enclii.ref", SHA_C);
}

static void watch_src(struct pl_fixture *fix)
{
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    Enclii__V1__ServiceSpec spec = ENCLII__V1__SERVICE_SPEC__INIT;
    char *paths[] = {pl_text("src/")};
    spec.watch_paths = paths;
    spec.n_watch_paths = 1;
    size_t len = enclii__v1__service_spec__get_packed_size(&spec);
    uint8_t *bytes = ec_arena_alloc(arena, len);
    enclii__v1__service_spec__pack(&spec, bytes);
    const char *packed = ec_bytea_arg(arena, (struct ec_span){(char *)bytes, len});
    test_pg_sql(fix->pg, ec_arena_format(arena, "update enclii.service set spec = '%s'", packed));
}

static void compared(struct pl_fixture *fix, const char *delivery, const char *path)
{
    Enclii__V1__PushCompared word = ENCLII__V1__PUSH_COMPARED__INIT;
    char *paths[] = {pl_text(path)};
    word.delivery_id = pl_text(delivery);
    word.repo_key = pl_text(REPO);
    word.changed_paths = paths;
    word.n_changed_paths = 1;
    word.complete = true;
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.push.compared.v1", &word.base,
            ec_id_new().text);
}

static void test_a_cut_list_waits_for_the_sweeper(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    watch_src(fix);
    push(fix, "c1", "", SHA_A, false);
    pl_becomes(fix, LEDGER("c1"), "comparing paths_unknown false");
    compared(fix, "c1", "docs/a.md");
    pl_becomes(fix, LEDGER("c1"), "IGNORED paths_not_watched false");
    push(fix, "c2", SHA_A, SHA_B, false);
    compared(fix, "c2", "src/main.c");
    pl_becomes(fix, LEDGER("c2"), "ACCEPTED  false");
    push(fix, "c3", SHA_B, SHA_C, false);
    pl_becomes(fix, LEDGER("c3"), "comparing paths_unknown false");
    test_pg_sql(fix->pg, "update enclii.delivery set deadline_at = now() where id = 'c3'");
    pl_becomes(fix, LEDGER("c3"), "ACCEPTED  false"); /* no answer: built */
    pl_becomes(fix, "select count(*) from enclii.build", "2");
    pl_becomes(fix, "select count(*) from enclii.delivery where deadline_at is not null", "0");
}

static void test_secrets_move_along(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "truncate enclii.repo; insert into enclii.repo (repo_key, host_repo_id, "
                         "clone_url, full_name, sealed_secret, hook_id) values ('" REPO
                         "', '77', 'http://" REPO ".git', 'acme/shop', 'sealed', '5')");
    Enclii__V1__DeliveryInfo info = ENCLII__V1__DELIVERY_INFO__INIT;
    info.delivery_id = pl_text("hook-7");
    info.repo_key = pl_text(REPO);
    info.host_repo_id = pl_text("77");
    info.action = pl_text("renamed");
    Enclii__V1__RepositoryChanged moved = ENCLII__V1__REPOSITORY_CHANGED__INIT;
    moved.delivery = &info;
    moved.new_repo_key = pl_text("127.0.0.1:3000/acme/store");
    moved.new_clone_url = pl_text("http://127.0.0.1:3000/acme/store.git");
    moved.default_branch = pl_text("trunk");
    moved.old_default_branch = pl_text("main");
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.repository.changed.v1", &moved.base, "i7");
    pl_becomes(fix,
               "select repo_key || ' ' || convert_from(sealed_secret, 'UTF8') || ' ' || sealed_for "
               "|| ' ' || hook_id from enclii.repo",
               "127.0.0.1:3000/acme/store sealed " REPO " 5");
    pl_becomes(fix, "select branch from enclii.service", "trunk");
}

static void move_to_store(struct pl_fixture *fix, const char *delivery)
{
    Enclii__V1__DeliveryInfo info = ENCLII__V1__DELIVERY_INFO__INIT;
    info.delivery_id = pl_text(delivery);
    info.repo_key = pl_text(REPO);
    info.host_repo_id = pl_text("77");
    info.action = pl_text("renamed");
    Enclii__V1__RepositoryChanged moved = ENCLII__V1__REPOSITORY_CHANGED__INIT;
    moved.delivery = &info;
    moved.new_repo_key = pl_text("127.0.0.1:3000/acme/store");
    moved.new_clone_url = pl_text("http://127.0.0.1:3000/acme/store.git");
    pl_tell(fix, EC_TOPIC_INTAKE, REPO, "dev.enclii.repository.changed.v1", &moved.base, delivery);
}

/* Somebody bound it by its new name before its services followed, with a secret of its own: what is
 * there stays, and everything else goes on. */
static void test_a_repository_that_is_bound_by_both_names(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg,
                "truncate enclii.repo; insert into enclii.repo (repo_key, host_repo_id, "
                "clone_url, sealed_secret, hook_id) values ('" REPO "', '77', 'http://" REPO
                ".git', 'old', '5'), ('127.0.0.1:3000/acme/store', '77', "
                "'http://127.0.0.1:3000/acme/store.git', 'new', '6')");
    move_to_store(fix, "both-1");
    pl_becomes(fix,
               "select string_agg(repo_key || ' ' || convert_from(sealed_secret, 'UTF8') || ' ' || "
               "sealed_for || ' ' || hook_id, ', ') from enclii.repo",
               "127.0.0.1:3000/acme/store new  6");
    pl_becomes(fix, "select repo_key from enclii.service", "127.0.0.1:3000/acme/store");
}

/* A push that waits for its paths when its repository is renamed is one of the new name. */
static void test_a_push_waits_and_its_repository_is_renamed(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    watch_src(fix);
    push(fix, "r1", "", SHA_A, false);
    pl_becomes(fix, LEDGER("r1"), "comparing paths_unknown false");
    move_to_store(fix, "r2");
    pl_becomes(fix, "select repo_key from enclii.service", "127.0.0.1:3000/acme/store");
    test_pg_sql(fix->pg, "update enclii.delivery set deadline_at = now() where id = 'r1'");
    pl_becomes(fix, LEDGER("r1"), "ACCEPTED  false");
    pl_becomes(fix, "select count(*) from enclii.build", "1");
}

/* The api sets a secret after the batch was read and before it is written: what is published then
 * must know it. The first insert of a delivery takes its time, so that this can be done. */
static void test_a_secret_set_meanwhile_is_not_forgotten(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg,
                "truncate enclii.repo; insert into enclii.repo (repo_key, clone_url) values "
                "('" REPO "', 'http://" REPO
                ".git'); create sequence slow; create or replace function "
                "slow() returns trigger language plpgsql as $$ begin if nextval('slow') = "
                "1 then perform pg_sleep(1); end if; return new; end $$; create trigger "
                "slow before insert on enclii.delivery for each row execute function "
                "slow()");
    Enclii__V1__PushReceived body = ENCLII__V1__PUSH_RECEIVED__INIT;
    body.delivery_id = pl_text("slow-1");
    body.host_repo_id = pl_text("88");
    body.clone_url = pl_text("http://" REPO ".git");
    one_push(fix, &body, SHA_A, SHA_B);
    test_run_for(fix->loop, 500);
    test_pg_sql(fix->pg, "update enclii.repo set sealed_secret = 'new', updated_at = now()");
    pl_becomes(fix,
               "select host_repo_id || ' ' || convert_from(sealed_secret, 'UTF8') from "
               "enclii.repo",
               "88 new");
    pl_becomes(fix, "select last_value from slow", "2"); /* decided again, with it */
    test_pg_sql(fix->pg, "drop trigger slow on enclii.delivery; drop sequence slow cascade");
}

/* The api removes a service, or gives it another repository, after the batch was read and before it
 * is written: a build of it that is counted in that batch changes nothing of this. */
static void test_what_the_api_changed_meanwhile_stays(void **state)
{
    struct pl_fixture *fix = *state;
    if (!fix) {
        skip();
    }
    test_pg_sql(fix->pg, "create sequence slow; create or replace function "
                         "slow() returns trigger language plpgsql as $$ begin if nextval('slow') = "
                         "1 then perform pg_sleep(1); end if; return new; end $$; create trigger "
                         "slow before insert on enclii.delivery for each row execute function "
                         "slow()");
    pl_push(fix, "slow-2", SHA_C);
    test_run_for(fix->loop, 500);
    test_pg_sql(fix->pg, "update enclii.service set repo_key = 'git.test/acme/other',"
                         " repo_url = 'http://git.test/acme/other', removed_at = now()");
    pl_becomes(fix, BUILD_OF(SHA_C, "number::text"), "1");
    pl_becomes(fix, "select builds || ' ' || repo_key || ' ' || repo_url from enclii.service",
               "1 git.test/acme/other http://git.test/acme/other");
    pl_becomes(fix, "select removed_at is not null from enclii.service", "t");
    test_pg_sql(fix->pg, "drop trigger slow on enclii.delivery; drop sequence slow cascade;"
                         " drop function slow()");
}

int main(void)
{
    ec_log_setup("test", EC_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_ledger_and_moved_repositories, pl_one_service),
        cmocka_unit_test_setup(test_late_and_recovered_pushes, pl_one_service),
        cmocka_unit_test_setup(test_a_cut_list_waits_for_the_sweeper, pl_one_service),
        cmocka_unit_test_setup(test_secrets_move_along, pl_one_service),
        cmocka_unit_test_setup(test_a_repository_that_is_bound_by_both_names, pl_one_service),
        cmocka_unit_test_setup(test_a_push_waits_and_its_repository_is_renamed, pl_one_service),
        cmocka_unit_test_setup(test_a_secret_set_meanwhile_is_not_forgotten, pl_one_service),
        cmocka_unit_test_setup(test_what_the_api_changed_meanwhile_stays, pl_one_service),
    };
    return cmocka_run_group_tests(tests, pl_set_up, pl_tear_down);
}
