// Divides a product among worker threads, one product at a time and one worker per further core. The calling thread takes parts
// too, so that workers without a core, because other programs are running, only leave more work to it. (OpenBLAS's threads wait
// for each other: beside a busy program, the same product took 70 times as long.)
#define _GNU_SOURCE
#include "parts.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct job job;
static _Atomic uint64_t next_part; // job number, 32 bits; number of parts, 16 bits; next part, 16 bits
static atomic_int finished_parts;
static _Atomic uint32_t jobs;
static atomic_int sleeping;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int workers = -1;

static void take_parts(uint32_t number) {
  for (;;) {
    uint64_t next = atomic_load(&next_part);
    int part = next & 0xffff, all = next >> 16 & 0xffff;
    if (next >> 32 != number || part >= all) return;
    if (!atomic_compare_exchange_weak(&next_part, &next, next + 1)) continue;
    job.compute_part(job.work, part); // safe: the job does not end before this part has finished
    atomic_fetch_add(&finished_parts, 1);
  }
}

static void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  __asm__ volatile("yield");
#endif
}

static void *work(void *unused) {
  (void)unused;
  uint32_t seen = 0;
  for (;;) {
    // Spin first: the next product usually follows within 0.1 ms, about the cost of sleeping and waking.
    for (int i = 0; i < 4000 && atomic_load(&jobs) == seen; i++) pause_briefly();
    while (atomic_load(&jobs) == seen) {
      atomic_fetch_add(&sleeping, 1);
      syscall(SYS_futex, &jobs, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
      atomic_fetch_sub(&sleeping, 1);
    }
    seen = atomic_load(&jobs);
    take_parts(seen);
  }
  return NULL;
}

int mlx_gpt_cores(void) {
  static atomic_int known;
  if (known) return known;
  cpu_set_t usable;
  const char *blas_threads = getenv("OPENBLAS_NUM_THREADS");
  int cores = sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
  if (blas_threads && atoi(blas_threads) < cores) cores = atoi(blas_threads);
  return known = cores < 1 ? 1 : cores < max_parts ? cores : max_parts;
}

static void start_workers(void) {
  int cores = mlx_gpt_cores();
  workers = 0;
  for (int core = 1; core < cores; core++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0) break;
    pthread_detach(thread);
    workers++;
  }
}

void mlx_gpt_compute_parts(struct job wanted, int with_workers) {
  if (wanted.parts == 1 || !with_workers || pthread_mutex_trylock(&one_at_a_time) != 0) {
    for (int part = 0; part < wanted.parts; part++) wanted.compute_part(wanted.work, part);
    return;
  }
  if (workers < 0) start_workers();
  job = wanted;
  atomic_store(&finished_parts, 0);
  uint32_t number = atomic_load(&jobs) + 1;
  atomic_store(&next_part, (uint64_t)number << 32 | (uint64_t)job.parts << 16);
  atomic_store(&jobs, number);
  if (atomic_load(&sleeping)) syscall(SYS_futex, &jobs, FUTEX_WAKE_PRIVATE, workers, NULL, NULL, 0);
  take_parts(number);
  for (int i = 0; atomic_load(&finished_parts) < wanted.parts; i++) {
    if (i < 4000) pause_briefly();
    else usleep(0); // the thread with the last part was preempted: yield to it
  }
  pthread_mutex_unlock(&one_at_a_time);
}

int mlx_gpt_is_alone(void) {
  static _Atomic uintptr_t last;
  static _Atomic int64_t alone_since;
  static _Thread_local char self;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t microseconds = now.tv_sec * 1000000 + now.tv_nsec / 1000;
  if (atomic_exchange(&last, (uintptr_t)&self) != (uintptr_t)&self) atomic_store(&alone_since, microseconds);
  return microseconds - atomic_load(&alone_since) >= 20000;
}
