/* What the service is made of, opened and closed in order. Apart from main so that tests can run
 * the real handlers on a bus and a registry of their own. */
#include "signer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "bus/topics.h"

static const struct ec_route routes[] = {
    /* when this arrives             it carries                                   we do */
    {"dev.enclii.release.created.v1", &enclii__v1__release_created__descriptor, on_release_created},
    {NULL, NULL, NULL}, /* our own words and pipeline's decisions */
};

static struct ec_err make_folder(struct ec_arena *arena, const char *path)
{
    if (mkdir(path, 0750) != 0 && errno != EEXIST) {
        return ec_retry_in(arena, -errno, "cannot make the folder %s", path);
    }
    return ec_ok();
}

static struct ec_err make_folders(struct ec_arena *arena, const char *work_dir)
{
    static const char *const names[] = {"", "/tmp", "/sbom", "/cache"};
    /* What a killed Syft left: layers of images, unpacked. */
    ec_file_remove_tree(ec_arena_format(arena, "%s/tmp", work_dir));
    for (size_t i = 0; i < EC_LEN(names); i++) {
        EC_TRY(make_folder(arena, ec_arena_format(arena, "%s%s", work_dir, names[i])));
    }
    return ec_ok();
}

struct ec_err signer_open(struct signer *sg, struct ec_loop *loop, struct ec_bus *bus,
                          struct ec_fetcher *fetcher, struct ec_arena *arena)
{
    sg->loop = loop;
    sg->bus = bus;
    bool created = false;
    EC_TRY(make_folders(arena, sg->settings.work_dir));
    EC_TRY(ec_key_open(arena, sg->settings.signing_key_file, &sg->key, &created));
    EC_TRY(ec_object_store_open(loop, sg->settings.object_store, &sg->objects));
    struct ec_registry_spec spec = {
        .loop = loop,
        .fetcher = fetcher,
        .insecure = sg->settings.registry_insecure,
        .docker_config_file = sg->settings.docker_config_file,
    };
    EC_TRY(ec_registry_open(&spec, &sg->registry));
    ec_log(EC_LOG_INFO, NULL, created ? "key.created" : "key.loaded", "signing key",
           EC_T("key", ec_key_hint(sg->key)), EC_T("file", sg->settings.signing_key_file));
    return ec_ok();
}

struct ec_err signer_consume(struct signer *sg)
{
    static const char *const topics[] = {EC_TOPIC_RELEASE_EVENTS, NULL};
    struct ec_consume_spec spec = {
        .group = "signer",
        .topics = topics,
        .routes = routes,
        .route_count = EC_LEN(routes),
        .inflight_max = (uint32_t)sg->settings.slots,
        .state = sg,
    };
    return ec_bus_consume(sg->bus, &spec, NULL);
}

void signer_stop(struct signer *sg, ec_call_fn stopped, void *arg)
{
    sg->stopping = true;
    sg->stopped = stopped;
    sg->stopped_arg = arg;
    /* Exchanges under way end with RETRY; flows then find that they were cancelled. */
    ec_registry_stop(sg->registry);
    for (struct job *job = sg->jobs; job; job = job->next) {
        ec_flow_cancel(&job->flow);
        if (job->syft) {
            ec_process_cancel(job->syft);
        }
    }
    if (!sg->jobs) {
        ec_loop_defer(sg->loop, stopped, arg);
    }
}

void signer_close(struct signer *sg)
{
    ec_registry_close(EC_TAKE(sg->registry));
    ec_object_store_close(EC_TAKE(sg->objects));
    ec_key_free(EC_TAKE(sg->key));
}
