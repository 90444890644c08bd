/* Commit statuses at GitHub, GitLab and Forgejo, of commits that are built once, again, or wait for
 * an approval first: real handlers, Kafka in-process, a real PostgreSQL. The hosts are doubles that
 * take what their documentation names and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "support/notifier_fixture.h"

#define SHA "2222222222222222222222222222222222222222"
#define FORK "3333333333333333333333333333333333333333"

/* "<host> <commit's first digit> <context>: <state> <description>" of each status, in order. */
static char heard[32][300];
static int heard_count, wrong, hooks;
static char hook_text[400], hook_type[64];

static bool is_one_of(const char *word, const char *words)
{
    return *word && strstr(words, ec_arena_format(nf_arena, " %s ", word));
}

static void take(struct ec_request *req, const char *host, const char *line, const char *states,
                 const char *members)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    const char *name;
    json_t *value;
    bool good = !ec_failed(ec_json_parse(nf_arena, ec_request_body(req), &root)) &&
                is_one_of(ec_json_text(root, "state"), states) &&
                strlen(ec_json_text(root, "description")) <= 140;
    json_object_foreach(root, name, value)
    {
        good = good && is_one_of(name, members) && json_is_string(value);
    }
    wrong += !good;
    if (good && heard_count < (int)EC_LEN(heard)) {
        snprintf(heard[heard_count++], sizeof heard[0], "%s %.1s %s: %s %s", host,
                 ec_request_param(req, "sha"), ec_json_text(root, line),
                 ec_json_text(root, "state"), ec_json_text(root, "description"));
    }
    json_t *body = json_pack("{s:i}", "id", 1);
    ec_reply_json(req, good ? 201 : 422, body);
    json_decref(body);
}

static void on_github(void *state, struct ec_request *req)
{
    (void)state;
    wrong += !nf_header_is(req, "Authorization", "Bearer " NF_TOKEN);
    take(req, "hub", "context", " pending success failure error ",
         " state description context target_url ");
}

static void on_gitlab(void *state, struct ec_request *req)
{
    (void)state;
    wrong += !nf_header_is(req, "PRIVATE-TOKEN", "secret-1") ||
             ec_request_header(req, "Authorization") != NULL;
    take(req, "lab", "name", " pending running success failed canceled ",
         " state description name target_url ref ");
}

static void on_forgejo(void *state, struct ec_request *req)
{
    (void)state;
    wrong += !nf_header_is(req, "Authorization", "token secret-1");
    take(req, "tea", "context", " pending success failure error warning ",
         " state description context target_url ");
}

static void on_hook(void *state, struct ec_request *req)
{
    (void)state;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    wrong += ec_failed(ec_json_parse(nf_arena, ec_request_body(req), &root));
    snprintf(hook_text, sizeof hook_text, "%s", ec_json_text(root, "text"));
    snprintf(hook_type, sizeof hook_type, "%s", ec_request_header(req, "X-Enclii-Event"));
    hooks++;
    ec_reply_empty(req, 204);
}

/* ---- what happens ---- */

static int serial, told;

static const char *next_id(void)
{
    return ec_arena_format(nf_arena, "e%d", ++serial);
}

static Enclii__V1__ServiceRef ref_of(const char *id, const char *project)
{
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    service.project_id = nf_text(project);
    service.project_slug = nf_text("acme");
    service.service_id = nf_text(id);
    service.service_name = nf_text(id);
    return service;
}

static void built_from(const char *id, const char *repo_key)
{
    Enclii__V1__DeliveryAccepted fact = ENCLII__V1__DELIVERY_ACCEPTED__INIT;
    Enclii__V1__ServiceRef service = ref_of(id, "p2"), *services[] = {&service};
    fact.repo_key = nf_text(repo_key);
    fact.services = services;
    fact.n_services = 1;
    nf_publish(EC_TOPIC_INTAKE, repo_key, "dev.enclii.delivery.accepted.v1", next_id(), &fact.base);
    assert_true(nf_row(
        ec_arena_format(nf_arena, "select 1 from notifier.service where service_id = '%s'", id)));
}

static void queued(const char *id, const char *build, const char *sha)
{
    Enclii__V1__BuildQueued fact = ENCLII__V1__BUILD_QUEUED__INIT;
    Enclii__V1__ServiceRef service = ref_of(id, "p2");
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = nf_text(sha);
    commit.ref = nf_text("refs/heads/main");
    fact.build_id = nf_text(build);
    fact.service = &service;
    fact.commit = &commit;
    nf_publish(EC_TOPIC_BUILD_EVENTS, id, "dev.enclii.build.queued.v1", next_id(), &fact.base);
}

static void waiting(const char *id, const char *build)
{
    Enclii__V1__BuildWaiting fact = ENCLII__V1__BUILD_WAITING__INIT;
    Enclii__V1__ServiceRef service = ref_of(id, "p2");
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = nf_text(SHA);
    commit.ref = nf_text("refs/heads/main");
    fact.build_id = nf_text(build);
    fact.service = &service;
    fact.commit = &commit;
    nf_publish(EC_TOPIC_BUILD_EVENTS, id, "dev.enclii.build.waiting.v1", next_id(), &fact.base);
}

static void superseded(const char *id, const char *build)
{
    Enclii__V1__BuildEnded fact = ENCLII__V1__BUILD_ENDED__INIT;
    fact.build_id = nf_text(build);
    fact.reason = nf_text("by build #2");
    nf_publish(EC_TOPIC_BUILD_EVENTS, id, "dev.enclii.build.superseded.v1", next_id(), &fact.base);
}

static void decided(const char *id, const char *build, bool ready)
{
    Enclii__V1__ReleaseDecided fact = ENCLII__V1__RELEASE_DECIDED__INIT;
    fact.build_id = nf_text(build);
    fact.reason = nf_text(ready ? "" : "it is not what was built");
    nf_publish(EC_TOPIC_RELEASE_EVENTS, id,
               ready ? "dev.enclii.release.ready.v1" : "dev.enclii.release.rejected.v1", next_id(),
               &fact.base);
}

static Enclii__V1__PullRequestRef pull_ref(void)
{
    Enclii__V1__PullRequestRef pull = ENCLII__V1__PULL_REQUEST_REF__INIT;
    pull.number = 7;
    pull.author = nf_text("eve");
    return pull;
}

static void needs_approval(const char *id, const char *repo_key)
{
    Enclii__V1__ApprovalNeeded fact = ENCLII__V1__APPROVAL_NEEDED__INIT;
    Enclii__V1__ServiceRef service = ref_of(id, "p1");
    Enclii__V1__PullRequestRef pull = pull_ref();
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = nf_text(FORK);
    commit.ref = nf_text("refs/pull/7/head");
    fact.service = &service;
    fact.pull_request = &pull;
    fact.commit = &commit;
    fact.repo_key = nf_text(repo_key);
    fact.command = nf_text("enclii approve 7 --commit 333333333333 --service shop");
    nf_publish(EC_TOPIC_BUILD_EVENTS, id, "dev.enclii.approval.needed.v1", next_id(), &fact.base);
}

static void approval_ends(const char *id, const char *repo_key, const char *how, const char *reason)
{
    Enclii__V1__ApprovalEnded fact = ENCLII__V1__APPROVAL_ENDED__INIT;
    Enclii__V1__ServiceRef service = ref_of(id, "p1");
    Enclii__V1__PullRequestRef pull = pull_ref();
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = nf_text(FORK);
    fact.service = &service;
    fact.pull_request = &pull;
    fact.commit = &commit;
    fact.repo_key = nf_text(repo_key);
    fact.by = nf_text("ada");
    fact.reason = nf_text(reason);
    nf_publish(EC_TOPIC_BUILD_EVENTS, id,
               ec_arena_format(nf_arena, "dev.enclii.approval.%s.v1", how), next_id(), &fact.base);
}

/* So many more notifications have ended, the last status was this one, and no other is left. */
static void tells(int count, const char *last)
{
    told += count;
    assert_true(nf_told(told));
    assert_string_equal(test_pg_value(nf_pg, "select count(*) from notifier.notification"),
                        ec_arena_format(nf_arena, "%d", told));
    assert_int_equal(wrong, 0);
    assert_string_equal(heard_count ? heard[heard_count - 1] : "", last);
}

/* ---- tests ---- */

static void each_host_hears_in_its_own_words(void **state)
{
    (void)state;
    if (!nf_pg) {
        skip();
    }
    built_from("s-lab", "lab.test/group/shop");
    built_from("s-tea", "tea.test/acme/shop");
    built_from("s-git", "git.test/acme/shop");
    queued("s-lab", "b-lab", SHA);
    tells(1, "lab 2 enclii/s-lab/build: pending Waiting for a builder");
    superseded("s-lab", "b-lab");
    tells(1, "lab 2 enclii/s-lab/build: canceled A newer push took its place: by build #2");
    queued("s-tea", "b-tea", SHA);
    tells(1, "tea 2 enclii/s-tea/build: pending Waiting for a builder");
    decided("s-tea", "b-tea", true);
    tells(1, "tea 2 enclii/s-tea/build: success Built and signed");
    /* A host without an API is no trouble: nothing is sent, nothing failed. */
    queued("s-git", "b-git", SHA);
    tells(1, "tea 2 enclii/s-tea/build: success Built and signed");
    assert_string_equal(test_pg_value(nf_pg, "select state || attempts from notifier.notification "
                                             "where service_id = 's-git'"),
                        "dropped1");
    /* While the build waits for GitLab's pipeline, that pipeline is not made to wait for us. */
    waiting("s-lab", "b-lab-2");
    tells(1, "tea 2 enclii/s-tea/build: success Built and signed");
    waiting("s-tea", "b-tea-2");
    tells(1, "tea 2 enclii/s-tea/build: pending Waiting for the host's CI");
}

/* The first build's end is not the last word about the commit. */
static void a_commit_built_once_more_says_how_that_ended(void **state)
{
    (void)state;
    if (!nf_pg) {
        skip();
    }
    built_from("s-again", "tea.test/acme/again");
    queued("s-again", "b-1", SHA);
    tells(1, "tea 2 enclii/s-again/build: pending Waiting for a builder");
    decided("s-again", "b-1", false);
    tells(1, "tea 2 enclii/s-again/build: failure The image was refused: it is not what was built");
    queued("s-again", "b-2", SHA);
    tells(1, "tea 2 enclii/s-again/build: pending Waiting for a builder");
    decided("s-again", "b-2", true);
    tells(1, "tea 2 enclii/s-again/build: success Built and signed");
    decided("s-again", "b-2", false); /* a second end of the same build is none */
    queued("s-again", "b-3", SHA);
    tells(1, "tea 2 enclii/s-again/build: pending Waiting for a builder");
    decided("s-again", "b-3", true); /* read after the one above: same topic, same key */
    tells(1, "tea 2 enclii/s-again/build: success Built and signed");
}

static void a_fork_waits_for_an_approval(void **state)
{
    (void)state;
    if (!nf_pg) {
        skip();
    }
    hooks = 0;
    needs_approval("s-fork", "github.com/acme/fork"); /* nothing was ever built of it */
    tells(2, "hub 3 enclii/s-fork/build: pending Waits for an approval: enclii approve 7 --commit "
             "333333333333 --service shop");
    assert_int_equal(hooks, 1);
    assert_string_equal(hook_type, "approval.needed");
    assert_string_equal(hook_text, "s-fork: pull request #7 of eve comes from a fork and waits for "
                                   "an approval; look at it, then: enclii approve 7 --commit "
                                   "333333333333 --service shop");
    approval_ends("s-fork", "github.com/acme/fork", "lapsed", "it was closed");
    tells(2, "hub 3 enclii/s-fork/build: error Closed without an approval");
    needs_approval("s-fork", "github.com/acme/fork"); /* opened again */
    tells(2, "hub 3 enclii/s-fork/build: pending Waits for an approval: enclii approve 7 --commit "
             "333333333333 --service shop");
    approval_ends("s-fork", "github.com/acme/fork", "given", "");
    tells(1, "hub 3 enclii/s-fork/build: pending Waits for an approval: enclii approve 7 --commit "
             "333333333333 --service shop");
    assert_string_equal(hook_text,
                        "s-fork: ada approved commit 333333333333 of pull request #7 of eve");
    queued("s-fork", "b-fork", FORK);
    tells(1, "hub 3 enclii/s-fork/build: pending Waiting for a builder");
    decided("s-fork", "b-fork", true);
    tells(1, "hub 3 enclii/s-fork/build: success Built and signed");
    /* Closed now: people hear of it, and what was built stays built. */
    approval_ends("s-fork", "github.com/acme/fork", "lapsed", "it was closed");
    tells(1, "hub 3 enclii/s-fork/build: success Built and signed");
    assert_string_equal(hook_type, "approval.lapsed");
    approval_ends("s-fork", "github.com/acme/fork", "superseded", "");
    queued("s-fork", "b-fork-2", FORK); /* read after it */
    tells(1, "hub 3 enclii/s-fork/build: pending Waiting for a builder");
}

static int start(void **state)
{
    static const struct ec_http_route routes[] = {
        {"POST", "/repos/{owner}/{name}/statuses/{sha}", on_github, 65536, 0},
        {"POST", "/api/v4/projects/{id}/statuses/{sha}", on_gitlab, 65536, 0},
        {"POST", "/api/v1/repos/{owner}/{name}/statuses/{sha}", on_forgejo, 65536, 0},
        {"POST", "/hook", on_hook, 65536, 0},
    };
    (void)state;
    nf_open(routes, EC_LEN(routes));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_host_hears_in_its_own_words),
        cmocka_unit_test(a_commit_built_once_more_says_how_that_ended),
        cmocka_unit_test(a_fork_waits_for_an_approval),
    };
    return cmocka_run_group_tests(tests, start, nf_close);
}
