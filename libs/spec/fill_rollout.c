/* How a release comes to serve: the steps of its rollout and the routes that lead to it. */
#include <stdlib.h>

#include "base/amount.h"
#include "spec/fill_private.h"

/* More is no service anyone wrote by hand, and the check for doubles compares each with each. */
#define ROUTES_MAX 200
#define ERROR_RATE_MAX 0.05
#define ERROR_RATE_NONE 1e-6 /* 0 is how the event says "the default" */

static char *rollout_strategy(struct filler *f)
{
    static const char *const names[][2] = {
        {"canary", "canary"},         {"Canary", "canary"},       {"rolling", "rolling"},
        {"RollingUpdate", "rolling"}, {"bluegreen", "bluegreen"}, {"blue-green", "bluegreen"},
        {"BlueGreen", "bluegreen"},
    };
    struct found found =
        spec_first_of(f, NODE_TEXT, PATHS("deployment.strategy", "deployment.strategy.type"));
    if (found.node == NULL) {
        return spec_copy(f, "canary");
    }
    for (size_t i = 0; i < EC_LEN(names); i++) {
        if (strcmp(names[i][0], found.node->text) == 0) {
            return spec_copy(f, names[i][1]);
        }
    }
    spec_fault_form(f, found, "canary, rolling or bluegreen");
    return spec_copy(f, "canary");
}

/* The step's pause, if it has one, must be that of the steps before: there is one time for all. */
static void fill_pause(struct filler *f, const struct node *step, const char *path)
{
    static const int64_t bounds[] = {0, 24 * 3600 * 1000};
    struct found pause = {spec_node_member(step, "pause"), path};
    pause.node = pause.node != NULL ? pause.node : spec_node_member(step, "duration");
    if (pause.node == NULL || pause.node->kind != NODE_TEXT) {
        return;
    }
    int64_t ms = spec_amount_of(f, pause, ec_amount_duration_ms, bounds, "a time up to 24h, as 5m");
    if (f->out->rollout->step_ms < 0) {
        f->out->rollout->step_ms = ms;
    } else if (f->out->rollout->step_ms != ms) {
        spec_report_warning(f->report, pause.node, path,
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
        const struct node *weight = spec_node_member(m->value, "weight");
        int64_t percent = 0;
        if (weight == NULL || !spec_value_int(weight, &percent)) {
            spec_report_fault(f->report, m->value, path, NULL, "needs a weight from 1 to 100");
            continue;
        }
        if (percent <= last) {
            spec_report_fault(f->report, weight, path, NULL,
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

/* 0.05 and 5% are the same, and so is 5: nobody means 500 %. A bare 1 could be both; as 100 % it
 * would switch going back off without saying so. */
static double error_rate(struct filler *f)
{
    double share = ERROR_RATE_MAX;
    struct found found =
        spec_first_of(f, NODE_TEXT, PATHS("deployment.canary.rollback.errorThreshold"));
    if (found.node == NULL || !spec_value_share(found.node->text, &share)) {
        return ERROR_RATE_MAX; /* its form was checked before */
    }
    if (share >= 1 && strchr(found.node->text, '%') == NULL && atof(found.node->text) < 2) {
        spec_report_warning(
            f->report, found.node, found.path,
            "%.20s is taken as 1 %% of the requests; write \"1%%\", or \"100%%\" to "
            "never go back because of errors",
            found.node->text);
        return 0.01;
    }
    return share > 0 ? share : ERROR_RATE_NONE;
}

void spec_fill_rollout(struct filler *f)
{
    static const int32_t canary_weights[] = {10, 50, 100}, all_at_once[] = {100};
    Enclii__V1__RolloutSpec *rollout = f->out->rollout;
    rollout->strategy = rollout_strategy(f);
    rollout->step_ms = -1;
    bool canary = strcmp(rollout->strategy, "canary") == 0;
    struct found steps = spec_first_of(f, NODE_LIST, PATHS("deployment.canary.steps"));
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
    rollout->error_rate_max = error_rate(f);
}

static void add_route(struct filler *f, const struct node *item, struct found host,
                      const char *path, bool tls)
{
    char *name = spec_copy(f, host.node->text);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    if (!spec_value_hostname(name)) {
        spec_report_fault(
            f->report, host.node, host.path,
            "write names in other scripts in their xn-- form, without scheme and port",
            "must be a host name, is \"%.60s\"", host.node->text);
        return;
    }
    if (path[0] != '/' || strpbrk(path, " ?#\t\r\n\"'\\") != NULL || strlen(path) > 1024) {
        spec_report_fault(f->report, item, host.path, NULL,
                          "the path must begin with / and have no spaces, is \"%.60s\"", path);
        return;
    }
    if (f->out->n_routes >= ROUTES_MAX) {
        return; /* told once, in fill_routes */
    }
    for (size_t i = 0; i < f->out->n_routes; i++) {
        if (strcmp(f->out->routes[i]->hostname, name) == 0 &&
            strcmp(f->out->routes[i]->path, path) == 0) {
            spec_report_fault(f->report, host.node, host.path, NULL, "%.200s%.60s is routed twice",
                              name, path);
            return;
        }
    }
    Enclii__V1__RouteSpec *route = ec_arena_alloc(f->report->arena, sizeof(*route));
    enclii__v1__route_spec__init(route);
    route->hostname = name;
    route->path = spec_copy(f, path);
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
        host.node = spec_node_member(item, host_names[i]);
    }
    if (host.node == NULL || host.node->kind != NODE_TEXT) {
        spec_report_fault(f->report, item, path, NULL, "needs a host name");
        return;
    }
    const struct node *prefix = spec_node_member(item, "path");
    const struct node *own_tls = spec_node_member(item, "tls");
    own_tls = own_tls != NULL ? own_tls : spec_node_member(item, "tlsEnabled");
    add_route(f, item, host, prefix != NULL && prefix->kind == NODE_TEXT ? prefix->text : "/",
              spec_switched(own_tls, tls));
}

void spec_fill_routes(struct filler *f)
{
    static const char *const places[] = {"domains", "routes", "networking.domains"};
    bool networking_tls = spec_switched(spec_node_at(f->spec, "networking.tls"), false);
    size_t room = 1;
    for (size_t i = 0; i < EC_LEN(places); i++) {
        const struct node *list = spec_node_at(f->spec, places[i]);
        room += list != NULL ? list->count : 0;
    }
    if (room > ROUTES_MAX) {
        spec_report_fault(f->report, f->spec, "spec", NULL, "has more than %d routes", ROUTES_MAX);
        room = ROUTES_MAX;
    }
    f->out->routes = ec_arena_alloc(f->report->arena, room * sizeof(*f->out->routes));
    for (size_t i = 0; i < EC_LEN(places); i++) {
        struct found list = spec_first_of(f, NODE_LIST, PATHS(places[i]));
        size_t index = 0;
        const struct member *m = list.node != NULL ? list.node->members : NULL;
        for (; m != NULL; m = m->next, index++) {
            fill_route(f, m->value,
                       ec_arena_format(f->report->scratch, "%s[%zu]", list.path, index),
                       i == 2 && networking_tls);
        }
    }
}
