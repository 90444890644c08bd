/* A checked document to the message of spec.proto, with the defaults stated there. Each value has
 * one or more places (the dialects); the first that is written wins. Values whose form the table of
 * keys cannot say (durations, host names, paths) are checked here. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "spec/internal.h"

#define MIB (INT64_C(1) << 20)
/* More is no service anyone wrote by hand, and the checks for doubles compare each with each. */
#define PAIRS_MAX 500
#define ROUTES_MAX 200

struct filler {
    struct report *report;
    const struct node *spec; /* the map below `spec`, or NULL */
    const struct node *document;
    Enclii__V1__ServiceSpec *out;
};

/* A value and the path it was found at. */
struct found {
    const struct node *node; /* NULL: not written */
    const char *path;
};

/* The first of the NULL-ended paths (below `spec`) that is written with that kind of node. */
static struct found first_of(struct filler *f, enum node_kind kind, const char *const *paths)
{
    for (; *paths != NULL; paths++) {
        const struct node *node = node_at(f->spec, *paths);
        if (node != NULL && node->kind == kind) {
            return (struct found){node, ec_arena_format(f->report->scratch, "spec.%s", *paths)};
        }
    }
    return (struct found){NULL, ""};
}

#define PATHS(...) ((const char *const[]){__VA_ARGS__, NULL})

static char *copy(struct filler *f, const char *text)
{
    return ec_arena_strdup(f->report->arena, text);
}

static char *text_of(struct filler *f, const char *const *paths, const char *otherwise)
{
    struct found found = first_of(f, NODE_TEXT, paths);
    return copy(f, found.node != NULL ? found.node->text : otherwise);
}

static int64_t int_of(struct filler *f, const char *const *paths, int64_t otherwise)
{
    int64_t number = otherwise;
    struct found found = first_of(f, NODE_TEXT, paths);
    return found.node != NULL && value_int(found.node, &number) ? number : otherwise;
}

static void fault_form(struct filler *f, struct found found, const char *form)
{
    report_fault(f->report, found.node, found.path, NULL, "must be %s, is \"%.60s\"", form,
                 found.node->text);
}

/* A quantity read by `parse`, within least..most. */
static int64_t amount_of(struct filler *f, struct found found,
                         bool (*parse)(const char *, int64_t *), const int64_t bounds[2],
                         const char *form)
{
    int64_t amount = 0;
    if (!parse(found.node->text, &amount) || amount < bounds[0] || amount > bounds[1]) {
        fault_form(f, found, form);
    }
    return amount;
}

/* A list or map of names and values to the entries of a protobuf map: `put` stores one of them. */
struct pair_reader {
    struct filler *f;
    size_t count;
    bool is_map;
    void (*put)(struct filler *f, size_t at, char *name, char *value);
    bool (*known)(const struct filler *f, size_t count, const char *name);
};

static void read_pair(struct pair_reader *r, const struct node *at, const char *path,
                      const char *name, const struct node *value)
{
    struct report *report = r->f->report;
    if (!value_env_name(name)) {
        report_fault(report, at, path, NULL,
                     "the name \"%.60s\" must be letters, digits and _, not beginning with a digit",
                     name);
    } else if (r->known(r->f, r->count, name)) {
        if (!r->is_map) { /* a key written twice was told when the text was read */
            report_fault(report, at, path, NULL, "the name %.60s is used twice", name);
        }
    } else if (value == NULL || value->kind == NODE_TEXT) {
        r->put(r->f, r->count++, copy(r->f, name), copy(r->f, value != NULL ? value->text : ""));
    }
}

static void read_item(struct pair_reader *r, const struct node *item, const char *path)
{
    const struct node *name = node_member(item, "name");
    const struct node *value = node_member(item, "value");
    if (item->kind != NODE_MAP) {
        return; /* told by the table of keys */
    }
    if (name == NULL || name->kind != NODE_TEXT) {
        report_fault(r->f->report, item, path, NULL, "needs a name");
    } else if (value == NULL && node_member(item, "valueFrom") != NULL) {
        return; /* warned about: the variable stays unset rather than empty */
    } else {
        read_pair(r, name, path, name->text, value);
    }
}

static void read_pairs(struct pair_reader *r, struct found found)
{
    size_t index = 0;
    r->is_map = found.node->kind == NODE_MAP;
    if (found.node->count > PAIRS_MAX) {
        report_fault(r->f->report, found.node, found.path, NULL, "has %zu entries: at most %d",
                     found.node->count, PAIRS_MAX);
        return;
    }
    for (const struct member *m = found.node->members; m != NULL; m = m->next, index++) {
        if (found.node->kind == NODE_LIST) {
            read_item(r, m->value,
                      ec_arena_format(r->f->report->scratch, "%s[%zu]", found.path, index));
        } else {
            read_pair(r, m->key, found.path, m->key->text, node_absent(m->value) ? NULL : m->value);
        }
    }
}

/* The first place that has a list or a map of pairs. */
static struct found pairs_at(struct filler *f, const char *const *paths)
{
    for (; *paths != NULL; paths++) {
        const struct node *node = node_at(f->spec, *paths);
        if (node != NULL && node->kind != NODE_TEXT) {
            return (struct found){node, ec_arena_format(f->report->scratch, "spec.%s", *paths)};
        }
    }
    return (struct found){NULL, ""};
}

static void put_env(struct filler *f, size_t at, char *name, char *value)
{
    Enclii__V1__RunSpec *run = f->out->run;
    Enclii__V1__RunSpec__EnvEntry *entry = ec_arena_alloc(f->report->arena, sizeof(*entry));
    enclii__v1__run_spec__env_entry__init(entry);
    entry->key = name;
    entry->value = value;
    run->env[at] = entry;
    run->n_env = at + 1;
}

static bool knows_env(const struct filler *f, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(f->out->run->env[i]->key, name) == 0) {
            return true;
        }
    }
    return false;
}

static void put_arg(struct filler *f, size_t at, char *name, char *value)
{
    Enclii__V1__BuildSpec *build = f->out->build;
    Enclii__V1__BuildSpec__ArgsEntry *entry = ec_arena_alloc(f->report->arena, sizeof(*entry));
    enclii__v1__build_spec__args_entry__init(entry);
    entry->key = name;
    entry->value = value;
    build->args[at] = entry;
    build->n_args = at + 1;
}

static bool knows_arg(const struct filler *f, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(f->out->build->args[i]->key, name) == 0) {
            return true;
        }
    }
    return false;
}

static void fill_env(struct filler *f)
{
    struct found env = pairs_at(f, PATHS("env", "runtime.env", "deployment.container.env"));
    if (env.node != NULL) {
        f->out->run->env =
            ec_arena_alloc(f->report->arena, (env.node->count + 1) * sizeof(*f->out->run->env));
        read_pairs(&(struct pair_reader){f, 0, false, put_env, knows_env}, env);
    }
}

static void fill_args(struct filler *f)
{
    struct found args =
        pairs_at(f, PATHS("build.buildArgs", "build.args", "build.buildEnv", "source.build.args"));
    if (args.node != NULL) {
        f->out->build->args =
            ec_arena_alloc(f->report->arena, (args.node->count + 1) * sizeof(*f->out->build->args));
        read_pairs(&(struct pair_reader){f, 0, false, put_arg, knows_arg}, args);
    }
}

/* A list of texts below the first of the paths. */
static void fill_texts(struct filler *f, const char *const *paths, char ***ret_texts,
                       size_t *ret_count)
{
    struct found list = first_of(f, NODE_LIST, paths);
    if (list.node == NULL) {
        return;
    }
    *ret_texts = ec_arena_alloc(f->report->arena, (list.node->count + 1) * sizeof(**ret_texts));
    for (const struct member *m = list.node->members; m != NULL; m = m->next) {
        if (m->value->kind == NODE_TEXT) {
            (*ret_texts)[(*ret_count)++] = copy(f, m->value->text);
        }
    }
}

static char *relative_path_of(struct filler *f, const char *const *paths, const char *otherwise)
{
    struct found found = first_of(f, NODE_TEXT, paths);
    if (found.node == NULL) {
        return copy(f, otherwise);
    }
    if (!value_relative_path(found.node->text)) {
        fault_form(f, found, "a path inside the repository, without a leading / and without ..");
    }
    return copy(f, found.node->text);
}

static char *build_type(struct filler *f, bool has_dockerfile)
{
    struct found found =
        first_of(f, NODE_TEXT, PATHS("build.type", "build.builder", "source.build.type"));
    const char *type = found.node != NULL ? found.node->text
                       : has_dockerfile   ? "dockerfile"
                                          : "auto";
    if (strcmp(type, "auto") == 0 || strcmp(type, "dockerfile") == 0) {
        return copy(f, type);
    }
    if (strcmp(type, "docker") == 0) {
        return copy(f, "dockerfile");
    }
    if (strcmp(type, "nixpacks") == 0 || strcmp(type, "buildpack") == 0 ||
        strcmp(type, "buildpacks") == 0 || strcmp(type, "railpack") == 0) {
        report_warning(f->report, found.node, found.path,
                       "this version builds from a Dockerfile only: %s is treated as auto", type);
        return copy(f, "auto");
    }
    if (strcmp(type, "image") == 0) {
        report_fault(f->report, found.node, found.path, NULL,
                     "ready images are not deployed by this version: give a Dockerfile");
    } else {
        fault_form(f, found, "auto or dockerfile");
    }
    return copy(f, "auto");
}

static void fill_build(struct filler *f)
{
    static const int64_t memory_bounds[] = {64 * MIB, 1024 * 1024 * MIB};
    static const int64_t time_bounds[] = {1000, 24 * 3600 * 1000};
    Enclii__V1__BuildSpec *build = f->out->build;
    struct found dockerfile =
        first_of(f, NODE_TEXT, PATHS("build.dockerfile", "source.build.dockerfile"));
    build->type = build_type(f, dockerfile.node != NULL);
    build->dockerfile =
        relative_path_of(f, PATHS("build.dockerfile", "source.build.dockerfile"), "Dockerfile");
    build->context = relative_path_of(f,
                                      PATHS("build.context", "source.build.context",
                                            "build.source.git.path", "build.source.path",
                                            "source.git.path", "source.path", "github.appPath"),
                                      ".");
    build->target = text_of(f, PATHS("build.target", "source.build.target"), "");
    fill_args(f);
    struct found memory = first_of(f, NODE_TEXT, PATHS("build.memory"));
    build->memory_max_bytes = memory.node == NULL
                                  ? 2048 * MIB
                                  : amount_of(f, memory, value_bytes, memory_bounds,
                                              "an amount of memory from 64Mi to 1Ti, as 2Gi");
    struct found timeout = first_of(f, NODE_TEXT, PATHS("build.timeout"));
    build->timeout_ms = timeout.node == NULL ? 1800 * 1000
                                             : amount_of(f, timeout, value_duration_ms, time_bounds,
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
        found = (struct found){node_at(probe, names[i]), "spec: health check path"};
    }
    if (found.node == NULL || found.node->kind != NODE_TEXT || found.node->text[0] == '\0') {
        return copy(f, "/");
    }
    const char *path = found.node->text;
    size_t plain = strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._~!$&'()*+,;=:@%/?");
    if (path[0] != '/' || path[plain] != '\0' || plain > 1024) {
        fault_form(f, found, "a path that begins with /");
    }
    return copy(f, path);
}

/* Seconds as a number under one of two names, or a duration text under a third. */
static int64_t probe_time_ms(struct filler *f, const struct node *probe, const char *const names[3],
                             int64_t otherwise)
{
    static const int64_t bounds[] = {1, 3600 * 1000};
    int64_t seconds = 0;
    for (size_t i = 0; i < 2; i++) {
        const struct node *node = node_member(probe, names[i]);
        if (node != NULL && value_int(node, &seconds)) {
            return seconds * 1000;
        }
    }
    struct found text = {node_member(probe, names[2]), names[2]};
    return text.node != NULL && text.node->kind == NODE_TEXT
               ? amount_of(f, text, value_duration_ms, bounds, "a time, as 30s")
               : otherwise;
}

static void fill_probe(struct filler *f)
{
    Enclii__V1__ProbeSpec *out = f->out->run->probe;
    const struct node *probe = first_of(f, NODE_MAP, probe_places).node;
    struct found text = first_of(f, NODE_TEXT, probe_places);
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
    const struct node *threshold = node_member(probe, "failureThreshold");
    threshold = threshold != NULL ? threshold : node_member(probe, "retries");
    out->failures_max =
        threshold != NULL && value_int(threshold, &failures) ? (int32_t)failures : 3;
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
    fill_env(f);
    fill_probe(f);
    struct found memory =
        first_of(f, NODE_TEXT,
                 PATHS("runtime.resources.limits.memory", "runtime.resources.memory",
                       "resources.limits.memory", "resources.memoryLimit", "resources.memory",
                       "deployment.container.resources.limits.memory", "runtime.memory"));
    run->memory_max_bytes = memory.node == NULL
                                ? 512 * MIB
                                : amount_of(f, memory, value_bytes, memory_bounds,
                                            "an amount of memory from 4Mi to 1Ti, as 512Mi");
    struct found cpu = first_of(f, NODE_TEXT,
                                PATHS("runtime.resources.limits.cpu", "runtime.resources.cpu",
                                      "resources.limits.cpu", "resources.cpuLimit", "resources.cpu",
                                      "deployment.container.resources.limits.cpu", "runtime.cpu"));
    run->cpu_milli = cpu.node == NULL ? 500
                                      : amount_of(f, cpu, value_cpu_milli, cpu_bounds,
                                                  "a share of processors from 10m to 256, as 500m");
}

static char *rollout_strategy(struct filler *f)
{
    static const char *const names[][2] = {
        {"canary", "canary"},         {"Canary", "canary"},       {"rolling", "rolling"},
        {"RollingUpdate", "rolling"}, {"bluegreen", "bluegreen"}, {"blue-green", "bluegreen"},
        {"BlueGreen", "bluegreen"},
    };
    struct found found =
        first_of(f, NODE_TEXT, PATHS("deployment.strategy", "deployment.strategy.type"));
    if (found.node == NULL) {
        return copy(f, "canary");
    }
    for (size_t i = 0; i < EC_LEN(names); i++) {
        if (strcmp(names[i][0], found.node->text) == 0) {
            return copy(f, names[i][1]);
        }
    }
    fault_form(f, found, "canary, rolling or bluegreen");
    return copy(f, "canary");
}

/* The step's pause, if it has one, must be that of the steps before: there is one time for all. */
static void fill_pause(struct filler *f, const struct node *step, const char *path)
{
    static const int64_t bounds[] = {0, 24 * 3600 * 1000};
    struct found pause = {node_member(step, "pause"), path};
    pause.node = pause.node != NULL ? pause.node : node_member(step, "duration");
    if (pause.node == NULL || pause.node->kind != NODE_TEXT) {
        return;
    }
    int64_t ms = amount_of(f, pause, value_duration_ms, bounds, "a time up to 24h, as 5m");
    if (f->out->rollout->step_ms < 0) {
        f->out->rollout->step_ms = ms;
    } else if (f->out->rollout->step_ms != ms) {
        report_warning(f->report, pause.node, path,
                       "all steps have the pause of the first in this version");
    }
}

static void fill_weights(struct filler *f, struct found steps)
{
    Enclii__V1__RolloutSpec *rollout = f->out->rollout;
    rollout->weights =
        ec_arena_alloc(f->report->arena, (steps.node->count + 1) * sizeof(*rollout->weights));
    int64_t last = 0;
    size_t index = 0;
    for (const struct member *m = steps.node->members; m != NULL; m = m->next, index++) {
        const char *path = ec_arena_format(f->report->scratch, "%s[%zu]", steps.path, index);
        const struct node *weight = node_member(m->value, "weight");
        int64_t percent = 0;
        if (weight == NULL || !value_int(weight, &percent)) {
            report_fault(f->report, m->value, path, NULL, "needs a weight from 1 to 100");
            continue;
        }
        if (percent <= last) {
            report_fault(f->report, weight, path, NULL,
                         "the weight %lld must be larger than that of the step before",
                         (long long)percent);
        }
        last = percent;
        rollout->weights[rollout->n_weights++] = (int32_t)percent;
        fill_pause(f, m->value, path);
    }
    if (last != 100) {
        rollout->weights[rollout->n_weights++] = 100;
    }
}

static void fill_rollout(struct filler *f)
{
    static const int32_t canary_weights[] = {10, 50, 100}, all_at_once[] = {100};
    Enclii__V1__RolloutSpec *rollout = f->out->rollout;
    rollout->strategy = rollout_strategy(f);
    rollout->step_ms = -1;
    bool canary = strcmp(rollout->strategy, "canary") == 0;
    struct found steps = first_of(f, NODE_LIST, PATHS("deployment.canary.steps"));
    if (canary && steps.node != NULL && steps.node->count > 0) {
        fill_weights(f, steps);
    } else {
        rollout->n_weights = canary ? EC_LEN(canary_weights) : EC_LEN(all_at_once);
        rollout->weights =
            ec_arena_alloc(f->report->arena, rollout->n_weights * sizeof(*rollout->weights));
        memcpy(rollout->weights, canary ? canary_weights : all_at_once,
               rollout->n_weights * sizeof(*rollout->weights));
    }
    rollout->step_ms = rollout->step_ms < 0 ? 3000 : rollout->step_ms;
    rollout->error_rate_max = 0.05;
    struct found threshold =
        first_of(f, NODE_TEXT, PATHS("deployment.canary.rollback.errorThreshold"));
    if (threshold.node != NULL) {
        (void)value_share(threshold.node->text, &rollout->error_rate_max); /* form checked before */
    }
}

/* true, false, or {enabled: ...}; `otherwise` when neither is written. */
static bool switched(const struct node *node, bool otherwise)
{
    bool on = otherwise;
    if (node != NULL && node->kind == NODE_MAP) {
        node = node_member(node, "enabled");
        on = node == NULL ? true : otherwise; /* naming a provider means wanting it */
    }
    return node != NULL && value_bool(node, &on) ? on : on;
}

static void add_route(struct filler *f, const struct node *item, struct found host,
                      const char *path, bool tls)
{
    char *name = copy(f, host.node->text);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    if (!value_hostname(name)) {
        report_fault(f->report, host.node, host.path,
                     "write names in other scripts in their xn-- form, without scheme and port",
                     "must be a host name, is \"%.60s\"", host.node->text);
        return;
    }
    if (path[0] != '/' || strpbrk(path, " ?#\t\r\n\"'\\") != NULL || strlen(path) > 1024) {
        report_fault(f->report, item, host.path, NULL,
                     "the path must begin with / and have no spaces, is \"%.60s\"", path);
        return;
    }
    if (f->out->n_routes >= ROUTES_MAX) {
        return; /* told once, in fill_routes */
    }
    for (size_t i = 0; i < f->out->n_routes; i++) {
        if (strcmp(f->out->routes[i]->hostname, name) == 0 &&
            strcmp(f->out->routes[i]->path, path) == 0) {
            report_fault(f->report, host.node, host.path, NULL, "%.200s%.60s is routed twice", name,
                         path);
            return;
        }
    }
    Enclii__V1__RouteSpec *route = ec_arena_alloc(f->report->arena, sizeof(*route));
    enclii__v1__route_spec__init(route);
    route->hostname = name;
    route->path = copy(f, path);
    route->tls = tls;
    f->out->routes[f->out->n_routes++] = route;
}

static void fill_route(struct filler *f, const struct node *item, const char *path, bool tls)
{
    static const char *const host_names[] = {"host", "domain", "name"};
    if (item->kind == NODE_TEXT) {
        add_route(f, item, (struct found){item, path}, "/", tls);
        return;
    }
    struct found host = {NULL, path};
    for (size_t i = 0; i < EC_LEN(host_names) && host.node == NULL; i++) {
        host.node = node_member(item, host_names[i]);
    }
    if (host.node == NULL || host.node->kind != NODE_TEXT) {
        report_fault(f->report, item, path, NULL, "needs a host name");
        return;
    }
    const struct node *prefix = node_member(item, "path");
    const struct node *own_tls = node_member(item, "tls");
    own_tls = own_tls != NULL ? own_tls : node_member(item, "tlsEnabled");
    add_route(f, item, host, prefix != NULL && prefix->kind == NODE_TEXT ? prefix->text : "/",
              switched(own_tls, tls));
}

static void fill_routes(struct filler *f)
{
    static const char *const places[] = {"domains", "routes", "networking.domains"};
    bool networking_tls = switched(node_at(f->spec, "networking.tls"), false);
    size_t room = 1;
    for (size_t i = 0; i < EC_LEN(places); i++) {
        const struct node *list = node_at(f->spec, places[i]);
        room += list != NULL ? list->count : 0;
    }
    if (room > ROUTES_MAX) {
        report_fault(f->report, f->spec, "spec", NULL, "has more than %d routes", ROUTES_MAX);
        room = ROUTES_MAX;
    }
    f->out->routes = ec_arena_alloc(f->report->arena, room * sizeof(*f->out->routes));
    for (size_t i = 0; i < EC_LEN(places); i++) {
        struct found list = first_of(f, NODE_LIST, PATHS(places[i]));
        size_t index = 0;
        const struct member *m = list.node != NULL ? list.node->members : NULL;
        for (; m != NULL; m = m->next, index++) {
            fill_route(f, m->value,
                       ec_arena_format(f->report->scratch, "%s[%zu]", list.path, index),
                       i == 2 && networking_tls);
        }
    }
}

static bool good_branch(const char *name)
{
    return name[0] != '\0' && name[0] != '-' && name[0] != '/' && strlen(name) <= 255 &&
           strpbrk(name, " ~^:?*[\\\t\r\n") == NULL && strstr(name, "..") == NULL;
}

static void fill_repo(struct filler *f)
{
    struct found url = first_of(f, NODE_TEXT,
                                PATHS("build.source.git.repository", "source.git.repository",
                                      "build.source.repository", "source.repository",
                                      "build.source.repo", "source.repo", "github.repo"));
    f->out->repo_url = copy(f, "");
    if (url.node == NULL) {
        return;
    }
    bool github = strcmp(url.path, "spec.github.repo") == 0;
    bool whole = strstr(url.node->text, "://") != NULL || strchr(url.node->text, '@') != NULL;
    f->out->repo_url = ec_arena_format(f->report->arena, "%s%s%s", whole ? "" : "https://",
                                       github && !whole ? "github.com/" : "", url.node->text);
    if (ec_repo_key(f->report->scratch, f->out->repo_url) == NULL) {
        fault_form(f, url, "a clone URL, as https://github.com/acme/shop");
    }
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
        fault_form(f, first_of(f, NODE_TEXT, branches), "a branch name");
    }
    const struct node *deploy = node_at(f->spec, "autoDeploy");
    deploy = deploy != NULL ? deploy : node_at(f->spec, "build.source.git.autoDeploy");
    deploy = deploy != NULL ? deploy : node_at(f->spec, "source.git.autoDeploy");
    deploy = deploy != NULL ? deploy : node_at(f->spec, "pipeline.autoDeploy");
    f->out->auto_deploy = switched(deploy, true);
    fill_texts(f,
               PATHS("watchPaths", "github.watchPaths", "build.source.git.watchPaths",
                     "source.git.watchPaths"),
               &f->out->watch_paths, &f->out->n_watch_paths);
    struct found environment = first_of(f, NODE_TEXT, PATHS("autoDeploy.environment"));
    const struct node *of_metadata = node_at(f->document, "metadata.environment");
    if (environment.node == NULL && of_metadata != NULL && of_metadata->kind == NODE_TEXT) {
        environment = (struct found){of_metadata, "metadata.environment"};
    }
    f->out->environment = copy(f, environment.node != NULL ? environment.node->text : "production");
    if (!value_label(f->out->environment)) {
        fault_form(f, environment, "1 to 63 of a-z, 0-9 and -");
    }
}

void fill_service(struct report *report, const struct node *document,
                  Enclii__V1__ServiceSpec *service)
{
    struct ec_arena *arena = report->arena;
    struct filler f = {report, node_member(document, "spec"), document, service};
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
    fill_build(&f);
    fill_run(&f);
    fill_rollout(&f);
    fill_routes(&f);
}
