/* The pipeline and `sweeper` each keep the last push of a ref, one in memory of a batch and one in
 * a function of its schema: by the same rules, or a sweep would take for lost what the pipeline
 * has, or the other way round. Here both hear the same random pushes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "decide.h"
#include "support/pg.h"

#define HISTORIES 200
#define PUSHES 30
#define PUSHES_MANY 150 /* of every tenth history, of many commits: more gaps than are kept */
#define COMMITS 6       /* few, so that everything happens: back, forth, twice, out of order */
#define REPO "h/acme/shop"

extern const struct ec_migration sweeper_migrations[];
extern const size_t sweeper_migration_count;

static const struct rules rules = {.skip_markers = ""};

static void hear(struct world *world, struct ec_buf *script, const char *ref, int commits,
                 unsigned *seed)
{
    Enclii__V1__PushReceived *push = world_message(world, &enclii__v1__push_received__descriptor);
    push->repo_key = world_text(world, REPO);
    push->ref = world_text(world, ref);
    push->before = ec_arena_format(world->arena, "c%d", rand_r(seed) % commits);
    push->after = ec_arena_format(world->arena, "c%d", rand_r(seed) % commits);
    push->recovered = rand_r(seed) % 5 == 0;
    if (strcmp(push->before, push->after) == 0) {
        return; /* no push moves nothing */
    }
    decide_news(world, push);
    ec_buf_addf(script, "select sweeper.heard('" REPO "', '%s', '%s', '%s', %s);\n", ref,
                push->before, push->after, push->recovered ? "true" : "false");
}

static void one_history(struct test_pg *pg, struct world *world, unsigned seed)
{
    const char *ref = ec_arena_format(world->arena, "refs/heads/%u", seed);
    ec_cleanup(ec_buf_done) struct ec_buf script;
    ec_buf_init(&script, 1 << 20);
    bool many = seed % 10 == 0;
    for (int i = 0; i < (many ? PUSHES_MANY : PUSHES); i++) {
        hear(world, &script, ref, many ? 1000 : COMMITS, &seed);
    }
    ec_buf_addf(&script,
                "select sha || ' ' || gap_from || ' ' || gap_to from sweeper.ref where ref = '%s'",
                ref);
    ec_buf_add(&script, "", 1);
    const struct git_ref *row = world_ref(world, REPO, ref);
    assert_string_equal(
        test_pg_value(pg, script.ptr),
        ec_arena_format(world->arena, "%s %s %s", row->sha, row->gap_from, row->gap_to));
}

static void both_know_the_same(void **state)
{
    struct test_pg *pg = *state;
    if (!pg) {
        skip();
    }
    struct world *world = world_new(&rules, 1);
    test_pg_sql(pg, "insert into sweeper.repo (repo_key, clone_url) values ('" REPO "', '')");
    for (unsigned seed = 1; seed <= HISTORIES; seed++) {
        one_history(pg, world, seed);
    }
    world_free(world);
}

static int start_pg(void **state)
{
    struct test_pg *pg = test_pg_start();
    if (pg) {
        test_pg_migrate(pg, "sweeper", sweeper_migrations, sweeper_migration_count);
    }
    *state = pg;
    return 0;
}

static int stop_pg(void **state)
{
    test_pg_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_know_the_same),
    };
    return cmocka_run_group_tests(tests, start_pg, stop_pg);
}
