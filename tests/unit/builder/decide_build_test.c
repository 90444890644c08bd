/* The builder's verdicts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "decide_build.h"

static struct ec_arena *arena;

#define SHA "0123456789abcdef0123456789abcdef01234567"

struct sample {
    Enclii__V1__RunBuild run;
    Enclii__V1__ServiceRef service;
    Enclii__V1__Commit commit;
    Enclii__V1__BuildSpec spec;
};

static Enclii__V1__RunBuild *sample(struct sample *s)
{
    enclii__v1__run_build__init(&s->run);
    enclii__v1__service_ref__init(&s->service);
    enclii__v1__commit__init(&s->commit);
    enclii__v1__build_spec__init(&s->spec);
    static char id[] = "01890000-0000-7000-8000-000000000001", builder[] = "b1", svc[] = "svc-1",
                sha[] = SHA, ref[] = "refs/heads/main", url[] = "https://git.example/acme/shop.git",
                image[] = "127.0.0.1:5000/acme/shop";
    s->run.build_id = id;
    s->run.builder_id = builder;
    s->run.service = &s->service;
    s->run.commit = &s->commit;
    s->run.spec = &s->spec;
    s->service.service_id = svc;
    s->commit.sha = sha;
    s->commit.ref = ref;
    s->run.clone_url = url;
    s->run.image_repo = image;
    return &s->run;
}

static void commands_are_judged(void **state)
{
    (void)state;
    struct sample s;
    Enclii__V1__RunBuild *run = sample(&s);
    struct command_facts facts = {"b1", 1000000, 999000, false, 1, false, false};
    assert_int_equal(decide_command(run, &facts), COMMAND_ACCEPT);
    facts.slots_free = 0;
    assert_int_equal(decide_command(run, &facts), COMMAND_NO_SLOT);
    facts.running_same_attempt = true;
    assert_int_equal(decide_command(run, &facts), COMMAND_DUPLICATE);
    facts = (struct command_facts){"b1",  1000000, 1000000 - COMMAND_STALE_MS - 1, false, 1,
                                   false, false};
    assert_int_equal(decide_command(run, &facts), COMMAND_STALE);
    facts.sent_unix_ms = 1000000;
    run->deadline_unix_ms = 999999;
    assert_int_equal(decide_command(run, &facts), COMMAND_STALE);
    run->deadline_unix_ms = 0;
    facts.draining = true;
    assert_int_equal(decide_command(run, &facts), COMMAND_NO_SLOT);
    facts.draining = false;
    facts.trusted_only = true; /* the sample is a fork's */
    assert_false(run->trusted);
    assert_int_equal(decide_command(run, &facts), COMMAND_NO_SLOT);
    run->trusted = true;
    assert_int_equal(decide_command(run, &facts), COMMAND_ACCEPT);
    facts.builder_id = "b2";
    assert_int_equal(decide_command(run, &facts), COMMAND_NOT_OURS);
}

static const char *fault_with(void (*change)(struct sample *, const char *), const char *value)
{
    struct sample s;
    sample(&s);
    change(&s, value);
    return decide_command_fault(&s.run, "http:https:ssh");
}

#define CHANGER(name, field)                                                                       \
    static void name(struct sample *s, const char *value)                                          \
    {                                                                                              \
        s->field = (char *)(uintptr_t)value;                                                       \
    }
CHANGER(set_url, run.clone_url)
CHANGER(set_sha, commit.sha)
CHANGER(set_ref, commit.ref)
CHANGER(set_image, run.image_repo)
CHANGER(set_build, run.build_id)
CHANGER(set_service, service.service_id)
CHANGER(set_context, spec.context)
CHANGER(set_dockerfile, spec.dockerfile)

static void dangerous_fields_are_refused(void **state)
{
    (void)state;
    static const char *const bad_urls[] = {"file:///etc",
                                           "ext::sh -c evil",
                                           "--upload-pack=evil",
                                           "git://host/x",
                                           "https://a b",
                                           "/etc/passwd",
                                           ""};
    assert_null(fault_with(set_url, "https://git.example/acme/shop.git"));
    assert_null(fault_with(set_url, "git@git.example:acme/shop.git"));
    assert_null(fault_with(set_url, "git@[::1]:acme/shop.git"));
    assert_non_null(fault_with(set_url, "ext::sh"));
    assert_non_null(fault_with(set_url, "ext::http://x"));
    assert_null(fault_with(set_url, "http://127.0.0.1:3000/acme/shop.git"));
    for (size_t i = 0; i < EC_LEN(bad_urls); i++) {
        assert_non_null(fault_with(set_url, bad_urls[i]));
    }
    assert_non_null(fault_with(set_sha, "main"));
    assert_non_null(fault_with(set_sha, "--upload-pack=x"));
    assert_non_null(fault_with(set_ref, "refs/heads/a..b"));
    assert_non_null(fault_with(set_ref, "-x"));
    assert_non_null(fault_with(set_ref, "refs/heads/a b"));
    assert_non_null(fault_with(set_ref, "+refs/heads/a"));
    assert_non_null(fault_with(set_ref, "refs/heads/a:refs/heads/b"));
    assert_non_null(fault_with(set_ref, "refs/heads/*"));
    assert_non_null(fault_with(set_ref, "refs/heads/a@{1}"));
    assert_null(fault_with(set_ref, "refs/heads/fix/#42,(a=b)&\xc3\xbc"));
    assert_null(fault_with(set_ref, ""));
    assert_non_null(fault_with(set_image, "--tls-verify=false"));
    assert_non_null(fault_with(set_image, "a b"));
    assert_non_null(fault_with(set_build, "../../etc"));
    assert_non_null(fault_with(set_service, "../x"));
    assert_non_null(fault_with(set_context, "../x"));
    assert_non_null(fault_with(set_context, "/"));
    assert_non_null(fault_with(set_dockerfile, "a/../../x"));
    assert_null(fault_with(set_dockerfile, "docker/Dockerfile.prod"));
}

static struct build_plan plan_of(const char *type, bool context, bool dockerfile,
                                 const char *const *found)
{
    static struct sample s;
    sample(&s);
    s.spec.type = (char *)(uintptr_t)type;
    return decide_build_type(arena, &s.spec, &(struct tree_facts){context, dockerfile, found});
}

static void build_type_is_found(void **state)
{
    (void)state;
    const char *const node[] = {"package.json", NULL};
    assert_string_equal(plan_of("", true, true, NULL).dockerfile, "Dockerfile");
    assert_string_equal(plan_of("auto", true, true, NULL).detected_by, "Dockerfile");
    assert_string_equal(plan_of("dockerfile", true, true, NULL).detected_by,
                        "enclii.yaml: Dockerfile");
    struct build_plan plan = plan_of("auto", true, false, node);
    assert_null(plan.dockerfile);
    assert_non_null(strstr(plan.detail, "package.json"));
    assert_non_null(strstr(plan.detail, "Node.js"));
    assert_non_null(strstr(plan.detail, "Dockerfile"));
    assert_non_null(strstr(plan_of("auto", true, false, NULL).detail, "add a Dockerfile"));
    assert_non_null(strstr(plan_of("auto", false, false, NULL).detail, "context"));
    assert_non_null(strstr(plan_of("rocket", true, true, NULL).detail, "rocket"));
    assert_string_equal(
        decide_build_type(arena, NULL, &(struct tree_facts){true, true, NULL}).dockerfile,
        "Dockerfile");
}

static void ends_are_explained(void **state)
{
    (void)state;
    struct ec_process_result exit1 = {.exit_code = 1},
                             oom = {.exit_code = -1, .signal = 9, .out_of_memory = true};
    struct ec_process_result late = {.exit_code = -1, .signal = 15, .timed_out = true};
    struct ec_process_result cancelled = {.exit_code = -1, .signal = 15, .cancelled = true};
    struct limits limits = {.memory_max_bytes = 512 << 20, .timeout_ms = 90000};
    struct verdict v =
        decide_build_end(arena, &exit1, &limits, "step 1\nError: no such package x\nbye\n");
    assert_int_equal(v.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_BUILD);
    assert_non_null(strstr(v.detail, "no such package x"));
    assert_false(v.retry);
    v = decide_build_end(arena, &oom, &limits, "");
    assert_int_equal(v.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_OUT_OF_MEMORY);
    assert_non_null(strstr(v.detail, "512 MiB"));
    v = decide_build_end(arena, &late, &limits, "");
    assert_int_equal(v.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT);
    v = decide_build_end(arena, &cancelled, &limits, "");
    assert_int_equal(v.reason, ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_CANCELLED);
    assert_true(
        decide_fetch_end(arena, &exit1, "fatal: unable to access: Could not resolve host: x")
            .retry);
    assert_false(decide_fetch_end(arena, &exit1, "remote: Repository not found.").retry);
    assert_false(decide_fetch_end(arena, &exit1, "fatal: Authentication failed for x").retry);
    assert_true(decide_fetch_end(arena, &late, "").retry);
    assert_true(decide_fetch_wants_branch("fatal: remote error: upload-pack: not our ref " SHA));
    assert_false(decide_fetch_wants_branch("fatal: Authentication failed"));
    assert_true(decide_push_end(arena, &exit1, "Error: dial tcp: connection refused").retry);
    assert_false(decide_push_end(arena, &exit1, "unauthorized: authentication required").retry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_judged),
        cmocka_unit_test(dangerous_fields_are_refused),
        cmocka_unit_test(build_type_is_found),
        cmocka_unit_test(ends_are_explained),
    };
    arena = ec_arena_new(1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ec_arena_free(arena);
    return failed;
}
