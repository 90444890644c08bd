/* Looks topics up in the table, and creates what is missing on a broker: the topics themselves and
 * a dead-letter topic for each of their readers. Blocks on the broker, for tools and tests. */
#include "bus/internal.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"

#define ADMIN_TIMEOUT_MS 30000
#define TOPICS_MAX 256
#define DEAD_RETENTION_MS (30LL * 24 * 3600 * 1000)

const struct ec_topic *ec_topic_find(const char *name)
{
    for (size_t i = 0; i < ec_topic_count; i++) {
        if (strcmp(ec_topics[i].name, name) == 0) {
            return &ec_topics[i];
        }
    }
    return NULL;
}

struct wanted {
    rd_kafka_NewTopic_t *topics[TOPICS_MAX];
    size_t count;
};

static EC_RESULT want(struct wanted *all, const char *name, int partitions, int replication,
                      bool compacted, int64_t retention_ms)
{
    char why[256], retention[32];
    if (all->count == TOPICS_MAX) {
        return ec_fatal(0, "topics: more than 256 in topics.yaml");
    }
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(name, partitions, replication, why, sizeof why);
    if (!topic) {
        ec_log(EC_LOG_ERROR, NULL, "topic.refused", why, EC_T("topic", name));
        return ec_fatal(0, "topics: a name or number in topics.yaml is refused (logged above)");
    }
    snprintf(retention, sizeof retention, "%lld", (long long)retention_ms);
    rd_kafka_NewTopic_set_config(topic, "cleanup.policy", compacted ? "compact" : "delete");
    rd_kafka_NewTopic_set_config(topic, "retention.ms", retention);
    rd_kafka_NewTopic_set_config(topic, "max.message.bytes", "9437184");
    if (replication >= 3) {
        rd_kafka_NewTopic_set_config(topic, "min.insync.replicas", "2");
    }
    all->topics[all->count++] = topic;
    return ec_ok();
}

static EC_RESULT want_dead(struct wanted *all, const struct ec_topic *topic, int replication)
{
    char readers[256], name[512];
    snprintf(readers, sizeof readers, "%s", topic->readers);
    char *rest = NULL;
    for (char *reader = strtok_r(readers, ",", &rest); reader;
         reader = strtok_r(NULL, ",", &rest)) {
        snprintf(name, sizeof name, "%s.%s.dead", topic->name, reader);
        EC_TRY(want(all, name, 1, replication, false, DEAD_RETENTION_MS));
    }
    return ec_ok();
}

static EC_RESULT check_results(rd_kafka_event_t *event)
{
    size_t count = 0;
    if (!event) {
        return ec_retry(0, "topics: the broker did not answer within 30 s");
    }
    if (rd_kafka_event_error(event)) {
        return ec_retry((int)rd_kafka_event_error(event),
                        rd_kafka_err2str(rd_kafka_event_error(event)));
    }
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    for (size_t i = 0; i < count; i++) {
        rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);
        if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
            ec_log(EC_LOG_ERROR, NULL, "topic.not_created",
                   rd_kafka_topic_result_error_string(results[i])
                       ? rd_kafka_topic_result_error_string(results[i])
                       : rd_kafka_err2str(code),
                   EC_T("topic", rd_kafka_topic_result_name(results[i])));
            return ec_retry((int)code, rd_kafka_err2str(code));
        }
    }
    return ec_ok();
}

static EC_RESULT create(rd_kafka_t *rk, struct wanted *all)
{
    char why[128];
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_AdminOptions_set_request_timeout(options, ADMIN_TIMEOUT_MS, why, sizeof why);
    rd_kafka_AdminOptions_set_operation_timeout(options, ADMIN_TIMEOUT_MS, why, sizeof why);
    rd_kafka_CreateTopics(rk, all->topics, all->count, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ADMIN_TIMEOUT_MS + 1000);
    struct ec_err err = check_results(event);
    if (event) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    return err;
}

EC_RESULT ec_bus_create_topics(const struct ec_bus_spec *spec, int16_t replication)
{
    struct ec_bus_spec filled = *spec;
    struct wanted all = {.count = 0};
    rd_kafka_t *rk = NULL;
    filled.publish_deadline_ms = ADMIN_TIMEOUT_MS;
    EC_TRY(bus_conf_producer(&filled, &rk));
    struct ec_err err = ec_ok();
    for (size_t i = 0; i < ec_topic_count && !ec_failed(err); i++) {
        const struct ec_topic *topic = &ec_topics[i];
        err = want(&all, topic->name, topic->partitions, replication, topic->compacted,
                   topic->retention_ms);
        if (!ec_failed(err)) {
            err = want_dead(&all, topic, replication);
        }
    }
    if (!ec_failed(err)) {
        err = create(rk, &all);
    }
    rd_kafka_NewTopic_destroy_array(all.topics, all.count);
    rd_kafka_destroy(rk);
    return err;
}
