/* The table of keys: what a spec may say, which types it takes, and what this version does with it.
 * A row belongs to a shape; a map of that shape may have the keys of its rows and no others. Shapes
 * are shared (a probe looks the same wherever it stands). The four dialects that specs are written
 * in (enclii.dev/v1 with build.type, with build.builder, enclii.io/v1, examples) are all here. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "spec/internal.h"

enum {
    TEXT = 1,   /* any text, with or without quotes */
    INT = 2,    /* a whole number without quotes, within min..max */
    NUMBER = 4, /* 0.05, 5, also with quotes */
    BOOL = 8,
    LIST = 16,  /* each item has `inner` as its shape, or is a text when TEXTS is set */
    MAP = 32,   /* has `inner` as its shape */
    TEXTS = 64, /* list items may be texts */
    UNUSED =
        128, /* known, without effect in this version: one warning, nothing inside is looked at */
    QUIET = 256, /* for people or other programs: nothing inside is looked at */
};

struct key {
    const char *shape;
    const char *name; /* "*" = any */
    unsigned takes;
    const char *inner;
    int64_t min, max;
};

static const struct key keys[] = {
    {"document", "apiVersion", TEXT, 0, 0, 0},
    {"document", "kind", TEXT, 0, 0, 0},
    {"document", "metadata", MAP, "metadata", 0, 0},
    {"document", "spec", MAP, "spec", 0, 0},

    {"metadata", "name", TEXT, 0, 0, 0},
    {"metadata", "project", TEXT, 0, 0, 0},
    {"metadata", "environment", TEXT, 0, 0, 0},
    {"metadata", "namespace", QUIET, 0, 0, 0},
    {"metadata", "labels", QUIET, 0, 0, 0},
    {"metadata", "annotations", QUIET, 0, 0, 0},
    {"metadata", "description", QUIET, 0, 0, 0},

    {"spec", "build", MAP, "build", 0, 0},
    {"spec", "source", MAP, "source", 0, 0},
    {"spec", "github", MAP, "github", 0, 0},
    {"spec", "runtime", MAP, "runtime", 0, 0},
    {"spec", "deployment", MAP, "deployment", 0, 0},
    {"spec", "env", LIST | MAP, "env", 0, 0},
    {"spec", "domains", LIST | TEXTS, "domain", 0, 0},
    {"spec", "routes", LIST, "route", 0, 0},
    {"spec", "networking", MAP, "networking", 0, 0},
    {"spec", "autoDeploy", BOOL | MAP, "autoDeploy", 0, 0},
    {"spec", "watchPaths", LIST | TEXTS, 0, 0, 0},
    {"spec", "port", INT, 0, 1, 65535},
    {"spec", "healthCheck", TEXT | MAP, "probe", 0, 0},
    {"spec", "readinessProbe", MAP, "probe", 0, 0},
    {"spec", "resources", MAP, "resources", 0, 0},
    {"spec", "pipeline", MAP, "pipeline", 0, 0},
    {"spec", "type", QUIET, 0, 0, 0},
    {"spec", "description", QUIET, 0, 0, 0},
    {"spec", "annotations", QUIET, 0, 0, 0},
    {"spec", "additionalServices", UNUSED, 0, 0, 0},
    {"spec", "affinity", UNUSED, 0, 0, 0},
    {"spec", "autoscaling", UNUSED, 0, 0, 0},
    {"spec", "backup", UNUSED, 0, 0, 0},
    {"spec", "cache", UNUSED, 0, 0, 0},
    {"spec", "caching", UNUSED, 0, 0, 0},
    {"spec", "compliance", UNUSED, 0, 0, 0},
    {"spec", "database", UNUSED, 0, 0, 0},
    {"spec", "dependencies", UNUSED, 0, 0, 0},
    {"spec", "envFrom", UNUSED, 0, 0, 0},
    {"spec", "health", UNUSED, 0, 0, 0},
    {"spec", "image", UNUSED, 0, 0, 0},
    {"spec", "integrations", UNUSED, 0, 0, 0},
    {"spec", "isolation", UNUSED, 0, 0, 0},
    {"spec", "jobs", UNUSED, 0, 0, 0},
    {"spec", "livenessProbe", UNUSED, 0, 0, 0},
    {"spec", "migrations", UNUSED, 0, 0, 0},
    {"spec", "monitoring", UNUSED, 0, 0, 0},
    {"spec", "networkPolicy", UNUSED, 0, 0, 0},
    {"spec", "observability", UNUSED, 0, 0, 0},
    {"spec", "secrets", UNUSED, 0, 0, 0},
    {"spec", "security", UNUSED, 0, 0, 0},
    {"spec", "securityContext", UNUSED, 0, 0, 0},
    {"spec", "services", UNUSED, 0, 0, 0},
    {"spec", "sidecars", UNUSED, 0, 0, 0},
    {"spec", "slo", UNUSED, 0, 0, 0},
    {"spec", "volumes", UNUSED, 0, 0, 0},
    {"spec", "workers", UNUSED, 0, 0, 0},

    {"build", "type", TEXT, 0, 0, 0},
    {"build", "builder", TEXT, 0, 0, 0},
    {"build", "dockerfile", TEXT, 0, 0, 0},
    {"build", "context", TEXT, 0, 0, 0},
    {"build", "target", TEXT, 0, 0, 0},
    {"build", "buildArgs", LIST | MAP, "env", 0, 0},
    {"build", "buildEnv", LIST | MAP, "env", 0, 0},
    {"build", "args", LIST | MAP, "env", 0, 0},
    {"build", "source", MAP, "source", 0, 0},
    {"build", "timeout", TEXT, 0, 0, 0},
    {"build", "memory", TEXT, 0, 0, 0},
    {"build", "image", UNUSED, 0, 0, 0},
    {"build", "buildpack", UNUSED, 0, 0, 0},
    {"build", "buildCommand", UNUSED, 0, 0, 0},
    {"build", "cache", UNUSED, 0, 0, 0},
    {"build", "provenance", UNUSED, 0, 0, 0},

    {"source", "git", MAP, "git", 0, 0},
    {"source", "build", MAP, "build", 0, 0},
    {"source", "repo", TEXT, 0, 0, 0},
    {"source", "repository", TEXT, 0, 0, 0},
    {"source", "branch", TEXT, 0, 0, 0},
    {"source", "path", TEXT, 0, 0, 0},
    {"source", "image", UNUSED, 0, 0, 0},

    {"git", "repository", TEXT, 0, 0, 0},
    {"git", "branch", TEXT, 0, 0, 0},
    {"git", "path", TEXT, 0, 0, 0},
    {"git", "autoDeploy", BOOL, 0, 0, 0},
    {"git", "watchPaths", LIST | TEXTS, 0, 0, 0},
    {"git", "pullRequests", TEXT, 0, 0, 0},
    {"git", "waitForCI", BOOL, 0, 0, 0},

    {"github", "repo", TEXT, 0, 0, 0},
    {"github", "branch", TEXT, 0, 0, 0},
    {"github", "appPath", TEXT, 0, 0, 0},
    {"github", "watchPaths", LIST | TEXTS, 0, 0, 0},

    {"autoDeploy", "enabled", BOOL, 0, 0, 0},
    {"autoDeploy", "branch", TEXT, 0, 0, 0},
    {"autoDeploy", "environment", TEXT, 0, 0, 0},

    {"pipeline", "autoDeploy", BOOL, 0, 0, 0},
    {"pipeline", "stages", UNUSED, 0, 0, 0},
    {"pipeline", "webhooks", UNUSED, 0, 0, 0},

    {"runtime", "port", INT, 0, 1, 65535},
    {"runtime", "replicas", INT | MAP, "replicas", 0, 100},
    {"runtime", "command", LIST | TEXTS, 0, 0, 0},
    {"runtime", "cmd", LIST | TEXTS, 0, 0, 0},
    {"runtime", "env", LIST | MAP, "env", 0, 0},
    {"runtime", "healthCheck", TEXT | MAP, "probe", 0, 0},
    {"runtime", "readinessProbe", MAP, "probe", 0, 0},
    {"runtime", "resources", MAP, "resources", 0, 0},
    {"runtime", "memory", TEXT, 0, 0, 0},
    {"runtime", "cpu", TEXT, 0, 0, 0},
    {"runtime", "instances", INT, 0, 0, 100},
    {"runtime", "livenessProbe", UNUSED, 0, 0, 0},
    {"runtime", "startupProbe", UNUSED, 0, 0, 0},
    {"runtime", "autoscaling", UNUSED, 0, 0, 0},
    {"runtime", "image", UNUSED, 0, 0, 0},
    {"runtime", "ports", UNUSED, 0, 0, 0},

    {"replicas", "min", INT, 0, 0, 100},
    {"replicas", "max", INT, 0, 1, 100},

    {"probe", "path", TEXT, 0, 0, 0},
    {"probe", "httpGet", MAP, "probe", 0, 0},
    {"probe", "readiness", MAP, "probe", 0, 0},
    {"probe", "readinessPath", TEXT, 0, 0, 0},
    {"probe", "initialDelaySeconds", INT, 0, 0, 3600},
    {"probe", "periodSeconds", INT, 0, 1, 3600},
    {"probe", "intervalSeconds", INT, 0, 1, 3600},
    {"probe", "timeoutSeconds", INT, 0, 1, 3600},
    {"probe", "failureThreshold", INT, 0, 1, 1000},
    {"probe", "retries", INT, 0, 1, 1000},
    {"probe", "interval", TEXT, 0, 0, 0},
    {"probe", "timeout", TEXT, 0, 0, 0},
    {"probe", "deadlineSeconds", INT, 0, 1, 3600},
    {"probe", "type", QUIET, 0, 0, 0},
    {"probe", "scheme", QUIET, 0, 0, 0},
    {"probe", "liveness", UNUSED, 0, 0, 0},
    {"probe", "livenessPath", UNUSED, 0, 0, 0},
    {"probe", "port", UNUSED, 0, 0, 0},
    {"probe", "command", UNUSED, 0, 0, 0},
    {"probe", "disabled", UNUSED, 0, 0, 0},
    {"probe", "successThreshold", UNUSED, 0, 0, 0},

    {"resources", "limits", MAP, "amounts", 0, 0},
    {"resources", "requests", QUIET, 0, 0, 0},
    {"resources", "cpu", TEXT, 0, 0, 0},
    {"resources", "memory", TEXT, 0, 0, 0},
    {"resources", "cpuLimit", TEXT, 0, 0, 0},
    {"resources", "memoryLimit", TEXT, 0, 0, 0},
    {"resources", "cpuRequest", QUIET, 0, 0, 0},
    {"resources", "memoryRequest", QUIET, 0, 0, 0},
    {"amounts", "cpu", TEXT, 0, 0, 0},
    {"amounts", "memory", TEXT, 0, 0, 0},
    {"amounts", "ephemeral-storage", UNUSED, 0, 0, 0},

    {"deployment", "strategy", TEXT | MAP, "strategy", 0, 0},
    {"deployment", "replicas", INT, 0, 0, 100},
    {"deployment", "canary", MAP, "canary", 0, 0},
    {"deployment", "container", MAP, "container", 0, 0},
    {"deployment", "maxSurge", UNUSED, 0, 0, 0},
    {"deployment", "maxUnavailable", UNUSED, 0, 0, 0},
    {"deployment", "rollingUpdate", UNUSED, 0, 0, 0},
    {"deployment", "pod", UNUSED, 0, 0, 0},
    {"strategy", "type", TEXT, 0, 0, 0},
    {"strategy", "rollingUpdate", UNUSED, 0, 0, 0},
    {"canary", "steps", LIST, "step", 0, 0},
    {"canary", "rollback", MAP, "rollback", 0, 0},
    {"canary", "analysis", UNUSED, 0, 0, 0},
    {"step", "weight", INT, 0, 1, 100},
    {"step", "pause", TEXT, 0, 0, 0},
    {"step", "duration", TEXT, 0, 0, 0},
    {"rollback", "errorThreshold", NUMBER, 0, 0, 0},
    {"rollback", "automatic", UNUSED, 0, 0, 0},
    {"container", "port", INT, 0, 1, 65535},
    {"container", "env", LIST | MAP, "env", 0, 0},
    {"container", "command", LIST | TEXTS, 0, 0, 0},
    {"container", "resources", MAP, "resources", 0, 0},
    {"container", "readinessCheck", MAP, "probe", 0, 0},
    {"container", "healthCheck", TEXT | MAP, "probe", 0, 0},
    {"container", "securityContext", UNUSED, 0, 0, 0},

    {"env", "*", TEXT, 0, 0, 0},
    {"env[]", "name", TEXT, 0, 0, 0},
    {"env[]", "value", TEXT, 0, 0, 0},
    {"env[]", "valueFrom", UNUSED, 0, 0, 0},

    {"domain", "domain", TEXT, 0, 0, 0},
    {"domain", "name", TEXT, 0, 0, 0},
    {"domain", "host", TEXT, 0, 0, 0},
    {"domain", "tls", BOOL | MAP, "tls", 0, 0},
    {"domain", "primary", QUIET, 0, 0, 0},
    {"domain", "tlsIssuer", UNUSED, 0, 0, 0},
    {"domain", "targetPort", UNUSED, 0, 0, 0},
    {"route", "host", TEXT, 0, 0, 0},
    {"route", "domain", TEXT, 0, 0, 0},
    {"route", "path", TEXT, 0, 0, 0},
    {"route", "tls", BOOL | MAP, "tls", 0, 0},
    {"route", "tlsEnabled", BOOL, 0, 0, 0},
    {"route", "pathType", UNUSED, 0, 0, 0},
    {"route", "port", UNUSED, 0, 0, 0},
    {"route", "redirect", UNUSED, 0, 0, 0},
    {"route", "tlsIssuer", UNUSED, 0, 0, 0},
    {"tls", "enabled", BOOL, 0, 0, 0},
    {"tls", "provider", UNUSED, 0, 0, 0},
    {"networking", "domains", LIST | TEXTS, "domain", 0, 0},
    {"networking", "tls", MAP, "tls", 0, 0},
    {"networking", "port", INT, 0, 1, 65535},
    {"networking", "internal", UNUSED, 0, 0, 0},
    {"networking", "protocol", UNUSED, 0, 0, 0},
    {"networking", "cors", UNUSED, 0, 0, 0},
    {"networking", "service", UNUSED, 0, 0, 0},
    {"networking", "ingress", UNUSED, 0, 0, 0},
};

static void check_value(struct report *report, const struct key *key, const struct node *node,
                        const char *path);

/* The row of a key in a shape. A list of `env` has its own shape, "env[]". */
static const struct key *find_key(const char *shape, const char *name)
{
    const struct key *any = NULL;
    for (size_t i = 0; i < EC_LEN(keys); i++) {
        if (strcmp(keys[i].shape, shape) != 0) {
            continue;
        }
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
        any = strcmp(keys[i].name, "*") == 0 ? &keys[i] : any;
    }
    return any;
}

static void fault_unknown(struct report *report, const char *shape, const struct node *key,
                          const char *path)
{
    const char *known[64];
    size_t count = 0;
    if (report->fault_count >= FAULTS_MAX) {
        return; /* comparing words takes time, and nobody will see the result */
    }
    for (size_t i = 0; i < EC_LEN(keys) && count < EC_LEN(known); i++) {
        if (strcmp(keys[i].shape, shape) == 0) {
            known[count++] = keys[i].name;
        }
    }
    const char *near = ec_nearest(ec_span_of(key->text), known, count);
    spec_report_fault(report, key, path,
                      near != NULL ? ec_arena_format(report->arena, "did you mean %s?", near)
                                   : NULL,
                      "is no key of a service spec");
}

static void check_map(struct report *report, const char *shape, const struct node *map,
                      const char *path)
{
    for (const struct member *m = map->members; m != NULL; m = m->next) {
        const char *name = m->key->text;
        const char *inner = path[0] == '\0'
                                ? ec_arena_format(report->scratch, "%.100s", name)
                                : ec_arena_format(report->scratch, "%s.%.100s", path, name);
        const struct key *key = find_key(shape, name);
        if (key == NULL) {
            fault_unknown(report, shape, m->key, inner);
        } else if (key->takes & UNUSED) {
            spec_report_warning(report, m->key, inner,
                                "is known, but has no effect in this version");
        } else if (!(key->takes & QUIET) && !spec_node_absent(m->value)) {
            check_value(report, key, m->value, inner);
        }
    }
}

static void check_items(struct report *report, const struct key *key, const struct node *list,
                        const char *path)
{
    const char *shape = key->inner != NULL && strcmp(key->inner, "env") == 0 ? "env[]" : key->inner;
    int index = 0;
    for (const struct member *m = list->members; m != NULL; m = m->next, index++) {
        const char *inner = ec_arena_format(report->scratch, "%s[%d]", path, index);
        if (m->value->kind == NODE_MAP && shape != NULL) {
            check_map(report, shape, m->value, inner);
        } else if (m->value->kind != NODE_TEXT || !(key->takes & TEXTS) ||
                   spec_node_absent(m->value)) {
            spec_report_fault(report, m->value, inner, NULL, "must be %s",
                              key->takes & TEXTS ? shape != NULL ? "a text or a map" : "a text"
                                                 : "a map");
        }
    }
}

static const char *types_text(struct report *report, unsigned takes)
{
    static const struct {
        unsigned type;
        const char *text;
    } names[] = {
        {TEXT, "a text"},        {INT, "a whole number"}, {NUMBER, "a share such as 0.05 or 5%"},
        {BOOL, "true or false"}, {LIST, "a list"},        {MAP, "a map"}};
    const char *text = "";
    for (size_t i = 0; i < EC_LEN(names); i++) {
        if (takes & names[i].type) {
            text = ec_arena_format(report->scratch, "%s%s%s", text, text[0] != '\0' ? " or " : "",
                                   names[i].text);
        }
    }
    return text;
}

static void fault_type(struct report *report, const struct key *key, const struct node *node,
                       const char *path)
{
    const char *expected = types_text(report, key->takes);
    if (node->kind != NODE_TEXT) {
        spec_report_fault(report, node, path, NULL, "must be %s, is a %s", expected,
                          node->kind == NODE_LIST ? "list" : "map");
        return;
    }
    struct node plain = *node;
    int64_t number = 0;
    bool flag = false;
    plain.plain = true;
    bool quoted = !node->plain && ((key->takes & INT && spec_value_int(&plain, &number)) ||
                                   (key->takes & BOOL && spec_value_bool(&plain, &flag)));
    spec_report_fault(report, node, path, quoted ? "remove the quotes" : NULL,
                      "must be %s, is \"%.60s\"", expected, node->text);
}

static void check_text(struct report *report, const struct key *key, const struct node *node,
                       const char *path)
{
    int64_t number = 0;
    double share = 0;
    bool flag = false;
    if (key->takes & TEXT || (key->takes & BOOL && spec_value_bool(node, &flag)) ||
        (key->takes & NUMBER && spec_value_share(node->text, &share))) {
        return;
    }
    if (!(key->takes & INT) || !spec_value_int(node, &number)) {
        fault_type(report, key, node, path);
    } else if (number < key->min || number > key->max) {
        spec_report_fault(report, node, path, NULL, "must be %lld..%lld, is %lld",
                          (long long)key->min, (long long)key->max, (long long)number);
    }
}

static void check_value(struct report *report, const struct key *key, const struct node *node,
                        const char *path)
{
    if (node->kind == NODE_TEXT) {
        check_text(report, key, node, path);
    } else if (node->kind == NODE_MAP && key->takes & MAP) {
        check_map(report, key->inner, node, path);
    } else if (node->kind == NODE_LIST && key->takes & LIST) {
        check_items(report, key, node, path);
    } else {
        fault_type(report, key, node, path);
    }
}

void spec_keys_check(struct report *report, const struct node *document)
{
    check_map(report, "document", document, "");
}
