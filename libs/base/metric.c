/* The registry of metrics and its Prometheus text form (exposition format 0.0.4). Families are
 * printed in the order of their first use, each with one HELP and one TYPE line. */
#include "base/metric.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/mem.h"

struct ec_metric_series {
    char *label_value; /* "" without a label */
    double value;      /* of a histogram: the sum of all observations */
    uint64_t count;    /* observations */
    uint64_t buckets[EC_METRIC_BUCKETS];
};

static const double bucket_bounds_s[EC_METRIC_BUCKETS] = {.001, .005, .01, .05, .1,  .25,
                                                          .5,   1,    5,   30,  120, 600};
static struct ec_metric *first_metric;
static struct ec_metric **last_link = &first_metric;

static void register_metric(struct ec_metric *metric)
{
    for (const struct ec_metric *m = first_metric; m != NULL; m = m->next) {
        /* Two families of one name would make the whole page invalid. */
        assert(strcmp(m->name, metric->name) != 0 && "a metric of that name exists already");
    }
    metric->registered = true;
    *last_link = metric;
    last_link = &metric->next;
}

static struct ec_metric_series *find_series(const struct ec_metric *metric, const char *label_value)
{
    for (unsigned i = 0; i < metric->series_count; i++) {
        if (strcmp(metric->series[i].label_value, label_value) == 0) {
            return &metric->series[i];
        }
    }
    return NULL;
}

/* The series of that label value, made when new, or "other" when there are too many. */
static struct ec_metric_series *series_of(struct ec_metric *metric, const char *label_value)
{
    if (!metric->registered) {
        register_metric(metric);
    }
    const char *value = metric->label != NULL && label_value != NULL ? label_value : "";
    struct ec_metric_series *series = find_series(metric, value);
    if (series != NULL) {
        return series;
    }
    if (metric->series_count >= EC_METRIC_SERIES_MAX - 1) {
        value = "other";
        series = find_series(metric, value);
        if (series != NULL) {
            return series;
        }
    }
    metric->series = ec_grow(metric->series, metric->series_count + 1, sizeof(*metric->series));
    series = &metric->series[metric->series_count++];
    *series = (struct ec_metric_series){.label_value = ec_strdup(value)};
    return series;
}

void ec_metric_add(struct ec_metric *metric, const char *label_value, double amount)
{
    assert(metric->kind != EC_METRIC_HISTOGRAM && (metric->kind == EC_METRIC_GAUGE || amount >= 0));
    series_of(metric, label_value)->value += amount;
}

void ec_metric_set(struct ec_metric *metric, const char *label_value, double value)
{
    assert(metric->kind == EC_METRIC_GAUGE);
    series_of(metric, label_value)->value = value;
}

void ec_metric_observe_s(struct ec_metric *metric, const char *label_value, double seconds)
{
    assert(metric->kind == EC_METRIC_HISTOGRAM);
    struct ec_metric_series *series = series_of(metric, label_value);
    series->value += seconds;
    series->count++;
    for (size_t i = 0; i < EC_METRIC_BUCKETS; i++) {
        series->buckets[i] += seconds <= bucket_bounds_s[i] ? 1 : 0;
    }
}

/* Of a histogram: how many observations. */
double ec_metric_value(const struct ec_metric *metric, const char *label_value)
{
    const struct ec_metric_series *series =
        find_series(metric, metric->label != NULL && label_value != NULL ? label_value : "");
    if (series == NULL) {
        return 0;
    }
    return metric->kind == EC_METRIC_HISTOGRAM ? (double)series->count : series->value;
}

void ec_metric_declare(struct ec_metric *metric, const char *label_value)
{
    (void)series_of(metric, label_value);
}

static void add_number(struct ec_buf *out, double number)
{
    if (isnan(number)) {
        ec_buf_add_text(out, "NaN");
    } else if (isinf(number)) {
        ec_buf_add_text(out, number > 0 ? "+Inf" : "-Inf");
    } else if (number == trunc(number) && fabs(number) < 1e15) {
        ec_buf_addf(out, "%.0f", number);
    } else {
        ec_buf_addf(out, "%.17g", number);
    }
}

/* Escapes \ and newline, and " in label values; a byte that is no UTF-8 becomes U+FFFD. */
static void add_escaped(struct ec_buf *out, const char *text, bool quotes)
{
    for (struct ec_span rest = ec_span_of(text); rest.len > 0;) {
        size_t len = ec_utf8_len(rest);
        if (len == 0) {
            ec_buf_add_text(out, "\xef\xbf\xbd");
            len = 1;
        } else if (*rest.ptr == '\\' || (quotes && *rest.ptr == '"')) {
            ec_buf_addf(out, "\\%c", *rest.ptr);
        } else if (*rest.ptr == '\n') {
            ec_buf_add_text(out, "\\n");
        } else {
            ec_buf_add(out, rest.ptr, len);
        }
        rest.ptr += len;
        rest.len -= len;
    }
}

/* name_suffix{label="value",le="bound"} number */
static void add_sample(struct ec_buf *out, const struct ec_metric *metric, const char *suffix,
                       const struct ec_metric_series *series, const char *le, double number)
{
    ec_buf_add_text(out, metric->name);
    ec_buf_add_text(out, suffix);
    if (metric->label != NULL || le != NULL) {
        ec_buf_add_text(out, "{");
        if (metric->label != NULL) {
            ec_buf_addf(out, "%s=\"", metric->label);
            add_escaped(out, series->label_value, true);
            ec_buf_add_text(out, le != NULL ? "\"," : "\"");
        }
        if (le != NULL) {
            ec_buf_addf(out, "le=\"%s\"", le);
        }
        ec_buf_add_text(out, "}");
    }
    ec_buf_add_text(out, " ");
    add_number(out, number);
    ec_buf_add_text(out, "\n");
}

static void add_histogram(struct ec_buf *out, const struct ec_metric *metric,
                          const struct ec_metric_series *series)
{
    for (size_t i = 0; i < EC_METRIC_BUCKETS; i++) {
        char le[16];
        snprintf(le, sizeof(le), "%g", bucket_bounds_s[i]);
        add_sample(out, metric, "_bucket", series, le, (double)series->buckets[i]);
    }
    add_sample(out, metric, "_bucket", series, "+Inf", (double)series->count);
    add_sample(out, metric, "_sum", series, NULL, series->value);
    add_sample(out, metric, "_count", series, NULL, (double)series->count);
}

void ec_metrics_print(struct ec_buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    for (const struct ec_metric *metric = first_metric; metric != NULL; metric = metric->next) {
        ec_buf_addf(out, "# HELP %s ", metric->name);
        add_escaped(out, metric->help, false);
        ec_buf_addf(out, "\n# TYPE %s %s\n", metric->name, kinds[metric->kind]);
        for (unsigned i = 0; i < metric->series_count; i++) {
            if (metric->kind == EC_METRIC_HISTOGRAM) {
                add_histogram(out, metric, &metric->series[i]);
            } else {
                add_sample(out, metric, "", &metric->series[i], NULL, metric->series[i].value);
            }
        }
    }
}
