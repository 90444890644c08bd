/* One exchange with a registry: fetch; on 401 get a token (or use the password) and fetch again,
 * once; on trouble that may pass wait and fetch again, twice. The exchange lives until its callback
 * has returned and is counted by the registry, which goes when it is closed and the last one has
 * ended. */
#include "oci/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "net/address.h"
#include "oci/auth.h"

#define TRIES_MAX 3
#define RETRY_AFTER_MAX_MS 10000
#define DEADLINE_MS 20000
#define TOKENS_MAX 256
#define TOKEN_LIFE_S 60 /* when the answer does not say (Docker token specification) */
#define TOKEN_MARGIN_MS 5000
#define REDIRECTS_MAX 5
#define CHALLENGES_MAX 8 /* of one answer */
#define TURNS_MAX 256
#define ERROR_BODY_MAX_BYTES 65536
/* Urls, headers, error texts and the token answer of one exchange. */
#define ARENA_MAX_BYTES (1u << 20)

struct token {
    struct ec_secret *secret;
    bool basic; /* "user:password" instead of a bearer token */
    int64_t until_ms;
};

struct turn {
    ec_call_fn fn;
    void *arg;
};

struct ec_registry {
    struct ec_loop *loop;
    struct ec_fetcher *fetcher;
    bool insecure;
    bool stopped;
    bool closed; /* to be freed with its last exchange and turn */
    uint32_t deadline_ms;
    struct ec_docker_config *docker_config;
    struct ec_map *tokens;  /* "host scope" -> struct token */
    struct exchange *first; /* under way */
    struct turn turns[TURNS_MAX];
    size_t turn_at, turn_count; /* ring; the first one has its turn */
};

struct exchange {
    struct ec_registry *registry;
    struct ec_arena *arena;
    struct exchange *next, *prev;
    struct ec_exchange_spec spec; /* texts in arena, body on the heap */
    const char *origin;           /* "http://host" of the registry */
    const char *scope;
    const char *token_key;
    char *body;
    bool challenged; /* one 401 was answered already */
    struct ec_fetch *fetch;
    struct ec_timer *timer;
    struct ec_backoff backoff;
    unsigned tries;
    ec_fetch_fn done;
    void *arg;
};

static void try_once(void *arg);

/* ---- the registry ---- */

static void free_token(void *value)
{
    struct token *token = value;
    if (token) {
        ec_secret_free(token->secret);
        free(token);
    }
}

static void free_if_over(struct ec_registry *registry)
{
    if (registry->closed && !registry->first && registry->turn_count == 0) {
        ec_map_free(registry->tokens, free_token);
        ec_docker_config_free(registry->docker_config);
        free(registry);
    }
}

struct ec_err ec_registry_open(const struct ec_registry_spec *spec,
                               struct ec_registry **ret_registry)
{
    struct ec_arena *arena = ec_arena_new(ARENA_MAX_BYTES);
    struct ec_docker_config *config = NULL;
    struct ec_err err = ec_docker_config_read(arena, spec->docker_config_file, &config);
    if (ec_failed(err)) {
        /* Its text may live in the arena; the file's name is what people need. */
        ec_arena_free(arena);
        return ec_reject("the Docker config file cannot be read: it must be JSON with "
                         "auths.<host>.auth = base64(user:password)");
    }
    ec_arena_free(arena);
    struct ec_registry *registry = ec_alloc(sizeof(*registry));
    registry->loop = spec->loop;
    registry->fetcher = spec->fetcher;
    registry->insecure = spec->insecure;
    registry->deadline_ms = spec->deadline_ms ? spec->deadline_ms : DEADLINE_MS;
    registry->docker_config = config;
    registry->tokens = ec_map_new(TOKENS_MAX);
    *ret_registry = registry;
    return ec_ok();
}

void ec_registry_stop(struct ec_registry *registry)
{
    if (registry->stopped) {
        return;
    }
    registry->stopped = true;
    for (struct exchange *ex = registry->first; ex; ex = ex->next) {
        if (ex->fetch) {
            ec_fetch_cancel(ex->fetch);
        } else {
            ec_timer_start(ex->timer, 0, 0);
        }
    }
}

void ec_registry_close(struct ec_registry *registry)
{
    if (registry) {
        ec_registry_stop(registry);
        registry->closed = true;
        free_if_over(registry);
    }
}

struct ec_loop *ec_registry_loop(const struct ec_registry *registry)
{
    return registry->loop;
}

/* ---- turns ---- */

struct ec_err ec_registry_wait_turn(struct ec_registry *registry, ec_call_fn fn, void *arg)
{
    if (registry->turn_count == TURNS_MAX) {
        return ec_retry(0, "too many updates of referrer lists wait");
    }
    size_t at = (registry->turn_at + registry->turn_count) % TURNS_MAX;
    registry->turns[at] = (struct turn){fn, arg};
    registry->turn_count++;
    if (registry->turn_count == 1) {
        ec_loop_defer(registry->loop, fn, arg);
    }
    return ec_ok();
}

void ec_registry_turn_over(struct ec_registry *registry)
{
    registry->turn_at = (registry->turn_at + 1) % TURNS_MAX;
    registry->turn_count--;
    if (registry->turn_count > 0) {
        struct turn *turn = &registry->turns[registry->turn_at];
        ec_loop_defer(registry->loop, turn->fn, turn->arg);
    }
    free_if_over(registry);
}

/* ---- the end of an exchange ---- */

static void finish(struct exchange *ex, struct ec_err err, const struct ec_fetch_result *result)
{
    struct ec_registry *registry = ex->registry;
    if (registry->stopped && ec_failed(err)) {
        err = ec_retry(0, "the registry client was stopped");
    }
    ex->done(ex->arg, err, result);
    if (ex->prev) {
        ex->prev->next = ex->next;
    } else {
        registry->first = ex->next;
    }
    if (ex->next) {
        ex->next->prev = ex->prev;
    }
    ec_timer_free(ex->timer);
    free(ex->body);
    ec_arena_free(ex->arena);
    free(ex);
    free_if_over(registry);
}

static uint32_t retry_delay_ms(struct exchange *ex, const struct ec_fetch_result *result)
{
    uint32_t delay_ms = ec_backoff_next_ms(&ex->backoff);
    const char *after = result ? ec_fetch_header(result, "retry-after") : NULL;
    long seconds = after ? strtol(after, NULL, 10) : 0; /* a date is not worth parsing: 0 */
    if (seconds > 0 && seconds <= RETRY_AFTER_MAX_MS / 1000) {
        delay_ms = (uint32_t)seconds * 1000;
    }
    return delay_ms;
}

/* The try ended without the wanted answer: again later, or that was it. */
static void end_try(struct exchange *ex, struct ec_err err, const struct ec_fetch_result *result)
{
    bool again = err.fate == EC_FATE_RETRY && ex->tries < TRIES_MAX && !ex->registry->stopped;
    if (!again) {
        finish(ex, err, result);
        return;
    }
    ec_timer_start(ex->timer, retry_delay_ms(ex, result), 0);
}

/* Codes of the registry that may pass. DIGEST_INVALID is among them: we computed the digest
 * ourselves, and docker-registry says it too when another upload is just rewriting a link to the
 * same blob. BLOB_UPLOAD_UNKNOWN comes when an upload is sent again because its answer was lost. */
static bool code_may_pass(const char *code)
{
    static const char *const codes[] = {"BLOB_UPLOAD_INVALID",
                                        "BLOB_UPLOAD_UNKNOWN",
                                        "DIGEST_INVALID",
                                        "TOOMANYREQUESTS",
                                        "UNKNOWN",
                                        "UNAVAILABLE"};
    for (size_t i = 0; i < EC_LEN(codes); i++) {
        if (strcmp(code, codes[i]) == 0) {
            return true;
        }
    }
    return false;
}

static struct ec_err status_error(struct exchange *ex, const struct ec_fetch_result *result)
{
    int status = result->status;
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (result->body.len > 0 && result->body.len <= ERROR_BODY_MAX_BYTES) {
        ec_ignore(ec_json_parse(ex->arena, result->body, &root)); /* proxies answer in HTML */
    }
    const char *code = ec_json_text(root, "errors.0.code");
    const char *what =
        ec_arena_format(ex->arena, "registry answered %d to %s %.300s%s%.80s%s%.200s", status,
                        ex->spec.method, ex->spec.url, code[0] ? ": " : "", code,
                        code[0] ? ", " : "", ec_json_text(root, "errors.0.message"));
    /* 499 and 522 come from proxies in front of registries. */
    if (status == 499 || status == 522 || (ex->spec.push && code_may_pass(code))) {
        return ec_retry(status, what);
    }
    return ec_fetch_status_err(status, what);
}

/* ---- authentication ---- */

static void keep_token(struct exchange *ex, struct token token)
{
    struct ec_map *tokens = ex->registry->tokens;
    struct token *kept = ec_alloc(sizeof(*kept));
    *kept = token;
    free_token(ec_map_remove(tokens, ex->token_key));
    if (!ec_map_put(tokens, ex->token_key, kept)) {
        /* Full: forget all, they are cheap to get again. */
        ec_map_free(tokens, free_token);
        ex->registry->tokens = ec_map_new(TOKENS_MAX);
        (void)ec_map_put(ex->registry->tokens, ex->token_key, kept); /* empty: it fits */
    }
}

static void on_token(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct exchange *ex = arg;
    ex->fetch = NULL;
    if (ec_failed(err) || result->status != 200) {
        err = ec_failed(err) ? err
                             : ec_fetch_status_err(result->status,
                                                   "the registry's token service refused us: check "
                                                   "the password in the Docker config file");
        ex->challenged = false; /* not answered yet */
        ex->tries++;
        end_try(ex, err, NULL);
        return;
    }
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    const char *text = "";
    if (!ec_failed(ec_json_parse(ex->arena, result->body, &root))) {
        text = ec_json_text(root, "token");
        text = text[0] ? text : ec_json_text(root, "access_token");
    }
    if (!text[0]) {
        finish(ex, ec_reject("the registry's token service answered without a token"), NULL);
        return;
    }
    int64_t life_s = ec_json_int(root, "expires_in", TOKEN_LIFE_S);
    life_s = life_s < 10 ? 10 : life_s > 3600 ? 3600 : life_s;
    keep_token(ex, (struct token){ec_secret_new(ec_span_of(text)), false,
                                  ec_mono_ms() + life_s * 1000 - TOKEN_MARGIN_MS});
    try_once(ex);
}

/* A realm may be elsewhere, but never less protected than the registry itself. */
static bool realm_allowed(const struct exchange *ex, const char *realm)
{
    bool plain_registry = strncmp(ex->origin, "http://", 7) == 0;
    return strncmp(realm, "https://", 8) == 0 ||
           (plain_registry && strncmp(realm, "http://", 7) == 0 && ec_host_loopback(realm + 7));
}

static struct ec_err fetch_token(struct exchange *ex, const struct ec_challenge *challenge,
                                 const char *basic)
{
    if (!realm_allowed(ex, challenge->realm)) {
        return ec_reject("the registry names a token service without https");
    }
    const char *scope = challenge->scope[0] ? challenge->scope : ex->scope;
    struct ec_fetch_spec spec = {
        .url = ec_token_url(ex->arena, challenge, scope),
        .basic = basic,
        .deadline_ms = ex->registry->deadline_ms,
        .body_max_bytes = 65536,
    };
    return ec_fetch_start(ex->registry->fetcher, &spec, on_token, ex, &ex->fetch);
}

static struct ec_err answer_challenge(struct exchange *ex, const struct ec_fetch_result *result)
{
    struct ec_challenge best = {0};
    bool found = false;
    unsigned looked_at = 0;
    for (size_t i = 0; i < result->header_count; i++) {
        struct ec_challenge challenge;
        if (strcmp(result->headers[i].name, "www-authenticate") == 0 &&
            looked_at++ < CHALLENGES_MAX &&
            ec_challenge_parse(ex->arena, result->headers[i].value, &challenge) &&
            (!found || challenge.bearer)) {
            best = challenge;
            found = true;
        }
    }
    const struct ec_secret *login =
        ec_docker_config_find(ex->registry->docker_config, ex->spec.image->host);
    char *basic = login ? ec_arena_text(ex->arena, ec_secret_use(login)) : NULL;
    if (found && best.bearer) {
        return fetch_token(ex, &best, basic);
    }
    if (!found || !login) {
        return ec_reject_in(ex->arena,
                            "registry %s wants a password: add it to the Docker config "
                            "file",
                            ex->spec.image->host);
    }
    keep_token(ex, (struct token){ec_secret_new(ec_secret_use(login)), true, INT64_MAX});
    ec_timer_start(ex->timer, 0, 0); /* the next try carries it */
    return ec_ok();
}

/* ---- a try ---- */

static void on_answer(void *arg, struct ec_err err, const struct ec_fetch_result *result)
{
    struct exchange *ex = arg;
    ex->fetch = NULL;
    if (ec_failed(err)) {
        end_try(ex, err, NULL);
        return;
    }
    if (result->status == 401 && !ex->challenged) {
        ex->challenged = true;
        ex->tries--;
        free_token(ec_map_remove(ex->registry->tokens, ex->token_key));
        err = answer_challenge(ex, result);
        if (ec_failed(err)) {
            finish(ex, err, result);
        }
        return;
    }
    if (result->status >= 200 && result->status < 300) {
        finish(ex, ec_ok(), result);
        return;
    }
    end_try(ex, status_error(ex, result), result);
}

static const struct token *find_token(const struct exchange *ex)
{
    const struct token *token = ec_map_get(ex->registry->tokens, ex->token_key);
    /* Only the registry itself gets it: an upload may have been sent elsewhere. */
    size_t len = strlen(ex->origin);
    bool ours = strncmp(ex->spec.url, ex->origin, len) == 0 && ex->spec.url[len] == '/';
    return token && ours && token->until_ms > ec_mono_ms() ? token : NULL;
}

static void try_once(void *arg)
{
    struct exchange *ex = arg;
    if (ex->registry->stopped) {
        finish(ex, ec_retry(0, "the registry client was stopped"), NULL);
        return;
    }
    ex->tries++;
    struct ec_header headers[2];
    size_t count = 0;
    if (ex->spec.accept) {
        headers[count++] = (struct ec_header){"Accept", ex->spec.accept};
    }
    if (ex->spec.content_type) {
        headers[count++] = (struct ec_header){"Content-Type", ex->spec.content_type};
    }
    const struct token *token = find_token(ex);
    bool reads = strcmp(ex->spec.method, "GET") == 0 || strcmp(ex->spec.method, "HEAD") == 0;
    struct ec_fetch_spec spec = {
        .method = ex->spec.method,
        .url = ex->spec.url,
        .headers = headers,
        .header_count = count,
        .bearer = token && !token->basic ? token->secret : NULL,
        .basic =
            token && token->basic ? ec_arena_text(ex->arena, ec_secret_use(token->secret)) : NULL,
        .body = ex->spec.body,
        .deadline_ms = ex->registry->deadline_ms,
        .body_max_bytes = ex->spec.body_max_bytes,
        .redirects_max = reads ? REDIRECTS_MAX : 0,
    };
    struct ec_err err = ec_fetch_start(ex->registry->fetcher, &spec, on_answer, ex, &ex->fetch);
    if (ec_failed(err)) {
        end_try(ex, err, NULL);
    }
}

struct ec_err ec_exchange_start(struct ec_registry *registry, const struct ec_exchange_spec *spec,
                                ec_fetch_fn done, void *arg)
{
    if (registry->stopped) {
        return ec_retry(0, "the registry client was stopped");
    }
    struct exchange *ex = ec_alloc(sizeof(*ex));
    ex->registry = registry;
    ex->arena = ec_arena_new(ARENA_MAX_BYTES);
    ex->spec = *spec;
    bool plain = registry->insecure && ec_host_loopback(spec->image->host);
    ex->origin = ec_arena_format(ex->arena, "%s://%s", plain ? "http" : "https", spec->image->host);
    ex->spec.url = spec->url[0] == '/' ? ec_arena_format(ex->arena, "%s%s", ex->origin, spec->url)
                                       : ec_arena_strdup(ex->arena, spec->url);
    struct ec_ref *image = ec_arena_alloc(ex->arena, sizeof(*image));
    image->host = ec_arena_strdup(ex->arena, spec->image->host);
    image->repo = ec_arena_strdup(ex->arena, spec->image->repo);
    ex->spec.image = image;
    ex->scope = ec_arena_format(ex->arena, "repository:%s:%s", image->repo,
                                spec->push ? "pull,push" : "pull");
    ex->token_key = ec_arena_format(ex->arena, "%s %s", image->host, ex->scope);
    if (spec->body.len > 0) {
        ex->body = ec_alloc(spec->body.len);
        memcpy(ex->body, spec->body.ptr, spec->body.len);
        ex->spec.body.ptr = ex->body;
    }
    ex->timer = ec_timer_new(registry->loop, try_once, ex);
    ex->backoff = (struct ec_backoff){.first_ms = 500, .cap_ms = 3000};
    ex->done = done;
    ex->arg = arg;
    ex->next = registry->first;
    if (ex->next) {
        ex->next->prev = ex;
    }
    registry->first = ex;
    ec_timer_start(ex->timer, 0, 0);
    return ec_ok();
}
