/* libcurl's multi-socket interface on our loop: curl tells which descriptors and which timer it
 * wants, we tell it what happened. There are two connection pools, because a connection that a
 * trusted fetch opened to a private address must never be reused by a fetch that refuses private
 * addresses. */
#include "net/fetch_private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define EC_FETCH_RUNNING_MAX 4096       /* exchanges under way or queued, per process */
#define EC_FETCH_ARENA_MAX (512 * 1024) /* headers of all answers of one exchange */
#define EC_FETCH_LATE_MS 20             /* curl's own deadline comes first: it knows more */

static void pool_drain(struct ec_fetch_pool *pool);

/* ---- curl's callbacks for descriptors and time ---- */

struct watch {
    struct ec_fetch_pool *pool;
    struct ec_poll *poll;
    curl_socket_t fd;
};

static void on_socket_ready(void *arg, int status, int events)
{
    struct watch *watch = arg;
    struct ec_fetch_pool *pool = watch->pool;
    int flags = 0;
    if (status < 0) {
        flags = CURL_CSELECT_ERR;
    } else {
        flags |= (events & UV_READABLE) ? CURL_CSELECT_IN : 0;
        flags |= (events & UV_WRITABLE) ? CURL_CSELECT_OUT : 0;
    }
    int running = 0;
    curl_multi_socket_action(pool->multi, watch->fd, flags, &running); /* may free `watch` */
    pool_drain(pool);
}

static int on_want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    (void)easy;
    struct ec_fetch_pool *pool = arg;
    struct watch *watch = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            ec_poll_free(watch->poll);
            free(watch);
            curl_multi_assign(pool->multi, fd, NULL);
        }
        return 0;
    }
    if (!watch) {
        watch = ec_alloc(sizeof(*watch));
        watch->pool = pool;
        watch->fd = fd;
        if (ec_failed(ec_poll_new(pool->fetcher->loop, fd, on_socket_ready, watch, &watch->poll))) {
            free(watch);
            return 0; /* its deadline ends it; -1 would end every exchange of this client for ever
                       */
        }
        curl_multi_assign(pool->multi, fd, watch);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    ec_poll_want(watch->poll, events);
    return 0;
}

static int on_want_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct ec_fetch_pool *pool = arg;
    if (timeout_ms < 0) {
        ec_timer_stop(pool->timer);
    } else {
        ec_timer_start(pool->timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static void on_timer(void *arg)
{
    struct ec_fetch_pool *pool = arg;
    int running = 0;
    curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    pool_drain(pool);
}

/* ---- the end of an exchange ---- */

static void fetch_free(struct ec_fetch *fetch)
{
    ec_timer_free(fetch->deadline);
    if (fetch->easy) {
        curl_easy_cleanup(fetch->easy);
    }
    curl_slist_free_all(fetch->headers_out);
    if (fetch->body_file) {
        fclose(fetch->body_file);
    }
    if (fetch->save_fd >= 0) {
        close(fetch->save_fd);
    }
    ec_buf_done(&fetch->body);
    ec_arena_free(fetch->arena);
    free(fetch);
}

static void fetcher_free(struct ec_fetcher *fetcher)
{
    for (size_t i = 0; i < EC_LEN(fetcher->pools); i++) {
        if (fetcher->pools[i].multi) {
            curl_multi_cleanup(fetcher->pools[i].multi);
        }
        ec_timer_free(fetcher->pools[i].timer);
    }
    free(fetcher->user_agent);
    free(fetcher);
}

static void fetch_finish(struct ec_fetch *fetch, struct ec_err err, int status)
{
    struct ec_fetcher *fetcher = fetch->fetcher;
    curl_multi_remove_handle(fetch->pool->multi, fetch->easy);
    if (fetch->prev) {
        fetch->prev->next = fetch->next;
    } else {
        fetcher->running = fetch->next;
    }
    if (fetch->next) {
        fetch->next->prev = fetch->prev;
    }
    if (fetch->save_fd >= 0) { /* the caller may look at the file in its callback */
        close(fetch->save_fd);
        fetch->save_fd = -1;
    }
    struct ec_fetch_result result = {
        .status = status,
        .body = ec_buf_span(&fetch->body),
        .duration_ms = ec_mono_ms() - fetch->began_ms,
        .headers = fetch->headers,
        .header_count = fetch->header_count,
    };
    fetch->done(fetch->arg, err, &result);
    fetch_free(fetch);
    fetcher->running_count--;
    if (fetcher->closing && fetcher->running_count == 0) {
        fetcher_free(fetcher);
    }
}

static struct ec_err curl_err(const struct ec_fetch *fetch, CURLcode code)
{
    if (code == CURLE_OK) {
        return ec_ok();
    }
    if (fetch->too_large || code == CURLE_FILESIZE_EXCEEDED) {
        return ec_reject("the answer is larger than the limit of this request");
    }
    if (fetch->refused_private &&
        code == CURLE_COULDNT_CONNECT) { /* else another address took it */
        return ec_reject("the address is private, loopback or link-local: requests to user-given "
                         "URLs reach public addresses only");
    }
    if (fetch->file_failed) {
        return ec_retry(EIO, "a file of this request could not be read or written (disk full?)");
    }
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return ec_reject("the URL is not a valid http:// or https:// address");
    case CURLE_TOO_MANY_REDIRECTS:
        return ec_reject("the server redirects too often");
    case CURLE_PEER_FAILED_VERIFICATION:
        return ec_reject("the server's TLS certificate is not trusted: install its CA or correct "
                         "the host name");
    case CURLE_COULDNT_RESOLVE_HOST:
        return ec_retry((int)code, "the server's name cannot be resolved");
    case CURLE_COULDNT_CONNECT:
        return ec_retry((int)code, "the server does not accept connections");
    case CURLE_OPERATION_TIMEDOUT:
        return ec_retry(ETIMEDOUT, "the server did not answer in time");
    default:
        return ec_retry((int)code, curl_easy_strerror(code)); /* a literal of libcurl */
    }
}

static void pool_drain(struct ec_fetch_pool *pool)
{
    CURLMsg *message = NULL;
    int left = 0;
    struct ec_fetcher *fetcher = pool->fetcher;
    fetcher->running_count++; /* keeps the fetcher alive when a callback closes it */
    while ((message = curl_multi_info_read(pool->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode code = message->data.result;
        struct ec_fetch *fetch = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
        if (fetch->ending) {
            continue; /* on_ending finishes it */
        }
        long status = 0;
        curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
        struct ec_err err = curl_err(fetch, code);
        if (ec_failed(err)) {
            ec_log(EC_LOG_DEBUG, NULL, "fetch.failed", fetch->error, EC_ERR(err));
        }
        fetch_finish(fetch, err, ec_failed(err) ? 0 : (int)status);
    }
    fetcher->running_count--;
    if (fetcher->closing && fetcher->running_count == 0) {
        fetcher_free(fetcher);
    }
}

static void on_ending(void *arg)
{
    struct ec_fetch *fetch = arg;
    fetch_finish(fetch,
                 fetch->cancelled ? ec_reject("cancelled")
                                  : ec_retry(ECANCELED, "the HTTP client was closed"),
                 0);
}

static void on_deadline(void *arg)
{
    struct ec_fetch *fetch = arg;
    if (!fetch->ending) {
        fetch_finish(
            fetch, ec_retry(ETIMEDOUT, "no answer in time, waiting for a free connection included"),
            0);
    }
}

/* ---- starting ---- */

EC_RESULT ec_fetch_start(struct ec_fetcher *fetcher, const struct ec_fetch_spec *spec,
                         ec_fetch_fn done, void *arg, struct ec_fetch **ret_fetch)
{
    if (fetcher->closing || fetcher->running_count >= EC_FETCH_RUNNING_MAX) {
        return ec_retry(EAGAIN, "too many HTTP requests are under way");
    }
    struct ec_fetch *fetch = ec_alloc(sizeof(*fetch));
    fetch->fetcher = fetcher;
    fetch->pool = &fetcher->pools[spec->refuse_private_addresses ? 1 : 0];
    fetch->save_fd = -1;
    fetch->arena = ec_arena_new(EC_FETCH_ARENA_MAX);
    fetch->on_piece = spec->on_piece;
    fetch->done = done;
    fetch->arg = arg;
    fetch->began_ms = ec_mono_ms();
    size_t usual_max = spec->on_piece ? SIZE_MAX : 1024 * 1024; /* a stream is kept nowhere */
    ec_buf_init(&fetch->body, spec->body_max_bytes ? spec->body_max_bytes : usual_max);
    fetch->easy = curl_easy_init();
    struct ec_err err = fetch->easy ? ec_fetch_prepare(fetch, spec) : ec_fatal(0, "curl_easy_init");
    if (ec_failed(err)) {
        fetch_free(fetch);
        return err;
    }
    fetch->deadline = ec_timer_new(fetcher->loop, on_deadline, fetch);
    ec_timer_start(fetch->deadline, (uint64_t)ec_fetch_deadline_ms(spec) + EC_FETCH_LATE_MS, 0);
    fetch->next = fetcher->running;
    if (fetcher->running) {
        fetcher->running->prev = fetch;
    }
    fetcher->running = fetch;
    fetcher->running_count++;
    if (ret_fetch) {
        *ret_fetch = fetch;
    }
    return ec_ok();
}

void ec_fetch_cancel(struct ec_fetch *fetch)
{
    if (fetch->ending) {
        return;
    }
    fetch->ending = true;
    fetch->cancelled = true;
    ec_loop_defer(fetch->fetcher->loop, on_ending, fetch);
}

/* ---- the fetcher ---- */

static EC_RESULT pool_open(struct ec_fetcher *fetcher, struct ec_fetch_pool *pool,
                           uint32_t connections_max)
{
    pool->fetcher = fetcher;
    pool->multi = curl_multi_init();
    if (!pool->multi) {
        return ec_fatal(0, "curl_multi_init");
    }
    pool->timer = ec_timer_new(fetcher->loop, on_timer, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_want_socket);
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_want_timer);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)connections_max);
    curl_multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)connections_max);
    return ec_ok();
}

EC_RESULT ec_fetcher_open(struct ec_loop *loop, const char *user_agent, uint32_t connections_max,
                          struct ec_fetcher **ret_fetcher)
{
    static bool curl_ready;
    if (!curl_ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return ec_fatal(0, "libcurl cannot start");
    }
    curl_ready = true;
    struct ec_fetcher *fetcher = ec_alloc(sizeof(*fetcher));
    fetcher->loop = loop;
    fetcher->user_agent = ec_strdup(user_agent);
    for (size_t i = 0; i < EC_LEN(fetcher->pools); i++) {
        struct ec_err err = pool_open(fetcher, &fetcher->pools[i], connections_max);
        if (ec_failed(err)) {
            fetcher_free(fetcher);
            return err;
        }
    }
    *ret_fetcher = fetcher;
    return ec_ok();
}

void ec_fetcher_close(struct ec_fetcher *fetcher)
{
    if (!fetcher || fetcher->closing) {
        return;
    }
    fetcher->closing = true;
    if (fetcher->running_count == 0) {
        fetcher_free(fetcher);
        return;
    }
    for (struct ec_fetch *fetch = fetcher->running; fetch; fetch = fetch->next) {
        if (!fetch->ending) {
            fetch->ending = true;
            ec_loop_defer(fetcher->loop, on_ending, fetch);
        }
    }
}

/* ---- results ---- */

const char *ec_fetch_header(const struct ec_fetch_result *result, const char *lower_name)
{
    for (size_t i = 0; i < result->header_count; i++) {
        if (strcmp(result->headers[i].name, lower_name) == 0) {
            return result->headers[i].value;
        }
    }
    return NULL;
}

struct ec_err ec_fetch_status_err(int status, const char *what)
{
    if (status >= 200 && status < 300) {
        return ec_ok();
    }
    if (status == 408 || status == 425 || status == 429 || status >= 500) {
        return ec_retry(status, what);
    }
    return (struct ec_err){EC_FATE_REJECT, status, what};
}
