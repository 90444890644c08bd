/* See pem.h. */
#include "trust/pem.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

/* No key of ours has a password; asking on the terminal would block for ever. */
static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

struct ec_err ec_pem_key(struct ec_span pem, EVP_PKEY **ret_pkey, bool *ret_private)
{
    if (pem.len > EC_PEM_KEY_MAX_BYTES) {
        return ec_reject("a key file may have at most 16 KiB");
    }
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    *ret_private = memmem(pem.ptr, pem.len, "PRIVATE KEY-----", 16) != NULL;
    *ret_pkey = !bio           ? NULL
                : *ret_private ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)
                               : PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
    BIO_free(bio);
    ERR_clear_error();
    return ec_ok();
}
