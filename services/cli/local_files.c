/* What the platform's parts need before they start: folders, secrets made at first start, and the
 * configuration of the tools, written anew at every start so that it always fits the ports. */
#include "local.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/encode.h"
#include "base/json.h"
#include "base/mem.h"
#include "trust/keyring.h"
#include "trust/token.h"

/* The one place that names it: image names without a registry mean this one. */
#define DOCKER_HUB "docker.io"

/* 0711 of ca: its certificate is for everybody, who trusts it; its key has 0600. */
static const struct {
    const char *path;
    mode_t mode;
} folders[] = {
    {"secrets", 0700},  {"run", 0711},    {"conf", 0755},         {"logs", 0755},
    {"postgres", 0700}, {"kafka", 0700},  {"kafka/logs", 0700},   {"kafka/tmp", 0700},
    {"registry", 0700}, {"engine", 0700}, {"builder", 0700},      {"git", 0755},
    {"objects", 0700},  {"router", 0755}, {"router/certs", 0700}, {"ca", 0711},
    {"signer", 0700},
};

static const char kafka_properties[] =
    "process.roles=broker,controller\n"
    "node.id=1\n"
    "controller.quorum.voters=1@127.0.0.1:%2$d\n"
    "controller.listener.names=CONTROLLER\n"
    "listeners=PLAINTEXT://127.0.0.1:%1$d,CONTROLLER://127.0.0.1:%2$d\n"
    "advertised.listeners=PLAINTEXT://127.0.0.1:%1$d\n"
    "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
    "inter.broker.listener.name=PLAINTEXT\n"
    "log.dirs=%3$s/kafka/data\n"
    "auto.create.topics.enable=false\n"
    "num.partitions=1\n"
    "default.replication.factor=1\n"
    "min.insync.replicas=1\n"
    "offsets.topic.replication.factor=1\n"
    "offsets.topic.num.partitions=4\n"
    "transaction.state.log.replication.factor=1\n"
    "transaction.state.log.min.isr=1\n"
    "transaction.state.log.num.partitions=4\n"
    "share.coordinator.state.topic.replication.factor=1\n"
    "share.coordinator.state.topic.min.isr=1\n"
    "share.coordinator.state.topic.num.partitions=4\n"
    "group.initial.rebalance.delay.ms=0\n"
    "log.cleaner.dedupe.buffer.size=4194304\n"
    "log.cleaner.io.buffer.size=131072\n"
    "num.network.threads=2\n"
    "num.io.threads=4\n"
    "background.threads=2\n"
    "num.recovery.threads.per.data.dir=1\n"
    "log.segment.bytes=67108864\n"
    "log.index.size.max.bytes=1048576\n"
    "log.retention.hours=168\n"
    "broker.session.timeout.ms=3000\n"
    "broker.heartbeat.interval.ms=500\n"
    "metadata.max.idle.interval.ms=5000\n";

static const char kafka_log4j[] =
    "status = error\n"
    "name = kafka\n"
    "shutdownHook = disable\n"
    "appender.f.type = RollingFile\n"
    "appender.f.name = F\n"
    "appender.f.fileName = ${sys:kafka.logs.dir}/server.log\n"
    "appender.f.filePattern = ${sys:kafka.logs.dir}/server.log.%i\n"
    "appender.f.layout.type = PatternLayout\n"
    "appender.f.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p [%t] %c{1} - %m%n\n"
    "appender.f.policies.type = Policies\n"
    "appender.f.policies.size.type = SizeBasedTriggeringPolicy\n"
    "appender.f.policies.size.size = 10MB\n"
    "appender.f.strategy.type = DefaultRolloverStrategy\n"
    "appender.f.strategy.max = 2\n"
    "rootLogger.level = ${sys:kafka.log.level:-warn}\n"
    "rootLogger.appenderRef.f.ref = F\n"
    "logger.up.name = kafka.server.KafkaRaftServer\n"
    "logger.up.level = info\n";

static const char registry_config[] =
    "version: 0.1\n"
    "log: {level: warn, accesslog: {disabled: true}}\n"
    "storage: {filesystem: {rootdirectory: %2$s/registry}, delete: {enabled: true}}\n"
    "http: {addr: 127.0.0.1:%1$d}\n";

/* Base images come from our registry when it has them, else from the usual place. */
static const char registries_config[] = "unqualified-search-registries = [\"" DOCKER_HUB "\"]\n"
                                        "short-name-mode = \"permissive\"\n"
                                        "[[registry]]\n"
                                        "prefix = \"" DOCKER_HUB "\"\n"
                                        "location = \"" DOCKER_HUB "\"\n"
                                        "[[registry.mirror]]\n"
                                        "location = \"127.0.0.1:%1$d\"\n"
                                        "insecure = true\n"
                                        "[[registry]]\n"
                                        "prefix = \"127.0.0.1:%1$d\"\n"
                                        "location = \"127.0.0.1:%1$d\"\n"
                                        "insecure = true\n";

/* Both limits are named: podman's defaults lie above what a container may have on many machines. */
static const char containers_config[] =
    "[containers]\n"
    "default_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n"
    "log_driver = \"k8s-file\"\n"
    "[engine]\n"
    "runtime = \"%1$s\"\n"
    "cgroup_manager = \"cgroupfs\"\n"
    "events_logger = \"file\"\n"
    "tmp_dir = \"%2$s/run/engine-tmp\"\n"
    "[network]\n"
    "network_config_dir = \"%2$s/engine/networks\"\n";

static const char storage_config[] = "[storage]\n"
                                     "driver = \"overlay\"\n"
                                     "graphroot = \"%1$s/engine/storage\"\n"
                                     "runroot = \"%1$s/run/engine\"\n";

static const char policy_config[] = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n";

/* One process, as whoever started it; the CGI side is fcgiwrap. */
static const char git_config[] =
    "daemon off;\n"
    "master_process off;\n"
    "worker_processes 1;\n"
    "pid %2$s/run/nginx.pid;\n"
    "error_log stderr warn;\n"
    "events { worker_connections 128; }\n"
    "http {\n"
    "    access_log off;\n"
    "    client_max_body_size 0;\n"
    "    client_body_temp_path %2$s/run/nginx-body;\n"
    "    fastcgi_temp_path %2$s/run/nginx-fastcgi;\n"
    "    proxy_temp_path %2$s/run/nginx-proxy;\n"
    "    uwsgi_temp_path %2$s/run/nginx-uwsgi;\n"
    "    scgi_temp_path %2$s/run/nginx-scgi;\n"
    "    server {\n"
    "        listen 127.0.0.1:%1$d;\n"
    "        location = /health { return 200 \"ok\\n\"; }\n"
    "        location ~ ^(/.*\\.git/.*)$ {\n"
    "            fastcgi_pass unix:%2$s/run/git.sock;\n"
    "            fastcgi_read_timeout 600s;\n"
    "            fastcgi_buffering off;\n"
    "            fastcgi_request_buffering on;\n"
    "            fastcgi_param SCRIPT_FILENAME %3$s;\n"
    "            fastcgi_param PATH_INFO $1;\n"
    "            fastcgi_param GIT_PROJECT_ROOT %2$s/git;\n"
    "            fastcgi_param GIT_HTTP_EXPORT_ALL 1;\n"
    "            fastcgi_param REMOTE_USER $remote_user;\n"
    "            fastcgi_param REMOTE_ADDR $remote_addr;\n"
    "            fastcgi_param GIT_PROTOCOL $http_git_protocol;\n"
    "            fastcgi_param REQUEST_METHOD $request_method;\n"
    "            fastcgi_param QUERY_STRING $query_string;\n"
    "            fastcgi_param CONTENT_TYPE $content_type;\n"
    "            fastcgi_param CONTENT_LENGTH $content_length;\n"
    "            fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;\n"
    "        }\n"
    "    }\n"
    "}\n";

static EC_RESULT make_folders(const struct local *local)
{
    for (size_t i = 0; i < EC_LEN(folders); i++) {
        EC_TRY(local_make_folder(local, local_path(local, folders[i].path), folders[i].mode));
    }
    return ec_ok();
}

/* PostgreSQL refuses to run as root: its folder belongs to Debian's user for it. */
static EC_RESULT give_postgres_folder(const struct local *local)
{
    if (geteuid() != 0) {
        return ec_ok();
    }
    const struct passwd *user = getpwnam("postgres");
    if (!user) {
        return ec_reject("there is no user \"postgres\": run tools/setup");
    }
    const char *path = local_path(local, "postgres");
    if (chown(path, user->pw_uid, user->pw_gid) != 0) {
        return ec_retry_in(local->arena, errno, "cannot give %s to the user postgres: %s", path,
                           strerror(errno));
    }
    return ec_ok();
}

static bool have_secret(const struct local *local, const char *name)
{
    return access(ec_arena_format(local->arena, "%s/secrets/%s", local->home, name), R_OK) == 0;
}

static EC_RESULT keep_secret(const struct local *local, const char *name, const char *text)
{
    return local_write_file(
        local, ec_arena_format(local->arena, "%s/secrets/%s", local->home, name), text, 0600);
}

static EC_RESULT make_random_secret(const struct local *local, const char *name, const char *prefix)
{
    if (have_secret(local, name)) {
        return ec_ok();
    }
    unsigned char bytes[32];
    EC_TRY(ec_random_bytes(bytes, sizeof bytes));
    const char *hex = ec_hex(local->arena, (struct ec_span){(const char *)bytes, sizeof bytes});
    return keep_secret(local, name, ec_arena_format(local->arena, "%s%s\n", prefix, hex));
}

static void free_bio(BIO **bio)
{
    BIO_free_all(*bio);
}

static void free_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

/* What was signed before a rotation verifies with them; as many as the API takes behind the new. */
static const char *older_public_keys(const struct local *local)
{
    static const char end_of_key[] = "-----END PUBLIC KEY-----\n";
    char *keys = local_read_file(local, local_path(local, "secrets/" LOCAL_OLDER_KEYS));
    char *end = keys;
    for (size_t count = 1; end && count < EC_KEYRING_MAX; count++) {
        char *found = strstr(end, end_of_key);
        end = found ? found + strlen(end_of_key) : NULL;
    }
    if (end) {
        *end = '\0';
    }
    return keys ? keys : "";
}

/* P-256, PKCS#8 PEM: what cosign calls a key, and what `signer` reads. The public half beside it.
 */
static EC_RESULT make_signing_key(const struct local *local)
{
    if (have_secret(local, "signing.pem") && have_secret(local, "signing.pub")) {
        return ec_ok();
    }
    ec_cleanup(free_key) EVP_PKEY *key = EVP_EC_gen("P-256");
    ec_cleanup(free_bio) BIO *secret = BIO_new(BIO_s_secmem());
    ec_cleanup(free_bio) BIO *open = BIO_new(BIO_s_mem());
    if (!key || !secret || !open ||
        !PEM_write_bio_PKCS8PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) ||
        !PEM_write_bio_PUBKEY(open, key)) {
        return ec_fatal(0, "OpenSSL could not make a P-256 key");
    }
    char *text = NULL;
    long len = BIO_get_mem_data(secret, &text);
    EC_TRY(keep_secret(local, "signing.pem",
                       ec_arena_text(local->arena, (struct ec_span){text, (size_t)len})));
    len = BIO_get_mem_data(open, &text);
    EC_TRY(keep_secret(
        local, "signing.pub",
        ec_arena_format(local->arena, "%.*s%s", (int)len, text, older_public_keys(local))));
    (void)unlink(local_path(local, "secrets/" LOCAL_OLDER_KEYS));
    return ec_ok();
}

static EC_RESULT make_secrets(const struct local *local)
{
    EC_TRY(make_random_secret(local, "webhook", ""));
    EC_TRY(make_random_secret(local, "seal", ""));
    EC_TRY(make_random_secret(local, "postgres", ""));
    EC_TRY(make_random_secret(local, "admin_token", "enclii_"));
    EC_TRY(make_signing_key(local));
    return keep_secret(local, "database_url",
                       ec_arena_format(local->arena, "postgresql://enclii:%s@127.0.0.1:%d/enclii\n",
                                       local_secret(local, "postgres"),
                                       local->ports[PORT_POSTGRES]));
}

static EC_RESULT write_config(const struct local *local, const char *name, const char *text)
{
    return local_write_file(local, ec_arena_format(local->arena, "%s/conf/%s", local->home, name),
                            text, 0644);
}

/* runc where it is, else crun: both are in Debian, tools/setup installs both. */
static const char *container_runtime(void)
{
    return access("/usr/sbin/runc", X_OK) == 0 || access("/usr/bin/runc", X_OK) == 0 ? "runc"
                                                                                     : "crun";
}

static EC_RESULT write_configs(const struct local *local)
{
    struct ec_arena *arena = local->arena;
    const int *ports = local->ports;
    EC_TRY(write_config(local, "kafka.properties",
                        ec_arena_format(arena, kafka_properties, ports[PORT_KAFKA],
                                        ports[PORT_KAFKA_CONTROLLER], local->home)));
    EC_TRY(write_config(local, "kafka-log4j2.properties", kafka_log4j));
    EC_TRY(
        write_config(local, "registry.yml",
                     ec_arena_format(arena, registry_config, ports[PORT_REGISTRY], local->home)));
    EC_TRY(write_config(local, "registries.conf",
                        ec_arena_format(arena, registries_config, ports[PORT_REGISTRY])));
    EC_TRY(write_config(local, "policy.json", policy_config));
    EC_TRY(
        write_config(local, "containers.conf",
                     ec_arena_format(arena, containers_config, container_runtime(), local->home)));
    EC_TRY(write_config(local, "storage-engine.conf",
                        ec_arena_format(arena, storage_config, local->home)));
    EC_TRY(write_config(local, "nginx.conf",
                        ec_arena_format(arena, git_config, ports[PORT_GIT], local->home,
                                        "/usr/lib/git-core/git-http-backend")));
    return write_config(local, "haproxy.cfg", local_router_config(local));
}

/* HAProxy reads both at its start and wants them to exist; domain and reconciler fill them. */
static EC_RESULT make_router_files(const struct local *local)
{
    static const char *const names[] = {"router/hosts.map", "router/crt.list"};
    for (size_t i = 0; i < EC_LEN(names); i++) {
        const char *path = local_path(local, names[i]);
        if (access(path, F_OK) != 0) {
            EC_TRY(local_write_file(local, path, "", 0644));
        }
    }
    return ec_ok();
}

/* For `enclii` on this machine (address, token) and for the next start (ports). */
static EC_RESULT remember(const struct local *local)
{
    json_t *root = json_pack("{s:s}", "home", local->home);
    for (int i = 0; i < PORT_COUNT; i++) {
        json_object_set_new(root, local_ports[i].setting, json_integer(local->ports[i]));
    }
    const char *text = ec_arena_format(local->arena, "%s\n", ec_json_dump(local->arena, root));
    json_decref(root);
    return local_write_file(local, local_path(local, "local.json"), text, 0644);
}

/* After a reboot nothing in run/ means anything. */
static void forget_last_boot(const struct local *local)
{
    const char *now = local_read_file(local, "/proc/sys/kernel/random/boot_id");
    const char *path = local_path(local, "boot");
    const char *then = local_read_file(local, path);
    if (now && then && strcmp(now, then) != 0) {
        unlink(local_path(local, "run/state.json"));
    }
    if (now) {
        ec_ignore(local_write_file(local, path, now, 0644)); /* only a hint for the next start */
    }
}

EC_RESULT local_prepare(struct local *local)
{
    EC_TRY(local_make_folder(local, local->home, 0755));
    EC_TRY(local_mend_places(local));
    EC_TRY(make_folders(local));
    forget_last_boot(local);
    EC_TRY(give_postgres_folder(local));
    EC_TRY(make_secrets(local));
    EC_TRY(write_configs(local));
    EC_TRY(make_router_files(local));
    return remember(local);
}
