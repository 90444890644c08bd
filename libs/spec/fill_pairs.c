/* Lists and maps of names and values: the environment of the app, the arguments of its build. */
#include "spec/fill_private.h"

/* More is no service anyone wrote by hand, and the checks for doubles compare each with each. */
#define PAIRS_MAX 500

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
    if (!spec_value_env_name(name)) {
        spec_report_fault(
            report, at, path, NULL,
            "the name \"%.60s\" must be letters, digits and _, not beginning with a digit", name);
    } else if (r->known(r->f, r->count, name)) {
        if (!r->is_map) { /* a key written twice was told when the text was read */
            spec_report_fault(report, at, path, NULL, "the name %.60s is used twice", name);
        }
    } else if (value == NULL || value->kind == NODE_TEXT) {
        r->put(r->f, r->count++, spec_copy(r->f, name),
               spec_copy(r->f, value != NULL ? value->text : ""));
    }
}

static void read_item(struct pair_reader *r, const struct node *item, const char *path)
{
    const struct node *name = spec_node_member(item, "name");
    const struct node *value = spec_node_member(item, "value");
    if (item->kind != NODE_MAP) {
        return; /* told by the table of keys */
    }
    if (name == NULL || name->kind != NODE_TEXT) {
        spec_report_fault(r->f->report, item, path, NULL, "needs a name");
    } else if (value == NULL && spec_node_member(item, "valueFrom") != NULL) {
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
        spec_report_fault(r->f->report, found.node, found.path, NULL, "has %zu entries: at most %d",
                          found.node->count, PAIRS_MAX);
        return;
    }
    for (const struct member *m = found.node->members; m != NULL; m = m->next, index++) {
        if (found.node->kind == NODE_LIST) {
            read_item(r, m->value,
                      ec_arena_format(r->f->report->scratch, "%s[%zu]", found.path, index));
        } else {
            read_pair(r, m->key, found.path, m->key->text,
                      spec_node_absent(m->value) ? NULL : m->value);
        }
    }
}

/* The first place that has a list or a map of pairs. */
static struct found pairs_at(struct filler *f, const char *const *paths)
{
    for (; *paths != NULL; paths++) {
        const struct node *node = spec_node_at(f->spec, *paths);
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

void spec_fill_env(struct filler *f)
{
    struct found env = pairs_at(f, PATHS("env", "runtime.env", "deployment.container.env"));
    if (env.node != NULL) {
        f->out->run->env =
            ec_arena_alloc(f->report->arena, (env.node->count + 1) * sizeof(*f->out->run->env));
        read_pairs(&(struct pair_reader){f, 0, false, put_env, knows_env}, env);
    }
}

void spec_fill_args(struct filler *f)
{
    struct found args =
        pairs_at(f, PATHS("build.buildArgs", "build.args", "build.buildEnv", "source.build.args"));
    if (args.node != NULL) {
        f->out->build->args =
            ec_arena_alloc(f->report->arena, (args.node->count + 1) * sizeof(*f->out->build->args));
        read_pairs(&(struct pair_reader){f, 0, false, put_arg, knows_arg}, args);
    }
}
