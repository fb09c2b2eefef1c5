// What mlx-rs and MLX expect of the system and Linux does not give, linked into every binary beside mlx-c.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// mlx-rs seeds its random state from this macOS clock.
uint64_t mach_approximate_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// MLX's arrays are allocated and freed with every operation. glibc gives large ones back to the system and asks for fresh pages
// each time, and clearing those took half of a step's time of a model of 124 million parameters. One heap keeps them instead,
// but for arrays like its embeddings, which would leave holes in it: as much again as a tenth of what it needs.
__attribute__((constructor)) static void keep_memory(void) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_ARENA_MAX, 1);
}

static uint64_t hash(uint64_t h, const char *bytes, size_t n) { // FNV-1a
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
  return h;
}

static uint64_t hash_file_identity(uint64_t h, const char *path) {
  struct stat s;
  if (stat(path, &s) != 0) return h;
  int64_t identity[2] = {(int64_t)s.st_size, (int64_t)s.st_mtime};
  return hash(hash(h, path, strlen(path)), (const char *)identity, sizeof identity);
}

// The lines of /proc/cpuinfo that say what `-march=native` will choose, on x86_64 and on Arm.
static uint64_t hash_processor(uint64_t h) {
  static const char *const lines[] = {"vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features"};
  FILE *f = fopen("/proc/cpuinfo", "r");
  if (!f) return h;
  char *line = NULL;
  size_t capacity = 0;
  for (ssize_t n; (n = getline(&line, &capacity, f)) > 1;) // an empty line ends the first processor
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
      if (strncmp(line, lines[i], strlen(lines[i])) == 0) {
        h = hash(h, line, (size_t)n);
        break;
      }
  free(line);
  fclose(f);
  return h;
}

static uint64_t hash_compiler(uint64_t h, const char *search) {
  char *copy = strdup(search), *rest = copy, path[PATH_MAX], real[PATH_MAX];
  for (char *dir; (dir = strsep(&rest, ":"));) {
    snprintf(path, sizeof path, "%s/g++", *dir ? dir : ".");
    if (access(path, X_OK) == 0 && realpath(path, real)) {
      h = hash_file_identity(h, real);
      break;
    }
  }
  free(copy);
  return h;
}

static int make_folders(char *path) {
  for (char *p = path + 1; *p; p++)
    if (*p == '/') {
      *p = 0;
      int made = mkdir(path, 0700) == 0 || errno == EEXIST;
      *p = '/';
      if (!made) return 0;
    }
  if (mkdir(path, 0700) != 0 && errno != EEXIST) return 0;
  // What is in it will be loaded as code: it must be ours, and writable by nobody else.
  struct stat s;
  return lstat(path, &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == geteuid() && !(s.st_mode & 022);
}

// MLX's CPU backend compiles its fused kernels with the `g++` that PATH finds, for no processor in particular, into
// the temporary folder. Before main starts, put the wrapper that adds `-march=native` first on PATH, and the cache
// where it outlives a reboot, under a name that no other processor, compiler or wrapper shares.
__attribute__((constructor)) static void prepare_kernel_compiler(void) {
  void *mlx = dlopen("libmlx.so", RTLD_LAZY | RTLD_NOLOAD);
  char lib[PATH_MAX], bin[PATH_MAX + 8], wrapper[PATH_MAX + 16], cache[PATH_MAX];
  void *symbol = mlx ? dlsym(mlx, "_ZN3mlx4core7versionEv") : NULL;
  Dl_info info;
  if (!symbol || !dladdr(symbol, &info) || !realpath(info.dli_fname, lib)) return;
  for (int up = 0; up < 3; up++) { // <root>/mlx/lib/libmlx.so
    char *slash = strrchr(lib, '/');
    if (!slash) return;
    *slash = 0;
  }
  snprintf(bin, sizeof bin, "%s/bin", lib);
  snprintf(wrapper, sizeof wrapper, "%s/g++", bin);
  if (access(wrapper, X_OK) != 0) return;

  const char *search = getenv("PATH"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *tmp = getenv("TMPDIR");
  size_t own = strlen(bin);
  if (!search || !*search) search = "/usr/local/bin:/usr/bin:/bin"; // what a shell assumes
  if (strncmp(search, bin, own) == 0 && search[own] == ':') return; // started by a process already prepared
  uint64_t key = hash_file_identity(hash_compiler(hash_processor(0xcbf29ce484222325u), search), wrapper);
  int found = 0;
  if (xdg && *xdg == '/') {
    snprintf(cache, sizeof cache, "%s/mlx-gpt/kernels-%016llx", xdg, (unsigned long long)key);
    found = make_folders(cache);
  }
  if (!found && home && *home == '/') {
    snprintf(cache, sizeof cache, "%s/.cache/mlx-gpt/kernels-%016llx", home, (unsigned long long)key);
    found = make_folders(cache);
  }
  if (!found) {
    snprintf(cache, sizeof cache, "%s/mlx-gpt-%u/kernels-%016llx", tmp && *tmp ? tmp : "/tmp", getuid(), (unsigned long long)key);
    found = make_folders(cache);
  }
  if (!found) return;

  size_t size = own + strlen(search) + 2;
  char *prepared = malloc(size);
  if (!prepared) return;
  snprintf(prepared, size, "%s:%s", bin, search);
  setenv("PATH", prepared, 1);
  setenv("TMPDIR", cache, 1);
  free(prepared);
}
