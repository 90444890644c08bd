/* Talking to the API, one question after another: the loop turns until the answer is there. What
 * goes wrong is told here, once, with the command that helps and the exit status that fits. */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

#define CALL_DEADLINE_MS 30000
#define ANSWER_MAX_BYTES (64 << 20)

char *api_path(struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *path = ec_arena_vformat(cli->arena, format, args);
    va_end(args);
    return path;
}

struct call {
    struct cli *cli;
    bool over;
    struct ec_err err;
    struct reply reply;
};

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct call *call = arg;
    call->over = true;
    call->err = err;
    if (ec_failed(err)) {
        call->err.what = ec_arena_strdup(call->cli->arena, err.what);
        return;
    }
    call->reply.status = result->status;
    call->reply.text = ec_arena_text(call->cli->arena, result->body);
    if (result->body.len > 0) {
        /* No JSON is told by a NULL body. */
        ec_ignore(ec_json_parse(call->cli->arena, result->body, &call->reply.body));
    }
}

static struct ec_err send_call(struct cli *cli, const char *method, const char *path,
                               const json_t *body, struct call *call)
{
    const struct ec_header headers[] = {{"Content-Type", "application/json"},
                                        {"Accept", "application/json"}};
    const char *text = body ? ec_json_dump(cli->arena, body) : "";
    const struct ec_fetch_spec spec = {
        .method = method,
        .url = ec_arena_format(cli->arena, "%s%s", cli->api_url, path),
        .headers = headers,
        .header_count = EC_LEN(headers),
        .bearer = cli->token,
        .body = ec_span_of(text),
        .deadline_ms = CALL_DEADLINE_MS,
        .body_max_bytes = ANSWER_MAX_BYTES,
    };
    *call = (struct call){.cli = cli};
    EC_TRY(ec_fetch_start(cli->fetcher, &spec, on_answer, call, NULL));
    while (!call->over) {
        uv_run(ec_loop_uv(cli->loop), UV_RUN_ONCE);
    }
    return call->err;
}

static int unreachable(const struct cli *cli, struct ec_err err)
{
    return give_up(EXIT_UNREACHABLE,
                   "the platform at %s does not answer: %s\n"
                   "Is it running?  enclii local status   Another one?  enclii login URL",
                   cli->api_url, err.what);
}

/* What a problem document (RFC 9457) or an older "error" says. */
static const char *detail_of(const struct reply *reply)
{
    static const char *const keys[] = {"detail", "error", "message", "title"};
    for (size_t i = 0; i < EC_LEN(keys); i++) {
        const char *text = ec_json_text(reply->body, keys[i]);
        if (text[0]) {
            return text;
        }
    }
    return reply->text && reply->text[0] ? reply->text : "no reason given";
}

static int refused(const struct cli *cli, const struct reply *reply)
{
    const char *detail = detail_of(reply);
    switch (reply->status) {
    case 401:
        return give_up(EXIT_NOT_ALLOWED, "%s\nSign in:  enclii login %s --token TOKEN", detail,
                       cli->api_url);
    case 403:
        return give_up(EXIT_NOT_ALLOWED, "%s", detail);
    case 404:
        return give_up(EXIT_NOT_FOUND, "%s", detail);
    case 502:
    case 503:
    case 504:
        return give_up(EXIT_UNREACHABLE,
                       "the platform cannot do this now: %s\nSee:  enclii local status", detail);
    default:
        return give_up(EXIT_ERROR, "%s (HTTP %d)", detail, reply->status);
    }
}

bool api_call(struct cli *cli, const char *method, const char *path, const json_t *body,
              struct reply *ret_reply, int *ret_exit)
{
    struct call call;
    struct ec_err err = send_call(cli, method, path, body, &call);
    *ret_reply = call.reply;
    if (ec_failed(err)) {
        *ret_exit = unreachable(cli, err);
        return false;
    }
    if (call.reply.status < 200 || call.reply.status > 299) {
        *ret_exit = refused(cli, &call.reply);
        return false;
    }
    return true;
}

bool api_look(struct cli *cli, const char *path, struct reply *ret_reply, int *ret_exit)
{
    struct call call;
    struct ec_err err = send_call(cli, "GET", path, NULL, &call);
    *ret_reply = call.reply;
    if (!ec_failed(err) && call.reply.status == 404) {
        *ret_exit = EXIT_NOT_FOUND;
        return false;
    }
    if (ec_failed(err) || call.reply.status < 200 || call.reply.status > 299) {
        *ret_exit = ec_failed(err) ? unreachable(cli, err) : refused(cli, &call.reply);
        return false;
    }
    return true;
}

int api_refused(struct cli *cli, struct ec_err err, int status, const char *text)
{
    struct reply reply = {.status = status, .text = text};
    if (ec_failed(err)) {
        return unreachable(cli, err);
    }
    if (status < 300) {
        return give_up(EXIT_UNREACHABLE,
                       "the platform at %s ends the connection again and again. Is it well?  "
                       "enclii local status",
                       cli->api_url);
    }
    ec_ignore(ec_json_parse(cli->arena, ec_span_of(text), &reply.body)); /* else it is the text */
    return refused(cli, &reply);
}
