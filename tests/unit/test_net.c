/* SPDX-License-Identifier: Apache-2.0
 * test_net.c - requests against servers of our own: threads that accept connections on this machine's loopback addresses,
 * keep what was asked, and answer with bytes that the test wrote. */
#include "net/net.h"
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- A server ---- */

typedef struct server {
    const char *const *answers; /* the n-th request gets the n-th; the connection closes behind it */
    size_t n_answers;
    bool hang; /* keep the last connection open and silent */
    int fd, port;
    pthread_t thread;
    we_buf asked; /* all requests, one behind the other */
    size_t n_asked;
    int hanging;
} server;

static size_t content_length(const char *head)
{
    const char *line = strstr(head, "Content-Length: ");
    return line ? (size_t)atoi(line + 16) : 0;
}

static void read_request(server *s, int fd)
{
    const size_t start = s->asked.len;
    char bytes[4096];
    for (;;) {
        const char *end = s->asked.ptr ? strstr(s->asked.ptr + start, "\r\n\r\n") : NULL;
        if (end && (size_t)(s->asked.ptr + s->asked.len - end) >= 4 + content_length(s->asked.ptr + start)) return;
        const ssize_t n = read(fd, bytes, sizeof bytes);
        if (n <= 0) return;
        we_buf_append(&s->asked, bytes, (size_t)n);
    }
}

static void *serve(void *arg)
{
    server *s = arg;
    for (size_t i = 0; i < s->n_answers; i++) {
        const int fd = accept(s->fd, NULL, NULL);
        if (fd < 0) break;
        read_request(s, fd);
        s->n_asked++;
        const char *p = s->answers[i];
        for (size_t left = strlen(p); left;) {
            const ssize_t n = send(fd, p, left, MSG_NOSIGNAL);
            if (n <= 0) break;
            p += n;
            left -= (size_t)n;
        }
        if (s->hang && i + 1 == s->n_answers) {
            s->hanging = fd;
            break;
        }
        close(fd);
    }
    return NULL;
}

static void server_listen(server *s, const char *address)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof at;
    inet_pton(AF_INET, address, &at.sin_addr);
    s->hanging = -1;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->fd, 16), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
}

static void server_start(server *s, const char *const *answers, size_t n)
{
    s->answers = answers;
    s->n_answers = n;
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

/* All answers must have been given. */
static void server_stop(server *s)
{
    pthread_join(s->thread, NULL);
    if (s->hanging >= 0) close(s->hanging);
    close(s->fd);
    we_buf_deinit(&s->asked);
}

static const char *url_of(const server *s, const char *path)
{
    static char url[256];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
    return url;
}

static we_net *open_net(void)
{
    we_error err;
    we_net *net;
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    CHECK_OK(we_net_open(&net, "test/1", &err), &err);
    return net;
}

#define HEAD(status, more) "HTTP/1.1 " status "\r\nConnection: close\r\n" more "\r\n"

/* ---- Answers ---- */

TEST(net_gives_status_headers_and_body)
{
    server s = { 0 };
    const char *const answers[] = { HEAD("200 OK", "Content-Length: 5\r\nX-Thing:  a value \r\n") "hello" };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 1);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    const we_net_header headers[] = { { "X-Asked", "yes", false }, { "X-Empty", "", false } };
    CHECK_OK(we_net_send(net, &(we_net_request){ .url = url_of(&s, "/p?q=1"), .headers = headers, .n_headers = 2 }, &r,
                         &err),
             &err);
    assert_int_equal(r.status, 200);
    assert_false(r.may_pass);
    CHECK_STR(we_net_field_get(&r, "x-THING"), "a value");
    assert_null(we_net_field_get(&r, "x-other").ptr);
    CHECK_STR(we_buf_str(&r.body), "hello");
    we_net_response_deinit(&r);
    we_net_close(net);
    pthread_join(s.thread, NULL);
    assert_non_null(strstr(s.asked.ptr, "GET /p?q=1 HTTP/1.1\r\n"));
    assert_non_null(strstr(s.asked.ptr, "User-Agent: test/1\r\n"));
    assert_non_null(strstr(s.asked.ptr, "X-Asked: yes\r\n"));
    assert_non_null(strstr(s.asked.ptr, "X-Empty:\r\n"));
    close(s.fd);
    we_buf_deinit(&s.asked);
}

TEST(net_posts_a_body)
{
    server s = { 0 };
    const char *const answers[] = { HEAD("200 OK", "Content-Length: 2\r\n") "ok", HEAD("204 No Content", "") };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 2);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    const we_net_header json = { "Content-Type", "application/json", false };
    we_net_request request = {
        .method = "POST", .url = url_of(&s, "/v1"), .headers = &json, .n_headers = 1, .body = WE_STR("{\"a\":1}")
    };
    CHECK_OK(we_net_send(net, &request, &r, &err), &err);
    assert_int_equal(r.status, 200);
    we_net_response_deinit(&r);
    request = (we_net_request){ .method = "DELETE", .url = request.url };
    CHECK_OK(we_net_send(net, &request, &r, &err), &err);
    assert_int_equal(r.status, 204);
    we_net_response_deinit(&r);
    we_net_close(net);
    pthread_join(s.thread, NULL);
    assert_non_null(strstr(s.asked.ptr, "POST /v1 HTTP/1.1\r\n"));
    assert_non_null(strstr(s.asked.ptr, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(s.asked.ptr, "\r\n\r\n{\"a\":1}DELETE /v1 HTTP/1.1\r\n"));
    close(s.fd);
    we_buf_deinit(&s.asked);
}

typedef struct taken {
    we_buf bytes;
    int heads;
    size_t most; /* stop behind so many bytes */
} taken;

static bool take_head(void *user, const we_net_response *r)
{
    ((taken *)user)->heads += r->status;
    return true;
}

static bool take_body(void *user, const char *bytes, size_t n)
{
    taken *t = user;
    we_buf_append(&t->bytes, bytes, n);
    return t->most == 0 || t->bytes.len < t->most;
}

TEST(net_streams_a_body_and_stops_where_told)
{
    server s = { 0 };
    const char *const answers[] = {
        HEAD("200 OK", "Transfer-Encoding: chunked\r\n") "4\r\nabcd\r\n3\r\nefg\r\n0\r\nX-Trailer: 1\r\n\r\n",
        HEAD("200 OK", "Content-Length: 4\r\n") "abcd",
        HEAD("404 Not Found", "Content-Length: 4\r\n") "gone",
    };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 3);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    taken t = { 0 };
    const we_net_request request = { .url = url_of(&s, "/"), .on_head = take_head, .on_body = take_body, .user = &t };
    CHECK_OK(we_net_send(net, &request, &r, &err), &err);
    CHECK_STR(we_buf_str(&t.bytes), "abcdefg");
    assert_int_equal(t.heads, 200);
    assert_int_equal(r.body.len, 0);
    we_net_response_deinit(&r);
    t.most = 1;
    CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_CANCELLED, &err);
    we_net_response_deinit(&r);
    we_buf_clear(&t.bytes);
    CHECK_OK(we_net_send(net, &request, &r, &err), &err); /* an error's text is for the caller, not for the file */
    assert_int_equal(r.status, 404);
    assert_int_equal(t.bytes.len, 0);
    CHECK_STR(we_buf_str(&r.body), "gone");
    we_net_response_deinit(&r);
    we_buf_deinit(&t.bytes);
    we_net_close(net);
    server_stop(&s);
}

TEST(net_refuses_a_collected_body_that_is_too_long)
{
    server s = { 0 };
    const char *const answers[] = { HEAD("200 OK", "") "123456", HEAD("500 Oh", "") "123456" };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 2);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    const we_net_request request = { .url = url_of(&s, "/"), .max_body = 5 };
    CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_FORMAT, &err);
    we_net_response_deinit(&r);
    CHECK_OK(we_net_send(net, &request, &r, &err), &err);
    assert_int_equal(r.body.len, 6);
    assert_true(r.may_pass);
    we_net_response_deinit(&r);
    we_net_close(net);
    server_stop(&s);
}

/* ---- Redirects ---- */

TEST(net_leaves_secrets_behind_when_it_is_sent_elsewhere)
{
    server first = { 0 }, second = { 0 };
    char to_second[256], back[256];
    server_listen(&first, "127.0.0.1");
    server_listen(&second, "127.0.0.1");
    snprintf(to_second, sizeof to_second,
             HEAD("302 Found",
                  "X-Linked-Etag: \"abc\"\r\nLocation: http://127.0.0.1:%d/there\r\nContent-Length: 3\r\n") "not",
             second.port);
    snprintf(back, sizeof back, HEAD("307 Again", "Location: http://127.0.0.1:%d/back\r\n"), first.port);
    const char *const first_answers[] = { HEAD("301 Moved", "Location: /same\r\n"), to_second,
                                          HEAD("200 OK", "Content-Length: 3\r\n") "yes" };
    const char *const second_answers[] = { back };
    server_start(&first, first_answers, 3);
    server_start(&second, second_answers, 1);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    const we_net_header headers[] = { { "authorization", "Bearer hf_x", false },
                                      { "X-Api-Key", "k", true },
                                      { "Range", "bytes=0-", false } };
    CHECK_OK(we_net_send(net, &(we_net_request){ .url = url_of(&first, "/a"), .headers = headers, .n_headers = 3 }, &r,
                         &err),
             &err);
    CHECK_STR(we_buf_str(&r.body), "yes");
    assert_int_equal(r.n_hops, 3);
    CHECK_STR(we_net_field_at(&r, 1, "x-linked-etag"), "\"abc\"");
    assert_null(we_net_field_get(&r, "x-linked-etag").ptr);
    we_net_response_deinit(&r);
    we_net_close(net);
    pthread_join(first.thread, NULL);
    pthread_join(second.thread, NULL);
    const char *same = strstr(first.asked.ptr, "GET /same"), *last = strstr(first.asked.ptr, "GET /back");
    assert_non_null(strstr(same, "Bearer hf_x"));
    assert_null(strstr(second.asked.ptr, "hf_x"));
    assert_null(strstr(second.asked.ptr, "X-Api-Key"));
    assert_non_null(strstr(second.asked.ptr, "Range: bytes=0-"));
    assert_null(strstr(last, "hf_x")); /* what the second server asks for gets no secret of the first's */
    close(first.fd);
    close(second.fd);
    we_buf_deinit(&first.asked);
    we_buf_deinit(&second.asked);
}

TEST(net_does_not_follow_for_ever_nor_to_other_schemes)
{
    server s = { 0 };
    const char *answers[12];
    for (int i = 0; i < 11; i++) answers[i] = HEAD("302 Found", "Location: /again\r\n");
    answers[11] = HEAD("302 Found", "Location: file:///etc/passwd\r\n");
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 12);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    CHECK_STATUS(we_net_send(net, &(we_net_request){ .url = url_of(&s, "/") }, &r, &err), WE_E_NETWORK, &err);
    EXPECT_MESSAGE(&err, "10 times");
    we_net_response_deinit(&r);
    CHECK_STATUS(we_net_send(net, &(we_net_request){ .url = url_of(&s, "/") }, &r, &err), WE_E_NETWORK, &err);
    EXPECT_MESSAGE(&err, "not one of http or https");
    we_net_response_deinit(&r);
    we_net_close(net);
    server_stop(&s);
}

/* ---- Failures ---- */

TEST(net_refuses_what_is_no_address)
{
    static const char *const urls[] = { "", "file:///etc/passwd", "ftp://a/b", "http://", "no", "http://a b/", "://x" };
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    for (size_t i = 0; i < WE_COUNT(urls); i++) {
        CHECK_STATUS(we_net_send(net, &(we_net_request){ .url = urls[i] }, &r, &err), WE_E_ARG, &err);
        we_net_response_deinit(&r);
    }
    const we_net_header split = { "X-A", "1\r\nX-B: 2", false };
    const we_net_request request = { .url = "http://127.0.0.1:1/", .headers = &split, .n_headers = 1 };
    CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_ARG, &err);
    we_net_response_deinit(&r);
    we_net_close(net);
}

TEST(net_tells_whether_a_failure_may_pass)
{
    server s = { 0 };
    const char *const answers[] = { "", HEAD("200 OK", "Content-Length: 9\r\n") "cut", "no http\r\n\r\n",
                                    HEAD("429 Slow", "Retry-After: 7\r\n"), HEAD("403 No", "") };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 5);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    const we_net_request request = { .url = url_of(&s, "/path?signature=secret") };
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_NETWORK, &err);
        assert_true(r.may_pass || i == 2);
        EXPECT_MESSAGE(&err, "/path: ");
        assert_null(strstr(err.message, "secret"));
        we_net_response_deinit(&r);
    }
    CHECK_OK(we_net_send(net, &request, &r, &err), &err);
    assert_true(r.may_pass);
    assert_int_equal(r.retry_after_s, 7);
    we_net_response_deinit(&r);
    CHECK_OK(we_net_send(net, &request, &r, &err), &err);
    assert_false(r.may_pass);
    we_net_response_deinit(&r);
    server_stop(&s);
    CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_NETWORK, &err); /* nobody listens any more */
    assert_true(r.may_pass);
    we_net_response_deinit(&r);
    we_net_close(net);
}

static void *cancel_soon(void *flag)
{
    usleep(20000);
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

TEST(net_is_cancelled_while_nothing_arrives)
{
    server s = { .hang = true };
    const char *const answers[] = { HEAD("200 OK", "Content-Length: 9\r\n") "abc" };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 1);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    atomic_bool cancel = false;
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_soon, &cancel);
    const we_net_request request = { .url = url_of(&s, "/"), .cancel = &cancel };
    CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_CANCELLED, &err);
    we_net_response_deinit(&r);
    pthread_join(thread, NULL);
    assert_false(we_net_wait(&(we_net_response){ 0 }, 5, &cancel));
    we_net_close(net);
    server_stop(&s);
}

TEST(net_keeps_a_limit_for_the_whole_request)
{
    server s = { .hang = true };
    const char *const answers[] = { HEAD("200 OK", "Content-Length: 9\r\n") "begun" };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 1);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    CHECK_STATUS(we_net_send(net, &(we_net_request){ .url = url_of(&s, "/"), .timeout_ms = 300 }, &r, &err),
                 WE_E_NETWORK, &err);
    assert_true(r.is_timeout && !r.is_refused && r.may_pass);
    we_net_response_deinit(&r);
    shutdown(s.fd, SHUT_RDWR); /* on a busy machine it never came to a connection */
    server_stop(&s);
    CHECK_STATUS(we_net_send(net, &(we_net_request){ .url = "http://127.0.0.1:1/" }, &r, &err), WE_E_NETWORK, &err);
    assert_true(r.is_refused && !r.is_timeout);
    we_net_response_deinit(&r);
    we_net_close(net);
}

TEST(net_gives_redirects_as_answers_where_told)
{
    server s = { 0 };
    const char *const answers[] = { HEAD("307 Elsewhere", "Location: /b\r\n") "over there" };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 1);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    CHECK_OK(we_net_send(net, &(we_net_request){ .url = url_of(&s, "/"), .no_redirects = true }, &r, &err), &err);
    assert_int_equal(r.status, 307);
    assert_int_equal(r.n_hops, 0);
    CHECK_STR(we_buf_str(&r.body), "over there");
    CHECK_STR(we_net_field_get(&r, "location"), "/b");
    we_net_response_deinit(&r);
    we_net_close(net);
    server_stop(&s);
}

TEST(net_gives_up_on_a_silent_server)
{
    server s = { .hang = true };
    const char *const answers[] = { HEAD("200 OK", "Content-Length: 9\r\n") "abc" };
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 1);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    const we_net_request request = { .url = url_of(&s, "/"), .idle_timeout_s = 1 };
    CHECK_STATUS(we_net_send(net, &request, &r, &err), WE_E_NETWORK, &err);
    assert_true(r.may_pass);
    we_net_response_deinit(&r);
    we_net_close(net);
    server_stop(&s);
}

TEST(net_waits_no_longer_than_makes_sense)
{
    assert_true(we_net_wait(&(we_net_response){ 0 }, 0, NULL));
    assert_false(we_net_wait(&(we_net_response){ .retry_after_s = 301 }, 0, NULL));
}

TEST(net_asks_the_proxy_but_for_this_machine)
{
    server s = { 0 };
    const char *const answers[] = { HEAD("200 OK", "Content-Length: 5\r\n") "proxy",
                                    HEAD("200 OK", "Content-Length: 6\r\n") "direct" };
    char proxy[64];
    server_listen(&s, "127.0.0.1");
    server_start(&s, answers, 2);
    we_net *net = open_net();
    we_net_response r;
    we_error err;
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", s.port);
    setenv("http_proxy", proxy, 1);
    CHECK_OK(we_net_send(net, &(we_net_request){ .url = "http://hub.invalid/x" }, &r, &err), &err);
    CHECK_STR(we_buf_str(&r.body), "proxy");
    we_net_response_deinit(&r);
    CHECK_OK(we_net_send(net, &(we_net_request){ .url = url_of(&s, "/y") }, &r, &err), &err);
    CHECK_STR(we_buf_str(&r.body), "direct");
    we_net_response_deinit(&r);
    unsetenv("http_proxy");
    we_net_close(net);
    pthread_join(s.thread, NULL);
    assert_non_null(strstr(s.asked.ptr, "GET http://hub.invalid/x HTTP/1.1\r\n"));
    assert_non_null(strstr(s.asked.ptr, "GET /y HTTP/1.1\r\n"));
    close(s.fd);
    we_buf_deinit(&s.asked);
}

TEST(net_survives_failing_allocations)
{
    we_status st = WE_E_NOMEM;
    we_error err;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        server s = { 0 };
        const char *const answers[] = { HEAD("302 Found", "Location: /b\r\n"), HEAD("200 OK", "X: y\r\n") "body" };
        we_net *net = NULL;
        we_net_response r;
        server_listen(&s, "127.0.0.1");
        we_buf_reserve(&s.asked, 4096);
        server_start(&s, answers, 2);
        st = we_net_open(&net, "test/1", &err);
        if (!st) {
            st = we_net_send(net, &(we_net_request){ .url = url_of(&s, "/") }, &r, &err);
            we_net_response_deinit(&r);
        }
        if (st) {
            assert_int_equal(st, WE_E_NOMEM);
            shutdown(s.fd, SHUT_RDWR); /* accept gives up */
        }
        we_net_close(net);
        server_stop(&s);
    }
}

/* ---- URLs ---- */

TEST(net_escapes_and_cleans_urls)
{
    we_buf out = { 0 };
    we_net_url_escape(&out, WE_STR("a/b c\xC3\xA4+&%"), true);
    CHECK_STR(we_buf_str(&out), "a/b%20c%C3%A4%2B%26%25");
    we_buf_clear(&out);
    we_net_url_escape(&out, WE_STR("a/b"), false);
    CHECK_STR(we_buf_str(&out), "a%2Fb");
    we_buf_clear(&out);
    we_net_url_clean(&out, "https://user:pass@host:1/p@th?key=1#x");
    CHECK_STR(we_buf_str(&out), "https://host:1/p@th");
    we_buf_deinit(&out);
}
