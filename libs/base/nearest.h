/* "Did you mean ...": the known word that is nearest to what was typed. */
#pragma once

#include <stddef.h>

#include "base/span.h"

/* The known word with the least edit distance (insert, delete, replace, swap of neighbours, letter
 * case free); NULL when none is near enough to be meant. At most 64 bytes of a word are looked at.
 */
const char *ec_nearest(struct ec_span word, const char *const *known, size_t known_count);
