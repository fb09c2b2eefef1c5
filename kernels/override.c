// The registry of overridden functions, and the switch.
#define _GNU_SOURCE
#include "override.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Valid names in MLX_GPT_KERNELS_WITHOUT.
static const char *const names[] = {"scaled_dot_product_attention", "layer_norm", "rms_norm",  "addmm",       "matmul",
                                    "quantized_matmul",             "take",       "logsumexp", "scheduler",   "cblas_sgemm"};
static struct override *first;

// Runs before `main`, when nothing needs cleanup.
#define DIE(...) (dprintf(STDERR_FILENO, "error: " __VA_ARGS__), _exit(1))

static int is_on(void) {
  const char *asked = getenv("MLX_GPT_KERNELS");
  if (!asked || strcmp(asked, "on") == 0) return 1;
  if (strcmp(asked, "off") != 0)
    DIE("MLX_GPT_KERNELS is \"%s\"; say on (this program's kernels, as without it) or off (MLX's own operations)\n", asked);
  return 0;
}

static int on = -1; // not read yet

int mlx_gpt_kernels(void) {
  if (on < 0) on = is_on();
  return on;
}

static int is_name(const char *word, size_t length) {
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strlen(names[i]) == length && strncmp(names[i], word, length) == 0) return 1;
  return 0;
}

// For benchmarking single kernels, and for finding the one that causes a problem.
static int is_left_out(const char *name) {
  const char *list = getenv("MLX_GPT_KERNELS_WITHOUT");
  int found = 0;
  for (const char *word = list; word; word = *word ? word + 1 : NULL) {
    size_t length = strcspn(word, ",");
    if (!is_name(word, length))
      DIE("MLX_GPT_KERNELS_WITHOUT names \"%.*s\", which is no kernel; say names of kernels/README.md with commas between\n", (int)length, word);
    found |= strlen(name) == length && strncmp(name, word, length) == 0;
    word += length;
  }
  return found;
}

void *mlx_gpt_find(const char *function, const char *symbol) {
  void *found = dlsym(RTLD_NEXT, symbol);
  if (!found)
    DIE("MLX's library has no %s as this program was built for (%s); run make setup, then build again\n", function, symbol);
  return found;
}

void mlx_gpt_register(struct override *override, void *replacement) {
  Dl_info found;
  if (!dladdr(replacement, &found) || found.dli_saddr != replacement)
    DIE("MLX's library cannot find the %s of this program; run make setup, then build again\n", override->function);
  if (!is_name(override->name, strlen(override->name))) DIE("kernels/override.c does not list %s\n", override->name);
  override->original = mlx_gpt_find(override->function, found.dli_sname);
  int left_out = is_left_out(override->name);
  override->enabled = mlx_gpt_kernels() && !left_out;
  override->next = first;
  first = override;
}

int mlx_gpt_kernel(int n, char name[64], char function[64]) {
  const struct override *override = first;
  while (override && n-- > 0) override = override->next;
  if (!override) return -1;
  snprintf(name, 64, "%s", override->name);
  snprintf(function, 64, "%s", override->function);
  return !override->enabled ? 0 : 1 + __atomic_load_n(&override->called, __ATOMIC_RELAXED);
}
