/* One exchange with a channel: a signed webhook, or a commit status. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "notifier.h"
#include "trust/digest.h"

#define ANSWER_MAX_BYTES (64u << 10)

static EC_RESULT send_webhook(struct outgoing *out, const struct channel *channel)
{
    struct ec_header headers[8] = {
        {"Content-Type", "application/json"},
        {"User-Agent", "Enclii-Webhook/1.0"},
        {"X-Enclii-Event", out->type},
        {"X-Enclii-Delivery", out->id}, /* the same on every try: the receiver's idempotency key */
        {"X-Enclii-Timestamp",
         ec_arena_format(out->arena, "%lld", (long long)(ec_unix_ms() / 1000))},
        {"traceparent", out->trace},
    };
    size_t count = 6;
    struct ec_span body = ec_span_of(out->body);
    if (channel->secret) {
        const char *hex = ec_hmac_sha256_hex(out->arena, channel->secret, body);
        headers[count++] = (struct ec_header){"X-Enclii-Signature", hex};
        headers[count++] = (struct ec_header){"X-Enclii-Signature-256",
                                              ec_arena_format(out->arena, "sha256=%s", hex)};
    }
    const struct ec_fetch_spec spec = {.method = "POST",
                                       .url = channel->url,
                                       .headers = headers,
                                       .header_count = count,
                                       .body = body,
                                       .deadline_ms = SEND_DEADLINE_MS,
                                       .body_max_bytes = ANSWER_MAX_BYTES,
                                       .refuse_private_addresses =
                                           !out->no->settings.private_addresses};
    return ec_fetch_start(out->no->fetcher, &spec, out->done, out, NULL);
}

/* To GitHub, with a token of the channel's own. */
static EC_RESULT send_with_token(struct outgoing *out, const struct channel *channel)
{
    static const struct ec_header headers[] = {
        {"Accept", "application/vnd.github+json"},
        {"X-GitHub-Api-Version", "2022-11-28"},
        {"Content-Type", "application/json"},
        {"User-Agent", "Enclii-Notifier/1.0"}, /* GitHub refuses requests without one */
    };
    struct ec_githost_status status;
    EC_TRY(decide_status(out->arena, out->body, out->commit_sha, &status));
    if (!channel->secret) {
        return ec_reject("the channel has no token");
    }
    const char *path = decide_status_path(out->arena, out->repo_key, out->commit_sha);
    if (!path) {
        return ec_reject("the repository is not of the form owner/name");
    }
    size_t base_len = strlen(channel->url);
    while (base_len > 0 && channel->url[base_len - 1] == '/') {
        base_len--;
    }
    const struct ec_fetch_spec spec = {
        .method = "POST",
        .url = ec_arena_format(out->arena, "%.*s%s", (int)base_len, channel->url, path),
        .headers = headers,
        .header_count = EC_LEN(headers),
        .bearer = channel->secret,
        .body = ec_span_of(ec_githost_status_body(out->arena, EC_GITHOST_GITHUB, &status, NULL)),
        .deadline_ms = SEND_DEADLINE_MS,
        .body_max_bytes = ANSWER_MAX_BYTES,
        .refuse_private_addresses = !out->no->settings.private_addresses};
    return ec_fetch_start(out->no->fetcher, &spec, out->done, out, NULL);
}

/* With the platform's credential, to whichever host has the repository. */
static EC_RESULT send_to_host(struct outgoing *out)
{
    const struct ec_githosts *hosts = out->no->githosts;
    struct ec_githost_status status;
    EC_TRY(decide_status(out->arena, out->body, out->commit_sha, &status));
    if (!ec_githost_hears_statuses(hosts, out->repo_key) ||
        !decide_host_hears(ec_githost_kind(hosts, out->repo_key), out->about)) {
        out->needless = true;
        return ec_reject("this git host is not told of it");
    }
    return ec_githost_commit_status(out->no->githosts, out->repo_key, &status, out->told, out);
}

static EC_RESULT send_status(struct outgoing *out, const struct channel *channel)
{
    if (!*out->repo_key) {
        return ec_retry(0, "it is not known yet which repository the service is built from");
    }
    return strcmp(channel->id, BUILTIN) == 0 ? send_to_host(out) : send_with_token(out, channel);
}

EC_RESULT target_send(struct outgoing *out, const struct channel *channel)
{
    if (!channel || !channel->enabled) {
        return ec_reject("the channel was removed or switched off");
    }
    return decide_sets_statuses(out->kind) ? send_status(out, channel) : send_webhook(out, channel);
}
