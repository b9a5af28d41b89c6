/* SPDX-License-Identifier: Apache-2.0
 * foreign.h - what other programs have downloaded on this machine, for find.c. */
#ifndef WE_HUB_FOREIGN_H
#define WE_HUB_FOREIGN_H

#include "hub/hub.h"

/** Every model in LM Studio's and Ollama's places; false: fn stopped it. What cannot be read is logged and passed over. */
bool we_foreign_each(we_hub_fn fn, void *user);
/** The first of them that may be called so: by its name; LM Studio's also without publisher, repository or ".gguf"; Ollama's
 * also without ":latest". we_free; NULL: there is none. */
char *we_foreign_find(const char *name);

#endif
