/* A wall clock that is set anew, preloaded (LD_PRELOAD) into whoever is to have it: the machine's own
 * is left alone. The file $WALL_CLOCK holds one long long, ns, which is added to CLOCK_REALTIME from
 * the moment it is written. CLOCK_MONOTONIC stays as it is.
 *
 * Who waits until a time of the wall clock has to wait longer when it is set back, and no longer
 * when it is set forward past that time, as in the kernel.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define LOOK NS /* between two looks at the clock of one who waits for a clock that was set back */
#define NO_WALL_CLOCK (500000000LL * NS) /* as a deadline: it is of CLOCK_MONOTONIC */

static const volatile long long *shift;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("WALL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) shift = mapped;
    if (file >= 0) close(file);
}

static long long ns(const struct timespec *t) { return t->tv_sec * NS + t->tv_nsec; }

static struct timespec from_ns(long long t) { return (struct timespec){t / NS, t % NS}; }

int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, t);
    if (!failed && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *t = from_ns(ns(t) + *shift);
    return failed;
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ns(&t);
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    (void)zone;
    *t = (struct timeval){now() / NS, now() % NS / 1000};
    return 0;
}

time_t time(time_t *t) {
    time_t seconds = now() / NS;
    if (t) *t = seconds;
    return seconds;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2"); /* x86-64's */
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    if (!shift || ns(deadline) < NO_WALL_CLOCK) return real(condition, mutex, deadline);
    for (long long until = ns(deadline) - *shift;;) {
        struct timespec machine = from_ns(until);
        int result = real(condition, mutex, &machine);
        long long left = ns(deadline) - now();
        if (result != ETIMEDOUT || left <= 0) return result;
        /* It was set back meanwhile. In long steps: a signal that comes between two is lost. */
        until = ns(&machine) + (left < LOOK ? left : LOOK);
    }
}
