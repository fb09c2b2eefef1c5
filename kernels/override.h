// One of MLX's functions that this folder replaces, and which of the two is called. README.md says how they are reached.
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct override {
  const char *name;     // in README.md and MLX_GPT_KERNELS_WITHOUT; functions that only work together have one name
  const char *function; // what is replaced
  void *own;            // MLX's own
  int on;               // whether this folder's is used
  int reached;          // whether MLX has called this folder's, and it was used
  struct override *next;
};

// Finds MLX's own by the name that `replacement` has for the linker, and reads from the environment which is to be used. Called
// before `main`; a function that MLX's library lacks, or that MLX would not find here, and a setting that means nothing end
// the process with one line.
void mlx_gpt_register(struct override *override, void *replacement);

// Whether to use this folder's function, asked by it once it could be.
static inline int mlx_gpt_use(struct override *override) {
  if (override->on && !__atomic_load_n(&override->reached, __ATOMIC_RELAXED))
    __atomic_store_n(&override->reached, 1, __ATOMIC_RELAXED);
  return override->on;
}

// A function of MLX's library or of one that it needs; one that is missing ends the process.
void *mlx_gpt_find(const char *function, const char *symbol);

// For the program: 1 if MLX_GPT_KERNELS is on, 0 if it is off.
int mlx_gpt_kernels(void);

// For the program: 2 where this folder's function number `n` has been used, 1 where it would be, 0 where MLX's own is, and -1
// beyond the last. Writes the names, cut at 64 bytes and ended by a zero.
int mlx_gpt_kernel(int n, char name[64], char function[64]);

#ifdef __cplusplus
}

// The same with the function's type.
template <typename Function>
struct Override : override {
  Override(const char *name, const char *function, Function *replacement) : override{name, function} {
    mlx_gpt_register(this, reinterpret_cast<void *>(replacement));
  }

  bool use() { return mlx_gpt_use(this); }
  Function *mlx() const { return reinterpret_cast<Function *>(own); }
};
#endif
