/* SPDX-License-Identifier: Apache-2.0
 * test_desktop_markdown.c - app/desktop/markdown.c: blocks, spans, and that what a model writes stays text. */
#include "markdown.h"
#include "support.h"

static const char *const kinds[] = { "p", "h", "li", "code", "hr", "table" };

/* Blocks as lines: kind, level/depth/quotes where they are not 0, marker, text. */
static void expect_blocks(const char *text, const char *wanted)
{
    desk_blocks blocks = { 0 };
    we_buf out = { 0 };
    desk_markdown(&blocks, we_str_from(text));
    assert_false(blocks.failed);
    for (size_t i = 0; i < blocks.n; i++) {
        const desk_block *b = &blocks.items[i];
        we_buf_append_str(&out, we_str_from(kinds[b->kind]));
        if (b->level || b->depth || b->quotes) we_buf_printf(&out, "%d/%d/%d", b->level, b->depth, b->quotes);
        we_buf_printf(&out, " %s[%s]\n", b->marker, b->text);
    }
    CHECK_STR(we_buf_str(&out), wanted);
    we_buf_deinit(&out);
    desk_blocks_deinit(&blocks);
}

static void expect_line(const char *text, const char *wanted)
{
    we_buf out = { 0 };
    desk_markdown_inline(&out, we_str_from(text));
    CHECK_STR(we_buf_str(&out), wanted);
    we_buf_deinit(&out);
}

TEST(desktop_markdown_reads_spans)
{
    expect_line("a *b* _c_ **d** __e__ ***f*** ~~g~~",
                "a <i>b</i> <i>c</i> <b>d</b> <b>e</b> <b><i>f</i></b> <s>g</s>");
    expect_line("**a *b* c** and **a *b***", "<b>a <i>b</i> c</b> and <b>a <i>b</i></b>");
    expect_line("`a*b*` and ``a`b``", "<tt>a*b*</tt> and <tt>a`b</tt>");
    expect_line("snake_case_name, 2 * 3 * 4, a** b", "snake_case_name, 2 * 3 * 4, a** b");
    expect_line("*open, **open, `open", "*open, **open, `open");
    expect_line("\\*no\\* \\a", "*no* \\a");
}

TEST(desktop_markdown_escapes_all_that_is_markup)
{
    expect_line("<b>x</b> & \"q\" 'a'", "&lt;b&gt;x&lt;/b&gt; &amp; &quot;q&quot; &#39;a&#39;");
    expect_line("**<span size='900pt'>**", "<b>&lt;span size=&#39;900pt&#39;&gt;</b>");
    expect_line("a\x01\xFF\xEF\xBF\xBE", "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(desktop_markdown_links_lead_to_the_web_only)
{
    expect_line("[x](https://a.b/c_d_e)", "<a href=\"https://a.b/c_d_e\">x</a>");
    expect_line("[*x*](http://a.b \"title\")", "<a href=\"http://a.b\"><i>x</i></a>");
    expect_line("see https://a.b/(c)?d=1&e=2.",
                "see <a href=\"https://a.b/(c)?d=1&amp;e=2\">https://a.b/(c)?d=1&amp;e=2</a>.");
    expect_line("[x](javascript:alert(1))", "x (javascript:alert(1))");
    expect_line("[x](file:///etc/passwd)", "x (file:///etc/passwd)");
    expect_line("[x](https://a.b\"onclick=1)", "<a href=\"https://a.b&quot;onclick=1\">x</a>");
    expect_line("[[a](https://b.c)](https://d.e)", "<a href=\"https://d.e\">a (https://b.c)</a>");
    expect_line("![cat](https://a.b/c.png)", "<a href=\"https://a.b/c.png\">cat</a>");
    expect_line("[x] (no)", "[x] (no)");
}

TEST(desktop_markdown_reads_blocks)
{
    expect_blocks("# A\ntext\nmore\n\nagain\n---\n## B #",
                  "h1/0/0 [A]\np [text\nmore]\np [again]\nhr []\nh2/0/0 [B]\n");
    expect_blocks("#no\n\n> q\n> r\n>> s", "p [#no]\np0/0/1 [q\nr]\np0/0/2 [s]\n");
    expect_blocks("", "");
    expect_blocks("\n\n  \n", "");
    expect_blocks("a\r\nb\r\n", "p [a\nb]\n");
}

TEST(desktop_markdown_reads_lists)
{
    expect_blocks("- a\n- b\n  - c\n    more\n- d", "li •[a]\nli •[b]\nli0/1/0 •[c\nmore]\nli •[d]\n");
    expect_blocks("1. a\n\n   more\n2. b\n10) c", "li 1.[a]\nli [more]\nli 2.[b]\nli 10.[c]\n");
    expect_blocks("* [ ] a\n* [x] b", "li ☐[a]\nli ☑[b]\n");
    expect_blocks("- a\n\nafter", "li •[a]\np [after]\n");
    expect_blocks("-no\n1.no", "p [-no\n1.no]\n");
}

TEST(desktop_markdown_keeps_code_as_it_is)
{
    expect_blocks("```c\nint *a; // <b>\n\n```\nx", "code c[int *a; // <b>\n]\np [x]\n");
    expect_blocks("~~~\n```\n~~~", "code [```]\n");
    expect_blocks("```python\nwhile it comes", "code python[while it comes]\n");
    expect_blocks("- a\n  ```\n  b\n    c\n  ```", "li •[a]\ncode [b\n  c]\n");
    expect_blocks("> ```\n> a\n> ```\nb", "code0/0/1 [a]\np [b]\n");
    expect_blocks("````\n```\n````", "code [```]\n");
    expect_blocks("```\n```", "code []\n");
}

TEST(desktop_markdown_reads_tables)
{
    expect_blocks("|a|b|\n|---|:-:|\n|*1*|2 \\| 3|\n|x|\nend", "table [a\x1f"
                                                               "b\x1e<i>1</i>\x1f"
                                                               "2 | 3\x1ex\x1f]\np [end]\n");
    expect_blocks("a | b\nc | d", "p [a | b\nc | d]\n");
    expect_blocks("|a|b|\n|---|", "p [|a|b|\n|---|]\n");
}

TEST(desktop_markdown_tells_when_memory_runs_out)
{
    const we_str text = WE_STR("# A\n- **b** [c](https://d.e)\n\n```x\ny\n```\n|a|\n|-|\n|b|\n");
    bool whole = false;
    EACH_ALLOCATION_FAILING(whole)
    {
        desk_blocks blocks = { 0 };
        desk_markdown(&blocks, text);
        whole = !blocks.failed;
        assert_true(blocks.failed || blocks.n == 4);
        desk_blocks_deinit(&blocks);
    }
}
