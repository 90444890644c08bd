/* builder: takes build commands, makes images. Read the settings, then builder.c, then job.c. */
#include <string.h>

#include "base/mem.h"
#include "builder.h"
#include "service/service.h"

#define S(field) offsetof(struct builder, settings.field)
#define HOUR_MS 3600000
#define GIB ((int64_t)1 << 30)

static const struct ec_setting settings[] = {
    {"ENCLII_BUILDER_ID", EC_SETTING_TEXT, S(builder_id), "",
     "Name of this builder; the host's name when empty.", "builder-1", 0, 0},
    {"ENCLII_BUILDER_SLOTS", EC_SETTING_INT, S(slots), "2", "Builds at the same time.", "4", 1, 64},
    {"ENCLII_BUILDER_TRUSTED_ONLY", EC_SETTING_BOOL, S(trusted_only), "false",
     "Takes no code of forks: where some builders have more network than strangers may have.",
     "true", 0, 0},
    {"ENCLII_UNTRUSTED_NETWORK", EC_SETTING_TEXT, S(untrusted_network), "isolated",
     "Network of forks' RUN lines: isolated (the outside, not this machine nor private networks; "
     "none where that cannot be had) or none.",
     "none", 0, 0},
    {"ENCLII_UNTRUSTED_REACH", EC_SETTING_TEXT, S(untrusted_reach), "",
     "Private networks that forks' RUN lines reach all the same, such as a package proxy's; never "
     "an address of this machine.",
     "10.1.2.3,10.9.0.0/16", 0, 0},
    {"ENCLII_WORK_DIR", EC_SETTING_PATH, S(work_dir), "/var/lib/enclii/builder",
     "Folder for sources, caches and image storage; may be lost at any time.",
     "/var/lib/enclii/builder", 0, 0},
    {"ENCLII_BUILD_TIMEOUT", EC_SETTING_DURATION_MS, S(build_timeout_ms), "1800",
     "Longest time of a build, all steps together.", "30m", 1000, 24 * HOUR_MS},
    {"ENCLII_FETCH_TIMEOUT", EC_SETTING_DURATION_MS, S(fetch_timeout_ms), "5m",
     "Longest time of one git command.", "5m", 1000, HOUR_MS},
    {"ENCLII_PUSH_TIMEOUT", EC_SETTING_DURATION_MS, S(push_timeout_ms), "10m",
     "Longest time of one push of an image.", "10m", 1000, HOUR_MS},
    {"ENCLII_CLONE_MAX", EC_SETTING_BYTES, S(clone_max_bytes), "1GiB",
     "Largest file that git may write.", "1GiB", 1 << 20, 1024 * GIB},
    {"ENCLII_BUILD_LOG_MAX", EC_SETTING_BYTES, S(log_max_bytes), "16MiB",
     "Largest log of a build; what follows is dropped and said so.", "16MiB", 1 << 16, GIB},
    {"ENCLII_BUILD_MEMORY_MAX", EC_SETTING_BYTES, S(memory_max_bytes), "2GiB",
     "Memory of a build: default and upper bound of what a service may ask for.", "4GiB", 1 << 26,
     1024 * GIB},
    {"ENCLII_BUILD_PIDS_MAX", EC_SETTING_INT, S(pids_max), "4096", "Processes of a build.", "4096",
     16, 1000000},
    {"ENCLII_CACHE_MAX", EC_SETTING_BYTES, S(cache_max_bytes), "20GiB",
     "Disk for git caches and cache mounts (a quarter each; measured every minute that builds run "
     "in) and image storage; the least recently used goes first.",
     "20GiB", 1 << 26, 1024 * 1024 * GIB},
    {"ENCLII_REGISTRY_INSECURE", EC_SETTING_BOOL, S(registry_insecure), "false",
     "Plain HTTP to the registry; registries on loopback only.", "true", 0, 0},
    {"ENCLII_REGISTRY_AUTH_FILE", EC_SETTING_TEXT, S(registry_auth_file), "",
     "Registry credentials in Docker's config.json form.", "/run/secrets/registry.json", 0, 0},
    {"ENCLII_GIT_PROTOCOLS", EC_SETTING_TEXT, S(git_protocols), "http:https:ssh",
     "Protocols of clone URLs, separated by colons.", "https", 0, 0},
    EC_GITHOST_SETTINGS(struct builder, settings.githost),
    {NULL, EC_SETTING_TEXT, 0, NULL, NULL, NULL, 0, 0},
};

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct builder *builder = state;
    builder->loop = ec_service_loop(svc);
    builder->bus = ec_service_bus(svc);
    builder->fetcher = ec_service_fetcher(svc);
    builder->engine = engine_buildah;
    return builder_start(builder);
}

static struct builder b;

static void on_drained(void *arg)
{
    builder_done(&b);
    ec_service_stopped(arg);
}

static void stop(struct ec_service *svc, void *state)
{
    builder_stop(state, on_drained, svc);
}

static const char *unready(void *state)
{
    return builder_unready(state);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "inside") == 0) {
        return root_folder_main(argc - 1, argv + 1);
    }
    return ec_service_main(argc, argv,
                           &(struct ec_service_spec){
                               .name = "builder",
                               .help = "builds images from commits and pushes them",
                               .state = &b,
                               .settings = &b,
                               .setting_table = settings,
                               .needs_bus = true,
                               .needs_fetcher = true,
                               .start = start,
                               .stop = stop,
                               .unready = unready,
                           });
}
