/* Releases: made when a build of the current attempt succeeded, signed by `signer`, then READY and,
 * when the service says so, deployed. A release of an older build never takes the place of a newer
 * one. */
#include "decide.h"

#include <string.h>

#include "base/id.h"
#include "base/metric.h"
#include "bus/topics.h"

static struct ec_metric releases =
    EC_COUNTER("enclii_releases_total", "Releases by how their verification ended.", "status");

static struct why why_of(const struct release *release, const char *rule)
{
    return (struct why){release->service->id, "release", release->id, rule,
                        machine_text(&release->cell)};
}

static void tell(struct world *world, const struct release *release, const char *type,
                 const ProtobufCMessage *body)
{
    world_fact(world, &(struct fact_spec){.topic = EC_TOPIC_RELEASE_EVENTS,
                                          .key = release->service->id,
                                          .type = type,
                                          .subject = release->id,
                                          .trace = release->trace,
                                          .body = body});
}

static void tell_created(struct world *world, const struct release *release,
                         const struct build *build, const Enclii__V1__BuildSucceeded *claim)
{
    const Enclii__V1__ServiceSpec *spec = world_spec(world, release->spec);
    Enclii__V1__ReleaseCreated *fact =
        world_message(world, &enclii__v1__release_created__descriptor);
    fact->release_id = world_text(world, release->id);
    fact->build_id = world_text(world, build->id);
    fact->attempt = build->attempt;
    fact->service = world_service_ref(world, release->service);
    fact->commit = world_commit(world, release->commit);
    fact->clone_url = world_text(world, release->service->repo_url);
    fact->image_repo = world_text(world, release->image_repo);
    fact->digest = world_text(world, release->digest);
    fact->build_spec = decide_build_spec(world, spec, build->trusted);
    fact->builder_id = world_text(world, build->builder_id);
    fact->engine = claim->engine;
    fact->build_started_unix_ms = claim->started_unix_ms;
    fact->build_finished_unix_ms = claim->finished_unix_ms;
    fact->n_base_images = claim->n_base_images;
    fact->base_images = claim->base_images;
    fact->version = world_text(world, release->version);
    fact->pull_request =
        world_pull_ref(world, release->pull_request, release->trusted, build->author);
    tell(world, release, "dev.enclii.release.created.v1", &fact->base);
}

struct release *decide_new_release(struct world *world, struct build *build,
                                   const Enclii__V1__BuildSucceeded *claim)
{
    struct service *svc = build->service;
    svc->releases++;
    world_touch(&svc->mark);
    struct release row = {
        .id = world_text(world, ec_id_derive(build->id, "release").text),
        .service = svc,
        .build_id = build->id,
        .build_number = build->number,
        .number = svc->releases,
        .version = ec_arena_format(world->arena, "v%d", svc->releases),
        .reason = "",
        .detail = "",
        .commit = build->commit,
        .spec = build->spec,
        .commit_sha = build->commit_sha,
        .image_repo = build->image_repo,
        .digest = build->digest,
        .sbom_digest = "",
        .provenance_digest = "",
        .signature_digest = "",
        .sbom_object = "",
        .provenance_object = "",
        .sbom_format = "",
        .key_id = "",
        .steps = "[]",
        .trace = build->trace,
        .push_received_ms = build->push_received_ms,
        .created_ms = world->now_ms,
        .pull_request = build->pull_request,
        .trusted = build->trusted,
        .approved_by = build->approved_by,
        .mark = ROW_NEW,
    };
    machine_begin(&row.cell, MACHINE_RELEASE, world->now_ms);
    machine_move(&row.cell, RELEASE_SIGNING, world->now_ms, 0);
    struct release *release = world_add_release(world, &row);
    tell_created(world, release, build, claim);
    return release;
}

/* ---- words of the signer ---- */

static struct release *heard(struct world *world, const char *release_id, const char *word)
{
    struct release *release = world_release(world, release_id);
    if (!release) {
        world_why(world, &(struct why){NULL, "release", release_id, "unknown_release", "ignored"},
                  "%s about a release that does not exist or whose service is gone", word);
        return NULL;
    }
    if (machine_ended(&release->cell)) {
        struct why why = why_of(release, "late_result");
        why.outcome = "ignored";
        world_why(world, &why, "%s came when the release was %s already", word,
                  machine_text(&release->cell));
        return NULL;
    }
    return release;
}

void decide_release_step(struct world *world, const void *body)
{
    const Enclii__V1__ReleaseStepFinished *word = body;
    struct release *release = world_release(world, word->release_id);
    if (!release || !word->step || machine_ended(&release->cell)) {
        return;
    }
    const char *more = world_steps(world, &word->step, 1);
    bool first = strcmp(release->steps, "[]") == 0;
    release->steps = first
                         ? more
                         : ec_arena_format(world->arena, "%.*s,%s", (int)strlen(release->steps) - 1,
                                           release->steps, more + 1);
    world_touch(&release->mark);
}

static void tell_decided(struct world *world, const struct release *release, const char *type)
{
    Enclii__V1__ReleaseDecided *fact =
        world_message(world, &enclii__v1__release_decided__descriptor);
    fact->release_id = world_text(world, release->id);
    fact->build_id = world_text(world, release->build_id);
    fact->service = world_service_ref(world, release->service);
    fact->version = world_text(world, release->version);
    fact->image = ec_arena_format(world->arena, "%s@%s", release->image_repo, release->digest);
    fact->reason = world_text(world, release->reason);
    tell(world, release, type, &fact->base);
}

/* Why a READY release is not deployed by itself; NULL = deploy. */
static const char *held_back(struct world *world, const struct release *release,
                             const struct environment *env, const char **ret_detail)
{
    const struct service *svc = release->service;
    if (svc->removed) {
        *ret_detail = "the service was removed";
        return "service_removed";
    }
    if (release->pull_request > 0) {
        *ret_detail = ec_arena_format(
            world->arena,
            release->trusted || *release->approved_by
                ? "built from pull request #%d; only pushes deploy by themselves. By hand: enclii "
                  "deploy --release %s"
                : "built from pull request #%d of a fork; a member looks at it, then: enclii "
                  "approve %s",
            release->pull_request, release->version);
        return "pull_request_not_deployed";
    }
    if (!svc->auto_deploy) {
        *ret_detail = "the service deploys by hand only (autoDeploy: false)";
        return "auto_deploy_off";
    }
    const Enclii__V1__Commit *commit = world_commit(world, release->commit);
    if (!decide_branch(svc->branch, commit->ref)) {
        *ret_detail = ec_arena_format(world->arena, "built from %s, only branch %s deploys",
                                      commit->ref, svc->branch);
        return "branch_not_deployed";
    }
    if (!env) {
        *ret_detail = ec_arena_format(world->arena,
                                      "the project has no environment \"%s\"; create it, then "
                                      "deploy %s by hand",
                                      svc->environment, release->version);
        return "no_environment";
    }
    const struct desired *desired = world_desired(world, svc->id, env->id);
    if (desired && release->build_number <= desired->newest_build) {
        *ret_detail = ec_arena_format(world->arena,
                                      "build #%d was deployed or asked for before this build #%d "
                                      "was ready",
                                      desired->newest_build, release->build_number);
        return "newer_release_wanted";
    }
    return NULL;
}

static void deploy_by_itself(struct world *world, struct release *release)
{
    const struct service *svc = release->service;
    const struct environment *env =
        world_environment_named(world, svc->project_id, svc->environment);
    const char *detail = "";
    const char *rule = held_back(world, release, env, &detail);
    if (rule) {
        struct why why = why_of(release, rule);
        why.outcome = "not deployed";
        world_why(world, &why, "%s", detail);
        return;
    }
    const struct build *build = world_build(world, release->build_id);
    Enclii__V1__Actor *actor = world_message(world, &enclii__v1__actor__descriptor);
    actor->kind = ENCLII__V1__ACTOR_KIND__ACTOR_KIND_PLATFORM;
    decide_deploy(world,
                  &(struct deploy_order){
                      .service = release->service,
                      .environment_id = env->id,
                      .release = release,
                      .deployment_id = world_text(
                          world, ec_id_derive(release->id,
                                              ec_arena_format(world->arena, "deploy/%s", env->id))
                                     .text),
                      .actor = build ? world_actor(world, build->actor) : actor,
                      .trace = release->trace,
                      .push_received_ms = release->push_received_ms,
                      .rule = "release_ready",
                      .detail = "the release is signed and verified, the service deploys by itself",
                  });
}

void decide_release_signed(struct world *world, const void *body)
{
    const Enclii__V1__ReleaseSigned *word = body;
    struct release *release = heard(world, word->release_id, "signed");
    if (!release) {
        return;
    }
    if (strcmp(word->digest, release->digest) != 0) {
        decide_release_reject(world, release, "digest_mismatch",
                              "the signer verified another digest than the one built");
        return;
    }
    machine_move(&release->cell, RELEASE_READY, world->now_ms, 0);
    world_touch(&release->mark);
    release->sbom_digest = world_text(world, word->sbom_digest);
    release->provenance_digest = world_text(world, word->provenance_digest);
    release->signature_digest = world_text(world, word->signature_digest);
    release->sbom_object = world_text(world, word->sbom_object);
    release->provenance_object = world_text(world, word->provenance_object);
    release->sbom_format = world_text(world, word->sbom_format);
    release->sbom_components = word->sbom_components;
    release->key_id = world_text(world, word->key_id);
    release->steps = world_steps(world, word->steps, word->n_steps);
    release->steps_replace = true;
    release->ready_ms = world->now_ms;
    ec_metric_add(&releases, "READY", 1);
    tell_decided(world, release, "dev.enclii.release.ready.v1");
    struct why why = why_of(release, "signed_and_verified");
    world_why(world, &why, "signed with key %s, %d components listed", release->key_id,
              release->sbom_components);
    deploy_by_itself(world, release);
}

void decide_release_reject(struct world *world, struct release *release, const char *reason,
                           const char *detail)
{
    if (!machine_move(&release->cell, RELEASE_REJECTED, world->now_ms, 0)) {
        return;
    }
    world_touch(&release->mark);
    release->reason = world_text(world, reason);
    release->detail = world_text(world, detail);
    ec_metric_add(&releases, "REJECTED", 1);
    tell_decided(world, release, "dev.enclii.release.rejected.v1");
    struct why why = why_of(release, "release_rejected");
    world_why(world, &why, "%s: %s", release->reason, release->detail);
}

void decide_release_refused(struct world *world, const void *body)
{
    const Enclii__V1__ReleaseRefused *word = body;
    struct release *release = heard(world, word->release_id, "refused");
    if (release) {
        decide_release_reject(world, release, word->reason, word->detail);
    }
}
