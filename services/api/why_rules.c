/* Every rule of a decision and every reason of an end, in words: what it means, and what somebody
 * may do about it. A test holds this table against the sources of pipeline, signer and reconciler:
 * a new rule there needs a row here. */
#include <string.h>

#include "base/mem.h"
#include "decide_why.h"

const struct why_rule why_rules[] = {
    /* ---- a push that builds nothing, on purpose ---- */
    {"branch_not_watched", "The service builds another branch.",
     "Push to the branch it builds, or change the branch in enclii.yaml."},
    {"paths_not_watched", "None of the changed files is under the paths that the service watches.",
     "Nothing, if that is meant; else extend the watched paths, or build it: enclii deploy "
     "--commit "
     "SHA."},
    {"skip_marker", "The commit message asks to be skipped.",
     "Push a commit without the marker, or build this one: enclii deploy --commit SHA."},
    {"ref_deleted", "A branch or tag was deleted; there is nothing to build.", ""},
    {"no_service", "No service is bound to this repository.",
     "Make one: enclii service create -f enclii.yaml."},
    {"already_building", "A build of this very commit is under way for this branch.",
     "Nothing: that build is the one of this push."},
    {"already_known",
     "This very push was told before: by another webhook of the host, or by a sweep.", ""},
    {"already_recovered", "A sweep had found this push before its webhook came.", ""},
    {"older_push", "A later push to the same ref is there already.",
     "Nothing; to build this commit all the same: enclii deploy --commit SHA."},
    {"newer_push",
     "While it was found out what it changed, a newer push came: that one is built "
     "for both.",
     ""},
    {"paths_unknown",
     "The host did not tell all files that changed (of a pull request it tells none); the sweeper "
     "finds out.",
     "Nothing: after half a minute without an answer it is built."},
    {"default_branch_renamed", "The default branch has a new name; the service follows it.",
     "Write the new name into enclii.yaml."},
    {"duplicate_delivery", "The host sent this delivery again; the first one counts.", ""},

    /* ---- a pull request that builds nothing ---- */
    {"pull_requests_off", "The service builds no pull requests.",
     "To build them: source.git.pullRequests: trusted (or all) in enclii.yaml."},
    {"fork_of_stranger",
     "The pull request comes from a fork, and the host does not tell that its author belongs to "
     "the repository.",
     "Look at the commit, then: enclii approve NUMBER --commit SHA."},
    {"head_not_reachable", "The host keeps the pull request's head where it cannot be fetched.",
     "Push it to a branch of the repository."},
    {"already_built", "This commit was built already.", ""},
    {"newer_head",
     "While it was found out what the pull request changes, a later word about its head came.",
     "Nothing: that one counts."},
    {"older_word", "The host has told a later state of the pull request before.", ""},

    /* ---- other words of hosts ---- */
    {"ping", "The host asked whether the platform is there.", ""},
    {"event_not_used", "Nothing here acts on this kind of event.", ""},
    {"action_not_used", "Nothing here acts on this kind of change.", ""},
    {"no_change", "The delivery names nothing that changed.", ""},
    {"no_image", "No image was pushed.", ""},
    {"repository_moved", "The repository has a new name; its services followed.", ""},

    /* ---- builds ---- */
    {"push_accepted", "The push wants a build.", ""},
    {"asked_for", "Somebody asked for the build.", ""},
    {"pull_request_accepted", "The pull request wants a build.", ""},
    {"wait_for_ci", "The service builds what the git host's CI found good (waitForCI).",
     "Nothing; to build it all the same: enclii deploy --commit SHA."},
    {"ci_passed", "The git host's CI ended well.", ""},
    {"ci_failed", "The git host's CI found something wrong.",
     "Mend it and push again; to build it all the same: enclii deploy --commit SHA."},
    {"ci_timed_out", "The git host's CI was not over in time.",
     "Check that the repository's webhook sends workflow runs or check suites; to build it all "
     "the same: enclii deploy --commit SHA."},
    {"superseded_by_push", "The same commit was pushed to the repository; that build counts.",
     "Nothing: the push is built instead."},
    {"pull_request_closed", "The pull request was closed or merged.",
     "Nothing; a merge is a push of its own."},
    {"approved", "A member let this commit in.", ""},
    {"unknown_pull_request", "The commit is not the head of that pull request.",
     "See: enclii pull-requests."},
    {"builder_free", "A builder had a free slot.", ""},
    {"build_succeeded", "The image was built and pushed.", ""},
    {"build_failed", "The build ended with an error.", "Read its output: enclii logs."},
    {"superseded_by_newer_push", "A newer push to the same branch took its place.",
     "Nothing: the newer commit is built instead."},
    {"no_builder", "No builder had a free slot within an hour.",
     "Start a builder or raise its slots (ENCLII_BUILDER_SLOTS), then: enclii deploy --commit "
     "SHA."},
    {"build_timed_out", "The build ran longer than its limit.",
     "Make it faster, or raise the build timeout in enclii.yaml or ENCLII_BUILD_TIMEOUT."},
    {"next_attempt", "What the build needs failed (git host, registry); it is tried again.", ""},
    {"builder_lost",
     "The builder was lost or gave the build back: no attempt of the build; another one gets it.",
     ""},
    {"old_attempt", "Word of an attempt that was given away counts for nothing.", ""},
    {"late_result", "Word about something that had ended already counts for nothing.", ""},
    {"unknown_build", "Word about a build that does not exist.", ""},
    {"FETCH", "The repository or the commit could not be fetched.",
     "Check that the platform can reach the repository and that the commit still exists."},
    {"NOT_DETECTED", "Nothing in the repository says how to build it.",
     "Add a Dockerfile, or name one in enclii.yaml (build.dockerfile)."},
    {"BUILD", "The build itself ended with an error.", "Read its output: enclii logs."},
    {"OUT_OF_MEMORY", "The build needed more memory than it may have.",
     "Raise build.memory in enclii.yaml."},
    {"TIMED_OUT", "The build ran longer than its limit.",
     "Make it faster, or raise the build timeout in enclii.yaml or ENCLII_BUILD_TIMEOUT."},
    {"PUSH", "The registry did not take the image.",
     "Check the registry, then: enclii deploy --commit SHA."},
    {"CANCELLED", "The build was cancelled.", ""},
    {"LOST", "Builder after builder that had it was lost (ENCLII_BUILD_LOSSES).",
     "Look at the builders: does this build bring them down (memory, disk)? Then: enclii deploy "
     "--commit SHA."},
    {"INTERNAL", "Something went wrong in the platform, not in the commit.",
     "Look at the builder's log, then: enclii deploy --commit SHA."},
    {"UNSPECIFIED", "The builder gave no reason.", "Read the build's output: enclii logs."},

    /* ---- releases ---- */
    {"signed_and_verified", "The image was signed, and verified like a stranger would.", ""},
    {"release_rejected", "The release was refused and will not be deployed.",
     "Mend the cause, then: enclii deploy --commit SHA."},
    {"digest_mismatch", "The signer verified another image than the one that was built.",
     "Somebody may have changed the registry. Look into it before building again."},
    {"digest_not_in_registry", "The image that the builder named is not in the registry.",
     "Check the registry, then: enclii deploy --commit SHA."},
    {"sbom_failed", "The list of components could not be made.",
     "Look at the signer's log (Syft), then: enclii deploy --commit SHA."},
    {"provenance_failed", "The provenance could not be made.",
     "Look at the signer's log, then: enclii deploy --commit SHA."},
    {"sign_failed", "The image could not be signed.",
     "Look at the signer's log and its key, then: enclii deploy --commit SHA."},
    {"store_failed", "SBOM, provenance or signature could not be stored.",
     "Check registry and object store, then: enclii deploy --commit SHA."},
    {"self_verification_failed", "What was stored did not verify when it was read back.",
     "Check registry and object store before building again."},
    {"refused", "The signer refused it.", "Look at the signer's log."},
    {"signing_timed_out", "The signer said nothing in time.",
     "Start enclii-signer, then: enclii deploy --commit SHA."},
    {"unknown_release", "There is no such release.", "See: enclii releases."},

    /* ---- whether a release is deployed ---- */
    {"release_ready", "The release is signed, and the service deploys by itself.", ""},
    {"auto_deploy_off", "The service deploys by hand only (autoDeploy: false).",
     "Deploy it: enclii deploy --release VERSION."},
    {"pull_request_not_deployed", "Releases of pull requests are deployed by hand only.",
     "Deploy it: enclii deploy --release VERSION; of a fork, before that: enclii approve VERSION."},
    {"approval_needed", "It was built of a fork's code, and nobody has approved that commit.",
     "Look at the commit, then: enclii approve VERSION."},
    {"branch_not_deployed", "It was built from a branch that does not deploy by itself.",
     "Deploy it by hand: enclii deploy --release VERSION."},
    {"no_environment", "The project has no environment of the name that the service deploys to.",
     "Make it: enclii environment create NAME; then: enclii deploy --release VERSION."},
    {"newer_release_wanted", "A newer build was deployed, or asked for, before this one was ready.",
     "Nothing; to go back to this one: enclii rollback --to VERSION."},
    {"deploy_asked_for", "Somebody asked for the deployment.", ""},
    {"rollback_asked_for", "Somebody asked to go back.", ""},
    {"release_not_ready", "Only a signed and verified release may run.",
     "Wait until it is READY, or take another one: enclii releases."},
    {"unknown_environment", "The environment is not one of the service's project.",
     "See: enclii environment list."},

    /* ---- rollouts ---- */
    {"rolled_out", "All traffic goes to it, and it is healthy.", ""},
    {"image_pull_failed", "The target could not get the image.",
     "Check that the target reaches the registry."},
    {"start_failed", "The new version ended as soon as it was started.",
     "Read its last lines in the detail, mend it and push again."},
    {"never_listened", "The new version never answered on its port.",
     "It must listen on 0.0.0.0:$PORT; check runtime.port in enclii.yaml."},
    {"unhealthy", "The new version did not pass its health check.",
     "Check the path and the deadline of healthCheck in enclii.yaml, mend it and push again."},
    {"error_rate", "The new version failed too many requests of its share of the traffic.",
     "Read its output: enclii logs; mend it and push again."},
    {"deadline", "It was not over in time.",
     "Check that the service of the platform that owes the word is running: enclii local status."},
    {"superseded_by_newer_deployment", "A newer deployment took its place.", ""},
    {"cancel_asked_for", "Somebody cancelled it.", ""},
    {"service_removed", "The service was removed.", ""},
    {"ended_already", "There was nothing left to cancel: it had ended.", ""},
    {"unknown_deployment", "Word about a deployment that does not exist.", ""},
    {"unknown_service", "There is no such service, or it was removed.", ""},
    {"unknown_thing", "There is no such build or deployment.", ""},

    /* ---- domains ---- */
    {"certificate_wanted", "The host name wants a certificate.", ""},
    {"certificate_served", "The certificate is the one really served.", ""},
    {"certificate_failed", "No certificate could be got; it is tried again.", ""},
    {"hostname_taken", "Another service or environment has this host name.",
     "Choose another one in enclii.yaml, or remove the route there first."},
    {"no_route_names_it", "No route of the running release names this host any more.", ""},
};
const size_t why_rule_count = EC_LEN(why_rules);

const struct why_rule *why_rule_find(const char *rule)
{
    for (size_t i = 0; i < EC_LEN(why_rules); i++) {
        if (strcmp(why_rules[i].rule, rule) == 0) {
            return &why_rules[i];
        }
    }
    return NULL;
}
