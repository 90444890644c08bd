/* Repository keys: host[:port]/path of a clone URL, so that the URL in a webhook, the one in a spec
 * and the one a person types are the same key. Default ports and user names go, ".git" goes, the
 * host is lower case; the path keeps its case. The key of a
 * key is the key. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "spec/spec.h"

#define URL_MAX_BYTES 1024

static const struct {
    const char *name;
    const char *default_port; /* with the colon */
} schemes[] = {{"https", ":443"}, {"http", ":80"}, {"ssh", ":22"}, {"git", ":9418"}};

/* Takes "scheme://" off the front; false when the scheme is none of ours. *ret_scheme is its index,
 * -1 without one. */
static bool take_scheme(struct ec_span *url, int *ret_scheme)
{
    const char *mark = memmem(url->ptr, url->len, "://", 3);
    *ret_scheme = -1;
    if (mark == NULL) {
        return true;
    }
    size_t len = (size_t)(mark - url->ptr);
    for (size_t i = 0; i < EC_LEN(schemes); i++) {
        if (strlen(schemes[i].name) == len && strncasecmp(schemes[i].name, url->ptr, len) == 0) {
            *ret_scheme = (int)i;
            url->ptr += len + 3;
            url->len -= len + 3;
            return true;
        }
    }
    return false;
}

static bool is_port(const char *text, size_t len)
{
    if (len < 2 || len > 6 || text[0] != ':') {
        return false;
    }
    for (size_t i = 1; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
    }
    return true;
}

/* Splits into host[:port] and path. With a scheme they are parted by '/'; without, "user@host:path"
 * (scp form) is parted by the colon, unless a port follows it and no user stands before. */
static bool split(struct ec_span url, bool has_scheme, struct ec_span *host, struct ec_span *path)
{
    const char *end = url.ptr + url.len;
    const char *slash = memchr(url.ptr, '/', url.len);
    const char *host_end = slash != NULL ? slash : end;
    const char *user_end = memrchr(url.ptr, '@', (size_t)(host_end - url.ptr));
    const char *host_at = user_end != NULL ? user_end + 1 : url.ptr;
    const char *colon = memchr(host_at, ':', (size_t)(host_end - host_at));
    bool bracket = host_at < host_end && *host_at == '[';
    bool scp = !has_scheme && !bracket && colon != NULL &&
               (user_end != NULL || !is_port(colon, (size_t)(host_end - colon)));
    const char *parted_at = scp ? colon : slash;
    if (parted_at == NULL) {
        return false;
    }
    *host = (struct ec_span){host_at, (size_t)(parted_at - host_at)};
    *path = (struct ec_span){parted_at + 1, (size_t)(end - parted_at - 1)};
    /* "acme/shop" is no URL, "gitea/acme/shop" is: a lone name must be followed by two segments. */
    return has_scheme || scp || bracket || memchr(host->ptr, '.', host->len) != NULL ||
           memchr(host->ptr, ':', host->len) != NULL || memchr(path->ptr, '/', path->len) != NULL;
}

static bool good_host(struct ec_span host)
{
    size_t name_len = 0;
    if (host.len > 0 && host.ptr[0] == '[') { /* an IPv6 address */
        const char *close = memchr(host.ptr, ']', host.len);
        if (close == NULL || close - host.ptr < 3) {
            return false;
        }
        name_len = (size_t)(close - host.ptr) + 1;
        for (size_t i = 1; i + 1 < name_len; i++) {
            if (!isxdigit((unsigned char)host.ptr[i]) && host.ptr[i] != ':' && host.ptr[i] != '.') {
                return false;
            }
        }
    } else {
        const char *colon = memchr(host.ptr, ':', host.len);
        name_len = colon != NULL ? (size_t)(colon - host.ptr) : host.len;
        for (size_t i = 0; i < name_len; i++) {
            if (!isalnum((unsigned char)host.ptr[i]) && strchr("-._", host.ptr[i]) == NULL) {
                return false;
            }
        }
    }
    return name_len > 0 && (isalnum((unsigned char)host.ptr[0]) || host.ptr[0] == '[') &&
           (name_len == host.len || is_port(host.ptr + name_len, host.len - name_len));
}

/* Whoever keeps the URL hands it to git: nothing that could be an option or two arguments. */
static bool good_user(struct ec_span url, struct ec_span host)
{
    for (const char *c = url.ptr; c < host.ptr; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f) {
            return false;
        }
    }
    return url.ptr == host.ptr || url.ptr[0] != '-';
}

/* Segments of letters, digits and -._~+ that are neither empty nor dots. */
static bool good_path(struct ec_span path)
{
    size_t segment_at = 0;
    for (size_t i = 0; i <= path.len; i++) {
        if (i < path.len && path.ptr[i] != '/') {
            if (!isalnum((unsigned char)path.ptr[i]) && memchr("-._~+", path.ptr[i], 5) == NULL) {
                return false;
            }
            continue;
        }
        struct ec_span segment = {path.ptr + segment_at, i - segment_at};
        if (segment.len == 0 || ec_span_is(segment, ".") || ec_span_is(segment, "..")) {
            return false;
        }
        segment_at = i + 1;
    }
    return true;
}

static struct ec_span trim_path(struct ec_span path)
{
    while (path.len > 0 && path.ptr[0] == '/') {
        path.ptr++;
        path.len--;
    }
    for (size_t before = 0; before != path.len;) { /* "shop.git.git/": until nothing more goes */
        before = path.len;
        if (path.len > 0 && path.ptr[path.len - 1] == '/') {
            path.len--;
        } else if (path.len > 4 && memcmp(path.ptr + path.len - 4, ".git", 4) == 0 &&
                   path.ptr[path.len - 5] != '/') {
            path.len -= 4;
        }
    }
    return path;
}

char *ec_repo_key(struct ec_arena *arena, const char *url)
{
    struct ec_span rest = ec_span_of(url), host, path;
    int scheme = -1;
    if (rest.len > URL_MAX_BYTES || !take_scheme(&rest, &scheme) ||
        !split(rest, scheme >= 0, &host, &path)) {
        return NULL;
    }
    if (scheme >= 0) {
        size_t port_len = strlen(schemes[scheme].default_port);
        if (host.len > port_len &&
            memcmp(host.ptr + host.len - port_len, schemes[scheme].default_port, port_len) == 0) {
            host.len -= port_len;
        }
    }
    path = trim_path(path);
    if (!good_user(rest, host) || !good_host(host) || !good_path(path)) {
        return NULL;
    }
    char *key =
        ec_arena_format(arena, "%.*s/%.*s", (int)host.len, host.ptr, (int)path.len, path.ptr);
    for (size_t i = 0; i < host.len; i++) {
        key[i] = (char)tolower((unsigned char)key[i]);
    }
    return key;
}
