/* The settings that every service has, in one table. */
#include "service/common.h"

#include <stddef.h>
#include <string.h>

#include "net/address.h"

#define BROKER_MAX_BYTES 300
#define FIELD(name) offsetof(struct service_common, name)

const struct ec_setting service_common_settings[] = {
    {"ENCLII_LOG_LEVEL", EC_SETTING_TEXT, FIELD(log_level), "info",
     "Least level that is logged: debug, info, warn or error.", "debug", 0, 0},
    {"ENCLII_ADMIN_LISTEN", EC_SETTING_TEXT, FIELD(admin_listen), "127.0.0.1:0",
     "Where /metrics, /health/live and /health/ready are served; port 0: any free one, logged at "
     "start.",
     "0.0.0.0:9100", 0, 0},
    {"ENCLII_KAFKA_BROKERS", EC_SETTING_TEXT, FIELD(brokers), "127.0.0.1:9092",
     "Kafka brokers to begin with.", "kafka-0:9093,kafka-1:9093", 0, 0},
    {"ENCLII_KAFKA_TLS_CA", EC_SETTING_PATH, FIELD(tls_ca), "",
     "File with the CA of the brokers; with it, TLS is used.", "/etc/enclii/kafka/ca.crt", 0, 0},
    {"ENCLII_KAFKA_TLS_CERT", EC_SETTING_PATH, FIELD(tls_cert), "",
     "File with this service's certificate.", "/etc/enclii/kafka/user.crt", 0, 0},
    {"ENCLII_KAFKA_TLS_KEY", EC_SETTING_PATH, FIELD(tls_key), "", "File with this service's key.",
     "/etc/enclii/kafka/user.key", 0, 0},
    {"ENCLII_KAFKA_PLAINTEXT", EC_SETTING_BOOL, FIELD(kafka_plaintext), "false",
     "Allow brokers on other hosts without TLS; only inside a private network.", "true", 0, 0},
    {"ENCLII_KAFKA_FETCH_WAIT", EC_SETTING_DURATION_MS, FIELD(kafka_fetch_wait_ms), "500ms",
     "How long a broker may hold back an empty answer; short only for in-process test brokers.",
     "500ms", 10, 5000},
    {"ENCLII_DATABASE_URL", EC_SETTING_SECRET, FIELD(database_url), "",
     "PostgreSQL; needed by the services that keep state.",
     "postgres://enclii:secret@127.0.0.1:5432/enclii", 0, 0},
    {0},
};

static bool is_loopback(const char *broker, size_t len)
{
    char host[BROKER_MAX_BYTES + 1];
    if (len > BROKER_MAX_BYTES) {
        return false;
    }
    memcpy(host, broker, len);
    host[len] = '\0';
    return ec_host_loopback(host);
}

EC_RESULT service_check_brokers(const struct service_common *common)
{
    if (*common->tls_ca || common->kafka_plaintext) {
        return ec_ok();
    }
    const char *at = common->brokers;
    while (*at) {
        size_t len = strcspn(at, ",");
        if (!is_loopback(at, len)) {
            return ec_fatal(
                0, "ENCLII_KAFKA_BROKERS names another host: set ENCLII_KAFKA_TLS_CA, _CERT "
                   "and _KEY, or ENCLII_KAFKA_PLAINTEXT=true in a private network");
        }
        at += len + (at[len] == ',');
    }
    return ec_ok();
}
