/* Stands in for `pipeline` in cosign_test.sh (see support/drive.h): each line of stdin is published
 * as a release, and each word of the signer is printed with the time since the last release.
 *
 *   RELEASE REPO DIGEST COMMIT CLONE_URL */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/release.pb-c.h"
#include "support/drive.h"

static bool on_command(char **word, size_t count)
{
    if (count != 5) {
        return false;
    }
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = word[3];
    commit.ref = "refs/heads/main";
    Enclii__V1__BaseImage base = ENCLII__V1__BASE_IMAGE__INIT;
    base.reference = "debian:bookworm-slim";
    Enclii__V1__BaseImage *bases[] = {&base};
    Enclii__V1__ReleaseCreated release = ENCLII__V1__RELEASE_CREATED__INIT;
    release.release_id = word[0];
    release.build_id = "build-1";
    release.attempt = 1;
    release.commit = &commit;
    release.clone_url = word[4];
    release.image_repo = word[1];
    release.digest = word[2];
    release.builder_id = "b1";
    release.engine = "buildah 1.28.2";
    release.build_started_unix_ms = ec_unix_ms() - 5000;
    release.build_finished_unix_ms = ec_unix_ms();
    release.n_base_images = 1;
    release.base_images = bases;
    drive_restart_clock();
    drive_publish(EC_TOPIC_RELEASE_EVENTS, "service-1", "dev.enclii.release.created.v1",
                  &release.base);
    return true;
}

static void on_event(void *state, struct ec_event *ev)
{
    (void)state;
    const void *body = ec_event_body(ev);
    int ms = (int)drive_ms();
    if (strstr(ec_event_type(ev), "release.step.")) {
        const Enclii__V1__StepTime *step = ((const Enclii__V1__ReleaseStepFinished *)body)->step;
        printf("%d step %s %d ms (%s)\n", ms, step->name, (int)step->duration_ms, step->detail);
    } else if (strstr(ec_event_type(ev), "release.refused.")) {
        const Enclii__V1__ReleaseRefused *word = body;
        printf("%d refused %s %s %s\n", ms, word->release_id, word->reason, word->detail);
    } else if (strstr(ec_event_type(ev), "release.signed.")) {
        const Enclii__V1__ReleaseSigned *word = body;
        printf("%d signed %s %s %s\n", ms, word->release_id, word->sbom_object,
               word->provenance_object);
    }
}

int main(void)
{
    static const char *const both[] = {EC_TOPIC_RELEASE_EVENTS, NULL}, *const none[] = {NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.release.step.v1", &enclii__v1__release_step_finished__descriptor, NULL},
        {"dev.enclii.release.signed.v1", &enclii__v1__release_signed__descriptor, NULL},
        {"dev.enclii.release.refused.v1", &enclii__v1__release_refused__descriptor, NULL},
    };
    return drive_main(&(struct drive_spec){.read = both,
                                           .write = none,
                                           .routes = routes,
                                           .route_count = EC_LEN(routes),
                                           .on_command = on_command,
                                           .on_event = on_event});
}
