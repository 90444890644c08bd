/* What becomes of a row whose deadline has passed: nothing waits for ever, and each end says who
 * kept silent. */
#include "pulls.h"

static void cause_of(struct world *world, const char *kind, const char *id, int64_t cas)
{
    /* Its version makes the cause unique: a row is overdue once per state it is in. */
    world->cause.id =
        ec_arena_format(world->arena, "deadline/%s/%s/%lld", kind, id, (long long)cas);
}

void decide_build_overdue(struct world *world, struct build *build)
{
    cause_of(world, "build", build->id, build->cas);
    world->cause.trace = build->trace;
    if (build->cell.state == BUILD_WAITING) {
        decide_ci_overdue(world, build);
        return;
    }
    if (build->cell.state == BUILD_LEASED) {
        decide_build_again(world, build, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_LOST,
                           ec_arena_format(world->arena, "builder %s did not start it in time",
                                           build->builder_id));
        return;
    }
    const char *detail = build->cell.state == BUILD_QUEUED
                             ? "no builder had a free slot in an hour; start one or raise its slots"
                             : "it ran longer than its time limit (build timeout)";
    decide_build_end(
        world, build,
        &(struct build_end){BUILD_TIMED_OUT,
                            build->cell.state == BUILD_QUEUED ? "no_builder" : "build_timed_out",
                            detail, ""});
}

void decide_build_silent(struct world *world, struct build *build)
{
    cause_of(world, "silent", build->id, build->cas);
    world->cause.trace = build->trace;
    decide_build_again(world, build, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_LOST,
                       ec_arena_format(world->arena, "builder %s said nothing of it for %lld s",
                                       build->builder_id,
                                       (long long)((world->now_ms - build->heard_ms) / 1000)));
}

void decide_release_overdue(struct world *world, struct release *release)
{
    cause_of(world, "release", release->id, release->cas);
    world->cause.trace = release->trace;
    decide_release_reject(world, release, "signing_timed_out",
                          "the signer said nothing in time; is enclii-signer running?");
}

void decide_deployment_overdue(struct world *world, struct deployment *dep)
{
    cause_of(world, "deployment", dep->id, dep->cas);
    world->cause.trace = dep->trace;
    if (dep->cell.state == DEPLOYMENT_ROLLING) {
        uint8_t to = *dep->previous_release_id ? DEPLOYMENT_ROLLED_BACK : DEPLOYMENT_FAILED;
        decide_deployment_back(
            world, dep,
            &(struct deployment_end){to, "deadline",
                                     "the reconciler said neither that it rolled out nor that it "
                                     "went back; is enclii-reconciler running?"});
        return;
    }
    decide_deployment_back(
        world, dep, &(struct deployment_end){DEPLOYMENT_FAILED, "deadline", "it waited too long"});
}
