/* The database URL, parsed once. libpq would resolve host names while we wait, and read its own
 * time-outs only in blocking mode, so names are resolved by the link and passed as hostaddr, and
 * the settings a non-blocking client needs are added here. */
#include "store/internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define PARAMS_MAX 64

struct conninfo {
    PQconninfoOption *options; /* from the URL, holds the password */
    char *application_name;
    char *server_options; /* "-c statement_timeout=..." plus the URL's own */
};

static const char *option(const struct conninfo *info, const char *keyword)
{
    for (const PQconninfoOption *o = info->options; o->keyword; o++) {
        if (strcmp(o->keyword, keyword) == 0 && o->val && o->val[0]) {
            return o->val;
        }
    }
    return NULL;
}

static bool is_address(const char *host)
{
    unsigned char raw[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

const char *conninfo_host(const struct conninfo *info)
{
    const char *host = option(info, "host");
    if (!host || host[0] == '/' || host[0] == '@' || option(info, "hostaddr") || is_address(host)) {
        return NULL;
    }
    return host;
}

static PQconninfoOption *parse(const struct ec_secret *url)
{
    struct ec_span text = ec_secret_use(url);
    char *copy = ec_strndup(text.ptr, text.len);
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(copy, &why);
    explicit_bzero(copy, text.len);
    free(copy);
    PQfreemem(why); /* quotes the URL, which holds the password: not for logs */
    return options;
}

EC_RESULT conninfo_new(const struct ec_store_spec *spec, struct conninfo **ret_info)
{
    PQconninfoOption *options = parse(spec->url);
    if (!options) {
        return ec_fatal(0, "database URL: not understood; it must look like "
                           "postgres://user:password@host:5432/database");
    }
    struct conninfo *info = ec_alloc(sizeof(*info));
    info->options = options;
    const char *host = option(info, "host");
    if (host && strchr(host, ',')) {
        conninfo_free(info);
        return ec_fatal(0, "database URL: names several hosts; give one name (it may have several "
                           "addresses)");
    }
    info->application_name = ec_strdup(spec->application_name ? spec->application_name : "enclii");
    uint32_t deadline_ms = spec->deadline_ms ? spec->deadline_ms : 10000;
    const char *own = option(info, "options");
    /* The server ends by itself what we have stopped waiting for, and what nobody waits for any
     * more: a machine that vanishes says no goodbye, and its session would keep locks (the leader's
     * too) for the two hours of Linux's keepalive. Compiling (jit) pays for no
     * statement of ours and costs tens of milliseconds where costs are estimated wrongly. */
    info->server_options = ec_format("-c statement_timeout=%u -c lock_timeout=%u "
                                     "-c idle_in_transaction_session_timeout=60000 -c jit=off "
                                     "-c tcp_keepalives_idle=3 -c tcp_keepalives_interval=2 "
                                     "-c tcp_keepalives_count=3 -c tcp_user_timeout=9000 %s",
                                     deadline_ms, deadline_ms, own ? own : "");
    *ret_info = info;
    return ec_ok();
}

void conninfo_free(struct conninfo *info)
{
    if (!info) {
        return;
    }
    for (PQconninfoOption *o = info->options; o->keyword; o++) {
        if (o->val && strcmp(o->keyword, "password") == 0) {
            explicit_bzero(o->val, strlen(o->val));
        }
    }
    PQconninfoFree(info->options);
    free(info->application_name);
    free(info->server_options);
    free(info);
}

struct params {
    const char *keys[PARAMS_MAX + 1];
    const char *values[PARAMS_MAX + 1];
    size_t count;
};

static void set(struct params *params, const char *key, const char *value)
{
    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->keys[i], key) == 0) {
            params->values[i] = value;
            return;
        }
    }
    if (params->count < PARAMS_MAX) {
        params->keys[params->count] = key;
        params->values[params->count++] = value;
    }
}

/* libpq pairs host and hostaddr one to one, so the name is repeated for every address. */
static char *repeat(const char *host, size_t count)
{
    char *list = ec_alloc((strlen(host) + 1) * count + 1);
    for (size_t i = 0; i < count; i++) {
        strcat(list, i ? "," : ""); /* lint: meant, the list has room for all */
        strcat(list, host);         /* lint: meant, the same */
    }
    return list;
}

PGconn *conninfo_connect(const struct conninfo *info, const char *hostaddr, size_t address_count)
{
    struct params params = {0};
    for (const PQconninfoOption *o = info->options; o->keyword; o++) {
        if (o->val && o->val[0]) {
            set(&params, o->keyword, o->val);
        }
    }
    ec_cleanup(ec_freep) char *hosts = NULL;
    if (hostaddr) {
        hosts = repeat(option(info, "host"), address_count);
        set(&params, "host", hosts);
        set(&params, "hostaddr", hostaddr);
    }
    set(&params, "application_name", info->application_name);
    set(&params, "options", info->server_options);
    set(&params, "client_encoding", "UTF8");
    set(&params, "gssencmode", "disable"); /* would talk to a KDC while we wait */
    set(&params, "keepalives_idle", "30");
    set(&params, "tcp_user_timeout", "15000");
    return PQconnectStartParams(params.keys, params.values, 0);
}
