/* Builds run apart from this machine: isolate.sh does it, with the tools of util-linux and
 * slirp4netns, and root_folder.c; here stands what they are told. Code we trust shares the
 * machine's network and what its repository keeps from build to build, strangers' code nothing. The
 * addresses of the machine are asked for each of their builds, because engines and operators add
 * networks while we run. */
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "builder.h"
#include "decide_network.h"

#define WORDS_MAX 24

/* The Makefile runs in the root of the tree; its rule for this object names the file. */
__asm__(".section .rodata\n"
        ".global isolate_script\n"
        "isolate_script: .incbin \"services/builder/isolate.sh\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char isolate_script[];

static EC_RESULT write_text(struct ec_arena *arena, const char *path, const char *content)
{
    struct ec_span bytes = ec_span_of(content);
    int code = ec_file_replace(&(struct ec_file_spec){path, 0600, false, &bytes, 1});
    return code ? ec_retry(code, ec_arena_format(arena, "cannot write %s", path)) : ec_ok();
}

struct ec_err isolation_open(struct builder *b)
{
    const char *mode = b->settings.untrusted_network;
    struct network reach[NETWORKS_MAX];
    size_t count = 0;
    if (strcmp(mode, "isolated") != 0 && strcmp(mode, "none") != 0) {
        return ec_fatal(0, ec_arena_format(b->arena,
                                           "ENCLII_UNTRUSTED_NETWORK is \"%s\": set isolated (the "
                                           "outside only) or none",
                                           mode));
    }
    const char *fault = decide_networks(b->arena, b->settings.untrusted_reach, reach, &count);
    if (fault) {
        return ec_fatal(0, ec_arena_format(b->arena, "ENCLII_UNTRUSTED_REACH: %s", fault));
    }
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len < 0) {
        return ec_fatal(0, "cannot tell where this program is: /proc must be mounted");
    }
    b->program = ec_arena_text(b->arena, (struct ec_span){self, (size_t)len});
    b->isolate_file = builder_path(b, "isolate");
    struct ec_err err = write_text(b->arena, b->isolate_file, isolate_script);
    return ec_failed(err) ? ec_fatal(err.sys, err.what) : ec_ok();
}

/* Of this machine, each with its network. */
static size_t own_addresses(struct network ret[NETWORKS_MAX])
{
    struct ifaddrs *list = NULL;
    size_t count = 0;
    if (getifaddrs(&list) != 0) {
        return NETWORKS_MAX + 1;
    }
    for (struct ifaddrs *at = list; at; at = at->ifa_next) {
        if (!at->ifa_addr || !at->ifa_netmask || at->ifa_addr->sa_family != AF_INET) {
            continue;
        }
        if (count == NETWORKS_MAX) {
            count++;
            break;
        }
        struct sockaddr_in address, mask;
        memcpy(&address, at->ifa_addr, sizeof(address));
        memcpy(&mask, at->ifa_netmask, sizeof(mask));
        ret[count].address = ntohl(address.sin_addr.s_addr);
        ret[count++].bits = (uint8_t)__builtin_popcount(mask.sin_addr.s_addr);
    }
    freeifaddrs(list);
    return count;
}

static EC_RESULT make_dirs(const char *const *dirs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (mkdir(dirs[i], 0700) != 0 && access(dirs[i], W_OK) != 0) {
            return ec_retry(0, "the work folder cannot be written (disk full?)");
        }
    }
    return ec_ok();
}

static EC_RESULT prepare_network(struct job *job)
{
    struct network own[NETWORKS_MAX], reach[NETWORKS_MAX];
    size_t own_count = own_addresses(own), reach_count = 0;
    const char *dir = job->isolation_dir;
    job->isolation = job->builder->settings.untrusted_network;
    if (own_count > NETWORKS_MAX) { /* what is not known cannot be closed */
        build_log_say(&job->log, job->step, "note: the addresses of this machine cannot be told");
        own_count = 0;
        job->isolation = "none";
    }
    /* Checked at the start. */
    decide_networks(job->arena, job->builder->settings.untrusted_reach, reach, &reach_count);
    EC_TRY(write_text(job->arena, ec_arena_format(job->arena, "%s/resolv.conf", dir),
                      ec_arena_format(job->arena, "nameserver %s\n", network_resolver)));
    return write_text(job->arena, ec_arena_format(job->arena, "%s/routes", dir),
                      decide_routes(job->arena, own, own_count, reach, reach_count));
}

struct ec_err isolation_prepare(struct job *job)
{
    bool trusted = job->run->trusted;
    const char *dir = ec_arena_format(job->arena, "%s/apart", job->dir);
    const char *dirs[] = {dir, ec_arena_format(job->arena, "%s/storage", job->dir),
                          ec_arena_format(job->arena, "%s/run", job->dir)};
    ec_file_remove_tree(dir); /* lint: blocks, some small files of a try before */
    job->isolation = "shared";
    job->isolation_dir = dir;
    EC_TRY(make_dirs(dirs, trusted ? 1 : EC_LEN(dirs)));
    return trusted ? ec_ok() : prepare_network(job);
}

struct words {
    struct ec_arena *arena;
    const char **list;
    size_t count;
};

static void add(struct words *words, const char *word)
{
    if (words->count + 1 < WORDS_MAX) {
        words->list[words->count++] = word;
    }
}

static void add_path(struct words *words, const char *mode, const char *dir, const char *name)
{
    add(words, ec_arena_format(words->arena, "%s%s/%s", mode, dir, name));
}

/* What builds share: the image storage, and where Buildah remembers which registry has a layer. */
static void add_shared(struct words *words, struct job *job)
{
    const struct builder_settings *settings = &job->builder->settings;
    static const char layers_known[] = "/var/lib/containers/cache";
    add_path(words, "+", settings->work_dir, "storage");
    add_path(words, "+", settings->work_dir, "run");
    add_path(words, "+", job->dir, "src");
    add(words, ec_arena_format(words->arena, "+%s", layers_mounts_dir(job)));
    if (access(layers_known, W_OK) == 0) {
        add(words, ec_arena_format(words->arena, "+%s", layers_known));
    }
    add(words, job->builder->policy_file);
    if (settings->registry_auth_file[0] == '/') {
        add(words, settings->registry_auth_file);
    }
}

static void add_own(struct words *words, struct job *job)
{
    add_path(words, "+", job->dir, "storage");
    add_path(words, "+", job->dir, "run");
    add_path(words, "", job->dir, "src");
    add(words, job->builder->strict_policy_file);
}

const char *const *isolation_words(struct job *job)
{
    static const char *const variables[] = {"CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF",
                                            "SSL_CERT_FILE", "SSL_CERT_DIR"};
    struct builder *b = job->builder;
    struct words words = {job->arena, ec_arena_alloc(job->arena, WORDS_MAX * sizeof(char *)), 0};
    add(&words, "sh");
    add(&words, b->isolate_file);
    add(&words, "apart");
    add(&words, b->program);
    add(&words, job->isolation);
    add(&words, job->isolation_dir);
    (job->run->trusted ? add_shared : add_own)(&words, job);
    add_path(&words, "+", job->dir, "home");
    add_path(&words, "", b->settings.work_dir, "storage.conf");
    for (size_t i = 0; i < EC_LEN(variables); i++) {
        const char *path = getenv(variables[i]);
        if (path && path[0] == '/') {
            add(&words, path);
        }
    }
    add(&words, "--");
    return words.list;
}
