/* Loaded before libc's own functions: counts the calls that change something below FAULT_ROOT, and lets one of them fail.
 *
 * FAULT is nothing (only count), or `kill N`, `full N`, `error N`, `broken N`: the process is killed at call number N, with
 * half of what it was to write; from call N on nothing takes space any more (ENOSPC); call N fails (EIO); it and all after
 * it fail. FAULT_LOG gets a line for each call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum effect { GO_ON, FAIL, HALF_THEN_DIE };

static atomic_int calls;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

/* The absolute path of `name` in the folder `at`. */
static void path_at(int at, const char *name, char *path) {
    path[0] = 0;
    if (name[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(path, PATH_MAX)) path[0] = 0;
        } else {
            path_of(at, path);
        }
        strncat(path, "/", PATH_MAX - strlen(path) - 1);
    }
    strncat(path, name, PATH_MAX - strlen(path) - 1);
}

/* What becomes of a call of that kind on that path; errno is set where it fails. */
static enum effect meet(const char *kind, const char *path, int takes_space) {
    const char *root = getenv("FAULT_ROOT"), *fault = getenv("FAULT"), *log = getenv("FAULT_LOG");
    if (!root || strncmp(path, root, strlen(root)) != 0) return GO_ON;
    int number = ++calls, wanted = 0;
    char how[16] = "";
    if (log) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s %s\n", kind, path + strlen(root));
        int fd = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT, 0644);
        if (fd >= 0) {
            if (REAL(write)(fd, line, length) < 0) abort();
            close(fd);
        }
    }
    if (!fault || sscanf(fault, "%15s %d", how, &wanted) != 2 || number < wanted) return GO_ON;
    if (!strcmp(how, "kill")) return HALF_THEN_DIE;
    if (!strcmp(how, "full") && takes_space) {
        errno = ENOSPC;
        return FAIL;
    }
    if (!strcmp(how, "broken") || (!strcmp(how, "error") && number == wanted)) {
        errno = EIO;
        return FAIL;
    }
    return GO_ON;
}

static void die(void) {
    raise(SIGKILL);
}

/* A call without anything that could be half done. */
#define CALL(kind, space, at, name, failed, call) \
    do { \
        char whole[PATH_MAX]; \
        path_at(at, name, whole); \
        enum effect effect = meet(kind, whole, space); \
        if (effect == FAIL) return failed; \
        if (effect == HALF_THEN_DIE) die(); \
        return call; \
    } while (0)

#define CALL_FD(kind, space, fd, failed, call) \
    do { \
        char whole[PATH_MAX]; \
        path_of(fd, whole); \
        enum effect effect = meet(kind, whole, space); \
        if (effect == FAIL) return failed; \
        if (effect == HALF_THEN_DIE) die(); \
        return call; \
    } while (0)

static int open_in(const char *function, int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    path_at(at, name, path);
    int makes = (flags & O_CREAT) && access(path, F_OK) != 0;
    int (*function_at)(int, const char *, int, ...) = real(function);
    if (makes || (flags & O_TRUNC)) {
        CALL(makes ? "create" : "truncate", makes, at, name, -1, function_at(at, name, flags, mode));
    }
    return function_at(at, name, flags, mode);
}

#define OPEN(declaration, at, function)                             \
    int declaration {                                               \
        va_list more;                                               \
        va_start(more, flags);                                      \
        mode_t mode = (flags & O_CREAT) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                               \
        return open_in(function, at, path, flags, mode);            \
    }
OPEN(open(const char *path, int flags, ...), AT_FDCWD, "openat")
OPEN(open64(const char *path, int flags, ...), AT_FDCWD, "openat64")
OPEN(openat(int at, const char *path, int flags, ...), at, "openat")
OPEN(openat64(int at, const char *path, int flags, ...), at, "openat64")

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    path_of(fd, path);
    switch (meet("write", path, 1)) {
    case FAIL:
        return -1;
    case HALF_THEN_DIE:
        if (REAL(write)(fd, bytes, count / 2) >= 0) {
            die();
        }
        die();
    default:
        return REAL(write)(fd, bytes, count);
    }
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    CALL_FD("write", 1, fd, -1, REAL(writev)(fd, parts, count));
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    CALL_FD("write", 1, fd, -1, REAL(pwrite)(fd, bytes, count, offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    CALL_FD("write", 1, fd, -1, REAL(pwrite64)(fd, bytes, count, offset));
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t count, unsigned flags) {
    CALL_FD("write", 1, out, -1, REAL(copy_file_range)(in, in_offset, out, out_offset, count, flags));
}

ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    CALL_FD("write", 1, out, -1, ((ssize_t(*)(int, int, off_t *, size_t))real("sendfile"))(out, in, offset, count));
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    CALL_FD("write", 1, out, -1, ((ssize_t(*)(int, int, off64_t *, size_t))real("sendfile64"))(out, in, offset, count));
}

int ftruncate(int fd, off_t size) {
    CALL_FD("truncate", 0, fd, -1, REAL(ftruncate)(fd, size));
}

int ftruncate64(int fd, off64_t size) {
    CALL_FD("truncate", 0, fd, -1, REAL(ftruncate64)(fd, size));
}

int fsync(int fd) {
    CALL_FD("flush", 0, fd, -1, REAL(fsync)(fd));
}

int fdatasync(int fd) {
    CALL_FD("flush", 0, fd, -1, REAL(fdatasync)(fd));
}

int fchmod(int fd, mode_t mode) {
    CALL_FD("chmod", 0, fd, -1, REAL(fchmod)(fd, mode));
}

int rename(const char *from, const char *to) {
    CALL("rename", 0, AT_FDCWD, to, -1, REAL(rename)(from, to));
}

int mkdir(const char *path, mode_t mode) {
    CALL("mkdir", 1, AT_FDCWD, path, -1, REAL(mkdir)(path, mode));
}

int symlink(const char *target, const char *path) {
    CALL("link", 1, AT_FDCWD, path, -1, REAL(symlink)(target, path));
}

int link(const char *from, const char *to) {
    CALL("link", 1, AT_FDCWD, to, -1, REAL(link)(from, to));
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    CALL("link", 1, to_at, to, -1, REAL(linkat)(from_at, from, to_at, to, flags));
}

int unlink(const char *path) {
    CALL("remove", 0, AT_FDCWD, path, -1, REAL(unlink)(path));
}

int rmdir(const char *path) {
    CALL("remove", 0, AT_FDCWD, path, -1, REAL(rmdir)(path));
}

int unlinkat(int at, const char *path, int flags) {
    CALL("remove", 0, at, path, -1, REAL(unlinkat)(at, path, flags));
}
