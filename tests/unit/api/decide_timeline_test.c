/* decide_timeline: what is a step, a gap and its name, an end; how services share a push. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "bus/catalog.h"
#include "decide_timeline.h"

#define T0 ((int64_t)1795279375000)
#define SHOP "00000000-0000-4000-8000-000000000051"
#define BLOG "00000000-0000-4000-8000-000000000052"

static struct ec_arena *arena;
static struct timeline_event events[64];
static json_t *bodies[64];
static size_t count;

/* at: milliseconds after the push. body: JSON with ' for ". */
static void said(int64_t at, const char *type, const char *service_id, const char *body)
{
    char *text = ec_arena_strdup(arena, body);
    for (char *c = text; *c; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    bodies[count] = json_loads(text, 0, NULL);
    assert_non_null(bodies[count]);
    events[count] = (struct timeline_event){T0 + at, type, service_id,
                                            strcmp(service_id, SHOP) == 0   ? "demo/shop"
                                            : strcmp(service_id, BLOG) == 0 ? "demo/blog"
                                                                            : "",
                                            bodies[count]};
    count++;
}

static void step(int64_t at, const char *type, const char *name, int64_t took)
{
    said(at, type, SHOP,
         ec_arena_format(arena, "{'step':{'name':'%s','started_unix_ms':%lld,'duration_ms':%lld}}",
                         name, (long long)(T0 + at - took), (long long)took));
}

static json_t *told(int64_t now)
{
    return decide_timeline(arena, events, count, T0 + now);
}

static const json_t *lane_of(const json_t *story, size_t index)
{
    return json_array_get(json_object_get(story, "services"), index);
}

/* The item of that title; fails without it. */
static const json_t *item_of(const json_t *lane, const char *title)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(lane, "items"), i, item)
    {
        if (strcmp(ec_json_text(item, "title"), title) == 0) {
            return item;
        }
    }
    fail_msg("there is no item \"%s\"", title);
    return NULL;
}

static void expect(const json_t *lane, const char *title, const char *kind, int64_t offset,
                   int64_t took)
{
    const json_t *item = item_of(lane, title);
    assert_string_equal(ec_json_text(item, "kind"), kind);
    assert_int_equal(ec_json_int(item, "offset_ms", -1), offset);
    assert_int_equal(ec_json_int(item, "duration_ms", -1), took);
}

static void whole_push(void)
{
    said(0, "push.received", "",
         "{'ref':'refs/heads/main','pusher':'alice','head':{'sha':"
         "'1234567890','message':'Sell shoes','author_name':'Al'}}");
    said(20, "delivery.accepted", "", "{}");
    said(20, "build.queued", SHOP, "{}");
    said(3020, "build.leased", SHOP, "{'builder_id':'b-1','attempt':1}");
    said(3021, "build.started", SHOP, "{'builder_id':'b-1'}");
    step(3521, "build.step", "fetch", 500);
    step(8521, "build.step", "build", 5000);
    said(8521, "build.succeeded", SHOP, "{'digest':'sha256:0123456789abcdef'}");
    said(8530, "release.created", SHOP, "{'version':'v7'}");
    step(9530, "release.step", "sbom", 1000);
    said(9530, "release.signed", SHOP, "{'sbom_components':12}");
    said(9540, "release.ready", SHOP, "{'version':'v7'}");
    said(9540, "deployment.created", SHOP, "{'version':'v7','environment':{'name':'production'}}");
    said(9541, "domain.desired", SHOP, "{'hostname':'shop.test'}");
    said(9600, "domain.issued", "", "{'hostname':'shop.test'}");
    said(9641, "deployment.step", SHOP, "{'weight':10,'step':{'name':'weight','duration_ms':1}}");
    said(12641, "deployment.step", SHOP, "{'weight':100,'step':{'name':'weight','duration_ms':1}}");
    said(12641, "deployment.rolled_out", SHOP, "{}");
    said(12650, "deployment.healthy", SHOP, "{'version':'v7'}");
    said(12700, "notification.sent", SHOP,
         "{'kind':'webhook','about':'deployment.healthy','duration_ms':30}");
}

static void test_a_push_that_waited_for_ci(void **state)
{
    (void)state;
    said(0, "push.received", "", "{'ref':'refs/heads/main','head':{'sha':'1234567890'}}");
    said(20, "delivery.accepted", "", "{}");
    said(20, "build.waiting", SHOP, "{'reason':'wait_for_ci','detail':'no run is known yet'}");
    said(90020, "build.queued", SHOP, "{}");
    said(90120, "build.leased", SHOP, "{'builder_id':'b-1','attempt':1}");
    json_t *story = told(90200);
    const json_t *lane = lane_of(story, 0);
    expect(lane, "the git host's CI", "wait", 20, 90000);
    expect(lane, "a builder with a free slot", "wait", 90020, 100);
    assert_true(ec_json_bool(lane, "open", false));
    json_decref(story);
}

static void test_a_pull_request(void **state)
{
    (void)state;
    said(0, "pull_request.changed", "",
         "{'delivery':{'action':'opened'},'title':'Add a cat','number':7}");
    said(15, "delivery.ignored", "", "{'reason':'fork_of_stranger','detail':'look at it'}");
    json_t *story = told(100000);
    const json_t *lane = lane_of(story, 0);
    assert_string_equal(ec_json_text(item_of(lane, "pull request opened"), "detail"), "Add a cat");
    assert_string_equal(ec_json_text(lane, "outcome"), "delivery.ignored");
    assert_false(ec_json_bool(lane, "open", true));
    json_decref(story);
}

static void test_a_whole_push(void **state)
{
    (void)state;
    whole_push();
    json_t *story = told(100000);
    const json_t *lane = lane_of(story, 0);
    assert_int_equal(json_array_size(json_object_get(story, "services")), 1);
    assert_string_equal(ec_json_text(story, "commit.sha"), "1234567890");
    assert_string_equal(ec_json_text(story, "commit.pusher"), "alice");
    assert_string_equal(ec_json_text(lane, "service"), "demo/shop");
    assert_string_equal(ec_json_text(lane, "outcome"), "deployment.healthy");
    assert_false(ec_json_bool(lane, "open", true));
    assert_int_equal(ec_json_int(lane, "duration_ms", 0), 12650); /* to serving */
    assert_int_equal(ec_json_int(lane, "span_ms", 0), 12700);     /* to the last word */
    expect(lane, "push received", "fact", 0, 0);
    expect(lane, "pipeline to decide about it", "wait", 0, 20);
    expect(lane, "a builder with a free slot", "wait", 20, 3000);
    expect(lane, "fetch", "step", 3021, 500);
    expect(lane, "build", "step", 3521, 5000);
    expect(lane, "sbom", "step", 8530, 1000);
    expect(lane, "the reconciler to take it up", "wait", 9540, 100);
    expect(lane, "it to prove itself with 10 % of the traffic", "wait", 9641, 2999);
    expect(lane, "100 % of the traffic", "step", 12640, 1);
    expect(lane, "certificate served", "fact", 9600, 0);
    expect(lane, "told by webhook", "step", 12670, 30);
    assert_true(ec_json_bool(item_of(lane, "told by webhook"), "side", false));
    assert_string_equal(ec_json_text(item_of(lane, "image built"), "detail"),
                        "sha256:0123456789ab");
    assert_string_equal(ec_json_text(item_of(lane, "given to a builder"), "detail"),
                        "b-1, attempt 1");
    json_decref(story);
}

/* All time on the way is in the totals, once: steps that overlap do not count twice. */
static void test_totals_add_up(void **state)
{
    (void)state;
    whole_push();
    step(5000, "build.step", "detect", 1000); /* within "build" */
    json_t *story = told(100000);
    const json_t *lane = lane_of(story, 0), *total;
    int64_t sum = 0;
    size_t i;
    json_array_foreach(json_object_get(lane, "totals"), i, total)
    {
        sum += ec_json_int(total, "duration_ms", 0);
        assert_string_not_equal(ec_json_text(total, "what"), "detect");
    }
    /* Gaps under 5 ms are nobody's; there are few of them. */
    assert_in_range(sum, 12650 - 20, 12650);
    json_decref(story);
}

static void test_a_push_under_way(void **state)
{
    (void)state;
    said(0, "push.received", "", "{}");
    said(10, "delivery.accepted", "", "{}");
    said(10, "build.queued", SHOP, "{}");
    json_t *story = told(65010);
    const json_t *lane = lane_of(story, 0);
    assert_true(ec_json_bool(lane, "open", false));
    expect(lane, "a builder with a free slot", "wait", 10, 65000);
    assert_true(ec_json_bool(item_of(lane, "a builder with a free slot"), "open", false));
    json_decref(story);
}

/* Every end ends, and says whether it is a bad one; nothing is open after it. */
static void test_ends(void **state)
{
    (void)state;
    static const struct {
        const char *type, *body, *title, *detail;
        bool failed, open;
    } cases[] = {
        {"build.failed", "{'detail':'make: *** [all] Error 2\\nmore'}", "build failed",
         "make: *** [all] Error 2", true, false},
        {"build.failed", "{'detail':'lost','retryable':true}", "build failed", "lost", true, true},
        {"build.cancelled", "{'reason':'by bob'}", "build cancelled", "by bob", true, false},
        {"build.superseded", "{'reason':'newer'}", "build superseded", "newer", true, false},
        {"build.timed_out", "{'reason':'no builder'}", "build timed out", "no builder", true,
         false},
        {"release.rejected", "{'reason':'digest_mismatch'}", "release rejected", "digest_mismatch",
         true, false},
        {"deployment.failed", "{'reason':'unhealthy','detail':'500'}", "deployment failed",
         "unhealthy: 500", true, false},
        {"deployment.rolled_back", "{'reason':'unhealthy'}", "rolled back", "unhealthy", true,
         false},
        {"deployment.superseded", "{'detail':'v9 takes its place'}", "deployment superseded",
         "v9 takes its place", true, false},
        {"deployment.cancelled", "{'detail':'by bob'}", "deployment cancelled", "by bob", true,
         false},
        {"deployment.healthy", "{'version':'v1'}", "healthy", "v1", false, false},
        {"release.ready", "{'version':'v1'}", "release ready", "v1", false, false},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        count = 0;
        said(0, "build.queued", SHOP, "{}");
        said(50, cases[i].type, SHOP, cases[i].body);
        json_t *story = told(600000);
        const json_t *lane = lane_of(story, 0);
        assert_string_equal(ec_json_text(lane, "outcome"), cases[i].type);
        assert_int_equal(ec_json_bool(lane, "failed", !cases[i].failed), cases[i].failed);
        assert_int_equal(ec_json_bool(lane, "open", !cases[i].open), cases[i].open);
        assert_string_equal(ec_json_text(item_of(lane, cases[i].title), "detail"), cases[i].detail);
        json_decref(story);
        json_decref(bodies[0]);
        json_decref(bodies[1]);
    }
    count = 0;
}

static void test_an_ignored_push_has_no_service(void **state)
{
    (void)state;
    said(0, "push.received", "", "{'ref':'refs/heads/dev'}");
    said(12, "delivery.ignored", "", "{'reason':'branch_not_watched','detail':'only main'}");
    json_t *story = told(1000);
    assert_int_equal(json_array_size(json_object_get(story, "services")), 1);
    const json_t *lane = lane_of(story, 0);
    assert_string_equal(ec_json_text(lane, "service_id"), "");
    assert_string_equal(ec_json_text(item_of(lane, "ignored"), "detail"),
                        "branch_not_watched: only main");
    json_decref(story);
}

static void test_two_services_of_one_push(void **state)
{
    (void)state;
    said(0, "push.received", "", "{}");
    said(5, "build.queued", SHOP, "{}");
    said(5, "build.queued", BLOG, "{}");
    said(50, "build.failed", BLOG, "{'detail':'no'}");
    json_t *story = told(1000);
    assert_int_equal(json_array_size(json_object_get(story, "services")), 2);
    assert_true(ec_json_bool(lane_of(story, 0), "open", false));
    assert_string_equal(ec_json_text(lane_of(story, 1), "outcome"), "build.failed");
    expect(lane_of(story, 1), "push received", "fact", 0, 0); /* both tell the beginning */
    json_decref(story);
}

/* The waits of a rollout say what of the new version was waited for. */
static void test_waits_of_a_rollout(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{'step':{'name':'pull','duration_ms':1}}", "it to start"},
        {"{'step':{'name':'start','duration_ms':1}}", "it to become healthy"},
        {"{'step':{'name':'healthy','duration_ms':1}}", "traffic to be given to it"},
        {"{'weight':50,'step':{'name':'weight','duration_ms':1}}",
         "it to prove itself with 50 % of the traffic"},
        {"{'weight':100,'step':{'name':'weight','duration_ms':1}}", "the next step of the rollout"},
        {"{'step':{'name':'drain','duration_ms':1}}", "the next step of the rollout"},
        {"{'step':{'name':'remove','duration_ms':1}}", "pipeline to note it"},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        count = 0;
        said(0, "deployment.created", SHOP, "{}");
        said(100, "deployment.step", SHOP, cases[i][0]);
        json_t *story = told(4100);
        expect(lane_of(story, 0), cases[i][1], "wait", 100, 4000);
        json_decref(story);
        json_decref(bodies[0]);
        json_decref(bodies[1]);
    }
    count = 0;
}

/* A second attempt is one story with the wait between the two. */
static void test_attempts(void **state)
{
    (void)state;
    said(0, "build.queued", SHOP, "{}");
    said(10, "build.leased", SHOP, "{'builder_id':'b-1','attempt':1}");
    said(1000, "build.failed", SHOP, "{'detail':'lost','retryable':true}");
    said(4000, "build.leased", SHOP, "{'builder_id':'b-2','attempt':2}");
    json_t *story = told(4001);
    expect(lane_of(story, 0), "the next attempt", "wait", 1000, 3000);
    json_decref(story);
}

/* Clocks of other machines, absurd durations, bodies that were not kept. */
static void test_odd_events(void **state)
{
    (void)state;
    said(0, "build.queued", SHOP, "{}");
    said(10, "build.step", SHOP, "{'step':{'name':'fetch','started_unix_ms':99,'duration_ms':5}}");
    said(20, "build.step", SHOP, "{'step':{'name':'forever','duration_ms':9000000000}}");
    said(30, "build.step", SHOP, "{'step':{'name':'negative','duration_ms':-4}}");
    said(40, "future.kind", SHOP, "{}");
    said(50, "build.failed", SHOP, "{}");
    events[count - 1].body = NULL;
    json_t *story = told(1000);
    const json_t *lane = lane_of(story, 0);
    expect(lane, "fetch", "step", 5, 5);
    expect(lane, "forever", "fact", 20, 0);
    expect(lane, "negative", "fact", 30, 0);
    assert_string_equal(ec_json_text(item_of(lane, "build failed"), "detail"), "");
    json_decref(story);
    count = 0;
    story = told(1000);
    assert_int_equal(json_array_size(json_object_get(story, "services")), 0);
    json_decref(story);
}

static int begin(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 24);
    count = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (size_t i = 0; i < count; i++) {
        json_decref(bodies[i]);
    }
    ec_arena_free(arena);
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_push_that_waited_for_ci),
        TEST(test_a_pull_request),
        TEST(test_a_whole_push),
        TEST(test_totals_add_up),
        TEST(test_a_push_under_way),
        TEST(test_ends),
        TEST(test_an_ignored_push_has_no_service),
        TEST(test_two_services_of_one_push),
        TEST(test_waits_of_a_rollout),
        TEST(test_attempts),
        TEST(test_odd_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
