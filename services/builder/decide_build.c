/* Tools say why they failed in words only, so some verdicts read words. What is not recognised
 * counts as trouble that may pass for the network steps, and as the commit's own fault for the
 * build itself. */
#include "decide_build.h"

#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "base/git_ref.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/span.h"

#define MIB (1024 * 1024)

/* ---- commands ---- */

static bool is_hex(const char *text)
{
    size_t len = strlen(text);
    return (len == 40 || len == 64) && strspn(text, "0123456789abcdef") == len;
}

static bool is_plain(const char *text, const char *more)
{
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr(more, *c)) {
            return false;
        }
    }
    return text[0] && text[0] != '-' && strlen(text) <= 512;
}

/* And no refspec that forces. */
static bool is_ref(const char *ref)
{
    return ref[0] != '+' && ec_git_ref_valid(ec_span_of(ref));
}

/* "git@host:path" is ssh in another form. */
static bool url_allowed(const char *url, const char *protocols)
{
    const char *end = strstr(url, "://");
    struct ec_span scheme = end ? (struct ec_span){url, (size_t)(end - url)} : EC_SPAN("ssh");
    const char *word = url;
    while (isalnum((unsigned char)*word) || (*word && strchr("+-.", *word))) {
        word++;
    }
    bool helper = strncmp(word, "::", 2) == 0; /* git would run git-remote-<word> */
    if (url[0] == '-' || strlen(url) > 2048 || helper || (!end && !strpbrk(url, "@:"))) {
        return false;
    }
    for (const char *c = url; *c; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f) {
            return false;
        }
    }
    for (const char *at = protocols; *at;) {
        size_t len = strcspn(at, ":");
        if (ec_span_eq((struct ec_span){at, len}, scheme)) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return false;
}

bool path_stays_inside(const char *path)
{
    if (path[0] == '/' || strlen(path) > 1024) {
        return false;
    }
    for (const char *c = path; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            return false;
        }
    }
    for (const char *at = path; *at;) {
        size_t len = strcspn(at, "/");
        if (len == 2 && at[0] == '.' && at[1] == '.') {
            return false;
        }
        at += len + (at[len] == '/');
    }
    return true;
}

const char *decide_command_fault(const Enclii__V1__RunBuild *run, const char *protocols)
{
    if (!ec_id_valid(run->build_id)) {
        return "build_id is not a UUID";
    }
    if (!run->service || !is_plain(run->service->service_id, "-_")) {
        return "service_id is missing or has strange characters";
    }
    if (!run->commit || !is_hex(run->commit->sha)) {
        return "the commit id is not 40 or 64 lower-case hex digits";
    }
    if (run->commit->ref[0] && !is_ref(run->commit->ref)) {
        return "the ref has characters that git does not allow";
    }
    if (!url_allowed(run->clone_url, protocols)) {
        return "the clone URL's protocol is not allowed: use https://, http:// or ssh";
    }
    if (!is_plain(run->image_repo, "/._-:")) {
        return "image_repo is not an image name";
    }
    if (run->spec && (!path_stays_inside(build_context_of(run->spec)) ||
                      !path_stays_inside(build_dockerfile_of(run->spec)))) {
        return "the build context or Dockerfile lies outside the repository";
    }
    return NULL;
}

enum command_verdict decide_command(const Enclii__V1__RunBuild *run,
                                    const struct command_facts *facts)
{
    if (strcmp(run->builder_id, facts->builder_id) != 0) {
        return COMMAND_NOT_OURS;
    }
    if (facts->running_same_attempt) {
        return COMMAND_DUPLICATE;
    }
    if (facts->now_unix_ms - facts->sent_unix_ms > COMMAND_STALE_MS ||
        (run->deadline_unix_ms > 0 && run->deadline_unix_ms <= facts->now_unix_ms)) {
        return COMMAND_STALE;
    }
    bool takes = !facts->draining && (run->trusted || !facts->trusted_only);
    return takes && facts->slots_free > 0 ? COMMAND_ACCEPT : COMMAND_NO_SLOT;
}

/* ---- the build type ---- */

static const struct marker {
    const char *file, *meaning;
} markers[] = {
    {"package.json", "a Node.js project"},    {"go.mod", "a Go module"},
    {"requirements.txt", "a Python project"}, {"pyproject.toml", "a Python project"},
    {"Cargo.toml", "a Rust crate"},           {"pom.xml", "a Maven project"},
    {"build.gradle", "a Gradle project"},     {"Gemfile", "a Ruby project"},
    {"composer.json", "a PHP project"},       {"index.html", "a static site"},
    {"CMakeLists.txt", "a CMake project"},    {"Makefile", "a project built by make"},
};

const char *const build_markers[] = {
    "package.json", "go.mod",  "requirements.txt", "pyproject.toml", "Cargo.toml",     "pom.xml",
    "build.gradle", "Gemfile", "composer.json",    "index.html",     "CMakeLists.txt", "Makefile",
    NULL,
};

const char *build_context_of(const Enclii__V1__BuildSpec *spec)
{
    return spec && spec->context && spec->context[0] ? spec->context : ".";
}

const char *build_dockerfile_of(const Enclii__V1__BuildSpec *spec)
{
    return spec && spec->dockerfile && spec->dockerfile[0] ? spec->dockerfile : "Dockerfile";
}

static const char *meaning_of(const char *file)
{
    for (size_t i = 0; i < EC_LEN(markers); i++) {
        if (strcmp(markers[i].file, file) == 0) {
            return markers[i].meaning;
        }
    }
    return "a project";
}

static const char *not_detected(struct ec_arena *arena, const char *context, const char *dockerfile,
                                const struct tree_facts *facts)
{
    const char *place = strcmp(context, ".") == 0 ? "the root of the repository" : context;
    if (!facts->context_there) {
        return ec_arena_format(arena,
                               "the build context \"%s\" is no folder of this commit: correct "
                               "spec.build.context in enclii.yaml",
                               context);
    }
    if (facts->found && facts->found[0]) {
        return ec_arena_format(arena,
                               "no file \"%s\" in %s. It has %s (%s): add a Dockerfile that builds "
                               "it and listens on $PORT, or name yours in spec.build.dockerfile "
                               "of enclii.yaml",
                               dockerfile, place, facts->found[0], meaning_of(facts->found[0]));
    }
    return ec_arena_format(arena,
                           "no file \"%s\" in %s, and nothing else that tells how to build it: add "
                           "a Dockerfile, or set spec.build.context and spec.build.dockerfile in "
                           "enclii.yaml",
                           dockerfile, place);
}

struct build_plan decide_build_type(struct ec_arena *arena, const Enclii__V1__BuildSpec *spec,
                                    const struct tree_facts *facts)
{
    struct build_plan plan = {.context = build_context_of(spec)};
    const char *dockerfile = build_dockerfile_of(spec);
    const char *type = spec && spec->type && spec->type[0] ? spec->type : "auto";
    if (strcmp(type, "auto") != 0 && strcmp(type, "dockerfile") != 0) {
        plan.detail = ec_arena_format(arena,
                                      "build type \"%s\" is not known here: use \"auto\" or "
                                      "\"dockerfile\" in spec.build.type of enclii.yaml",
                                      type);
    } else if (facts->context_there && facts->dockerfile_there) {
        bool told =
            strcmp(type, "dockerfile") == 0 || (spec && spec->dockerfile && spec->dockerfile[0]);
        plan.dockerfile = dockerfile;
        plan.detected_by =
            told ? ec_arena_format(arena, "enclii.yaml: %s", dockerfile) : dockerfile;
    } else {
        plan.detail = not_detected(arena, plan.context, dockerfile, facts);
    }
    return plan;
}

/* ---- ends ---- */

static bool says(const char *output, const char *const *words)
{
    for (; *words; words++) {
        if (strcasestr(output, *words)) {
            return true;
        }
    }
    return false;
}

/* The line that says most: the last one with "error" or "fatal", else the last one. */
static const char *telling_line(struct ec_arena *arena, const char *output)
{
    struct ec_span best = EC_SPAN("");
    bool strong = false;
    for (const char *at = output; *at;) {
        size_t len = strcspn(at, "\n");
        char *line = ec_arena_text(arena, (struct ec_span){at, len});
        bool word = strcasestr(line, "error") || strcasestr(line, "fatal");
        if (len > 0 && (word || !strong)) {
            best = (struct ec_span){line, len};
            strong = strong || word;
        }
        at += len + (at[len] == '\n');
    }
    return best.len > 0 ? best.ptr : "it said nothing";
}

static struct verdict stopped(struct ec_arena *arena, const struct ec_process_result *result,
                              int64_t timeout_ms, const char *what)
{
    if (result->cancelled) {
        return (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_CANCELLED, false,
                                "cancelled"};
    }
    const char *detail = ec_arena_format(
        arena, "%s took longer than %s: make it faster or raise its time limit", what,
        ec_duration_text(arena, timeout_ms > 0 ? timeout_ms : result->duration_ms));
    return (struct verdict){ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_TIMED_OUT, false, detail};
}

bool decide_fetch_wants_branch(const char *output)
{
    static const char *const words[] = {"unadvertised object", "not our ref",
                                        "does not allow request for", "expected old/new/ref", NULL};
    return says(output, words);
}

bool decide_cache_damaged(const char *output)
{
    static const char *const words[] = {"not a git repository", "corrupt",     "bad object",
                                        "object file",          "packfile",    "loose object",
                                        "unable to read",       "bad config",  "shallow file",
                                        "bad signature",        "broken link", NULL};
    return says(output, words);
}

struct verdict decide_fetch_end(struct ec_arena *arena, const struct ec_process_result *result,
                                const char *output)
{
    static const char *const access[] = {"Authentication failed",
                                         "could not read Username",
                                         "Permission denied",
                                         "Repository not found",
                                         "HTTP 401",
                                         "HTTP 403",
                                         "returned error: 401",
                                         "returned error: 403",
                                         "terminal prompts disabled",
                                         NULL};
    static const char *const absent[] = {"not found",
                                         "does not exist",
                                         "couldn't find remote ref",
                                         "not our ref",
                                         "unadvertised object",
                                         "bad object",
                                         "unable to read tree",
                                         "reference is not a tree",
                                         "does not appear to be a git repository",
                                         NULL};
    struct verdict verdict = {ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_FETCH, false, NULL};
    const char *line = telling_line(arena, output);
    if (result->cancelled) {
        return stopped(arena, result, 0, "fetching the commit");
    }
    if (result->timed_out) {
        verdict.retry = true;
        verdict.detail = "fetching the commit took too long; is the git host reachable?";
    } else if (result->signal == 25 /* SIGXFSZ */ || strcasestr(output, "File too large")) {
        verdict.detail = "the repository is larger than a clone may be here (ENCLII_CLONE_MAX)";
    } else if (says(output, access)) {
        verdict.detail = ec_arena_format(arena, "the git host refuses access: %s", line);
    } else if (says(output, absent)) {
        verdict.detail = ec_arena_format(
            arena, "the commit or repository is not there (was it deleted or force-pushed?): %s",
            line);
    } else {
        verdict.retry = true;
        verdict.detail = ec_arena_format(arena, "the commit cannot be fetched: %s", line);
    }
    return verdict;
}

struct verdict decide_build_end(struct ec_arena *arena, const struct ec_process_result *result,
                                const struct limits *limits, const char *output)
{
    static const char *const killed[] = {"signal: killed", "exit status 137",
                                         "exit code 137",  "Cannot allocate memory",
                                         "out of memory",  NULL};
    struct verdict verdict = {ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_BUILD, false, NULL};
    if (result->cancelled || result->timed_out) {
        return stopped(arena, result, limits->timeout_ms, "the build");
    }
    if (result->out_of_memory || (limits->memory_max_bytes > 0 && says(output, killed))) {
        verdict.reason = ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_OUT_OF_MEMORY;
        verdict.detail = ec_arena_format(arena,
                                         "the build needed more memory than its limit of %lld MiB: "
                                         "raise spec.build.memory in enclii.yaml",
                                         (long long)(limits->memory_max_bytes / MIB));
    } else if (result->signal) {
        verdict.detail = ec_arena_format(arena, "the build was ended by signal %d: %s",
                                         result->signal, telling_line(arena, output));
    } else {
        verdict.detail = ec_arena_format(arena, "the build ended with exit code %d: %s",
                                         result->exit_code, telling_line(arena, output));
    }
    return verdict;
}

struct verdict decide_push_end(struct ec_arena *arena, const struct ec_process_result *result,
                               const char *output)
{
    static const char *const refused[] = {
        "unauthorized", "authentication required",  "denied", "HTTP 401",
        "HTTP 403",     "invalid reference format", NULL};
    struct verdict verdict = {ENCLII__V1__BUILD_FAILURE__BUILD_FAILURE_PUSH, true, NULL};
    if (result->cancelled) {
        return stopped(arena, result, 0, "the push");
    }
    verdict.retry = !says(output, refused);
    verdict.detail =
        ec_arena_format(arena, "the image cannot be pushed: %s%s", telling_line(arena, output),
                        verdict.retry ? "" : " (check ENCLII_REGISTRY_AUTH_FILE)");
    return verdict;
}
