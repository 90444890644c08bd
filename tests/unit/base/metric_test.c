/* Metrics: values, bounds of series, the exposition text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/metric.h"

static struct ec_metric builds = EC_COUNTER("t_builds_total", "Builds \\ by\nstatus.", "status");
static struct ec_metric depth = EC_GAUGE("t_depth", "Depth.", NULL);
static struct ec_metric took = EC_HISTOGRAM("t_took_seconds", "Took.", NULL);
static struct ec_metric took_by = EC_HISTOGRAM("t_by_seconds", "By.", "step");
static struct ec_metric many = EC_COUNTER("t_many_total", "Many.", "key");

static bool has_line(const struct ec_buf *page, const char *line)
{
    const char *at = strstr(page->ptr, line);
    return at != NULL && (at == page->ptr || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void page_is_exposition_text(void **state)
{
    (void)state;
    ec_metric_declare(&builds, "failed");
    ec_metric_add(&builds, "suc\"ce\\ed\ned", 1);
    ec_metric_add(&builds, "suc\"ce\\ed\ned", 2);
    ec_metric_set(&depth, NULL, -1.5);
    ec_metric_add(&depth, "ignored without a label", 1);
    ec_metric_observe_s(&took, NULL, 0.005);
    ec_metric_observe_s(&took, NULL, 1000);
    ec_metric_observe_s(&took_by, "a", 0.3);
    ec_cleanup(ec_buf_done) struct ec_buf page;
    ec_buf_init(&page, 1 << 20);
    ec_metrics_print(&page);
    assert_true(has_line(&page, "# HELP t_builds_total Builds \\\\ by\\nstatus."));
    assert_true(has_line(&page, "# TYPE t_builds_total counter"));
    assert_true(has_line(&page, "t_builds_total{status=\"failed\"} 0"));
    assert_true(has_line(&page, "t_builds_total{status=\"suc\\\"ce\\\\ed\\ned\"} 3"));
    assert_true(has_line(&page, "t_depth -0.5"));
    assert_true(has_line(&page, "# TYPE t_took_seconds histogram"));
    assert_true(has_line(&page, "t_took_seconds_bucket{le=\"0.001\"} 0"));
    assert_true(has_line(&page, "t_took_seconds_bucket{le=\"0.005\"} 1"));
    assert_true(has_line(&page, "t_took_seconds_bucket{le=\"600\"} 1"));
    assert_true(has_line(&page, "t_took_seconds_bucket{le=\"+Inf\"} 2"));
    assert_true(has_line(&page, "t_took_seconds_sum 1000.005"));
    assert_true(has_line(&page, "t_took_seconds_count 2"));
    assert_true(has_line(&page, "t_by_seconds_bucket{step=\"a\",le=\"0.5\"} 1"));
    assert_true(has_line(&page, "t_by_seconds_count{step=\"a\"} 1"));
    assert_float_equal(ec_metric_value(&took, NULL), 2, 0);
}

static void strangers_cannot_fill_the_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key-%d", i);
        ec_metric_add(&many, key, 1);
    }
    assert_int_equal(many.series_count, EC_METRIC_SERIES_MAX);
    assert_float_equal(ec_metric_value(&many, "key-0"), 1, 0);
    assert_float_equal(ec_metric_value(&many, "key-999"), 0, 0);
    assert_float_equal(ec_metric_value(&many, "other"), 1000 - (EC_METRIC_SERIES_MAX - 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_is_exposition_text),
        cmocka_unit_test(strangers_cannot_fill_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
