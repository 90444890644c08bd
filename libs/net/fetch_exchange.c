/* One exchange as curl sees it: its options, and the callbacks that take the answer in and give the
 * request's body out. Everything that a peer can make long has its limit here. */
#include "net/fetch_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/address.h"

#define EC_FETCH_CONNECT_MAX_MS 5000
#define EC_FETCH_USUAL_MS 10000

/* ---- curl's callbacks for data ---- */

static bool save_piece(struct ec_fetch *fetch, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fetch->save_fd, bytes, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            fetch->file_failed = true;
            return false;
        }
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct ec_fetch *fetch = arg;
    size_t len = size * count;
    if (fetch->ending) {
        return 0;
    }
    fetch->received_bytes += len;
    if (fetch->received_bytes > fetch->body.max_bytes) {
        fetch->too_large = true;
        return 0;
    }
    if (fetch->on_piece) {
        fetch->on_piece(fetch->arg, (struct ec_span){bytes, len});
        return len;
    }
    if (fetch->save_fd >= 0) {
        return save_piece(fetch, bytes, len) ? len : 0;
    }
    ec_buf_add(&fetch->body, bytes, len);
    return len;
}

static struct ec_span trim(const char *ptr, size_t len)
{
    while (len > 0 && isspace((unsigned char)ptr[0])) {
        ptr++;
        len--;
    }
    while (len > 0 && isspace((unsigned char)ptr[len - 1])) {
        len--;
    }
    return (struct ec_span){ptr, len};
}

static char *arena_text_try(struct ec_arena *arena, struct ec_span span)
{
    char *text = ec_arena_try(arena, span.len + 1);
    if (text) {
        memcpy(text, span.ptr, span.len);
        text[span.len] = '\0';
    }
    return text;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct ec_fetch *fetch = arg;
    size_t len = size * count;
    if (len >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        fetch->header_count = 0; /* a new answer: after a redirect or a 100 */
        return len;
    }
    const char *colon = memchr(bytes, ':', len);
    if (!colon || fetch->header_count == EC_FETCH_HEADERS_MAX) {
        return len;
    }
    char *name = arena_text_try(fetch->arena, trim(bytes, (size_t)(colon - bytes)));
    char *value = arena_text_try(fetch->arena, trim(colon + 1, len - (size_t)(colon + 1 - bytes)));
    if (!name || !value) {
        return 0; /* headers without end: the peer is broken */
    }
    for (char *c = name; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    fetch->headers[fetch->header_count++] = (struct ec_header){name, value};
    return len;
}

static size_t on_read_body(char *into, size_t size, size_t count, void *arg)
{
    struct ec_fetch *fetch = arg;
    size_t n = fread(into, 1, size * count, fetch->body_file);
    if (n == 0 && ferror(fetch->body_file)) {
        fetch->file_failed = true;
        return CURL_READFUNC_ABORT;
    }
    return n;
}

static int on_seek_body(void *arg, curl_off_t offset, int origin)
{
    struct ec_fetch *fetch = arg;
    return fseeko(fetch->body_file, offset, origin) == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct ec_fetch *fetch = arg;
    if (purpose == CURLSOCKTYPE_IPCXN && !ec_address_public(&address->addr)) {
        fetch->refused_private = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- options ---- */

static bool has_header(const struct ec_fetch_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->header_count; i++) {
        if (strcasecmp(spec->headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool text_is_header_safe(const char *text)
{
    return strpbrk(text, "\r\n") == NULL;
}

static EC_RESULT set_headers(struct ec_fetch *fetch, const struct ec_fetch_spec *spec)
{
    for (size_t i = 0; i < spec->header_count; i++) {
        const struct ec_header *header = &spec->headers[i];
        if (!text_is_header_safe(header->name) || !text_is_header_safe(header->value)) {
            return ec_reject("a request header contains a line break");
        }
        /* "Name;" is curl's way to send an empty value. */
        ec_cleanup(ec_freep) char *line = header->value[0]
                                              ? ec_format("%s: %s", header->name, header->value)
                                              : ec_format("%s;", header->name);
        fetch->headers_out = curl_slist_append(fetch->headers_out, line);
    }
    if (!has_header(spec, "content-type")) {
        fetch->headers_out = curl_slist_append(fetch->headers_out, "Content-Type:");
    }
    /* Never wait for "100 Continue": peers that ignore it would cost a second. */
    fetch->headers_out = curl_slist_append(fetch->headers_out, "Expect:");
    curl_easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, fetch->headers_out);
    return ec_ok();
}

static EC_RESULT set_auth(struct ec_fetch *fetch, const struct ec_fetch_spec *spec)
{
    if (spec->bearer) {
        struct ec_span token = ec_secret_use(spec->bearer);
        char *text = ec_strndup(token.ptr, token.len);
        bool safe = text_is_header_safe(text);
        curl_easy_setopt(fetch->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(fetch->easy, CURLOPT_XOAUTH2_BEARER, text);
        explicit_bzero(text, token.len);
        free(text);
        return safe ? ec_ok() : ec_reject("the bearer token contains a line break");
    }
    if (spec->basic) {
        curl_easy_setopt(fetch->easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(fetch->easy, CURLOPT_USERPWD, spec->basic);
    }
    return ec_ok();
}

static EC_RESULT set_body(struct ec_fetch *fetch, const struct ec_fetch_spec *spec)
{
    const char *method = spec->method ? spec->method : "GET";
    CURL *easy = fetch->easy;
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return ec_ok();
    }
    if (spec->body_file) {
        fetch->body_file = fopen(spec->body_file, "rbe");
        if (!fetch->body_file || fseeko(fetch->body_file, 0, SEEK_END) != 0) {
            return ec_retry(errno, "the file to be sent cannot be opened");
        }
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)ftello(fetch->body_file));
        rewind(fetch->body_file);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read_body);
        curl_easy_setopt(easy, CURLOPT_READDATA, fetch);
        curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek_body);
        curl_easy_setopt(easy, CURLOPT_SEEKDATA, fetch);
    } else if (spec->body.len > 0 || strcmp(method, "GET") != 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)spec->body.len);
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, spec->body.len > 0 ? spec->body.ptr : "");
    }
    bool usual = !spec->body_file && (strcmp(method, "POST") == 0 || strcmp(method, "GET") == 0);
    if (!usual || (spec->body.len > 0 && strcmp(method, "GET") == 0)) {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    }
    return ec_ok();
}

static EC_RESULT set_target(struct ec_fetch *fetch, const struct ec_fetch_spec *spec)
{
    CURL *easy = fetch->easy;
    curl_easy_setopt(easy, CURLOPT_URL, spec->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, spec->redirects_max > 0 ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)spec->redirects_max);
    if (spec->unix_socket && curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, spec->unix_socket)) {
        return ec_reject("the path of the unix socket is too long");
    }
    if (spec->refuse_private_addresses) {
        if (spec->unix_socket) {
            return ec_reject("a unix socket is not a public address");
        }
        curl_easy_setopt(easy, CURLOPT_PROXY,
                         ""); /* a proxy would hide the address from the check */
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, fetch);
    }
    return ec_ok();
}

uint32_t ec_fetch_deadline_ms(const struct ec_fetch_spec *spec)
{
    return spec->deadline_ms ? spec->deadline_ms : EC_FETCH_USUAL_MS;
}

static void set_limits(struct ec_fetch *fetch, const struct ec_fetch_spec *spec)
{
    CURL *easy = fetch->easy;
    long deadline_ms = (long)ec_fetch_deadline_ms(spec);
    long connect_ms = deadline_ms < EC_FETCH_CONNECT_MAX_MS ? deadline_ms : EC_FETCH_CONNECT_MAX_MS;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Else the end of a fetch waits, on the loop, for the resolver's thread. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, deadline_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    if (fetch->body.max_bytes <= INT64_MAX) {
        curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)fetch->body.max_bytes);
    }
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, fetch->fetcher->user_agent);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, fetch);
}

EC_RESULT ec_fetch_prepare(struct ec_fetch *fetch, const struct ec_fetch_spec *spec)
{
    set_limits(fetch, spec);
    EC_TRY(set_target(fetch, spec));
    EC_TRY(set_body(fetch, spec));
    EC_TRY(set_headers(fetch, spec));
    EC_TRY(set_auth(fetch, spec));
    if (spec->save_file) {
        fetch->save_fd = open(spec->save_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
        if (fetch->save_fd < 0) {
            return ec_retry(errno, "the file for the answer cannot be written");
        }
    }
    if (curl_multi_add_handle(fetch->pool->multi, fetch->easy) != CURLM_OK) {
        return ec_retry(0, "the HTTP client takes no more requests");
    }
    return ec_ok();
}
