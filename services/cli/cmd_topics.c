/* `enclii topics`: the topics of proto/topics.yaml on any Kafka, with the settings every service
 * has. Blocks on the broker: a person or an init container waits for it. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "bus/bus.h"
#include "bus/topics.h"
#include "cli.h"
#include "service/common.h"

static const char *given(const char *option_text, const char *name)
{
    const char *text = option_text ? option_text : getenv(name);
    return text ? text : "";
}

static EC_RESULT read_kafka(struct cli *cli, struct ec_bus_spec *ret_spec)
{
    const struct service_common common = {
        .brokers = given(option(cli, "brokers"), "ENCLII_KAFKA_BROKERS"),
        .tls_ca = given(NULL, "ENCLII_KAFKA_TLS_CA"),
        .tls_cert = given(NULL, "ENCLII_KAFKA_TLS_CERT"),
        .tls_key = given(NULL, "ENCLII_KAFKA_TLS_KEY"),
        .kafka_plaintext = strcmp(given(NULL, "ENCLII_KAFKA_PLAINTEXT"), "true") == 0,
    };
    if (!common.brokers[0]) {
        return ec_reject("no brokers: give --brokers HOST:PORT or set ENCLII_KAFKA_BROKERS");
    }
    EC_TRY(service_check_brokers(&common));
    *ret_spec = (struct ec_bus_spec){
        .brokers = common.brokers,
        .service = "cli",
        .tls_ca_file = common.tls_ca[0] ? common.tls_ca : NULL,
        .tls_cert_file = common.tls_cert[0] ? common.tls_cert : NULL,
        .tls_key_file = common.tls_key[0] ? common.tls_key : NULL,
    };
    return ec_ok();
}

int cmd_topics_apply(struct cli *cli)
{
    struct ec_bus_spec spec = {0};
    const char *replication = option(cli, "replication");
    if (replication && strcmp(replication, "1") != 0 && strcmp(replication, "3") != 0) {
        return give_up(EXIT_ERROR, "--replication must be 1 or 3, is \"%s\"", replication);
    }
    struct ec_err err = read_kafka(cli, &spec);
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    err = ec_bus_create_topics(&spec, replication && replication[0] == '3' ? 3 : 1);
    if (ec_failed(err)) {
        return give_up(err.fate == EC_FATE_RETRY ? EXIT_UNREACHABLE : EXIT_ERROR, "topics: %s",
                       err.what);
    }
    printf("%zu topics are there, and their dead-letter topics\n", ec_topic_count);
    return EXIT_OK;
}

int cmd_topics_list(struct cli *cli)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ec_topic_count; i++) {
        const struct ec_topic *topic = &ec_topics[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:I, s:b, s:s, s:s, s:s}", "name",
                                              topic->name, "key", topic->key, "partitions",
                                              topic->partitions, "retention_ms",
                                              (json_int_t)topic->retention_ms, "compacted",
                                              topic->compacted, "writers", topic->writers,
                                              "readers", topic->readers, "help", topic->help));
    }
    static const struct column columns[] = {{"TOPIC", "name", PLAIN},
                                            {"KEY", "key", PLAIN},
                                            {"PARTITIONS", "partitions", PLAIN},
                                            {"WRITTEN BY", "writers", PLAIN},
                                            {"READ BY", "readers", PLAIN}};
    int status = print_list(cli, list, TABLE(columns, "no topics"));
    json_decref(list);
    return status;
}

/* ---- who may do what ---- */

struct right_list {
    json_t *rows;
    const char *service;   /* only this one; NULL = all */
    const char *principal; /* "User:CN={service}" */
};

static void list_right(void *arg, const struct ec_acl *acl)
{
    const struct right_list *list = arg;
    char principal[256];
    ec_acl_principal(list->principal, acl->service, principal, sizeof principal);
    if (list->service && strcmp(list->service, acl->service) != 0) {
        return;
    }
    json_array_append_new(list->rows,
                          json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "service", acl->service,
                                    "principal", principal, "operation", acl->operation, "resource",
                                    acl->on_topic ? "topic" : "group", "name", acl->name, "pattern",
                                    acl->prefixed ? "prefixed" : "literal"));
}

/* For a broker whose tools are at hand and whose admin is somebody else. */
static void print_commands(const json_t *rights)
{
    size_t i;
    const json_t *right;
    json_array_foreach(rights, i, right)
    {
        printf("kafka-acls --bootstrap-server \"$BROKERS\" --add --allow-principal '%s'"
               " --operation %s --%s '%s' --resource-pattern-type %s\n",
               ec_json_text(right, "principal"), ec_json_text(right, "operation"),
               ec_json_text(right, "resource"), ec_json_text(right, "name"),
               ec_json_text(right, "pattern"));
    }
}

static int give_rights(struct cli *cli, const char *principal)
{
    struct ec_bus_spec spec = {0};
    size_t count = 0;
    if (cli->arg_count) {
        return give_up(EXIT_ERROR, "--apply gives the rights of all services; leave out \"%s\"",
                       cli->args[0]);
    }
    struct ec_err err = read_kafka(cli, &spec);
    if (!ec_failed(err)) {
        err = ec_bus_create_acls(&spec, principal, &count);
    }
    if (ec_failed(err)) {
        return give_up(err.fate == EC_FATE_RETRY ? EXIT_UNREACHABLE : EXIT_ERROR, "rights: %s",
                       err.what);
    }
    printf("%zu rights are given\n", count);
    return EXIT_OK;
}

int cmd_topics_acls(struct cli *cli)
{
    static const struct column columns[] = {{"SERVICE", "service", PLAIN},
                                            {"MAY", "operation", PLAIN},
                                            {"ON", "resource", PLAIN},
                                            {"NAME", "name", PLAIN},
                                            {"PATTERN", "pattern", PLAIN}};
    const char *principal = option(cli, "principal");
    principal = principal ? principal : "User:CN={service}";
    if (option(cli, "apply")) {
        return give_rights(cli, principal);
    }
    struct right_list list = {json_array(), cli->arg_count ? cli->args[0] : NULL, principal};
    int status = EXIT_OK;
    ec_acl_each(list_right, &list);
    if (option(cli, "commands")) {
        print_commands(list.rows);
    } else {
        status = print_list(cli, list.rows, TABLE(columns, "nothing is to be allowed"));
    }
    json_decref(list.rows);
    return status;
}
