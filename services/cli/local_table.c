/* What the local platform is made of: one table of components, one of their environments. Order is
 * the order of the display; what waits for what is said by `after`. */
#include "local.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define AS_POSTGRES "setpriv --reuid=postgres --regid=postgres --clear-groups --pdeathsig=INT "
#define JAVA                                                                                       \
    "java -Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData "             \
    "-XX:+ExitOnOutOfMemoryError -Djava.net.preferIPv4Stack=true -Djava.awt.headless=true "        \
    "-Dlog4j2.disableJmx=true -Dlog4j2.configurationFile={home}/conf/kafka-log4j2.properties "     \
    "-Dkafka.logs.dir={home}/kafka/logs -Djava.io.tmpdir={home}/kafka/tmp -Xshare:auto "           \
    "-XX:SharedArchiveFile={cache}/kafka/kafka.jsa -cp {classpath} "

/* The password comes by the environment: a command line is for everybody to read. */
static const char postgres_init[] =
    "cd \"$1/postgres\"; rm -rf new data\n"
    "initdb -D new -U enclii -A trust -E UTF8 --locale=C.UTF-8 --no-sync\n"
    "printf '%s\\n' 'create database enclii' \"alter role enclii password '$(cat)'\" |\n"
    "    postgres --single -D new postgres\n"
    "printf '%s\\n' 'local all all scram-sha-256' 'host all all 127.0.0.1/32 scram-sha-256' "
    "> new/pg_hba.conf\n"
    "sync new; mv new data\n";

const struct component local_components[] = {
    {.name = "postgres-init",
     .help = "makes the database cluster",
     .after = "",
     .script = postgres_init,
     .input = "postgres",
     .done_file = "{home}/postgres/data/PG_VERSION"},
    {.name = "postgres",
     .help = "PostgreSQL",
     .after = "postgres-init",
     .command =
         AS_POSTGRES "postgres -D {home}/postgres/data -p {postgres} -h 127.0.0.1 "
                     "-k {home}/postgres -c max_connections=200 -c shared_buffers=64MB -c jit=off "
                     "-c log_min_messages=warning -c log_line_prefix=%m",
     .probe = "exec pg_isready -q -h 127.0.0.1 -p {postgres} -d enclii",
     .stop_signal = SIGINT},
    {.name = "kafka-init",
     .help = "formats Kafka's log",
     .after = "",
     .command = JAVA "kafka.tools.StorageTool format --ignore-formatted -t {cluster} "
                     "-c {home}/conf/kafka.properties",
     .done_file = "{home}/kafka/data/meta.properties"},
    {.name = "kafka",
     .help = "Apache Kafka, one node",
     .after = "kafka-init",
     .command = JAVA "kafka.Kafka {home}/conf/kafka.properties",
     .probe = "tcp {kafka}"},
    {.name = "topics",
     .help = "creates the topics that are missing",
     .after = "kafka",
     .command = "{programs}/enclii topics apply"},
    {.name = "registry",
     .help = "image registry",
     .after = "",
     .command = "docker-registry serve {home}/conf/registry.yml",
     .probe = "http {registry} /v2/"},
    {.name = "base-image",
     .help = "puts debian:bookworm-slim into the registry",
     .after = "registry",
     .command = "skopeo --insecure-policy copy -q --dest-tls-verify=false "
                "oci:{cache}/images/debian-bookworm-slim:bookworm-slim "
                "docker://127.0.0.1:{registry}/library/debian:bookworm-slim",
     .done_file = "{home}/registry/docker/registry/v2/repositories/library/debian/_manifests/tags/"
                  "bookworm-slim/current/link"},
    {.name = "engine",
     .help = "container engine (Docker Engine API)",
     .after = "",
     .command = "podman system service --time=0 unix://{home}/run/engine.sock",
     .probe = "socket {home}/run/engine.sock /_ping"},
    {.name = "router",
     .help = "HAProxy",
     .after = "",
     .command = "haproxy -db -f {home}/conf/haproxy.cfg",
     .probe = "unix {home}/run/haproxy.sock"},
    {.name = "git-cgi",
     .help = "git http-backend",
     .after = "",
     .command = "fcgiwrap -c 2 -s unix:{home}/run/git.sock",
     .probe = "unix {home}/run/git.sock"},
    {.name = "git",
     .help = "git server",
     .after = "git-cgi",
     .command = "nginx -p {home}/run -c {home}/conf/nginx.conf -e stderr",
     .probe = "http {git} /health"},
    {.name = "pipeline",
     .help = "decides",
     .after = "postgres topics",
     .command = "{programs}/enclii-pipeline",
     .probe = "http {admin} /health/ready",
     .admin = 1},
    {.name = "webhook",
     .help = "takes pushes in",
     .after = "topics",
     .command = "{programs}/enclii-webhook",
     .probe = "http {admin} /health/ready",
     .admin = 2},
    {.name = "builder",
     .help = "builds images",
     .after = "topics registry base-image git",
     .command = "{programs}/enclii-builder",
     .probe = "http {admin} /health/ready",
     .admin = 3},
    {.name = "signer",
     .help = "signs and verifies releases",
     .after = "topics registry",
     .command = "{programs}/enclii-signer",
     .probe = "http {admin} /health/ready",
     .admin = 4},
    {.name = "reconciler",
     .help = "brings up what is desired",
     .after = "topics engine router registry",
     .command = "{programs}/enclii-reconciler",
     .probe = "http {admin} /health/ready",
     .admin = 5},
    {.name = "domain",
     .help = "certificates",
     .after = "topics router",
     .command = "{programs}/enclii-domain",
     .probe = "http {admin} /health/ready",
     .admin = 6},
    {.name = "notifier",
     .help = "tells people and systems",
     .after = "postgres topics",
     .command = "{programs}/enclii-notifier",
     .probe = "http {admin} /health/ready",
     .admin = 7},
    {.name = "history",
     .help = "keeps all events",
     .after = "postgres topics",
     .command = "{programs}/enclii-history",
     .probe = "http {admin} /health/ready",
     .admin = 9},
    {.name = "sweeper",
     .help = "finds pushes whose webhook did not come",
     .after = "postgres topics git",
     .command = "{programs}/enclii-sweeper",
     .probe = "http {admin} /health/ready",
     .admin = 10},
    {.name = "api",
     .help = "the API",
     .after = "postgres topics pipeline",
     .command = "{programs}/enclii-api",
     .probe = "http {admin} /health/ready",
     .admin = 8},
};
const size_t local_component_count = EC_LEN(local_components);

/* `who`: a component, "service" for all of ours, "*" for everybody. */
static const struct {
    const char *who, *name, *value;
} environment[] = {
    {"*", "LANG", "C.UTF-8"},
    {"*", LOCAL_MARK, "{home}"},
    {"kafka", "MALLOC_ARENA_MAX", "2"},
    {"kafka-init", "MALLOC_ARENA_MAX", "2"},
    {"engine", "CONTAINERS_CONF", "{home}/conf/containers.conf"},
    {"engine", "CONTAINERS_REGISTRIES_CONF", "{home}/conf/registries.conf"},
    {"engine", "CONTAINERS_STORAGE_CONF", "{home}/conf/storage-engine.conf"},
    {"git-cgi", "ENCLII_HOME", "{home}"},
    {"git-cgi", "GIT_CONFIG_NOSYSTEM", "1"},
    {"topics", "ENCLII_KAFKA_BROKERS", "127.0.0.1:{kafka}"},

    {"service", "ENCLII_LOG_LEVEL", "{log_level}"},
    {"service", "ENCLII_ADMIN_LISTEN", "127.0.0.1:{admin}"},
    {"service", "ENCLII_KAFKA_BROKERS", "127.0.0.1:{kafka}"},
    {"pipeline", "ENCLII_DATABASE_URL_FILE", "{home}/secrets/database_url"},
    {"pipeline", "ENCLII_REGISTRY", "127.0.0.1:{registry}"},
    {"pipeline", "ENCLII_MEMBER", "local-1"},
    {"webhook", "ENCLII_LISTEN", "127.0.0.1:{webhook}"},
    {"webhook", "ENCLII_GITHUB_WEBHOOK_SECRET_FILE", "{home}/secrets/webhook"},
    {"webhook", "ENCLII_SEAL_KEY_FILE", "{home}/secrets/seal"},
    {"builder", "ENCLII_BUILDER_ID", "local-1"},
    {"builder", "ENCLII_BUILDER_SLOTS", "2"},
    {"builder", "ENCLII_WORK_DIR", "{home}/builder"},
    {"builder", "ENCLII_REGISTRY_INSECURE", "true"},
    {"builder", "CONTAINERS_CONF", "{home}/conf/containers.conf"},
    {"builder", "CONTAINERS_REGISTRIES_CONF", "{home}/conf/registries.conf"},
    {"signer", "ENCLII_REGISTRY_INSECURE", "true"},
    {"signer", "ENCLII_SIGNING_KEY_FILE", "{home}/secrets/signing.pem"},
    {"signer", "ENCLII_OBJECT_STORE", "file://{home}/objects"},
    {"signer", "ENCLII_SYFT", "{cache}/bin/syft"},
    {"signer", "ENCLII_WORK_DIR", "{home}/signer"},
    {"reconciler", "ENCLII_DOCKER_SOCKET", "{home}/run/engine.sock"},
    {"reconciler", "ENCLII_HAPROXY_SOCKET", "{home}/run/haproxy.sock"},
    {"reconciler", "ENCLII_HAPROXY_DIR", "{home}/router"},
    {"reconciler", "ENCLII_INSTANCE", "local-{api}"},
    {"reconciler", "ENCLII_ROUTER_HTTP", "127.0.0.1:{http}"},
    {"reconciler", "ENCLII_ROUTER_HTTPS", "127.0.0.1:{https}"},
    {"domain", "ENCLII_ROUTER_HTTPS", "127.0.0.1:{https}"},
    {"domain", "ENCLII_HAPROXY_SOCKET", "{home}/run/haproxy.sock"},
    {"domain", "ENCLII_HAPROXY_DIR", "{home}/router"},
    {"domain", "ENCLII_CA_DIR", "{home}/ca"},
    {"notifier", "ENCLII_DATABASE_URL_FILE", "{home}/secrets/database_url"},
    {"notifier", "ENCLII_SEAL_KEY_FILE", "{home}/secrets/seal"},
    {"notifier", "ENCLII_PUBLIC_URL", "http://127.0.0.1:{api}"},
    {"notifier", "ENCLII_NOTIFY_PRIVATE", "true"},
    {"history", "ENCLII_DATABASE_URL_FILE", "{home}/secrets/database_url"},
    {"sweeper", "ENCLII_DATABASE_URL_FILE", "{home}/secrets/database_url"},
    {"sweeper", "ENCLII_SWEEP_INTERVAL", "15s"},
    {"sweeper", "ENCLII_WORK_DIR", "{home}/sweeper"},
    {"api", "ENCLII_DATABASE_URL_FILE", "{home}/secrets/database_url"},
    {"api", "ENCLII_LISTEN", "127.0.0.1:{api}"},
    {"api", "ENCLII_PUBLIC_URL", "http://127.0.0.1:{api}"},
    {"api", "ENCLII_BOOTSTRAP_TOKEN_FILE", "{home}/secrets/admin_token"},
    {"api", "ENCLII_REGISTRY", "127.0.0.1:{registry}"},
    {"api", "ENCLII_REGISTRY_INSECURE", "true"},
    {"api", "ENCLII_OBJECT_STORE", "file://{home}/objects"},
    {"api", "ENCLII_SIGNING_PUBLIC_KEY_FILE", "{home}/secrets/signing.pub"},
    {"api", "ENCLII_PLATFORM_DOMAIN", "apps.localhost"},
    {"api", "ENCLII_SEAL_KEY_FILE", "{home}/secrets/seal"},
    {"api", "ENCLII_WEBHOOK_URL", "http://127.0.0.1:{webhook}"},
};

/* What the surroundings say about reaching the network, for git, buildah and syft. */
static const char *const passed_on[] = {
    "PATH",           "HOME",        "TZ",       "http_proxy",    "https_proxy",  "no_proxy",
    "HTTP_PROXY",     "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
};

bool local_needed(const struct local *local, const struct component *component)
{
    return !component->done_file ||
           access(local_expand(local, component, component->done_file), F_OK) != 0;
}

const char *const *local_argv(const struct local *local, const struct component *component)
{
    if (component->command) {
        return local_words(local, component, component->command);
    }
    const char *const prefix = AS_POSTGRES "sh -ec";
    const char *const *words = local_words(local, component, prefix);
    size_t count = 0;
    while (words[count]) {
        count++;
    }
    const char **argv = ec_arena_alloc(local->arena, (count + 4) * sizeof *argv);
    memcpy(argv, words, count * sizeof *argv);
    argv[count] = component->script;
    argv[count + 1] = component->name;
    argv[count + 2] = local->home;
    return argv;
}

static bool meant(const char *who, const struct component *component)
{
    return strcmp(who, "*") == 0 || strcmp(who, component->name) == 0 ||
           (strcmp(who, "service") == 0 && component->admin > 0);
}

const char *const *local_env(const struct local *local, const struct component *component)
{
    size_t max = EC_LEN(passed_on) + EC_LEN(environment) + 1, count = 0;
    const char **env = ec_arena_alloc(local->arena, max * sizeof *env);
    for (size_t i = 0; i < EC_LEN(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (value) {
            env[count++] = ec_arena_format(local->arena, "%s=%s", passed_on[i], value);
        }
    }
    for (size_t i = 0; i < EC_LEN(environment); i++) {
        if (meant(environment[i].who, component)) {
            env[count++] = ec_arena_format(local->arena, "%s=%s", environment[i].name,
                                           local_expand(local, component, environment[i].value));
        }
    }
    return env;
}
