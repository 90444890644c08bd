/* See sweeper_fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>
#include <cmocka.h>

#include "support/sweeper_fixture.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metric.h"
#include "support/kafka.h"
#include "support/pg.h"

#define SEEN_MAX 64

struct test_pg *pg;
struct ec_loop *loop;
struct test_kafka *kafka;
static struct ec_bus *test_bus; /* the test's own */
char folder[] = "/tmp/enclii-sweeper.XXXXXX";

struct instance one, two;
const char *test_repo = REPO, *test_dir = "shop", *test_hook_id = "", *test_url;
const char *test_repo_id = "42", *test_renamed_from = "";
struct ec_githost_settings test_githost = {
    .hosts_file = "", .github_app_id = "", .github_app_key_file = "", .github_api_url = ""};

/* ---- what was published ---- */

struct seen pushes[SEEN_MAX];
int push_count;
char compared_id[64], compared_paths[256], compared_detail[256], compared_head[65];
bool compared_complete;
int compared_count;
char moved_from[128], moved_to[128], moved_url[200], moved_id[64];
int moved_count;

static void join(char *to, size_t size, char *const *list, size_t count)
{
    to[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        size_t at = strlen(to);
        snprintf(to + at, size - at, "%s%s", i ? " " : "", list[i]);
    }
}

static struct ec_err on_push(void *state, struct ec_event *ev)
{
    const Enclii__V1__PushReceived *push = ec_event_body(ev);
    (void)state;
    if (push->recovered && push_count < SEEN_MAX) {
        struct seen *seen = &pushes[push_count++];
        memset(seen, 0, sizeof *seen);
        snprintf(seen->id, sizeof seen->id, "%s", push->delivery_id);
        snprintf(seen->ce_id, sizeof seen->ce_id, "%s", ec_event_id(ev));
        snprintf(seen->key, sizeof seen->key, "%s", ec_event_key(ev));
        snprintf(seen->ref, sizeof seen->ref, "%s", push->ref);
        snprintf(seen->before, sizeof seen->before, "%s", push->before);
        snprintf(seen->after, sizeof seen->after, "%s", push->after);
        snprintf(seen->message, sizeof seen->message, "%s", push->message);
        seen->head = push->head != NULL;
        if (push->head) {
            snprintf(seen->author, sizeof seen->author, "%s", push->head->author_name);
        }
        join(seen->paths, sizeof seen->paths, push->changed_paths, push->n_changed_paths);
        seen->created = push->created;
        seen->deleted = push->deleted;
        seen->forced = push->forced;
        seen->complete = push->changed_paths_complete;
    }
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static struct ec_err on_compared(void *state, struct ec_event *ev)
{
    const Enclii__V1__PushCompared *fact = ec_event_body(ev);
    (void)state;
    snprintf(compared_id, sizeof compared_id, "%s", fact->delivery_id);
    snprintf(compared_detail, sizeof compared_detail, "%s", fact->detail);
    snprintf(compared_head, sizeof compared_head, "%s", fact->head_sha);
    join(compared_paths, sizeof compared_paths, fact->changed_paths, fact->n_changed_paths);
    compared_complete = fact->complete;
    compared_count++;
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static struct ec_err on_moved(void *state, struct ec_event *ev)
{
    const Enclii__V1__RepositoryChanged *fact = ec_event_body(ev);
    (void)state;
    snprintf(moved_from, sizeof moved_from, "%s", fact->delivery->repo_key);
    snprintf(moved_to, sizeof moved_to, "%s", fact->new_repo_key);
    snprintf(moved_url, sizeof moved_url, "%s", fact->new_clone_url);
    snprintf(moved_id, sizeof moved_id, "%s", ec_event_id(ev));
    moved_count++;
    ec_event_finish(ev, ec_ok());
    return ec_ok();
}

static void listen_in(void)
{
    static const char *const topics[] = {EC_TOPIC_INTAKE, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.push.received.v1", &enclii__v1__push_received__descriptor, on_push},
        {"dev.enclii.repository.changed.v1", &enclii__v1__repository_changed__descriptor, on_moved},
        {"dev.enclii.push.compared.v1", &enclii__v1__push_compared__descriptor, on_compared},
    };
    const struct ec_consume_spec spec = {
        .group = "test", .topics = topics, .routes = routes, .route_count = EC_LEN(routes)};
    assert_false(ec_failed(ec_bus_consume(test_bus, &spec, NULL)));
}

/* ---- git ---- */

void sh(const char *format, ...)
{
    char command[2048];
    int at = snprintf(command, sizeof command, "set -e; exec 2>>%s/git.out >&2; cd %s; ", folder,
                      folder);
    va_list args;
    va_start(args, format);
    vsnprintf(command + at, sizeof command - (size_t)at, format, args);
    va_end(args);
    if (system(command) != 0) { /* lint: blocks, a test */
        fail_msg("failed: %s", command);
    }
}

const char *text_of(const char *format, ...)
{
    static char texts[4][512];
    static int turn;
    char *text = texts[turn++ % 4];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof texts[0], format, args);
    va_end(args);
    return text;
}

const char *git_says(const char *args)
{
    static char line[4][256];
    static int turn;
    char command[600], *text = line[turn++ % 4];
    snprintf(command, sizeof command, "git -C %s/work %s", folder, args);
    FILE *pipe = popen(command, "r"); /* lint: blocks, a test */
    assert_non_null(pipe);
    assert_non_null(fgets(text, 256, pipe));
    pclose(pipe);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

const char *head(void)
{
    return git_says("rev-parse HEAD");
}

void commit(const char *file, const char *message)
{
    sh("cd work; mkdir -p \"$(dirname '%s')\"; echo '%s' >> '%s'; git add -A; git commit -qm '%s'",
       file, message, file, message);
}

static void make_repo(void)
{
    setenv("GIT_AUTHOR_NAME", "Ada", 1);
    setenv("GIT_AUTHOR_EMAIL", "ada@example.org", 1);
    setenv("GIT_COMMITTER_NAME", "Ada", 1);
    setenv("GIT_COMMITTER_EMAIL", "ada@example.org", 1);
    setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
    setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
    sh("git init -q --bare -b main shop.git; git -C shop.git config uploadpack.allowFilter true;"
       "git clone -q shop.git work");
    commit("first", "first");
    sh("cd work; git push -q origin HEAD:main");
}

/* ---- the service ---- */

static void on_failed(void *arg, struct ec_err err)
{
    fprintf(stderr, "sweeper failed: %s\n", err.what);
    ((struct instance *)arg)->failed = true;
}

static void on_stopped(void *arg)
{
    ((struct instance *)arg)->stopped = true;
}

static void set_true(void *flag)
{
    *(bool *)flag = true;
}

static bool is_ready(void *sw)
{
    return !sweeper_unready(sw);
}

void up(struct instance *in, const char *name)
{
    struct ec_store_spec spec = {.url = test_pg_url(pg), .application_name = name};
    memset(in, 0, sizeof *in);
    in->bus = test_kafka_bus(kafka, "sweeper");
    assert_false(ec_failed(ec_store_open(loop, &spec, &in->store)));
    assert_false(ec_failed(ec_fetcher_open(loop, "test", 4, &in->fetcher)));
    in->sw = (struct sweeper){
        .settings = {.interval_ms = INTERVAL_MS,
                     .grace_ms = GRACE_MS,
                     .parallel = 2,
                     .deliveries_interval_ms = 200,
                     .lease_ms = 60000,
                     .work_dir = ec_format("%s/%s", folder, name),
                     .git_protocols = "file:http",
                     .fetch_max_bytes = 1 << 24,
                     .githost = test_githost},
        .loop = loop,
        .bus = in->bus,
        .store = in->store,
        .owner = {in, on_failed, on_stopped},
    };
    assert_false(
        ec_failed(ec_githosts_open(loop, in->fetcher, &in->sw.settings.githost, &in->sw.hosts)));
    assert_false(ec_failed(sweeper_start(&in->sw)));
    /* A test asks the tables itself, and may not ask before they are there. */
    assert_true(test_run_until(loop, 15000, is_ready, &in->sw));
}

void down(struct instance *in)
{
    bool closed = false;
    sweeper_stop(&in->sw);
    assert_true(test_run_until(loop, 8000, test_is_true, &in->stopped));
    test_kafka_close_bus(kafka, in->bus);
    ec_store_close(in->store, set_true, &closed);
    assert_true(test_run_until(loop, 5000, test_is_true, &closed));
    ec_fetcher_close(in->fetcher);
    sweeper_done(&in->sw);
    free((char *)(uintptr_t)in->sw.settings.work_dir);
    assert_false(in->failed);
}

void bind_repo(bool bound)
{
    char url[200], key[64], hook[64], name[] = "acme/shop", id[32], from[64];
    snprintf(id, sizeof id, "%s", test_repo_id);
    snprintf(from, sizeof from, "%s", test_renamed_from);
    snprintf(key, sizeof key, "%s", test_repo);
    snprintf(hook, sizeof hook, "%s", test_hook_id);
    if (test_url) {
        snprintf(url, sizeof url, "%s", test_url);
    } else {
        snprintf(url, sizeof url, "file://%s/%s.git", folder, test_dir);
    }
    Enclii__V1__RepoBound fact = ENCLII__V1__REPO_BOUND__INIT;
    fact.repo_key = key;
    fact.clone_url = url;
    fact.full_name = name;
    fact.host_repo_id = id;
    fact.hook_id = hook;
    fact.renamed_from = from;
    test_kafka_publish(kafka, test_bus,
                       &(struct ec_message){.topic = EC_TOPIC_REPOS,
                                            .key = test_repo,
                                            .id = ec_id_new().text,
                                            .type = "dev.enclii.repo.bound.v1",
                                            .body = bound ? &fact.base : NULL});
}

/* As the webhook would tell it. */
void tell(const char *id, const char *ref, const char *before, const char *after, bool complete)
{
    char texts[5][128];
    const char *values[] = {id, ref, before, after, test_repo};
    for (size_t i = 0; i < EC_LEN(values); i++) {
        snprintf(texts[i], sizeof texts[i], "%s", values[i]);
    }
    Enclii__V1__PushReceived push = ENCLII__V1__PUSH_RECEIVED__INIT;
    push.delivery_id = texts[0];
    push.ref = texts[1];
    push.before = texts[2];
    push.after = texts[3];
    push.repo_key = texts[4];
    push.changed_paths_complete = complete;
    test_kafka_publish(kafka, test_bus,
                       &(struct ec_message){.topic = EC_TOPIC_INTAKE,
                                            .key = test_repo,
                                            .id = ec_id_derive(id, "push").text,
                                            .type = "dev.enclii.push.received.v1",
                                            .body = &push.base});
}

void tell_wanted(const char *id, const char *head_ref, const char *head_sha, const char *base_ref)
{
    char texts[5][160];
    const char *values[] = {id, head_ref, head_sha, base_ref, test_repo};
    for (size_t i = 0; i < EC_LEN(values); i++) {
        snprintf(texts[i], sizeof texts[i], "%s", values[i]);
    }
    Enclii__V1__PathsWanted wanted = ENCLII__V1__PATHS_WANTED__INIT;
    wanted.delivery_id = texts[0];
    wanted.head_ref = texts[1];
    wanted.head_sha = texts[2];
    wanted.base_ref = texts[3];
    wanted.repo_key = texts[4];
    test_kafka_publish(kafka, test_bus,
                       &(struct ec_message){.topic = EC_TOPIC_INTAKE,
                                            .key = test_repo,
                                            .id = ec_id_derive(id, "wanted").text,
                                            .type = "dev.enclii.paths.wanted.v1",
                                            .body = &wanted.base});
}

struct wait {
    const char *sql, *want;
};

static bool sql_says(void *arg)
{
    const struct wait *wait = arg;
    return strcmp(test_pg_value(pg, wait->sql), wait->want) == 0;
}

void wait_for(const char *sql, const char *want)
{
    struct wait wait = {sql, want};
    if (!test_run_until(loop, 15000, sql_says, &wait)) {
        fail_msg("%s: %s instead of %s", sql, test_pg_value(pg, sql), want);
    }
}

bool pushes_reached(void *arg)
{
    return push_count >= *(const int *)arg;
}

static int pace = 1;

void set_pace(int times)
{
    pace = times;
    one.sw.settings.interval_ms = times * INTERVAL_MS;
    /* Half of it: the test's own programs may take long on a busy machine. */
    one.sw.settings.grace_ms = times > 1 ? times * INTERVAL_MS / 2 : GRACE_MS;
}

void run_for(int ms)
{
    test_run_for(loop, ms);
}

/* Within one interval (and what this machine needs for its processes). */
struct seen *recovered(int already)
{
    int want = already + 1;
    int64_t began = ec_mono_ms();
    assert_true(test_run_until(loop, pace * INTERVAL_MS + 2500, pushes_reached, &want));
    print_message("recovered after %d ms\n", (int)(ec_mono_ms() - began));
    return &pushes[already];
}

/* And not twice, and nothing else. */
void nothing_more(int count)
{
    run_for((int)(one.sw.settings.interval_ms + one.sw.settings.grace_ms));
    assert_int_equal(push_count, count);
}

void fixture_bound(void **state)
{
    (void)state;
    bind_repo(true);
    wait_for("select count(*) from sweeper.repo where baselined", "1");
    commit("first.c", "a parent");
    sh("cd work; git push -q origin HEAD:main");
    recovered(0);
}

int fixture_close(void **state)
{
    (void)state;
    down(&one);
    test_kafka_close_bus(kafka, test_bus);
    test_kafka_stop(kafka);
    ec_loop_free(loop);
    test_pg_free(pg);
    ec_file_remove_tree(folder);
    return 0;
}

bool fixture_open(void)
{
    ec_log_setup("test", getenv("TEST_LOG") ? EC_LOG_DEBUG : EC_LOG_ERROR);
    pg = test_pg_start();
    if (!pg || !mkdtemp(folder)) {
        print_message("SKIP: PostgreSQL is not installed\n");
        return false;
    }
    make_repo();
    loop = loop ? loop : ec_loop_new();
    kafka =
        test_kafka_start(loop, "enclii.intake:3", "enclii.repos:1", "enclii.intake.sweeper.dead:1",
                         "enclii.repos.sweeper.dead:1", "enclii.intake.test.dead:1", NULL);
    test_bus = test_kafka_bus(kafka, "test");
    listen_in();
    up(&one, "one");
    return true;
}
