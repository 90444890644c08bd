/* Private to libs/spec: the tree of a YAML document, the table of keys, and the list of faults. */
#pragma once

#include "spec/spec.h"

#define YAML_MAX_BYTES (size_t)(256 * 1024)
#define YAML_DEPTH_MAX 16
#define YAML_NODES_MAX 10000
#define FAULTS_MAX 100

enum node_kind { NODE_TEXT, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    int line, column; /* from 1 */
    bool plain;       /* a text without quotes: numbers, true, false and null are such */
    const char *text; /* NODE_TEXT; NUL-terminated, no NUL inside */
    struct member *members;
    size_t count;
};

struct member {
    struct node *key; /* NULL in lists */
    struct node *value;
    struct member *next;
};

/* What is collected while a text is read. Nodes live in `scratch`, what is handed out in `arena`.
 */
struct report {
    struct ec_arena *arena, *scratch;
    struct ec_spec_fault faults[FAULTS_MAX], warnings[FAULTS_MAX];
    size_t fault_count, warning_count;
};

void spec_report_fault(struct report *report, const struct node *node, const char *path,
                       const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void spec_report_warning(struct report *report, const struct node *node, const char *path,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));

/* All documents of the text, at most `room`; faults end up in the report. */
size_t spec_yaml_read(struct report *report, struct ec_span text, struct node **documents,
                      size_t room);

/* Plain and empty, ~ or null: the key counts as not written. */
bool spec_node_absent(const struct node *node);
/* The member of that name; NULL when there is none, it is absent, or `map` is no map. */
struct node *spec_node_member(const struct node *map, const char *name);
/* The same along "a.b.c". */
struct node *spec_node_at(const struct node *map, const char *path);

/* Checks a document against the table of keys: unknown keys, wrong types, numbers out of range are
 * faults; known keys without effect are warnings. */
void spec_keys_check(struct report *report, const struct node *document);

/* Values with a form of their own; false when the text is not of that form. */
bool spec_value_bool(const struct node *node, bool *ret);
bool spec_value_int(const struct node *node, int64_t *ret);
bool spec_value_share(const char *text, double *ret); /* "5%", "5" (percent), "0.05" */
bool spec_value_env_name(const char *text);
bool spec_value_label(const char *text);         /* 1-63 of a-z 0-9 -, no dash at the ends */
bool spec_value_hostname(const char *text);      /* lower-case A-labels */
bool spec_value_relative_path(const char *text); /* does not leave its folder */

/* Fills the service from a checked document. */
void spec_fill_service(struct report *report, const struct node *document,
                       Enclii__V1__ServiceSpec *service);
