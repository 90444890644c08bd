/* Bodies and answers of the Docker Engine API. What Podman 4.3 does in its own way, seen and
 * handled: both ulimits have to be named or the start fails; a failed pull answers 200; OOMKilled
 * is never set; container lists have no exit code but in the "Status" text; logs are framed. */
#include "docker_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"
#include "log_frames.h"
#include "trust/digest.h"
#include "trust/token.h"

#define LOGS_MAX_BYTES 4000
#define MESSAGE_MAX_BYTES 1000
#define CONTAINERS_MAX 4096
#define DAY_MS 86400000

/* ---- reading ---- */

static const char *label(struct ec_arena *arena, const json_t *labels, const char *name)
{
    const char *text = json_string_value(json_object_get(labels, name));
    return ec_arena_strdup(arena, text ? text : "");
}

static int64_t bounded(const json_t *root, const char *name, int64_t least, int64_t most,
                       int64_t otherwise)
{
    int64_t value = ec_json_int(root, name, otherwise);
    return value < least || value > most ? otherwise : value;
}

/* The path goes into a request line. */
static bool path_usable(const char *path)
{
    for (const char *c = path; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f) {
            return false;
        }
    }
    return path[0] == '/' && strlen(path) <= TARGET_PROBE_PATH_MAX;
}

static void read_probe(struct ec_arena *arena, const char *text, struct probe_spec *ret_probe)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    *ret_probe = (struct probe_spec){"/", 8080, 0, 1000, 3000, 60000, 3};
    if (ec_failed(ec_json_parse(arena, ec_span_of(text), &root))) {
        return; /* somebody changed the label: the defaults are as good as anything */
    }
    const char *path = ec_json_text(root, "path");
    ret_probe->path = path_usable(path) ? ec_arena_strdup(arena, path) : "/";
    ret_probe->port = (int)bounded(root, "port", 1, 65535, 8080);
    ret_probe->delay_ms = bounded(root, "delay_ms", 0, DAY_MS, 0);
    ret_probe->period_ms = bounded(root, "period_ms", 100, DAY_MS, 1000);
    ret_probe->timeout_ms = bounded(root, "timeout_ms", 1, DAY_MS, 3000);
    ret_probe->deadline_ms = bounded(root, "deadline_ms", 1, DAY_MS, 60000);
    ret_probe->failures_max = (int)bounded(root, "failures_max", 1, 1000, 3);
}

static long small_number(const char *text, long max, long otherwise)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    return end == text || errno || number < 0 || number > max ? otherwise : number;
}

static int read_exit_code(const char *status)
{
    static const char mark[] = "Exited (";
    bool marked = strncmp(status, mark, sizeof(mark) - 1) == 0;
    return marked ? (int)small_number(status + sizeof(mark) - 1, 255, -1) : -1;
}

static enum container_state read_state(const char *state)
{
    if (strcmp(state, "running") == 0 || strcmp(state, "paused") == 0) {
        return CONTAINER_RUNNING;
    }
    bool fresh = strcmp(state, "created") == 0 || strcmp(state, "configured") == 0 ||
                 strcmp(state, "initialized") == 0;
    return fresh ? CONTAINER_CREATED : CONTAINER_EXITED;
}

static int read_port(const json_t *ports, int inside)
{
    size_t i;
    const json_t *port;
    json_array_foreach(ports, i, port)
    {
        if (ec_json_int(port, "PrivatePort", 0) == inside) {
            return (int)bounded(port, "PublicPort", 1, 65535, 0);
        }
    }
    return 0;
}

static void read_container(struct ec_arena *arena, const json_t *item, struct container *ret)
{
    const json_t *labels = json_object_get(item, "Labels");
    const char *name = json_string_value(json_array_get(json_object_get(item, "Names"), 0));
    name = name ? name : "";
    read_probe(arena, label(arena, labels, "enclii.probe"), &ret->probe);
    ret->id = ec_arena_strdup(arena, ec_json_text(item, "Id"));
    ret->name = ec_arena_strdup(arena, name[0] == '/' ? name + 1 : name);
    ret->key = label(arena, labels, "enclii.key");
    ret->identity = label(arena, labels, "enclii.identity");
    ret->deployment_id = label(arena, labels, "enclii.deployment");
    ret->replica = (int)small_number(label(arena, labels, "enclii.replica"), 9999, 0);
    ret->state = read_state(ec_json_text(item, "State"));
    ret->exit_code = read_exit_code(ec_json_text(item, "Status"));
    ret->host_port = read_port(json_object_get(item, "Ports"), ret->probe.port);
}

struct ec_err docker_read_list(struct ec_arena *arena, struct ec_span json,
                               struct container **ret_list, size_t *ret_count)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    EC_TRY(ec_json_parse(arena, json, &root));
    if (!json_is_array(root)) {
        return ec_reject("the container engine's list is not a JSON array");
    }
    if (json_array_size(root) > CONTAINERS_MAX) {
        return ec_reject("the container engine lists more than 4096 containers");
    }
    size_t count = 0;
    struct container *list = ec_arena_alloc(arena, (json_array_size(root) + 1) * sizeof *list);
    size_t i;
    const json_t *item;
    json_array_foreach(root, i, item)
    {
        read_container(arena, item, &list[count]);
        bool ours = list[count].id[0] != '\0' && list[count].key[0] != '\0' &&
                    strlen(list[count].identity) < TARGET_IDENTITY_SIZE;
        count += ours ? 1 : 0;
    }
    *ret_list = list;
    *ret_count = count;
    return ec_ok();
}

const char *docker_read_message(struct ec_arena *arena, struct ec_span body)
{
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (ec_failed(ec_json_parse(arena, body, &root))) {
        return "";
    }
    return ec_text_clean(arena, ec_span_of(ec_json_text(root, "message")), MESSAGE_MAX_BYTES);
}

/* An image that is not there, or not for us, will not be. Everything else (a registry that is away,
 * limits us, breaks off or has an error of its own) may pass within the rollout's deadline. */
static bool pull_is_hopeless(const char *fault)
{
    static const char *const words[] = {
        "manifest unknown", "not found",      "name unknown",      "unauthorized",
        "denied",           "no such image",  "unsupported",       "no matching",
        "does not exist",   "no image found", "invalid reference", NULL};
    for (size_t i = 0; words[i]; i++) {
        if (strcasestr(fault, words[i])) {
            return true;
        }
    }
    return false;
}

struct ec_err docker_read_pull(struct ec_arena *arena, int status, struct ec_span body)
{
    if (status >= 500 || status == 408 || status == 429) {
        return ec_retry_in(arena, status, "%s", docker_read_message(arena, body));
    }
    if (status >= 300) {
        return ec_reject_in(arena, "%s", docker_read_message(arena, body));
    }
    const char *at = body.ptr;
    const char *end = body.ptr + body.len;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        ec_cleanup(ec_json_freep) json_t *line = NULL;
        struct ec_err err = ec_json_parse(arena, (struct ec_span){at, len}, &line);
        const char *said = ec_failed(err) ? "" : ec_json_text(line, "error");
        const char *fault = ec_text_clean(arena, ec_span_of(said), MESSAGE_MAX_BYTES);
        if (fault[0] != '\0') {
            return pull_is_hopeless(fault) ? ec_reject_in(arena, "%s", fault)
                                           : ec_retry_in(arena, 0, "%s", fault);
        }
        at += len + 1;
    }
    return ec_ok();
}

static void add_log_line(void *arg, bool error_stream, struct ec_span text)
{
    (void)error_stream;
    struct ec_buf *out = arg;
    ec_buf_add_text(out, out->len ? "\n" : "");
    ec_buf_add_span(out, text);
}

char *docker_read_logs(struct ec_arena *arena, struct ec_span frames)
{
    ec_cleanup(ec_buf_done) struct ec_buf text = {0};
    ec_buf_init(&text, 2u << 20);
    struct log_frames *state = ec_arena_alloc(arena, sizeof *state);
    log_frames_feed(state, frames, add_log_line, &text);
    log_frames_end(state, add_log_line, &text);
    struct ec_span tail = ec_buf_span(&text);
    if (tail.len > LOGS_MAX_BYTES) {
        tail.ptr += tail.len - LOGS_MAX_BYTES;
        tail.len = LOGS_MAX_BYTES;
    }
    return ec_text_clean(arena, tail, 3 * LOGS_MAX_BYTES);
}

char *docker_exit_text(struct ec_arena *arena, int exit_code)
{
    if (exit_code == 137) {
        return ec_arena_format(arena, "was killed (code 137): most likely it used more memory than "
                                      "its limit; raise resources.memory");
    }
    if (exit_code > 128 && exit_code < 160) {
        return ec_arena_format(arena, "was ended by signal %d", exit_code - 128);
    }
    return ec_arena_format(arena, "exited with code %d", exit_code);
}

/* ---- writing ---- */

struct target_identity docker_identity(const Enclii__V1__DesiredRelease *release)
{
    Enclii__V1__RunSpec run = *release->run;
    run.replicas = 0; /* scaling is no new version */
    ec_cleanup(ec_buf_done) struct ec_buf packed = {0};
    ec_buf_init(&packed, 8u << 20);
    size_t len = enclii__v1__run_spec__get_packed_size(&run);
    unsigned char *bytes = ec_alloc(len + 1);
    enclii__v1__run_spec__pack(&run, bytes);
    ec_buf_add(&packed, bytes, len);
    ec_buf_add_text(&packed, release->image);
    free(bytes);
    unsigned char digest[EC_SHA256_BYTES];
    ec_sha256(ec_buf_span(&packed), digest);
    struct target_identity identity;
    snprintf(identity.text, sizeof identity.text, "%.36s/%02x%02x%02x%02x%02x%02x",
             release->release_id, digest[0], digest[1], digest[2], digest[3], digest[4], digest[5]);
    return identity;
}

static void add_name_part(struct ec_buf *out, const char *text, size_t max)
{
    for (size_t i = 0; text[i] != '\0' && i < max; i++) {
        char c = text[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        char lower = c >= 'A' && c <= 'Z' ? (char)(c + 32) : '-';
        ec_buf_add(out, fine ? &c : &lower, 1);
    }
}

char *docker_container_name(struct ec_arena *arena, const struct target_goal *goal, int replica)
{
    unsigned char nonce[3] = {0};
    ec_ignore(ec_random_bytes(nonce, sizeof nonce)); /* a clash only makes the engine answer 409 */
    const char *sha = goal->release->commit_sha;
    size_t id_len = strlen(goal->release->release_id);
    const char *release =
        strlen(sha) >= 7 ? sha : goal->release->release_id + (id_len > 7 ? id_len - 7 : 0);
    ec_cleanup(ec_buf_done) struct ec_buf name = {0};
    ec_buf_init(&name, 200);
    ec_buf_add_text(&name, "enclii-");
    add_name_part(&name, goal->service->service_name, 30);
    ec_buf_add_text(&name, "-");
    add_name_part(&name, goal->environment->name, 20);
    ec_buf_add_text(&name, "-");
    add_name_part(&name, release, 7);
    ec_buf_addf(&name, "-%d-%02x%02x%02x", replica, nonce[0], nonce[1], nonce[2]);
    return ec_arena_text(arena, ec_buf_span(&name));
}

static void add_env(struct ec_arena *arena, json_t *env, const char *name, const char *value)
{
    json_array_append_new(env, json_string(ec_arena_format(arena, "%s=%s", name, value)));
}

static json_t *env_of(struct ec_arena *arena, const struct target_goal *goal, int replica)
{
    const Enclii__V1__RunSpec *run = goal->release->run;
    json_t *env = json_array();
    for (size_t i = 0; i < run->n_env; i++) {
        add_env(arena, env, run->env[i]->key, run->env[i]->value);
    }
    add_env(arena, env, "PORT", ec_arena_format(arena, "%d", run->port ? run->port : 8080));
    add_env(arena, env, "ENCLII_PROJECT", goal->service->project_slug);
    add_env(arena, env, "ENCLII_SERVICE_NAME", goal->service->service_name);
    add_env(arena, env, "ENCLII_ENVIRONMENT", goal->environment->name);
    add_env(arena, env, "ENCLII_RELEASE", goal->release->version);
    add_env(arena, env, "ENCLII_COMMIT_SHA", goal->release->commit_sha);
    add_env(arena, env, "ENCLII_REPLICA", ec_arena_format(arena, "%d", replica));
    return env;
}

static char *probe_label(struct ec_arena *arena, const Enclii__V1__RunSpec *run)
{
    Enclii__V1__ProbeSpec none;
    enclii__v1__probe_spec__init(&none);
    const Enclii__V1__ProbeSpec *probe = run->probe ? run->probe : &none;
    json_t *root = json_pack(
        "{s:s, s:i, s:I, s:I, s:I, s:I, s:i}", "path", probe->path[0] ? probe->path : "/", "port",
        run->port ? run->port : 8080, "delay_ms", (json_int_t)probe->initial_delay_ms, "period_ms",
        (json_int_t)(probe->period_ms ? probe->period_ms : 1000), "timeout_ms",
        (json_int_t)(probe->timeout_ms ? probe->timeout_ms : 3000), "deadline_ms",
        (json_int_t)(probe->deadline_ms ? probe->deadline_ms : 60000), "failures_max",
        probe->failures_max ? probe->failures_max : 3);
    char *text = ec_json_dump(arena, root);
    json_decref(root);
    return text;
}

static json_t *labels_of(struct ec_arena *arena, const struct target_goal *goal, int replica,
                         const char *instance)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "enclii.instance",
                     instance, "enclii.key", goal->key, "enclii.identity", goal->identity.text,
                     "enclii.deployment", goal->deployment_id, "enclii.release",
                     goal->release->release_id, "enclii.project", goal->service->project_slug,
                     "enclii.service", goal->service->service_name, "enclii.environment",
                     goal->environment->name, "enclii.replica",
                     ec_arena_format(arena, "%d", replica), "enclii.probe",
                     probe_label(arena, goal->release->run));
}

static json_t *host_config(const Enclii__V1__RunSpec *run, const char *port)
{
    int64_t memory = run->memory_max_bytes > 0 ? run->memory_max_bytes : 512LL << 20;
    int64_t cpu_milli = run->cpu_milli > 0 ? run->cpu_milli : 500;
    return json_pack("{s:{s:[{s:s, s:s}]}, s:s, s:I, s:I, s:I, s:i, s:[s], s:[s], s:[{s:s, s:i, "
                     "s:i}, {s:s, s:i, s:i}]}",
                     "PortBindings", port, "HostIp", "127.0.0.1", "HostPort", "", "NetworkMode",
                     "bridge", "Memory", (json_int_t)memory, "MemorySwap", (json_int_t)memory,
                     "NanoCpus", (json_int_t)cpu_milli * 1000000, "PidsLimit", 512, "CapDrop",
                     "ALL", "SecurityOpt", "no-new-privileges", "Ulimits", "Name", "nofile", "Soft",
                     4096, "Hard", 4096, "Name", "nproc", "Soft", 4096, "Hard", 4096);
}

char *docker_create_body(struct ec_arena *arena, const struct target_goal *goal, int replica,
                         const char *instance)
{
    const Enclii__V1__RunSpec *run = goal->release->run;
    char *port = ec_arena_format(arena, "%d/tcp", run->port ? run->port : 8080);
    json_t *body =
        json_pack("{s:s, s:o, s:{s:{}}, s:o, s:o}", "Image", goal->release->image, "Env",
                  env_of(arena, goal, replica), "ExposedPorts", port, "Labels",
                  labels_of(arena, goal, replica, instance), "HostConfig", host_config(run, port));
    if (run->n_command > 0 && body != NULL) {
        json_t *command = json_array();
        for (size_t i = 0; i < run->n_command; i++) {
            json_array_append_new(command, json_string(run->command[i]));
        }
        json_object_set_new(body, "Cmd", command);
    }
    char *text = body ? ec_json_dump(arena, body) : NULL; /* NULL: some text is not UTF-8 */
    json_decref(body);
    return text;
}
