/* Where the local platform keeps its things and on which ports it listens. The environment says,
 * else what an earlier start wrote into home/local.json, else the defaults below. */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define FILE_MAX_BYTES (1 << 20)

const struct local_port_row local_ports[PORT_COUNT] = {
    [PORT_API] = {"ENCLII_LOCAL_API_PORT", "API", 4200, 0},
    [PORT_WEBHOOK] = {"ENCLII_LOCAL_WEBHOOK_PORT", "webhooks of git hosts", 4210, 1},
    [PORT_HTTP] = {"ENCLII_LOCAL_HTTP_PORT", "router, http", 8080, 2},
    [PORT_HTTPS] = {"ENCLII_LOCAL_HTTPS_PORT", "router, https", 8443, 3},
    [PORT_REGISTRY] = {"ENCLII_LOCAL_REGISTRY_PORT", "image registry", 5000, 4},
    [PORT_GIT] = {"ENCLII_LOCAL_GIT_PORT", "git server", 3000, 5},
    [PORT_POSTGRES] = {"ENCLII_LOCAL_POSTGRES_PORT", "PostgreSQL", 15432, 6},
    [PORT_KAFKA] = {"ENCLII_LOCAL_KAFKA_PORT", "Kafka", 19092, 7},
    [PORT_KAFKA_CONTROLLER] = {"ENCLII_LOCAL_KAFKA_CONTROLLER_PORT", "Kafka's controller", 19093,
                               8},
    [PORT_ADMIN] = {"ENCLII_LOCAL_ADMIN_PORT", "metrics of our services", 4300, 10},
};

char *local_path(const struct local *local, const char *relative)
{
    return ec_arena_format(local->arena, "%s/%s", local->home, relative);
}

char *local_read_file(const struct local *local, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    char *text = ec_arena_alloc(local->arena, 4096);
    size_t room = 4096, len = 0;
    ssize_t n;
    while ((n = read(fd, text + len, room - len - 1)) > 0) {
        len += (size_t)n;
        if (len + 1 == room && room < FILE_MAX_BYTES) {
            char *larger = ec_arena_alloc(local->arena, room * 2);
            memcpy(larger, text, len);
            text = larger;
            room *= 2;
        }
    }
    close(fd);
    text[len] = '\0';
    return n < 0 ? NULL : text;
}

EC_RESULT local_write_file(const struct local *local, const char *path, const char *text,
                           mode_t mode)
{
    struct ec_span bytes = ec_span_of(text);
    bool secret = (mode & 077) == 0; /* cannot be made again */
    int code = ec_file_replace(&(struct ec_file_spec){path, mode, secret, &bytes, 1});
    return code ? ec_retry_in(local->arena, -code, "cannot write %s: %s", path, strerror(-code))
                : ec_ok();
}

EC_RESULT local_make_folder(const struct local *local, const char *path, mode_t mode)
{
    char *copy = ec_arena_strdup(local->arena, path);
    for (char *at = copy + 1; *at; at++) {
        if (*at == '/') {
            *at = '\0';
            mkdir(copy, 0755); /* those above; the last one decides whether it worked */
            *at = '/';
        }
    }
    if ((mkdir(copy, mode) != 0 && errno != EEXIST) || chmod(copy, mode) != 0) {
        return ec_retry_in(local->arena, errno, "cannot make the folder %s: %s", path,
                           strerror(errno));
    }
    return ec_ok();
}

char *local_secret(const struct local *local, const char *name)
{
    char *text =
        local_read_file(local, ec_arena_format(local->arena, "%s/secrets/%s", local->home, name));
    if (text) {
        text[strcspn(text, "\n")] = '\0';
    }
    return text;
}

const char *local_api_url(const struct local *local)
{
    return ec_arena_format(local->arena, "http://127.0.0.1:%d", local->ports[PORT_API]);
}

/* root: /var/lib, which other users (PostgreSQL's) may walk through; root's own home is closed. */
static const char *default_home(struct ec_arena *arena)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && state[0] == '/') {
        return ec_arena_format(arena, "%s/enclii", state);
    }
    if (geteuid() == 0 || !home) {
        return "/var/lib/enclii";
    }
    return ec_arena_format(arena, "%s/.local/state/enclii", home);
}

static const char *default_cache(struct ec_arena *arena)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/') {
        return ec_arena_format(arena, "%s/enclii", cache);
    }
    return ec_arena_format(arena, "%s/.cache/enclii", home ? home : "/root");
}

static EC_RESULT port_of(struct local *local, const char *name, const char *text, int *ret_port)
{
    char *end = NULL;
    long port = strtol(text, &end, 10);
    if (end == text || *end || port < 1 || port > 65535) {
        return ec_reject_in(local->arena,
                            "%s must be a port from 1 to 65535, is \"%s\"; example: "
                            "%s=14200",
                            name, text, name);
    }
    *ret_port = (int)port;
    return ec_ok();
}

static EC_RESULT read_ports(struct local *local)
{
    json_t *kept = NULL;
    char *text = local_read_file(local, local_path(local, "local.json"));
    if (text) {
        /* An unreadable file only means that nothing is remembered. */
        ec_ignore(ec_json_parse(local->arena, ec_span_of(text), &kept));
    }
    const char *base_text = getenv("ENCLII_LOCAL_PORT_BASE");
    int base = 0;
    if (base_text && base_text[0]) {
        EC_TRY(port_of(local, "ENCLII_LOCAL_PORT_BASE", base_text, &base));
    }
    for (int i = 0; i < PORT_COUNT; i++) {
        const struct local_port_row *row = &local_ports[i];
        const char *own = getenv(row->setting);
        local->kept_ports[i] = (int)ec_json_int(kept, row->setting, 0);
        local->ports[i] =
            base ? base + row->shift : (int)ec_json_int(kept, row->setting, row->fallback);
        if (own && own[0]) {
            struct ec_err err = port_of(local, row->setting, own, &local->ports[i]);
            if (ec_failed(err)) {
                ec_json_freep(&kept);
                return err;
            }
        }
    }
    ec_json_freep(&kept);
    return ec_ok();
}

/* Without slashes at its end: the kernel lists mounts without, too. */
static char *plain_folder(struct ec_arena *arena, const char *path)
{
    char *copy = ec_arena_strdup(arena, path);
    for (size_t len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--) {
        copy[len - 1] = '\0';
    }
    return copy;
}

EC_RESULT local_open(struct local *local, struct ec_arena *arena)
{
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0) {
        return ec_fatal(errno, "cannot read /proc/self/exe: is /proc mounted?");
    }
    self[len] = '\0';
    *strrchr(self, '/') = '\0';
    const char *home = getenv("ENCLII_HOME"), *cache = getenv("ENCLII_CACHE");
    const char *level = getenv("ENCLII_LOCAL_LOG_LEVEL");
    *local = (struct local){
        .arena = arena,
        .home = home && home[0] ? plain_folder(arena, home) : default_home(arena),
        .cache = cache && cache[0] ? ec_arena_strdup(arena, cache) : default_cache(arena),
        .programs = ec_arena_strdup(arena, self),
        .log_level = level && level[0] ? ec_arena_strdup(arena, level) : "info",
    };
    if (local->home[0] != '/') {
        return ec_reject_in(arena, "ENCLII_HOME must be an absolute path, is \"%s\"", local->home);
    }
    /* The longest socket of ours must fit into sockaddr_un. */
    if (strlen(local->home) > 80) {
        return ec_reject_in(arena,
                            "ENCLII_HOME is longer than 80 letters, too long for sockets in "
                            "it: %s",
                            local->home);
    }
    return read_ports(local);
}
