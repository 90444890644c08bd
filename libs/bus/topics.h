/* The topics: one table, made at build time from proto/topics.yaml, which states partitions,
 * retention, compaction and who may read and write. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ec_topic {
    const char *name;      /* "enclii.intake" */
    const char *key;       /* what its keys are, for people: "service id" */
    const char *key_field; /* "service_id", "service_id:environment_id"; "" = not compared */
    const char *types;     /* ",build.run,build.cancel,": without "dev.enclii." and ".v1" */
    uint16_t partitions;
    int64_t retention_ms; /* -1 = for ever */
    bool compacted;
    const char *writers; /* comma-separated service names */
    const char *readers;
    const char *help;
};

extern const struct ec_topic ec_topics[];
extern const size_t ec_topic_count;
const struct ec_topic *ec_topic_find(const char *name); /* or NULL */

/* One right of one service at the broker; all follow from the table. */
struct ec_acl {
    const char *service;
    bool on_topic; /* else on consumer groups */
    bool prefixed; /* every name that begins so */
    const char *name;
    const char *operation; /* "Read", "Write", "Create", "Describe" */
};
typedef void (*ec_acl_fn)(void *arg, const struct ec_acl *acl);
void ec_acl_each(ec_acl_fn each, void *arg); /* borrowed until each returns */
/* "User:CN={service}" for one service. */
void ec_acl_principal(const char *form, const char *service, char *out, size_t size);

#define EC_TOPIC_INTAKE "enclii.intake"
#define EC_TOPIC_REPOS "enclii.repos"
#define EC_TOPIC_REQUESTS "enclii.requests"
#define EC_TOPIC_BUILD_COMMANDS "enclii.build.commands"
#define EC_TOPIC_BUILD_EVENTS "enclii.build.events"
#define EC_TOPIC_BUILD_LOGS "enclii.build.logs"
#define EC_TOPIC_BUILDERS "enclii.builders"
#define EC_TOPIC_RELEASE_EVENTS "enclii.release.events"
#define EC_TOPIC_DESIRED "enclii.desired"
#define EC_TOPIC_DEPLOYMENT_EVENTS "enclii.deployment.events"
#define EC_TOPIC_APP_LOG_REQUESTS "enclii.app.log.requests"
#define EC_TOPIC_APP_LOGS "enclii.app.logs"
#define EC_TOPIC_DOMAINS "enclii.domains"
#define EC_TOPIC_DOMAIN_EVENTS "enclii.domain.events"
#define EC_TOPIC_CHANNELS "enclii.channels"
#define EC_TOPIC_NOTIFICATION_EVENTS "enclii.notification.events"
#define EC_TOPIC_AUDIT "enclii.audit"
