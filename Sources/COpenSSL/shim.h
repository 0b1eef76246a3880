#pragma once
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/srtp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>

// What OpenSSL spells as macros that Swift cannot import.

static inline uint64_t everyframe_dtls_options(void) {
    return SSL_OP_NO_QUERY_MTU | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE
        | SSL_OP_PRIORITIZE_CHACHA;
}

// Parameters of EVP_KDF "TLS1-PRF"; they keep pointers to their names, which a Swift string's would not outlive.
static inline void everyframe_prf_parameters(OSSL_PARAM parameters[4], const char *hash, void *secret, size_t secretCount, void *seed, size_t seedCount) {
    parameters[0] = OSSL_PARAM_construct_utf8_string("digest", (char *)hash, 0);
    parameters[1] = OSSL_PARAM_construct_octet_string("secret", secret, secretCount);
    parameters[2] = OSSL_PARAM_construct_octet_string("seed", seed, seedCount);
    parameters[3] = OSSL_PARAM_construct_end();
}

// The handshake timer. Until OpenSSL 3.1, BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT hands the BIO the address of the connection's own
// deadline, which stays valid until SSL_free; from 3.2 on it is a copy.
static inline bool everyframe_timer_is_running(const void *deadline) {
    const struct timeval *value = (const struct timeval *)deadline;
    return value->tv_sec != 0 || value->tv_usec != 0;
}

static inline void everyframe_timer_set(void *deadline, int64_t seconds) {
    struct timeval *value = (struct timeval *)deadline;
    value->tv_sec = (time_t)seconds;
    value->tv_usec = 0;
}

// Microseconds until OpenSSL's own deadline; -1 while its timer is stopped.
static inline int64_t everyframe_timer_remaining(SSL *ssl) {
    struct timeval value;
    if (SSL_ctrl(ssl, DTLS_CTRL_GET_TIMEOUT, 0, &value) <= 0) return -1;
    return (int64_t)value.tv_sec * 1000000 + value.tv_usec;
}
