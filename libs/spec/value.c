/* Forms of single values in a spec: durations, quantities as Kubernetes writes them, names. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/amount.h"
#include "base/mem.h"
#include "spec/internal.h"

bool spec_value_bool(const struct node *node, bool *ret)
{
    if (node->kind != NODE_TEXT || !node->plain ||
        (strcmp(node->text, "true") != 0 && strcmp(node->text, "false") != 0)) {
        return false;
    }
    *ret = node->text[0] == 't';
    return true;
}

bool spec_value_int(const struct node *node, int64_t *ret)
{
    if (node->kind != NODE_TEXT || !node->plain) {
        return false;
    }
    const char *digits = node->text + (node->text[0] == '-' ? 1 : 0);
    size_t len = strspn(digits, "0123456789");
    if (len == 0 || len > 18 || digits[len] != '\0') {
        return false;
    }
    *ret = strtoll(node->text, NULL, 10);
    return true;
}

bool spec_value_share(const char *text, double *ret)
{
    double number = 0;
    const char *at = text;
    if (!ec_amount_decimal(&at, &number)) {
        return false;
    }
    bool percent = strcmp(at, "%") == 0;
    if ((!percent && *at != '\0') || number > 100) {
        return false;
    }
    *ret = percent || number > 1 ? number / 100 : number;
    return true;
}

bool spec_value_env_name(const char *text)
{
    if (!isalpha((unsigned char)text[0]) && text[0] != '_') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && *c != '_') {
            return false;
        }
    }
    return strlen(text) <= 256;
}

static bool good_label(const char *text, size_t len)
{
    if (len == 0 || len > 63 || text[0] == '-' || text[len - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            text[i] != '-') {
            return false;
        }
    }
    return true;
}

bool spec_value_label(const char *text)
{
    return good_label(text, strlen(text));
}

bool spec_value_hostname(const char *text)
{
    if (strlen(text) > 253) {
        return false;
    }
    for (const char *label = text;; label++) {
        size_t len = strcspn(label, ".");
        if (!good_label(label, len)) {
            return false;
        }
        label += len;
        if (*label == '\0') {
            return true;
        }
    }
}

bool spec_value_relative_path(const char *text)
{
    if (text[0] == '\0' || text[0] == '/' || strlen(text) > 1024) {
        return false;
    }
    for (const char *segment = text;; segment++) {
        size_t len = strcspn(segment, "/");
        if (len == 2 && memcmp(segment, "..", 2) == 0) {
            return false;
        }
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)segment[i] < ' ' || segment[i] == 0x7f || segment[i] == '\\') {
                return false;
            }
        }
        segment += len;
        if (*segment == '\0') {
            return true;
        }
    }
}
