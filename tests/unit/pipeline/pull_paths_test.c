/* Pull requests and watched paths; who is told that an approval is waited for, and how that ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pull_support.h"
#include "pulls.h"

static void watch(struct world *w, struct service *svc, const char *pattern)
{
    Enclii__V1__ServiceSpec *spec = world_spec(w, svc->spec);
    spec->n_watch_paths = 1;
    spec->watch_paths = ec_arena_alloc(w->arena, sizeof *spec->watch_paths);
    spec->watch_paths[0] = world_text(w, pattern);
    world_respec(w, svc, spec);
}

static struct world *watching(const char *rule)
{
    struct world *w = world_of(rule, false);
    watch(w, w->first_service, "src/");
    return w;
}

static void compared(struct world *w, const char *id, const char *path, bool complete)
{
    char *paths[] = {world_text(w, path)};
    Enclii__V1__PushCompared *word = world_message(w, &enclii__v1__push_compared__descriptor);
    word->delivery_id = world_text(w, id);
    word->repo_key = world_text(w, REPO_KEY);
    word->changed_paths = paths;
    word->n_changed_paths = 1;
    word->complete = complete;
    test_event(w, "push.compared", NULL, &word->base);
}

static void push_src(struct world *w, const char *id, const char *sha)
{
    char *paths[] = {world_text(w, "src/main.c")};
    Enclii__V1__PushReceived *push = world_message(w, &enclii__v1__push_received__descriptor);
    push->head = world_message(w, &enclii__v1__commit__descriptor);
    push->head->sha = push->after = world_text(w, sha);
    push->ref = push->head->ref = world_text(w, "refs/heads/main");
    push->delivery_id = world_text(w, id);
    push->repo_key = world_text(w, REPO_KEY);
    push->changed_paths = paths;
    push->n_changed_paths = 1;
    push->changed_paths_complete = true;
    test_event(w, "push.received", NULL, &push->base);
}

/* How many facts of a type there are; the last one's bytes. */
static size_t told(const struct world *w, const char *type, struct ec_span *ret_body)
{
    size_t count = 0;
    *ret_body = EC_SPAN("");
    for (const struct fact *f = w->first_fact; f; f = f->next) {
        if (strcmp(f->type, type) == 0) {
            count++;
            *ret_body = f->body;
        }
    }
    return count;
}

static size_t needed(struct world *w, Enclii__V1__ApprovalNeeded **ret_fact)
{
    struct ec_span body;
    size_t count = told(w, "dev.enclii.approval.needed.v1", &body);
    *ret_fact = count ? enclii__v1__approval_needed__unpack(&w->allocator, body.len,
                                                            (const uint8_t *)body.ptr)
                      : NULL;
    return count;
}

static size_t ended(struct world *w, const char *how, Enclii__V1__ApprovalEnded **ret_fact)
{
    struct ec_span body;
    size_t count = told(w, ec_arena_format(w->arena, "dev.enclii.approval.%s.v1", how), &body);
    *ret_fact = count ? enclii__v1__approval_ended__unpack(&w->allocator, body.len,
                                                           (const uint8_t *)body.ptr)
                      : NULL;
    return count;
}

/* ---- watched paths ---- */

static void test_only_what_is_touched_is_built(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool complete;
        size_t builds;
        const char *reason;
    } rows[] = {{"src/main.c", true, 1, ""},
                {"docs/a.md", true, 0, "paths_not_watched"},
                {"docs/a.md", false, 1, ""}};
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        struct world *w = watching("all");
        Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
        const struct delivery *row = tell(w, pr);
        struct ec_span body;
        assert_int_equal(row->cell.state, DELIVERY_COMPARING);
        assert_int_equal(row->cell.deadline_unix_ms, NOW + 30000);
        assert_int_equal(ec_map_count(w->builds), 0);
        assert_int_equal(told(w, "dev.enclii.paths.wanted.v1", &body), 1);
        Enclii__V1__PathsWanted *wanted =
            enclii__v1__paths_wanted__unpack(&w->allocator, body.len, (const uint8_t *)body.ptr);
        assert_string_equal(wanted->delivery_id, row->id);
        assert_string_equal(wanted->head_ref, "refs/pull/7/head");
        assert_string_equal(wanted->head_sha, SHA_1);
        assert_string_equal(wanted->base_ref, "refs/heads/main");
        compared(w, row->id, rows[i].path, rows[i].complete);
        assert_int_equal(ec_map_count(w->builds), rows[i].builds);
        assert_int_equal(row->cell.state, rows[i].builds ? DELIVERY_ACCEPTED : DELIVERY_IGNORED);
        assert_string_equal(row->reason, rows[i].reason);
        compared(w, row->id, "src/main.c", true); /* said twice */
        assert_int_equal(ec_map_count(w->builds), rows[i].builds);
        world_free(w);
    }
}

static void test_each_service_by_its_own_paths(void **state)
{
    (void)state;
    struct world *w = watching("all");
    struct service *docs = test_service(w, 2, PROJECT);
    watch(w, docs, "docs/");
    test_service(w, 3, PROJECT); /* watches nothing in particular */
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->from_fork = false;
    tell(w, pr);
    compared(w, pr->delivery->delivery_id, "docs/a.md", true);
    assert_null(w->first_service->first_build);
    assert_non_null(docs->first_build);
    assert_int_equal(ec_map_count(w->builds), 2);
    bool said = false;
    for (const struct decision *d = w->first_decision; d; d = d->next) {
        said = said || (strcmp(d->rule, "paths_not_watched") == 0 &&
                        strcmp(d->service_id, w->first_service->id) == 0);
    }
    assert_true(said); /* enclii why */
    world_free(w);
}

static void test_nobody_waits_for_what_is_ignored_anyway(void **state)
{
    (void)state;
    struct ec_span body;
    struct world *w = watching("off");
    assert_string_equal(tell(w, pull(w, "opened", SHA_1))->reason, "pull_requests_off");
    world_free(w);
    w = watching("all");
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->base_ref = world_text(w, "develop");
    assert_string_equal(tell(w, pr)->reason, "branch_not_watched");
    pr = pull(w, "edited", SHA_1);
    pr->title = world_text(w, "[skip ci]");
    assert_string_equal(tell(w, pr)->reason, "skip_marker");
    push_src(w, "p1", SHA_1);
    assert_string_equal(tell(w, pull(w, "reopened", SHA_1))->reason, "already_building");
    assert_int_equal(told(w, "dev.enclii.paths.wanted.v1", &body), 0);
    world_free(w);
    w = world_of("all", false); /* no watched paths */
    assert_int_equal(tell(w, pull(w, "opened", SHA_1))->cell.state, DELIVERY_ACCEPTED);
    assert_int_equal(told(w, "dev.enclii.paths.wanted.v1", &body), 0);
    world_free(w);
}

static void test_a_silent_sweeper_means_build(void **state)
{
    (void)state;
    struct world *w = watching("all");
    struct delivery *row = world_delivery(w, tell(w, pull(w, "opened", SHA_1))->id);
    decide_delivery_overdue(w, row);
    assert_int_equal(row->cell.state, DELIVERY_ACCEPTED);
    assert_int_equal(ec_map_count(w->builds), 1);
    assert_string_equal(w->first_build->commit_sha, SHA_1);
    world_free(w);
}

static void test_what_comes_meanwhile_ends_the_wait(void **state)
{
    (void)state;
    struct world *w = watching("all");
    const struct delivery *first = tell(w, pull(w, "opened", SHA_1));
    const struct delivery *second = tell(w, pull(w, "synchronize", SHA_2));
    assert_string_equal(first->reason, "newer_head");
    assert_int_equal(first->cell.state, DELIVERY_IGNORED);
    compared(w, first->id, "src/main.c", true); /* late */
    assert_int_equal(ec_map_count(w->builds), 0);
    assert_int_equal(second->cell.state, DELIVERY_COMPARING);
    push_src(w, "p1", "3333333333333333333333333333333333333333"); /* of a branch: another thing */
    assert_int_equal(second->cell.state, DELIVERY_COMPARING);
    tell(w, pull(w, "closed", SHA_2));
    assert_string_equal(second->reason, "pull_request_closed");
    compared(w, second->id, "src/main.c", true);
    assert_null(w->first_service->first_build->next_of_service); /* only the push's */
    world_free(w);
}

/* The head came before the word that asks for it: a label, told in between. */
static void test_a_head_that_moved_unannounced(void **state)
{
    (void)state;
    struct world *w = watching("all");
    const struct delivery *first = tell(w, pull(w, "opened", SHA_1));
    tell(w, pull(w, "labeled", SHA_2));
    compared(w, first->id, "src/main.c", true);
    assert_string_equal(first->reason, "newer_head");
    assert_int_equal(ec_map_count(w->builds), 0);
    world_free(w);
}

/* Where the host keeps no ref of heads, two pull requests of one branch have the same one. */
static void test_two_of_one_branch_wait_for_themselves(void **state)
{
    (void)state;
    struct world *w = watching("all");
    const struct delivery *rows[2];
    for (int i = 0; i < 2; i++) {
        Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
        pr->delivery->host = world_text(w, "bitbucket");
        pr->from_fork = false;
        pr->number = 7 + i;
        rows[i] = tell(w, pr);
    }
    assert_int_equal(rows[0]->cell.state, DELIVERY_COMPARING);
    assert_int_equal(rows[1]->cell.state, DELIVERY_COMPARING);
    compared(w, rows[0]->id, "docs/a.md", true);
    assert_string_equal(rows[0]->reason, "paths_not_watched");
    compared(w, rows[1]->id, "src/main.c", true);
    assert_int_equal(rows[1]->cell.state, DELIVERY_ACCEPTED);
    assert_int_equal(w->first_build->pull_request, 8);
    world_free(w);
}

/* ---- approvals ---- */

static void test_somebody_is_told_once_per_head(void **state)
{
    (void)state;
    Enclii__V1__ApprovalNeeded *fact;
    Enclii__V1__ApprovalEnded *end;
    struct world *w = world_of("trusted", false);
    Enclii__V1__PullRequestChanged *pr = pull(w, "opened", SHA_1);
    pr->url = world_text(w, "https://h/pull/7");
    tell(w, pr);
    assert_int_equal(needed(w, &fact), 1);
    assert_string_equal(fact->command, "enclii approve 7 --commit 111111111111 --service shop1");
    assert_string_equal(fact->url, "https://h/pull/7");
    assert_string_equal(fact->repo_key, REPO_KEY);
    assert_string_equal(fact->commit->sha, SHA_1);
    assert_string_equal(fact->commit->ref, "refs/pull/7/head");
    assert_string_equal(fact->pull_request->author, "eve");
    assert_false(fact->pull_request->trusted);
    assert_string_equal(fact->author_association, "NONE");
    tell(w, pull(w, "labeled", SHA_1));
    tell(w, pull(w, "ready_for_review", SHA_1)); /* the same head: known */
    assert_int_equal(needed(w, &fact), 1);
    tell(w, pull(w, "synchronize", SHA_2));
    assert_int_equal(needed(w, &fact), 2);
    assert_int_equal(ended(w, "superseded", &end), 1);
    assert_string_equal(end->commit->sha, SHA_1);
    tell(w, pull(w, "closed", SHA_2));
    assert_int_equal(ended(w, "lapsed", &end), 1);
    assert_string_equal(end->commit->sha, SHA_2);
    assert_string_equal(end->reason, "it was closed");
    tell(w, pull(w, "reopened", SHA_2)); /* it waits again */
    assert_int_equal(needed(w, &fact), 3);
    world_free(w);
}

static void test_an_approval_is_told_and_ends_it(void **state)
{
    (void)state;
    Enclii__V1__ApprovalEnded *end;
    struct world *w = world_of("trusted", false);
    tell(w, pull(w, "opened", SHA_1));
    approve(w, SHA_2); /* not the head */
    assert_int_equal(ended(w, "refused", &end), 1);
    assert_string_equal(end->by, "ada");
    assert_non_null(strstr(end->reason, "is not the head of pull request #7"));
    approve(w, SHA_1);
    approve(w, SHA_1); /* once more: nothing new */
    assert_int_equal(ended(w, "given", &end), 1);
    assert_string_equal(end->by, "ada");
    assert_string_equal(end->commit->sha, SHA_1);
    assert_int_equal(end->pull_request->number, 7);
    tell(w, pull(w, "closed", SHA_1));
    assert_int_equal(ended(w, "lapsed", &end), 0); /* somebody did */
    world_free(w);
}

static void test_nobody_is_asked_for_nothing(void **state)
{
    (void)state;
    Enclii__V1__ApprovalNeeded *fact;
    Enclii__V1__ApprovalEnded *end;
    struct world *w = watching("trusted");
    const struct delivery *row = tell(w, pull(w, "opened", SHA_1));
    assert_int_equal(row->cell.state, DELIVERY_COMPARING);
    assert_int_equal(needed(w, &fact), 0); /* not before it is known what it changes */
    compared(w, row->id, "docs/a.md", true);
    assert_string_equal(row->reason, "paths_not_watched");
    assert_int_equal(needed(w, &fact), 0);
    tell(w, pull(w, "closed", SHA_1));
    assert_int_equal(ended(w, "lapsed", &end), 0);
    row = tell(w, pull(w, "reopened", SHA_1));
    compared(w, row->id, "src/main.c", true);
    assert_string_equal(row->reason, "fork_of_stranger");
    assert_int_equal(needed(w, &fact), 1);
    world_free(w);

    w = world_of("trusted", false); /* the same commit was pushed: it is built, and trusted */
    test_push(w, "p1", SHA_1);
    assert_string_equal(tell(w, pull(w, "opened", SHA_1))->reason, "already_building");
    assert_int_equal(needed(w, &fact), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_is_touched_is_built),
        cmocka_unit_test(test_each_service_by_its_own_paths),
        cmocka_unit_test(test_nobody_waits_for_what_is_ignored_anyway),
        cmocka_unit_test(test_a_silent_sweeper_means_build),
        cmocka_unit_test(test_what_comes_meanwhile_ends_the_wait),
        cmocka_unit_test(test_a_head_that_moved_unannounced),
        cmocka_unit_test(test_two_of_one_branch_wait_for_themselves),
        cmocka_unit_test(test_somebody_is_told_once_per_head),
        cmocka_unit_test(test_an_approval_is_told_and_ends_it),
        cmocka_unit_test(test_nobody_is_asked_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
