/* Metrics of this process and their text form (Prometheus exposition format 0.0.4). Declared as
 * static variables, registered by first use, written from the loop thread only.
 *
 *   static struct ec_metric builds = EC_COUNTER("enclii_builds_total", "Builds by status.",
 * "status"); ec_metric_add(&builds, "succeeded", 1);
 *
 * At most one label per metric and EC_METRIC_SERIES_MAX values of it: what is beyond is counted
 * under "other", so that no stranger can fill our memory. */
#pragma once

#include "base/buf.h"

#define EC_METRIC_SERIES_MAX 64
#define EC_METRIC_BUCKETS 12

enum ec_metric_kind { EC_METRIC_COUNTER, EC_METRIC_GAUGE, EC_METRIC_HISTOGRAM };

struct ec_metric_series;
struct ec_metric {
    const char *name;
    const char *help;
    const char *label; /* NULL: no label */
    enum ec_metric_kind kind;
    struct ec_metric_series *series;
    unsigned series_count;
    struct ec_metric *next; /* registry */
    bool registered;
};

#define EC_COUNTER(name, help, label)                                                              \
    {                                                                                              \
        (name), (help), (label), EC_METRIC_COUNTER, 0, 0, 0, false                                 \
    }
#define EC_GAUGE(name, help, label)                                                                \
    {                                                                                              \
        (name), (help), (label), EC_METRIC_GAUGE, 0, 0, 0, false                                   \
    }
/* Buckets in seconds: .001 .005 .01 .05 .1 .25 .5 1 5 30 120 600. */
#define EC_HISTOGRAM(name, help, label)                                                            \
    {                                                                                              \
        (name), (help), (label), EC_METRIC_HISTOGRAM, 0, 0, 0, false                               \
    }

void ec_metric_add(struct ec_metric *metric, const char *label_value, double amount);
void ec_metric_set(struct ec_metric *metric, const char *label_value, double value);
void ec_metric_observe_s(struct ec_metric *metric, const char *label_value, double seconds);
double ec_metric_value(const struct ec_metric *metric, const char *label_value); /* for tests */
/* Makes a metric visible with 0 before its first event. */
void ec_metric_declare(struct ec_metric *metric, const char *label_value);
void ec_metrics_print(struct ec_buf *out);
