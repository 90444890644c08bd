/* Stands in for `pipeline` in cosign_test.sh: a mock Kafka cluster of its own, whose address is the
 * first line it prints; then each line of stdin is published as a release, and each word of the
 * signer is printed, one line each, with the time since the last release.
 *
 *   RELEASE REPO DIGEST COMMIT CLONE_URL */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/bus.h"
#include "bus/topics.h"
#include "enclii/v1/release.pb-c.h"
#include "net/loop.h"

static struct ec_bus *bus;
static int64_t began_ms;

static void publish(char *line)
{
    char *words[5] = {0};
    for (size_t i = 0; i < EC_LEN(words); i++) {
        words[i] = strtok(i ? NULL : line, " \n");
        if (!words[i]) {
            return;
        }
    }
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = words[3];
    commit.ref = "refs/heads/main";
    Enclii__V1__BaseImage base = ENCLII__V1__BASE_IMAGE__INIT;
    base.reference = "debian:bookworm-slim";
    Enclii__V1__BaseImage *bases[] = {&base};
    Enclii__V1__ReleaseCreated release = ENCLII__V1__RELEASE_CREATED__INIT;
    release.release_id = words[0];
    release.build_id = "build-1";
    release.attempt = 1;
    release.commit = &commit;
    release.clone_url = words[4];
    release.image_repo = words[1];
    release.digest = words[2];
    release.builder_id = "b1";
    release.engine = "buildah 1.28.2";
    release.build_started_unix_ms = ec_unix_ms() - 5000;
    release.build_finished_unix_ms = ec_unix_ms();
    release.n_base_images = 1;
    release.base_images = bases;
    began_ms = ec_mono_ms();
    struct ec_message message = {.topic = EC_TOPIC_RELEASE_EVENTS,
                                 .key = "service-1",
                                 .type = "dev.enclii.release.created.v1",
                                 .subject = words[0],
                                 .id = ec_id_new().text,
                                 .body = &release.base};
    ec_ignore(ec_bus_publish(bus, &message, NULL, NULL)); /* the script waits in vain then */
}

static void on_input(void *arg, int status, int events)
{
    (void)arg;
    (void)status;
    (void)events;
    char line[4096];
    ssize_t got = read(0, line, sizeof(line) - 1);
    if (got <= 0) {
        exit(0);
    }
    line[got] = '\0';
    publish(line);
}

static void on_event(void *state, struct ec_event *ev)
{
    (void)state;
    const void *body = ec_event_body(ev);
    int ms = (int)(ec_mono_ms() - began_ms);
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
    setvbuf(stdout, NULL, _IOLBF, 0);
    ec_log_setup("drive", EC_LOG_WARN);
    char fault[256];
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), fault, sizeof(fault));
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(rk, 1);
    rd_kafka_mock_topic_create(cluster, EC_TOPIC_RELEASE_EVENTS, 1, 1);
    printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
    struct ec_loop *loop = ec_loop_new();
    const struct ec_bus_spec spec = {.brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                                     .service = "drive"};
    static const char *const topics[] = {EC_TOPIC_RELEASE_EVENTS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.release.step.v1", &enclii__v1__release_step_finished__descriptor, NULL},
        {"dev.enclii.release.signed.v1", &enclii__v1__release_signed__descriptor, NULL},
        {"dev.enclii.release.refused.v1", &enclii__v1__release_refused__descriptor, NULL},
    };
    const struct ec_table_spec table = {
        .topics = topics, .routes = routes, .route_count = EC_LEN(routes), .on_event = on_event};
    struct ec_poll *input = NULL;
    if (ec_failed(ec_bus_open(loop, &spec, &bus)) || ec_failed(ec_bus_table(bus, &table, NULL)) ||
        ec_failed(ec_poll_new(loop, 0, on_input, NULL, &input))) {
        return 1;
    }
    ec_poll_want(input, UV_READABLE);
    ec_loop_run(loop);
    return 0;
}
