/* A checked document to the message of spec.proto, with the defaults stated there. Each value has
 * one or more places (the dialects); the first that is written wins. Values whose form the table of
 * keys cannot say (durations, host names, paths) are checked here. */
#include "base/amount.h"
#include "spec/fill_private.h"

struct found spec_first_of(struct filler *f, enum node_kind kind, const char *const *paths)
{
    for (; *paths != NULL; paths++) {
        const struct node *node = spec_node_at(f->spec, *paths);
        if (node != NULL && node->kind == kind) {
            return (struct found){node, ec_arena_format(f->report->scratch, "spec.%s", *paths)};
        }
    }
    return (struct found){NULL, ""};
}

char *spec_copy(struct filler *f, const char *text)
{
    return ec_arena_strdup(f->report->arena, text);
}

static char *text_of(struct filler *f, const char *const *paths, const char *otherwise)
{
    struct found found = spec_first_of(f, NODE_TEXT, paths);
    return spec_copy(f, found.node != NULL ? found.node->text : otherwise);
}

static int64_t int_of(struct filler *f, const char *const *paths, int64_t otherwise)
{
    int64_t number = otherwise;
    struct found found = spec_first_of(f, NODE_TEXT, paths);
    return found.node != NULL && spec_value_int(found.node, &number) ? number : otherwise;
}

void spec_fault_form(struct filler *f, struct found found, const char *form)
{
    spec_report_fault(f->report, found.node, found.path, NULL, "must be %s, is \"%.60s\"", form,
                      found.node->text);
}

int64_t spec_amount_of(struct filler *f, struct found found, bool (*parse)(const char *, int64_t *),
                       const int64_t bounds[2], const char *form)
{
    int64_t amount = 0;
    if (!parse(found.node->text, &amount) || amount < bounds[0] || amount > bounds[1]) {
        spec_fault_form(f, found, form);
    }
    return amount;
}

/* A list of texts below the first of the paths. */
static void fill_texts(struct filler *f, const char *const *paths, char ***ret_texts,
                       size_t *ret_count)
{
    struct found list = spec_first_of(f, NODE_LIST, paths);
    if (list.node == NULL) {
        return;
    }
    *ret_texts = ec_arena_alloc(f->report->arena, (list.node->count + 1) * sizeof(**ret_texts));
    for (const struct member *m = list.node->members; m != NULL; m = m->next) {
        if (m->value->kind == NODE_TEXT) {
            (*ret_texts)[(*ret_count)++] = spec_copy(f, m->value->text);
        }
    }
}

static char *relative_path_of(struct filler *f, const char *const *paths, const char *otherwise)
{
    struct found found = spec_first_of(f, NODE_TEXT, paths);
    if (found.node == NULL) {
        return spec_copy(f, otherwise);
    }
    if (!spec_value_relative_path(found.node->text)) {
        spec_fault_form(f, found,
                        "a path inside the repository, without a leading / and without ..");
    }
    return spec_copy(f, found.node->text);
}

static char *build_type(struct filler *f, bool has_dockerfile)
{
    struct found found =
        spec_first_of(f, NODE_TEXT, PATHS("build.type", "build.builder", "source.build.type"));
    const char *type = found.node != NULL ? found.node->text
                       : has_dockerfile   ? "dockerfile"
                                          : "auto";
    if (strcmp(type, "auto") == 0 || strcmp(type, "dockerfile") == 0) {
        return spec_copy(f, type);
    }
    if (strcmp(type, "docker") == 0) {
        return spec_copy(f, "dockerfile");
    }
    if (strcmp(type, "nixpacks") == 0 || strcmp(type, "buildpack") == 0 ||
        strcmp(type, "buildpacks") == 0 || strcmp(type, "railpack") == 0) {
        spec_report_warning(f->report, found.node, found.path,
                            "this version builds from a Dockerfile only: %s is treated as auto",
                            type);
        return spec_copy(f, "auto");
    }
    if (strcmp(type, "image") == 0) {
        spec_report_fault(f->report, found.node, found.path, NULL,
                          "ready images are not deployed by this version: give a Dockerfile");
    } else {
        spec_fault_form(f, found, "auto or dockerfile");
    }
    return spec_copy(f, "auto");
}

static void fill_build(struct filler *f)
{
    static const int64_t memory_bounds[] = {64 * MIB, 1024 * 1024 * MIB};
    static const int64_t time_bounds[] = {1000, 24 * 3600 * 1000};
    Enclii__V1__BuildSpec *build = f->out->build;
    struct found dockerfile =
        spec_first_of(f, NODE_TEXT, PATHS("build.dockerfile", "source.build.dockerfile"));
    build->type = build_type(f, dockerfile.node != NULL);
    build->dockerfile =
        relative_path_of(f, PATHS("build.dockerfile", "source.build.dockerfile"), "Dockerfile");
    build->context = relative_path_of(f,
                                      PATHS("build.context", "source.build.context",
                                            "build.source.git.path", "build.source.path",
                                            "source.git.path", "source.path", "github.appPath"),
                                      ".");
    build->target = text_of(f, PATHS("build.target", "source.build.target"), "");
    spec_fill_args(f);
    struct found memory = spec_first_of(f, NODE_TEXT, PATHS("build.memory"));
    build->memory_max_bytes = memory.node == NULL
                                  ? 2048 * MIB
                                  : spec_amount_of(f, memory, ec_amount_bytes, memory_bounds,
                                                   "an amount of memory from 64Mi to 1Ti, as 2Gi");
    struct found timeout = spec_first_of(f, NODE_TEXT, PATHS("build.timeout"));
    build->timeout_ms = timeout.node == NULL
                            ? 1800 * 1000
                            : spec_amount_of(f, timeout, ec_amount_duration_ms, time_bounds,
                                             "a time from 1s to 24h, as 30m");
}

static const char *const probe_places[] = {
    "runtime.healthCheck.readiness",
    "runtime.healthCheck",
    "runtime.readinessProbe",
    "healthCheck",
    "readinessProbe",
    "deployment.container.readinessCheck",
    "deployment.container.healthCheck",
    NULL,
};

static char *probe_path(struct filler *f, const struct node *probe, struct found text)
{
    static const char *const names[] = {"path", "httpGet.path", "readinessPath"};
    struct found found = text;
    for (size_t i = 0; i < EC_LEN(names) && found.node == NULL; i++) {
        found = (struct found){spec_node_at(probe, names[i]), "spec: health check path"};
    }
    if (found.node == NULL || found.node->kind != NODE_TEXT || found.node->text[0] == '\0') {
        return spec_copy(f, "/");
    }
    const char *path = found.node->text;
    size_t plain = strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._~!$&'()*+,;=:@%/?");
    if (path[0] != '/' || path[plain] != '\0' || plain > 1024) {
        spec_fault_form(f, found, "a path that begins with /");
    }
    return spec_copy(f, path);
}

/* Seconds as a number under one of two names, or a duration text under a third. */
static int64_t probe_time_ms(struct filler *f, const struct node *probe, const char *const names[3],
                             int64_t otherwise)
{
    static const int64_t bounds[] = {1, 3600 * 1000};
    int64_t seconds = 0;
    for (size_t i = 0; i < 2; i++) {
        const struct node *node = spec_node_member(probe, names[i]);
        if (node != NULL && spec_value_int(node, &seconds)) {
            return seconds * 1000;
        }
    }
    struct found text = {spec_node_member(probe, names[2]), names[2]};
    return text.node != NULL && text.node->kind == NODE_TEXT
               ? spec_amount_of(f, text, ec_amount_duration_ms, bounds, "a time, as 30s")
               : otherwise;
}

static void fill_probe(struct filler *f)
{
    Enclii__V1__ProbeSpec *out = f->out->run->probe;
    const struct node *probe = spec_first_of(f, NODE_MAP, probe_places).node;
    struct found text = spec_first_of(f, NODE_TEXT, probe_places);
    out->path = probe_path(f, probe, probe == NULL ? text : (struct found){NULL, ""});
    out->initial_delay_ms =
        probe_time_ms(f, probe, PATHS("initialDelaySeconds", "initialDelaySeconds", ""), 0);
    out->period_ms =
        probe_time_ms(f, probe, PATHS("periodSeconds", "intervalSeconds", "interval"), 1000);
    out->timeout_ms =
        probe_time_ms(f, probe, PATHS("timeoutSeconds", "timeoutSeconds", "timeout"), 3000);
    out->deadline_ms =
        probe_time_ms(f, probe, PATHS("deadlineSeconds", "deadlineSeconds", ""), 60000);
    int64_t failures = 3;
    const struct node *threshold = spec_node_member(probe, "failureThreshold");
    threshold = threshold != NULL ? threshold : spec_node_member(probe, "retries");
    out->failures_max =
        threshold != NULL && spec_value_int(threshold, &failures) ? (int32_t)failures : 3;
}

static void fill_run(struct filler *f)
{
    static const int64_t memory_bounds[] = {4 * MIB, 1024 * 1024 * MIB};
    static const int64_t cpu_bounds[] = {10, 256 * 1000};
    Enclii__V1__RunSpec *run = f->out->run;
    run->port = (int32_t)int_of(
        f, PATHS("runtime.port", "deployment.container.port", "port", "networking.port"), 8080);
    run->replicas = (int32_t)int_of(f,
                                    PATHS("runtime.replicas", "runtime.replicas.min",
                                          "deployment.replicas", "runtime.instances"),
                                    1);
    fill_texts(f, PATHS("runtime.command", "runtime.cmd", "deployment.container.command"),
               &run->command, &run->n_command);
    spec_fill_env(f);
    fill_probe(f);
    struct found memory =
        spec_first_of(f, NODE_TEXT,
                      PATHS("runtime.resources.limits.memory", "runtime.resources.memory",
                            "resources.limits.memory", "resources.memoryLimit", "resources.memory",
                            "deployment.container.resources.limits.memory", "runtime.memory"));
    run->memory_max_bytes = memory.node == NULL
                                ? 512 * MIB
                                : spec_amount_of(f, memory, ec_amount_bytes, memory_bounds,
                                                 "an amount of memory from 4Mi to 1Ti, as 512Mi");
    struct found cpu =
        spec_first_of(f, NODE_TEXT,
                      PATHS("runtime.resources.limits.cpu", "runtime.resources.cpu",
                            "resources.limits.cpu", "resources.cpuLimit", "resources.cpu",
                            "deployment.container.resources.limits.cpu", "runtime.cpu"));
    run->cpu_milli = cpu.node == NULL
                         ? 500
                         : spec_amount_of(f, cpu, ec_amount_cpu_milli, cpu_bounds,
                                          "a share of processors from 10m to 256, as 500m");
}

bool spec_switched(const struct node *node, bool otherwise)
{
    bool on = otherwise;
    if (node != NULL && node->kind == NODE_MAP) {
        node = spec_node_member(node, "enabled");
        on = node == NULL || otherwise; /* naming a provider means wanting it */
    }
    if (node != NULL) {
        (void)spec_value_bool(node, &on); /* another text was told by the table of keys */
    }
    return on;
}

/* Stars, question marks and commas make it a rule for several branches and
 * "refs/tags/v*" one for tags (pipeline's decide_branch). */
static bool good_branch(const char *name)
{
    return name[0] != '\0' && name[0] != '-' && name[0] != '/' && strlen(name) <= 255 &&
           strpbrk(name, " ~^:[\\\t\r\n") == NULL && strstr(name, "..") == NULL;
}

static void fill_repo(struct filler *f)
{
    struct found url = spec_first_of(f, NODE_TEXT,
                                     PATHS("build.source.git.repository", "source.git.repository",
                                           "build.source.repository", "source.repository",
                                           "build.source.repo", "source.repo", "github.repo"));
    f->out->repo_url = spec_copy(f, "");
    if (url.node == NULL) {
        return;
    }
    bool github = strcmp(url.path, "spec.github.repo") == 0;
    bool whole = strstr(url.node->text, "://") != NULL || strchr(url.node->text, '@') != NULL;
    f->out->repo_url = ec_arena_format(f->report->arena, "%s%s%s", whole ? "" : "https://",
                                       github && !whole ? "github.com/" : "", url.node->text);
    if (ec_repo_key(f->report->scratch, f->out->repo_url) == NULL) {
        spec_fault_form(f, url, "a clone URL, as https://github.com/acme/shop");
    }
}

/* What comes from others than the branch's own writers, and what the host's CI says of it. */
static void fill_gates(struct filler *f)
{
    struct found pulls = spec_first_of(
        f, NODE_TEXT, PATHS("build.source.git.pullRequests", "source.git.pullRequests"));
    const char *rule = pulls.node != NULL ? pulls.node->text : "trusted";
    if (pulls.node != NULL && strcmp(rule, "off") != 0 && strcmp(rule, "trusted") != 0 &&
        strcmp(rule, "all") != 0) {
        spec_fault_form(f, pulls, "off, trusted or all");
    }
    f->out->pull_requests = spec_copy(f, rule);
    const struct node *ci = spec_node_at(f->spec, "build.source.git.waitForCI");
    ci = ci != NULL ? ci : spec_node_at(f->spec, "source.git.waitForCI");
    f->out->wait_for_ci = spec_switched(ci, false);
}

static void fill_source(struct filler *f)
{
    fill_repo(f);
    const char *const branches[] = {"build.source.git.branch",
                                    "source.git.branch",
                                    "build.source.branch",
                                    "source.branch",
                                    "github.branch",
                                    "autoDeploy.branch",
                                    NULL};
    f->out->branch = text_of(f, branches, "main");
    if (!good_branch(f->out->branch)) {
        spec_fault_form(f, spec_first_of(f, NODE_TEXT, branches), "a branch name");
    }
    const struct node *deploy = spec_node_at(f->spec, "autoDeploy");
    deploy = deploy != NULL ? deploy : spec_node_at(f->spec, "build.source.git.autoDeploy");
    deploy = deploy != NULL ? deploy : spec_node_at(f->spec, "source.git.autoDeploy");
    deploy = deploy != NULL ? deploy : spec_node_at(f->spec, "pipeline.autoDeploy");
    f->out->auto_deploy = spec_switched(deploy, true);
    fill_texts(f,
               PATHS("watchPaths", "github.watchPaths", "build.source.git.watchPaths",
                     "source.git.watchPaths"),
               &f->out->watch_paths, &f->out->n_watch_paths);
    struct found environment = spec_first_of(f, NODE_TEXT, PATHS("autoDeploy.environment"));
    const struct node *of_metadata = spec_node_at(f->document, "metadata.environment");
    if (environment.node == NULL && of_metadata != NULL && of_metadata->kind == NODE_TEXT) {
        environment = (struct found){of_metadata, "metadata.environment"};
    }
    f->out->environment =
        spec_copy(f, environment.node != NULL ? environment.node->text : "production");
    if (!spec_value_label(f->out->environment)) {
        spec_fault_form(f, environment, "1 to 63 of a-z, 0-9 and -");
    }
}

void spec_fill_service(struct report *report, const struct node *document,
                       Enclii__V1__ServiceSpec *service)
{
    struct ec_arena *arena = report->arena;
    struct filler f = {report, spec_node_member(document, "spec"), document, service};
    enclii__v1__service_spec__init(service);
    service->build = ec_arena_alloc(arena, sizeof(*service->build));
    enclii__v1__build_spec__init(service->build);
    service->run = ec_arena_alloc(arena, sizeof(*service->run));
    enclii__v1__run_spec__init(service->run);
    service->run->probe = ec_arena_alloc(arena, sizeof(*service->run->probe));
    enclii__v1__probe_spec__init(service->run->probe);
    service->rollout = ec_arena_alloc(arena, sizeof(*service->rollout));
    enclii__v1__rollout_spec__init(service->rollout);
    fill_source(&f);
    fill_gates(&f);
    fill_build(&f);
    fill_run(&f);
    spec_fill_rollout(&f);
    spec_fill_routes(&f);
}
