/* SPDX-License-Identifier: Apache-2.0
 * test_template_families.c - models without a chat template: which family they are taken for, and what it writes. */
#include "template_support.h"

/* ---- Choosing ---- */

static bool is_listed(const void *user, we_str token) /* user: tokens, each between blanks */
{
    char wanted[128];
    snprintf(wanted, sizeof wanted, " %.*s ", (int)token.len, token.ptr);
    return strstr(user, wanted) != NULL;
}

TEST(template_families_are_recognised)
{
    static const struct {
        const char *tokens, *type, *name, *family, *why;
    } cases[] = {
        { " <|im_start|> <|im_end|> Ġ ", "qwen2", "", "ChatML", "<|im_start|> <|im_end|>" },
        { " <|im_start|> <|im_sep|> <|im_end|> ", "phi3", "", "Phi-4", "<|im_sep|>" },
        { " <|im_end|> ", "x", "", "plain", "no known family" },
        { " <|start_header_id|> <|end_header_id|> <|eot_id|> ", "llama", "", "Llama 3", "<|eot_id|>" },
        { " <s> </s> ▁ ", "llama", "", "Llama 2", "model_type is llama" },
        { " <s> </s> ▁ ", "llama", "lmsys/Vicuna-7B", "Vicuna", "it is named lmsys/Vicuna-7B" },
        { " <s> </s> ▁ ", "mixtral", "", "Mistral v1", "model_type is mixtral" },
        { " <s> </s> ▁ ", "llamas", "", "plain", "no known family" },
        { " <s> </s> ▁ [INST] [/INST] ", "mistral", "", "Mistral v3", "[INST]" },
        { " <s> </s> [INST] [/INST] ", "mistral", "", "Mistral v3 Tekken", "[INST]" },
        { " <s> </s> [INST] [/INST] [SYSTEM_PROMPT] ", "mistral", "", "Mistral v7 Tekken", "[SYSTEM_PROMPT]" },
        { " <bos> <start_of_turn> <end_of_turn> ", "gemma2", "", "Gemma", "<start_of_turn>" },
        { " <|user|> <|assistant|> <|end|> <s> </s> ▁ ", "phi3", "", "Phi-3", "<|end|>" },
        { " <|user|> <|assistant|> <|endoftext|> ", "stablelm", "", "Zephyr", "<|user|>" },
        { " <｜User｜> <｜Assistant｜> <｜begin▁of▁sentence｜> ", "deepseek_v3", "", "DeepSeek", "<｜User｜>" },
        { " <｜begin▁of▁sentence｜> ", "llama", "", "DeepSeek LLM", "" },
        { "", "", "", "plain", "" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        char why[WE_FAMILY_WHY];
        const we_family_facts facts = { is_listed, cases[i].tokens, we_str_from(cases[i].type),
                                        we_str_from(cases[i].name) };
        assert_string_equal(we_family_find(&facts, why)->name, cases[i].family);
        assert_non_null(strstr(why, cases[i].why));
    }
}

/* ---- Rendering ---- */

static we_status render_family(const we_family *f, const char *messages, bool prompt, we_buf *out, we_error *err)
{
    static const we_chat_special special[] = { { { "bos_token", 9 }, { "<B>", 3 } },
                                               { { "eos_token", 9 }, { "<E>", 3 } } };
    we_arena arena = { 0 };
    we_template *t = NULL;
    we_chat_input input = { .add_generation_prompt = prompt };
    we_status st = we_json_parse(&arena, we_str_from(messages), &input.messages, err);
    if (!st) st = we_family_template(f, &t, err);
    if (!st) st = we_chat_render(t, &input, special, WE_COUNT(special), NULL, out, err);
    we_template_free(t);
    we_arena_deinit(&arena);
    return st;
}

static void expect(const char *family, const char *messages, bool prompt, const char *want)
{
    we_error err;
    we_buf out = { 0 };
    size_t i = 0;
    while (strcmp(we_family_at(i)->name, family) != 0) i++;
    CHECK_OK(render_family(we_family_at(i), messages, prompt, &out, &err), &err);
    CHECK_STR(we_buf_str(&out), want);
    we_buf_deinit(&out);
}

#define SAYS(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"
#define TALK "[" SAYS("system", "S") "," SAYS("user", " a ") "," SAYS("assistant", " b ") "," SAYS("user", "c") "]"

TEST(template_families_write_their_formats) /* system, user, assistant, user, and the head of the answer */
{
    static const struct {
        const char *family, *want;
    } cases[] = {
        { "ChatML",
          "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n a <|im_end|>\n<|im_start|>assistant\n b <|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n" },
        { "Llama 3",
          "<B><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" },
        { "Llama 4",
          "<B><|header_start|>system<|header_end|>\n\nS<|eot|><|header_start|>user<|header_end|>\n\na<|eot|><|header_start|>assistant<|header_end|>\n\nb<|eot|><|header_start|>user<|header_end|>\n\nc<|eot|><|header_start|>assistant<|header_end|>\n\n" },
        { "Llama 2", "<B>[INST] <<SYS>>\nS\n<</SYS>>\n\n a [/INST] b <E><B>[INST] c [/INST]" },
        { "Gemma",
          "<B><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n" },
        { "Gemma 4",
          "<B><|turn>system\nS<turn|>\n<|turn>user\na<turn|>\n<|turn>model\nb<turn|>\n<|turn>user\nc<turn|>\n<|turn>model\n<|channel>thought\n<channel|>" },
        { "Phi-3",
          "<|system|>\nS<|end|>\n<|user|>\n a <|end|>\n<|assistant|>\n b <|end|>\n<|user|>\nc<|end|>\n<|assistant|>\n" },
        { "Phi-4",
          "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|> a <|im_end|><|im_start|>assistant<|im_sep|> b <|im_end|><|im_start|>user<|im_sep|>c<|im_end|><|im_start|>assistant<|im_sep|>" },
        { "Phi-2", "S\n\nInstruct: a\nOutput: b\nInstruct: c\nOutput:" },
        { "Zephyr", "<|system|>\nS<E>\n<|user|>\n a <E>\n<|assistant|>\n b <E>\n<|user|>\nc<E>\n<|assistant|>\n" },
        { "Tulu", "<B><|system|>\nS\n<|user|>\n a \n<|assistant|>\n b <E>\n<|user|>\nc\n<|assistant|>\n" },
        { "Mistral v1", "<B> [INST] S\n\n a  [/INST]  b <E> [INST] c [/INST]" },
        { "Mistral v3", "<B>[INST] S\n\n a [/INST]  b <E>[INST] c[/INST]" },
        { "Mistral v3 Tekken", "<B>[INST]S\n\n a [/INST] b <E>[INST]c[/INST]" },
        { "Mistral v7", "<B>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST]  a [/INST]  b <E>[INST] c[/INST]" },
        { "Mistral v7 Tekken", "<B>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST] a [/INST] b <E>[INST]c[/INST]" },
        { "DeepSeek", "<B>S<｜User｜> a <｜Assistant｜> b <｜end▁of▁sentence｜><｜User｜>c<｜Assistant｜>" },
        { "DeepSeek LLM", "<B>S\n\nUser:  a \n\nAssistant:  b <E>User: c\n\nAssistant:" },
        { "DeepSeek Coder",
          "<B>S\n### Instruction:\n a \n### Response:\n b \n<|EOT|>\n### Instruction:\nc\n### Response:\n" },
        { "Command R",
          "<B><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>a<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>b<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>c<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>" },
        { "Granite",
          "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n<|start_of_role|>user<|end_of_role|> a <|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|> b <|end_of_text|>\n<|start_of_role|>user<|end_of_role|>c<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>" },
        { "GLM-4", "[gMASK]<sop><|system|>\nS<|user|>\n a <|assistant|>\n b <|user|>\nc<|assistant|>\n" },
        { "Harmony",
          "<|start|>developer<|message|># Instructions\n\nS<|end|><|start|>user<|message|> a <|end|><|start|>assistant<|channel|>final<|message|> b <|end|><|start|>user<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>" },
        { "Kimi",
          "<|im_system|>system<|im_middle|>S<|im_end|><|im_user|>user<|im_middle|> a <|im_end|><|im_assistant|>assistant<|im_middle|> b <|im_end|><|im_user|>user<|im_middle|>c<|im_end|><|im_assistant|>assistant<|im_middle|>" },
        { "Megrez",
          "<|role_start|>system<|role_end|>S<|turn_end|><|role_start|>user<|role_end|> a <|turn_end|><|role_start|>assistant<|role_end|> b <|turn_end|><|role_start|>user<|role_end|>c<|turn_end|><|role_start|>assistant<|role_end|>" },
        { "EXAONE", "[|system|]S[|endofturn|]\n[|user|] a \n[|assistant|] b [|endofturn|]\n[|user|]c\n[|assistant|]" },
        { "Seed", "<B>system\nS<E><B>user\n a <E><B>assistant\n b <E><B>user\nc<E><B>assistant\n" },
        { "OpenChat",
          "<B>GPT4 Correct System: S<|end_of_turn|>GPT4 Correct User:  a <|end_of_turn|>GPT4 Correct Assistant:  b <|end_of_turn|>GPT4 Correct User: c<|end_of_turn|>GPT4 Correct Assistant:" },
        { "MiniCPM", "S<用户>a<AI>b<用户>c<AI>" },
        { "Orion", "<B>Human: S\n\n a \n\nAssistant: <E> b <E>Human: c\n\nAssistant: <E>" },
        { "RWKV", "<B>System: S\n\nUser: a\n\nAssistant: b\n\nUser: c\n\nAssistant:" },
        { "Vicuna", "<B>S USER:  a  ASSISTANT:  b <E>USER: c ASSISTANT:" },
        { "Alpaca", "<B>S\n\n### Instruction:\na\n\n### Response:\nb\n\n### Instruction:\nc\n\n### Response:\n" },
        { "Solar",
          "<B>### System:\nS\n\n### User:\n a \n\n### Assistant:\n b <E>\n\n### User:\nc\n\n### Assistant:\n" },
        { "plain", "<B>S\n\nUser: a\nAssistant: b\nUser: c\nAssistant:" },
    };
    for (size_t i = 0; i < WE_COUNT(cases); i++) {
        assert_string_equal(we_family_at(i)->name, cases[i].family); /* each has its row here */
        expect(cases[i].family, TALK, true, cases[i].want);
    }
    assert_null(we_family_at(WE_COUNT(cases)));
}

TEST(template_families_take_any_order_of_turns)
{
    expect("Gemma", "[" SAYS("user", "a") "," SAYS("system", "S") "," SAYS("user", "b") "]", false,
           "<B><start_of_turn>user\na<end_of_turn>\n<start_of_turn>user\nS\n\nb<end_of_turn>\n");
    expect("Gemma", "[" SAYS("system", "S") "]", true, /* nothing that was said gets lost */
           "<B><start_of_turn>user\nS\n\n<end_of_turn>\n<start_of_turn>model\n");
    expect("Gemma", "[" SAYS("system", "S") "," SAYS("assistant", "b") "]", false,
           "<B><start_of_turn>user\nS\n\n<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n");
    expect("ChatML", "[" SAYS("developer", "S") "," SAYS("tool", "t") "]", false,
           "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nt<|im_end|>\n");
    expect(
        "ChatML",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image\"},{\"text\":\"y\"}]},"
        "{\"role\":\"assistant\",\"content\":null}]",
        false, "<|im_start|>user\nxy<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n");
}

TEST(template_families_leave_what_was_said_alone) /* braces, quotes, the names of special tokens */
{
    expect("plain", "[" SAYS("user", "{{ 1 }} $bos 'x' {% if %}") "]", true,
           "<B>User: {{ 1 }} $bos 'x' {% if %}\nAssistant:");
    expect("Llama 2", "[" SAYS("system", " $eos ") "," SAYS("user", "a ") "]", true,
           "<B>[INST] <<SYS>>\n $eos \n<</SYS>>\n\na [/INST]");
}

TEST(template_families_refuse_an_unknown_role)
{
    we_error err;
    we_buf out = { 0 };
    CHECK_STATUS(render_family(we_family_at(0), "[" SAYS("narrator", "x") "]", true, &out, &err), WE_E_TEMPLATE, &err);
    EXPECT_MESSAGE(&err, "narrator");
    we_buf_deinit(&out);
}

TEST(template_families_survive_failing_allocations)
{
    we_status st = WE_E_NOMEM;
    EACH_ALLOCATION_FAILING(st == WE_OK)
    {
        we_error err;
        we_template *t;
        st = we_family_template(we_family_at(0), &t, &err);
        assert_true(st == WE_OK || st == WE_E_NOMEM);
        we_template_free(t);
    }
}
