/* YAML text to a tree with positions. The text comes from strangers: its size, depth and number of
 * nodes are bounded and aliases are refused, so that no few bytes can stand for many (the "billion
 * laughs"). Duplicate keys are faults: the reader of the text and we must see the same value. */
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "base/encode.h"
#include "base/map.h"
#include "base/mem.h"
#include "spec/internal.h"

struct builder {
    struct report *report;
    yaml_parser_t parser;
    size_t node_count;
};

static struct node *build_node(struct builder *builder, yaml_event_t *event, int depth);

static void fault_at(struct builder *builder, yaml_mark_t mark, const char *hint, const char *what)
{
    const struct node at = {.line = (int)mark.line + 1, .column = (int)mark.column + 1};
    spec_report_fault(builder->report, &at, "", hint, "%s", what);
}

static void syntax_fault(struct builder *builder)
{
    const yaml_parser_t *parser = &builder->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";
    const char *hint = NULL;
    if (strstr(problem, "cannot start any token") != NULL) {
        hint = "indent with spaces, not tabs, and quote texts that begin with @ ` or %";
    } else if (strstr(problem, "mapping values are not allowed") != NULL) {
        hint = "quote a text that contains \": \", or check the indentation";
    }
    fault_at(builder, parser->problem_mark, hint,
             ec_arena_format(builder->report->scratch, "no valid YAML: %s", problem));
}

/* The next event, or false after a fault. The caller deletes the event. */
static bool next_event(struct builder *builder, yaml_event_t *event)
{
    if (yaml_parser_parse(&builder->parser, event) == 0) {
        syntax_fault(builder);
        return false;
    }
    return true;
}

static struct node *build_text(struct builder *builder, struct node *node,
                               const yaml_event_t *event)
{
    struct ec_span text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    if (memchr(text.ptr, '\0', text.len) != NULL) {
        fault_at(builder, event->start_mark, NULL, "a text must not contain a NUL character");
        return NULL;
    }
    node->kind = NODE_TEXT;
    node->text = ec_arena_text(builder->report->scratch, text);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return node;
}

static bool add_member(struct builder *builder, struct node *node, struct member ***link,
                       yaml_event_t *event, int depth)
{
    struct member *member = ec_arena_alloc(builder->report->scratch, sizeof(*member));
    if (node->kind == NODE_MAP) {
        member->key = build_node(builder, event, depth + 1);
        if (member->key == NULL) {
            return false;
        }
        if (member->key->kind != NODE_TEXT) {
            fault_at(builder, event->start_mark, NULL, "a key must be a text");
            return false;
        }
        yaml_event_t value_event;
        if (!next_event(builder, &value_event)) {
            return false;
        }
        member->value = build_node(builder, &value_event, depth + 1);
        yaml_event_delete(&value_event);
    } else {
        member->value = build_node(builder, event, depth + 1);
    }
    **link = member;
    *link = &member->next;
    node->count++;
    return member->value != NULL;
}

static struct node *build_members(struct builder *builder, struct node *node, int depth)
{
    struct member **link = &node->members;
    for (;;) {
        yaml_event_t event;
        if (!next_event(builder, &event)) {
            return NULL;
        }
        bool end = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        bool added = end || add_member(builder, node, &link, &event, depth);
        yaml_event_delete(&event);
        if (end || !added) {
            return end ? node : NULL;
        }
    }
}

static void check_duplicates(struct builder *builder, const struct node *node)
{
    struct ec_map *seen = ec_map_new(YAML_NODES_MAX);
    for (const struct member *m = node->members; m != NULL; m = m->next) {
        const struct node *first = ec_map_get(seen, m->key->text);
        if (first != NULL) {
            spec_report_fault(builder->report, m->key, m->key->text, NULL,
                              "is written twice: first in line %d", first->line);
        } else {
            ec_map_put(seen, m->key->text, m->key);
        }
    }
    ec_map_free(seen, NULL);
}

static bool refuse(struct builder *builder, const yaml_event_t *event, int depth)
{
    const char *what = NULL;
    if (event->type == YAML_ALIAS_EVENT) {
        what = "aliases (*name) are not supported: write the value out";
    } else if (depth > YAML_DEPTH_MAX) {
        what = "nested too deeply: at most 16 levels";
    } else if (++builder->node_count > YAML_NODES_MAX) {
        what = "too many values: at most 10000";
    }
    if (what != NULL) {
        fault_at(builder, event->start_mark, NULL, what);
    }
    return what != NULL;
}

static struct node *build_node(struct builder *builder, yaml_event_t *event, int depth)
{
    if (refuse(builder, event, depth)) {
        return NULL;
    }
    struct node *node = ec_arena_alloc(builder->report->scratch, sizeof(*node));
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    if (event->type == YAML_SCALAR_EVENT) {
        return build_text(builder, node, event);
    }
    node->kind = event->type == YAML_MAPPING_START_EVENT ? NODE_MAP : NODE_LIST;
    if (build_members(builder, node, depth) == NULL) {
        return NULL;
    }
    if (node->kind == NODE_MAP) {
        check_duplicates(builder, node);
    }
    return node;
}

/* Reads events until the end of the text; each document's root goes to `documents`. */
static size_t build_documents(struct builder *builder, struct node **documents, size_t room)
{
    size_t count = 0;
    for (bool more = true; more;) {
        yaml_event_t event;
        if (!next_event(builder, &event)) {
            return count;
        }
        bool root = event.type == YAML_SCALAR_EVENT || event.type == YAML_ALIAS_EVENT ||
                    event.type == YAML_MAPPING_START_EVENT ||
                    event.type == YAML_SEQUENCE_START_EVENT;
        more = event.type != YAML_STREAM_END_EVENT;
        if (root && count >= room) {
            fault_at(builder, event.start_mark, NULL, "too many documents in one text");
            more = false;
        } else if (root) {
            documents[count] = build_node(builder, &event, 1);
            more = documents[count] != NULL;
            count += more ? 1 : 0;
        }
        yaml_event_delete(&event);
    }
    return count;
}

size_t spec_yaml_read(struct report *report, struct ec_span text, struct node **documents,
                      size_t room)
{
    if (text.len > YAML_MAX_BYTES) {
        spec_report_fault(report, NULL, "", NULL, "has %zu bytes: at most 262144 are read",
                          text.len);
        return 0;
    }
    if (!ec_utf8_valid(text)) {
        spec_report_fault(report, NULL, "", NULL, "is not UTF-8 text");
        return 0;
    }
    struct builder builder = {.report = report};
    if (yaml_parser_initialize(&builder.parser) == 0) {
        spec_report_fault(report, NULL, "", NULL, "cannot be read: out of memory");
        return 0;
    }
    yaml_parser_set_encoding(&builder.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&builder.parser, (const unsigned char *)text.ptr, text.len);
    size_t count = build_documents(&builder, documents, room);
    yaml_parser_delete(&builder.parser);
    return count;
}

bool spec_node_absent(const struct node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; node->kind == NODE_TEXT && node->plain && i < EC_LEN(nulls); i++) {
        if (strcmp(node->text, nulls[i]) == 0) {
            return true;
        }
    }
    return false;
}

static struct node *member_named(const struct node *map, const char *name, size_t len)
{
    if (map == NULL || map->kind != NODE_MAP) {
        return NULL;
    }
    for (const struct member *m = map->members; m != NULL; m = m->next) {
        if (strlen(m->key->text) == len && memcmp(m->key->text, name, len) == 0) {
            return spec_node_absent(m->value) ? NULL : m->value;
        }
    }
    return NULL;
}

struct node *spec_node_member(const struct node *map, const char *name)
{
    return member_named(map, name, strlen(name));
}

struct node *spec_node_at(const struct node *map, const char *path)
{
    struct node *found = NULL;
    const struct node *in = map;
    for (const char *at = path;; at++) {
        size_t len = strcspn(at, ".");
        found = member_named(in, at, len);
        at += len;
        if (found == NULL || *at == '\0') {
            return found;
        }
        in = found;
    }
}
