/* All sequences, up to a depth, of what strangers, members, the host's CI and the platform can say
 * about one service, from several stages; then long random walks. What must hold is told by a small
 * record of our own (who approved which commit, what the CI said), not by the deciders' rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/id.h"
#include "pulls.h"
#include "support.h"

#define NUMBER 7
#define SHAS_MAX 256
#define WALKS 300
#define WALK_STEPS 60

/* One walk: the world, and what was said in it. */
static struct world *w;
static int serial;
static int heads[SHAS_MAX], head_count; /* of the pull request, oldest first */
static int pushes[SHAS_MAX], push_count;
static bool approved[SHAS_MAX], ci_good[SHAS_MAX], ci_over[SHAS_MAX], pushed[SHAS_MAX];
static bool from_fork;
static const char *trail[WALK_STEPS + 32];
static size_t trail_len;

static void wrong(const char *what, const char *id)
{
    printf("%s: %s, after", what, id);
    for (size_t i = 0; i < trail_len; i++) {
        printf(" > %s", trail[i]);
    }
    printf("\n");
    fail();
}

static char *sha_of(int number)
{
    return ec_arena_format(w->arena, "%040d", number);
}

static int number_of(const char *sha)
{
    return atoi(sha + 30);
}

static int new_sha(void)
{
    return ++serial % (SHAS_MAX - 1);
}

static Enclii__V1__DeliveryInfo *info(const char *action)
{
    Enclii__V1__DeliveryInfo *made = world_message(w, &enclii__v1__delivery_info__descriptor);
    made->delivery_id = world_text(w, ec_id_new().text);
    made->host = world_text(w, "github");
    made->action = world_text(w, action);
    made->repo_key = world_text(w, "h/acme/shop");
    return made;
}

/* ---- what can happen ---- */

static void pull(const char *action, int sha, bool fork, const char *association)
{
    Enclii__V1__PullRequestChanged *pr =
        world_message(w, &enclii__v1__pull_request_changed__descriptor);
    pr->delivery = info(action);
    pr->number = NUMBER;
    pr->head_sha = sha_of(sha);
    pr->head_ref = world_text(w, "cat");
    pr->base_ref = world_text(w, "main");
    pr->from_fork = from_fork = fork;
    pr->author_association = world_text(w, association);
    test_event(w, "pull_request.changed", NULL, &pr->base);
}

static void new_head(bool fork, const char *association)
{
    heads[head_count++ % SHAS_MAX] = new_sha();
    pull("synchronize", heads[(head_count - 1) % SHAS_MAX], fork, association);
}

static int head(bool newest)
{
    return head_count == 0 ? SHAS_MAX - 1 : heads[newest ? (head_count - 1) % SHAS_MAX : 0];
}

static void do_stranger(void)
{
    new_head(true, "NONE");
}
static void do_member(void)
{
    new_head(true, "MEMBER");
}
static void do_own_branch(void)
{
    new_head(false, "MEMBER");
    pushed[head(true)] = true; /* to a branch that is not built */
}
static void do_close(void)
{
    pull("closed", head(true), from_fork, "NONE");
    for (const struct build *b = w->first_build; b; b = b->next) {
        if (b->pull_request == NUMBER && !machine_ended(&b->cell)) {
            wrong("closed, and still built", b->id);
        }
    }
}
static void do_reopen(void)
{
    pull("reopened", head(true), from_fork, "NONE");
}

static void push(int sha)
{
    pushes[push_count++ % SHAS_MAX] = sha;
    pushed[sha] = true;
    test_push(w, ec_id_new().text, sha_of(sha));
}
static void do_push(void)
{
    push(new_sha());
}
static void do_push_head(void)
{
    push(head(true));
}

static void approve(int sha)
{
    Enclii__V1__RequestApprove *req = world_message(w, &enclii__v1__request_approve__descriptor);
    req->actor = world_message(w, &enclii__v1__actor__descriptor);
    req->actor->name = world_text(w, "ada");
    req->service_id = world_text(w, w->first_service->id);
    req->pull_request = NUMBER;
    req->commit_sha = sha_of(sha);
    approved[sha] = true;
    test_event(w, "request.approve", NULL, &req->base);
}
static void do_approve(void)
{
    approve(head(true));
}
static void do_approve_first(void)
{
    approve(head(false));
}

static void ask_for_build(int sha)
{
    Enclii__V1__RequestBuild *req = world_message(w, &enclii__v1__request_build__descriptor);
    req->commit = world_message(w, &enclii__v1__commit__descriptor);
    req->commit->sha = sha_of(sha);
    req->commit->ref = world_text(w, "refs/heads/main");
    req->service_id = world_text(w, w->first_service->id);
    test_event(w, "request.build", NULL, &req->base);
}
static void do_build_head(void)
{
    if (head_count > 0) {
        ask_for_build(head(true));
    }
}

static void ci(const char *conclusion)
{
    Enclii__V1__CiChanged *word = world_message(w, &enclii__v1__ci_changed__descriptor);
    int sha = push_count ? pushes[(push_count - 1) % SHAS_MAX] : SHAS_MAX - 1;
    word->delivery = info("completed");
    word->kind = world_text(w, "workflow_run");
    word->run_id = world_text(w, "1");
    word->sha = sha_of(sha);
    word->status = world_text(w, *conclusion ? "completed" : "in_progress");
    word->conclusion = world_text(w, conclusion);
    bool late = *conclusion == '\0' && ci_good[sha]; /* a word that was overtaken */
    ci_over[sha] = *conclusion != '\0' || late;
    ci_good[sha] = strcmp(conclusion, "success") == 0 || late;
    test_event(w, "ci.changed", NULL, &word->base);
}
static void do_ci_runs(void)
{
    ci("");
}
static void do_ci_good(void)
{
    ci("success");
}
static void do_ci_bad(void)
{
    ci("failure");
}

static void do_lease(void)
{
    struct lease leases[8];
    size_t count = decide_queue(w, NULL, leases, EC_LEN(leases));
    for (size_t i = 0; i < count; i++) {
        decide_lease(w, &leases[i]);
    }
}

static void do_all_succeed(void)
{
    for (struct build *b = w->first_build; b; b = b->next) {
        Enclii__V1__BuildSucceeded *m = world_message(w, &enclii__v1__build_succeeded__descriptor);
        m->build_id = world_text(w, b->id);
        m->attempt = b->attempt;
        m->digest = world_text(w, DIGEST);
        test_event(w, "build.succeeded", NULL, &m->base);
    }
}

static void do_all_signed(void)
{
    for (struct release *r = w->first_release; r; r = r->next) {
        Enclii__V1__ReleaseSigned *m = world_message(w, &enclii__v1__release_signed__descriptor);
        m->release_id = world_text(w, r->id);
        m->digest = world_text(w, DIGEST);
        test_event(w, "release.signed", NULL, &m->base);
    }
}

static void deploy(bool newest)
{
    const struct release *r = w->first_release;
    while (r && newest && r->next) {
        r = r->next;
    }
    if (r) {
        Enclii__V1__RequestDeploy *m = world_message(w, &enclii__v1__request_deploy__descriptor);
        m->service_id = world_text(w, w->first_service->id);
        m->release_id = world_text(w, r->id);
        m->environment_id = world_text(w, ENVIRONMENT);
        m->deployment_id = world_text(w, ec_id_new().text);
        test_event(w, "request.deploy", NULL, &m->base);
    }
}
static void do_deploy(void)
{
    deploy(true);
}
static void do_deploy_first(void)
{
    deploy(false);
}

/* load.c looks for a READY release that was healthy; here any release may come, to be refused. */
static void do_rollback(void)
{
    Enclii__V1__RequestRollback *m = world_message(w, &enclii__v1__request_rollback__descriptor);
    m->service_id = world_text(w, w->first_service->id);
    m->environment_id = world_text(w, ENVIRONMENT);
    m->deployment_id = world_text(w, ec_id_new().text);
    if (w->first_desired && w->first_release) {
        w->first_desired->before_release_id = w->first_release->id;
    }
    test_event(w, "request.rollback", NULL, &m->base);
}

static void do_rolled_out(void)
{
    for (struct deployment *d = w->first_deployment; d; d = d->next) {
        Enclii__V1__DeploymentRolledOut *m =
            world_message(w, &enclii__v1__deployment_rolled_out__descriptor);
        m->deployment_id = world_text(w, d->id);
        test_event(w, "deployment.rolled_out", NULL, &m->base);
    }
}

static void do_reverted(void)
{
    for (struct deployment *d = w->first_deployment; d; d = d->next) {
        Enclii__V1__DeploymentReverted *m =
            world_message(w, &enclii__v1__deployment_reverted__descriptor);
        m->deployment_id = world_text(w, d->id);
        test_event(w, "deployment.reverted", NULL, &m->base);
    }
}

static void do_overdue(void)
{
    for (struct build *b = w->first_build; b; b = b->next) {
        if (!machine_ended(&b->cell)) {
            decide_build_overdue(w, b);
            b->cas++; /* as the commit does */
        }
    }
}

static const struct happening {
    const char *name;
    void (*act)(void);
} happenings[] = {
    {"a stranger's head", do_stranger},
    {"a member's fork", do_member},
    {"a branch of its own", do_own_branch},
    {"closed", do_close},
    {"reopened", do_reopen},
    {"push", do_push},
    {"push of the head", do_push_head},
    {"approved", do_approve},
    {"first approved", do_approve_first},
    {"build of the head asked for", do_build_head},
    {"CI runs", do_ci_runs},
    {"CI good", do_ci_good},
    {"CI bad", do_ci_bad},
    {"lease", do_lease},
    {"all succeed", do_all_succeed},
    {"all signed", do_all_signed},
    {"deploy", do_deploy},
    {"first deployed", do_deploy_first},
    {"rollback", do_rollback},
    {"rolled out", do_rolled_out},
    {"reverted", do_reverted},
    {"overdue", do_overdue},
};

static bool met_waiting[EC_LEN(happenings)];

/* ---- what must hold ---- */

/* Whether this release may run: whose code it is, by our own record. */
static bool may_run(const struct release *release)
{
    return release->trusted || approved[number_of(release->commit_sha)];
}

static void check_deployed(void)
{
    for (const struct deployment *d = w->first_deployment; d; d = d->next) {
        const struct release *r = world_release(w, d->release_id);
        if (d->cell.state != DEPLOYMENT_CANCELLED && !may_run(r)) {
            wrong("a fork's release without approval of its commit was deployed", d->id);
        }
    }
    for (const struct desired *d = w->first_desired; d; d = d->next) {
        const char *const wanted[] = {d->release_id, d->good_release_id};
        for (size_t i = 0; i < EC_LEN(wanted); i++) {
            const struct release *r = *wanted[i] ? world_release(w, wanted[i]) : NULL;
            if (r && !may_run(r)) {
                wrong("a fork's release without approval of its commit is desired", r->id);
            }
        }
    }
}

/* Only what was pushed, or comes from a branch of the repository, may be called trusted. */
static void check_trust(void)
{
    for (const struct build *b = w->first_build; b; b = b->next) {
        int sha = number_of(b->commit_sha);
        if (b->pull_request == 0 && !pushed[sha]) {
            wrong("a commit nobody pushed is built as if it had been", b->commit_sha);
        }
        if (*b->approved_by && !approved[sha]) {
            wrong("an approval that nobody gave", b->commit_sha);
        }
    }
    for (const struct release *r = w->first_release; r; r = r->next) {
        const struct build *b = world_build(w, r->build_id);
        if (r->trusted != b->trusted || r->pull_request != b->pull_request) {
            wrong("a release that forgot what it was built of", r->id);
        }
    }
}

static uint8_t before[64];

static void note_states(void)
{
    size_t i = 0;
    for (const struct build *b = w->first_build; b && i < EC_LEN(before); b = b->next) {
        before[i++] = b->cell.state;
    }
    while (i < EC_LEN(before)) {
        before[i++] = BUILD_WAITING; /* of those to come */
    }
}

static void check_ci(void)
{
    size_t i = 0;
    for (const struct build *b = w->first_build; b && i < EC_LEN(before); b = b->next, i++) {
        int sha = number_of(b->commit_sha);
        bool of_push = b->pull_request == 0 && *b->delivery_id;
        bool began = before[i] == BUILD_WAITING && b->cell.state == BUILD_QUEUED;
        if (of_push && began && !(ci_over[sha] && ci_good[sha])) {
            wrong("in the queue before the CI was well", b->commit_sha);
        }
        if (of_push && before[i] == BUILD_WAITING && b->cell.state == BUILD_LEASED) {
            wrong("leased out of waiting", b->commit_sha);
        }
        if (b->cell.state == BUILD_WAITING && b->attempt > 0) {
            wrong("waits, and was leased", b->commit_sha);
        }
        if (machine_ended(&b->cell) != (b->cell.deadline_unix_ms == 0)) {
            wrong("deadline does not fit the state", b->id);
        }
    }
}

static void check_commands(void)
{
    for (struct fact *f = w->first_fact; f; f = f->next) {
        if (strcmp(f->type, "dev.enclii.build.run.v1") != 0) {
            continue;
        }
        Enclii__V1__RunBuild *run =
            enclii__v1__run_build__unpack(&w->allocator, f->body.len, (const uint8_t *)f->body.ptr);
        const struct build *b = world_build(w, run->build_id);
        if (run->trusted != b->trusted || (!run->trusted && run->spec->n_args > 0)) {
            wrong("a builder was told more than it may know", b->id);
        }
        if (strcmp(run->clone_url, w->first_service->repo_url) != 0) {
            wrong("fetched from elsewhere", run->clone_url);
        }
    }
}

/* ---- walking ---- */

static void begin(void)
{
    w = test_world();
    struct service *svc = test_service(w, 1, PROJECT);
    Enclii__V1__ServiceSpec *spec = world_spec(w, svc->spec);
    Enclii__V1__BuildSpec *build = world_message(w, &enclii__v1__build_spec__descriptor);
    Enclii__V1__BuildSpec__ArgsEntry *arg =
        world_message(w, &enclii__v1__build_spec__args_entry__descriptor);
    arg->key = arg->value = world_text(w, "secret");
    build->args = &arg;
    build->n_args = 1;
    spec->build = build;
    spec->wait_for_ci = true;
    spec->n_routes = 0;
    world_respec(w, svc, spec);
    svc->branch = "**,refs/**";
    world_add_builder(
        w, &(struct builder){
               .id = "builder", .slots = 99, .cached_repos = "[]", .version = "", .heard_ms = NOW});
    serial = head_count = push_count = 0;
    trail_len = 0;
    from_fork = true;
    memset(approved, 0, sizeof approved);
    memset(ci_good, 0, sizeof ci_good);
    memset(ci_over, 0, sizeof ci_over);
    memset(pushed, 0, sizeof pushed);
}

static void step(size_t at)
{
    trail[trail_len++] = happenings[at].name;
    for (const struct build *b = w->first_build; b; b = b->next) {
        met_waiting[at] = met_waiting[at] || b->cell.state == BUILD_WAITING;
    }
    note_states();
    happenings[at].act();
    check_deployed();
    check_trust();
    check_ci();
}

static void end(void)
{
    check_commands();
    for (int round = 0; round < 20; round++) { /* nobody says anything any more */
        do_overdue();
        do_lease();
    }
    for (const struct build *b = w->first_build; b; b = b->next) {
        if (!machine_ended(&b->cell)) {
            wrong("does not come to rest", b->id);
        }
    }
    world_free(w);
}

/* Stages to begin from, as indexes into happenings. */
static const uint8_t stages[][8] = {
    {99},
    {0, 7, 13, 14, 15, 99},      /* a stranger's release, approved, ready */
    {1, 13, 14, 15, 99},         /* a member's, not approved, ready */
    {5, 11, 13, 14, 15, 19, 99}, /* a push serves */
    {1, 13, 14, 15, 0, 8, 16, 99},
    {5, 99}, /* a push waits */
};

static void test_every_sequence_from_every_stage(void **state)
{
    (void)state;
    size_t kinds = EC_LEN(happenings), walked = 0;
    for (size_t stage = 0; stage < EC_LEN(stages); stage++) {
        for (size_t n = 0; n < kinds * kinds * kinds; n += SEQUENCE_STEP, walked++) {
            begin();
            for (size_t i = 0; stages[stage][i] != 99; i++) {
                step(stages[stage][i]);
            }
            for (size_t i = 0, rest = n; i < 3; i++, rest /= kinds) {
                step(rest % kinds);
            }
            end();
        }
    }
    print_message("%zu sequences\n", walked);
}

static void test_long_walks(void **state)
{
    (void)state;
    unsigned seed = 20260102;
    size_t deployed = 0, untrusted = 0;
    for (int n = 0; n < WALKS; n++) {
        begin();
        for (int i = 0; i < WALK_STEPS; i++) {
            size_t at = (size_t)rand_r(&seed) % EC_LEN(happenings);
            bool ends_work = at < 7 || happenings[at].act == do_overdue;
            /* Most of the time somebody goes on with what is there. */
            step(ends_work && rand_r(&seed) % 4 ? 11 + (size_t)rand_r(&seed) % 9 : at);
        }
        for (const struct deployment *d = w->first_deployment; d; d = d->next) {
            deployed += d->cell.state != DEPLOYMENT_CANCELLED;
            untrusted +=
                d->cell.state != DEPLOYMENT_CANCELLED && !world_release(w, d->release_id)->trusted;
        }
        end();
    }
    print_message("%zu deployments, %zu of untrusted code after an approval\n", deployed,
                  untrusted);
    assert_true(untrusted > 50 && deployed > untrusted); /* else the walks prove nothing */
}

static void test_waiting_met_every_happening(void **state)
{
    (void)state;
    for (size_t i = 0; i < EC_LEN(happenings); i++) {
        if (!met_waiting[i]) {
            fail_msg("a waiting build never met \"%s\"", happenings[i].name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sequence_from_every_stage),
        cmocka_unit_test(test_long_walks),
        cmocka_unit_test(test_waiting_met_every_happening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
