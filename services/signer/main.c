/* signer: gives each built image its SBOM, provenance and signature, and verifies its own work. */
#include <stddef.h>

#include "service/service.h"
#include "signer.h"

#define FIELD(name) offsetof(struct settings, name)

static const struct ec_setting setting_table[] = {
    {"ENCLII_SIGNING_KEY_FILE", EC_SETTING_PATH, FIELD(signing_key_file), NULL,
     "P-256 private key (PEM); made at the first start, public half beside it as .pub.",
     "/var/lib/enclii/keys/signing.key", 0, 0},
    {"ENCLII_OBJECT_STORE", EC_SETTING_TEXT, FIELD(object_store), NULL,
     "Where SBOMs and provenance are kept.", "file:///var/lib/enclii/objects", 0, 0},
    {"ENCLII_WORK_DIR", EC_SETTING_PATH, FIELD(work_dir), "/var/lib/enclii/signer",
     "Scratch of Syft and cache of SBOMs; may be emptied when stopped.", "/var/lib/enclii/signer",
     0, 0},
    {"ENCLII_SYFT", EC_SETTING_TEXT, FIELD(syft), "syft", "The Syft program.", "/usr/bin/syft", 0,
     0},
    {"ENCLII_SYFT_TIMEOUT", EC_SETTING_DURATION_MS, FIELD(syft_timeout_ms), "5m",
     "Longest time of one SBOM.", "5m", 1000, 3600000},
    {"ENCLII_SIGNER_SLOTS", EC_SETTING_INT, FIELD(slots), "2", "Releases signed at once.", "2", 1,
     16},
    {"ENCLII_REGISTRY", EC_SETTING_TEXT, FIELD(registry), "",
     "Only images below this address are signed; empty: any.", "registry.example.com/enclii", 0, 0},
    {"ENCLII_REGISTRY_INSECURE", EC_SETTING_BOOL, FIELD(registry_insecure), "false",
     "Plain HTTP to registries on loopback addresses.", "true", 0, 0},
    {"ENCLII_DOCKER_CONFIG", EC_SETTING_PATH, FIELD(docker_config_file), "",
     "Docker config file with the registries' passwords.", "/etc/enclii/docker/config.json", 0, 0},
    {NULL, EC_SETTING_TEXT, 0, NULL, NULL, NULL, 0, 0},
};

static struct ec_err start(struct ec_service *svc, void *state)
{
    struct signer *sg = state;
    EC_TRY(signer_open(sg, ec_service_loop(svc), ec_service_bus(svc), ec_service_fetcher(svc),
                       ec_service_arena(svc)));
    return signer_consume(sg);
}

static void on_stopped(void *arg)
{
    struct ec_service *svc = arg;
    ec_service_stopped(svc);
}

static void stop(struct ec_service *svc, void *state)
{
    signer_stop(state, on_stopped, svc);
}

int main(int argc, char **argv)
{
    static struct signer sg;
    int code = ec_service_main(argc, argv,
                               &(struct ec_service_spec){
                                   .name = "signer",
                                   .help = "signs releases: SBOM, provenance, signature",
                                   .state = &sg,
                                   .settings = &sg.settings,
                                   .setting_table = setting_table,
                                   .needs_bus = true,
                                   .needs_fetcher = true,
                                   .start = start,
                                   .stop = stop,
                               });
    signer_close(&sg);
    return code;
}
