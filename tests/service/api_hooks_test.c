/* Webhooks of repositories, the whole way: the api sets them up at the double of GitHub, the real
 * webhook and pipeline (processes of their own) take what it delivers, the ledger shows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/process.h"
#include "support/api_fixture.h"
#include "support/github_double.h"
#include "support/pipeline_process.h"
#include "support/port.h"
#include "trust/digest.h"

#define SEAL_KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define REPO "github.com/acme/shop"
#define SETUP "{\"repo\":\"" REPO "\"}"

static struct api_fixture fx;
static struct github_double *github;
static struct ec_secret *token;
static char folder[64], base[96], developer[80], stranger[80], viewer[80];
static pid_t pids[2];

/* ---- processes ---- */

static void start_programs(void)
{
    static char listen[64], log[128];
    snprintf(folder, sizeof(folder), "/tmp/enclii-test-hooks-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(listen, sizeof(listen), "127.0.0.1:%d", test_free_port());
    snprintf(base, sizeof(base), "http://%s", listen);
    const char *const env[] = {"ENCLII_KAFKA_BROKERS",
                               test_kafka_brokers(fx.kafka),
                               "ENCLII_KAFKA_FETCH_WAIT",
                               "10ms",
                               "ENCLII_LISTEN",
                               listen,
                               "ENCLII_ADMIN_LISTEN",
                               "127.0.0.1:0",
                               "ENCLII_SEAL_KEY",
                               SEAL_KEY,
                               "ENCLII_GITHUB_WEBHOOK_SECRET",
                               "the-common-secret",
                               NULL};
    snprintf(log, sizeof(log), "%s/webhook.log", folder);
    pids[0] = test_program_start("enclii-webhook", env, log);
    snprintf(log, sizeof(log), "%s/pipeline.log", folder);
    pids[1] = test_pipeline_start(fx.pg, fx.kafka, log);
}

static void end_programs(void)
{
    char command[100];
    for (size_t i = 0; i < EC_LEN(pids); i++) {
        if (pids[i] > 0) {
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
    }
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* ---- looking ---- */

static bool is_so(void *sql)
{
    return strcmp(test_pg_value(fx.pg, sql), "t") == 0;
}

static void becomes_true(char *sql)
{
    if (!test_run_until(fx.loop, 15000, is_so, sql)) {
        fail_msg("never: %s", sql);
    }
}

static int post(const char *path, const char *who, const char *body)
{
    return api_ask(&fx, "POST", path, who, body);
}

static const json_t *hook_there(size_t at)
{
    return json_array_get(github_double_hooks(github, "acme/shop"), at);
}

static struct {
    bool done;
    int status;
} got;

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    (void)arg;
    got.status = ec_failed(err) ? 0 : result->status;
    got.done = true;
}

/* A ping, signed so. Gives the status. */
static int deliver(const char *secret)
{
    static const char body[] =
        "{\"zen\":\"x\",\"repository\":{\"full_name\":\"acme/shop\",\"clone_url\":"
        "\"https://github.com/acme/shop.git\"}}";
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(1 << 16);
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(ec_span_of(secret));
    struct ec_id id = ec_id_new();
    const char *signature =
        ec_arena_format(arena, "sha256=%s", ec_hmac_sha256_hex(arena, key, ec_span_of(body)));
    const struct ec_header headers[] = {{"Content-Type", "application/json"},
                                        {"X-GitHub-Event", "ping"},
                                        {"X-GitHub-Delivery", id.text},
                                        {"X-Hub-Signature-256", signature}};
    struct ec_fetch_spec spec = {.method = "POST",
                                 .url = ec_arena_format(arena, "%s/v1/webhooks/github", base),
                                 .headers = headers,
                                 .header_count = EC_LEN(headers),
                                 .body = ec_span_of(body)};
    got.done = false;
    assert_false(ec_failed(ec_fetch_start(fx.fetcher, &spec, on_answer, NULL, NULL)));
    assert_true(test_run_until(fx.loop, 10000, test_is_true, &got.done));
    if (got.status != 200) {
        usleep(20000); /* whoever asks again waits for something to travel */
    }
    return got.status;
}

static void no_fault(void)
{
    if (github_double_fault(github)) {
        fail_msg("GitHub would not have taken: %s", github_double_fault(github));
    }
}

/* ---- tests ---- */

static void who_may(void **state)
{
    (void)state;
    assert_int_equal(post("/v1/hooks/setup", viewer, SETUP), 403);
    assert_int_equal(post("/v1/hooks/setup", stranger, SETUP), 404);
    assert_int_equal(
        post("/v1/hooks/secret", stranger, "{\"repo\":\"" REPO "\",\"action\":\"rotate\"}"), 404);
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks?repo=" REPO, stranger, NULL), 404);
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks", stranger, NULL), 200);
    assert_int_equal(ec_json_int(fx.json, "count", -1), 0);
    assert_int_equal(post("/v1/hooks/setup", ADMIN_TOKEN, "{\"repo\":\"github.com/a/none\"}"), 404);
    assert_int_equal(post("/v1/hooks/setup", ADMIN_TOKEN, "{\"repo\":\"shop\"}"), 400);
    assert_int_equal(post("/v1/hooks/setup", ADMIN_TOKEN, "{}"), 400);
    assert_int_equal(post("/v1/hooks/setup", developer,
                          "{\"repo\":\"" REPO "\",\"url\":\"https://evil.example\"}"),
                     403);
    assert_int_equal(post("/v1/hooks/test", developer, SETUP), 409);
    assert_string_equal(api_text(&fx, "code"), "no_own_secret");
    fx.api.settings.webhook_url = "";
    assert_int_equal(post("/v1/hooks/setup", developer, SETUP), 409);
    assert_string_equal(api_text(&fx, "code"), "webhook_url_not_set");
    fx.api.settings.webhook_url = base;
    assert_string_equal(test_pg_value(fx.pg,
                                      "select count(*) from enclii.audit_log where action like "
                                      "'repository.%'"),
                        "0");
}

/* What a host refuses leaves no secret behind that nobody there knows. */
static void a_refusal_changes_nothing(void **state)
{
    (void)state;
    github_double_revoke(github);
    assert_int_equal(post("/v1/hooks/setup", developer, SETUP), 409);
    assert_string_equal(api_text(&fx, "code"), "host_refused");
    assert_non_null(strstr(api_text(&fx, "detail"), "Bad credentials; check the token"));
    assert_string_equal(test_pg_value(fx.pg, "select count(*) from enclii.repo"), "0");
    github_double_token(github, "ghp_test");
    assert_int_equal(deliver("the-common-secret"), 200);
    github_double_refuse(github, "POST"); /* it may read, but not make one */
    assert_int_equal(post("/v1/hooks/setup", developer, SETUP), 409);
    github_double_refuse(github, NULL);
    int status = 401;
    for (int i = 0; i < 50 && status == 401; i++) {
        status = deliver("the-common-secret");
    }
    assert_int_equal(status, 200);
    assert_string_equal(test_pg_value(fx.pg, "select sealed_secret = '' from enclii.repo"), "t");
    test_pg_sql(fx.pg, "truncate enclii.audit_log");
}

static void a_webhook_is_set_up(void **state)
{
    (void)state;
    assert_int_equal(post("/v1/hooks/setup", developer, SETUP), 200);
    assert_string_equal(api_text(&fx, "done"), "created");
    assert_string_equal(api_text(&fx, "note"), "");
    assert_int_equal(ec_json_int(fx.json, "test_status", 0), 200);
    assert_string_equal(api_text(&fx, "manual.secret"), ""); /* nobody has to see it */
    assert_null(strstr(fx.text, ec_json_text(hook_there(0), "config.secret")));
    assert_int_equal(json_array_size(github_double_hooks(github, "acme/shop")), 1);
    assert_non_null(strstr(ec_json_text(hook_there(0), "config.url"), "/v1/webhooks/github"));
    assert_int_equal(strlen(ec_json_text(hook_there(0), "config.secret")), 64);
    /* GitHub's own ping of the new webhook, the one asked for, and our test. */
    becomes_true("select count(*) filter (where id like '00000000-0000-4000-8000-%') = 2 and "
                 "count(*) filter (where id like 'enclii-test-%') >= 1 from enclii.delivery where "
                 "repo_key = '" REPO "' and event = 'ping' and state = 'IGNORED' and reason = "
                 "'ping'");
    assert_int_equal(deliver("the-common-secret"), 401);
    assert_string_equal(
        test_pg_value(fx.pg, "select string_agg(action, ' ' order by at, id) from enclii.audit_log "
                             "where resource_type = 'repository'"),
        "repository.secret_rotate repository.hook_setup");
    assert_string_equal(test_pg_value(fx.pg, "select hook_url like '%/v1/webhooks/github' and "
                                             "hook_id <> '' from enclii.repo"),
                        "t");
    no_fault();
}

static void a_rotation_accepts_both(void **state)
{
    (void)state;
    char old[100], new[100];
    snprintf(old, sizeof(old), "%s", ec_json_text(hook_there(0), "config.secret"));
    assert_int_equal(post("/v1/hooks/setup", developer, "{\"repo\":\"" REPO "\",\"rotate\":true}"),
                     200);
    assert_string_equal(api_text(&fx, "done"), "repaired");
    snprintf(new, sizeof(new), "%s", ec_json_text(hook_there(0), "config.secret"));
    assert_string_not_equal(old, new);
    assert_int_equal(deliver(new), 200);
    assert_int_equal(deliver(old), 200);
    assert_int_equal(post("/v1/hooks/secret", developer,
                          "{\"repo\":\"" REPO "\",\"action\":\"forget_previous\"}"),
                     200);
    becomes_true("select count(*) = 0 from enclii.outbox");
    int status = 200;
    for (int i = 0; i < 50 && status == 200; i++) { /* until webhook has read it */
        status = deliver(old);
    }
    assert_int_equal(status, 401);
    assert_int_equal(deliver(new), 200);
    no_fault();
}

/* Twice, so that a secret that the host has could be pushed out. */
static void a_rotation_that_the_host_refuses_changes_nothing(void **state)
{
    (void)state;
    char there[100];
    snprintf(there, sizeof(there), "%s", ec_json_text(hook_there(0), "config.secret"));
    github_double_refuse(github, "PATCH");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            post("/v1/hooks/setup", developer, "{\"repo\":\"" REPO "\",\"rotate\":true}"), 409);
        assert_non_null(strstr(api_text(&fx, "detail"), "the token lacks a permission"));
    }
    github_double_refuse(github, NULL);
    becomes_true("select count(*) = 0 from enclii.outbox");
    int status = 401;
    for (int i = 0; i < 50 && status == 401; i++) {
        status = deliver(there);
    }
    assert_int_equal(status, 200);
}

/* By its real name too, and without the host's API: the new secret is shown, once. */
static void a_secret_is_rotated_by_hand(void **state)
{
    (void)state;
    char old[100], new[100];
    snprintf(old, sizeof(old), "%s", ec_json_text(hook_there(0), "config.secret"));
    assert_int_equal(post("/v1/hooks/secret", developer,
                          "{\"repo\":\"git@github.com:acme/shop.git\",\"action\":\"rotate\"}"),
                     200);
    snprintf(new, sizeof(new), "%s", api_text(&fx, "secret"));
    assert_int_equal(strlen(new), 64);
    int status = 401;
    for (int i = 0; i < 50 && status == 401; i++) {
        status = deliver(new);
    }
    assert_int_equal(status, 200);
    assert_int_equal(deliver(old), 200);
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks?repo=" REPO, viewer, NULL), 200);
    assert_null(strstr(fx.text, new));
    assert_true(ec_json_bool(fx.json, "secret.previous", false));
}

static void a_broken_webhook_is_repaired(void **state)
{
    (void)state;
    json_t *there = json_array_get(github_double_hooks(github, "acme/shop"), 0);
    json_object_set_new(there, "active", json_false());
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks?repo=" REPO, viewer, NULL), 200);
    assert_string_equal(api_text(&fx, "hook.fault"),
                        "it is switched off: the host delivers nothing");
    json_object_set_new(json_object_get(there, "config"), "url",
                        json_string("https://old.example/v1/webhooks/github"));
    assert_int_equal(post("/v1/hooks/setup", developer, SETUP), 200);
    assert_string_equal(api_text(&fx, "done"), "repaired");
    assert_string_equal(api_text(&fx, "fault"), "it delivered to another address");
    assert_int_equal(json_array_size(github_double_hooks(github, "acme/shop")), 1);
    assert_true(json_is_true(json_object_get(hook_there(0), "active")));
    no_fault();
}

static void refused(const char *delivery, const char *reason, int minutes_ago)
{
    char sql[400];
    snprintf(sql, sizeof(sql),
             "insert into enclii.refused_delivery (id, delivery_id, host, repo_key, status, reason,"
             " received_at) values (gen_random_uuid(), '%s', 'github', '" REPO "', 401, '%s',"
             " now() - interval '%d minutes')",
             delivery, reason, minutes_ago);
    test_pg_sql(fx.pg, sql);
}

static void what_the_host_sent_is_beside_what_came_of_it(void **state)
{
    (void)state;
    int64_t hook = ec_json_int(hook_there(0), "id", 0);
    struct github_double_delivery lost = {.guid = "77777777-0000-4000-8000-000000000001",
                                          .status_code = 0};
    char guid[128];
    snprintf(guid, sizeof(guid), "%s",
             test_pg_value(fx.pg, "select id from enclii.delivery where id like '00000000-%' "
                                  "order by received_at limit 1"));
    struct github_double_delivery came = {.guid = guid, .event = "ping", .status_code = 200};
    github_double_deliver(github, "acme/shop", hook, &came);
    github_double_deliver(github, "acme/shop", hook, &lost);
    refused(guid, "bad_signature", 9); /* by a wrong secret; then it came again */
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks?repo=" REPO, viewer, NULL), 200);
    assert_string_equal(api_text(&fx, "hook.fault"), "");
    assert_string_equal(api_text(&fx, "host_deliveries.0.status"), "failed to connect");
    assert_string_equal(api_text(&fx, "host_deliveries.0.here.state"), "");
    assert_string_equal(api_text(&fx, "host_deliveries.1.here.state"), "IGNORED");
    assert_string_equal(api_text(&fx, "host_deliveries.1.here.reason"), "ping");
    refused(lost.guid, "unknown_repo", 1);
    refused(lost.guid, "bad_signature", 2);
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks?repo=" REPO, viewer, NULL), 200);
    assert_string_equal(api_text(&fx, "host_deliveries.0.here.reason"), "unknown_repo");
    test_pg_sql(fx.pg, "truncate enclii.refused_delivery");
    assert_int_equal(api_ask(&fx, "GET", "/v1/hooks", viewer, NULL), 200);
    assert_int_equal(ec_json_int(fx.json, "count", 0), 1);
    assert_true(ec_json_bool(fx.json, "hooks.0.own_secret", false));
    no_fault();
}

static void a_test_travels_the_whole_way(void **state)
{
    (void)state;
    char sql[200];
    assert_int_equal(post("/v1/hooks/test", developer, SETUP), 200);
    assert_string_equal(api_text(&fx, "detail"), "");
    assert_int_equal(ec_json_int(fx.json, "status", 0), 200);
    snprintf(sql, sizeof(sql),
             "select exists (select from enclii.delivery where id = '%s' and reason = 'ping')",
             api_text(&fx, "delivery_id"));
    becomes_true(sql);
}

static void without_an_api_people_are_told_what_to_enter(void **state)
{
    (void)state;
    assert_int_equal(post("/v1/projects/shop/services", developer,
                          api_spec("other", "https://gitlab.com/acme/other.git")),
                     201);
    assert_int_equal(
        post("/v1/hooks/setup", developer, "{\"repo\":\"https://gitlab.com/acme/other\"}"), 200);
    assert_string_equal(api_text(&fx, "done"), "manual");
    assert_string_equal(api_text(&fx, "manual.page"), "https://gitlab.com/acme/other/-/hooks");
    assert_non_null(strstr(api_text(&fx, "manual.url"), "/v1/webhooks/gitlab"));
    assert_string_equal(api_text(&fx, "manual.events.0"), "Push events");
    assert_int_equal(strlen(api_text(&fx, "manual.secret")), 64);
    assert_int_equal(ec_json_int(fx.json, "test_status", 0), 200);
    /* Again: the secret that was shown once is not shown again. */
    assert_int_equal(post("/v1/hooks/setup", developer, "{\"repo\":\"gitlab.com/acme/other\"}"),
                     200);
    assert_string_equal(api_text(&fx, "manual.secret"), "");
    assert_int_equal(post("/v1/hooks/secret", developer,
                          "{\"repo\":\"gitlab.com/acme/other\",\"action\":\"clear\"}"),
                     200);
    assert_string_equal(
        test_pg_value(fx.pg, "select sealed_secret = '' and sealed_previous_secret = '' from "
                             "enclii.repo where repo_key = 'gitlab.com/acme/other'"),
        "t");
}

/* ---- the command ---- */

static struct {
    bool over;
    int exit_code;
    char out[16384];
} cli;

static void on_line(void *arg, bool is_stderr, struct ec_span line)
{
    (void)arg;
    (void)is_stderr;
    size_t len = strlen(cli.out);
    snprintf(cli.out + len, sizeof(cli.out) - len, "%.*s\n", (int)line.len, line.ptr);
}

static void on_exit_of_cli(void *arg, const struct ec_process_result *result)
{
    (void)arg;
    cli.over = true;
    cli.exit_code = result->exit_code;
}

/* build/bin/enclii of this build, as a person with that token. Gives the exit status. */
static int run_cli(const char *who, const char *const *words)
{
    char self[512] = "", program[600], url[100], auth[120];
    const char *argv[12] = {program};
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    snprintf(program, sizeof(program), "%s/../../bin/enclii", dirname(self));
    snprintf(url, sizeof(url), "ENCLII_API_URL=%s", fx.base);
    snprintf(auth, sizeof(auth), "ENCLII_API_TOKEN=%s", who);
    for (size_t i = 0; words[i]; i++) {
        argv[i + 1] = words[i];
    }
    const char *const env[] = {"PATH=/usr/bin:/bin",
                               "HOME=/nonexistent",
                               "LANG=C.UTF-8",
                               "ASAN_OPTIONS=detect_leaks=0",
                               url,
                               auth,
                               NULL};
    struct ec_process_spec spec = {.argv = argv,
                                   .env = env,
                                   .cwd = folder,
                                   .deadline_ms = 30000,
                                   .on_line = on_line,
                                   .on_exit = on_exit_of_cli};
    struct ec_process *process = NULL;
    memset(&cli, 0, sizeof(cli));
    assert_false(ec_failed(ec_process_start(fx.loop, &spec, &process)));
    assert_true(test_run_until(fx.loop, 35000, test_is_true, &cli.over));
    return cli.exit_code;
}
#define CLI(status, who, ...)                                                                      \
    expect_cli(status, run_cli(who, (const char *const[]){__VA_ARGS__, NULL}))

static void expect_cli(int wanted, int status)
{
    if (status != wanted) {
        fail_msg("exit status %d, not %d:\n%s", status, wanted, cli.out);
    }
}

static void says(const char *text)
{
    if (!strstr(cli.out, text)) {
        fail_msg("\"%s\" is not in:\n%s", text, cli.out);
    }
}

static void the_command_says_what_came_of_it(void **state)
{
    (void)state;
    char line[200];
    CLI(0, developer, "hooks", "setup", REPO, "--rotate");
    says("secret     made; the one before stays accepted");
    says("our own delivery was answered with 200");
    says("repaired webhook");
    says("ping       IGNORED (ping)");
    assert_null(strstr(cli.out, ec_json_text(hook_there(0), "config.secret")));
    CLI(0, viewer, "hooks", "show", REPO);
    says("its own, changed");
    says("what the host sent last, and what came of it here");
    says("failed to connect");
    CLI(0, developer, "hooks", "test", REPO);
    says("answer     200 after");
    says("ledger     IGNORED (ping)");
    CLI(0, viewer, "hooks", "list");
    says(REPO);
    CLI(0, developer, "hooks", "secret", REPO, "--rotate");
    assert_non_null(strstr(cli.out, "The new secret of " REPO ", shown this once"));
    CLI(40, viewer, "hooks", "setup", REPO);
    CLI(1, developer, "hooks", "setup");
    says("here is no git work tree");
    CLI(0, developer, "hooks", "setup", "gitlab.com/acme/other");
    says("Enter at https://gitlab.com/acme/other/-/hooks");
    snprintf(line, sizeof(line), "%s/v1/webhooks/gitlab", base);
    says(line);
    says("Deliveries signed with the common secret are refused");
    no_fault();
}

static void a_wrong_secret_there_is_set_right(void **state)
{
    (void)state;
    json_t *there = json_array_get(github_double_hooks(github, "acme/shop"), 0);
    json_object_set_new(json_object_get(there, "config"), "secret",
                        json_string("somebody changed it there, by hand"));
    CLI(0, developer, "hooks", "setup", REPO);
    says("secret     its own");
    says("ping       IGNORED (ping)");
}

/* ---- set up ---- */

static int open_fixture(void **state)
{
    (void)state;
    struct ec_githost_settings settings = {0};
    start_programs();
    github = github_double_open(fx.loop);
    github_double_repo(github, "acme/shop");
    github_double_token(github, "ghp_test");
    token = ec_secret_new(EC_SPAN("ghp_test"));
    settings.github_token = token;
    settings.github_api_url = github_double_url(github);
    ec_githosts_close(EC_TAKE(fx.api.githosts));
    assert_false(ec_failed(ec_githosts_open(fx.loop, fx.fetcher, &settings, &fx.api.githosts)));
    fx.api.settings.webhook_url = base;
    assert_int_equal(post("/v1/projects", ADMIN_TOKEN, "{\"slug\":\"shop\",\"name\":\"Shop\"}"),
                     201);
    assert_int_equal(post("/v1/projects", ADMIN_TOKEN, "{\"slug\":\"far\",\"name\":\"Far\"}"), 201);
    assert_int_equal(post("/v1/projects/shop/services", ADMIN_TOKEN,
                          api_spec("app", "https://github.com/acme/shop.git")),
                     201);
    api_token(&fx, "developer", "shop", developer);
    api_token(&fx, "viewer", "shop", viewer);
    api_token(&fx, "developer", "far", stranger);
    becomes_true("select count(*) = 0 from enclii.outbox");
    int status = 0;
    for (int i = 0; i < 200 && status != 200; i++) { /* until webhook knows the repository */
        status = deliver("the-common-secret");
    }
    assert_int_equal(status, 200);
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    end_programs();
    github_double_close(github);
    api_fixture_close(&fx);
    ec_secret_free(token);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may),
        cmocka_unit_test(a_refusal_changes_nothing),
        cmocka_unit_test(a_webhook_is_set_up),
        cmocka_unit_test(a_rotation_accepts_both),
        cmocka_unit_test(a_rotation_that_the_host_refuses_changes_nothing),
        cmocka_unit_test(a_secret_is_rotated_by_hand),
        cmocka_unit_test(a_broken_webhook_is_repaired),
        cmocka_unit_test(what_the_host_sent_is_beside_what_came_of_it),
        cmocka_unit_test(a_test_travels_the_whole_way),
        cmocka_unit_test(without_an_api_people_are_told_what_to_enter),
        cmocka_unit_test(the_command_says_what_came_of_it),
        cmocka_unit_test(a_wrong_secret_there_is_set_right),
    };
    if (!api_fixture_open(&fx, "")) {
        return 0;
    }
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
