/* Stands in for `pipeline` in builder_test.sh: a mock Kafka cluster of its own, whose address is
 * the first line it prints; then each line of stdin becomes a command, and each event of the
 * builder is printed, one line each, with the milliseconds since start.
 *
 *   run BUILD ATTEMPT CLONE_URL SHA IMAGE_REPO CONTEXT MEMORY_MIB TIMEOUT_MS trusted|untrusted
 *   cancel BUILD ATTEMPT */
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
#include "enclii/v1/build.pb-c.h"
#include "net/loop.h"

static struct ec_bus *bus;
static int64_t began_ms;
static char builder_id[] = "b1", reason[] = "a newer push", service_id[] = "svc-1",
            ref[] = "refs/heads/main";

static void publish(const char *type, const ProtobufCMessage *body)
{
    struct ec_id id = ec_id_new();
    const struct ec_message message = {.topic = EC_TOPIC_BUILD_COMMANDS,
                                       .key = service_id,
                                       .type = type,
                                       .id = id.text,
                                       .body = body};
    ec_ignore(ec_bus_publish(bus, &message, NULL, NULL)); /* the script sees that nothing happens */
}

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
    publish("dev.enclii.build.run.v1", &run.base);
}

static void send_cancel(char **word)
{
    Enclii__V1__CancelBuild cancel = ENCLII__V1__CANCEL_BUILD__INIT;
    cancel.build_id = word[1];
    cancel.attempt = atoi(word[2]);
    cancel.builder_id = builder_id;
    cancel.reason = reason;
    publish("dev.enclii.build.cancel.v1", &cancel.base);
}

static void on_line(char *line)
{
    char *word[12] = {0};
    size_t count = 0;
    for (char *at = strtok(line, " "); at && count < 11; at = strtok(NULL, " ")) {
        word[count++] = at;
    }
    if (count == 10 && strcmp(word[0], "run") == 0) {
        send_run(word);
    } else if (count == 3 && strcmp(word[0], "cancel") == 0) {
        send_cancel(word);
    } else {
        printf("bad line: %s\n", word[0] ? word[0] : "");
    }
}

static void on_input(void *arg, int status, int events)
{
    (void)arg;
    (void)status;
    (void)events;
    static char text[8192];
    static size_t len;
    ssize_t got = read(0, text + len, sizeof(text) - 1 - len);
    if (got <= 0) {
        exit(0);
    }
    len += (size_t)got;
    text[len] = '\0';
    char *end;
    while ((end = strchr(text, '\n')) != NULL) {
        *end = '\0';
        size_t used = (size_t)(end - text) + 1;
        char *line = ec_strdup(text);
        memmove(text, end + 1, len - used + 1);
        len -= used;
        on_line(line);
        free(line);
    }
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
    int64_t at_ms = ec_mono_ms() - began_ms;
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
    static const char *const topics[] = {EC_TOPIC_BUILD_EVENTS, EC_TOPIC_BUILD_LOGS,
                                         EC_TOPIC_BUILDERS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.build.started.v1", &enclii__v1__build_started__descriptor, NULL},
        {"dev.enclii.build.step.v1", &enclii__v1__build_step_finished__descriptor, NULL},
        {"dev.enclii.build.succeeded.v1", &enclii__v1__build_succeeded__descriptor, NULL},
        {"dev.enclii.build.failed.v1", &enclii__v1__build_failed__descriptor, NULL},
        {"dev.enclii.build.log.v1", &enclii__v1__build_log__descriptor, NULL},
        {"dev.enclii.builder.heartbeat.v1", &enclii__v1__builder_heartbeat__descriptor, NULL},
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    ec_log_setup("drive", EC_LOG_WARN);
    char fault[256];
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), fault, sizeof(fault));
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(rk, 1);
    rd_kafka_mock_topic_create(cluster, EC_TOPIC_BUILD_COMMANDS, 2, 1);
    for (size_t i = 0; topics[i]; i++) {
        rd_kafka_mock_topic_create(cluster, topics[i], 1, 1);
    }
    printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
    began_ms = ec_mono_ms();
    struct ec_loop *loop = ec_loop_new();
    const struct ec_bus_spec spec = {.brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                                     .service = "drive",
                                     .fetch_wait_ms = 10};
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
