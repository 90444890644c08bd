/* A non-blocking TLS handshake by OpenSSL on ec_poll, with a deadline. */
#include "tls_probe.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

struct probe {
    struct ec_loop *loop;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    struct ec_poll *poll;
    struct ec_timer *deadline;
    tls_probed_fn done;
    void *arg;
};

static void probe_free(struct probe *probe)
{
    ec_timer_free(probe->deadline);
    ec_poll_free(probe->poll);
    SSL_free(probe->ssl);
    SSL_CTX_free(probe->ctx);
    if (probe->fd >= 0) {
        close(probe->fd);
    }
    free(probe);
}

static void probe_end(struct probe *probe, struct ec_err err, const char *fingerprint)
{
    tls_probed_fn done = probe->done;
    void *arg = probe->arg;
    probe_free(probe);
    done(arg, err, fingerprint);
}

static void probe_answer(struct probe *probe)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    X509 *cert = SSL_get1_peer_certificate(probe->ssl);
    if (!cert || X509_digest(cert, EVP_sha256(), digest, &len) != 1) {
        X509_free(cert);
        probe_end(probe, ec_retry(0, "the router showed no certificate"), NULL);
        return;
    }
    X509_free(cert);
    for (unsigned int i = 0; i < len; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * len] = '\0';
    probe_end(probe, ec_ok(), hex);
}

static void probe_step(struct probe *probe)
{
    ERR_clear_error();
    int result = SSL_connect(probe->ssl);
    if (result == 1) {
        probe_answer(probe);
        return;
    }
    switch (SSL_get_error(probe->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        ec_poll_want(probe->poll, UV_READABLE);
        return;
    case SSL_ERROR_WANT_WRITE:
        ec_poll_want(probe->poll, UV_WRITABLE);
        return;
    case SSL_ERROR_SSL: /* an alert: unrecognized_name under strict-sni */
        probe_end(probe, ec_reject("the router serves no certificate for this name"), NULL);
        return;
    default:
        probe_end(probe, ec_retry(errno, "the router's HTTPS address is not reachable"), NULL);
    }
}

static void on_socket(void *arg, int status, int events)
{
    struct probe *probe = arg;
    (void)events;
    if (status < 0) {
        probe_end(probe, ec_retry(status, "the router's HTTPS address is not reachable"), NULL);
        return;
    }
    probe_step(probe);
}

static void on_deadline(void *arg)
{
    probe_end(arg, ec_retry(ETIMEDOUT, "the router did not finish a TLS handshake in time"), NULL);
}

static EC_RESULT address_parse(const char *address, struct sockaddr_storage *ret)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    if (!colon || len >= sizeof(host)) {
        return ec_fatal(0, "ENCLII_ROUTER_HTTPS must look like 127.0.0.1:8443");
    }
    memcpy(host, address, len);
    host[len] = '\0';
    int port = atoi(colon + 1);
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret) != 0 &&
        uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret) != 0) {
        return ec_fatal(0, "ENCLII_ROUTER_HTTPS must be a numeric address and a port");
    }
    return ec_ok();
}

static EC_RESULT probe_connect(struct probe *probe, const char *address, const char *hostname)
{
    struct sockaddr_storage to = {0};
    EC_TRY(address_parse(address, &to));
    probe->fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe->fd < 0) {
        return ec_retry(errno, "no socket is left");
    }
    socklen_t len =
        to.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (connect(probe->fd, (struct sockaddr *)&to, len) != 0 && errno != EINPROGRESS) {
        return ec_retry(errno, "the router's HTTPS address is not reachable");
    }
    probe->ctx = SSL_CTX_new(TLS_client_method());
    probe->ssl = probe->ctx ? SSL_new(probe->ctx) : NULL;
    if (!probe->ssl || SSL_set_fd(probe->ssl, probe->fd) != 1 ||
        SSL_set_tlsext_host_name(probe->ssl, hostname) != 1) {
        return ec_fatal(0, "OpenSSL could not be set up");
    }
    return ec_poll_new(probe->loop, probe->fd, on_socket, probe, &probe->poll);
}

EC_RESULT tls_probe_start(struct ec_loop *loop, const char *address, const char *hostname,
                          uint32_t deadline_ms, tls_probed_fn done, void *arg)
{
    struct probe *probe = ec_alloc(sizeof(*probe));
    *probe = (struct probe){.loop = loop, .fd = -1, .done = done, .arg = arg};
    struct ec_err err = probe_connect(probe, address, hostname);
    if (ec_failed(err)) {
        probe_free(probe);
        return err;
    }
    probe->deadline = ec_timer_new(loop, on_deadline, probe);
    ec_timer_start(probe->deadline, deadline_ms, 0);
    ec_poll_want(probe->poll, UV_WRITABLE);
    return ec_ok();
}
