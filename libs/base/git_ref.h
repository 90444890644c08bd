/* Names of git refs, as git-check-ref-format(1) has them. They come from strangers and go to git,
 * events, pages and terminals. */
#pragma once

#include <stdbool.h>

#include "base/span.h"

#define EC_GIT_REF_MAX_BYTES 1024

/* True for what git takes as a name ("refs/heads/main", "main"), in UTF-8 and without the control
 * characters beyond ASCII that git would let pass. */
bool ec_git_ref_valid(struct ec_span ref);
