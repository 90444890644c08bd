/* Signatures of every host: the right one is taken, everything near it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "../../../services/webhook/webhook.h"
#include "base/mem.h"

#define NOW_MS 1614265330000
#define GITHUB_SECRET "It's a Secret to Everybody"
#define GITHUB_MAC "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
/* The vector of the Standard Webhooks specification. */
#define STANDARD_SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define STANDARD_ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define STANDARD_BODY "{\"test\": 2432232314}"
#define STANDARD_SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

struct row {
    bool (*verify)(const struct incoming *, const struct ec_secret *);
    const char *secret, *body, *json, *signature, *id, *time;
    bool good;
};

static const struct row rows[] = {
    {verify_github, GITHUB_SECRET, "Hello, World!", "", "sha256=" GITHUB_MAC, 0, 0, true},
    {verify_github, GITHUB_SECRET, "Hello, World?", "", "sha256=" GITHUB_MAC, 0, 0, false},
    {verify_github, "It's a secret to Everybody", "Hello, World!", "", "sha256=" GITHUB_MAC, 0, 0,
     false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "", GITHUB_MAC, 0, 0, false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "", "sha1=" GITHUB_MAC, 0, 0, false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "", "sha256=" GITHUB_MAC "00", 0, 0, false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "", "sha256=75", 0, 0, false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "", "sha256=", 0, 0, false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "", NULL, 0, 0, false},
    {verify_github, GITHUB_SECRET, "Hello, World!", "",
     "sha256=757107EA0EB2509FC211221CCE984B8A37570B6D7586C22C46F4379C8B043E17", 0, 0, false},
    {verify_bitbucket, GITHUB_SECRET, "Hello, World!", "", "sha256=" GITHUB_MAC, 0, 0, true},
    {verify_bitbucket, GITHUB_SECRET, "Hello, World!", "", "sha1=x", 0, 0, false},
    {verify_gitea, GITHUB_SECRET, "Hello, World!", "Hello, World!", GITHUB_MAC, 0, 0, true},
    {verify_gitea, GITHUB_SECRET, "payload=Hello%2C+World%21", "Hello, World!", GITHUB_MAC, 0, 0,
     true},
    {verify_gitea, GITHUB_SECRET, "Hello, World!", "Hello, World!", "sha256=" GITHUB_MAC, 0, 0,
     true},
    {verify_gitea, GITHUB_SECRET, "x", "y", GITHUB_MAC, 0, 0, false},
    {verify_gitlab, "tok-en", "any", "any", "tok-en", 0, 0, true},
    {verify_gitlab, "tok-en", "any", "any", "tok-en2", 0, 0, false},
    {verify_gitlab, "tok-en", "any", "any", "tok-e", 0, 0, false},
    {verify_gitlab, "tok-en", "any", "any", "", 0, 0, false},
    {verify_gitlab, "tok-en", "any", "any", NULL, 0, 0, false},
    {verify_gitlab, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, STANDARD_ID,
     "1614265330", true},
    {verify_gitlab, STANDARD_SECRET, STANDARD_BODY " ", "", STANDARD_SIGNATURE, STANDARD_ID,
     "1614265330", false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, STANDARD_ID,
     "1614265330", true},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", "v1,AAAA v2,x " STANDARD_SIGNATURE,
     STANDARD_ID, "1614265330", true},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", "v1,AAAA", STANDARD_ID, "1614265330",
     false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", "", STANDARD_ID, "1614265330", false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, "msg_other",
     "1614265330", false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, NULL, "1614265330",
     false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, STANDARD_ID, NULL,
     false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, STANDARD_ID,
     "1614265331", false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, STANDARD_ID,
     "1614265330x", false},
    {verify_standard, STANDARD_SECRET, STANDARD_BODY, "", STANDARD_SIGNATURE, STANDARD_ID, "-1",
     false},
    {verify_bearer, "tok-en", "any", "any", "Bearer tok-en", 0, 0, true},
    {verify_bearer, "tok-en", "any", "any", "tok-en", 0, 0, true},
    {verify_bearer, "tok-en", "any", "any", "Bearer tok", 0, 0, false},
    {verify_bearer, "tok-en", "any", "any", "Bearer ", 0, 0, false},
    {verify_bearer, "tok-en", "any", "any", NULL, 0, 0, false},
};

static void right_ones_only(void **state)
{
    (void)state;
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        const struct row *row = &rows[i];
        ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
        ec_cleanup(ec_secret_freep) struct ec_secret *secret =
            ec_secret_new(ec_span_of(row->secret));
        struct incoming in = {
            arena, ec_span_of(row->body), ec_span_of(row->json), row->signature, row->id, row->time,
            NOW_MS};
        if (row->verify(&in, secret) != row->good) {
            fail_msg("row %zu: signature %s", i, row->signature);
        }
    }
}

/* A delivery taken from the wire cannot be sent again an hour later. */
static void old_ones_are_refused(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    ec_cleanup(ec_secret_freep) struct ec_secret *secret = ec_secret_new(EC_SPAN(STANDARD_SECRET));
    struct incoming in = {arena,       EC_SPAN(STANDARD_BODY), EC_SPAN(""), STANDARD_SIGNATURE,
                          STANDARD_ID, "1614265330",           NOW_MS};
    static const int64_t away_s[] = {-301, -299, 0, 299, 301};
    for (size_t i = 0; i < EC_LEN(away_s); i++) {
        in.now_ms = NOW_MS + away_s[i] * 1000;
        assert_int_equal(verify_standard(&in, secret), away_s[i] > -300 && away_s[i] < 300);
    }
}

/* Every host has all it needs: nobody can be let in by a row that was forgotten. */
static void rows_are_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < HOST_COUNT; i++) {
        assert_non_null(hosts[i].name);
        assert_non_null(hosts[i].verify);
        assert_non_null(hosts[i].claim);
        assert_non_null(hosts[i].signature_headers[0]);
        assert_true(hosts[i].event_headers[0] || hosts[i].event_path);
        assert_non_null(hosts[i].events[0].event);
    }
    assert_int_equal(webhook_route_count, HOST_COUNT + 1); /* forgejo is gitea */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_ones_only),
        cmocka_unit_test(old_ones_are_refused),
        cmocka_unit_test(rows_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
