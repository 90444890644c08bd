/* A delivery of our own: a ping in GitHub's form, signed with the repository's secret. It has no
 * effect, but travels the whole way: webhook, Kafka, pipeline, ledger. */
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "hooks.h"
#include "net/fetch.h"
#include "trust/digest.h"

#define AGAIN_MS 250
#define DEADLINE_MS 8000
#define DETAIL_MAX_BYTES 400

static void end(struct hook_probe *probe)
{
    ec_timer_free(probe->timer);
    probe->timer = NULL;
    probe->took_ms = ec_mono_ms() - probe->began_ms;
    probe->then(probe->call);
}

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct hook_probe *probe = arg;
    struct ec_arena *arena = probe->call->arena;
    probe->status = ec_failed(err) ? 0 : result->status;
    probe->detail = ec_arena_strdup(arena, err.what ? err.what : "");
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (!ec_failed(err) && result->body.len < 65536 &&
        !ec_failed(ec_json_parse(arena, result->body, &root))) {
        probe->detail =
            ec_arena_format(arena, "%.*s", DETAIL_MAX_BYTES, ec_json_text(root, "detail"));
    }
    /* The new secret, or the binding itself, is still on its way to `webhook`. */
    bool again = probe->status == 401 || probe->status == 404 || probe->status == 503;
    if (again && --probe->tries_left > 0 && !probe->call->api->closed) {
        ec_timer_start(probe->timer, AGAIN_MS, 0);
    } else {
        end(probe);
    }
}

static void send_probe(void *arg)
{
    struct hook_probe *probe = arg;
    const struct ec_header headers[] = {{"Content-Type", "application/json"},
                                        {"X-GitHub-Event", "ping"},
                                        {"X-GitHub-Delivery", probe->id},
                                        {"X-Hub-Signature-256", probe->signature}};
    struct ec_fetch_spec spec = {.method = "POST",
                                 .url = probe->url,
                                 .headers = headers,
                                 .header_count = EC_LEN(headers),
                                 .body = ec_span_of(probe->body),
                                 .deadline_ms = DEADLINE_MS,
                                 .body_max_bytes = 65536};
    struct ec_err err = ec_fetch_start(probe->call->api->fetcher, &spec, on_answer, probe, NULL);
    if (ec_failed(err)) {
        probe->detail = err.what;
        end(probe);
    }
}

static const char *body_of(struct call *call, const struct hook_repo *repo)
{
    json_t *body = json_pack(
        "{s:s, s:i, s:{s:s, s:s}}", "zen", "A test delivery of Enclii: it changes nothing.",
        "hook_id", 0, "repository", "full_name", repo->full_name, "clone_url", repo->clone_url);
    const char *text = ec_json_dump(call->arena, body);
    json_decref(body);
    return text;
}

void hook_probe(struct call *call, int tries, void (*then)(struct call *call))
{
    struct hook_work *work = hook_of(call);
    struct hook_probe *probe = ec_arena_alloc(call->arena, sizeof(*probe));
    struct ec_id id = ec_id_new();
    ec_cleanup(ec_secret_freep) struct ec_secret *key = ec_secret_new(ec_span_of(work->secret));
    *probe = (struct hook_probe){.call = call,
                                 .id = ec_arena_format(call->arena, "enclii-test-%s", id.text),
                                 .body = body_of(call, &work->repo),
                                 .tries_left = tries,
                                 .detail = "",
                                 .began_ms = ec_mono_ms(),
                                 .then = then};
    probe->url = ec_arena_format(call->arena, "%s/v1/webhooks/github", work->base);
    probe->signature = ec_arena_format(
        call->arena, "sha256=%s", ec_hmac_sha256_hex(call->arena, key, ec_span_of(probe->body)));
    probe->timer = ec_timer_new(call->api->loop, send_probe, probe);
    work->probe = probe;
    ec_timer_start(probe->timer, 0, 0);
}
