/* The settings that every service has. For libs/service, and for `enclii topics`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/secret.h"
#include "base/settings.h"

struct service_common {
    const char *log_level;
    const char *admin_listen;
    const char *brokers;
    const char *tls_ca, *tls_cert, *tls_key; /* paths; "" = no TLS */
    bool kafka_plaintext;
    int64_t kafka_fetch_wait_ms;
    struct ec_secret *database_url; /* NULL = not set */
};

extern const struct ec_setting service_common_settings[];

/* Unencrypted Kafka only on this machine, or where the operator says that the network is private.
 */
EC_RESULT service_check_brokers(const struct service_common *common);
