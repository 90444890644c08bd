/* One sentence from many rows: the stages are asked from the newest backwards, and the first one
 * that holds the push, or ended it, speaks. Each decider gives false when its stage has nothing to
 * say. */
#include "decide_why.h"

#include <stdbool.h>
#include <string.h>

#include "base/clock.h"

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static struct why say(const char *stage, const char *rule, int waiting, const char *sentence)
{
    return (struct why){stage, rule, sentence, waiting};
}

/* "reason: detail", either may be empty. */
static const char *because(struct ec_arena *arena, const char *reason, const char *detail)
{
    if (!reason[0] || !detail[0]) {
        return reason[0] ? reason : detail[0] ? detail : "no reason was given";
    }
    return ec_arena_format(arena, "%s: %s", reason, detail);
}

static const char *or_rule(const char *reason, const char *otherwise)
{
    return reason[0] ? reason : otherwise;
}

static bool why_delivery(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (is(f->delivery.state, "IGNORED")) {
        *ret_why = say("delivery", or_rule(f->delivery.reason, "ignored"), 0,
                       ec_arena_format(arena, "The push of %.7s to %s was ignored: %s.",
                                       f->delivery.commit_sha, f->delivery.ref,
                                       because(arena, f->delivery.reason, f->delivery.detail)));
        return true;
    }
    if (is(f->delivery.state, "received")) {
        *ret_why =
            say("delivery", "not_decided", 1,
                ec_arena_format(arena, "The push of %.7s was received and is being looked at.",
                                f->delivery.commit_sha));
        return true;
    }
    return false;
}

static bool why_queued(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (!is(f->build.state, "queued")) {
        return false;
    }
    const char *since = ec_duration_text(arena, f->build.since_ms);
    if (f->build.builders == 0) {
        *ret_why = say("queue", "no_builder", 1,
                       ec_arena_format(arena,
                                       "The build of %.7s has waited %s because no builder is "
                                       "alive; start one.",
                                       f->build.commit_sha, since));
        return true;
    }
    *ret_why = say("queue", "no_free_slot", 1,
                   ec_arena_format(arena,
                                   "The build of %.7s has waited %s for a free slot; %lld "
                                   "build(s) go first and %lld builder(s) are alive.",
                                   f->build.commit_sha, since, (long long)f->build.ahead,
                                   (long long)f->build.builders));
    return true;
}

static bool why_build(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (why_queued(f, arena, ret_why)) {
        return true;
    }
    if (is(f->build.state, "leased") || is(f->build.state, "running")) {
        *ret_why = say("build", "running", 1,
                       ec_arena_format(arena,
                                       "The build of %.7s runs on builder %s, attempt %lld, for "
                                       "%s.",
                                       f->build.commit_sha, f->build.builder_id,
                                       (long long)f->build.attempt,
                                       ec_duration_text(arena, f->build.since_ms)));
        return true;
    }
    if (f->build.state[0] && !is(f->build.state, "SUCCEEDED")) {
        *ret_why =
            say("build", or_rule(f->build.reason, "build_ended"), 0,
                ec_arena_format(arena, "The build of %.7s ended as %s: %s.", f->build.commit_sha,
                                f->build.state, because(arena, f->build.reason, f->build.detail)));
        return true;
    }
    return false;
}

static bool why_release(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (is(f->build.state, "SUCCEEDED") && !f->release.state[0]) {
        *ret_why = say("signature", "not_begun", 1,
                       "The build succeeded and its release is about to be made.");
        return true;
    }
    if (is(f->release.state, "building") || is(f->release.state, "signing")) {
        *ret_why =
            say("signature", "signing", 1,
                ec_arena_format(arena,
                                "Release %s has been with the signer for %s (SBOM, "
                                "provenance, signature, verification).",
                                f->release.version, ec_duration_text(arena, f->release.since_ms)));
        return true;
    }
    if (is(f->release.state, "REJECTED")) {
        *ret_why =
            say("signature", or_rule(f->release.reason, "rejected"), 0,
                ec_arena_format(arena, "Release %s was refused and will not be deployed: %s.",
                                f->release.version,
                                because(arena, f->release.reason, f->release.detail)));
        return true;
    }
    return false;
}

static bool why_rollout(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    const char *state = f->deployment.state;
    if (!state[0] && is(f->release.state, "READY")) {
        *ret_why = f->deployment.auto_deploy
                       ? say("rollout", "not_begun", 1,
                             ec_arena_format(arena,
                                             "Release %s is ready; its deployment is about to "
                                             "begin.",
                                             f->release.version))
                       : say("rollout", "auto_deploy_off", 0,
                             ec_arena_format(arena,
                                             "Release %s is ready and waits for somebody to "
                                             "deploy it: auto-deploy is off.",
                                             f->release.version));
        return true;
    }
    if (is(state, "pending") || is(state, "waiting") || is(state, "rolling")) {
        *ret_why = say("rollout", or_rule(f->deployment.reason, state), 1,
                       ec_arena_format(arena,
                                       "Release %s is %s in %s for %s and has %lld %% of the "
                                       "traffic.",
                                       f->deployment.version,
                                       is(state, "rolling") ? "rolling out" : "waiting to roll out",
                                       f->deployment.environment,
                                       ec_duration_text(arena, f->deployment.since_ms),
                                       (long long)f->deployment.weight));
        return true;
    }
    if (state[0] && !is(state, "HEALTHY")) {
        *ret_why = say("rollout", or_rule(f->deployment.reason, "deployment_ended"), 0,
                       ec_arena_format(arena, "The deployment of %s to %s ended as %s: %s.",
                                       f->deployment.version, f->deployment.environment, state,
                                       because(arena, f->deployment.reason, f->deployment.detail)));
        return true;
    }
    return false;
}

static bool why_domain(const struct why_facts *f, struct ec_arena *arena, struct why *ret_why)
{
    if (!f->domain.hostname[0]) {
        return false;
    }
    bool failed = is(f->domain.state, "failed");
    *ret_why = say("domain", or_rule(f->domain.reason, f->domain.state), 1,
                   ec_arena_format(arena, "Release %s serves, but %s has no certificate yet: %s%s.",
                                   f->deployment.version, f->domain.hostname,
                                   failed ? "it failed and is tried again, " : "it is ",
                                   failed ? because(arena, f->domain.reason, f->domain.detail)
                                          : f->domain.state));
    return true;
}

void decide_why(const struct why_facts *facts, struct ec_arena *arena, struct why *ret_why)
{
    if (!facts->delivery.id[0] && !facts->build.id[0] && !facts->deployment.id[0]) {
        *ret_why = say("push", "nothing_pushed", 0,
                       ec_arena_format(arena,
                                       "Nothing was pushed to %s (branch %s) since this service "
                                       "was made.",
                                       facts->repo_key, facts->branch));
        return;
    }
    if (why_delivery(facts, arena, ret_why) || why_build(facts, arena, ret_why) ||
        why_release(facts, arena, ret_why) || why_rollout(facts, arena, ret_why) ||
        why_domain(facts, arena, ret_why)) {
        return;
    }
    *ret_why =
        is(facts->deployment.state, "HEALTHY")
            ? say("done", "healthy", 0,
                  ec_arena_format(arena, "Release %s of commit %.7s serves in %s.",
                                  facts->deployment.version, facts->build.commit_sha,
                                  facts->deployment.environment))
            : say("delivery", "accepted", 1, "The push was accepted; its build is being made.");
}
