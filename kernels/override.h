// An overridden function of MLX. README.md explains how MLX's calls reach it.
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct override {
  const char *name;     // in README.md and MLX_GPT_KERNELS_WITHOUT; functions that only work together share a name
  const char *function; // MLX's name of the function
  void *original;       // MLX's implementation
  int enabled;          // whether the replacement is used
  int called;           // whether MLX has called it and it was used
  struct override *next;
};

// Finds MLX's implementation by the symbol of `replacement`, and reads from the environment which of the two to use. Called
// before `main`. Ends the process with a one-line error if MLX's library lacks the function, if MLX would not find the
// replacement, or if a setting is invalid.
void mlx_gpt_register(struct override *override, void *replacement);

// Whether to use the replacement; called by it for supported arguments.
static inline int mlx_gpt_use(struct override *override) {
  if (override->enabled && !__atomic_load_n(&override->called, __ATOMIC_RELAXED))
    __atomic_store_n(&override->called, 1, __ATOMIC_RELAXED);
  return override->enabled;
}

// A function of MLX's library or its dependencies. Ends the process if it is missing.
void *mlx_gpt_find(const char *function, const char *symbol);

// For the program: 1 if MLX_GPT_KERNELS is on, 0 if it is off.
int mlx_gpt_kernels(void);

// For the program: the state of override number `n`: 2 used, 1 enabled but not used yet, 0 disabled, -1 beyond the last. Writes
// the names, truncated to 64 bytes with the terminating zero.
int mlx_gpt_kernel(int n, char name[64], char function[64]);

#ifdef __cplusplus
}

// A typed override.
template <typename Function>
struct Override : override {
  Override(const char *name, const char *function, Function *replacement) : override{name, function} {
    mlx_gpt_register(this, reinterpret_cast<void *>(replacement));
  }

  bool use() { return mlx_gpt_use(this); }
  Function *mlx() const { return reinterpret_cast<Function *>(original); }
};
#endif
