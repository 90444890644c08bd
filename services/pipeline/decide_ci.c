/* Waiting for the git host's CI. A service with waitForCI has the builds of its pushes wait until
 * every known run about the commit is over and none went wrong. Runs are kept whether something
 * waits or not, because a CI may be over before its push is handled. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "pulls.h"

const char *want_ci(struct wanted *wanted, const char *key, const void *body)
{
    const Enclii__V1__CiChanged *word = body;
    const char *bad = want_host_event(wanted, key, body);
    if (bad) {
        return bad;
    }
    want(wanted, &wanted->repos, word->delivery->repo_key);
    want(wanted, &wanted->ci_commits, word->sha);
    want(wanted, &wanted->commits, word->sha); /* what ended because of an earlier run */
    return NULL;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool is_good(const char *conclusion)
{
    return is(conclusion, "success") || is(conclusion, "neutral") || is(conclusion, "skipped");
}

/* A check suite is made for every app of the repository, whether it ever runs or not: one that only
 * waits tells nothing. */
static bool tells(const struct ci_run *run)
{
    return !is(run->kind, "check_suite") || is(run->status, "completed") ||
           is(run->status, "in_progress");
}

/* Workflow runs are also told as check suites, of which one cannot see what they are of. */
static bool has_workflow(const struct world *world, const char *repo_key, const char *sha)
{
    const struct ci_run *run = world->first_ci_run;
    while (run &&
           !(is(run->sha, sha) && is(run->repo_key, repo_key) && is(run->kind, "workflow_run"))) {
        run = run->next;
    }
    return run != NULL;
}

struct ci_verdict decide_ci_verdict(const struct world *world, const char *repo_key,
                                    const char *sha)
{
    struct ci_verdict verdict = {CI_UNKNOWN, NULL};
    bool workflows = has_workflow(world, repo_key, sha);
    for (const struct ci_run *run = world->first_ci_run; run; run = run->next) {
        bool counts = is(run->sha, sha) && is(run->repo_key, repo_key) && tells(run) &&
                      (!workflows || is(run->kind, "workflow_run"));
        bool over = counts && is(run->status, "completed") && *run->conclusion;
        if (over && !is_good(run->conclusion)) {
            return (struct ci_verdict){CI_BAD, run};
        }
        if (counts && !over) {
            verdict = (struct ci_verdict){CI_RUNNING, run};
        } else if (counts && verdict.is == CI_UNKNOWN) {
            verdict = (struct ci_verdict){CI_GOOD, run};
        }
    }
    return verdict;
}

static const char *name_of(const struct ci_run *run)
{
    return *run->name ? run->name : run->kind;
}

/* For `enclii why`, while it waits. */
static const char *waits_text(struct world *world, const struct ci_verdict *verdict)
{
    const struct ci_run *run = verdict->run;
    return run ? ec_arena_format(world->arena, "%s (%s) %s", name_of(run), run->status, run->url)
               : "no run of the host's CI about this commit is known yet";
}

void decide_ci_build(struct world *world, struct build *build)
{
    struct ci_verdict verdict =
        decide_ci_verdict(world, build->service->repo_key, build->commit_sha);
    if (build->cell.state != BUILD_WAITING) {
        return;
    }
    if (verdict.is == CI_GOOD) {
        decide_build_queue(world, build, "ci_passed",
                           ec_arena_format(world->arena, "%s ended well (%s)", name_of(verdict.run),
                                           verdict.run->conclusion));
    } else if (verdict.is == CI_BAD) {
        decide_build_end(
            world, build,
            &(struct build_end){BUILD_CANCELLED, "ci_failed",
                                ec_arena_format(world->arena, "%s ended as %s: %s",
                                                name_of(verdict.run), verdict.run->conclusion,
                                                verdict.run->url),
                                ""});
    } else {
        build->reason = "wait_for_ci";
        build->detail = waits_text(world, &verdict);
        world_touch(&build->mark);
    }
}

void decide_ci_overdue(struct world *world, struct build *build)
{
    const char *detail = ec_arena_format(
        world->arena,
        "the host's CI was not over within %s (ENCLII_CI_TIMEOUT); last word: %s; the "
        "repository's webhook must send workflow runs or check suites",
        ec_duration_text(world->arena, world->rules->ci_timeout_ms), build->detail);
    decide_build_end(world, build,
                     &(struct build_end){BUILD_TIMED_OUT, "ci_timed_out", detail, ""});
}

/* ---- words of the host ---- */

/* A late word about a run that is over, or about an attempt before the last, is no news. Where the
 * host counts no attempts, a run that failed may begin again; one that went well is left so: a late
 * "running" would hold what comes later until its time is up, and a new end is told anyway. */
static bool is_old(const struct ci_run *run, const Enclii__V1__CiChanged *word)
{
    bool stands = word->run_attempt > 0 || is_good(run->conclusion);
    return word->run_attempt < run->attempt ||
           (word->run_attempt <= run->attempt && stands && is(run->status, "completed") &&
            !is(word->status, "completed"));
}

static bool learn(struct world *world, const Enclii__V1__CiChanged *word)
{
    struct ci_run row = {
        .repo_key = world_text(world, word->delivery->repo_key),
        .sha = world_text(world, word->sha),
        .kind = world_text(world, word->kind),
        .run_id = world_text(world, word->run_id),
        .name = world_text(world, word->name),
        .status = world_text(world, word->status),
        .conclusion = world_text(world, word->conclusion),
        .url = world_text(world, word->url),
        .attempt = word->run_attempt > 0 && word->run_attempt <= INT32_MAX ? word->run_attempt : 0,
        .mark = ROW_NEW,
    };
    struct ci_run *run = world_ci_run(world, &row);
    if (run && is_old(run, word)) {
        return false;
    }
    run = run ? run : world_add_ci_run(world, &row);
    run->name = row.name;
    run->status = row.status;
    run->conclusion = row.conclusion;
    run->url = row.url;
    run->attempt = row.attempt;
    world_touch(&run->mark);
    return true;
}

/* The push that an earlier run ended, when nothing was asked of the service since: a run that is
 * repeated and ends well brings it back. */
static const struct build *failed_push(const struct service *svc, const char *sha)
{
    for (const struct build *b = svc->first_build; b; b = b->next_of_service) {
        if (b->number == svc->builds && is(b->commit_sha, sha) &&
            b->cell.state == BUILD_CANCELLED && is(b->reason, "ci_failed")) {
            return b;
        }
    }
    return NULL;
}

static void look_again(struct world *world, struct service *svc, const char *sha)
{
    for (struct build *build = svc->first_build; build; build = build->next_of_service) {
        if (is(build->commit_sha, sha)) {
            decide_ci_build(world, build);
        }
    }
    const struct build *ended = failed_push(svc, sha);
    if (!ended || svc->removed || decide_ci_verdict(world, svc->repo_key, sha).is != CI_GOOD) {
        return;
    }
    decide_new_build(world, &(struct build_order){
                                .service = svc,
                                .commit = world_commit(world, ended->commit),
                                .actor = world_actor(world, ended->actor),
                                .delivery_id = ended->delivery_id,
                                .priority = PRIORITY_PUSH,
                                .wait_for_ci = true,
                            });
}

void decide_ci_changed(struct world *world, const void *body)
{
    const Enclii__V1__CiChanged *word = body;
    struct delivery *row = decide_ledger(world, word->delivery, DELIVERY_ACCEPTED, "", "");
    if (!row) {
        return; /* the host sent it again */
    }
    row->detail = ec_arena_format(world->arena, "%s of %.12s is %s%s%s", word->kind, word->sha,
                                  word->status, *word->conclusion ? ": " : "", word->conclusion);
    if (!learn(world, word)) {
        return;
    }
    for (struct service *svc = world->first_service; svc; svc = svc->next) {
        if (is(svc->repo_key, word->delivery->repo_key)) {
            look_again(world, svc, word->sha);
        }
    }
}
