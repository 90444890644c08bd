/* Image references: host/repository[:tag][@sha256:...]. The host is always written out: a name
 * whose meaning depends on a default registry has no place in a platform that deploys by digest. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"

struct ec_ref {
    const char *host;   /* "127.0.0.1:5000" */
    const char *repo;   /* "acme/shop" */
    const char *tag;    /* "" when absent */
    const char *digest; /* "sha256:..."; "" when absent */
};

EC_RESULT ec_ref_parse(struct ec_arena *arena, const char *text, struct ec_ref *ret_ref);
char *ec_ref_text(struct ec_arena *arena, const struct ec_ref *ref);
bool ec_repo_valid(const char *repo);
bool ec_tag_valid(const char *tag);
/* The tag under which registries without the referrers API keep a subject's list: "sha256-<hex>".
 */
char *ec_fallback_tag(struct ec_arena *arena, const char *digest);
