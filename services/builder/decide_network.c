/* The network of a stranger's build is a tap device whose other end is slirp4netns, a process that
 * makes connections in the machine's network. What it must not connect to is closed by routes
 * inside, which a RUN line cannot change (no CAP_NET_ADMIN): a closed network needs no more than a
 * line, no firewall has to be there, and an address that is closed fails at once. There is no IPv6
 * inside. */
#include "decide_network.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

/* 198.18.255.0/24 is of isolate.sh: a range for benchmarks, so that nobody's own is hidden. */
#define INSIDE 0xc612ff00U
#define INSIDE_BITS 24
#define GATEWAY "198.18.255.2"
const char network_resolver[] = "198.18.255.3";

/* Where platforms, neighbours and clouds' metadata live. Not ec_address_public: the ranges for
 * documentation are not closed, because networks like ours use them for what is outside. */
static const struct network closed[] = {
    {0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0xa9fe0000, 16}, {0xac100000, 12},
    {0xc0a80000, 16}, {0xc6120000, 15}, {0xe0000000, 4},  {0xf0000000, 4},
};

static uint32_t mask_of(uint8_t bits)
{
    return bits == 0 ? 0 : 0xffffffffU << (32 - bits);
}

static bool contains(struct network outer, struct network inner)
{
    return outer.bits <= inner.bits && ((outer.address ^ inner.address) & mask_of(outer.bits)) == 0;
}

static bool parse(const char *word, struct network *ret)
{
    char address[32];
    size_t len = strcspn(word, "/");
    struct in_addr in;
    char *end = NULL;
    long bits = word[len] ? strtol(word + len + 1, &end, 10) : 32;
    if (len >= sizeof(address) || bits < 0 || bits > 32 || (end && (*end || !word[len + 1]))) {
        return false;
    }
    memcpy(address, word, len);
    address[len] = '\0';
    if (inet_pton(AF_INET, address, &in) != 1) {
        return false;
    }
    *ret = (struct network){ntohl(in.s_addr), (uint8_t)bits};
    return true;
}

const char *decide_networks(struct ec_arena *arena, const char *text,
                            struct network ret[NETWORKS_MAX], size_t *ret_count)
{
    size_t count = 0;
    for (const char *at = text + strspn(text, ", "); *at; at += strspn(at, ", ")) {
        size_t len = strcspn(at, ", ");
        const char *word = ec_arena_text(arena, (struct ec_span){at, len});
        if (count == NETWORKS_MAX || !parse(word, &ret[count])) {
            return ec_arena_format(arena,
                                   "\"%s\" is no IPv4 address or network: write \"10.1.2.3\" or "
                                   "\"10.9.0.0/16\", separated by commas, at most %d",
                                   word, NETWORKS_MAX);
        }
        count++;
        at += len;
    }
    *ret_count = count;
    return NULL;
}

static void add_route(struct ec_buf *out, const char *kind, struct network net, const char *more)
{
    uint32_t address = net.address & mask_of(net.bits);
    ec_buf_addf(out, "route replace %s%u.%u.%u.%u/%u%s\n", kind, address >> 24, address >> 16 & 255,
                address >> 8 & 255, address & 255, net.bits, more);
}

const char *decide_routes(struct ec_arena *arena, const struct network *own, size_t own_count,
                          const struct network *reach, size_t reach_count)
{
    static const struct network inside = {INSIDE, INSIDE_BITS};
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, 64 * 1024);
    for (size_t i = 0; i < EC_LEN(closed); i++) {
        add_route(&out, "prohibit ", closed[i], "");
    }
    /* The way out itself stays; slirp4netns answers for all of it, never the machine. */
    for (size_t i = 0; i < own_count; i++) {
        if (own[i].bits > 0 && !contains(inside, own[i]) && own[i].address >> 24 != 127) {
            add_route(&out, "prohibit ", own[i], "");
        }
    }
    for (size_t i = 0; i < reach_count; i++) { /* of all there is, it is the outside that is open */
        if (reach[i].bits > 0 && !contains(inside, reach[i])) {
            add_route(&out, "", reach[i], " via " GATEWAY);
        }
    }
    for (size_t i = 0; i < own_count; i++) { /* the last word */
        struct network one = {own[i].address, 32};
        if (!contains(inside, one) && one.address >> 24 != 127) {
            add_route(&out, "prohibit ", one, "");
        }
    }
    return ec_arena_text(arena, ec_buf_span(&out));
}
