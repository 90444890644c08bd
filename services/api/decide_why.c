/* One sentence from many rows: the stages are asked from the push onwards, and the first one that
 * holds the push, or ended it, speaks. Each decider gives false when its stage has nothing to say.
 * What waits says for what, and what ends the waiting; what ended says by which rule. */
#include "decide_why.h"

#include <stdbool.h>
#include <string.h>

#include "base/clock.h"

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* "reason: detail", either may be empty; then the rule's own words. Of a longer detail the first
 * line; the whole stands among the stages. */
static const char *because(struct ec_arena *arena, const char *reason, const char *detail)
{
    const struct why_rule *rule = why_rule_find(reason);
    size_t len = strcspn(detail, "\n");
    while (len > 0 && strchr(" :.;,", detail[len - 1])) {
        len--;
    }
    if (len == 0) {
        return rule        ? ec_arena_format(arena, "%s. %s", reason, rule->means)
               : reason[0] ? ec_arena_format(arena, "%s.", reason)
                           : "no reason was given.";
    }
    return ec_arena_format(arena, "%s%s%.*s.", reason, reason[0] ? ": " : "", (int)len, detail);
}

static const char *or_rule(const char *reason, const char *otherwise)
{
    return reason[0] ? reason : otherwise;
}

static struct why ended(const char *stage, const char *rule, const char *sentence)
{
    const struct why_rule *known = why_rule_find(rule);
    return (struct why){stage, rule, sentence, 0, known ? known->next : ""};
}

/* "<what>; <end>." */
static struct why waits(struct ec_arena *arena, const char *stage, const char *rule,
                        const char *what, const char *end)
{
    return (struct why){stage, rule, ec_arena_format(arena, "%s; %s.", what, end), 1, end};
}

static const char *span(struct ec_arena *arena, int64_t ms)
{
    return ec_duration_text(arena, ms > 0 ? ms : 0);
}

/* "in 42s", or that it is due. */
static const char *within(struct ec_arena *arena, int64_t left_ms)
{
    return left_ms > 0 ? ec_arena_format(arena, "in %s", span(arena, left_ms)) : "any moment now";
}

/* ---- the push ---- */

static const char *push_text(const struct why_facts *f, struct ec_arena *arena)
{
    bool pull = strncasecmp(f->delivery.event, "pull", 4) == 0 ||
                is(f->delivery.event, "Merge Request Hook");
    if (pull) {
        return ec_arena_format(arena, "The pull request with head %.7s%s%s", f->delivery.commit_sha,
                               f->delivery.ref[0] ? " at " : "", f->delivery.ref);
    }
    return ec_arena_format(arena, "The push of %.7s to %s", f->delivery.commit_sha,
                           f->delivery.ref);
}

/* Pull requests, tags, pings and the like: nothing is built of them. */
static bool why_other_event(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (!f->delivery.id[0] || f->delivery.commit_sha[0]) {
        return false;
    }
    bool ignored = is(f->delivery.state, "IGNORED");
    const char *rule = or_rule(f->delivery.reason, ignored ? "ignored" : "told");
    const char *why = because(arena, f->delivery.reason, f->delivery.detail);
    *ret_why =
        ended("delivery", rule,
              ec_arena_format(arena, "The delivery of \"%s\" from %s is no push and was %s: %s",
                              f->delivery.event, f->repo_key, ignored ? "ignored" : "taken", why));
    return true;
}

static bool why_delivery(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    const char *push = push_text(f, arena);
    if (is(f->delivery.state, "IGNORED")) {
        *ret_why = ended("delivery", or_rule(f->delivery.reason, "ignored"),
                         ec_arena_format(arena, "%s was ignored: %s", push,
                                         because(arena, f->delivery.reason, f->delivery.detail)));
        return true;
    }
    if (is(f->delivery.state, "received")) {
        *ret_why = waits(arena, "delivery", "not_decided",
                         ec_arena_format(arena, "%s was received and waits for pipeline", push),
                         "it ends when pipeline has read it, usually within a second; is "
                         "enclii-pipeline running?");
        return true;
    }
    if (f->delivery.id[0] && !f->build.id[0] && f->delivery.rule[0]) { /* others build of it */
        *ret_why =
            ended("delivery", f->delivery.rule,
                  ec_arena_format(arena, "%s builds nothing of this service: %s", push,
                                  because(arena, f->delivery.rule, f->delivery.rule_detail)));
        return true;
    }
    return false;
}

/* ---- the build ---- */

/* "; its builder was lost twice before, this is the third try" */
static const char *lost_before(const struct why_facts *f, struct ec_arena *arena)
{
    int64_t losses = f->build.losses;
    if (losses == 0) {
        return "";
    }
    const char *times = losses == 1   ? "once"
                        : losses == 2 ? "twice"
                                      : ec_arena_format(arena, "%lld times", (long long)losses);
    return ec_arena_format(arena,
                           " (its builder was lost %s before, which is no attempt of its "
                           "own)",
                           times);
}

static bool why_queued(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (!is(f->build.state, "queued")) {
        return false;
    }
    const char *since = span(arena, f->build.since_ms), *left = within(arena, f->build.left_ms);
    if (f->build.builders == 0) {
        *ret_why = waits(
            arena, "queue", "no_builder",
            ec_arena_format(arena, "The build of %.7s has waited %s because no builder is alive%s",
                            f->build.commit_sha, since, lost_before(f, arena)),
            ec_arena_format(arena, "it begins as soon as one is started, and is given up %s",
                            left));
        return true;
    }
    bool full = f->build.busy_slots >= f->build.slots;
    *ret_why = waits(
        arena, "queue", full ? "no_free_slot" : "not_its_turn",
        ec_arena_format(arena,
                        "The build of %.7s has waited %s for a free slot: %lld of %lld slots on "
                        "%lld builder(s) are busy, %lld build(s) go first%s",
                        f->build.commit_sha, since, (long long)f->build.busy_slots,
                        (long long)f->build.slots, (long long)f->build.builders,
                        (long long)f->build.ahead, lost_before(f, arena)),
        full ? ec_arena_format(arena, "it begins when a build before it ends, and is given up %s",
                               left)
             : ec_arena_format(arena,
                               "it begins at the next look of the queue, within a second, unless "
                               "a limit of its project or of all builds holds it, and is given "
                               "up %s",
                               left));
    return true;
}

/* "pull request #7 of eve, from a fork; approved by ada": of whom it is. */
static const char *origin(const struct why_facts *f, struct ec_arena *arena)
{
    const char *by = f->build.approved_by;
    if (f->build.pull_request == 0) {
        return "";
    }
    return ec_arena_format(arena, " (pull request #%lld of %s%s%s%s)",
                           (long long)f->build.pull_request, f->build.author,
                           f->build.untrusted ? ", from a fork" : "", by[0] ? ", approved by " : "",
                           by);
}

static bool why_waiting(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (!is(f->build.state, "waiting")) {
        return false;
    }
    *ret_why =
        waits(arena, "queue", or_rule(f->build.reason, "wait_for_ci"),
              ec_arena_format(arena, "The build of %.7s has waited %s for CI: %s",
                              f->build.commit_sha, span(arena, f->build.since_ms), f->build.detail),
              ec_arena_format(arena,
                              "it begins once every run is over and none went wrong, and "
                              "is given up %s",
                              within(arena, f->build.left_ms)));
    return true;
}

static bool why_at_work(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    const char *since = span(arena, f->build.since_ms), *left = within(arena, f->build.left_ms);
    if (is(f->build.state, "leased")) {
        *ret_why = waits(arena, "build", "leased",
                         ec_arena_format(arena,
                                         "The build of %.7s was given to builder %s, attempt %lld, "
                                         "%s ago and waits for its first word%s",
                                         f->build.commit_sha, f->build.builder_id,
                                         (long long)f->build.attempt, since, lost_before(f, arena)),
                         ec_arena_format(arena, "without it, another builder gets it %s", left));
        return true;
    }
    if (is(f->build.state, "running")) {
        *ret_why = waits(
            arena, "build", "running",
            ec_arena_format(arena, "The build of %.7s runs on builder %s, attempt %lld, for %s%s",
                            f->build.commit_sha, f->build.builder_id, (long long)f->build.attempt,
                            since, lost_before(f, arena)),
            ec_arena_format(arena, "it ends with the build, or by its time limit %s", left));
        return true;
    }
    return false;
}

static bool why_build(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (why_waiting(f, arena, ret_why) || why_queued(f, arena, ret_why) ||
        why_at_work(f, arena, ret_why)) {
        return true;
    }
    if (f->build.state[0] && !is(f->build.state, "SUCCEEDED")) {
        *ret_why = ended("build", or_rule(f->build.reason, "build_ended"),
                         ec_arena_format(arena, "The build of %.7s%s ended as %s: %s",
                                         f->build.commit_sha, origin(f, arena), f->build.state,
                                         because(arena, f->build.reason, f->build.detail)));
        return true;
    }
    return false;
}

/* ---- the release ---- */

static bool why_release(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (is(f->build.state, "SUCCEEDED") && !f->release.state[0]) {
        *ret_why = waits(arena, "signature", "not_begun",
                         "The build succeeded and its release waits for pipeline to make it",
                         "it ends within a second; is enclii-pipeline running?");
        return true;
    }
    if (is(f->release.state, "building") || is(f->release.state, "signing")) {
        *ret_why = waits(arena, "signature", "signing",
                         ec_arena_format(arena,
                                         "Release %s has been with the signer for %s (SBOM, "
                                         "provenance, signature, verification)",
                                         f->release.version, span(arena, f->release.since_ms)),
                         ec_arena_format(arena,
                                         "it ends with the signer's word, or is refused "
                                         "(signing_timed_out) %s",
                                         within(arena, f->release.left_ms)));
        return true;
    }
    if (is(f->release.state, "REJECTED")) {
        *ret_why =
            ended("signature", or_rule(f->release.reason, "rejected"),
                  ec_arena_format(arena, "Release %s was refused and will not be deployed: %s",
                                  f->release.version,
                                  because(arena, f->release.reason, f->release.detail)));
        return true;
    }
    return false;
}

/* ---- the deployment ---- */

static bool why_no_deployment(const struct why_facts *f, struct ec_arena *arena,
                              struct why *ret_why)
{
    if (f->deployment.state[0] || !is(f->release.state, "READY")) {
        return false;
    }
    const char *version = f->release.version;
    if (f->build.pull_request > 0) {
        bool held = f->build.untrusted && !f->build.approved_by[0];
        *ret_why = ended("rollout", held ? "approval_needed" : "pull_request_not_deployed",
                         ec_arena_format(arena, "Release %s%s is ready and was not deployed: %s.",
                                         version, origin(f, arena),
                                         held ? "nobody has approved its commit"
                                              : "only pushes deploy by themselves"));
        return true;
    }
    const char *rule = f->release.rule[0] ? f->release.rule
                       : f->auto_deploy   ? ""
                                          : "auto_deploy_off";
    if (rule[0]) {
        *ret_why = ended("rollout", rule,
                         ec_arena_format(arena, "Release %s is ready and was not deployed: %s",
                                         version, because(arena, rule, f->release.rule_detail)));
        return true;
    }
    *ret_why = waits(
        arena, "rollout", "not_begun",
        ec_arena_format(arena, "Release %s is ready and waits for pipeline to deploy it", version),
        "it ends within a second; is enclii-pipeline running?");
    return true;
}

static bool why_open(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    const char *state = f->deployment.state, *version = f->deployment.version;
    const char *since = span(arena, f->deployment.since_ms);
    const char *left = within(arena, f->deployment.left_ms);
    if (is(state, "pending")) {
        *ret_why = waits(
            arena, "rollout", or_rule(f->deployment.reason, "pending"),
            ec_arena_format(arena, "Release %s has waited %s to be rolled out in %s", version,
                            since, f->deployment.environment),
            ec_arena_format(arena, "pipeline begins it within a second, or it fails %s", left));
    } else if (is(state, "waiting")) {
        *ret_why =
            waits(arena, "rollout", or_rule(f->deployment.reason, "gate"),
                  ec_arena_format(arena, "Release %s has waited %s for somebody to let it into %s",
                                  version, since, f->deployment.environment),
                  ec_arena_format(arena, "it ends with their word, or is cancelled %s", left));
    } else if (is(state, "rolling")) {
        *ret_why =
            waits(arena, "rollout", or_rule(f->deployment.reason, "rolling"),
                  ec_arena_format(arena,
                                  "Release %s is rolling out in %s for %s and has %lld %% of the "
                                  "traffic",
                                  version, f->deployment.environment, since,
                                  (long long)f->deployment.weight),
                  ec_arena_format(arena,
                                  "it ends when it has taken all traffic well or went back, and is "
                                  "taken back without a word %s",
                                  left));
    } else {
        return false;
    }
    return true;
}

static bool why_rollout(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    const char *state = f->deployment.state;
    if (why_no_deployment(f, arena, ret_why) || why_open(f, arena, ret_why)) {
        return true;
    }
    if (state[0] && !is(state, "HEALTHY")) {
        const char *serving = f->deployment.serving;
        *ret_why =
            ended("rollout", or_rule(f->deployment.reason, "deployment_ended"),
                  ec_arena_format(arena, "The deployment of %s to %s ended as %s: %s%s",
                                  f->deployment.version, f->deployment.environment, state,
                                  because(arena, f->deployment.reason, f->deployment.detail),
                                  serving[0] ? ec_arena_format(arena, " %s serves there.", serving)
                                             : ""));
        return true;
    }
    return false;
}

/* ---- the domain ---- */

static bool why_domain(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (!f->domain.hostname[0]) {
        return false;
    }
    const char *left = within(arena, f->domain.left_ms);
    if (is(f->domain.state, "failed")) {
        const char *why = because(arena, f->domain.reason, f->domain.detail);
        *ret_why = waits(
            arena, "domain", or_rule(f->domain.reason, "failed"),
            ec_arena_format(arena, "Release %s serves, but %s has no certificate yet: %.*s",
                            f->deployment.version, f->domain.hostname, (int)strlen(why) - 1, why),
            ec_arena_format(arena, "it is tried again %s", left));
        return true;
    }
    *ret_why =
        waits(arena, "domain", or_rule(f->domain.reason, f->domain.state),
              ec_arena_format(arena,
                              "Release %s serves, but %s has no certificate yet (%s) and "
                              "waits for the issuer",
                              f->deployment.version, f->domain.hostname, f->domain.state),
              ec_arena_format(arena, "it ends with the issuer's word, or is tried again %s", left));
    return true;
}

/* Serves, or has served: another release may have taken its place since. */
static bool why_healthy(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    const char *version = f->deployment.version, *serving = f->deployment.serving;
    if (!is(f->deployment.state, "HEALTHY")) {
        return false;
    }
    *ret_why =
        serving[0] && !is(serving, version)
            ? ended("done", "replaced",
                    ec_arena_format(arena,
                                    "Release %s of commit %.7s was healthy in %s; %s serves "
                                    "there now.",
                                    version, f->build.commit_sha, f->deployment.environment,
                                    serving))
            : ended("done", "healthy",
                    ec_arena_format(arena, "Release %s of commit %.7s serves in %s.", version,
                                    f->build.commit_sha, f->deployment.environment));
    return true;
}

void decide_why(const struct why_facts *facts, struct ec_arena *arena, struct why *ret_why)
{
    if (!facts->delivery.id[0] && !facts->build.id[0] && !facts->deployment.id[0]) {
        *ret_why = (struct why){"push", "nothing_pushed",
                                ec_arena_format(arena,
                                                "Nothing was pushed to %s (branch %s) since this "
                                                "service was made.",
                                                facts->repo_key, facts->branch),
                                0, "Push a commit, or build one: enclii deploy --commit SHA."};
        return;
    }
    if (why_other_event(facts, arena, ret_why) || why_delivery(facts, arena, ret_why) ||
        why_build(facts, arena, ret_why) || why_release(facts, arena, ret_why) ||
        why_rollout(facts, arena, ret_why) || why_domain(facts, arena, ret_why)) {
        return;
    }
    if (why_healthy(facts, arena, ret_why)) {
        return;
    }
    *ret_why = waits(arena, "delivery", "accepted",
                     ec_arena_format(arena, "%s was accepted and waits for its build to be made",
                                     push_text(facts, arena)),
                     "it ends within a second; is enclii-pipeline running?");
}
