/* Secrets: one block of length and bytes, wiped with a call the compiler may not drop. */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_MAX_BYTES (size_t)(64 * 1024)

struct ec_secret {
    size_t len;
    char bytes[];
};

struct ec_secret *ec_secret_new(struct ec_span bytes)
{
    struct ec_secret *secret = ec_alloc(sizeof(*secret) + bytes.len + 1);
    secret->len = bytes.len;
    if (bytes.len > 0) {
        memcpy(secret->bytes, bytes.ptr, bytes.len);
    }
    return secret;
}

void ec_secret_free(struct ec_secret *secret)
{
    if (secret != NULL) {
        OPENSSL_cleanse(secret->bytes, secret->len);
        free(secret);
    }
}

void ec_secret_freep(struct ec_secret **secret)
{
    ec_secret_free(*secret);
    *secret = NULL;
}

struct ec_span ec_secret_use(const struct ec_secret *secret)
{
    return (struct ec_span){secret->bytes, secret->len};
}

/* Fills at most `room` bytes; -1 with errno on trouble. */
static ssize_t read_all(int fd, char *bytes, size_t room)
{
    size_t len = 0;
    while (len < room) {
        ssize_t got = read(fd, bytes + len, room - len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
    }
    return (ssize_t)len;
}

EC_RESULT ec_secret_read(const char *path, struct ec_secret **ret_secret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return ec_fatal(errno, "the secret file cannot be opened");
    }
    char *bytes = ec_alloc(FILE_MAX_BYTES + 1);
    ssize_t got = read_all(fd, bytes, FILE_MAX_BYTES + 1);
    int sys = errno;
    close(fd);
    struct ec_err err = ec_ok();
    if (got < 0) {
        err = ec_fatal(sys, "the secret file cannot be read");
    } else if ((size_t)got > FILE_MAX_BYTES) {
        err = ec_fatal(EFBIG, "the secret file is larger than 64 KiB");
    } else {
        size_t len = (size_t)got;
        len -= len > 0 && bytes[len - 1] == '\n' ? 1 : 0;
        *ret_secret = ec_secret_new((struct ec_span){bytes, len});
    }
    OPENSSL_cleanse(bytes, FILE_MAX_BYTES + 1);
    free(bytes);
    return err;
}
