/* SPDX-License-Identifier: Apache-2.0
 * http_server.h - a server of the test's own on 127.0.0.1: a thread that accepts one connection after the other, keeps what
 * was asked, and answers with bytes that the test wrote, in pieces of any size. */
#ifndef WE_TESTS_HTTP_SERVER_H
#define WE_TESTS_HTTP_SERVER_H

#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct http_server {
    const char *const *answers; /* the n-th request gets the n-th; the connection closes behind it */
    size_t n_answers;
    size_t piece; /* bytes of one send; 0: all at once */
    bool hang;    /* keep the last connection open and silent until http_server_stop */
    int fd, port, hanging;
    pthread_t thread;
    we_buf asked; /* all requests, one behind the other */
} http_server;

static inline size_t http_server_length(const char *head)
{
    const char *line = strstr(head, "Content-Length: ");
    return line ? (size_t)atoi(line + 16) : 0;
}

static inline void http_server_read(http_server *s, int fd)
{
    const size_t start = s->asked.len;
    char bytes[4096];
    for (;;) {
        const char *end = s->asked.ptr ? strstr(s->asked.ptr + start, "\r\n\r\n") : NULL;
        if (end && (size_t)(s->asked.ptr + s->asked.len - end) >= 4 + http_server_length(s->asked.ptr + start)) return;
        const ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0) return;
        we_buf_append(&s->asked, bytes, (size_t)n);
    }
}

static inline void *http_server_run(void *arg)
{
    http_server *s = arg;
    for (size_t i = 0; i < s->n_answers; i++) {
        const int fd = accept(s->fd, NULL, NULL);
        if (fd < 0) break;
        http_server_read(s, fd);
        const char *p = s->answers[i];
        for (size_t left = strlen(p); left;) {
            const ssize_t n = send(fd, p, s->piece && s->piece < left ? s->piece : left, MSG_NOSIGNAL);
            if (n <= 0) break;
            p += n;
            left -= (size_t)n;
        }
        if (s->hang && i + 1 == s->n_answers)
            s->hanging = fd;
        else
            close(fd);
    }
    return NULL;
}

static inline void http_server_start(http_server *s, const char *const *answers, size_t n)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    const int one = 1;
    s->answers = answers;
    s->n_answers = n;
    s->hanging = -1;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* small pieces leave as they are */
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, http_server_run, s), 0);
}

/** Wait until all answers were given. What was asked stays until http_server_deinit. */
static inline void http_server_stop(http_server *s)
{
    pthread_join(s->thread, NULL);
    if (s->hanging >= 0) close(s->hanging);
    close(s->fd);
}

static inline void http_server_deinit(http_server *s) { we_buf_deinit(&s->asked); }

/** A whole answer: status line, type, body. */
#define HTTP_ANSWER(status, type, body) \
    "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Type: " type "\r\n\r\n" body

#endif
