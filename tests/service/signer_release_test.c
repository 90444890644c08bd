/* The signer's real handlers on Kafka's mock cluster, a real docker-registry and a Syft that is a
 * shell script: releases signed, refused, repeated, interrupted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "bus/topics.h"
#include "oci/referrers.h"
#include "signer.h"
#include "support/kafka.h"
#include "support/registry.h"
#include "trust/bundle.h"
#include "trust/digest.h"

#define CLONE_URL "http://127.0.0.1:3000/acme/shop.git"
#define COMMIT_A "0123456789012345678901234567890123456789"
#define COMMIT_B "1123456789012345678901234567890123456789"
#define WAIT_MS 15000

/* What the script does is chosen by files beside it: each run adds a line to "runs". */
static const char fake_syft[] =
    "#!/bin/sh\n"
    "dir=$(dirname \"$0\")\n"
    "echo \"$*\" >> \"$dir/runs\"\n"
    "for arg in \"$@\"; do case $arg in cyclonedx-json@1.6=*) out=${arg#*=};; esac; done\n"
    "[ -e \"$dir/slow\" ] && sleep 30\n"
    "[ -e \"$dir/fail\" ] && { echo 'no such layer' >&2; exit 1; }\n"
    "[ -e \"$dir/garbage\" ] && { echo '{\"bomFormat\":\"SPDX\"}' > \"$out\"; exit 0; }\n"
    "echo '{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":"
    "[{\"type\":\"library\",\"name\":\"openssl\"}]}' > \"$out\"\n";

static struct fixture {
    struct test_registry *server;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;   /* the signer's */
    struct ec_bus *watch; /* ours */
    struct ec_fetcher *fetcher;
    struct ec_registry *registry; /* ours */
    struct ec_arena *arena;
    struct signer sg;
    char dir[64];
    int number;
    /* of the last release asked for */
    char release_id[64];
    int signed_count, refused_count, step_count;
    char digests[3][80];
    char reason[64], detail[256], sbom_object[256], key_id[64];
    int32_t components;
    size_t steps_in_verdict;
    /* of the last question to the registry */
    bool over;
    struct ec_err err;
    char digest[80];
    size_t referrer_count;
    bool verified;
    char verified_by[64];
} fx;

static char *in_dir(const char *name)
{
    return ec_arena_format(fx.arena, "%s/%s", fx.dir, name);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    const char *path = in_dir(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    chmod(path, mode);
}

static int count_runs(void)
{
    FILE *file = fopen(in_dir("runs"), "r");
    int lines = 0;
    for (int c; file && (c = fgetc(file)) != EOF;) {
        lines += c == '\n';
    }
    if (file) {
        fclose(file);
    }
    return lines;
}

/* ---- what the signer says ---- */

static void on_word(void *state, struct ec_event *ev)
{
    (void)state;
    if (strcmp(ec_event_subject(ev), fx.release_id) != 0) {
        return;
    }
    if (strstr(ec_event_type(ev), "release.step.")) {
        fx.step_count++;
    } else if (strstr(ec_event_type(ev), "release.refused.")) {
        const Enclii__V1__ReleaseRefused *word = ec_event_body(ev);
        snprintf(fx.reason, sizeof(fx.reason), "%s", word->reason);
        snprintf(fx.detail, sizeof(fx.detail), "%s", word->detail);
        fx.refused_count++;
    } else if (strstr(ec_event_type(ev), "release.signed.")) {
        const Enclii__V1__ReleaseSigned *word = ec_event_body(ev);
        snprintf(fx.digests[0], 80, "%s", word->signature_digest);
        snprintf(fx.digests[1], 80, "%s", word->provenance_digest);
        snprintf(fx.digests[2], 80, "%s", word->sbom_digest);
        snprintf(fx.sbom_object, sizeof(fx.sbom_object), "%s", word->sbom_object);
        snprintf(fx.key_id, sizeof(fx.key_id), "%s", word->key_id);
        fx.components = word->sbom_components;
        fx.steps_in_verdict = word->n_steps;
        fx.signed_count++;
    }
}

static const struct ec_route watch_routes[] = {
    {"dev.enclii.release.signed.v1", &enclii__v1__release_signed__descriptor, NULL},
    {"dev.enclii.release.refused.v1", &enclii__v1__release_refused__descriptor, NULL},
    {"dev.enclii.release.step.v1", &enclii__v1__release_step_finished__descriptor, NULL},
};
static const char *const watch_topics[] = {EC_TOPIC_RELEASE_EVENTS, NULL};

/* ---- fixture ---- */

static void open_signer(void)
{
    fx.sg = (struct signer){
        .settings = {.signing_key_file = in_dir("signing.key"),
                     .object_store = ec_arena_format(fx.arena, "file://%s/objects", fx.dir),
                     .work_dir = in_dir("work"),
                     .syft = in_dir("syft"),
                     .docker_config_file = "",
                     .registry = test_registry_host(fx.server),
                     .syft_timeout_ms = 10000,
                     .slots = 2,
                     .registry_insecure = true}};
    fx.bus = test_kafka_bus(fx.kafka, "signer");
    assert_int_equal(signer_open(&fx.sg, fx.loop, fx.bus, fx.fetcher, fx.arena).fate, EC_FATE_OK);
    assert_int_equal(signer_consume(&fx.sg).fate, EC_FATE_OK);
}

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static void close_signer(void)
{
    bool stopped = false;
    signer_stop(&fx.sg, set_true, &stopped);
    assert_true(test_run_until(fx.loop, 5000, test_is_true, &stopped));
    test_kafka_close_bus(fx.kafka, fx.bus);
    signer_close(&fx.sg);
}

static int setup_all(void **state)
{
    (void)state;
    fx.server = test_registry_start(false);
    if (!fx.server) {
        return 0;
    }
    fx.arena = ec_arena_new(64 << 20);
    strcpy(fx.dir, "/tmp/enclii-signer-XXXXXX");
    assert_non_null(mkdtemp(fx.dir));
    write_file("syft", fake_syft, 0755);
    fx.loop = ec_loop_new();
    fx.kafka = test_kafka_start(fx.loop, "enclii.release.events:1",
                                "enclii.release.events.signer.dead:1", NULL);
    fx.watch = test_kafka_bus(fx.kafka, "watcher");
    assert_int_equal(ec_fetcher_open(fx.loop, "test", 8, &fx.fetcher).fate, EC_FATE_OK);
    struct ec_registry_spec spec = {.loop = fx.loop, .fetcher = fx.fetcher, .insecure = true};
    assert_int_equal(ec_registry_open(&spec, &fx.registry).fate, EC_FATE_OK);
    struct ec_table_spec table = {.topics = watch_topics,
                                  .routes = watch_routes,
                                  .route_count = EC_LEN(watch_routes),
                                  .on_event = on_word};
    assert_int_equal(ec_bus_table(fx.watch, &table, NULL).fate, EC_FATE_OK);
    open_signer();
    return 0;
}

static int teardown_all(void **state)
{
    (void)state;
    if (!fx.server) {
        return 0;
    }
    close_signer();
    test_kafka_close_bus(fx.kafka, fx.watch);
    ec_registry_close(fx.registry);
    ec_fetcher_close(fx.fetcher);
    test_kafka_stop(fx.kafka);
    ec_loop_run(fx.loop);
    ec_loop_free(fx.loop);
    test_registry_free(fx.server);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", fx.dir);
    int left = system(command);
    ec_arena_free(fx.arena);
    return left;
}

static int forget_modes(void **state)
{
    (void)state;
    if (fx.server) {
        unlink(in_dir("slow"));
        unlink(in_dir("fail"));
        unlink(in_dir("garbage"));
        unlink(in_dir("runs"));
    }
    return 0;
}

/* ---- asking ---- */

static void on_answer(void *arg, struct ec_err err, const struct ec_oci_answer *answer)
{
    (void)arg;
    fx.err = err;
    snprintf(fx.digest, sizeof(fx.digest), "%s", answer->digest);
    fx.over = true;
}

static void on_referrers(void *arg, struct ec_err err, const struct ec_referrer *list, size_t count)
{
    (void)arg;
    (void)list;
    fx.err = err;
    fx.referrer_count = count;
    fx.over = true;
}

static void on_verdict(void *arg, struct ec_err err, const struct ec_image_verdict *verdict)
{
    (void)arg;
    fx.err = err;
    fx.verified = verdict && verdict->ok;
    snprintf(fx.verified_by, sizeof(fx.verified_by), "%s", verdict ? verdict->key_id : "");
    fx.over = true;
}

static void wait_for(struct ec_err started)
{
    assert_int_equal(started.fate, EC_FATE_OK);
    fx.over = false;
    assert_true(test_run_until(fx.loop, WAIT_MS, test_is_true, &fx.over));
    assert_int_equal(fx.err.fate, EC_FATE_OK);
}

static struct ec_ref image_of(const char *digest)
{
    return (struct ec_ref){test_registry_host(fx.server), "acme/shop", "", digest};
}

/* Another image each time; gives its digest. */
static char *push_image(void)
{
    struct ec_ref image = image_of("");
    const char *config = ec_arena_format(fx.arena, "{\"os\":\"linux\",\"n\":%d}", ++fx.number);
    wait_for(ec_blob_put(fx.registry, &image, ec_span_of(config), on_answer, NULL));
    const char *manifest = ec_arena_format(
        fx.arena,
        "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":\"application/"
        "vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[]}",
        EC_OCI_MANIFEST, fx.digest, strlen(config));
    char *digest = ec_sha256_digest(fx.arena, ec_span_of(manifest));
    wait_for(ec_manifest_put(fx.registry, &image, digest, EC_OCI_MANIFEST, ec_span_of(manifest),
                             on_answer, NULL));
    return digest;
}

static size_t count_referrers(const char *digest)
{
    struct ec_ref image = image_of(digest);
    wait_for(ec_referrers_list(fx.registry, &image, digest, on_referrers, NULL));
    return fx.referrer_count;
}

/* With the public keys of this file, as the api reads them. */
static bool verify_with(const char *file, const char *digest, const char *commit)
{
    ec_cleanup(ec_secret_freep) struct ec_secret *pem = NULL;
    struct ec_keyring keys;
    assert_int_equal(ec_secret_read(in_dir(file), &pem).fate, EC_FATE_OK);
    assert_int_equal(ec_keyring_from_pem(fx.arena, ec_secret_use(pem), &keys).fate, EC_FATE_OK);
    struct ec_ref image = image_of(digest);
    struct ec_image_verify_spec spec = {.image = &image,
                                        .keys = keys,
                                        .expect_commit = commit,
                                        .expect_clone_url = CLONE_URL,
                                        .expect_builder_id = "https://enclii.dev/builder/b1"};
    wait_for(ec_image_verify(fx.registry, &spec, on_verdict, NULL));
    ec_keyring_done(&keys);
    return fx.verified;
}

static bool verify(const char *digest, const char *commit)
{
    return verify_with("signing.key.pub", digest, commit);
}

/* Publishes ReleaseCreated; what is heard from then on is about it. */
static void ask(const char *release_id, char *digest, char *commit_sha)
{
    fx.signed_count = fx.refused_count = fx.step_count = 0;
    snprintf(fx.release_id, sizeof(fx.release_id), "%s", release_id);
    Enclii__V1__Commit commit = ENCLII__V1__COMMIT__INIT;
    commit.sha = commit_sha;
    commit.ref = "refs/heads/main";
    Enclii__V1__ReleaseCreated release = ENCLII__V1__RELEASE_CREATED__INIT;
    release.release_id = fx.release_id;
    release.build_id = "build-1";
    release.attempt = 1;
    release.commit = &commit;
    release.clone_url = CLONE_URL;
    release.image_repo = ec_arena_format(fx.arena, "%s/acme/shop", test_registry_host(fx.server));
    release.digest = digest;
    release.builder_id = "b1";
    release.engine = "buildah 1.28.2";
    static int sent;
    char id[32];
    snprintf(id, sizeof(id), "created-%d", ++sent);
    test_kafka_publish(fx.kafka, fx.watch,
                       &(struct ec_message){.topic = EC_TOPIC_RELEASE_EVENTS,
                                            .key = "service-1",
                                            .type = "dev.enclii.release.created.v1",
                                            .subject = fx.release_id,
                                            .id = id,
                                            .body = &release.base});
}

static bool is_decided(void *arg)
{
    (void)arg;
    return fx.signed_count + fx.refused_count > 0;
}

static void wait_verdict(void)
{
    assert_true(test_run_until(fx.loop, WAIT_MS, is_decided, NULL));
}

#define SKIP_WITHOUT_REGISTRY()                                                                    \
    do {                                                                                           \
        if (!fx.server) {                                                                          \
            print_message("docker-registry is not installed\n");                                   \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* ---- the tests ---- */

static void a_release_is_signed_and_verifies(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    char *digest = push_image();
    assert_false(verify(digest, COMMIT_A));
    ask("release-good", digest, COMMIT_A);
    wait_verdict();
    assert_string_equal(fx.reason, "");
    assert_int_equal(fx.signed_count, 1);
    assert_int_equal(fx.components, 1);
    assert_int_equal(fx.steps_in_verdict, 6);
    assert_int_equal(count_referrers(digest), 3);
    assert_true(verify(digest, COMMIT_A));
    assert_false(verify(digest, COMMIT_B));
    assert_string_equal(fx.key_id, ec_key_hint(fx.sg.key));
    assert_int_equal(access(in_dir(ec_arena_format(fx.arena, "objects/%s", fx.sbom_object)), R_OK),
                     0);
    /* Once more: the same words, and nothing new in the registry. */
    char first[3][80];
    memcpy(first, fx.digests, sizeof(first));
    ask("release-good", digest, COMMIT_A);
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    assert_memory_equal(first, fx.digests, sizeof(first));
    assert_int_equal(count_referrers(digest), 3);
    assert_int_equal(count_runs(), 1);
    /* The same image from another commit needs another provenance, and nothing else. */
    ask("release-other", digest, COMMIT_B);
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    assert_int_equal(count_referrers(digest), 4);
    assert_int_equal(count_runs(), 1);
    assert_true(verify(digest, COMMIT_A));
    assert_true(verify(digest, COMMIT_B));
}

static void run(const char *command)
{
    assert_int_equal(system(ec_arena_format(fx.arena, "cd '%s' && %s", fx.dir, command)), 0);
}

/* The day after a rotation: what was signed before verifies as long as its key is in the list. */
static void a_rotated_key_leaves_older_releases_good(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    char *before = push_image(), *after = push_image(), old_id[64];
    ask("release-before", before, COMMIT_A);
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    snprintf(old_id, sizeof(old_id), "%s", fx.key_id);
    close_signer();
    run("mv signing.key signing.old && mv signing.key.pub signing.old.pub");
    open_signer(); /* makes the new key */
    run("cat signing.key.pub signing.old.pub > keys.pub");
    ask("release-after", after, COMMIT_A);
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    assert_string_not_equal(fx.key_id, old_id);
    assert_true(verify_with("keys.pub", after, COMMIT_A));
    assert_string_equal(fx.verified_by, fx.key_id);
    assert_true(verify_with("keys.pub", before, COMMIT_A));
    assert_string_equal(fx.verified_by, old_id);
    assert_false(verify(before, COMMIT_A)); /* the new key alone */
    assert_false(verify_with("signing.old.pub", after, COMMIT_A));
    /* Asked for once more, the older one is signed by the new key, too. */
    ask("release-before", before, COMMIT_A);
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    assert_true(verify(before, COMMIT_A));
    assert_true(verify_with("signing.old.pub", before, COMMIT_A));
}

static void an_image_that_is_not_there_is_refused(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    ask("release-nowhere",
        "sha256:55136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", COMMIT_A);
    wait_verdict();
    assert_int_equal(fx.refused_count, 1);
    assert_string_equal(fx.reason, "digest_not_in_registry");
    assert_int_equal(count_runs(), 0);
}

static void a_release_without_a_source_is_refused(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    ask("release-sourceless", push_image(), "");
    wait_verdict();
    assert_int_equal(fx.refused_count, 1);
    assert_string_equal(fx.reason, "bad_request");
    assert_non_null(strstr(fx.detail, "commit"));
}

static void no_sbom_no_signature(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    char *digest = push_image();
    write_file("garbage", "", 0644);
    ask("release-garbage", digest, COMMIT_A);
    wait_verdict();
    assert_string_equal(fx.reason, "sbom_failed");
    assert_non_null(strstr(fx.detail, "CycloneDX"));
    unlink(in_dir("garbage"));
    unlink(in_dir("runs"));
    write_file("fail", "", 0644);
    ask("release-fail", digest, COMMIT_A);
    wait_verdict();
    assert_int_equal(fx.refused_count, 1);
    assert_string_equal(fx.reason, "sbom_failed");
    assert_non_null(strstr(fx.detail, "no such layer"));
    assert_int_equal(count_runs(), 2);
    assert_int_equal(count_referrers(digest), 0);
}

static void a_registry_that_is_away_delays_and_refuses_nothing(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    char *digest = push_image();
    test_registry_down(fx.server);
    ask("release-away", digest, COMMIT_A);
    assert_false(test_run_within(fx.loop, 1500, is_decided, NULL));
    test_registry_up(fx.server);
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    assert_int_equal(count_referrers(digest), 3);
}

static bool syft_runs(void *arg)
{
    (void)arg;
    return count_runs() == 1;
}

static void a_stop_in_the_middle_loses_nothing(void **state)
{
    (void)state;
    SKIP_WITHOUT_REGISTRY();
    char *digest = push_image();
    write_file("slow", "", 0644);
    ask("release-stopped", digest, COMMIT_A);
    assert_true(test_run_until(fx.loop, WAIT_MS, syft_runs, NULL));
    close_signer();
    assert_false(is_decided(NULL));
    unlink(in_dir("slow"));
    open_signer();
    wait_verdict();
    assert_int_equal(fx.signed_count, 1);
    assert_true(verify(digest, COMMIT_A));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_release_is_signed_and_verifies, forget_modes),
        cmocka_unit_test_setup(a_rotated_key_leaves_older_releases_good, forget_modes),
        cmocka_unit_test_setup(an_image_that_is_not_there_is_refused, forget_modes),
        cmocka_unit_test_setup(a_release_without_a_source_is_refused, forget_modes),
        cmocka_unit_test_setup(no_sbom_no_signature, forget_modes),
        cmocka_unit_test_setup(a_registry_that_is_away_delays_and_refuses_nothing, forget_modes),
        cmocka_unit_test_setup(a_stop_in_the_middle_loses_nothing, forget_modes),
    };
    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
