/* Set-up and repair of a repository's webhook, in one request: what the host has → our secret →
 * does `webhook` take it → make or repair it there → remember it → a ping. The host's list comes
 * first, so that nothing has changed here when we may not even read there. */
#include "hooks.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define PROBE_TRIES 20 /* the binding travels by outbox and Kafka: some hundred ms */

static void set_secret(struct call *call);

/* ---- the end ---- */

static json_t *page_json(struct call *call)
{
    const struct hook_work *work = hook_of(call);
    struct hook_page page = decide_hook_page(
        call->arena, ec_githost_kind(call->api->githosts, work->repo.key), work->repo.key);
    json_t *events = json_array();
    for (const char *const *event = page.events; *event; event++) {
        json_array_append_new(events, json_string(*event));
    }
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:s, s:o}", "page", page.page, "host", page.host, "url",
                  work->url, "content_type", "application/json", "events", events);
    if (work->secret_made) { /* the one time it is shown */
        json_object_set_new(body, "secret", json_string(work->secret));
    }
    return body;
}

static void finish_setup(struct call *call, json_t *manual)
{
    struct hook_work *work = hook_of(call);
    const struct hook_probe *probe = work->probe;
    json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:s, s:s, s:i, s:s}", "repo",
                             work->repo.key, "done", work->done, "hook_id", work->repo.hook_id,
                             "hook_url", work->url, "fault", work->host_fault, "secret_changed",
                             work->secret_made, "previous", work->repo.sealed_previous.len > 0,
                             "pinged_at", work->when, "note", work->note, "test_delivery_id",
                             probe->id, "test_status", probe->status, "test_detail", probe->detail);
    if (manual) {
        json_object_set_new(body, "manual", manual);
    }
    hook_reply(call, 200, body);
}

static void host_refused(struct call *call, struct ec_err err)
{
    hook_problem(
        call, err.fate == EC_FATE_RETRY ? 503 : 409,
        err.fate == EC_FATE_RETRY ? "host_unavailable" : "host_refused",
        ec_arena_format(call->arena, "%s. By hand: enclii hooks setup --manual", err.what));
}

/* ---- ping ---- */

static void on_pinged(void *arg, struct ec_err err)
{
    struct call *call = arg;
    struct hook_work *work = hook_of(call);
    if (ec_failed(err)) {
        work->when = "";
        work->note = ec_arena_format(call->arena, "no ping was sent: %s", err.what);
    }
    finish_setup(call, NULL);
}

static void ping(struct call *call)
{
    struct hook_work *work = hook_of(call);
    char now[EC_RFC3339_SIZE];
    if (!ec_githost_can_ping(ec_githost_kind(call->api->githosts, work->repo.key))) {
        work->note = "this host has no ping; our own test delivery stands for it";
        finish_setup(call, NULL);
        return;
    }
    ec_rfc3339(ec_unix_ms() - 2000, now); /* GitHub pings a new webhook by itself */
    work->when = ec_arena_strdup(call->arena, now);
    struct ec_err err = ec_githost_hook_ping(call->api->githosts, work->repo.key,
                                             work->repo.hook_id, on_pinged, call);
    if (ec_failed(err)) {
        on_pinged(call, err);
    }
}

/* ---- making or repairing ---- */

static void after_undo(struct call *call)
{
    struct hook_work *work = hook_of(call);
    host_refused(call, ec_reject(work->note));
}

/* Whatever delivers there now is signed with the secret before: it holds again. (After an answer
 * that did not come both are accepted, and either may be there.) */
static void undo(struct call *call, struct ec_err err)
{
    struct hook_work *work = hook_of(call);
    work->note = ec_arena_strdup(call->arena, err.what);
    work->repo.sealed = work->before.sealed;
    work->repo.sealed_previous = work->before.sealed_previous;
    work->repo.sealed_for = work->before.sealed_for;
    work->repo.hook_id = work->before.hook_id;
    work->secret_changed = true;
    hook_write(call, "repository.secret_restore", after_undo);
}

static void on_put(void *arg, struct ec_err err, const char *hook_id)
{
    struct call *call = arg;
    struct hook_work *work = hook_of(call);
    if (ec_failed(err) && work->secret_made && (work->first_secret || err.fate == EC_FATE_REJECT)) {
        undo(call, err);
        return;
    }
    if (ec_failed(err)) {
        host_refused(call, err);
        return;
    }
    work->done = work->repo.hook_id[0] ? "repaired" : "created";
    work->repo.hook_id = ec_arena_strdup(call->arena, hook_id);
    work->repo.hook_url = work->url;
    work->secret_changed = false; /* of the row: it was written before */
    hook_write(call, "repository.hook_setup", ping);
}

static void put(struct call *call)
{
    struct hook_work *work = hook_of(call);
    const struct hook_probe *probe = work->probe;
    if (probe->status == 0 || probe->status >= 500) {
        work->note = ec_arena_format(call->arena,
                                     "%s could not be reached from here (%s); hosts "
                                     "may reach it all the same",
                                     probe->url, probe->detail);
    } else if (probe->status >= 300) {
        work->note = ec_arena_format(call->arena, "%s answered our test delivery with %d: %s",
                                     probe->url, probe->status, probe->detail);
    }
    if (!ec_githost_has_api(call->api->githosts, work->repo.key) || work->manual) {
        work->done = "manual";
        finish_setup(call, page_json(call));
        return;
    }
    ec_cleanup(ec_secret_freep) struct ec_secret *secret = ec_secret_new(ec_span_of(work->secret));
    struct ec_githost_hook_spec spec = {
        work->repo.key, work->repo.hook_id[0] ? work->repo.hook_id : NULL, work->url, secret};
    struct ec_err err = ec_githost_hook_put(call->api->githosts, &spec, on_put, call);
    if (ec_failed(err)) {
        on_put(call, err, NULL);
    }
}

/* ---- our secret ---- */

static void probe(struct call *call)
{
    hook_probe(call, PROBE_TRIES, put);
}

static void set_secret(struct call *call)
{
    struct hook_work *work = hook_of(call);
    if (hook_has_secret(&work->repo) && !work->rotate) {
        if (hook_open_secret(call, work)) {
            probe(call);
        }
    } else if (hook_new_secret(call, work)) {
        hook_write(call, "repository.secret_rotate", probe);
    }
}

/* ---- what there is ---- */

static void on_host_hooks(void *arg, struct ec_err err, const struct ec_githost_hook *list,
                          size_t count)
{
    struct call *call = arg;
    struct hook_work *work = hook_of(call);
    if (ec_failed(err)) {
        host_refused(call, err);
        return;
    }
    const struct ec_githost_hook *ours =
        decide_our_hook(list, count, work->url, work->repo.hook_id);
    work->repo.hook_id = ours ? ec_arena_strdup(call->arena, ours->id) : "";
    if (ours) {
        enum ec_githost_kind kind = ec_githost_kind(call->api->githosts, work->repo.key);
        const char *fault = ec_githost_hook_fault(call->arena, kind, ours);
        bool elsewhere = strcmp(ours->url, work->url) != 0;
        work->host_fault = elsewhere ? "it delivered to another address" : fault ? fault : "";
    }
    set_secret(call);
}

static void setup(struct call *call)
{
    struct hook_work *work = hook_of(call);
    struct ec_githosts *hosts = call->api->githosts;
    if (!ec_githost_has_api(hosts, work->repo.key) || work->manual) {
        set_secret(call);
        return;
    }
    struct ec_err err = ec_githost_hooks(hosts, work->repo.key, on_host_hooks, call);
    if (ec_failed(err)) {
        host_refused(call, err);
    }
}

void on_hook_setup(void *state, struct ec_request *req)
{
    struct call *call = call_of(state, req);
    ec_cleanup(ec_json_freep) json_t *body = call_body(call);
    const char *base = body ? hook_base_url(call, body) : NULL;
    if (!base) {
        return;
    }
    struct hook_work *work = hook_begin(call, base);
    work->rotate = ec_json_bool(body, "rotate", false);
    work->manual = ec_json_bool(body, "manual", false);
    hook_load(call, ec_json_text(body, "repo"), setup);
}
