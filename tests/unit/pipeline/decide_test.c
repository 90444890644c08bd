/* Single decisions: pushes that are ignored, the queue's fairness, the order of releases, rollback.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/topics.h"
#include "support.h"

#define SHA(x) x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x

static Enclii__V1__PushReceived *new_push(struct world *w, const char *ref, const char *text)
{
    Enclii__V1__PushReceived *push = world_message(w, &enclii__v1__push_received__descriptor);
    push->head = world_message(w, &enclii__v1__commit__descriptor);
    push->head->message = world_text(w, text);
    push->after = world_text(w, SHA("a"));
    push->ref = world_text(w, ref);
    push->delivery_id = world_text(w, "d1");
    push->repo_key = world_text(w, "h/acme/shop");
    return push;
}

static void ignored_for(struct world *w, const Enclii__V1__PushReceived *push, const char *reason)
{
    test_event(w, "push.received", NULL, &push->base);
    assert_string_equal(w->first_delivery->reason, reason);
    assert_int_equal(w->first_delivery->cell.state, *reason ? DELIVERY_IGNORED : DELIVERY_ACCEPTED);
    assert_int_equal(ec_map_count(w->builds), *reason ? 0 : 1);
    assert_true(w->decision_count > 0);
    world_free(w);
}

static struct world *one_service(void)
{
    struct world *w = test_world();
    test_service(w, 1, PROJECT);
    return w;
}

static void watch(struct world *w, const char *pattern)
{
    Enclii__V1__ServiceSpec *spec = world_spec(w, w->first_service->spec);
    spec->n_watch_paths = 1;
    spec->watch_paths = ec_arena_alloc(w->arena, sizeof *spec->watch_paths);
    spec->watch_paths[0] = world_text(w, pattern);
    world_respec(w, w->first_service, spec);
}

static void test_pushes_are_ignored_with_the_right_reason(void **state)
{
    (void)state;
    struct world *w = one_service();
    ignored_for(w, new_push(w, "refs/heads/main", "fine"), "");
    w = one_service();
    ignored_for(w, new_push(w, "refs/heads/other", "fine"), "branch_not_watched");
    w = one_service();
    ignored_for(w, new_push(w, "refs/tags/main", "fine"), "branch_not_watched");
    w = one_service();
    ignored_for(w, new_push(w, "refs/heads/main", "typo [Skip CI]"), "skip_marker");
    w = one_service();
    Enclii__V1__PushReceived *gone = new_push(w, "refs/heads/main", "");
    gone->deleted = true;
    gone->head = NULL;
    ignored_for(w, gone, "ref_deleted");
    w = test_world();
    ignored_for(w, new_push(w, "refs/heads/main", "fine"), "no_service");
    w = one_service();
    w->first_service->removed = true;
    ignored_for(w, new_push(w, "refs/heads/main", "fine"), "no_service");
}

static void test_paths_filter_only_complete_lists(void **state)
{
    (void)state;
    struct world *w = one_service();
    char *changed[] = {world_text(w, "docs/a.md")};
    watch(w, "src/");
    Enclii__V1__PushReceived *push = new_push(w, "refs/heads/main", "fine");
    push->n_changed_paths = 1;
    push->changed_paths = changed;
    push->changed_paths_complete = true;
    ignored_for(w, push, "paths_not_watched");
    w = one_service();
    watch(w, "src/");
    push = new_push(w, "refs/heads/main", "fine");
    push->created = true; /* all of it is new: better once too often */
    ignored_for(w, push, "");
}

/* ---- queue ---- */

static struct build *queued(struct world *w, struct service *svc, int number, int64_t waited_ms)
{
    struct build row = {.id = ec_arena_format(w->arena, "b%d", number),
                        .service = svc,
                        .builder_id = "",
                        .priority = PRIORITY_PUSH,
                        .trace = "",
                        .steps = "[]",
                        .image_repo = "",
                        .commit_sha = "",
                        .ref = "",
                        .trusted = true,
                        .queued_ms = NOW - waited_ms};
    machine_begin(&row.cell, MACHINE_BUILD, NOW);
    machine_move(&row.cell, BUILD_QUEUED, NOW, 0);
    return world_add_build(w, &row);
}

static void builder(struct world *w, const char *id, int32_t slots, const char *repos)
{
    world_add_builder(
        w, &(struct builder){
               .id = id, .slots = slots, .cached_repos = repos, .version = "", .heard_ms = NOW});
}

static void test_the_queue_is_fair_between_projects(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *busy = test_service(w, 1, "p1"), *quiet = test_service(w, 2, "p2");
    struct lease leases[8];
    for (int i = 0; i < 20; i++) {
        queued(w, busy, i, 60000 - i);
    }
    struct build *late = queued(w, quiet, 100, 1); /* came last, from a project with nothing */
    builder(w, "x", 4, "[]");
    assert_int_equal(decide_queue(w, NULL, leases, 8), 4);
    assert_string_equal(leases[0].build->id, "b0");
    assert_ptr_equal(leases[1].build, late);
    /* What runs counts too: p1 has two, so p2 goes first. */
    struct queue_load load = {"p1", "x", 2, 0, NULL};
    assert_int_equal(decide_queue(w, &load, leases, 8), 2);
    assert_ptr_equal(leases[0].build, late);
    world_free(w);
}

/* One slot, a long backlog, and a late build of somebody else: each project has its turn. */
static void test_turns_with_one_slot(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *busy = test_service(w, 1, "p1"), *quiet = test_service(w, 2, "p2");
    struct lease leases[8];
    for (int i = 0; i < 20; i++) {
        queued(w, busy, i, (int64_t)60 * 60 * 1000 - i);
    }
    struct build *late = queued(w, quiet, 100, 1);
    builder(w, "x", 1, "[]");
    struct queue_load load = {"p1", "x", 0, NOW - 1000, NULL}; /* p1 had its turn, nothing runs */
    assert_int_equal(decide_queue(w, &load, leases, 8), 1);
    assert_ptr_equal(leases[0].build, late);
    struct queue_load both = {"p2", "x", 0, NOW - 500, &load};
    assert_int_equal(decide_queue(w, &both, leases, 8), 1);
    assert_string_equal(leases[0].build->id, "b0");
    world_free(w);
}

static void test_waiting_makes_urgent_and_urgent_goes_first(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *svc = test_service(w, 1, "p1");
    struct lease leases[2];
    struct build *mass = queued(w, svc, 1, 1000), *push = queued(w, svc, 2, 10);
    mass->priority = 0;
    builder(w, "x", 1, "[]");
    assert_int_equal(decide_queue(w, NULL, leases, 2), 1);
    assert_ptr_equal(leases[0].build, push);
    mass->queued_ms = NOW - (int64_t)60 * 60 * 1000; /* an hour: older than any class */
    assert_int_equal(decide_queue(w, NULL, leases, 2), 1);
    assert_ptr_equal(leases[0].build, mass);
    world_free(w);
}

static void test_builders_are_chosen_by_cache_room_and_life(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *svc = test_service(w, 1, "p1");
    struct lease leases[8];
    struct build *build = queued(w, svc, 1, 1);
    builder(w, "empty", 8, "[]");
    builder(w, "warm", 1, "[\"http://h/acme/shop.git\"]");
    assert_int_equal(decide_queue(w, NULL, leases, 8), 1);
    assert_string_equal(leases[0].builder->id, "warm");
    build->builder_id = "warm"; /* it was lost there */
    assert_int_equal(decide_queue(w, NULL, leases, 8), 1);
    assert_string_equal(leases[0].builder->id, "empty");
    world_builder(w, "empty")->draining = true;
    world_builder(w, "warm")->heard_ms = NOW - 10000;
    assert_int_equal(decide_queue(w, NULL, leases, 8), 0);
    world_free(w);
}

static void test_project_limit_and_room(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct rules rules = test_rules;
    struct service *svc = test_service(w, 1, "p1");
    struct lease leases[8];
    rules.project_builds_max = 2;
    w->rules = &rules;
    for (int i = 0; i < 6; i++) {
        queued(w, svc, i, i);
    }
    builder(w, "x", 100, "[]");
    assert_int_equal(decide_queue(w, NULL, leases, 8), 2);
    rules.project_builds_max = 0;
    assert_int_equal(decide_queue(w, NULL, leases, 3), 3);
    rules.builds_max = 4;
    assert_int_equal(decide_queue(w, NULL, leases, 8), 4);
    struct queue_load load = {"p9", "y", 3, 0, NULL}; /* others count too */
    assert_int_equal(decide_queue(w, &load, leases, 8), 1);
    world_free(w);
}

/* ---- releases ---- */

static struct release *ready(struct world *w, int number)
{
    struct release row = {.id = ec_arena_format(w->arena, "r%d", number),
                          .service = w->first_service,
                          .build_id = "b",
                          .build_number = number,
                          .number = number,
                          .version = ec_arena_format(w->arena, "v%d", number),
                          .digest = DIGEST,
                          .image_repo = "x",
                          .commit_sha = "",
                          .spec = w->first_service->spec,
                          .trace = "",
                          .steps = "[]",
                          .reason = "",
                          .detail = "",
                          .trusted = true,
                          .approved_by = ""};
    Enclii__V1__Commit *commit = world_message(w, &enclii__v1__commit__descriptor);
    commit->ref = world_text(w, "refs/heads/main");
    row.commit = world_pack(w, &commit->base);
    machine_begin(&row.cell, MACHINE_RELEASE, NOW);
    machine_move(&row.cell, RELEASE_SIGNING, NOW, 0);
    return world_add_release(w, &row);
}

static void sign(struct world *w, const struct release *release)
{
    Enclii__V1__ReleaseSigned *m = world_message(w, &enclii__v1__release_signed__descriptor);
    m->release_id = world_text(w, release->id);
    m->digest = world_text(w, DIGEST);
    test_event(w, "release.signed", NULL, &m->base);
}

static void roll_out(struct world *w)
{
    Enclii__V1__DeploymentRolledOut *m =
        world_message(w, &enclii__v1__deployment_rolled_out__descriptor);
    m->deployment_id = world_text(w, w->first_desired->deployment_id);
    test_event(w, "deployment.rolled_out", NULL, &m->base);
}

static void test_an_older_build_never_replaces_a_newer(void **state)
{
    (void)state;
    struct world *w = one_service();
    struct release *older = ready(w, 1), *newer = ready(w, 2);
    sign(w, newer);
    assert_string_equal(w->first_desired->release_id, newer->id);
    sign(w, older); /* signed late, under way or after: READY, but not deployed */
    assert_int_equal(older->cell.state, RELEASE_READY);
    assert_string_equal(w->first_desired->release_id, newer->id);
    assert_int_equal(ec_map_count(w->deployments), 1);
    world_free(w);
}

static const Enclii__V1__Desired *last_desired(struct world *w)
{
    const Enclii__V1__Desired *desired = NULL;
    for (struct fact *f = w->first_fact; f; f = f->next) {
        if (strcmp(f->topic, EC_TOPIC_DESIRED) == 0) {
            desired = enclii__v1__desired__unpack(&w->allocator, f->body.len,
                                                  (const uint8_t *)f->body.ptr);
        }
    }
    return desired;
}

static void test_rollback_takes_the_release_named_and_its_spec(void **state)
{
    (void)state;
    struct world *w = one_service();
    struct release *one = ready(w, 1), *two = ready(w, 2);
    sign(w, one);
    roll_out(w);
    sign(w, two);
    roll_out(w);
    assert_int_equal(world_deployment(w, w->first_desired->good_deployment_id)->replicas_ready, 1);
    w->first_desired->before_release_id = one->id;
    Enclii__V1__RequestRollback *m = world_message(w, &enclii__v1__request_rollback__descriptor);
    m->service_id = world_text(w, w->first_service->id);
    m->environment_id = world_text(w, ENVIRONMENT);
    m->deployment_id = world_text(w, "00000000-0000-4000-8000-0000000000dd");
    test_event(w, "request.rollback", NULL, &m->base);
    assert_string_equal(w->first_desired->release_id, one->id);
    assert_string_equal(w->first_desired->good_release_id, two->id);
    assert_int_equal(w->first_desired->newest_build, 2);
    assert_true(world_deployment(w, m->deployment_id)->rollback);
    /* in one step: nobody waits for trial weights on the way back */
    const Enclii__V1__RolloutSpec *rollout = last_desired(w)->rollout;
    assert_int_equal(rollout->n_weights, 1);
    assert_int_equal(rollout->weights[0], 100);
    assert_int_equal(rollout->step_ms, 0);
    world_free(w);
}

/* Whoever was given the deployment's id finds it, ended, with the reason. */
static void test_a_refused_deploy_leaves_a_row(void **state)
{
    (void)state;
    struct world *w = one_service();
    struct release *signing = ready(w, 1);
    Enclii__V1__RequestDeploy *ask = world_message(w, &enclii__v1__request_deploy__descriptor);
    ask->service_id = world_text(w, w->first_service->id);
    ask->release_id = world_text(w, signing->id);
    ask->environment_id = world_text(w, ENVIRONMENT);
    ask->deployment_id = world_text(w, "d1");
    test_event(w, "request.deploy", NULL, &ask->base);
    struct deployment *dep = world_deployment(w, "d1");
    assert_non_null(dep);
    assert_int_equal(dep->cell.state, DEPLOYMENT_CANCELLED);
    assert_string_equal(dep->reason, "release_not_ready");
    assert_null(w->first_desired);
    assert_string_equal(w->first_fact->type, "dev.enclii.deployment.cancelled.v1");
    sign(w, signing);
    roll_out(w);
    size_t facts = w->fact_count;
    Enclii__V1__RequestRollback *back = world_message(w, &enclii__v1__request_rollback__descriptor);
    back->service_id = ask->service_id;
    back->environment_id = ask->environment_id;
    back->deployment_id = world_text(w, "d2");
    test_event(w, "request.rollback", NULL, &back->base); /* there is nothing before */
    dep = world_deployment(w, "d2");
    assert_non_null(dep);
    assert_string_equal(dep->reason, "unknown_release");
    assert_string_equal(dep->release_id, signing->id);
    assert_int_equal(w->fact_count, facts + 1);
    assert_string_equal(w->first_desired->good_release_id, signing->id);
    world_free(w);
}

static void test_a_host_name_belongs_to_one_service(void **state)
{
    (void)state;
    struct world *w = one_service();
    world_add_domain(w, &(struct domain){.hostname = "shop.localhost",
                                         .service_id = "other",
                                         .environment_id = "other",
                                         .stored = true,
                                         .issuer = "local"});
    sign(w, ready(w, 1));
    for (struct fact *f = w->first_fact; f; f = f->next) {
        assert_string_not_equal(f->topic, EC_TOPIC_DOMAINS);
        if (strcmp(f->topic, EC_TOPIC_DESIRED) == 0) {
            Enclii__V1__Desired *desired = enclii__v1__desired__unpack(
                &w->allocator, f->body.len, (const uint8_t *)f->body.ptr);
            assert_int_equal(desired->n_routes, 0);
        }
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pushes_are_ignored_with_the_right_reason),
        cmocka_unit_test(test_paths_filter_only_complete_lists),
        cmocka_unit_test(test_the_queue_is_fair_between_projects),
        cmocka_unit_test(test_turns_with_one_slot),
        cmocka_unit_test(test_waiting_makes_urgent_and_urgent_goes_first),
        cmocka_unit_test(test_builders_are_chosen_by_cache_room_and_life),
        cmocka_unit_test(test_project_limit_and_room),
        cmocka_unit_test(test_an_older_build_never_replaces_a_newer),
        cmocka_unit_test(test_rollback_takes_the_release_named_and_its_spec),
        cmocka_unit_test(test_a_refused_deploy_leaves_a_row),
        cmocka_unit_test(test_a_host_name_belongs_to_one_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
