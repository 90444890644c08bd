/* Private to this service: one request about the webhook of a repository. */
#pragma once

#include "api.h"
#include "base/span.h"
#include "decide_hooks.h"

/* The row of enclii.repo; texts in the arena of the call. */
struct hook_repo {
    const char *key, *clone_url, *full_name, *host_repo_id;
    const char *hook_id, *hook_url; /* of our webhook at the host; "" = not known */
    struct ec_span sealed, sealed_previous;
    const char *sealed_for; /* what both are sealed for; "" = key */
    const char *changed_at; /* the secrets; "" = never */
    const char *version;    /* of the row as read; "" = there was none */
};

struct hook_work {
    struct hook_repo repo;
    struct hook_repo before; /* as it was read */
    const char *base;        /* URL of our service webhook; "" = not known */
    const char *url;         /* where the host is to deliver: below base; "" = not known */
    bool rotate, manual;     /* asked for */
    bool first_secret;       /* made by this request, and there was none before */
    bool secret_changed;     /* with the next write */
    bool secret_made;        /* by this request */
    char *secret;            /* in clear; wiped after the answer */
    struct hook_probe *probe;
    const char *host_fault;  /* what was wrong with the webhook at the host; "" = nothing */
    const char *note;        /* for people: what could not be checked */
    const char *done, *when; /* "created", "repaired", "manual"; when the ping was asked for */
    json_t *answer;          /* of GET, as it grows */
    void (*then)(struct call *call);
};

/* ---- hooks_repo.c: the row ---- */
/* Makes call->more. base: URL of our service webhook, without a slash at the end; "" = not known.
 */
struct hook_work *hook_begin(struct call *call, const char *base);
struct hook_work *hook_of(const struct call *call);
/* Reads the repository named by `text` (key or clone URL); goes on in `then`, or has answered. */
void hook_load(struct call *call, const char *text, void (*then)(struct call *call));
bool hook_has_secret(const struct hook_repo *repo);
/* Each changes repo in memory; false = answered. */
bool hook_new_secret(struct call *call, struct hook_work *work);
bool hook_open_secret(struct call *call, struct hook_work *work); /* into work->secret */
void hook_forget_previous(struct hook_work *work);
void hook_clear_secret(struct hook_work *work);
/* Writes the row, publishes the binding, records `action`; goes on in `then`, or has answered. */
void hook_write(struct call *call, const char *action, void (*then)(struct call *call));
/* After the last use of what is secret. */
void hook_reply(struct call *call, int status, json_t *body); /* takes body */
void hook_problem(struct call *call, int status, const char *code, const char *detail);
/* What our service webhook is reached by: the setting ("" = not set), or as the body says (admins
 * only); NULL = answered. */
const char *hook_usual_base(struct call *call);
const char *hook_base_url(struct call *call, const json_t *body);

/* ---- hooks_probe.c: a signed delivery of our own ---- */
struct hook_probe {
    struct call *call;
    struct ec_timer *timer;
    const char *id; /* of the delivery */
    const char *body, *signature, *url;
    int tries_left;
    int status; /* of the answer; 0 = none */
    const char *detail;
    int64_t began_ms, took_ms;
    void (*then)(struct call *call);
};
/* Delivers a ping to the service webhook, signed with work->secret; again while it is refused as
 * something that `webhook` may not have heard of yet, `tries` times at most. work->probe has what
 * came of it. */
void hook_probe(struct call *call, int tries, void (*then)(struct call *call));
