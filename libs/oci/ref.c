/* Parses image references by hand: the grammar is small and the limits are its own (OCI
 * distribution specification, "Pulling manifests"). */
#include "oci/ref.h"

#include <ctype.h>
#include <string.h>

#include "trust/digest.h"

#define NAME_MAX_BYTES 255
#define TAG_MAX_BYTES 128

static size_t skip_alnum(const char *at)
{
    return strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789");
}

/* One separator: ".", "_", "__" or any number of "-". */
static size_t skip_separator(const char *at)
{
    if (at[0] == '-') {
        return strspn(at, "-");
    }
    if (at[0] == '_' && at[1] == '_') {
        return 2;
    }
    return at[0] == '.' || at[0] == '_' ? 1 : 0;
}

bool ec_repo_valid(const char *repo)
{
    size_t len = strlen(repo);
    if (len == 0 || len > NAME_MAX_BYTES) {
        return false;
    }
    for (const char *at = repo;;) {
        size_t run = skip_alnum(at);
        if (run == 0) {
            return false;
        }
        at += run;
        if (*at == '\0') {
            return true;
        }
        size_t gap = *at == '/' ? 1 : skip_separator(at);
        if (gap == 0) {
            return false;
        }
        at += gap;
    }
}

bool ec_tag_valid(const char *tag)
{
    size_t len = strlen(tag);
    if (len == 0 || len > TAG_MAX_BYTES || tag[0] == '.' || tag[0] == '-') {
        return false;
    }
    for (const char *at = tag; *at; at++) {
        if (!isalnum((unsigned char)*at) && !strchr("._-", *at)) {
            return false;
        }
    }
    return true;
}

static bool host_valid(const char *host)
{
    size_t len = strlen(host);
    bool bracketed = host[0] == '[';
    if (len == 0 || len > NAME_MAX_BYTES) {
        return false;
    }
    for (const char *at = host; *at; at++) {
        if (!isalnum((unsigned char)*at) && !strchr(bracketed ? ".:-[]" : ".:-", *at)) {
            return false;
        }
    }
    return strpbrk(host, ".:") || strcmp(host, "localhost") == 0;
}

char *ec_fallback_tag(struct ec_arena *arena, const char *digest)
{
    char *tag = ec_arena_strdup(arena, digest);
    char *colon = strchr(tag, ':');
    if (colon) {
        *colon = '-';
    }
    return tag;
}

struct ec_err ec_ref_parse(struct ec_arena *arena, const char *text, struct ec_ref *ret_ref)
{
    const char *slash = strchr(text, '/');
    if (!slash) {
        return ec_reject_in(
            arena, "\"%.200s\" is no image reference: write host/repository@sha256:…", text);
    }
    struct ec_ref ref = {.tag = "", .digest = ""};
    ref.host = ec_arena_text(arena, (struct ec_span){text, (size_t)(slash - text)});
    char *repo = ec_arena_strdup(arena, slash + 1);
    char *at = strchr(repo, '@');
    if (at) {
        *at = '\0';
        ref.digest = at + 1;
    }
    char *colon = strrchr(repo, ':');
    if (colon) {
        *colon = '\0';
        ref.tag = colon + 1;
    }
    ref.repo = repo;
    if (!host_valid(ref.host)) {
        return ec_reject_in(arena,
                            "\"%.200s\" begins with no registry host (host:port or a name "
                            "with a dot)",
                            text);
    }
    if (!ec_repo_valid(repo)) {
        return ec_reject_in(arena, "\"%.200s\" is no repository name", repo);
    }
    if ((colon && !ec_tag_valid(ref.tag)) || (at && !ec_digest_valid(ref.digest))) {
        return ec_reject_in(arena, "the tag or digest of \"%.200s\" is malformed", text);
    }
    *ret_ref = ref;
    return ec_ok();
}

char *ec_ref_text(struct ec_arena *arena, const struct ec_ref *ref)
{
    return ec_arena_format(arena, "%s/%s%s%s%s%s", ref->host, ref->repo, ref->tag[0] ? ":" : "",
                           ref->tag, ref->digest[0] ? "@" : "", ref->digest);
}
