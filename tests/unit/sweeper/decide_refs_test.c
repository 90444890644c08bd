/* What a host lists against what was told: a table of situations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "sweeper.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "cccccccccccccccccccccccccccccccccccccccc"
#define Z "0000000000000000000000000000000000000000"
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define Z64 "0000000000000000000000000000000000000000000000000000000000000000"
#define MAIN "refs/heads/main"
#define GRACE 5000
#define INTERVAL 60000

struct row {
    const char *what;
    const char *listed; /* of main; NULL = not there */
    struct known known; /* of main; sha NULL = none */
    int64_t ledger_ms;
    const char *want; /* kind and before..after, "" = nothing */
};

static const struct row rows[] = {
    {"as told", A, {MAIN, A, 3, "", 0, 0}, 100, ""},
    {"noticed", B, {MAIN, A, 3, "", 0, 0}, 100, "odd aaaa..bbbb 3"},
    {"within the grace", B, {MAIN, A, 3, B, 4999, 4999}, 100, "waits"},
    {"after the grace", B, {MAIN, A, 3, B, 5000, 5000}, 100, "recover aaaa..bbbb 3"},
    {"not all was read since", B, {MAIN, A, 3, B, 5000, 5000}, 5000, "waits"},
    {"nothing was ever read", B, {MAIN, A, 3, B, 9000, 9000}, -1, "waits"},
    {"moved on meanwhile", C, {MAIN, A, 3, B, 9000, 9000}, 100, "odd aaaa..cccc 3"},
    {"moves all the time", C, {MAIN, A, 3, B, 2000, 60000}, 100, "recover aaaa..cccc 3"},
    {"moves, and not all was read", C, {MAIN, A, 3, B, 2000, 60000}, 60000, "odd aaaa..cccc 3"},
    {"odd no longer", A, {MAIN, A, 3, B, 9000, 9000}, 100, "clear aaaa..aaaa 3"},
    {"new", A, {MAIN, NULL, 0, "", 0, 0}, 100, "odd 0000..aaaa 0"},
    {"new, noticed", A, {MAIN, Z, 0, A, 6000, 6000}, 100, "recover 0000..aaaa 0"},
    {"gone", NULL, {MAIN, A, 3, "", 0, 0}, 100, "odd aaaa..0000 3"},
    {"gone, noticed", NULL, {MAIN, A, 3, Z, 6000, 6000}, 100, "recover aaaa..0000 3"},
    {"gone, and told", NULL, {MAIN, Z, 4, "", 0, 0}, 100, ""},
    {"gone, and told by the other kind of zeros", NULL, {MAIN, Z64, 4, "", 0, 0}, 100, ""},
    {"new, and gone again", NULL, {MAIN, Z, 0, A, 9000, 9000}, 100, "clear 0000..0000 0"},
};

static const char *const kinds[] = {"record", "odd", "clear", "recover"};

static void list(struct ec_arena *arena, struct sweep *sweep, const char *sha, const char *ref)
{
    decide_listed(arena, &sweep->listing, ec_span_of(ec_arena_format(arena, "%s\t%s", sha, ref)));
}

static char *told(struct ec_arena *arena, const struct plan *plan)
{
    if (plan->count == 0) {
        return ec_arena_strdup(arena, plan->unsettled ? "waits" : "");
    }
    const struct change *c = &plan->list[0];
    return ec_arena_format(arena, "%s %.4s..%.4s %d", kinds[c->kind], c->before, c->after,
                           (int)c->changes);
}

static void what_follows_from_two_lists(void **state)
{
    (void)state;
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4 << 20);
        struct sweep sweep = {.known = &rows[i].known,
                              .known_count = rows[i].known.sha != NULL,
                              .baselined = true,
                              .ledger_ms = rows[i].ledger_ms,
                              .grace_ms = GRACE,
                              .interval_ms = INTERVAL};
        struct plan plan;
        if (rows[i].listed) {
            list(arena, &sweep, rows[i].listed, MAIN);
        }
        decide_sweep(arena, &sweep, &plan);
        print_message("%s\n", rows[i].what);
        assert_string_equal(told(arena, &plan), rows[i].want);
        assert_true(plan.count <= 1);
        assert_int_equal(plan.recovered, strncmp(rows[i].want, "recover", 7) == 0);
        assert_int_equal(plan.unsettled, strncmp(rows[i].want, "odd", 3) == 0 ||
                                             strcmp(rows[i].want, "waits") == 0);
    }
}

/* Before the baseline only what was told can be odd. */
static void the_first_listing_is_recorded(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4 << 20);
    const struct known known[] = {{MAIN, A, 1, "", 0, 0}};
    struct sweep sweep = {.known = known, .known_count = 1, .grace_ms = GRACE, .ledger_ms = 0};
    struct plan plan;
    list(arena, &sweep, B, "refs/tags/v1");
    list(arena, &sweep, A64, "refs/heads/x");
    list(arena, &sweep, C, MAIN);
    decide_sweep(arena, &sweep, &plan);
    assert_int_equal(plan.count, 3);
    assert_int_equal(plan.list[0].kind, CHANGE_ODD);
    assert_string_equal(plan.list[0].ref, MAIN);
    assert_int_equal(plan.list[1].kind, CHANGE_RECORD);
    assert_string_equal(plan.list[1].before, Z64);
    assert_int_equal(plan.list[2].kind, CHANGE_RECORD);
    assert_string_equal(plan.list[2].after, B);
}

static void only_whole_branches_and_tags_are_followed(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "nothing",
        A " " MAIN,
        A "\trefs/heads/",
        A "\trefs/heads/a b",
        A "\trefs/heads/\x1b[31m",
        A "\trefs/heads/\xc2\x9b"
          "31m", /* the same, as one character */
        A "\trefs/tags/v1^{}",
        A "\trefs/pull/1/head",
        A "\tHEAD",
        A "\trefs/heads/\xff",
        Z "\trefs/heads/zero",
        "abc\trefs/heads/short",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\trefs/heads/upper",
        A "\trefs/heads/ünï-cödé",
        A64 "\trefs/tags/v2",
    };
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4 << 20);
    struct listing listing = {.count = 0};
    for (size_t i = 0; i < EC_LEN(lines); i++) {
        decide_listed(arena, &listing, ec_span_of(lines[i]));
    }
    assert_int_equal(listing.count, 2);
    assert_int_equal(listing.skipped, EC_LEN(lines) - 3);
    assert_string_equal(listing.refs[0].ref, "refs/heads/ünï-cödé");
    assert_string_equal(listing.refs[1].sha, A64);
}

/* More refs than are followed: nothing is concluded about those behind. And a limit of pushes per
 * look: branches first, the rest with the next look. */
static void limits_hold(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(64 << 20);
    const struct known known[] = {{"refs/heads/00000x", A, 1, Z, 9000, 9000},
                                  {"refs/heads/zzz", A, 1, Z, 9000, 9000}};
    struct sweep sweep = {.known = known,
                          .known_count = 2,
                          .baselined = true,
                          .grace_ms = GRACE,
                          .interval_ms = INTERVAL};
    struct plan plan;
    for (int i = 0; i < REFS_MAX + 10; i++) {
        list(arena, &sweep, A, ec_arena_format(arena, "refs/heads/%06d", i));
    }
    assert_true(sweep.listing.cut);
    assert_int_equal(sweep.listing.count, REFS_MAX);
    decide_sweep(arena, &sweep, &plan);
    assert_int_equal(plan.recovered, 1);
    assert_int_equal(plan.unsettled, REFS_MAX);

    struct known many[RECOVERED_MAX + 50];
    struct sweep all = {.known = many,
                        .known_count = EC_LEN(many),
                        .baselined = true,
                        .grace_ms = GRACE,
                        .interval_ms = INTERVAL};
    for (size_t i = 0; i < EC_LEN(many); i++) {
        const char *ref = ec_arena_format(arena, "refs/%s/%03zu", i < 120 ? "heads" : "tags", i);
        many[i] = (struct known){ref, A, 1, B, 9000, 9000};
        list(arena, &all, B, ref);
    }
    decide_sweep(arena, &all, &plan);
    assert_int_equal(plan.recovered, RECOVERED_MAX);
    assert_int_equal(plan.unsettled, 50);
    assert_string_equal(plan.list[RECOVERED_MAX - 1].ref, "refs/heads/099");
}

static void the_same_push_has_the_same_id(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    struct change change = {CHANGE_RECOVER, MAIN, A, B, 7};
    struct change later = {CHANGE_RECOVER, MAIN, A, B, 9};
    const char *id = decide_delivery_id(arena, "h/a/b", &change);
    assert_string_equal(id, decide_delivery_id(arena, "h/a/b", &change));
    assert_string_not_equal(id, decide_delivery_id(arena, "h/a/b", &later));
    assert_string_not_equal(id, decide_delivery_id(arena, "h/a/c", &change));
    assert_int_equal(strlen(id), strlen("sweep-") + 36);
}

static void when_to_look_again(void **state)
{
    (void)state;
    for (int i = 0; i <= 10; i++) { /* period, grace, and a tenth for git: within the interval */
        int64_t period = decide_period_ms(INTERVAL, GRACE, i / 10.0);
        assert_in_range(period, 41000, 49600);
    }
    assert_true(decide_period_ms(INTERVAL, GRACE, 0) < decide_period_ms(INTERVAL, GRACE, 1));
    assert_int_equal(decide_back_off_ms(50000, 1), 50000);
    assert_int_equal(decide_back_off_ms(50000, 3), 200000);
    assert_int_equal(decide_back_off_ms(50000, 1000), BACK_OFF_MAX_MS);
}

static void what_git_says_is_told_without_passwords(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    const struct ec_process_result failed = {.exit_code = 128}, late = {.timed_out = true};
    const char *url = "https://git.test/a/b.git";
    assert_string_equal(decide_git_error(arena, url,
                                         "warning: x\nfatal: repository not found\n"
                                         "fatal: the end\n",
                                         &failed),
                        "fatal: repository not found");
    assert_string_equal(decide_git_error(arena, url, "ssh: no\x1b[0m route\n", &failed),
                        "ssh: no [0m route");
    assert_string_equal(decide_git_error(arena, url, "", &failed), "git ended with status 128");
    assert_non_null(strstr(decide_git_error(arena, url, "fatal: x", &late), "too long"));
    const char *secret = "https://ada:pass@git.test/a/b.git";
    assert_true(decide_url_secret(secret));
    assert_null(strstr(decide_git_error(arena, secret, secret, &failed), "pass@"));
    assert_false(decide_url_secret("https://git.test/a@b:c"));
    assert_false(decide_url_secret("git@git.test:a/b"));
}

static void paths_are_as_they_were(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(8 << 20);
    struct paths paths = {.count = 0};
    decide_path(arena, &paths, EC_SPAN("src/a b.c"));
    decide_path(arena, &paths, EC_SPAN("\"a\\tb\\\"c\\\\d\\n\\303\\274\""));
    decide_path(arena, &paths, EC_SPAN(""));
    assert_int_equal(paths.count, 2);
    assert_string_equal(paths.list[0], "src/a b.c");
    assert_string_equal(paths.list[1], "a\tb\"c\\d\n\xc3\xbc");
    assert_false(paths.cut);
    static const char *const bad[] = {"\"a", "\"a\\\"", "\"\\q\"", "\"a\"b\"", "\"\\377\"", "\xff"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        struct paths none = {.count = 0};
        decide_path(arena, &none, ec_span_of(bad[i]));
        assert_true(none.cut && none.count == 0);
    }
    struct paths many = {.count = 0};
    for (int i = 0; i <= PATHS_MAX; i++) {
        assert_false(many.cut);
        decide_path(arena, &many, EC_SPAN("x"));
    }
    assert_true(many.cut);
    assert_int_equal(many.count, PATHS_MAX);
}

/* More were told than are read: nothing is concluded about what lies behind. */
static void behind_the_last_known(void **state)
{
    (void)state;
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(4 << 20);
    const struct known known[] = {{"refs/heads/a", A, 1, "", 0, 0},
                                  {"refs/heads/m", A, 1, "", 0, 0}};
    struct sweep sweep = {.known = known,
                          .known_count = EC_LEN(known),
                          .known_cut = true,
                          .baselined = true,
                          .ledger_ms = 100,
                          .grace_ms = GRACE,
                          .interval_ms = INTERVAL};
    struct plan plan;
    list(arena, &sweep, B, "refs/heads/z");
    list(arena, &sweep, B, "refs/heads/n");
    list(arena, &sweep, B, "refs/heads/b");
    list(arena, &sweep, A, "refs/heads/a");
    decide_sweep(arena, &sweep, &plan);
    assert_int_equal(plan.count, 1);
    assert_string_equal(plan.list[0].ref, "refs/heads/b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_from_two_lists),
        cmocka_unit_test(the_first_listing_is_recorded),
        cmocka_unit_test(only_whole_branches_and_tags_are_followed),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(the_same_push_has_the_same_id),
        cmocka_unit_test(when_to_look_again),
        cmocka_unit_test(what_git_says_is_told_without_passwords),
        cmocka_unit_test(paths_are_as_they_were),
        cmocka_unit_test(behind_the_last_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
