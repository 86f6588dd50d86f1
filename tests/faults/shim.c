/* Calls that change files below one folder are counted, and the n-th one is met by a fault.

Loaded by LD_PRELOAD; does nothing until a process calls `faults_arm`. Calls of libc are met, whoever makes them: Python,
Arrow, Rust, the stdio of numpy. What a crash of the machine loses is modelled as strictly as POSIX lets it be: bytes of a
file that were not fsynced, and names in a folder that was not fsynced.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum mode { COUNT, KILL, TORN, LOSE_DATA, LOSE_NAMES, FAIL_ONCE, FAIL_ON };
enum kind { CREATE, WRITE, ALLOCATE, SYNC, RENAME, UNLINK, MKDIR, READ };
static const char *const NAMES[] = {"create", "write", "allocate", "fsync", "rename", "unlink", "mkdir", "read"};
enum { GO_ON = 0, HALF_AND_DIE = -1 };

static char folder[PATH_MAX], graves[PATH_MAX];
static size_t folder_length; /* 0: not armed */
static enum mode mode;
static int error_number, report = -1, reads;
static long at, calls, clock_shift, clock_at;
static __thread int inside; /* our own calls are not met */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...)                                                                                          \
    static type (*real)(__VA_ARGS__);                                                                                  \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* ---- what was written and is not yet safe from a crash of the machine ---- */

#define MOST 16384
struct file { dev_t dev; ino_t ino; off_t synced; int dirty; };
struct change { enum kind kind; char *path, *other, *grave; int safe; };
static struct file files[MOST];
static struct change changes[MOST];
static int num_files, num_changes, num_graves;

static struct file *file_of(const struct stat *about, off_t synced) {
    for (int i = 0; i < num_files; i++)
        if (files[i].dev == about->st_dev && files[i].ino == about->st_ino) return &files[i];
    if (num_files == MOST) abort();
    files[num_files] = (struct file){about->st_dev, about->st_ino, synced, 0};
    return &files[num_files++];
}

static void note_written(int fd) {
    struct stat about;
    if (mode != LOSE_DATA && mode != LOSE_NAMES) return;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode)) file_of(&about, about.st_size)->dirty = 1;
}

static void note_change(enum kind kind, const char *path, const char *other, const char *grave) {
    if (mode != LOSE_NAMES || !path[folder_length]) return; /* its own name lies in a folder that we do not watch */
    if (num_changes == MOST) abort();
    changes[num_changes++] =
        (struct change){kind, strdup(path), other ? strdup(other) : NULL, grave ? strdup(grave) : NULL, 0};
}

/* A file opened for writing that had `size` bytes before, all of them safe. */
static void note_opened(int fd, const char *path, int is_new, off_t size) {
    struct stat about;
    if (is_new) note_change(CREATE, path, NULL, NULL);
    if ((mode != LOSE_DATA && mode != LOSE_NAMES) || fstat(fd, &about) || !S_ISREG(about.st_mode)) return;
    struct file *file = file_of(&about, size);
    if (is_new) *file = (struct file){about.st_dev, about.st_ino, 0, 1}; /* its number may have been another's */
    if (about.st_size < file->synced) file->synced = about.st_size, file->dirty = 1;
}

/* A second name for a file that is about to lose its own; NULL where there is none. */
static const char *bury(const char *path) {
    static char grave[PATH_MAX + 32];
    if (mode != LOSE_NAMES) return NULL;
    snprintf(grave, sizeof grave, "%s/%d", graves, num_graves++);
    return link(path, grave) == 0 ? grave : NULL;
}

static int is_in(const char *path, const char *parent) {
    size_t length = strlen(parent);
    return strncmp(path, parent, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

static void note_synced(int fd, const char *path) {
    struct stat about;
    if (mode != LOSE_DATA && mode != LOSE_NAMES) return;
    if (fstat(fd, &about)) return;
    if (S_ISDIR(about.st_mode)) {
        for (int i = 0; i < num_changes; i++)
            if (is_in(changes[i].path, path)) changes[i].safe = 1;
    } else if (S_ISREG(about.st_mode)) {
        struct file *file = file_of(&about, 0);
        file->synced = about.st_size;
        file->dirty = 0;
    }
}

static int cut_unsynced(const char *path, const struct stat *about, int flag, struct FTW *where) {
    (void)flag, (void)where;
    for (int i = 0; i < num_files; i++)
        if (files[i].dirty && files[i].dev == about->st_dev && files[i].ino == about->st_ino)
            if (truncate(path, files[i].synced)) abort();
    return 0;
}

static int discard(const char *path, const struct stat *about, int flag, struct FTW *where) {
    (void)about, (void)where;
    if (flag == FTW_DP ? rmdir(path) : unlink(path)) abort();
    return 0;
}

static void lose(void) {
    nftw(folder, cut_unsynced, 64, FTW_PHYS);
    nftw(graves, cut_unsynced, 64, FTW_PHYS);
    for (int i = num_changes - 1; i >= 0; i--) {
        struct change *one = &changes[i];
        if (one->safe) continue;
        if (one->kind == CREATE) unlink(one->path);
        if (one->kind == RENAME) rename(one->path, one->other);
        if (one->kind == MKDIR) nftw(one->path, discard, 64, FTW_DEPTH | FTW_PHYS);
        if (one->grave) rename(one->grave, one->path);
    }
}

/* ---- meeting a call ---- */

static void say(enum kind kind, const char *path, const char *how) {
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s\t%s\t%s\n", NAMES[kind], path + folder_length, how);
    if (report >= 0) syscall(SYS_write, report, line, length);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

static int can_fail(enum kind kind) {
    if (error_number == ENOSPC) return kind != UNLINK && kind != READ;
    if (error_number == EROFS) return kind != WRITE && kind != SYNC && kind != READ && kind != ALLOCATE;
    return 1;
}

/* GO_ON, HALF_AND_DIE, or the error to fail with. Does not come back where the process dies before the call. */
static int meet(enum kind kind, const char *path) {
    if ((kind == READ) != reads) return GO_ON;
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    int fails = mode == FAIL_ONCE || mode == FAIL_ON;
    if (mode == COUNT || call < at || (call > at && mode != FAIL_ON) || (fails && !can_fail(kind))) {
        say(kind, path, "");
        return GO_ON;
    }
    say(kind, path, "fault");
    if (fails) return error_number;
    if (mode == TORN) return HALF_AND_DIE;
    if (mode == LOSE_DATA || mode == LOSE_NAMES) lose();
    die();
    return GO_ON;
}

/* Whether a path lies below the folder; `whole` becomes it, absolute. */
static int below(int dir, const char *path, char *whole) {
    if (!folder_length || inside || !path) return 0;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char parent[PATH_MAX], link[64];
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        ssize_t length = readlink(link, parent, sizeof parent - 1);
        if (length < 0) return 0;
        parent[length] = 0;
        if (snprintf(whole, PATH_MAX, "%s/%s", parent, path) >= PATH_MAX) return 0;
    }
    return strncmp(whole, folder, folder_length) == 0 && (whole[folder_length] == '/' || !whole[folder_length]);
}

static int fd_below(int fd, char *whole) {
    char link[64];
    if (!folder_length || inside || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    if (length < 0) return 0;
    whole[length] = 0;
    return strncmp(whole, folder, folder_length) == 0 && (whole[folder_length] == '/' || !whole[folder_length]);
}

#define FAIL(result, value)                                                                                            \
    do {                                                                                                               \
        inside--;                                                                                                      \
        pthread_mutex_unlock(&lock);                                                                                   \
        errno = (value);                                                                                               \
        return result;                                                                                                 \
    } while (0)

/* Meets a call, then makes it as `done` says with what is noted `before` and, where it succeeded, after it. */
#define MEET(kind, path, failed, half, before, done, ...)                                                              \
    do {                                                                                                               \
        pthread_mutex_lock(&lock);                                                                                     \
        inside++;                                                                                                      \
        int met = meet(kind, path);                                                                                    \
        if (met > 0) FAIL(failed, met);                                                                                \
        if (met == HALF_AND_DIE) {                                                                                     \
            half;                                                                                                      \
            die();                                                                                                     \
        }                                                                                                              \
        before;                                                                                                        \
        __typeof__(done) result = (done);                                                                              \
        int error = errno;                                                                                             \
        if (result != (failed)) { __VA_ARGS__; }                                                                       \
        FAIL(result, error);                                                                                           \
    } while (0)

/* ---- the calls ---- */

static int opened(int dir, const char *path, int flags, mode_t bits, int (*real)(int, const char *, int, mode_t)) {
    char whole[PATH_MAX];
    if ((flags & O_ACCMODE) == O_RDONLY || !below(dir, path, whole)) return real(dir, path, flags, bits);
    struct stat about;
    inside++;
    int was = stat(whole, &about);
    inside--;
    MEET(CREATE, whole, -1, real(dir, path, flags, bits), , real(dir, path, flags, bits),
         note_opened(result, whole, was != 0, was ? 0 : about.st_size));
}

static int real_openat(int dir, const char *path, int flags, mode_t bits) {
    return (int)syscall(SYS_openat, dir, path, flags, bits);
}

#define BITS(flags)                                                                                                    \
    mode_t bits = 0;                                                                                                   \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                           \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        bits = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *path, int flags, ...) { BITS(flags); return opened(AT_FDCWD, path, flags, bits, real_openat); }
int open64(const char *path, int flags, ...) { BITS(flags); return opened(AT_FDCWD, path, flags, bits, real_openat); }
int openat(int dir, const char *path, int flags, ...) { BITS(flags); return opened(dir, path, flags, bits, real_openat); }
int openat64(int dir, const char *path, int flags, ...) { BITS(flags); return opened(dir, path, flags, bits, real_openat); }
int creat(const char *path, mode_t bits) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, bits, real_openat); }
int creat64(const char *path, mode_t bits) { return creat(path, bits); }

static FILE *opened_stream(const char *path, const char *how, FILE *(*real)(const char *, const char *)) {
    char whole[PATH_MAX];
    if (how[0] == 'r' || !below(AT_FDCWD, path, whole)) return real(path, how);
    struct stat about;
    inside++;
    int was = stat(whole, &about);
    inside--;
    MEET(CREATE, whole, NULL, real(path, how), , real(path, how),
         note_opened(fileno(result), whole, was != 0, was ? 0 : about.st_size));
}

FILE *fopen(const char *path, const char *how) {
    REAL(FILE *, fopen, const char *, const char *);
    return opened_stream(path, how, real);
}

FILE *fopen64(const char *path, const char *how) {
    REAL(FILE *, fopen64, const char *, const char *);
    return opened_stream(path, how, real);
}

ssize_t write(int fd, const void *data, size_t size) {
    char whole[PATH_MAX];
    REAL(ssize_t, write, int, const void *, size_t);
    if (!fd_below(fd, whole)) return real(fd, data, size);
    MEET(WRITE, whole, -1, real(fd, data, size / 2), , real(fd, data, size), note_written(fd));
}

static ssize_t written_at(int fd, const void *data, size_t size, off_t where, ssize_t (*real)(int, const void *, size_t, off_t)) {
    char whole[PATH_MAX];
    if (!fd_below(fd, whole)) return real(fd, data, size, where);
    MEET(WRITE, whole, -1, real(fd, data, size / 2, where), , real(fd, data, size, where), note_written(fd));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t where) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return written_at(fd, data, size, where, real);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t where) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    return written_at(fd, data, size, where, real);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char whole[PATH_MAX];
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (!fd_below(fd, whole)) return real(fd, parts, count);
    MEET(WRITE, whole, -1, real(fd, parts, count / 2), , real(fd, parts, count), note_written(fd));
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    char whole[PATH_MAX];
    REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    if (!folder_length || inside || !fd_below(fileno(stream), whole)) return real(data, size, count, stream);
    MEET(WRITE, whole, 0, (real(data, 1, size * count / 2, stream), fflush(stream)), , real(data, size, count, stream),
         note_written(fileno(stream)));
}

static int allocated(int fd, off_t from, off_t size, int (*real)(int, off_t, off_t)) {
    char whole[PATH_MAX];
    if (!fd_below(fd, whole)) return real(fd, from, size);
    MEET(ALLOCATE, whole, met, real(fd, from, size / 2), , real(fd, from, size), note_written(fd));
}

int posix_fallocate(int fd, off_t from, off_t size) {
    REAL(int, posix_fallocate, int, off_t, off_t);
    return allocated(fd, from, size, real);
}

int posix_fallocate64(int fd, off_t from, off_t size) {
    REAL(int, posix_fallocate64, int, off_t, off_t);
    return allocated(fd, from, size, real);
}

static int cut(int fd, off_t size, int (*real)(int, off_t)) {
    char whole[PATH_MAX];
    if (!fd_below(fd, whole)) return real(fd, size);
    MEET(ALLOCATE, whole, -1, real(fd, size / 2), , real(fd, size), note_written(fd));
}

int ftruncate(int fd, off_t size) {
    REAL(int, ftruncate, int, off_t);
    return cut(fd, size, real);
}

int ftruncate64(int fd, off_t size) {
    REAL(int, ftruncate64, int, off_t);
    return cut(fd, size, real);
}

static int synced(int fd, int (*real)(int)) {
    char whole[PATH_MAX];
    if (!fd_below(fd, whole)) return real(fd);
    MEET(SYNC, whole, -1, real(fd), , real(fd), note_synced(fd, whole));
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return synced(fd, real);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return synced(fd, real);
}

int msync(void *address, size_t size, int flags) {
    REAL(int, msync, void *, size_t, int);
    if (!folder_length || inside) return real(address, size, flags);
    char line[PATH_MAX + 128], path[PATH_MAX] = "";
    unsigned long from, to;
    FILE *maps = (inside++, fopen("/proc/self/maps", "r"));
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %4095[^\n]", &from, &to, path) == 3 && from <= (unsigned long)address &&
            (unsigned long)address < to)
            break;
        else
            path[0] = 0;
    if (maps) fclose(maps);
    inside--;
    char whole[PATH_MAX];
    if (!path[0] || !below(AT_FDCWD, path, whole)) return real(address, size, flags);
    MEET(SYNC, whole, -1, real(address, size, flags), , real(address, size, flags), );
}

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char whole[PATH_MAX], source[PATH_MAX];
    if (!below(to_dir, to, whole)) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    below(from_dir, from, source);
    const char *grave = NULL;
    MEET(RENAME, whole, -1, syscall(SYS_renameat2, from_dir, from, to_dir, to, flags), grave = bury(whole),
         (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags), note_change(RENAME, whole, source, grave));
}

int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renamed(a, from, b, to, flags); }

static int unlinked(int dir, const char *path, int flags) {
    char whole[PATH_MAX];
    struct stat about;
    if (!below(dir, path, whole) || lstat(whole, &about)) return (int)syscall(SYS_unlinkat, dir, path, flags);
    const char *grave = NULL;
    /* a folder that was removed and comes back is empty; nobody minds */
    MEET(UNLINK, whole, -1, syscall(SYS_unlinkat, dir, path, flags), grave = flags & AT_REMOVEDIR ? NULL : bury(whole),
         (int)syscall(SYS_unlinkat, dir, path, flags), if (grave) note_change(UNLINK, whole, NULL, grave));
}

int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return unlinked(dir, path, flags); }
int rmdir(const char *path) { return unlinked(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int dir, const char *path, mode_t bits) {
    char whole[PATH_MAX];
    struct stat about;
    if (!below(dir, path, whole) || lstat(whole, &about) == 0) return (int)syscall(SYS_mkdirat, dir, path, bits);
    MEET(MKDIR, whole, -1, syscall(SYS_mkdirat, dir, path, bits), , (int)syscall(SYS_mkdirat, dir, path, bits),
         note_change(MKDIR, whole, NULL, NULL));
}

int mkdir(const char *path, mode_t bits) { return made(AT_FDCWD, path, bits); }
int mkdirat(int dir, const char *path, mode_t bits) { return made(dir, path, bits); }

ssize_t read(int fd, void *data, size_t size) {
    char whole[PATH_MAX];
    REAL(ssize_t, read, int, void *, size_t);
    if (!reads || !fd_below(fd, whole)) return real(fd, data, size);
    MEET(READ, whole, -1, , , real(fd, data, size), );
}

ssize_t pread64(int fd, void *data, size_t size, off_t where) {
    char whole[PATH_MAX];
    REAL(ssize_t, pread64, int, void *, size_t, off_t);
    if (!reads || !fd_below(fd, whole)) return real(fd, data, size, where);
    MEET(READ, whole, -1, , , real(fd, data, size, where), );
}

ssize_t pread(int fd, void *data, size_t size, off_t where) { return pread64(fd, data, size, where); }

/* ---- the clock ---- */

static long shift(void) { return clock_shift && __atomic_load_n(&calls, __ATOMIC_SEQ_CST) >= clock_at ? clock_shift : 0; }

int clock_gettime(clockid_t which, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, which, now);
    if (result == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    if (result == 0) now->tv_sec += shift();
    return result;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

/* ---- what a test calls ---- */

/* From now on, the `which`-th call below `where` meets a fault. Every call is told in the file `told`: kind, file, and
whether it failed or was the last. `buried`: an empty folder on the same disk. */
void faults_arm(const char *where, const char *buried, const char *told, int how, int number, long which, int reading) {
    snprintf(folder, sizeof folder, "%s", where);
    snprintf(graves, sizeof graves, "%s", buried);
    report = (int)syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    mode = (enum mode)how, error_number = number, at = which, reads = reading, calls = 0;
    folder_length = strlen(folder);
}

/* From the `which`-th call on, the clock is `seconds` ahead of what it was. */
void faults_shift_clock(long seconds, long which) { clock_shift = seconds, clock_at = which; }

/* Nothing is met any more, in this process. */
void faults_disarm(void) { folder_length = 0, clock_shift = 0; }
