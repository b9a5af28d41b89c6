/* SPDX-License-Identifier: Apache-2.0
 * families.c - chat formats of known model families, for folders that come without a chat template: what a turn looks like
 * in each (`families`), and how a family is recognised by the vocabulary, the model_type or the name (`clues`). A model of
 * no known family gets a plain format. Which tokens there are is asked of the caller: no tokenizer is known here.
 *
 * One template of ours, `body`, renders them all; a family only sets its pieces. It takes what real templates refuse, too:
 * two turns of one role, a system message in the middle, developer and tool messages.
 * Source: the makers' descriptions of their formats; the texts are held to real templates by conformance_families. */
#include "template/template_int.h"

#include <stdio.h>

/* What stands around the turns; $bos and $eos stand for the model's own tokens. Where a family has no system role, the
 * system message stands at the beginning of the next user turn (Mistral's own code from version 3 on puts it into the last
 * one; but there it would move with every turn, and nothing cached could be used again). */
static const we_family families[] = {
    { .name = "ChatML",
      .system = { "<|im_start|>system\n", "<|im_end|>\n" },
      .user = { "<|im_start|>user\n", "<|im_end|>\n" },
      .assistant = { "<|im_start|>assistant\n", "<|im_end|>\n" },
      .prompt = "<|im_start|>assistant\n",
      .end_of_turn = "<|im_end|>" },
    { .name = "Llama 3",
      .begin = "$bos",
      .system = { "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>" },
      .user = { "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>" },
      .assistant = { "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>" },
      .prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n",
      .trim = WE_TRIM_ALL,
      .end_of_turn = "<|eot_id|> <|eom_id|>" },
    { .name = "Llama 4",
      .begin = "$bos",
      .system = { "<|header_start|>system<|header_end|>\n\n", "<|eot|>" },
      .user = { "<|header_start|>user<|header_end|>\n\n", "<|eot|>" },
      .assistant = { "<|header_start|>assistant<|header_end|>\n\n", "<|eot|>" },
      .prompt = "<|header_start|>assistant<|header_end|>\n\n",
      .trim = WE_TRIM_ALL,
      .end_of_turn = "<|eot|> <|eom|>" },
    { .name = "Llama 2",
      .system = { "<<SYS>>\n", "\n<</SYS>>\n\n" },
      .user = { "$bos[INST] ", " [/INST]" },
      .assistant = { " ", " $eos" },
      .system_in_user = true,
      .trim = WE_TRIM_JOINED },
    { .name = "Gemma",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "<start_of_turn>user\n", "<end_of_turn>\n" },
      .assistant = { "<start_of_turn>model\n", "<end_of_turn>\n" },
      .prompt = "<start_of_turn>model\n",
      .system_in_user = true,
      .trim = WE_TRIM_TURNS,
      .end_of_turn = "<end_of_turn>" },
    { .name = "Gemma 4",
      .begin = "$bos",
      .system = { "<|turn>system\n", "<turn|>\n" },
      .user = { "<|turn>user\n", "<turn|>\n" },
      .assistant = { "<|turn>model\n", "<turn|>\n" },
      .prompt = "<|turn>model\n<|channel>thought\n<channel|>",
      .trim = WE_TRIM_ALL,
      .end_of_turn = "<turn|>" },
    { .name = "Phi-3",
      .system = { "<|system|>\n", "<|end|>\n" },
      .user = { "<|user|>\n", "<|end|>\n" },
      .assistant = { "<|assistant|>\n", "<|end|>\n" },
      .prompt = "<|assistant|>\n",
      .end_of_turn = "<|end|>" },
    { .name = "Phi-4",
      .system = { "<|im_start|>system<|im_sep|>", "<|im_end|>" },
      .user = { "<|im_start|>user<|im_sep|>", "<|im_end|>" },
      .assistant = { "<|im_start|>assistant<|im_sep|>", "<|im_end|>" },
      .prompt = "<|im_start|>assistant<|im_sep|>",
      .end_of_turn = "<|im_end|>" },
    { .name = "Phi-2",
      .system = { "", "\n\n" },
      .user = { "Instruct: ", "\n" },
      .assistant = { "Output: ", "\n" },
      .prompt = "Output:",
      .trim = WE_TRIM_ALL,
      .stop = "\nInstruct:" },
    { .name = "Zephyr",
      .system = { "<|system|>\n", "$eos\n" },
      .user = { "<|user|>\n", "$eos\n" },
      .assistant = { "<|assistant|>\n", "$eos\n" },
      .prompt = "<|assistant|>\n",
      .stop = "<|user|>" },
    { .name = "Tulu",
      .begin = "$bos",
      .system = { "<|system|>\n", "\n" },
      .user = { "<|user|>\n", "\n" },
      .assistant = { "<|assistant|>\n", "$eos\n" },
      .prompt = "<|assistant|>\n",
      .stop = "<|user|>" },
    { .name = "Mistral v1",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { " [INST] ", " [/INST]" },
      .assistant = { " ", "$eos" },
      .system_in_user = true },
    { .name = "Mistral v3",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "[INST] ", "[/INST]" },
      .assistant = { " ", "$eos" },
      .system_in_user = true },
    { .name = "Mistral v3 Tekken",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "[INST]", "[/INST]" },
      .assistant = { "", "$eos" },
      .system_in_user = true },
    { .name = "Mistral v7",
      .begin = "$bos",
      .system = { "[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]" },
      .user = { "[INST] ", "[/INST]" },
      .assistant = { " ", "$eos" } },
    { .name = "Mistral v7 Tekken",
      .begin = "$bos",
      .system = { "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]" },
      .user = { "[INST]", "[/INST]" },
      .assistant = { "", "$eos" } },
    { .name = "DeepSeek",
      .begin = "$bos",
      .user = { "<｜User｜>", "" },
      .assistant = { "<｜Assistant｜>", "<｜end▁of▁sentence｜>" },
      .prompt = "<｜Assistant｜>",
      .end_of_turn = "<｜end▁of▁sentence｜>" },
    { .name = "DeepSeek LLM",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "User: ", "\n\n" },
      .assistant = { "Assistant: ", "$eos" },
      .prompt = "Assistant:",
      .end_of_turn = "<｜end▁of▁sentence｜>",
      .stop = "\nUser:" },
    { .name = "DeepSeek Coder",
      .begin = "$bos",
      .system = { "", "\n" },
      .user = { "### Instruction:\n", "\n" },
      .assistant = { "### Response:\n", "\n<|EOT|>\n" },
      .prompt = "### Response:\n",
      .end_of_turn = "<|EOT|>",
      .stop = "### Instruction:" },
    { .name = "Command R",
      .begin = "$bos",
      .system = { "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>", "<|END_OF_TURN_TOKEN|>" },
      .user = { "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>" },
      .assistant = { "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>" },
      .prompt = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
      .trim = WE_TRIM_TURNS,
      .end_of_turn = "<|END_OF_TURN_TOKEN|>" },
    { .name = "Granite",
      .system = { "<|start_of_role|>system<|end_of_role|>", "<|end_of_text|>\n" },
      .user = { "<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n" },
      .assistant = { "<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n" },
      .prompt = "<|start_of_role|>assistant<|end_of_role|>",
      .end_of_turn = "<|end_of_text|>" },
    { .name = "GLM-4",
      .begin = "[gMASK]<sop>",
      .system = { "<|system|>\n", "" },
      .user = { "<|user|>\n", "" },
      .assistant = { "<|assistant|>\n", "" },
      .prompt = "<|assistant|>\n",
      .end_of_turn = "<|user|> <|observation|> <|endoftext|>" },
    { .name = "Harmony", /* the answer's channel is given: whoever shows it need not know of channels */
      .system = { "<|start|>developer<|message|># Instructions\n\n", "<|end|>" },
      .user = { "<|start|>user<|message|>", "<|end|>" },
      .assistant = { "<|start|>assistant<|channel|>final<|message|>", "<|end|>" },
      .prompt = "<|start|>assistant<|channel|>final<|message|>",
      .end_of_turn = "<|return|> <|end|>" },
    { .name = "Kimi",
      .system = { "<|im_system|>system<|im_middle|>", "<|im_end|>" },
      .user = { "<|im_user|>user<|im_middle|>", "<|im_end|>" },
      .assistant = { "<|im_assistant|>assistant<|im_middle|>", "<|im_end|>" },
      .prompt = "<|im_assistant|>assistant<|im_middle|>",
      .end_of_turn = "<|im_end|>" },
    { .name = "Megrez",
      .system = { "<|role_start|>system<|role_end|>", "<|turn_end|>" },
      .user = { "<|role_start|>user<|role_end|>", "<|turn_end|>" },
      .assistant = { "<|role_start|>assistant<|role_end|>", "<|turn_end|>" },
      .prompt = "<|role_start|>assistant<|role_end|>",
      .end_of_turn = "<|turn_end|>" },
    { .name = "EXAONE",
      .system = { "[|system|]", "[|endofturn|]\n" },
      .user = { "[|user|]", "\n" },
      .assistant = { "[|assistant|]", "[|endofturn|]\n" },
      .prompt = "[|assistant|]",
      .end_of_turn = "[|endofturn|]" },
    { .name = "Seed",
      .system = { "$bossystem\n", "$eos" },
      .user = { "$bosuser\n", "$eos" },
      .assistant = { "$bosassistant\n", "$eos" },
      .prompt = "$bosassistant\n",
      .end_of_turn = "$eos" },
    { .name = "OpenChat",
      .begin = "$bos",
      .system = { "GPT4 Correct System: ", "<|end_of_turn|>" },
      .user = { "GPT4 Correct User: ", "<|end_of_turn|>" },
      .assistant = { "GPT4 Correct Assistant: ", "<|end_of_turn|>" },
      .prompt = "GPT4 Correct Assistant:",
      .end_of_turn = "<|end_of_turn|>" },
    { .name = "MiniCPM", .user = { "<用户>", "<AI>" }, .trim = WE_TRIM_ALL, .stop = "<用户>" },
    { .name = "Orion",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "Human: ", "\n\nAssistant: $eos" },
      .assistant = { "", "$eos" },
      .system_in_user = true },
    { .name = "RWKV",
      .begin = "$bos",
      .system = { "System: ", "\n\n" },
      .user = { "User: ", "\n\n" },
      .assistant = { "Assistant: ", "\n\n" },
      .prompt = "Assistant:",
      .trim = WE_TRIM_TURNS,
      .stop = "\n\nUser:" },
    { .name = "Vicuna",
      .begin = "$bos",
      .system = { "", " " },
      .user = { "USER: ", " " },
      .assistant = { "ASSISTANT: ", "$eos" },
      .prompt = "ASSISTANT:",
      .stop = "USER:" },
    { .name = "Alpaca",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "### Instruction:\n", "\n\n" },
      .assistant = { "### Response:\n", "\n\n" },
      .prompt = "### Response:\n",
      .trim = WE_TRIM_ALL,
      .stop = "### Instruction:" },
    { .name = "Solar",
      .begin = "$bos",
      .system = { "### System:\n", "\n\n" },
      .user = { "### User:\n", "\n\n" },
      .assistant = { "### Assistant:\n", "$eos\n\n" },
      .prompt = "### Assistant:\n",
      .stop = "### User:" },
    { .name = "plain",
      .begin = "$bos",
      .system = { "", "\n\n" },
      .user = { "User: ", "\n" },
      .assistant = { "Assistant: ", "\n" },
      .prompt = "Assistant:",
      .trim = WE_TRIM_ALL,
      .stop = "\nUser:" },
};

/* The first row whose conditions all hold. Tokens that the vocabulary has; one of the model types; one of
 * these words in the model's name. "▁" is in every SentencePiece vocabulary and in no byte-level one. */
static const struct clue {
    const char *family, *tokens, *types, *names;
} clues[] = {
    { "Phi-4", "<|im_start|> <|im_sep|> <|im_end|>", NULL, NULL },
    { "Kimi", "<|im_user|> <|im_middle|> <|im_end|>", NULL, NULL },
    { "ChatML", "<|im_start|> <|im_end|>", NULL, NULL },
    { "Llama 3", "<|start_header_id|> <|end_header_id|> <|eot_id|>", NULL, NULL },
    { "Llama 4", "<|header_start|> <|header_end|> <|eot|>", NULL, NULL },
    { "Gemma", "<start_of_turn> <end_of_turn>", NULL, NULL },
    { "Gemma 4", "<|turn> <turn|>", NULL, NULL },
    { "Harmony", "<|start|> <|channel|> <|message|> <|return|>", NULL, NULL },
    { "GLM-4", "[gMASK] <sop> <|user|> <|assistant|>", NULL, NULL },
    { "Command R", "<|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|CHATBOT_TOKEN|>", NULL, NULL },
    { "Granite", "<|start_of_role|> <|end_of_role|> <|end_of_text|>", NULL, NULL },
    { "Megrez", "<|role_start|> <|role_end|> <|turn_end|>", NULL, NULL },
    { "EXAONE", "[|user|] [|assistant|] [|endofturn|]", NULL, NULL },
    { "EXAONE", "[|endofturn|]", "exaone", NULL },
    { "Seed", "<seed:bos> <seed:eos>", NULL, NULL },
    { "DeepSeek", "<｜User｜> <｜Assistant｜>", NULL, NULL },
    { "DeepSeek Coder", "<｜begin▁of▁sentence｜> <|EOT|>", NULL, "coder" },
    { "DeepSeek LLM", "<｜begin▁of▁sentence｜>", NULL, NULL },
    { "Mistral v7", "[SYSTEM_PROMPT] [INST] [/INST] ▁", NULL, NULL },
    { "Mistral v7 Tekken", "[SYSTEM_PROMPT] [INST] [/INST]", NULL, NULL },
    { "Mistral v3", "[INST] [/INST] ▁", NULL, NULL },
    { "Mistral v3 Tekken", "[INST] [/INST]", NULL, NULL },
    { "OpenChat", "<|end_of_turn|>", NULL, NULL },
    { "Phi-3", "<|user|> <|assistant|> <|end|>", NULL, NULL },
    { "MiniCPM", "<用户> <AI>", NULL, NULL },
    { "MiniCPM", NULL, "minicpm", NULL },
    { "Zephyr", "<|user|> <|assistant|>", NULL, NULL },
    { "Zephyr", NULL, NULL, "zephyr tinyllama-1.1b-chat" },
    { "Vicuna", NULL, NULL, "vicuna wizardlm" },
    { "Alpaca", NULL, NULL, "alpaca wizardcoder" },
    { "Solar", NULL, NULL, "solar-10.7b" },
    { "Tulu", NULL, NULL, "tulu" },
    { "Zephyr", NULL, "stablelm stablelm_epoch", NULL },
    { "Tulu", NULL, "olmo olmo2 olmoe", NULL },
    { "Orion", NULL, "orion", NULL },
    { "RWKV", NULL, "rwkv rwkv5 rwkv6 rwkv7", NULL },
    { "Phi-2", NULL, "phi", NULL },
    { "Mistral v1", "<s> </s> ▁", "mistral mixtral", NULL },
    { "Llama 2", "<s> </s> ▁", "llama", NULL },
};

/* ---- Choosing ---- */

/* The next of the words separated by blanks; false at the end. */
static bool next_word(const char **words, we_str *word)
{
    if (!*words) return false;
    *words += strspn(*words, " ");
    *word = (we_str){ *words, strcspn(*words, " ") };
    *words += word->len;
    return word->len > 0;
}

static bool holds_tokens(const we_family_facts *facts, const char *tokens)
{
    for (we_str t; next_word(&tokens, &t);)
        if (!facts->has_token(facts->user, t)) return false;
    return true;
}

static bool is_one_of(const char *words, we_str word)
{
    for (we_str w; next_word(&words, &w);)
        if (we_str_eq(w, word)) return true;
    return false;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c; }

static bool holds_word(we_str name, we_str word) /* word is lower case */
{
    for (size_t i = 0; i + word.len <= name.len; i++) {
        size_t n = 0;
        while (n < word.len && lower(name.ptr[i + n]) == word.ptr[n]) n++;
        if (n == word.len) return true;
    }
    return false;
}

static bool is_named(const char *names, we_str name)
{
    for (we_str w; next_word(&names, &w);)
        if (holds_word(name, w)) return true;
    return false;
}

static const we_family *family_named(const char *name)
{
    const we_family *f = families;
    while (strcmp(f->name, name) != 0) f++;
    return f;
}

const we_family *we_family_at(size_t index) { return index < WE_COUNT(families) ? &families[index] : NULL; }

const we_family *we_family_find(const we_family_facts *facts, char why[WE_FAMILY_WHY])
{
    for (size_t i = 0; i < WE_COUNT(clues); i++) {
        const struct clue *c = &clues[i];
        if ((c->tokens && !holds_tokens(facts, c->tokens)) || (c->types && !is_one_of(c->types, facts->model_type)) ||
            (c->names && !is_named(c->names, facts->name)))
            continue;
        const bool by_type = c->types != NULL, by_name = !by_type && c->names;
        const we_str detail = by_type ? facts->model_type : by_name ? facts->name : (we_str){ "", 0 };
        snprintf(why, WE_FAMILY_WHY, "%s%s%s%s%.*s", c->tokens ? "the vocabulary has " : "", c->tokens ? c->tokens : "",
                 c->tokens && detail.len ? " and " : "",
                 by_type   ? "its model_type is "
                 : by_name ? "it is named "
                           : "",
                 STR_ARG(detail));
        return family_named(c->family);
    }
    snprintf(why, WE_FAMILY_WHY, "no known family has its special tokens");
    return &families[WE_COUNT(families) - 1];
}

/* ---- The template ---- */

static const char body[] =
    "{%- macro fixed(piece) -%}{{ piece | replace('$bos', bos_token | default('')) | replace('$eos', eos_token | "
    "default('')) }}{%- endmacro -%}\n"
    "{%- macro said(message) -%}\n"
    "{%- if message.content is string -%}{{ message.content }}\n"
    "{%- elif message.content -%}{%- for part in message.content if part.text is string -%}{{ part.text }}{%- endfor -%}"
    "{%- endif -%}{%- endmacro -%}\n"
    "{%- set ns = namespace(system='') -%}\n"
    "{{- fixed(begin) -}}\n"
    "{%- for message in messages -%}\n"
    "{%- set text = said(message) -%}\n"
    "{%- set trimmed = text | trim if trim else text -%}\n"
    "{%- if message.role in ['system', 'developer'] -%}\n"
    "{%- set turn = system[0] ~ (trimmed if trim == 'all' else text) ~ system[1] -%}\n"
    "{%- if system_in_user -%}{%- set ns.system = ns.system ~ turn -%}{%- else -%}{{ fixed(system[0]) ~ (trimmed if trim == "
    "'all' else text) ~ fixed(system[1]) }}{%- endif -%}\n"
    "{%- elif message.role in ['user', 'tool', 'function', 'ipython'] -%}\n"
    "{{- fixed(user[0]) ~ ((ns.system ~ text) | trim if trim == 'joined' else ns.system ~ trimmed) ~ fixed(user[1]) -}}\n"
    "{%- set ns.system = '' -%}\n"
    "{%- elif message.role in ['assistant', 'model'] -%}\n"
    "{%- if ns.system -%}{{ fixed(user[0]) ~ ns.system ~ fixed(user[1]) }}{%- set ns.system = '' -%}{%- endif -%}\n"
    "{{- fixed(assistant[0]) ~ trimmed ~ fixed(assistant[1]) -}}\n"
    "{%- else -%}{{ raise_exception('This model has no chat template, and its family (' ~ family ~ ') knows no role \"' ~ "
    "message.role ~ '\": use system, user, assistant or tool') }}{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if ns.system -%}{{ fixed(user[0]) ~ ns.system ~ fixed(user[1]) }}{%- endif -%}\n"
    "{%- if add_generation_prompt -%}{{ fixed(prompt) }}{%- endif -%}\n";

static void put_literal(we_buf *out, const char *text)
{
    we_buf_append_char(out, '\'');
    for (const char *p = text ? text : ""; *p; p++)
        if (*p == '\n')
            we_buf_append(out, "\\n", 2);
        else
            we_buf_append_char(out, *p);
    we_buf_append_char(out, '\'');
}

static void put_set(we_buf *out, const char *name, const char *const *pieces, size_t n)
{
    we_buf_printf(out, "{%%- set %s = %s", name, n > 1 ? "[" : "");
    for (size_t i = 0; i < n; i++) {
        if (i) we_buf_append(out, ", ", 2);
        put_literal(out, pieces[i]);
    }
    we_buf_printf(out, "%s -%%}\n", n > 1 ? "]" : "");
}

we_status we_family_template(const we_family *f, we_template **out, we_error *err)
{
    static const char *const trims[] = { "", "turns", "joined", "all" };
    we_buf source = { 0 };
    *out = NULL;
    put_set(&source, "family", &f->name, 1);
    put_set(&source, "begin", &f->begin, 1);
    put_set(&source, "system", f->system, 2);
    put_set(&source, "user", f->user, 2);
    put_set(&source, "assistant", f->assistant, 2);
    put_set(&source, "prompt", &f->prompt, 1);
    put_set(&source, "trim", &trims[f->trim], 1);
    we_buf_printf(&source, "{%%- set system_in_user = %s -%%}\n", f->system_in_user ? "true" : "false");
    we_buf_append(&source, body, sizeof body - 1);
    we_status st = we_buf_status(&source, err, "a chat template");
    if (!st) st = we_template_parse(out, we_buf_str(&source), err);
    we_buf_deinit(&source);
    return st;
}
