/* Intake in the pipeline: branch rules, skip markers, the ledger of other events, repositories that
 * move and the services that follow them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bus/topics.h"
#include "enclii/v1/repo.pb-c.h"
#include "support.h"

static void test_branch_rules(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *ref;
        bool fits;
    } rows[] = {
        {"main", "refs/heads/main", true},
        {"main", "refs/heads/main/x", false},
        {"main", "refs/heads/mainly", false},
        {"main", "refs/tags/main", false},
        {"release/*", "refs/heads/release/1.2", true},
        {"release/*", "refs/heads/release/1/2", false},
        {"release/*", "refs/heads/release", false},
        {"release/**", "refs/heads/release/1/2", true},
        {"feat-?", "refs/heads/feat-1", true},
        {"feat-?", "refs/heads/feat-12", false},
        {"main,develop", "refs/heads/develop", true},
        {"main, develop ,x", "refs/heads/develop", true},
        {"main,develop", "refs/heads/main,develop", false},
        {"*", "refs/heads/anything", true},
        {"*", "refs/heads/a/b", false},
        {"**", "refs/heads/a/b", true},
        {"**", "refs/tags/v1", false},
        {"refs/tags/v*", "refs/tags/v1.2", true},
        {"refs/tags/v*", "refs/heads/v1.2", false},
        {"refs/**", "refs/pull/1/head", true},
        {"", "refs/heads/main", false},
        {",,", "refs/heads/", false},
        {"a*a*a*a*a*a*a*a*b", "refs/heads/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac",
         false},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        if (decide_branch(rows[i].rule, rows[i].ref) != rows[i].fits) {
            fail_msg("rule %s, ref %s", rows[i].rule, rows[i].ref);
        }
    }
}

static void test_skip_markers(void **state)
{
    (void)state;
    static const struct {
        const char *markers, *message, *found;
    } rows[] = {
        {"[skip ci],[no ci]", "fix [Skip CI] it", "[skip ci]"},
        {"[skip ci],[no ci]", "fix\n\nbody\n[no ci]\n", "[no ci]"},
        {"[skip ci]", "skip ci", NULL},
        {"[skip ci]", "", NULL},
        {"", "[skip ci]", NULL},
        {NULL, "[skip ci]\n\nskip-checks: true", NULL},
        {"[wip]", "[skip ci] is no marker here", NULL},
        {"[wip]", "half [wip]", "[wip]"},
        {"[skip ci]", "fix\n\n\nskip-checks:true\n", "skip-checks: true"},
        {"[skip ci]", "fix\n\n\nSkip-Checks: true", "skip-checks: true"},
        {"[skip ci]", "fix skip-checks: true", NULL},
        {"[skip ci]", "fix\n\n\nskip-checks: false", NULL},
    };
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(16384);
        const char *found = decide_skip_marker(arena, rows[i].markers, rows[i].message);
        if (!found != !rows[i].found || (found && strcmp(found, rows[i].found) != 0)) {
            fail_msg("markers %s, message %s: %s", rows[i].markers, rows[i].message, found);
        }
    }
}

static Enclii__V1__DeliveryInfo *info(struct world *w, const char *id, const char *event)
{
    Enclii__V1__DeliveryInfo *made = world_message(w, &enclii__v1__delivery_info__descriptor);
    made->delivery_id = world_text(w, id);
    made->host = world_text(w, "github");
    made->event = world_text(w, event);
    made->action = world_text(w, "opened");
    made->repo_key = world_text(w, "h/acme/shop");
    return made;
}

static void test_every_delivery_has_a_row(void **state)
{
    (void)state;
    struct world *w = test_world();
    Enclii__V1__PullRequestChanged *pr =
        world_message(w, &enclii__v1__pull_request_changed__descriptor);
    pr->delivery = info(w, "d1", "pull_request");
    pr->delivery->action = world_text(w, "labeled");
    pr->number = 7;
    test_event(w, "pull_request.changed", "e1", &pr->base);
    Enclii__V1__DeliveryReceived *star =
        world_message(w, &enclii__v1__delivery_received__descriptor);
    star->delivery = info(w, "d2", "star");
    star->reason = world_text(w, "event_not_used");
    test_event(w, "delivery.received", "e2", &star->base);
    const struct delivery *row = world_delivery(w, "d1");
    assert_int_equal(row->cell.state, DELIVERY_ACCEPTED);
    assert_string_equal(row->event, "pull_request");
    assert_string_equal(row->action, "labeled");
    row = world_delivery(w, "d2");
    assert_int_equal(row->cell.state, DELIVERY_IGNORED);
    assert_string_equal(row->reason, "event_not_used");
    test_event(w, "delivery.received", "e2", &star->base); /* the host sent it again */
    assert_int_equal(row->duplicates, 1);
    assert_int_equal(w->fact_count, 0);
    Enclii__V1__DeliveryRefused *bad = world_message(w, &enclii__v1__delivery_refused__descriptor);
    bad->refusal_id = world_text(w, PROJECT);
    bad->delivery_id =
        world_text(w, "d1"); /* a stranger's word changes nothing about the real d1 */
    test_event(w, "delivery.refused", "e3", &bad->base);
    assert_int_equal(world_delivery(w, "d1")->duplicates, 0);
    assert_non_null(w->first_refusal);
    world_free(w);
}

static const struct fact *fact_of(const struct world *w, const char *key, bool tombstone)
{
    for (const struct fact *fact = w->first_fact; fact; fact = fact->next) {
        if (strcmp(fact->topic, EC_TOPIC_REPOS) == 0 && strcmp(fact->key, key) == 0 &&
            fact->tombstone == tombstone) {
            return fact;
        }
    }
    return NULL;
}

static Enclii__V1__RepositoryChanged *renamed(struct world *w, const char *host_repo_id)
{
    Enclii__V1__RepositoryChanged *change =
        world_message(w, &enclii__v1__repository_changed__descriptor);
    change->delivery = info(w, "d9", "repository");
    change->delivery->host_repo_id = world_text(w, host_repo_id);
    change->new_repo_key = world_text(w, "h/acme/store");
    change->new_clone_url = world_text(w, "http://h/acme/store.git");
    change->new_full_name = world_text(w, "acme/store");
    return change;
}

static void test_services_follow_a_renamed_repository(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *one = test_service(w, 1, PROJECT), *two = test_service(w, 2, PROJECT);
    struct service *other = test_service(w, 3, PROJECT);
    other->repo_key = "h/acme/else";
    Enclii__V1__RepositoryChanged *change = renamed(w, "77");
    test_event(w, "repository.changed", "e1", &change->base);
    assert_string_equal(one->repo_key, "h/acme/store");
    assert_string_equal(two->repo_url, "http://h/acme/store.git");
    assert_string_equal(world_spec(w, one->spec)->repo_url, "http://h/acme/store.git");
    assert_int_equal(one->mark, ROW_CHANGED);
    assert_string_equal(other->repo_key, "h/acme/else");
    assert_int_equal(other->mark, ROW_CLEAN);
    const struct fact *bound = fact_of(w, "h/acme/store", false);
    assert_non_null(bound);
    assert_non_null(fact_of(w, "h/acme/shop", true));
    Enclii__V1__RepoBound *body =
        enclii__v1__repo_bound__unpack(NULL, bound->body.len, (const uint8_t *)bound->body.ptr);
    assert_string_equal(body->host_repo_id, "77");
    assert_string_equal(body->repo_key, "h/acme/store");
    assert_string_equal(body->renamed_from, "h/acme/shop");
    enclii__v1__repo_bound__free_unpacked(body, NULL);
    assert_string_equal(w->first_repo->renamed_from, "h/acme/shop");
    world_free(w);
}

static void test_another_repository_takes_nothing(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *one = test_service(w, 1, PROJECT);
    world_add_repo(w, &(struct repo){.repo_key = "h/acme/shop",
                                     .host_repo_id = "12",
                                     .clone_url = "http://h/acme/shop.git",
                                     .full_name = "acme/shop",
                                     .renamed_from = ""});
    Enclii__V1__RepositoryChanged *change = renamed(w, "77"); /* not the repository we know */
    test_event(w, "repository.changed", "e1", &change->base);
    assert_string_equal(one->repo_key, "h/acme/shop");
    assert_int_equal(w->fact_count, 0);
    world_free(w);
}

static void test_secrets_go_with_the_repository(void **state)
{
    (void)state;
    struct world *w = test_world();
    test_service(w, 1, PROJECT);
    world_add_repo(w, &(struct repo){.repo_key = "h/acme/shop",
                                     .host_repo_id = "77",
                                     .clone_url = "http://h/acme/shop.git",
                                     .full_name = "acme/shop",
                                     .sealed_secret = EC_SPAN("now"),
                                     .sealed_previous_secret = EC_SPAN("before"),
                                     .sealed_for = "",
                                     .hook_id = "5",
                                     .renamed_from = ""});
    Enclii__V1__RepositoryChanged *change = renamed(w, "77");
    test_event(w, "repository.changed", "e1", &change->base);
    const struct fact *bound = fact_of(w, "h/acme/store", false);
    Enclii__V1__RepoBound *body =
        enclii__v1__repo_bound__unpack(NULL, bound->body.len, (const uint8_t *)bound->body.ptr);
    assert_string_equal(body->sealed_for, "h/acme/shop"); /* what they were sealed for */
    assert_int_equal(body->sealed_secret.len, 3);
    assert_memory_equal(body->sealed_previous_secret.data, "before", 6);
    assert_string_equal(body->hook_id, "5");
    enclii__v1__repo_bound__free_unpacked(body, NULL);
    const struct repo *row = world_repo(w, "h/acme/store");
    assert_int_equal(row->sealed_secret.len, 3);
    assert_string_equal(row->sealed_for, "h/acme/shop");
    world_free(w);
}

static void test_services_follow_the_default_branch(void **state)
{
    (void)state;
    struct world *w = test_world();
    struct service *one = test_service(w, 1, PROJECT), *two = test_service(w, 2, PROJECT);
    two->branch = "release";
    Enclii__V1__RepositoryChanged *change = renamed(w, "77");
    change->new_repo_key = change->delivery->repo_key;
    change->default_branch = world_text(w, "trunk");
    change->old_default_branch = world_text(w, "main");
    test_event(w, "repository.changed", "e1", &change->base);
    assert_string_equal(one->branch, "trunk");
    assert_string_equal(world_spec(w, one->spec)->branch, "trunk");
    assert_true(one->respec);
    assert_string_equal(two->branch, "release");
    assert_int_equal(two->mark, ROW_CLEAN);
    world_free(w);
}

static void test_the_id_is_learned_once(void **state)
{
    (void)state;
    struct world *w = test_world();
    test_service(w, 1, PROJECT);
    Enclii__V1__PushReceived *push = world_message(w, &enclii__v1__push_received__descriptor);
    push->head = world_message(w, &enclii__v1__commit__descriptor);
    push->after = world_text(w, "aaaa");
    push->ref = world_text(w, "refs/heads/other");
    push->repo_key = world_text(w, "h/acme/shop");
    push->host_repo_id = world_text(w, "77");
    push->delivery_id = world_text(w, "d1");
    test_event(w, "push.received", "e1", &push->base);
    assert_non_null(fact_of(w, "h/acme/shop", false));
    size_t facts = w->fact_count;
    push->delivery_id = world_text(w, "d2");
    push->host_repo_id = world_text(w, "78");
    test_event(w, "push.received", "e2", &push->base);
    assert_int_equal(w->fact_count, facts + 1); /* only that it was ignored */
    assert_string_equal(world_repo(w, "h/acme/shop")->host_repo_id, "77");
    world_free(w);
}

static void test_what_is_needed_to_deliver_again_is_kept(void **state)
{
    (void)state;
    struct world *w = test_world();
    Enclii__V1__PushReceived *push = world_message(w, &enclii__v1__push_received__descriptor);
    char *paths[2000];
    for (size_t i = 0; i < EC_LEN(paths); i++) {
        paths[i] = ec_arena_format(w->arena, "some/folder/file%zu", i);
    }
    push->head = world_message(w, &enclii__v1__commit__descriptor);
    push->after = world_text(w, "aaaa");
    push->ref = world_text(w, "refs/heads/main");
    push->repo_key = world_text(w, "h/acme/shop");
    push->delivery_id = world_text(w, "d1");
    push->changed_paths = paths;
    push->n_changed_paths = EC_LEN(paths);
    push->changed_paths_complete = true;
    test_event(w, "push.received", "e1", &push->base);
    struct ec_span kept = world_delivery(w, "d1")->push;
    assert_true(kept.len > 0 && kept.len <= 8192);
    Enclii__V1__PushReceived *again =
        enclii__v1__push_received__unpack(NULL, kept.len, (const uint8_t *)kept.ptr);
    assert_string_equal(again->after, "aaaa");
    assert_false(again->changed_paths_complete); /* so it builds rather than not */
    enclii__v1__push_received__free_unpacked(again, NULL);
    world_free(w);
}

static void push_of(struct world *w, const char *repo_key, const char *delivery, const char *sha)
{
    static int serial;
    Enclii__V1__PushReceived *push = world_message(w, &enclii__v1__push_received__descriptor);
    push->head = world_message(w, &enclii__v1__commit__descriptor);
    push->after = push->head->sha = world_text(w, sha);
    push->ref = world_text(w, "refs/heads/main");
    push->repo_key = world_text(w, repo_key);
    push->delivery_id = world_text(w, delivery);
    test_event(w, "push.received", ec_arena_format(w->arena, "scoped-%d", ++serial), &push->base);
}

/* Hosts number their deliveries for themselves: two may count from one, and a stranger may say
 * anything about a repository of his own. */
static void test_an_id_is_a_repositorys_own(void **state)
{
    (void)state;
    static const char own[] = "h/acme/shop", other[] = "h/evil/shop";
    struct world *w = test_world();
    struct service *one = test_service(w, 1, PROJECT), *two = test_service(w, 2, PROJECT);
    two->repo_key = other;
    push_of(w, other, "17", "eeee");
    push_of(w, own, "17", "aaaa");
    assert_string_equal(two->first_build->commit_sha, "eeee");
    assert_non_null(one->first_build);
    assert_string_equal(one->first_build->commit_sha, "aaaa");
    const struct delivery *row = delivery_find(w, own, "17");
    assert_non_null(row);
    assert_string_equal(row->commit_sha, "aaaa");
    assert_string_equal(one->first_build->delivery_id, row->id);
    assert_ptr_equal(delivery_find(w, own, row->id), row); /* as it goes on to be called */
    assert_null(delivery_find(w, "h/acme/third", "17"));
    push_of(w, own, "17", "aaaa"); /* the host sent it again */
    push_of(w, other, "17", "eeee");
    assert_int_equal(row->duplicates, 1);
    assert_int_equal(world_delivery(w, "17")->duplicates, 1);
    /* Nor does it help to guess what the other one would be called. */
    push_of(w, other, delivery_own_id(w->arena, own, "18"), "e001");
    push_of(w, other, "18", "e002");
    push_of(w, own, "18", "bbbb");
    assert_string_equal(one->first_build->commit_sha, "bbbb");
    assert_int_equal(ec_map_count(w->deliveries), 5);
    for (row = w->first_delivery; row; row = row->next) {
        assert_int_equal(row->cell.state, DELIVERY_ACCEPTED);
    }
    world_free(w);
}

/* The ledger of other events keeps them apart, too. */
static void test_another_repositorys_word_is_no_duplicate(void **state)
{
    (void)state;
    struct world *w = test_world();
    Enclii__V1__DeliveryReceived *star =
        world_message(w, &enclii__v1__delivery_received__descriptor);
    star->delivery = info(w, "d1", "star");
    star->reason = world_text(w, "event_not_used");
    star->delivery->repo_key = world_text(w, "h/evil/shop");
    test_event(w, "delivery.received", NULL, &star->base);
    star->delivery->repo_key = world_text(w, "h/acme/shop");
    test_event(w, "delivery.received", NULL, &star->base);
    assert_int_equal(world_delivery(w, "d1")->duplicates, 0);
    assert_non_null(delivery_find(w, "h/acme/shop", "d1"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_branch_rules),
        cmocka_unit_test(test_skip_markers),
        cmocka_unit_test(test_every_delivery_has_a_row),
        cmocka_unit_test(test_services_follow_a_renamed_repository),
        cmocka_unit_test(test_another_repository_takes_nothing),
        cmocka_unit_test(test_secrets_go_with_the_repository),
        cmocka_unit_test(test_services_follow_the_default_branch),
        cmocka_unit_test(test_the_id_is_learned_once),
        cmocka_unit_test(test_what_is_needed_to_deliver_again_is_kept),
        cmocka_unit_test(test_an_id_is_a_repositorys_own),
        cmocka_unit_test(test_another_repositorys_word_is_no_duplicate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
