/* SPDX-License-Identifier: Apache-2.0
 * highlight.c - see highlight.h. */
#include "highlight.h"
#include <ctype.h>

enum {
    TRIPLE = 1,        /* """ and ''' go over lines */
    BACKTICK = 2,      /* so do strings in ` */
    NO_CASE = 4,       /* SELECT is select */
    DOLLAR = 8,        /* $name is a variable */
    DIRECTIVE = 16,    /* a line that begins with # is a keyword */
    MARKUP = 32,       /* <tag attribute="string"> */
    KEYS = 64,         /* what stands before a colon or = is a name */
    AT = 128,          /* @name is a keyword */
    LIFETIMES = 256,   /* 'a may be no string */
    SQL_STRINGS = 512, /* '' is a quote in a string, \ is nothing */
    DASHES = 1024      /* names may have - in them */
};

typedef struct language {
    const char *names, *line[2], *block[2], *quotes; /* `line`: what begins a comment to the line's end */
    int flags;
    const char *keywords, *values;
} language;

#define C_WORDS                                                                                                       \
    " break case const continue default do else enum extern for goto if inline register return sizeof static struct " \
    "switch typedef union volatile while "
#define C_VALUES                                                                                                 \
    " void char short int long float double signed unsigned bool size_t int8_t int16_t int32_t int64_t uint8_t " \
    "uint16_t uint32_t uint64_t true false NULL "

static const language languages[] = {
    { " c h ", { "//" }, { "/*", "*/" }, "\"'", DIRECTIVE, C_WORDS "restrict _Atomic ", C_VALUES },
    { " c++ cpp cc cxx hpp hxx cuda cu glsl hlsl ",
      { "//" },
      { "/*", "*/" },
      "\"'",
      DIRECTIVE,
      C_WORDS
      "auto catch class concept constexpr co_await co_return decltype delete explicit final friend mutable namespace new "
      "noexcept operator override private protected public requires template this throw try typename using virtual ",
      C_VALUES "nullptr std string vector " },
    { " python py python3 py3 ",
      { "#" },
      { 0 },
      "\"'",
      TRIPLE | AT,
      " and as assert async await break case class continue def del elif else except finally for from global if import in is lambda "
      "match nonlocal not or pass raise return try while with yield ",
      " True False None self cls int float str bool list dict set tuple bytes object print len range " },
    { " javascript js jsx typescript ts tsx mjs node ",
      { "//" },
      { "/*", "*/" },
      "\"'",
      BACKTICK | AT,
      " abstract as async await break case catch class const continue debugger declare default delete do else enum export extends "
      "finally for from function get if implements import in instanceof interface let new of private protected public readonly return "
      "set static super switch this throw try type typeof var while with yield ",
      " true false null undefined NaN any boolean number string void never unknown console " },
    { " java kotlin kt scala groovy ",
      { "//" },
      { "/*", "*/" },
      "\"'",
      TRIPLE | AT,
      " abstract assert break case catch class companion const continue data def default do else enum extends final finally for fun goto "
      "if implements import in instanceof interface internal is lateinit match native new object open operator override package "
      "private protected public record return sealed static super suspend switch synchronized this throw throws trait transient try "
      "val var void volatile when while with yield ",
      " true false null boolean byte char double float int long short String Int Long Double Boolean List Map " },
    { " csharp cs c# dart swift ",
      { "//" },
      { "/*", "*/" },
      "\"'",
      TRIPLE | AT,
      " abstract as associatedtype async await base break case catch class const continue default defer delegate do else enum event "
      "explicit extension extends fallthrough final finally fixed for foreach func get guard if implements import in init inout "
      "interface internal is late let lock mixin namespace new operator out override params private protected protocol public "
      "readonly record ref repeat required return sealed self set static struct subscript super switch this throw throws try typealias "
      "using var virtual void where while with yield ",
      " true false null nil bool byte char decimal double float int long object string Int String Bool Double dynamic " },
    { " rust rs ",
      { "//" },
      { "/*", "*/" },
      "\"",
      LIFETIMES,
      " as async await break const continue crate dyn else enum extern fn for if impl in let loop match mod move mut pub ref return "
      "self static struct super trait type unsafe use where while ",
      " true false Self Some None Ok Err Option Result String Vec Box bool char str u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize "
      "f32 f64 " },
    { " go golang ",
      { "//" },
      { "/*", "*/" },
      "\"'",
      BACKTICK,
      " break case chan const continue default defer else fallthrough for func go goto if import interface map package range return "
      "select struct switch type var ",
      " true false nil iota bool byte error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 any "
      "make len append " },
    { " ruby rb ",
      { "#" },
      { 0 },
      "\"'",
      AT,
      " alias and begin break case class def do else elsif end ensure for if in module next not or redo rescue retry return self super "
      "then undef unless until when while yield ",
      " true false nil puts require attr_reader attr_accessor " },
    { " php ",
      { "//", "#" },
      { "/*", "*/" },
      "\"'",
      DOLLAR,
      " abstract and array as break case catch class clone const continue default do echo else elseif enum extends final finally fn for "
      "foreach function global if implements include instanceof interface match namespace new or print private protected public "
      "readonly require return static switch throw trait try use var while yield ",
      " true false null self int float string bool void " },
    { " bash sh shell zsh console fish ",
      { "#" },
      { 0 },
      "\"'",
      DOLLAR | DASHES,
      " case do done elif else esac export fi for function if in local readonly return select set shift source then time trap unset "
      "until while ",
      " true false cd echo exit printf read sudo test " },
    { " powershell ps1 ",
      { "#" },
      { "<#", "#>" },
      "\"'",
      DOLLAR | NO_CASE | DASHES,
      " begin break catch class continue do else elseif end filter finally for foreach function if in param process return switch throw "
      "try until using while ",
      " " },
    { " sql postgresql mysql sqlite plsql ",
      { "--" },
      { "/*", "*/" },
      "'\"",
      NO_CASE | SQL_STRINGS,
      " add all alter and as asc begin between by case check column commit constraint create cross database default delete desc "
      "distinct drop else end exists explain foreign from full group having if in index inner insert into is join key left like limit not "
      "offset on or order outer over partition primary references returning right rollback select set table then transaction trigger "
      "union unique update using values view when where with ",
      " null true false int integer bigint text varchar char boolean date timestamp numeric real serial " },
    { " lua ",
      { "--" },
      { "--[[", "]]" },
      "\"'",
      0,
      " and break do else elseif end for function goto if in local not or repeat return then until while ",
      " true false nil self " },
    { " haskell hs ",
      { "--" },
      { "{-", "-}" },
      "\"",
      0,
      " case class data deriving do else if import in infixl infixr instance let module newtype of qualified then type where ",
      " True False Int Integer String Bool Maybe Just Nothing IO " },
    { " json jsonc json5 ", { "//" }, { 0 }, "\"", KEYS, " ", " true false null " },
    { " yaml yml toml ini conf properties dockerfile docker makefile make cmake ",
      { "#" },
      { 0 },
      "\"'",
      KEYS | DASHES | DOLLAR,
      " FROM RUN COPY ADD CMD ENTRYPOINT ENV ARG WORKDIR EXPOSE if else endif elseif function endfunction foreach endforeach include set ",
      " true false null yes no on off " },
    { " html xml xhtml svg vue htm ", { 0 }, { "<!--", "-->" }, "\"'", MARKUP, " ", " " },
    { " css scss sass less ", { 0 }, { "/*", "*/" }, "\"'", KEYS | DASHES | AT, " important ", " " },
    { " r julia jl matlab octave ",
      { "#", "%" },
      { 0 },
      "\"'",
      0,
      " break do else elseif end for function if import in mutable next repeat return struct using while ",
      " TRUE FALSE NULL NA true false nothing " },
};

static bool is_word(unsigned char c) { return isalnum(c) || c == '_' || c >= 0x80; }

/* " a b " has "b" */
static bool has_word(const char *list, we_str word, bool no_case)
{
    for (const char *p = list; *p;) {
        while (*p == ' ') p++;
        size_t n = 0;
        bool same = true;
        for (; p[n] && p[n] != ' '; n++) {
            const int c = n < word.len ? (unsigned char)word.ptr[n] : 0;
            if ((no_case ? tolower(c) : c) != (unsigned char)p[n]) same = false;
        }
        if (n && same && n == word.len) return true;
        p += n;
    }
    return false;
}

static const language *find_language(const char *name)
{
    const we_str wanted = we_str_from(name);
    for (size_t i = 0; wanted.len && i < WE_COUNT(languages); i++)
        if (has_word(languages[i].names, wanted, true)) return &languages[i];
    return NULL;
}

typedef struct scan {
    const language *l;
    we_str code;
    size_t at;
    bool in_tag;
    void (*fn)(void *user, desk_token token, size_t from, size_t to);
    void *user;
} scan;

static bool starts(const scan *s, size_t at, const char *what)
{
    const size_t n = what ? strlen(what) : 0;
    return n && s->code.len - at >= n && memcmp(s->code.ptr + at, what, n) == 0;
}

static int char_at(const scan *s, size_t at) { return at < s->code.len ? (unsigned char)s->code.ptr[at] : 0; }

static void emit(scan *s, desk_token token, size_t to)
{
    s->fn(s->user, token, s->at, to);
    s->at = to;
}

static size_t line_end(const scan *s, size_t at)
{
    while (at < s->code.len && s->code.ptr[at] != '\n') at++;
    return at;
}

static size_t find(const scan *s, size_t at, const char *what)
{
    while (at < s->code.len && !starts(s, at, what)) at++;
    return at < s->code.len ? at + strlen(what) : s->code.len;
}

static bool begins_line(const scan *s)
{
    size_t i = s->at;
    while (i > 0 && (s->code.ptr[i - 1] == ' ' || s->code.ptr[i - 1] == '\t')) i--;
    return i == 0 || s->code.ptr[i - 1] == '\n';
}

static bool comment(scan *s)
{
    const language *l = s->l;
    if (starts(s, s->at, l->block[0]))
        return emit(s, DESK_TOKEN_COMMENT, find(s, s->at + strlen(l->block[0]), l->block[1])), true;
    for (int i = 0; i < 2; i++) {
        /* In a shell # begins a comment only before a word. */
        const bool word = l->line[i] && *l->line[i] == '#' && s->at > 0 && !isspace(char_at(s, s->at - 1));
        if (starts(s, s->at, l->line[i]) && !word) return emit(s, DESK_TOKEN_COMMENT, line_end(s, s->at)), true;
    }
    return false;
}

/* The end of the string that begins here. */
static size_t string_end(const scan *s, int quote)
{
    size_t i = s->at + 1;
    for (; i < s->code.len; i++) {
        const int c = char_at(s, i);
        if (c == quote && (s->l->flags & SQL_STRINGS) && char_at(s, i + 1) == quote)
            i++;
        else if (c == quote)
            return i + 1;
        else if (c == '\\' && !(s->l->flags & SQL_STRINGS) && char_at(s, i + 1) && char_at(s, i + 1) < 0x80)
            i++;
        else if (c == '\n' && quote != '`' && !s->in_tag && !(s->l->flags & (SQL_STRINGS | DOLLAR)))
            return i; /* nobody closed it */
    }
    return s->code.len;
}

/* Is it the key of a pair? */
static bool is_key(const scan *s, size_t to)
{
    while (char_at(s, to) == ' ') to++;
    return (s->l->flags & KEYS) && (char_at(s, to) == ':' || (char_at(s, to) == '=' && char_at(s, to + 1) != '='));
}

static bool string(scan *s)
{
    const int c = char_at(s, s->at), flags = s->l->flags;
    const bool backtick = c == '`' && (flags & BACKTICK);
    if (!backtick && !strchr(s->l->quotes, c)) return false;
    if ((flags & MARKUP) && !s->in_tag) return false;
    if ((flags & TRIPLE) && char_at(s, s->at + 1) == c && char_at(s, s->at + 2) == c) {
        const char three[] = { (char)c, (char)c, (char)c, 0 };
        return emit(s, DESK_TOKEN_STRING, find(s, s->at + 3, three)), true;
    }
    const size_t to = string_end(s, c);
    return emit(s, is_key(s, to) ? DESK_TOKEN_NAME : DESK_TOKEN_STRING, to), true;
}

static bool number(scan *s)
{
    size_t i = s->at;
    if (!isdigit(char_at(s, i))) return false;
    while (isalnum(char_at(s, i)) || char_at(s, i) == '.' || char_at(s, i) == '_') i++;
    while (char_at(s, i - 1) == '.') i--;
    return emit(s, DESK_TOKEN_NUMBER, i), true;
}

static size_t word_end(const scan *s, size_t i)
{
    while (i < s->code.len &&
           (is_word((unsigned char)s->code.ptr[i]) || ((s->l->flags & DASHES) && s->code.ptr[i] == '-')))
        i++;
    return i;
}

static bool word(scan *s)
{
    const int flags = s->l->flags, c = char_at(s, s->at);
    if ((c == '$' && (flags & DOLLAR)) || (c == '@' && (flags & AT))) {
        const size_t brace = char_at(s, s->at + 1) == '{', to = word_end(s, s->at + 1 + brace);
        if (to > s->at + 1 + brace)
            return emit(s, c == '$' ? DESK_TOKEN_NAME : DESK_TOKEN_KEYWORD, to + (brace && char_at(s, to) == '}')),
                   true;
    }
    if (c == '#' && (flags & DIRECTIVE) && begins_line(s))
        return emit(s, DESK_TOKEN_KEYWORD, word_end(s, s->at + 1)), true;
    if (!is_word((unsigned char)c)) return false;
    const size_t to = word_end(s, s->at);
    const we_str w = { s->code.ptr + s->at, to - s->at };
    if (has_word(s->l->keywords, w, flags & NO_CASE))
        emit(s, DESK_TOKEN_KEYWORD, to);
    else if (has_word(s->l->values, w, flags & NO_CASE))
        emit(s, DESK_TOKEN_VALUE, to);
    else if (is_key(s, to) || (char_at(s, to) == '(' && !(flags & MARKUP)))
        emit(s, DESK_TOKEN_NAME, to);
    else
        s->at = to;
    return true;
}

/* <name and </name and > at its end; words inside are attributes. */
static bool tag(scan *s)
{
    const int c = char_at(s, s->at), next = char_at(s, s->at + 1);
    if (s->in_tag && c == '>') return s->in_tag = false, s->at++, true;
    if (s->in_tag && isalpha(c)) {
        size_t to = s->at;
        while (is_word((unsigned char)char_at(s, to)) || (char_at(s, to) && strchr("-:.@", char_at(s, to)))) to++;
        return emit(s, DESK_TOKEN_NAME, to), true;
    }
    if (c != '<' || !(isalpha(next) || next == '/' || next == '!' || next == '?')) return false;
    size_t to = s->at + 2;
    while (is_word((unsigned char)char_at(s, to)) || (char_at(s, to) && strchr("-:.", char_at(s, to)))) to++;
    s->in_tag = true;
    return emit(s, DESK_TOKEN_KEYWORD, to), true;
}

/* In Rust ' begins a character or a lifetime. */
static bool lifetime(scan *s)
{
    size_t to = s->at + 1;
    if (char_at(s, s->at) != '\'') return false;
    if (char_at(s, to) == '\\')
        while (to < s->code.len && to < s->at + 12 && s->code.ptr[to] != '\'') to++;
    else if (to < s->code.len)
        do to++;
        while ((char_at(s, to) & 0xc0) == 0x80);
    if (char_at(s, to) == '\'') return emit(s, DESK_TOKEN_STRING, to + 1), true;
    return s->at++, true;
}

void desk_highlight(const char *language_name, we_str code,
                    void (*fn)(void *user, desk_token token, size_t from, size_t to), void *user)
{
    scan s = { .l = find_language(language_name), .code = code, .fn = fn, .user = user };
    if (!s.l) return;
    while (s.at < code.len) {
        if (comment(&s) || string(&s)) continue;
        if ((s.l->flags & MARKUP) && tag(&s)) continue;
        if ((s.l->flags & MARKUP) && !s.in_tag) {
            s.at++;
            continue;
        }
        if ((s.l->flags & LIFETIMES) && lifetime(&s)) continue;
        if (number(&s) || word(&s)) continue;
        s.at++;
    }
}
