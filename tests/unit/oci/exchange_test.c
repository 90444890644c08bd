/* What docker-registry does not do, against a strict double: bearer tokens, Retry-After, registries
 * that lie about bytes, and the referrers API with pages. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_server.h"
#include "oci/auth.h"
#include "oci/exchange.h"
#include "oci/referrers.h"
#include "support/raw.h"
#include "trust/digest.h"

#define HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define DIGEST "sha256:" HEX /* of "{}" */
#define OTHER "sha256:55136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static struct fixture {
    struct ec_loop *loop;
    struct ec_arena *arena;
    struct ec_http_server *server;
    struct ec_fetcher *fetcher;
    struct ec_registry *registry;
    struct ec_ref image;
    char host[32];
    /* how the double behaves */
    bool wants_token, token_is_refused;
    const char *realm;       /* NULL: our own /token */
    int failures;            /* that many answers of 503 first */
    int token_failures;      /* the same of the token service */
    struct ec_request *held; /* an upload whose answer gets lost */
    int foreign_page; /* of referrers: its entry has a digest that we do not read; 0 = none */
    int requests, tokens;
    char scope[128];
    /* the last answer */
    struct ec_err err;
    char what[512];
    int status;
    size_t count;
} fx;

/* ---- the double ---- */

static bool passes(struct ec_request *req)
{
    fx.requests++;
    if (fx.failures > 0) {
        fx.failures--;
        ec_reply_header(req, "Retry-After", "1");
        ec_reply_empty(req, 503);
        return false;
    }
    const char *auth = ec_request_header(req, "Authorization");
    if (!fx.wants_token || (auth && strcmp(auth, "Bearer good-token") == 0)) {
        return true;
    }
    const char *realm = fx.realm ? fx.realm : ec_arena_format(fx.arena, "http://%s/token", fx.host);
    ec_reply_header(req, "WWW-Authenticate",
                    ec_arena_format(fx.arena, "Bearer realm=\"%s\",service=\"reg\"", realm));
    ec_reply_empty(req, 401);
    return false;
}

static void on_manifest(void *state, struct ec_request *req)
{
    (void)state;
    if (passes(req)) {
        ec_reply_text(req, 200, EC_OCI_MANIFEST, EC_SPAN("{}"));
    }
}

static void on_token(void *state, struct ec_request *req)
{
    (void)state;
    fx.tokens++;
    snprintf(fx.scope, sizeof(fx.scope), "%s", ec_request_query(req, "scope"));
    if (fx.token_failures > 0) {
        fx.token_failures--;
        ec_reply_empty(req, 503);
        return;
    }
    if (fx.token_is_refused) {
        ec_reply_empty(req, 401);
        return;
    }
    ec_reply_text(req, 200, "application/json", EC_SPAN("{\"token\":\"good-token\"}"));
}

/* Pages of one entry; the last is empty and says "next" again without bringing anything. */
static void on_referrers(void *state, struct ec_request *req)
{
    (void)state;
    const char *page = ec_request_query(req, "page");
    int number = page ? atoi(page) : 0;
    if (!passes(req)) {
        return;
    }
    bool foreign = fx.foreign_page && number == fx.foreign_page;
    const char *digest = foreign ? ec_arena_format(fx.arena, "sha512:%0128d", number)
                                 : ec_arena_format(fx.arena, "sha256:%064d", number);
    const char *entry = ec_arena_format(
        fx.arena, "{\"digest\":\"%s\",\"artifactType\":\"t\",\"annotations\":{\"%s\":\"p\"}}",
        digest, EC_REFERRER_BUNDLE);
    const char *body = ec_arena_format(fx.arena, "{\"schemaVersion\":2,\"manifests\":[%s]}",
                                       number < 2 + (fx.foreign_page > 0) ? entry : "");
    ec_reply_header(req, "Link",
                    ec_arena_format(fx.arena, "</v2/acme/shop/referrers/%s?page=%d>; rel=\"next\"",
                                    DIGEST, number + 1));
    ec_reply_text(req, 200, EC_OCI_INDEX, ec_span_of(body));
}

static void on_blob(void *state, struct ec_request *req)
{
    (void)state;
    ec_reply_empty(req, 404);
}

static void on_upload(void *state, struct ec_request *req)
{
    (void)state;
    ec_reply_header(req, "Location", "/v2/acme/shop/blobs/uploads/1");
    ec_reply_empty(req, 202);
}

/* The upload is over with its first PUT, whose answer never comes. */
static void on_upload_put(void *state, struct ec_request *req)
{
    (void)state;
    if (!fx.held) {
        fx.held = req;
        return;
    }
    ec_reply_text(req, 404, "application/json",
                  EC_SPAN("{\"errors\":[{\"code\":\"BLOB_UPLOAD_UNKNOWN\"}]}"));
}

static const struct ec_http_route routes[] = {
    {"GET", "/v2/acme/shop/blobs/{digest}", on_blob, 0, 0},
    {"POST", "/v2/acme/shop/blobs/uploads/", on_upload, 0, 0},
    {"PUT", "/v2/acme/shop/blobs/uploads/{id}", on_upload_put, 1024, 0},
    {"GET", "/v2/acme/shop/manifests/{reference}", on_manifest, 0, 0},
    {"GET", "/v2/acme/shop/referrers/{digest}", on_referrers, 0, 0},
    {"GET", "/token", on_token, 0, 0},
};

/* ---- fixture ---- */

static int setup(void **state)
{
    (void)state;
    fx = (struct fixture){.loop = ec_loop_new(), .arena = ec_arena_new(4 << 20)};
    struct ec_http_server_spec server = {
        .listen = "127.0.0.1:0", .routes = routes, .route_count = EC_LEN(routes)};
    assert_int_equal(ec_http_server_open(fx.loop, &server, &fx.server).fate, EC_FATE_OK);
    snprintf(fx.host, sizeof(fx.host), "127.0.0.1:%d", ec_http_server_port(fx.server));
    assert_int_equal(ec_fetcher_open(fx.loop, "test", 8, &fx.fetcher).fate, EC_FATE_OK);
    struct ec_registry_spec spec = {
        .loop = fx.loop, .fetcher = fx.fetcher, .insecure = true, .deadline_ms = 1000};
    assert_int_equal(ec_registry_open(&spec, &fx.registry).fate, EC_FATE_OK);
    fx.image = (struct ec_ref){fx.host, "acme/shop", "", ""};
    return 0;
}

static void nothing(void *arg)
{
    (void)arg;
}

static int teardown(void **state)
{
    (void)state;
    if (fx.held) {
        ec_reply_empty(fx.held, 201);
    }
    ec_registry_close(fx.registry);
    ec_fetcher_close(fx.fetcher);
    ec_http_server_close(fx.server, 100, nothing, NULL);
    ec_loop_run(fx.loop);
    ec_loop_free(fx.loop);
    ec_arena_free(fx.arena);
    return 0;
}

static void keep_error(struct ec_err err)
{
    fx.err = err;
    snprintf(fx.what, sizeof(fx.what), "%s", ec_failed(err) ? err.what : "");
    ec_loop_stop(fx.loop);
}

static void on_answer(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)arg;
    fx.status = answer->status;
    keep_error(err);
}

static void on_list(void *arg, struct ec_err err, const struct ec_referrer *list, size_t count)
{
    (void)arg;
    fx.count = count;
    if (count > 0) {
        assert_string_equal(list[0].predicate_type, "p");
    }
    keep_error(err);
}

static enum ec_fate get(const char *reference)
{
    struct ec_err err = ec_manifest_get(fx.registry, &fx.image, reference, on_answer, NULL);
    assert_int_equal(err.fate, EC_FATE_OK);
    ec_loop_run(fx.loop);
    return fx.err.fate;
}

/* ---- tests ---- */

static void a_token_is_fetched_once_and_kept(void **state)
{
    (void)state;
    fx.wants_token = true;
    assert_int_equal(get(DIGEST), EC_FATE_OK);
    assert_int_equal(get(DIGEST), EC_FATE_OK);
    assert_int_equal(fx.tokens, 1);
    assert_int_equal(fx.requests, 3);
    assert_string_equal(fx.scope, "repository:acme/shop:pull");
}

static void a_refused_token_is_no_endless_loop(void **state)
{
    (void)state;
    fx.wants_token = true;
    fx.token_is_refused = true;
    assert_int_equal(get(DIGEST), EC_FATE_REJECT);
    assert_int_equal(fx.tokens, 1);
    assert_non_null(strstr(fx.what, "token service"));
}

static void a_token_service_without_https_elsewhere_is_not_asked(void **state)
{
    (void)state;
    fx.wants_token = true;
    fx.realm = "http://auth.example.test/token";
    assert_int_equal(get(DIGEST), EC_FATE_REJECT);
    assert_non_null(strstr(fx.what, "without https"));
}

static void trouble_that_passes_is_waited_for(void **state)
{
    (void)state;
    fx.failures = 1;
    int64_t began_ms = ec_mono_ms();
    assert_int_equal(get(DIGEST), EC_FATE_OK);
    assert_int_equal(fx.requests, 2);
    assert_true(ec_mono_ms() - began_ms >= 990); /* Retry-After: 1 */
}

static void trouble_that_stays_is_retry(void **state)
{
    (void)state;
    fx.failures = 100;
    assert_int_equal(get(DIGEST), EC_FATE_RETRY);
    assert_int_equal(fx.status, 503);
    assert_int_equal(fx.requests, 3);
}

static void other_bytes_than_the_digest_says_are_refused(void **state)
{
    (void)state;
    assert_int_equal(get("v1"), EC_FATE_OK); /* by tag: whatever it is */
    assert_int_equal(get(OTHER), EC_FATE_REJECT);
    assert_non_null(strstr(fx.what, "other bytes"));
}

static void the_referrers_api_is_read_page_by_page(void **state)
{
    (void)state;
    struct ec_err err = ec_referrers_list(fx.registry, &fx.image, DIGEST, on_list, NULL);
    assert_int_equal(err.fate, EC_FATE_OK);
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_int_equal(fx.count, 2);
    assert_int_equal(fx.requests, 3);
}

/* What we cannot read on one page says nothing about the next one. */
static void a_page_of_other_digests_does_not_end_the_list(void **state)
{
    (void)state;
    fx.foreign_page = 1;
    struct ec_err err = ec_referrers_list(fx.registry, &fx.image, DIGEST, on_list, NULL);
    assert_int_equal(err.fate, EC_FATE_OK);
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_OK);
    assert_int_equal(fx.count, 2);
    assert_int_equal(fx.requests, 4);
}

static void stopping_ends_what_is_under_way(void **state)
{
    (void)state;
    fx.failures = 100;
    struct ec_err err = ec_manifest_get(fx.registry, &fx.image, DIGEST, on_answer, NULL);
    assert_int_equal(err.fate, EC_FATE_OK);
    ec_registry_stop(fx.registry);
    int64_t began_ms = ec_mono_ms();
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    assert_true(ec_mono_ms() - began_ms < 1800); /* two tries are 2 s apart */
    assert_int_equal(ec_manifest_get(fx.registry, &fx.image, DIGEST, on_answer, NULL).fate,
                     EC_FATE_RETRY);
}

/* The exchange that has to get a token anew is not one that was refused. */
static void a_token_service_in_trouble_is_asked_again(void **state)
{
    (void)state;
    fx.wants_token = true;
    fx.token_failures = 1;
    assert_int_equal(get(DIGEST), EC_FATE_OK);
    assert_int_equal(fx.tokens, 2);
}

static void a_token_service_in_lasting_trouble_is_retry(void **state)
{
    (void)state;
    fx.wants_token = true;
    fx.token_failures = 100;
    assert_int_equal(get(DIGEST), EC_FATE_RETRY);
    assert_int_equal(fx.tokens, 3);
}

/* The registry has the blob, or has not: the next upload finds out. */
static void an_upload_whose_answer_was_lost_is_retry(void **state)
{
    (void)state;
    struct ec_err err = ec_blob_put(fx.registry, &fx.image, EC_SPAN("{}"), on_answer, NULL);
    assert_int_equal(err.fate, EC_FATE_OK);
    ec_loop_run(fx.loop);
    assert_int_equal(fx.err.fate, EC_FATE_RETRY);
    assert_non_null(strstr(fx.what, "BLOB_UPLOAD_UNKNOWN"));
}

/* As long as a header can be: what it says is a stranger's, and must not end our process. */
static void an_endless_challenge_is_refused(void **state)
{
    (void)state;
    struct ec_challenge challenge;
    struct ec_arena *arena = ec_arena_new(1 << 20);
    ec_cleanup(ec_buf_done) struct ec_buf header;
    ec_buf_init(&header, 90000);
    ec_buf_add_text(&header, "Bearer realm=\"https://a.test/\"");
    while (!header.overflowed) {
        ec_buf_add_text(&header, ",realm=\"\",a=\"\"");
    }
    assert_false(ec_challenge_parse(arena, header.ptr, &challenge));
    ec_arena_free(arena);
}

static unsigned turns;

static void on_turn(void *arg)
{
    turns++;
    ec_registry_turn_over(arg);
}

/* Updates of referrer lists that wait for each other when the process stops. */
static void a_closed_registry_stays_for_those_who_wait_for_their_turn(void **state)
{
    (void)state;
    mallopt(M_PERTURB, 0x55); /* what is freed is not readable any more */
    turns = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ec_registry_wait_turn(fx.registry, on_turn, fx.registry).fate, EC_FATE_OK);
    }
    ec_registry_close(EC_TAKE(fx.registry));
    loop_for(fx.loop, 20);
    mallopt(M_PERTURB, 0);
    assert_int_equal(turns, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_token_is_fetched_once_and_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_token_is_no_endless_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_service_without_https_elsewhere_is_not_asked, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(trouble_that_passes_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(trouble_that_stays_is_retry, setup, teardown),
        cmocka_unit_test_setup_teardown(other_bytes_than_the_digest_says_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_referrers_api_is_read_page_by_page, setup, teardown),
        cmocka_unit_test_setup_teardown(a_page_of_other_digests_does_not_end_the_list, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(stopping_ends_what_is_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_service_in_trouble_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_token_service_in_lasting_trouble_is_retry, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_upload_whose_answer_was_lost_is_retry, setup, teardown),
        cmocka_unit_test(an_endless_challenge_is_refused),
        cmocka_unit_test_setup_teardown(a_closed_registry_stays_for_those_who_wait_for_their_turn,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
