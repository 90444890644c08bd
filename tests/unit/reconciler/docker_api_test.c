/* The Docker Engine API's texts, as Podman 4.3 really sends them, and hostile ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "docker_api.h"

static int setup(void **state)
{
    *state = ec_arena_new(8u << 20);
    return 0;
}

static int teardown(void **state)
{
    ec_arena_free(*state);
    return 0;
}

static void test_list(void **state)
{
    struct container *list = NULL;
    size_t count = 0;
    const char *json =
        "[{\"Id\":\"af9b\",\"Names\":[\"/enclii-a\"],\"State\":\"exited\",\"Status\":\"Exited "
        "(137) 1 second ago\","
        "\"Ports\":[{\"IP\":\"127.0.0.1\",\"PrivatePort\":3000,\"PublicPort\":39785,\"Type\":"
        "\"tcp\"}],"
        "\"Labels\":{\"enclii.key\":\"s:e\",\"enclii.identity\":\"r/1\",\"enclii.replica\":\"2\","
        "\"enclii.probe\":\"{\\\"path\\\":\\\"/up\\\",\\\"port\\\":3000,\\\"period_ms\\\":-5}\"}},"
        "{\"Id\":\"bb\",\"Names\":null,\"State\":\"running\",\"Labels\":{\"other\":\"x\"}},"
        "{\"Id\":\"cc\",\"State\":\"running\",\"Ports\":[],\"Labels\":{\"enclii.key\":\"s:e\","
        "\"enclii.identity\":\"r/1\"}}]";
    assert_false(ec_failed(docker_read_list(*state, ec_span_of(json), &list, &count)));
    assert_int_equal(count, 2); /* the second is not ours */
    assert_string_equal(list[0].name, "enclii-a");
    assert_int_equal(list[0].state, CONTAINER_EXITED);
    assert_int_equal(list[0].exit_code, 137);
    assert_int_equal(list[0].host_port, 39785);
    assert_int_equal(list[0].replica, 2);
    assert_string_equal(list[0].probe.path, "/up");
    assert_int_equal(list[0].probe.period_ms, 1000); /* nonsense becomes the default */
    assert_int_equal(list[1].state, CONTAINER_RUNNING);
    assert_int_equal(list[1].host_port, 0);
    assert_int_equal(list[1].probe.port, 8080);
}

static void test_list_of_nonsense(void **state)
{
    struct container *list = NULL;
    size_t count = 0;
    assert_true(ec_failed(docker_read_list(*state, EC_SPAN(""), &list, &count)));
    assert_true(
        ec_failed(docker_read_list(*state, EC_SPAN("{\"message\":\"no\"}"), &list, &count)));
    assert_false(ec_failed(docker_read_list(*state, EC_SPAN("[1,null,{},[]]"), &list, &count)));
    assert_int_equal(count, 0);
}

static void test_pull_errors_come_with_200(void **state)
{
    struct ec_span fine =
        EC_SPAN("{\"status\":\"Pulling\"}\n{\"status\":\"Download complete\",\"id\":\"x\"}\n");
    assert_false(ec_failed(docker_read_pull(*state, 200, fine)));
    struct ec_span absent = EC_SPAN("{\"status\":\"Pulling\"}\n{\"error\":\"manifest unknown\"}\n");
    struct ec_err err = docker_read_pull(*state, 200, absent);
    assert_int_equal(err.fate, EC_FATE_REJECT);
    assert_string_equal(err.what, "manifest unknown");
    struct ec_span away =
        EC_SPAN("{\"error\":\"dial tcp 127.0.0.1:5999: connect: connection refused\"}");
    assert_int_equal(docker_read_pull(*state, 200, away).fate, EC_FATE_RETRY);
    static const char *const passing[] = {
        "read tcp 10.0.0.2:44: read: connection reset by peer", "unexpected EOF",
        "received unexpected HTTP status: 503 Service Unavailable",
        "toomanyrequests: You have reached your pull rate limit",
        "lookup registry on 10.0.0.1:53: Temporary failure in name resolution"};
    for (size_t i = 0; i < EC_LEN(passing); i++) {
        const char *line = ec_arena_format(*state, "{\"error\":\"%s\"}", passing[i]);
        assert_int_equal(docker_read_pull(*state, 200, ec_span_of(line)).fate, EC_FATE_RETRY);
    }
    struct ec_span broken = EC_SPAN("{\"message\":\"storage is full\"}");
    assert_int_equal(docker_read_pull(*state, 500, broken).fate, EC_FATE_RETRY);
    assert_int_equal(docker_read_pull(*state, 404, broken).fate, EC_FATE_REJECT);
}

static void test_logs(void **state)
{
    static const char frames[] =
        "\1\0\0\0\0\0\0\6hello\n\2\0\0\0\0\0\0\4ba\033\n\1\0\0\0\0\0\0\377cut";
    assert_string_equal(docker_read_logs(*state, (struct ec_span){frames, sizeof frames - 1}),
                        "hello\nba \ncut");
    assert_string_equal(docker_read_logs(*state, EC_SPAN("no frames at all")), "");
    assert_string_equal(docker_read_logs(*state, EC_SPAN("\1\0\0")), "");
}

/* They become part of an event, which has to be UTF-8: a German program of 1995 must be told of
 * too. */
static void test_logs_in_latin_1(void **state)
{
    static const char frames[] = "\1\0\0\0\0\0\0\5k\xf6nn\n";
    assert_string_equal(docker_read_logs(*state, (struct ec_span){frames, sizeof frames - 1}),
                        "k\xef\xbf\xbdnn");
}

static void test_labels_that_somebody_changed(void **state)
{
    static const char json[] =
        "[{\"Id\":\"a\",\"State\":\"exited\",\"Status\":\"Exited (99999999999) now\","
        "\"Ports\":[{\"PrivatePort\":8080,\"PublicPort\":-7}],\"Labels\":{\"enclii.key\":\"k\","
        "\"enclii.replica\":\"-3\",\"enclii.probe\":\"{\\\"path\\\":\\\"/a "
        "b\\\",\\\"port\\\":70000,"
        "\\\"period_ms\\\":0,\\\"failures_max\\\":-1}\"}}]";
    struct container *list = NULL;
    size_t count = 0;
    assert_false(ec_failed(docker_read_list(*state, ec_span_of(json), &list, &count)));
    assert_int_equal(count, 1);
    assert_int_equal(list[0].exit_code, -1);
    assert_int_equal(list[0].host_port, 0);
    assert_int_equal(list[0].replica, 0);
    assert_string_equal(list[0].probe.path, "/");
    assert_int_equal(list[0].probe.port, 8080);
    assert_int_equal(list[0].probe.period_ms, 1000);
    assert_int_equal(list[0].probe.failures_max, 3);
}

static void test_exit_texts(void **state)
{
    assert_string_equal(docker_exit_text(*state, 3), "exited with code 3");
    assert_non_null(strstr(docker_exit_text(*state, 137), "memory"));
    assert_string_equal(docker_exit_text(*state, 139), "was ended by signal 11");
}

struct sample {
    Enclii__V1__ServiceRef service;
    Enclii__V1__EnvironmentRef environment;
    Enclii__V1__DesiredRelease release;
    Enclii__V1__RunSpec run;
    struct target_goal goal;
};

static void fill(struct sample *sample)
{
    static char name[] = "My_Shop", env[] = "production", sha[] = "1a2b3c4d5e", id[] = "r1";
    static char image[] = "127.0.0.1:5000/acme/shop@sha256:00", project[] = "acme";
    enclii__v1__service_ref__init(&sample->service);
    enclii__v1__environment_ref__init(&sample->environment);
    enclii__v1__desired_release__init(&sample->release);
    enclii__v1__run_spec__init(&sample->run);
    sample->service.service_name = name;
    sample->service.project_slug = project;
    sample->environment.name = env;
    sample->release.release_id = id;
    sample->release.image = image;
    sample->release.commit_sha = sha;
    sample->release.run = &sample->run;
    sample->run.port = 3000;
    sample->goal = (struct target_goal){.key = "s:e",
                                        .deployment_id = "d",
                                        .service = &sample->service,
                                        .environment = &sample->environment,
                                        .release = &sample->release};
}

static void test_create_body(void **state)
{
    struct sample sample;
    fill(&sample);
    char *text = docker_create_body(*state, &sample.goal, 1, "here");
    json_t *body = NULL;
    assert_false(ec_failed(ec_json_parse(*state, ec_span_of(text), &body)));
    const json_t *host = json_object_get(body, "HostConfig");
    assert_int_equal(json_array_size(json_object_get(host, "Ulimits")), 2);
    assert_string_equal(ec_json_text(host, "CapDrop.0"), "ALL");
    assert_string_equal(ec_json_text(host, "SecurityOpt.0"), "no-new-privileges");
    assert_int_equal(ec_json_int(host, "Memory", 0), 512 << 20);
    assert_int_equal(ec_json_int(host, "NanoCpus", 0), 500000000);
    assert_string_equal(ec_json_text(host, "PortBindings.3000/tcp.0.HostIp"), "127.0.0.1");
    assert_string_equal(ec_json_text(body, "Env.0"), "PORT=3000");
    const json_t *labels = json_object_get(body, "Labels");
    assert_string_equal(json_string_value(json_object_get(labels, "enclii.instance")), "here");
    json_decref(body);
    static char bad[] = "\377\376";
    sample.environment.name = bad;
    assert_null(docker_create_body(*state, &sample.goal, 1, "here"));
}

static void test_names_and_identity(void **state)
{
    struct sample sample;
    fill(&sample);
    char *name = docker_container_name(*state, &sample.goal, 2);
    assert_int_equal(strncmp(name, "enclii-my-shop-production-1a2b3c4-2-", 36), 0);
    assert_string_not_equal(name, docker_container_name(*state, &sample.goal, 2));
    struct target_identity first = docker_identity(&sample.release);
    sample.run.replicas = 7;
    assert_string_equal(first.text, docker_identity(&sample.release).text);
    sample.run.port = 3001;
    assert_string_not_equal(first.text, docker_identity(&sample.release).text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_of_nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pull_errors_come_with_200, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logs_in_latin_1, setup, teardown),
        cmocka_unit_test_setup_teardown(test_labels_that_somebody_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exit_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_create_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_and_identity, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
