/* Projects, services and what people ask for: specs and their faults, conflicts, the outbox rows of
 * each write, releases as older clients want them, deploy and rollback, why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/mem.h"
#include "oci/registry.h"
#include "support/api_fixture.h"

static struct api_fixture fx;
static struct api_place shop;

#define BUILD_ID "00000000-0000-4000-8000-00000000b001"
#define RELEASE_ID "00000000-0000-4000-8000-00000000c001"
#define RELEASE_ID_2 "00000000-0000-4000-8000-00000000c002"
#define DEPLOYMENT_ID "00000000-0000-4000-8000-00000000d001"

static const char *at(const char *before, const char *id, const char *after)
{
    static char text[256];
    snprintf(text, sizeof(text), "%s%s%s", before, id, after);
    return text;
}

static const char *count(const char *where)
{
    char sql[512];
    snprintf(sql, sizeof(sql), "select count(*) from enclii.outbox where %s", where);
    return test_pg_value(fx.pg, sql);
}

static void test_projects(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects", ADMIN_TOKEN, "{\"slug\":\"shop\"}"), 409);
    assert_string_equal(api_text(&fx, "code"), "slug_taken");
    static const char *const bad[] = {"{\"slug\":\"-a\"}",
                                      "{\"slug\":\"A\"}",
                                      "{\"slug\":\"\"}",
                                      "{}",
                                      "{\"slug\":7}",
                                      "[1]",
                                      "{\"slug\":\"a\\u0000b\"}",
                                      "{\"slug\":"};
    for (size_t i = 0; i < EC_LEN(bad); i++) {
        assert_int_equal(api_ask(&fx, "POST", "/v1/projects", ADMIN_TOKEN, bad[i]), 400);
    }
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/environments", ADMIN_TOKEN,
                             "{\"name\":\"production\"}"),
                     409);
    assert_string_equal(api_text(&fx, "code"), "environment_exists");
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/environments", ADMIN_TOKEN,
                             "{\"name\":\"staging\"}"),
                     201);
    assert_string_equal(api_text(&fx, "kube_namespace"), "enclii-shop-staging");
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects/nowhere", ADMIN_TOKEN, NULL), 404);
    assert_int_equal(api_ask(&fx, "DELETE", "/v1/projects/shop", ADMIN_TOKEN, NULL), 409);
    assert_string_equal(api_text(&fx, "code"), "project_in_use");
}

static void test_project_life(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects", ADMIN_TOKEN, "{\"slug\":\"empty\"}"),
                     201);
    assert_int_equal(api_ask(&fx, "DELETE", "/v1/projects/empty", ADMIN_TOKEN, NULL), 200);
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects/empty", ADMIN_TOKEN, NULL), 404);
}

static void test_spec_faults_have_positions(void **state)
{
    (void)state;
    const char *body = "{\"spec_yaml\":\"apiVersion: enclii.dev/v1\\nkind: Service\\nmetadata:\\n"
                       "  name: bad\\nspec:\\n  source:\\n    git:\\n"
                       "      repository: http://git.test/a/b\\n  build:\\n    type: dockerfile\\n"
                       "  runtime:\\n    prot: 8080\\n    port: 99999\\n\"}";
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN, body), 400);
    assert_string_equal(api_text(&fx, "code"), "invalid_spec");
    json_t *faults = json_object_get(fx.json, "faults");
    assert_true(json_array_size(faults) >= 2);
    bool typo = false, range = false;
    for (size_t i = 0; i < json_array_size(faults); i++) {
        const json_t *fault = json_array_get(faults, i);
        typo =
            typo || (ec_json_int(fault, "line", 0) == 12 && ec_json_int(fault, "column", 0) == 5 &&
                     strstr(ec_json_text(fault, "hint"), "port"));
        range = range || ec_json_int(fault, "line", 0) == 13;
    }
    assert_true(typo);
    assert_true(range);
    assert_string_equal(count("topic = 'enclii.repos' and key = 'git.test/a/b'"), "0");
}

static void test_service_life(void **state)
{
    (void)state;
    const char *spec = api_spec("api", "http://git.test/acme/one.git");
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN, spec), 201);
    char id[EC_ID_SIZE];
    snprintf(id, sizeof(id), "%s", api_text(&fx, "id"));
    assert_string_equal(api_text(&fx, "git_repo"), "http://git.test/acme/one.git");
    assert_string_equal(api_text(&fx, "status"), "unknown");
    assert_non_null(strstr(fx.text, "api.shop.apps.test")); /* no route of its own */
    assert_string_equal(count("topic = 'enclii.repos' and key = 'git.test/acme/one'"), "1");
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN, spec), 409);
    assert_string_equal(api_text(&fx, "code"), "name_taken");
    /* To another repository: that one is bound, the old one let go. */
    assert_int_equal(api_ask(&fx, "PATCH", at("/v1/services/", id, ""), ADMIN_TOKEN,
                             api_spec("api", "git@git.test:acme/two.git")),
                     200);
    assert_string_equal(count("topic = 'enclii.repos' and key = 'git.test/acme/two' and body is not"
                              " null"),
                        "1");
    assert_string_equal(
        count("topic = 'enclii.repos' and key = 'git.test/acme/one' and body is null"), "1");
    assert_int_equal(api_ask(&fx, "PATCH", at("/v1/services/", id, ""), ADMIN_TOKEN,
                             api_spec("renamed", "http://git.test/acme/two")),
                     400);
    assert_string_equal(api_text(&fx, "code"), "name_fixed");
    assert_int_equal(api_ask(&fx, "DELETE", at("/v1/services/", id, ""), ADMIN_TOKEN, NULL), 200);
    assert_int_equal(api_ask(&fx, "GET", at("/v1/services/", id, ""), ADMIN_TOKEN, NULL), 404);
    assert_string_equal(
        count("topic = 'enclii.repos' and key = 'git.test/acme/two' and body is null"), "1");
    assert_string_equal(count("type = 'dev.enclii.request.remove_service.v1'"), "1");
    /* The name is free again. */
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN,
                             api_spec("api", "http://git.test/acme/one.git")),
                     201);
}

static void test_a_renamed_repository_stays_bound(void **state)
{
    (void)state;
    char id[EC_ID_SIZE];
    const char *spec = api_spec("old-name", "http://git.test/acme/before");
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN, spec), 201);
    snprintf(id, sizeof(id), "%s", api_text(&fx, "id"));
    /* What the pipeline does when the host says that it was renamed. */
    api_sql(&fx,
            "update enclii.service set repo_key = 'git.test/acme/after',"
            " repo_url = 'http://git.test/acme/after' where repo_key = 'git.test/acme/before'");
    api_sql(&fx,
            "insert into enclii.repo (repo_key, host_repo_id, clone_url, full_name)"
            " values ('git.test/acme/after', '7', 'http://git.test/acme/after', 'acme/after')");
    assert_int_equal(api_ask(&fx, "PATCH", at("/v1/services/", id, ""), ADMIN_TOKEN, spec), 200);
    assert_string_equal(api_text(&fx, "service.git_repo"), "http://git.test/acme/after");
    assert_string_equal(
        count("topic = 'enclii.repos' and key = 'git.test/acme/after' and body is null"), "0");
    /* Another one is another one. */
    assert_int_equal(api_ask(&fx, "PATCH", at("/v1/services/", id, ""), ADMIN_TOKEN,
                             api_spec("old-name", "http://git.test/acme/other")),
                     200);
    assert_string_equal(api_text(&fx, "service.git_repo"), "http://git.test/acme/other");
    assert_string_equal(
        count("topic = 'enclii.repos' and key = 'git.test/acme/after' and body is null"), "1");
}

static void test_a_shared_repository_stays_bound(void **state)
{
    (void)state;
    char id[EC_ID_SIZE];
    const char *repo = "http://git.test/acme/mono";
    assert_int_equal(
        api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN, api_spec("mono-a", repo)),
        201);
    snprintf(id, sizeof(id), "%s", api_text(&fx, "id"));
    assert_int_equal(
        api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN, api_spec("mono-b", repo)),
        201);
    assert_int_equal(api_ask(&fx, "DELETE", at("/v1/services/", id, ""), ADMIN_TOKEN, NULL), 200);
    assert_string_equal(count("topic = 'enclii.repos' and key = 'git.test/acme/mono' and body is"
                              " null"),
                        "0");
}

static void test_service_from_fields(void **state)
{
    (void)state;
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN,
                             "{\"name\":\"old\",\"git_repo\":\"https://git.test/acme/old\","
                             "\"build_config\":{\"type\":\"dockerfile\"}}"),
                     201);
    assert_string_equal(api_text(&fx, "build_config.type"), "dockerfile");
    assert_int_equal(api_ask(&fx, "POST", "/v1/projects/shop/services", ADMIN_TOKEN,
                             "{\"name\":\"evil\",\"git_repo\":\"x\\\"\\n  project: other\"}"),
                     400);
}

static void test_build_names_its_ids(void **state)
{
    (void)state;
    const char *path = at("/v1/services/", shop.service_id, "/build");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, "{\"git_sha\":\"abc\"}"), 400);
    path = at("/v1/services/", shop.service_id, "/build");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, "{\"git_sha\":\"" SHA_1 "\"}"), 201);
    assert_string_equal(api_text(&fx, "status"), "building");
    assert_string_equal(api_text(&fx, "ref"), "refs/heads/main");
    char step[64], event[EC_ID_SIZE];
    snprintf(step, sizeof(step), "build/%s", shop.service_id);
    snprintf(event, sizeof(event), "%s",
             test_pg_value(fx.pg, "select event_id from enclii.outbox where type ="
                                  " 'dev.enclii.request.build.v1'"));
    /* As pipeline derives them. */
    assert_string_equal(api_text(&fx, "build_id"), ec_id_derive(event, step).text);
    assert_string_equal(api_text(&fx, "id"),
                        ec_id_derive(api_text(&fx, "build_id"), "release").text);
}

static void insert_build(const char *id, int number, const char *sha, const char *state)
{
    char sql[1024];
    snprintf(
        sql, sizeof(sql),
        "insert into enclii.build (id, service_id, number, spec, commit, commit_sha, ref, actor,"
        " state, reason, deadline_at, queued_at) values ('%s', '%s', %d, '', '', '%s',"
        " 'refs/heads/main', '', '%s', 'r', case when '%s' = upper('%s') then null else now() end,"
        " now() + interval '%d s')",
        id, shop.service_id, number, sha, state, state, state, number);
    test_pg_sql(fx.pg, sql);
}

static void insert_release(const char *id, const char *build_id, int number, const char *state)
{
    char sql[1024];
    snprintf(
        sql, sizeof(sql),
        "insert into enclii.release (id, service_id, build_id, build_number, number, version,"
        " state, commit, commit_sha, image_repo, digest, spec, sbom_object, deadline_at)"
        " values ('%s', '%s', '%s', %d, %d, 'v%d', '%s', '', '" SHA_1 "', 'reg/shop',"
        " 'sha256:abc', '', 'sbom/%s.json', case when '%s' = 'READY' then null else now() end)",
        id, shop.service_id, build_id, number, number, number, state, id, state);
    test_pg_sql(fx.pg, sql);
}

static void test_releases_and_builds(void **state)
{
    (void)state;
    insert_build(BUILD_ID, 1, SHA_1, "SUCCEEDED");
    insert_release(RELEASE_ID, BUILD_ID, 1, "READY");
    insert_build("00000000-0000-4000-8000-00000000b009", 9, SHA_2, "running");
    assert_int_equal(
        api_ask(&fx, "GET", at("/v1/services/", shop.service_id, "/releases"), ADMIN_TOKEN, NULL),
        200);
    const json_t *list = json_object_get(fx.json, "releases");
    assert_int_equal(json_array_size(list), 2);
    const json_t *unborn = json_array_get(list, 0), *ready = json_array_get(list, 1);
    assert_string_equal(ec_json_text(unborn, "status"), "building");
    assert_string_equal(ec_json_text(unborn, "id"),
                        ec_id_derive("00000000-0000-4000-8000-00000000b009", "release").text);
    assert_string_equal(ec_json_text(ready, "status"), "ready");
    assert_string_equal(ec_json_text(ready, "image_uri"), "reg/shop@sha256:abc");
    assert_int_equal(api_ask(&fx, "GET", "/v1/builds/" BUILD_ID, ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "release_id"), RELEASE_ID);
    assert_int_equal(api_ask(&fx, "POST", "/v1/builds/" BUILD_ID "/cancel", ADMIN_TOKEN, NULL),
                     409);
    assert_int_equal(api_ask(&fx, "POST", "/v1/builds/00000000-0000-4000-8000-00000000b009/cancel",
                             ADMIN_TOKEN, NULL),
                     202);
    assert_string_equal(count("type = 'dev.enclii.request.cancel.v1'"), "1");
    /* The document is named in the row but not in the store; verification is not set up here. */
    assert_int_equal(api_ask(&fx, "GET", "/v1/releases/" RELEASE_ID "/sbom", ADMIN_TOKEN, NULL),
                     404);
    assert_int_equal(api_ask(&fx, "GET", "/v1/releases/" RELEASE_ID "/verify", ADMIN_TOKEN, NULL),
                     503);
}

/* A list of public keys that cannot be read is no list: the answer says what is wrong with it. */
static void test_verification_says_what_is_wrong_with_its_keys(void **state)
{
    (void)state;
    char path[] = "/tmp/enclii-keys-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct ec_registry_spec spec = {.loop = fx.loop, .fetcher = fx.fetcher, .insecure = true};
    assert_int_equal(ec_registry_open(&spec, &fx.api.oci).fate, EC_FATE_OK);
    fx.api.settings.key_file = path;
    assert_int_equal(api_ask(&fx, "GET", "/v1/releases/" RELEASE_ID "/verify", ADMIN_TOKEN, NULL),
                     503);
    assert_string_equal(api_text(&fx, "code"), "verification_off");
    assert_non_null(strstr(api_text(&fx, "detail"), "public key 1"));
    unlink(path);
    assert_int_equal(api_ask(&fx, "GET", "/v1/releases/" RELEASE_ID "/verify", ADMIN_TOKEN, NULL),
                     503);
    assert_non_null(strstr(api_text(&fx, "detail"), "cannot be opened"));
    fx.api.settings.key_file = "";
}

static void test_sbom_comes_from_the_object_store(void **state)
{
    const char *folder = *state;
    char path[256];
    snprintf(path, sizeof(path),
             "mkdir -p %s/sbom && echo '{\"bomFormat\":\"CycloneDX\"}' > "
             "%s/sbom/" RELEASE_ID ".json",
             folder, folder);
    assert_int_equal(system(path), 0);
    assert_int_equal(api_ask(&fx, "GET", "/v1/releases/" RELEASE_ID "/sbom", ADMIN_TOKEN, NULL),
                     200);
    assert_string_equal(api_text(&fx, "bomFormat"), "CycloneDX");
    assert_int_equal(
        api_ask(&fx, "GET", "/v1/releases/" RELEASE_ID "/provenance", ADMIN_TOKEN, NULL), 404);
    assert_string_equal(api_text(&fx, "code"), "not_signed_yet");
}

static void test_deploy(void **state)
{
    (void)state;
    const char *body = "{\"release_id\":\"" RELEASE_ID "\",\"environment_name\":\"production\"}";
    char path[128];
    snprintf(path, sizeof(path), "/v1/services/%s/deploy", shop.service_id);
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, body), 201);
    assert_string_equal(api_text(&fx, "status"), "pending");
    assert_string_equal(api_text(&fx, "version"), "v1");
    assert_string_equal(count("type = 'dev.enclii.request.deploy.v1'"), "1");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN,
                             "{\"release_id\":\"" RELEASE_ID "\",\"environment_name\":\"moon\"}"),
                     404);
    assert_string_equal(api_text(&fx, "code"), "environment_not_found");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, "{\"release_id\":\"" BUILD_ID "\"}"),
                     404);
    insert_build("00000000-0000-4000-8000-00000000b002", 2, SHA_2, "SUCCEEDED");
    insert_release(RELEASE_ID_2, "00000000-0000-4000-8000-00000000b002", 2, "signing");
    assert_int_equal(
        api_ask(&fx, "POST", path, ADMIN_TOKEN, "{\"release_id\":\"" RELEASE_ID_2 "\"}"), 409);
    assert_string_equal(api_text(&fx, "code"), "release_not_ready");
    assert_string_equal(count("type = 'dev.enclii.request.deploy.v1'"), "1");
}

static void test_rollback(void **state)
{
    (void)state;
    char sql[1024];
    snprintf(
        sql, sizeof(sql),
        "update enclii.release set state = 'READY', deadline_at = null where id = '" RELEASE_ID_2
        "';"
        "insert into enclii.deployment (id, service_id, environment_id, release_id, state, actor,"
        " finished_at, created_at) values ('" DEPLOYMENT_ID "', '%s', '%s', '" RELEASE_ID "',"
        " 'HEALTHY', '', now(), now() - interval '1 h');"
        "insert into enclii.desired (service_id, environment_id, revision, deployment_id,"
        " release_id) values ('%s', '%s', 1, '" DEPLOYMENT_ID "', '" RELEASE_ID "')",
        shop.service_id, shop.environment_id, shop.service_id, shop.environment_id);
    test_pg_sql(fx.pg, sql);
    const char *path = "/v1/deployments/" DEPLOYMENT_ID "/rollback";
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, "{}"), 409);
    assert_string_equal(api_text(&fx, "code"), "nothing_to_roll_back_to");
    test_pg_sql(fx.pg, "update enclii.desired set release_id = '" RELEASE_ID_2 "'");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "rolled_back_to"), RELEASE_ID);
    assert_int_equal(
        api_ask(&fx, "POST", path, ADMIN_TOKEN, "{\"to_release\":\"" RELEASE_ID_2 "\"}"), 200);
    assert_string_equal(api_text(&fx, "version"), "v2");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN, "{\"to_release\":\"" BUILD_ID "\"}"),
                     409);
    assert_string_equal(count("type = 'dev.enclii.request.rollback.v1'"), "2");
}

static void test_status_has_both_key_sets(void **state)
{
    (void)state;
    assert_int_equal(
        api_ask(&fx, "GET", at("/v1/services/", shop.service_id, "/status"), ADMIN_TOKEN, NULL),
        200);
    assert_string_equal(api_text(&fx, "service_id"), shop.service_id);
    assert_string_equal(api_text(&fx, "health"), "healthy");
    assert_string_equal(api_text(&fx, "version"), "v1");
    assert_string_equal(api_text(&fx, "service.name"), "web");
    assert_string_equal(api_text(&fx, "latest_deployment.status"), "running");
    /* A deployment that went back: the service still runs, with the release that was good. */
    test_pg_sql(fx.pg, "update enclii.deployment set state = 'ROLLED_BACK', reason = 'unhealthy';"
                       "update enclii.desired set good_release_id = '" RELEASE_ID_2 "'");
    assert_int_equal(
        api_ask(&fx, "GET", at("/v1/services/", shop.service_id, "/status"), ADMIN_TOKEN, NULL),
        200);
    assert_string_equal(api_text(&fx, "state"), "ROLLED_BACK");
    assert_string_equal(api_text(&fx, "status"), "running");
    assert_string_equal(api_text(&fx, "health"), "healthy");
    assert_string_equal(api_text(&fx, "version"), "v2");
    /* Replicas are those of what serves in the service's environment. */
    test_pg_sql(fx.pg, "update enclii.desired set good_deployment_id = '" DEPLOYMENT_ID "';"
                       "update enclii.deployment set replicas_ready = 3");
    assert_int_equal(
        api_ask(&fx, "GET", at("/v1/services/", shop.service_id, "/status"), ADMIN_TOKEN, NULL),
        200);
    assert_int_equal(ec_json_int(fx.json, "replicas", -1), 3);
    assert_true(json_is_true(ec_json_at(fx.json, "latest_deployment.serving")));
    assert_int_equal(
        api_ask(&fx, "GET", at("/v1/services/", shop.service_id, "/releases"), ADMIN_TOKEN, NULL),
        200);
    assert_non_null(strstr(fx.text, "\"serves_in\":\"production\""));
    test_pg_sql(fx.pg, "update enclii.deployment set state = 'HEALTHY', reason = ''");
    assert_int_equal(api_ask(&fx, "GET",
                             at("/v1/services/", shop.service_id, "/deployments/latest"),
                             ADMIN_TOKEN, NULL),
                     200);
    assert_string_equal(api_text(&fx, "release.version"), "v1");
    assert_string_equal(api_text(&fx, "deployment.health"), "healthy");
}

static void test_why(void **state)
{
    (void)state;
    const char *path = at("/v1/services/", shop.service_id, "/why");
    assert_int_equal(api_ask(&fx, "GET", path, ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "stage"), "build"); /* number 9 runs */
    char sql[512];
    snprintf(sql, sizeof(sql),
             "insert into enclii.delivery (id, repo_key, ref, commit_sha, state, reason, detail,"
             " received_at) select 'd-why', repo_key, 'refs/heads/dev', '" SHA_2 "', 'IGNORED',"
             " 'branch_not_watched', 'only main deploys', now() + interval '1 min'"
             " from enclii.service where id = '%s'",
             shop.service_id);
    test_pg_sql(fx.pg, sql);
    path = at("/v1/services/", shop.service_id, "/why");
    assert_int_equal(api_ask(&fx, "GET", path, ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "rule"), "branch_not_watched");
    assert_non_null(strstr(api_text(&fx, "summary"), "only main deploys"));
    path = at("/v1/services/", shop.service_id, "/why?commit=" SHA_1);
    assert_int_equal(api_ask(&fx, "GET", path, ADMIN_TOKEN, NULL), 200);
    assert_string_equal(api_text(&fx, "stage"), "done");
}

static void test_channels_keep_secrets_sealed(void **state)
{
    (void)state;
    const char *path = "/v1/projects/shop/channels";
    assert_int_equal(
        api_ask(&fx, "POST", path, ADMIN_TOKEN,
                "{\"kind\":\"webhook\",\"name\":\"chat\",\"url\":\"https://chat.test/x\","
                "\"secret\":\"hunter2\",\"events\":[\"deployment.healthy\"]}"),
        201);
    assert_null(strstr(fx.text, "hunter2"));
    assert_true(ec_json_bool(fx.json, "has_secret", false));
    assert_string_equal(test_pg_value(fx.pg, "select position('hunter2'::bytea in sealed_secret)"
                                             " from enclii.channel"),
                        "0");
    assert_string_equal(
        count("topic = 'enclii.channels' and position('hunter2'::bytea in body) > 0"), "0");
    char id[EC_ID_SIZE];
    snprintf(id, sizeof(id), "%s", api_text(&fx, "id"));
    assert_int_equal(api_ask(&fx, "DELETE", at("/v1/channels/", id, ""), ADMIN_TOKEN, NULL), 200);
    assert_string_equal(count("topic = 'enclii.channels' and body is null"), "1");
    assert_int_equal(api_ask(&fx, "POST", path, ADMIN_TOKEN,
                             "{\"kind\":\"pigeon\",\"name\":\"x\",\"url\":\"https://x.test\"}"),
                     400);
    assert_int_equal(
        api_ask(&fx, "POST", path, ADMIN_TOKEN,
                "{\"kind\":\"webhook\",\"name\":\"x\",\"url\":\"file:///etc/passwd\"}"),
        400);
}

static void test_database_away_is_503(void **state)
{
    (void)state;
    test_pg_down(fx.pg);
    int status = api_ask(&fx, "GET", "/v1/projects/shop", ADMIN_TOKEN, NULL);
    assert_int_equal(status, 503);
    assert_int_equal(api_ask(&fx, "GET", "/health", NULL, NULL), 503);
    test_pg_up(fx.pg);
    assert_int_equal(api_ask(&fx, "GET", "/v1/projects/shop", ADMIN_TOKEN, NULL), 200);
}

static char folder[] = "/tmp/enclii-test-objects-XXXXXX";

static int close_fixture(void **state)
{
    (void)state;
    char command[128];
    api_fixture_close(&fx);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_projects),
        cmocka_unit_test(test_project_life),
        cmocka_unit_test(test_spec_faults_have_positions),
        cmocka_unit_test(test_service_life),
        cmocka_unit_test(test_a_renamed_repository_stays_bound),
        cmocka_unit_test(test_a_shared_repository_stays_bound),
        cmocka_unit_test(test_service_from_fields),
        cmocka_unit_test(test_build_names_its_ids),
        cmocka_unit_test(test_releases_and_builds),
        cmocka_unit_test(test_verification_says_what_is_wrong_with_its_keys),
        cmocka_unit_test_prestate(test_sbom_comes_from_the_object_store, folder),
        cmocka_unit_test(test_deploy),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_status_has_both_key_sets),
        cmocka_unit_test(test_why),
        cmocka_unit_test(test_channels_keep_secrets_sealed),
        cmocka_unit_test(test_database_away_is_503),
    };
    char url[64];
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(url, sizeof(url), "file://%s", folder);
    if (!api_fixture_open(&fx, url)) {
        return 0;
    }
    api_place(&fx, "shop", &shop);
    return cmocka_run_group_tests(tests, NULL, close_fixture);
}
