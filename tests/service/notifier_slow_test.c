/* A receiver that takes requests and does not answer: the others are told meanwhile. Real handlers,
 * Kafka in-process, a real PostgreSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/map.h"
#include "base/mem.h"
#include "support/notifier_fixture.h"

#define ROWS 40 /* more than notifier sends at once */

static struct ec_request *held[ROWS];
static int held_count;
static bool answers;

static void on_silent(void *state, struct ec_request *req)
{
    (void)state;
    if (answers) {
        ec_reply_empty(req, 204);
    } else {
        held[held_count++] = req;
    }
}

static void on_hook(void *state, struct ec_request *req)
{
    (void)state;
    ec_reply_empty(req, 204);
}

static void add_rows(const char *channel, int count)
{
    test_pg_sql(
        nf_pg, ec_arena_format(nf_arena,
                               "insert into notifier.notification (id, channel_id, event_id, kind,"
                               " about, type, service_id, subject_id, commit_sha, context, status,"
                               " final, body, trace) select gen_random_uuid(), '%s', n::text,"
                               " 'webhook', 'deployment.healthy', 'deployment.succeeded', 's1', '',"
                               " '', '', '', true, '{}', '' from generate_series(1, %d) n",
                               channel, count));
}

static bool is_known(void *channel)
{
    return ec_map_get(no.channels, channel) != NULL;
}

static void a_receiver_that_does_not_answer_holds_up_nobody_else(void **state)
{
    (void)state;
    if (!nf_pg) {
        skip();
    }
    nf_channel("silent", "/silent");
    assert_true(test_run_until(nf_loop, 10000, is_known, (char[]){"silent"}));
    add_rows("silent", ROWS);
    add_rows("c1", 3);
    assert_true(nf_row("select 1 from notifier.notification where channel_id = 'c1' group by 1"
                       " having bool_and(state = 'sent')"));
    assert_in_range(held_count, 1, LANE_SENDING_MAX);
    answers = true;
    for (int i = 0; i < held_count; i++) {
        ec_reply_empty(held[i], 204);
    }
    assert_true(nf_told(ROWS + 3));
    assert_string_equal(
        test_pg_value(nf_pg, "select string_agg(distinct state, ',') from notifier.notification"),
        "sent");
}

static int start(void **state)
{
    static const struct ec_http_route routes[] = {
        {"POST", "/silent", on_silent, 65536, 0},
        {"POST", "/hook", on_hook, 65536, 0},
    };
    (void)state;
    nf_open(routes, EC_LEN(routes));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receiver_that_does_not_answer_holds_up_nobody_else),
    };
    return cmocka_run_group_tests(tests, start, nf_close);
}
