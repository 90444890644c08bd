/* The rights of each service at the broker, all from topics.yaml: who writes and reads a topic, who
 * may write its dead letters, whose consumer groups are whose. `api` reads every dead letter. Told
 * one by one; applied in one request. */
#include "bus/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define TIMEOUT_MS 30000
#define KEEPER "api" /* of dead letters */

struct teller {
    ec_acl_fn each;
    void *arg;
};

static void tell(const struct teller *to, const struct ec_acl *acl, const char *const *operations)
{
    for (size_t i = 0; operations[i]; i++) {
        struct ec_acl one = *acl;
        one.operation = operations[i];
        to->each(to->arg, &one);
    }
}

static const char *const write_it[] = {"Write", "Describe", NULL};
static const char *const read_it[] = {"Read", "Describe", NULL};
static const char *const bury[] = {"Write", "Create", "Describe", NULL};
static const char *const join[] = {"Read", "Describe", NULL};

/* Calls fn with each name of "a,b,c". */
static void each_name(const char *names,
                      void (*fn)(const struct teller *, const char *topic, const char *service),
                      const struct teller *to, const char *topic)
{
    for (const char *at = names; *at; at += strcspn(at, ","), at += *at == ',') {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
        fn(to, topic, name);
    }
}

static void tell_writer(const struct teller *to, const char *topic, const char *service)
{
    tell(to, &(struct ec_acl){.service = service, .on_topic = true, .name = topic}, write_it);
}

static void tell_reader(const struct teller *to, const char *topic, const char *service)
{
    char letters[256]; /* groups begin with the service's name: "builder.b1", "api-logs" */
    snprintf(letters, sizeof letters, "%s.%s", topic, service);
    struct ec_acl dead = {.on_topic = true, .prefixed = true, .name = letters};
    tell(to, &(struct ec_acl){.service = service, .on_topic = true, .name = topic}, read_it);
    dead.service = service;
    tell(to, &dead, bury);
    dead.service = KEEPER;
    tell(to, &dead, read_it);
}

/* Once per service: whether it reads an earlier topic already. */
static bool read_before(size_t topic, const char *service)
{
    size_t len = strlen(service);
    for (size_t i = 0; i < topic; i++) {
        for (const char *at = ec_topics[i].readers; *at; at += strcspn(at, ","), at += *at == ',') {
            if (strcspn(at, ",") == len && strncmp(at, service, len) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void tell_group(const struct teller *to, const char *topic, const char *service)
{
    if (!read_before((size_t)(ec_topic_find(topic) - ec_topics), service)) {
        tell(to, &(struct ec_acl){.service = service, .prefixed = true, .name = service}, join);
    }
}

void ec_acl_each(ec_acl_fn each, void *arg)
{
    const struct teller to = {each, arg};
    for (size_t i = 0; i < ec_topic_count; i++) {
        const struct ec_topic *topic = &ec_topics[i];
        each_name(topic->writers, tell_writer, &to, topic->name);
        each_name(topic->readers, tell_reader, &to, topic->name);
        each_name(topic->readers, tell_group, &to, topic->name);
    }
}

/* "User:CN={service}" → "User:CN=webhook" */
void ec_acl_principal(const char *form, const char *service, char *out, size_t size)
{
    const char *at = strstr(form, "{service}");
    if (!at) {
        snprintf(out, size, "%s", form);
        return;
    }
    snprintf(out, size, "%.*s%s%s", (int)(at - form), form, service, at + strlen("{service}"));
}

/* ---- applying ---- */

struct bindings {
    const char *principal;
    rd_kafka_AclBinding_t **list;
    size_t count;
    bool refused;
};

static rd_kafka_AclOperation_t operation_of(const char *name)
{
    static const struct {
        const char *name;
        rd_kafka_AclOperation_t operation;
    } known[] = {{"Read", RD_KAFKA_ACL_OPERATION_READ},
                 {"Write", RD_KAFKA_ACL_OPERATION_WRITE},
                 {"Create", RD_KAFKA_ACL_OPERATION_CREATE},
                 {"Describe", RD_KAFKA_ACL_OPERATION_DESCRIBE}};
    for (size_t i = 0; i < EC_LEN(known); i++) {
        if (strcmp(known[i].name, name) == 0) {
            return known[i].operation;
        }
    }
    return RD_KAFKA_ACL_OPERATION_UNKNOWN;
}

static void add_binding(void *arg, const struct ec_acl *acl)
{
    struct bindings *all = arg;
    char principal[256], why[256] = "";
    ec_acl_principal(all->principal, acl->service, principal, sizeof principal);
    rd_kafka_AclBinding_t *binding = rd_kafka_AclBinding_new(
        acl->on_topic ? RD_KAFKA_RESOURCE_TOPIC : RD_KAFKA_RESOURCE_GROUP, acl->name,
        acl->prefixed ? RD_KAFKA_RESOURCE_PATTERN_PREFIXED : RD_KAFKA_RESOURCE_PATTERN_LITERAL,
        principal, "*", operation_of(acl->operation), RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, why,
        sizeof why);
    if (!binding) {
        ec_log(EC_LOG_ERROR, NULL, "acl.refused", why, EC_T("name", acl->name),
               EC_T("principal", principal));
        all->refused = true;
        return;
    }
    all->list = ec_grow(all->list, all->count + 1, sizeof(rd_kafka_AclBinding_t *));
    all->list[all->count++] = binding;
}

static EC_RESULT check_answer(rd_kafka_event_t *event)
{
    size_t count = 0;
    if (!event) {
        return ec_retry(0, "the broker did not answer within 30 s");
    }
    if (rd_kafka_event_error(event)) {
        return ec_retry((int)rd_kafka_event_error(event),
                        rd_kafka_err2str(rd_kafka_event_error(event)));
    }
    const rd_kafka_acl_result_t **results =
        rd_kafka_CreateAcls_result_acls(rd_kafka_event_CreateAcls_result(event), &count);
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_error_t *error = rd_kafka_acl_result_error(results[i]);
        if (error) { /* such as SECURITY_DISABLED: the same for all */
            return ec_reject(rd_kafka_err2str(rd_kafka_error_code(error)));
        }
    }
    return ec_ok();
}

static EC_RESULT create(const struct ec_bus_spec *spec, struct bindings *all)
{
    struct ec_bus_spec filled = *spec;
    rd_kafka_t *rk = NULL;
    char why[128];
    filled.publish_deadline_ms = TIMEOUT_MS;
    EC_TRY(bus_conf_producer(&filled, &rk));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATEACLS);
    rd_kafka_AdminOptions_set_request_timeout(options, TIMEOUT_MS, why, sizeof why);
    rd_kafka_CreateAcls(rk, all->list, all->count, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS + 1000);
    struct ec_err err = check_answer(event);
    if (event) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return err;
}

EC_RESULT ec_bus_create_acls(const struct ec_bus_spec *spec, const char *principal,
                             size_t *ret_count)
{
    struct bindings all = {.principal = principal};
    ec_acl_each(add_binding, &all);
    struct ec_err err =
        all.refused ? ec_fatal(0, "a right is refused (logged above)") : create(spec, &all);
    *ret_count = all.count;
    rd_kafka_AclBinding_destroy_array(all.list, all.count);
    free(all.list);
    return err;
}
