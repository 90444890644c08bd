/* Stands in for `pipeline` in builder_test.sh (see support/drive.h): each line of stdin becomes a
 * command, and each event of the builder is printed with the milliseconds since start.
 *
 *   run BUILD ATTEMPT CLONE_URL SHA IMAGE_REPO CONTEXT MEMORY_MIB TIMEOUT_MS trusted|untrusted
 *   cancel BUILD ATTEMPT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "support/drive.h"

static char builder_id[] = "b1", reason[] = "a newer push", service_id[] = "svc-1",
            ref[] = "refs/heads/main";

static void send_run(char **word)
{
    Enclii__V1__RunBuild run = ENCLII__V1__RUN_BUILD__INIT;
    Enclii__V1__ServiceRef service = ENCLII__V1__SERVICE_REF__INIT;
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    Enclii__V1__BuildSpec spec = ENCLII__V1__BUILD_SPEC__INIT;
    service.service_id = service_id;
    commit.sha = word[4];
    commit.ref = ref;
    spec.context = word[6];
    spec.memory_max_bytes = atoll(word[7]) << 20;
    spec.timeout_ms = atoll(word[8]);
    run.build_id = word[1];
    run.attempt = atoi(word[2]);
    run.builder_id = builder_id;
    run.service = &service;
    run.commit = &commit;
    run.clone_url = word[3];
    run.image_repo = word[5];
    run.spec = &spec;
    run.trusted = strcmp(word[9], "trusted") == 0;
    drive_publish(EC_TOPIC_BUILD_COMMANDS, service_id, "dev.enclii.build.run.v1", &run.base);
}

static void send_cancel(char **word)
{
    Enclii__V1__CancelBuild cancel = ENCLII__V1__CANCEL_BUILD__INIT;
    cancel.build_id = word[1];
    cancel.attempt = atoi(word[2]);
    cancel.builder_id = builder_id;
    cancel.reason = reason;
    drive_publish(EC_TOPIC_BUILD_COMMANDS, service_id, "dev.enclii.build.cancel.v1", &cancel.base);
}

static bool on_command(char **word, size_t count)
{
    bool run = count == 10 && strcmp(word[0], "run") == 0;
    bool cancel = count == 3 && strcmp(word[0], "cancel") == 0;
    if (run) {
        send_run(word);
    } else if (cancel) {
        send_cancel(word);
    }
    return run || cancel;
}

static void print_succeeded(const Enclii__V1__BuildSucceeded *done)
{
    printf(" %s attempt=%d digest=%s sha=%s by=%s bytes=%lld engine=%s", done->build_id,
           done->attempt, done->digest, done->commit_sha, done->detected_by,
           (long long)done->image_bytes, done->engine);
    for (size_t i = 0; i < done->n_base_images; i++) {
        printf(" base=%s@%s", done->base_images[i]->reference, done->base_images[i]->digest);
    }
    for (size_t i = 0; i < done->n_steps; i++) {
        printf(" %s=%lldms", done->steps[i]->name, (long long)done->steps[i]->duration_ms);
    }
}

static void on_event(void *state, struct ec_event *ev)
{
    (void)state;
    const char *type = ec_event_type(ev);
    const void *body = ec_event_body(ev);
    int64_t at_ms = drive_ms();
    if (strstr(type, "build.log")) {
        const Enclii__V1__BuildLog *log = body;
        for (size_t i = 0; i < log->n_lines; i++) {
            printf("%lld log %s %lld %s: %s\n", (long long)at_ms, log->build_id,
                   (long long)log->first_seq + (long long)i, log->lines[i]->step,
                   log->lines[i]->text);
        }
        return;
    }
    printf("%lld %s", (long long)at_ms, type);
    if (strstr(type, "heartbeat")) {
        const Enclii__V1__BuilderHeartbeat *beat = body;
        printf(" running=%zu draining=%d cached=%zu", beat->n_running, beat->draining,
               beat->n_cached_repos);
    } else if (strstr(type, "succeeded")) {
        print_succeeded(body);
    } else if (strstr(type, "failed")) {
        const Enclii__V1__BuildFailed *failed = body;
        printf(" %s attempt=%d reason=%d retryable=%d detail=%s", failed->build_id, failed->attempt,
               (int)failed->reason, failed->retryable, failed->detail);
    } else {
        printf(" %s", ec_event_subject(ev));
    }
    printf("\n");
}

int main(void)
{
    static const char *const events[] = {EC_TOPIC_BUILD_EVENTS, EC_TOPIC_BUILD_LOGS,
                                         EC_TOPIC_BUILDERS, NULL};
    static const char *const commands[] = {EC_TOPIC_BUILD_COMMANDS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.build.started.v1", &enclii__v1__build_started__descriptor, NULL},
        {"dev.enclii.build.step.v1", &enclii__v1__build_step_finished__descriptor, NULL},
        {"dev.enclii.build.succeeded.v1", &enclii__v1__build_succeeded__descriptor, NULL},
        {"dev.enclii.build.failed.v1", &enclii__v1__build_failed__descriptor, NULL},
        {"dev.enclii.build.log.v1", &enclii__v1__build_log__descriptor, NULL},
        {"dev.enclii.builder.heartbeat.v1", &enclii__v1__builder_heartbeat__descriptor, NULL},
    };
    return drive_main(&(struct drive_spec){.read = events,
                                           .write = commands,
                                           .routes = routes,
                                           .route_count = EC_LEN(routes),
                                           .on_command = on_command,
                                           .on_event = on_event});
}
