/* Private to this service; pure: what people enter at a git host's web page when we cannot call it,
 * and which of its webhooks is ours. */
#pragma once

#include "base/arena.h"
#include "githost/githost.h"

/* How to set up a webhook by hand. */
struct hook_page {
    const char *host;          /* "github", "" = we cannot tell what this server is */
    const char *path;          /* of our service webhook */
    const char *page;          /* URL of the page there; "" = not known */
    const char *const *events; /* by the names of that page, NULL-ended */
};
struct hook_page decide_hook_page(struct ec_arena *arena, enum ec_githost_kind kind,
                                  const char *repo_key);

/* Ours among them: by where it delivers, else by the id that we remember. NULL = none. */
const struct ec_githost_hook *decide_our_hook(const struct ec_githost_hook *list, size_t count,
                                              const char *url, const char *hook_id);
