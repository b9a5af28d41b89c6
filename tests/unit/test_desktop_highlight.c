/* SPDX-License-Identifier: Apache-2.0
 * test_desktop_highlight.c - app/desktop/highlight.c: which words of code get which colour. */
#include "highlight.h"
#include "support.h"

typedef struct marked {
    we_str code;
    size_t at;
    we_buf out;
} marked;

static void mark(void *user, desk_token token, size_t from, size_t to)
{
    marked *m = user;
    assert_true(from >= m->at && from < to && to <= m->code.len);
    we_buf_append_str(&m->out, (we_str){ m->code.ptr + m->at, from - m->at });
    we_buf_printf(&m->out, "[%c:", "kvsnc="[token]);
    we_buf_append_str(&m->out, (we_str){ m->code.ptr + from, to - from });
    we_buf_append_str(&m->out, WE_STR("]"));
    m->at = to;
}

/* k: keyword, v: value, s: string, n: number, c: comment, =: name */
static void expect(const char *language, const char *code, const char *wanted)
{
    marked m = { .code = we_str_from(code) };
    desk_highlight(language, m.code, mark, &m);
    we_buf_append_str(&m.out, (we_str){ m.code.ptr + m.at, m.code.len - m.at });
    CHECK_STR(we_buf_str(&m.out), wanted);
    we_buf_deinit(&m.out);
}

TEST(desktop_highlight_knows_languages)
{
    expect("c", "#include <a.h>\nint f(void) { return 0x1F; } // end",
           "[k:#include] <a.h>\n[v:int] [=:f]([v:void]) { [k:return] [n:0x1F]; } [c:// end]");
    expect("C++", "auto s = \"a\\\"b\"; /* x\ny */", "[k:auto] s = [s:\"a\\\"b\"]; [c:/* x\ny */]");
    expect("python", "@cached\ndef f(x):\n    '''doc\n    '''\n    return x + 1.5 # why",
           "[k:@cached]\n[k:def] [=:f](x):\n    [s:'''doc\n    ''']\n    [k:return] x + [n:1.5] [c:# why]");
    expect("js", "const a = `x\n${y}`; f(null)", "[k:const] a = [s:`x\n${y}`]; [=:f]([v:null])");
    expect("rust", "fn f<'a>(x: &'a str) -> char { 'x' }", "[k:fn] f<'a>(x: &'a [v:str]) -> [v:char] { [s:'x'] }");
    expect("bash", "for i in $(ls); do echo \"$i\" ${x}; done # it's",
           "[k:for] i [k:in] $(ls); [k:do] [v:echo] [s:\"$i\"] [=:${x}]; [k:done] [c:# it's]");
    expect("sql", "select 'it''s' FROM t -- all", "[k:select] [s:'it''s'] [k:FROM] t [c:-- all]");
    expect("json", "{\"a\": [1, \"b\", true]}", "{[=:\"a\"]: [[n:1], [s:\"b\"], [v:true]]}");
    expect("yaml", "my-key: \"v\" # c", "[=:my-key]: [s:\"v\"] [c:# c]");
    expect("html", "<a href=\"x\">it's 1</a><!-- c -->", "[k:<a] [=:href]=[s:\"x\"]>it's 1[k:</a]>[c:<!-- c -->]");
    expect("lua", "--[[ a\nb ]] local x = nil", "[c:--[[ a\nb ]]] [k:local] x = [v:nil]");
}

TEST(desktop_highlight_takes_what_is_not_whole)
{
    expect("", "int x", "int x");
    expect("brainfuck", "int x", "int x");
    expect("c", "char *s = \"open\nint x;", "[v:char] *s = [s:\"open]\n[v:int] x;");
    expect("c", "/* open", "[c:/* open]");
    expect("python", "'''open", "[s:'''open]");
    expect("c", "\"\\", "[s:\"\\]");
    expect("python", "größe = \"ü\\ü\"", "größe = [s:\"ü\\ü\"]");
    expect("html", "<", "<");
    expect("rust", "'", "'");
}
