/* The entry of libs/spec: finds the Service document among the documents of a text, checks it
 * against the table of keys (keys.c), fills the message (fill.c), and hands out every fault in the
 * order of the text. The tree lives in an arena of its own, so that a large text costs the caller's
 * arena little. */
#include "spec/spec.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "spec/internal.h"

#define DOCUMENTS_MAX 64
/* 10,000 nodes with their members, the text once more, and paths. */
#define SCRATCH_MAX_BYTES (size_t)(16 * 1024 * 1024)

static void add(struct report *report, struct ec_spec_fault *list, size_t *count,
                const struct node *node, struct ec_spec_fault fault)
{
    if (*count >= FAULTS_MAX) {
        return;
    }
    fault.line = node != NULL ? node->line : 0;
    fault.column = node != NULL ? node->column : 0;
    fault.path = ec_arena_format(report->arena, "%.300s", fault.path);
    list[(*count)++] = fault;
}

void spec_report_fault(struct report *report, const struct node *node, const char *path,
                       const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = ec_arena_vformat(report->arena, format, args);
    va_end(args);
    add(report, report->faults, &report->fault_count, node,
        (struct ec_spec_fault){.path = path, .what = what, .hint = hint});
}

void spec_report_warning(struct report *report, const struct node *node, const char *path,
                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *what = ec_arena_vformat(report->arena, format, args);
    va_end(args);
    add(report, report->warnings, &report->warning_count, node,
        (struct ec_spec_fault){.path = path, .what = what});
}

static bool is_service(const struct node *document)
{
    const struct node *kind = spec_node_member(document, "kind");
    return kind != NULL && kind->kind == NODE_TEXT && strcmp(kind->text, "Service") == 0 &&
           spec_node_at(document, "spec.selector") == NULL; /* Kubernetes has a kind Service too */
}

/* The `index`th Service; *ret_count says how many there are. */
static const struct node *find_service(struct node *const *documents, size_t document_count,
                                       size_t index, size_t *ret_count)
{
    const struct node *found = NULL;
    *ret_count = 0;
    for (size_t i = 0; i < document_count; i++) {
        if (is_service(documents[i])) {
            found = *ret_count == index ? documents[i] : found;
            (*ret_count)++;
        }
    }
    return found;
}

static void check_version(struct report *report, const struct node *document)
{
    static const char *const versions[] = {"enclii.dev/v1", "enclii.dev/v1alpha", "enclii.io/v1"};
    const struct node *version = spec_node_member(document, "apiVersion");
    if (version == NULL) {
        spec_report_fault(report, document, "apiVersion", NULL, "is missing: write enclii.dev/v1");
        return;
    }
    for (size_t i = 0; version->kind == NODE_TEXT && i < EC_LEN(versions); i++) {
        if (strcmp(version->text, versions[i]) == 0) {
            return;
        }
    }
    if (version->kind == NODE_TEXT) {
        spec_report_fault(report, version, "apiVersion", NULL,
                          "must be enclii.dev/v1, is \"%.60s\"", version->text);
    }
}

static const char *label_of(struct report *report, const struct node *document, const char *path,
                            bool required)
{
    const struct node *node = spec_node_at(document, path);
    if (node == NULL) {
        if (required) {
            const struct node *metadata = spec_node_member(document, "metadata");
            spec_report_fault(report, metadata != NULL ? metadata : document, path, NULL,
                              "is missing");
        }
        return "";
    }
    if (node->kind != NODE_TEXT) {
        return ""; /* told by the table of keys */
    }
    if (!spec_value_label(node->text)) {
        spec_report_fault(report, node, path, NULL,
                          "must be 1 to 63 of a-z, 0-9 and -, without - at the ends, is \"%.80s\"",
                          node->text);
    }
    return ec_arena_strdup(report->arena, node->text);
}

static int by_position(const void *a, const void *b)
{
    const struct ec_spec_fault *x = a, *y = b;
    return x->line != y->line ? (x->line < y->line ? -1 : 1) : x->column - y->column;
}

static const struct ec_spec_fault *hand_out(struct report *report, struct ec_spec_fault *list,
                                            size_t count)
{
    qsort(list, count, sizeof(*list), by_position);
    struct ec_spec_fault *out = ec_arena_alloc(report->arena, (count + 1) * sizeof(*out));
    memcpy(out, list, count * sizeof(*out));
    return out;
}

static void read_service(struct report *report, const struct node *document, struct ec_spec *spec)
{
    spec_keys_check(report, document);
    check_version(report, document);
    spec->name = label_of(report, document, "metadata.name", true);
    spec->project = label_of(report, document, "metadata.project", false);
    if (spec_node_member(document, "spec") == NULL) {
        spec_report_fault(report, document, "spec", NULL, "is missing");
    }
    const struct node *services = spec_node_at(document, "spec.services");
    if (services != NULL) {
        spec_report_fault(
            report, services, "spec.services", NULL,
            "several services in one document are not supported: write one document each");
    }
    spec_fill_service(report, document, spec->service);
}

static void parse_at(struct report *report, struct ec_span yaml, size_t index, struct ec_spec *spec)
{
    struct node *documents[DOCUMENTS_MAX];
    size_t count = spec_yaml_read(report, yaml, documents, EC_LEN(documents));
    const struct node *document = find_service(documents, count, index, &spec->documents);
    if (document != NULL) {
        read_service(report, document, spec);
    } else if (count == 0 && report->fault_count == 0) {
        spec_report_fault(report, NULL, "kind", NULL,
                          "is missing: the text is empty, a document of kind Service is needed");
    } else if (report->fault_count == 0) {
        spec_report_fault(report, documents[0], "kind", NULL,
                          "must be Service: the text has %zu of them", spec->documents);
    }
}

void ec_spec_parse_at(struct ec_arena *arena, struct ec_span yaml, size_t index,
                      struct ec_spec *ret_spec)
{
    struct report *report = ec_alloc(sizeof(*report));
    report->arena = arena;
    report->scratch = ec_arena_new(SCRATCH_MAX_BYTES);
    *ret_spec = (struct ec_spec){.name = "", .project = ""};
    ret_spec->service = ec_arena_alloc(arena, sizeof(*ret_spec->service));
    enclii__v1__service_spec__init(ret_spec->service);
    parse_at(report, yaml, index, ret_spec);
    ret_spec->faults = hand_out(report, report->faults, report->fault_count);
    ret_spec->fault_count = report->fault_count;
    ret_spec->warnings = hand_out(report, report->warnings, report->warning_count);
    ret_spec->warning_count = report->warning_count;
    ec_arena_free(report->scratch);
    free(report);
}

void ec_spec_parse(struct ec_arena *arena, struct ec_span yaml, struct ec_spec *ret_spec)
{
    ec_spec_parse_at(arena, yaml, 0, ret_spec);
}

static void add_line(struct ec_buf *text, const struct ec_spec_fault *fault, const char *file_name,
                     const char *kind)
{
    ec_buf_add_text(text, file_name);
    if (fault->line > 0) {
        ec_buf_addf(text, ":%d:%d", fault->line, fault->column);
    }
    ec_buf_addf(text, ": %s%s%s%s", kind, fault->path, fault->path[0] != '\0' ? " " : "",
                fault->what);
    if (fault->hint != NULL) {
        ec_buf_addf(text, " (%s)", fault->hint);
    }
    ec_buf_add_text(text, "\n");
}

char *ec_spec_faults_text(struct ec_arena *arena, const struct ec_spec *spec, const char *file_name)
{
    ec_cleanup(ec_buf_done) struct ec_buf text;
    ec_buf_init(&text, 256 * 1024);
    for (size_t i = 0; i < spec->fault_count; i++) {
        add_line(&text, &spec->faults[i], file_name, "");
    }
    for (size_t i = 0; i < spec->warning_count; i++) {
        add_line(&text, &spec->warnings[i], file_name, "warning: ");
    }
    return ec_arena_text(arena, ec_buf_span(&text));
}
