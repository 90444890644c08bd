/* Specs of every dialect to the message, defaults, and the faults: where, what, nearest name. The
 * whole documents are the fuzzer's first inputs too. */
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
#include "spec/spec.h"

static struct ec_arena *arena;
static struct ec_spec spec;

static int set_up(void **state)
{
    (void)state;
    arena = ec_arena_new(1 << 20); /* what spec.h asks for */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ec_arena_freep(&arena);
    return 0;
}

static const Enclii__V1__ServiceSpec *parse(const char *yaml)
{
    ec_arena_reset(arena);
    ec_spec_parse(arena, ec_span_of(yaml), &spec);
    return spec.service;
}

static char *read_sample(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "tests/fuzz/corpus/spec/%s", name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fail_msg("%s is missing: tests run in the root of the tree", path);
    }
    static char text[16384];
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void assert_no_faults(void)
{
    if (spec.fault_count > 0) {
        fail_msg("%s", ec_spec_faults_text(arena, &spec, "enclii.yaml"));
    }
}

/* A spec with these lines below `spec:` must have exactly this one fault. */
static void assert_fault(const char *lines, const char *expected)
{
    ec_cleanup(ec_buf_done) struct ec_buf yaml;
    ec_buf_init(&yaml, 1 << 16);
    ec_buf_addf(&yaml, "apiVersion: enclii.dev/v1\nkind: Service\nmetadata: {name: a}\nspec:\n%s\n",
                lines);
    parse(yaml.ptr);
    spec.warning_count = 0;
    assert_string_equal(ec_spec_faults_text(arena, &spec, "f"), expected);
}

static bool warned(const char *path)
{
    for (size_t i = 0; i < spec.warning_count; i++) {
        if (strcmp(spec.warnings[i].path, path) == 0) {
            return true;
        }
    }
    return false;
}

#define HEAD "apiVersion: enclii.dev/v1\nkind: Service\nmetadata: {name: a, project: p}\n"

static void defaults_are_those_of_the_contract(void **state)
{
    (void)state;
    const Enclii__V1__ServiceSpec *s = parse(HEAD "spec: {}\n");
    assert_no_faults();
    assert_int_equal(spec.warning_count, 0);
    assert_int_equal(spec.documents, 1);
    assert_string_equal(spec.name, "a");
    assert_string_equal(spec.project, "p");
    assert_string_equal(s->build->type, "auto");
    assert_string_equal(s->build->dockerfile, "Dockerfile");
    assert_string_equal(s->build->context, ".");
    assert_string_equal(s->build->target, "");
    assert_int_equal(s->build->memory_max_bytes, 2ll << 30);
    assert_int_equal(s->build->timeout_ms, 1800000);
    assert_int_equal(s->run->port, 8080);
    assert_int_equal(s->run->replicas, 1);
    assert_int_equal(s->run->memory_max_bytes, 512ll << 20);
    assert_int_equal(s->run->cpu_milli, 500);
    assert_string_equal(s->run->probe->path, "/");
    assert_int_equal(s->run->probe->initial_delay_ms, 0);
    assert_int_equal(s->run->probe->period_ms, 1000);
    assert_int_equal(s->run->probe->timeout_ms, 3000);
    assert_int_equal(s->run->probe->failures_max, 3);
    assert_int_equal(s->run->probe->deadline_ms, 60000);
    assert_string_equal(s->rollout->strategy, "canary");
    assert_int_equal(s->rollout->n_weights, 3);
    assert_int_equal(s->rollout->weights[0], 10);
    assert_int_equal(s->rollout->weights[1], 50);
    assert_int_equal(s->rollout->weights[2], 100);
    assert_int_equal(s->rollout->step_ms, 3000);
    assert_float_equal(s->rollout->error_rate_max, 0.05, 1e-9);
    assert_int_equal(s->n_routes, 0);
    assert_string_equal(s->branch, "main");
    assert_true(s->auto_deploy);
    assert_string_equal(s->environment, "production");
    assert_int_equal(s->n_watch_paths, 0);
    assert_string_equal(s->repo_url, "");
    assert_string_equal(s->pull_requests, "trusted");
    assert_false(s->wait_for_ci);
}

static void dialect_a(void **state)
{
    (void)state;
    const Enclii__V1__ServiceSpec *s = parse(read_sample("dialect_a.yaml"));
    assert_no_faults();
    assert_string_equal(s->build->type, "dockerfile");
    assert_string_equal(s->build->dockerfile, "docker/Dockerfile.prod");
    assert_string_equal(s->build->context, "apps/shop");
    assert_string_equal(s->build->target, "runtime");
    assert_int_equal(s->build->n_args, 1);
    assert_string_equal(s->build->args[0]->key, "VERSION");
    assert_string_equal(s->build->args[0]->value, "1.2");
    assert_string_equal(s->repo_url, "https://github.com/acme/shop.git");
    assert_string_equal(s->branch, "release");
    assert_true(s->auto_deploy);
    assert_string_equal(s->environment, "staging");
    assert_int_equal(s->run->port, 3000);
    assert_int_equal(s->run->replicas, 2);
    assert_string_equal(s->run->probe->path, "/healthz");
    assert_int_equal(s->run->n_command, 2);
    assert_string_equal(s->run->command[1], "--serve");
    assert_int_equal(s->run->memory_max_bytes, 1ll << 30);
    assert_int_equal(s->run->cpu_milli, 1500);
    assert_int_equal(s->run->n_env, 1); /* the secret stays unset */
    assert_string_equal(s->run->env[0]->key, "LOG_LEVEL");
    assert_int_equal(s->n_routes, 4);
    assert_string_equal(s->routes[0]->hostname, "shop.example.com");
    assert_true(s->routes[0]->tls);
    assert_string_equal(s->routes[1]->path, "/v1");
    assert_false(s->routes[1]->tls);
    assert_string_equal(s->routes[2]->hostname, "www.example.com");
    assert_true(s->routes[2]->tls);
    assert_false(s->routes[3]->tls);
    assert_int_equal(s->rollout->n_weights, 3);
    assert_int_equal(s->rollout->weights[1], 60);
    assert_int_equal(s->rollout->weights[2], 100); /* completed */
    assert_int_equal(s->rollout->step_ms, 300000);
    assert_float_equal(s->rollout->error_rate_max, 0.02, 1e-9);
    assert_int_equal(s->n_watch_paths, 2);
    assert_true(warned("spec.volumes"));
    assert_true(warned("spec.env[1].valueFrom"));
    assert_true(warned("spec.domains[0].tlsIssuer"));
}

static void dialect_b(void **state)
{
    (void)state;
    const Enclii__V1__ServiceSpec *s = parse(read_sample("dialect_b.yaml"));
    assert_no_faults();
    assert_string_equal(s->build->type, "auto");
    assert_true(warned("spec.build.builder"));
    assert_string_equal(s->repo_url, "https://github.com/acme/web");
    assert_string_equal(s->build->context, "apps/web");
    assert_int_equal(s->build->n_args, 1);
    assert_int_equal(s->run->port, 4200);
    assert_int_equal(s->run->replicas, 2);
    assert_string_equal(s->run->probe->path, "/ready");
    assert_int_equal(s->run->probe->initial_delay_ms, 5000);
    assert_int_equal(s->run->probe->period_ms, 10000);
    assert_int_equal(s->run->probe->timeout_ms, 4000);
    assert_int_equal(s->run->probe->failures_max, 2);
    assert_int_equal(s->run->n_env, 2);
    assert_string_equal(s->run->env[1]->key, "EMPTY");
    assert_string_equal(s->run->env[1]->value, "");
    assert_int_equal(s->n_routes, 1);
    assert_string_equal(s->rollout->strategy, "rolling");
    assert_int_equal(s->rollout->n_weights, 1);
    assert_true(warned("spec.slo"));
    assert_true(warned("spec.runtime.healthCheck.liveness"));
    assert_false(warned("metadata.labels"));
}

static void dialect_c_among_other_documents(void **state)
{
    (void)state;
    const char *yaml = read_sample("dialect_c.yaml");
    const Enclii__V1__ServiceSpec *s = parse(yaml);
    assert_no_faults();
    assert_int_equal(spec.documents, 2);
    assert_string_equal(spec.name, "api");
    assert_string_equal(spec.project, "");
    assert_string_equal(s->repo_url, "https://github.com/acme/api");
    assert_string_equal(s->branch, "develop");
    assert_string_equal(s->build->context, "services/api");
    assert_false(s->auto_deploy); /* the nearer of two places */
    assert_string_equal(s->pull_requests, "off");
    assert_true(s->wait_for_ci);
    assert_int_equal(s->build->n_args, 1);
    assert_int_equal(s->run->port, 8000);
    assert_int_equal(s->run->replicas, 3);
    assert_string_equal(s->run->probe->path, "/health");
    assert_int_equal(s->run->cpu_milli, 250);
    assert_string_equal(s->rollout->strategy, "rolling");
    ec_spec_parse_at(arena, ec_span_of(yaml), 1, &spec);
    assert_no_faults();
    assert_string_equal(spec.name, "second");
    ec_spec_parse_at(arena, ec_span_of(yaml), 2, &spec);
    assert_int_equal(spec.fault_count, 1);
    assert_int_equal(spec.documents, 2);
}

static void faults_have_position_path_and_hint(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"  runtime:\n    prot: 80",
         "f:6:5: spec.runtime.prot is no key of a service spec (did you mean port?)\n"},
        {"  runtime:\n    healthcheck: /",
         "f:6:5: spec.runtime.healthcheck is no key of a service spec (did you mean "
         "healthCheck?)\n"},
        {"  somethingElse: 1", "f:5:3: spec.somethingElse is no key of a service spec\n"},
        {"  runtime: {port: 99999}", "f:5:19: spec.runtime.port must be 1..65535, is 99999\n"},
        {"  runtime: {port: 0}", "f:5:19: spec.runtime.port must be 1..65535, is 0\n"},
        {"  runtime: {port: \"80\"}",
         "f:5:19: spec.runtime.port must be a whole number, is \"80\" (remove the quotes)\n"},
        {"  runtime: {port: eighty}",
         "f:5:19: spec.runtime.port must be a whole number, is \"eighty\"\n"},
        {"  runtime: {port: [80]}",
         "f:5:19: spec.runtime.port must be a whole number, is a list\n"},
        {"  runtime: {replicas: 101}", "f:5:23: spec.runtime.replicas must be 0..100, is 101\n"},
        {"  runtime: {replicas: -1}", "f:5:23: spec.runtime.replicas must be 0..100, is -1\n"},
        {"  runtime: {replicas: {min: 1, maks: 3}}",
         "f:5:32: spec.runtime.replicas.maks is no key of a service spec (did you mean max?)\n"},
        {"  runtime: fast", "f:5:12: spec.runtime must be a map, is \"fast\"\n"},
        {"  runtime: {command: [a, {b: c}]}", "f:5:26: spec.runtime.command[1] must be a text\n"},
        {"  runtime: {healthCheck: health}",
         "f:5:26: spec.runtime.healthCheck must be a path that begins with /, is \"health\"\n"},
        {"  runtime: {resources: {limits: {memory: lots}}}",
         "f:5:42: spec.runtime.resources.limits.memory must be an amount of memory from 4Mi to "
         "1Ti, as 512Mi, is \"lots\"\n"},
        {"  runtime: {resources: {limits: {cpu: 1m}}}",
         "f:5:39: spec.runtime.resources.limits.cpu must be a share of processors from 10m to "
         "256, as 500m, is \"1m\"\n"},
        {"  autoDeploy: yes", "f:5:15: spec.autoDeploy must be true or false or a map, is "
                              "\"yes\"\n"},
        {"  build: {type: magic}",
         "f:5:17: spec.build.type must be auto or dockerfile, is \"magic\"\n"},
        {"  build: {type: image}", "f:5:17: spec.build.type ready images are not deployed by this "
                                   "version: give a Dockerfile\n"},
        {"  build: {context: ../other}",
         "f:5:20: spec.build.context must be a path inside the repository, without a leading / "
         "and without .., is \"../other\"\n"},
        {"  build: {timeout: soon}", "f:5:20: spec.build.timeout must be a time from 1s to 24h, as "
                                     "30m, is \"soon\"\n"},
        {"  env: [{name: 1A, value: x}]",
         "f:5:16: spec.env[0] the name \"1A\" must be letters, digits and _, not beginning with a "
         "digit\n"},
        {"  env: [{name: A, value: x}, {name: A, value: y}]",
         "f:5:37: spec.env[1] the name A is used twice\n"},
        {"  env: [{value: x}]", "f:5:9: spec.env[0] needs a name\n"},
        {"  env: [A]", "f:5:9: spec.env[0] must be a map\n"},
        {"  env: {A: [x]}", "f:5:12: spec.env.A must be a text, is a list\n"},
        {"  env: {A: 1, A: 2}", "f:5:15: A is written twice: first in line 5\n"},
        {"  domains: [{domain: \"http://x\", tls: true}]",
         "f:5:22: spec.domains[0] must be a host name, is \"http://x\" (write names in other "
         "scripts in their xn-- form, without scheme and port)\n"},
        {"  domains: [{tls: true}]", "f:5:13: spec.domains[0] needs a host name\n"},
        {"  routes: [{host: a.b, path: x}]",
         "f:5:12: spec.routes[0] the path must begin with / and have no spaces, is \"x\"\n"},
        {"  routes: [{host: a.b}, {host: A.b, path: /}]",
         "f:5:32: spec.routes[1] a.b/ is routed twice\n"},
        {"  deployment: {strategy: yolo}",
         "f:5:26: spec.deployment.strategy must be canary, rolling or bluegreen, is \"yolo\"\n"},
        {"  deployment: {canary: {steps: [{weight: 50}, {weight: 20}]}}",
         "f:5:56: spec.deployment.canary.steps[1] the weight 20 must be larger than that of the "
         "step before\n"},
        {"  deployment: {canary: {steps: [{pause: 5m}]}}",
         "f:5:33: spec.deployment.canary.steps[0] needs a weight from 1 to 100\n"},
        {"  build: {source: {git: {repository: \"file:///etc\"}}}",
         "f:5:38: spec.build.source.git.repository must be a clone URL, as "
         "https://github.com/acme/shop, is \"file:///etc\"\n"},
        {"  build: {source: {git: {branch: \"a b\"}}}",
         "f:5:34: spec.build.source.git.branch must be a branch name, is \"a b\"\n"},
        {"  autoDeploy: {environment: Prod}", "f:5:29: spec.autoDeploy.environment must be 1 to 63 "
                                              "of a-z, 0-9 and -, is \"Prod\"\n"},
        {"  services: [{name: a}]", "f:5:13: spec.services several services in one document are "
                                    "not supported: write one document each\n"},
    };
    for (size_t i = 0; i < EC_LEN(cases); i++) {
        assert_fault(cases[i][0], cases[i][1]);
    }
}

static void gates_have_their_words(void **state)
{
    (void)state;
    assert_fault("  source: {git: {pullRequests: everybody}}",
                 "f:5:32: spec.source.git.pullRequests must be off, trusted or all, is "
                 "\"everybody\"\n");
    assert_fault("  source: {git: {waitForCI: maybe}}",
                 "f:5:29: spec.source.git.waitForCI must be true or false, is \"maybe\"\n");
}

/* A share of 1 would be "never go back"; 0 is "the default" where it is read. */
static void how_many_errors_may_be(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double share;
        bool warns;
    } rows[] = {{"0.05", 0.05, false}, {"5", 0.05, false},     {"\"5%\"", 0.05, false},
                {"1", 0.01, true},     {"1.0", 0.01, true},    {"\"1%\"", 0.01, false},
                {"0.5", 0.5, false},   {"100%", 1.0, false},   {"100", 1.0, false},
                {"0", 1e-6, false},    {"\"0%\"", 1e-6, false}};
    for (size_t i = 0; i < EC_LEN(rows); i++) {
        char yaml[300];
        snprintf(yaml, sizeof yaml,
                 "apiVersion: enclii.dev/v1\nkind: Service\nmetadata: {name: a}\nspec:\n"
                 "  deployment: {canary: {rollback: {errorThreshold: %s}}}\n",
                 rows[i].text);
        const Enclii__V1__ServiceSpec *s = parse(yaml);
        assert_non_null(s);
        assert_float_equal(s->rollout->error_rate_max, rows[i].share, 1e-9);
        assert_int_equal(warned("spec.deployment.canary.rollback.errorThreshold"), rows[i].warns);
    }
    assert_fault("  deployment: {canary: {rollback: {errorThreshold: 101}}}",
                 "f:5:52: spec.deployment.canary.rollback.errorThreshold must be a share such as "
                 "0.05 or 5%, is \"101\"\n");
}

static void all_faults_are_told_in_order(void **state)
{
    (void)state;
    parse("apiVersion: enclii.dev/v2\nkind: Service\nmetadata: {name: Bad_Name}\nspecs: {}\n"
          "spec:\n  runtime: {prot: 1, port: x}\n");
    assert_string_equal(
        ec_spec_faults_text(arena, &spec, "enclii.yaml"),
        "enclii.yaml:1:13: apiVersion must be enclii.dev/v1, is \"enclii.dev/v2\"\n"
        "enclii.yaml:3:18: metadata.name must be 1 to 63 of a-z, 0-9 and -, without - at the ends, "
        "is \"Bad_Name\"\n"
        "enclii.yaml:4:1: specs is no key of a service spec (did you mean spec?)\n"
        "enclii.yaml:6:13: spec.runtime.prot is no key of a service spec (did you mean port?)\n"
        "enclii.yaml:6:28: spec.runtime.port must be a whole number, is \"x\"\n");
}

static void missing_parts(void **state)
{
    (void)state;
    parse("kind: Service\n");
    assert_string_equal(ec_spec_faults_text(arena, &spec, "f"),
                        "f:1:1: apiVersion is missing: write enclii.dev/v1\n"
                        "f:1:1: metadata.name is missing\nf:1:1: spec is missing\n");
    static const char *const none[] = {"",
                                       "# only a comment\n",
                                       "[]",
                                       "text",
                                       "---\n---\n",
                                       "kind: Deployment\n",
                                       "kind: [Service]\n",
                                       "kind: Service\nspec: {selector: {app: x}}\n"};
    for (size_t i = 0; i < EC_LEN(none); i++) {
        parse(none[i]);
        assert_int_equal(spec.fault_count, 1);
        assert_string_equal(spec.faults[0].path, "kind");
    }
}

static void bad_yaml_has_a_position(void **state)
{
    (void)state;
    parse(read_sample("tab.yaml"));
    assert_int_equal(spec.fault_count, 1);
    assert_int_equal(spec.faults[0].line, 7);
    assert_int_equal(spec.faults[0].column, 1);
    assert_non_null(strstr(spec.faults[0].hint, "not tabs"));
    static const char *const bad[] = {"a: b: c",     "a: [1, 2", "a: 'x",         "{a",
                                      "a: *missing", "%TAG",     "a: \"\\0\"",    "\xff\xfe",
                                      "? [a]\n: b",  "a: \x01",  "a: \"\\ud800\""};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        parse(bad[i]);
        assert_int_equal(spec.fault_count, 1);
        assert_non_null(spec.faults[0].what);
    }
}

static void bombs_do_no_harm(void **state)
{
    (void)state;
    parse(read_sample("alias_bomb.yaml"));
    assert_int_equal(spec.fault_count, 1);
    assert_non_null(strstr(spec.faults[0].what, "aliases"));
    ec_cleanup(ec_buf_done) struct ec_buf yaml;
    ec_buf_init(&yaml, 1 << 20);
    for (int i = 0; i < 5000; i++) {
        ec_buf_add_text(&yaml, "[");
    }
    parse(yaml.ptr);
    assert_int_equal(spec.fault_count, 1);
    assert_non_null(strstr(spec.faults[0].what, "nested too deeply"));
    ec_buf_clear(&yaml);
    for (int i = 0; i < 20000; i++) {
        ec_buf_add_text(&yaml, "- a\n");
    }
    parse(yaml.ptr);
    assert_int_equal(spec.fault_count, 1);
    assert_non_null(strstr(spec.faults[0].what, "too many values"));
    for (int i = 0; i < 50000; i++) {
        ec_buf_add_text(&yaml, "- aaaa\n");
    }
    parse(yaml.ptr);
    assert_int_equal(spec.fault_count, 1);
    assert_non_null(strstr(spec.faults[0].what, "262144"));
}

/* The largest texts must fit into the arena that the header promises is enough. */
static void large_specs_fit_the_arena(void **state)
{
    (void)state;
    ec_cleanup(ec_buf_done) struct ec_buf yaml;
    ec_buf_init(&yaml, 1 << 20);
    ec_buf_add_text(&yaml, HEAD "spec:\n  watchPaths:\n");
    for (int i = 0; i < 9900; i++) {
        ec_buf_addf(&yaml, "  - \"%015d\"\n", i);
    }
    parse(yaml.ptr);
    assert_no_faults();
    ec_buf_clear(&yaml);
    ec_buf_add_text(&yaml, HEAD "spec:\n  env:\n");
    for (int i = 0; i < 501; i++) {
        ec_buf_addf(&yaml, "    A%d: x\n", i);
    }
    parse(yaml.ptr);
    assert_int_equal(spec.fault_count, 1);
    assert_string_equal(spec.faults[0].what, "has 501 entries: at most 500");
    ec_buf_clear(&yaml);
    ec_buf_add_text(&yaml, HEAD "spec:\n");
    for (int i = 0; i < 4000; i++) {
        ec_buf_addf(&yaml, "  unknownkeyunknownkeyunknownkeyunknown%d: 1\n", i);
    }
    parse(yaml.ptr);
    assert_int_equal(spec.fault_count, 100);
}

static void other_spellings(void **state)
{
    (void)state;
    const Enclii__V1__ServiceSpec *s =
        parse(HEAD "spec:\n  github: {repo: acme/shop, branch: dev, watchPaths: [a/**]}\n"
                   "  port: 9000\n  autoDeploy: false\n"
                   "  healthCheck: {path: /h, interval: 30s, timeout: 1500ms, retries: 4}\n"
                   "  resources: {memoryLimit: 128Mi, cpuLimit: \"2\"}\n"
                   "  build: {timeout: 1h30m}\n  env: {A: 1, B: true}\n"
                   "  domains: [a.example.com]\n");
    assert_no_faults();
    assert_string_equal(s->repo_url, "https://github.com/acme/shop");
    assert_string_equal(s->branch, "dev");
    assert_string_equal(s->watch_paths[0], "a/**");
    assert_int_equal(s->run->port, 9000);
    assert_false(s->auto_deploy);
    assert_string_equal(s->run->probe->path, "/h");
    assert_int_equal(s->run->probe->period_ms, 30000);
    assert_int_equal(s->run->probe->timeout_ms, 1500);
    assert_int_equal(s->run->probe->failures_max, 4);
    assert_int_equal(s->run->memory_max_bytes, 128ll << 20);
    assert_int_equal(s->run->cpu_milli, 2000);
    assert_int_equal(s->build->timeout_ms, 5400000);
    assert_string_equal(s->run->env[1]->value, "true");
    assert_string_equal(s->routes[0]->hostname, "a.example.com");
    assert_false(s->routes[0]->tls);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_those_of_the_contract),
        TEST(dialect_a),
        TEST(dialect_b),
        TEST(dialect_c_among_other_documents),
        TEST(other_spellings),
        TEST(faults_have_position_path_and_hint),
        TEST(gates_have_their_words),
        TEST(how_many_errors_may_be),
        TEST(all_faults_are_told_in_order),
        TEST(missing_parts),
        TEST(bad_yaml_has_a_position),
        TEST(bombs_do_no_harm),
        TEST(large_specs_fit_the_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
