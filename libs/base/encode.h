/* Hex, base64 (RFC 4648 §4), base64url without padding (§5) and percent encoding; checks of UTF-8.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/span.h"

char *ec_hex(struct ec_arena *arena, struct ec_span bytes); /* lower case */
/* Exactly 2*out_len hex digits of either case, else false and `out` is untouched. */
bool ec_unhex(struct ec_span text, unsigned char *out, size_t out_len);

char *ec_base64(struct ec_arena *arena, struct ec_span bytes);
char *ec_base64url(struct ec_arena *arena, struct ec_span bytes);
/* Both alphabets, padding optional; false on any other character. */
bool ec_unbase64(struct ec_arena *arena, struct ec_span text, struct ec_span *ret_bytes);

char *ec_percent(struct ec_arena *arena, struct ec_span text); /* keeps RFC 3986 unreserved only */
bool ec_unpercent(struct ec_arena *arena, struct ec_span text, struct ec_span *ret_text);

/* Bytes of the UTF-8 character (RFC 3629) the text starts with; 0 when it starts with none. */
size_t ec_utf8_len(struct ec_span text);
bool ec_utf8_valid(struct ec_span text);
/* Takes off what a cut by size left of a last character. */
void ec_utf8_trim(char *text);
/* A stranger's text made fit for events, pages and terminals: what is no UTF-8 becomes U+FFFD, each
 * control character but \n and \t (C1 and DEL too) a space; at most max_bytes, cut between
 * characters. */
char *ec_text_clean(struct ec_arena *arena, struct ec_span text, size_t max_bytes);
