/* SPDX-License-Identifier: Apache-2.0
 * net.h - HTTP requests over libcurl, for downloads and for the servers of other backends. Knows nothing of models, hubs or
 * chat; what a status code means for a task is its caller's knowledge.
 *
 * What always holds: only http and https; the server's certificate is checked ($SSL_CERT_FILE names other authorities);
 * http_proxy, https_proxy, all_proxy and no_proxy are honoured, but no proxy is asked for this machine's own addresses; redirects
 * are followed at most ten times, never from https to http, and what is secret goes to the first server only. */
#ifndef WE_NET_H
#define WE_NET_H

#include "base/base.h"
#include <stdatomic.h>

typedef struct we_net we_net; /* keeps its connections open between requests; one thread at a time */

/** user_agent: copied. Errors: WE_E_NOMEM. */
we_status we_net_open(we_net **out, const char *user_agent, we_error *err);
void we_net_close(we_net *net); /* NULL is allowed */

typedef struct we_net_header {
    const char *name, *value;
    bool secret; /* not to be sent to another server that a redirect names; Authorization always is */
} we_net_header;

typedef struct we_net_field {
    we_str name, value;
    int hop; /* 0: of the first answer; each redirect adds one */
} we_net_field;

typedef struct we_net_response {
    int status; /* 200; 0 where no answer came */
    int n_hops; /* redirects that were followed */
    const we_net_field *fields;
    size_t n_fields;
    we_buf body;       /* of answers that no `on_body` took: all of a 2xx one, the first 64 KiB of another */
    bool may_pass;     /* the failure or status looks like one that passes: a broken connection, 408, 425, 429, 5xx */
    bool is_refused;   /* nothing listens there */
    bool is_unreached; /* no connection came about: that, no such host, no answer in time */
    bool is_timeout;   /* one of the request's time limits was over */
    int retry_after_s; /* what the server asked for; 0 where it did not */
    we_arena arena;    /* of the fields */
} we_net_response;

typedef struct we_net_request {
    const char *method; /* NULL: GET */
    const char *url;
    const we_net_header *headers;
    size_t n_headers;
    we_str body;           /* sent where ptr is not NULL, an empty one too */
    int connect_timeout_s; /* 0: 15 */
    int idle_timeout_s;    /* no byte for so long; 0: 30, negative: no limit */
    bool no_redirects;     /* an answer that leads elsewhere is an answer like others */
    int timeout_ms;        /* for all of it, redirects apart; 0: no limit */
    size_t max_body;       /* of a collected 2xx body; 0: 64 MiB */
    /* Called once when the last answer's headers are complete, before its body. False ends the request: WE_E_CANCELLED. */
    bool (*on_head)(void *user, const we_net_response *response);
    /* Takes the bytes of a 2xx body as they come. False ends the request: WE_E_CANCELLED. */
    bool (*on_body)(void *user, const char *bytes, size_t n);
    void *user;
    const atomic_bool
        *cancel; /* set to true from anywhere: the request ends within a fraction of a second. NULL: none */
} we_net_request;

/** Send a request and wait for its end. A status of 400 and more is an answer, not an error.
 * response: out, zeroed by the call; free its insides with we_net_response_deinit, after an error too.
 * Errors : WE_E_NETWORK (no answer, or it broke off), WE_E_CANCELLED, WE_E_ARG (the URL), WE_E_FORMAT (body above max_body),
 *          WE_E_NOMEM. */
we_status we_net_send(we_net *net, const we_net_request *request, we_net_response *response, we_error *err);
void we_net_response_deinit(we_net_response *response);

/** A header of the last answer; names are compared without case. An empty str with ptr NULL where it is not there. */
we_str we_net_field_get(const we_net_response *response, const char *name);
/** The same, of an earlier answer: n counts from 0, the first server's. */
we_str we_net_field_at(const we_net_response *response, int n, const char *name);

/** Wait before another attempt: what Retry-After said, else 0.25 s, 0.5 s, 1 s, ... up to 30 s, each shortened at random by up to
 * a half, so that many clients do not come back at once.
 * attempt: 0 before the first repetition.
 * Returns: false where `cancel` became true, or the server asks for more than five minutes. */
bool we_net_wait(const we_net_response *response, int attempt, const atomic_bool *cancel);

/** An URL for messages and logs: without user, password and what stands behind '?' (signatures, keys). */
void we_net_url_clean(we_buf *out, const char *url);
/** Append text as a part of a path or query: all but letters, digits and "-._~" as %XX; '/' is kept where `path` is set. */
void we_net_url_escape(we_buf *out, we_str text, bool path);

#endif
